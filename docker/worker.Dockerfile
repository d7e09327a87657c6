# The worker and the trainer: PyTorch, and what runs and learns generators.

FROM python:3.11-slim-bookworm AS uv
COPY requirements/uv.txt /tmp/
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action ignore \
    --require-hashes --target /uv -r /tmp/uv.txt

FROM python:3.11-slim-bookworm AS app
WORKDIR /app
COPY contract contract
COPY generator generator
COPY trainer trainer
COPY worker worker
COPY styles styles
COPY pyproject.toml docker/metadata.py /tmp/
# The root file system is read-only later, so bytecode is written now.
RUN python /tmp/metadata.py /tmp/pyproject.toml /app \
    && python -m compileall -q /app \
    && chmod -R a+rX /app

FROM python:3.11-slim-bookworm
# The gateway's image has the same user: they share a volume, which takes its owner from /data when it is first used.
# The home folder is writable for the caches of compilers.
RUN groupadd --gid 10001 atelier \
    && useradd --uid 10001 --gid atelier --no-create-home --home-dir /tmp --shell /usr/sbin/nologin atelier \
    && install --directory --owner atelier --group atelier /data
# default: wheels that carry CUDA and run without it, too. cpu: a small build from PyTorch's own index.
ARG TORCH=default
# uv is borrowed, not copied. PyTorch has a layer of its own: it is by far the largest, and changes seldom.
RUN --mount=type=bind,from=uv,source=/uv,target=/uv \
    --mount=type=bind,source=requirements/torch.txt,target=/requirements/torch.txt \
    --mount=type=bind,source=requirements/install-torch.sh,target=/requirements/install-torch.sh \
    --mount=type=cache,target=/cache \
    UV_CACHE_DIR=/cache UV_LINK_MODE=copy UV_HTTP_TIMEOUT=300 \
    /requirements/install-torch.sh "$TORCH" /uv/bin/uv pip install --system --compile-bytecode
RUN --mount=type=bind,from=uv,source=/uv,target=/uv \
    --mount=type=bind,source=requirements/worker.txt,target=/requirements/worker.txt \
    --mount=type=cache,target=/cache \
    UV_CACHE_DIR=/cache UV_LINK_MODE=copy \
    /uv/bin/uv pip install --system --compile-bytecode --require-hashes -r /requirements/worker.txt
COPY --from=app /app /app
WORKDIR /app
ENV ATELIER_BUILTIN_STYLES=/app/styles \
    ATELIER_DATA=/data \
    MALLOC_ARENA_MAX=2 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1
USER 10001:10001
CMD ["python", "-m", "worker.app"]
