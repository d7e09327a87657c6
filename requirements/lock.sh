#!/bin/sh
# Pins every dependency with its hashes: requirements/lock.sh [UV]. Run it after changing pyproject.toml.
set -eu
cd "$(dirname "$0")/.."
uv=${1:-uv}
compile() {
    out=$1
    shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --custom-compile-command "make lock" --output-file "requirements/$out.txt" "$@"
}
compile dev pyproject.toml --upgrade --extra service --extra worker --extra trainer --extra laptop --extra tracing --extra dev
# The others are parts of it, with the same versions.
compile laptop pyproject.toml --constraint requirements/dev.txt --extra service --extra worker --extra trainer --extra laptop
compile service pyproject.toml --constraint requirements/dev.txt --extra service
compile worker pyproject.toml --constraint requirements/dev.txt --extra worker --extra trainer
compile torch requirements/torch.in --upgrade --constraint requirements/dev.txt
compile redis requirements/redis.in --upgrade --no-deps
compile uv requirements/uv.in --upgrade
