# The gateway: HTTP in, HTTP out. Without PyTorch, so that it is small and starts at once.

FROM python:3.11-slim-bookworm AS app
WORKDIR /app
COPY contract contract
COPY service service
COPY styles styles
COPY pyproject.toml docker/metadata.py /tmp/
# The root file system is read-only later, so bytecode is written now.
RUN python /tmp/metadata.py /tmp/pyproject.toml /app \
    && python -m compileall -q /app \
    && chmod -R a+rX /app

FROM python:3.11-slim-bookworm
# The worker's image has the same user: they share a volume, which takes its owner from /data when it is first used.
RUN groupadd --gid 10001 atelier \
    && useradd --uid 10001 --gid atelier --no-create-home --home-dir /tmp --shell /usr/sbin/nologin atelier \
    && install --directory --owner atelier --group atelier /data
RUN --mount=type=bind,source=requirements/service.txt,target=/tmp/service.txt \
    pip install --no-cache-dir --disable-pip-version-check --root-user-action ignore --require-hashes -r /tmp/service.txt
COPY --from=app /app /app
WORKDIR /app
ENV ATELIER_BUILTIN_STYLES=/app/styles \
    ATELIER_DATA=/data \
    ATELIER_HOST=0.0.0.0 \
    ATELIER_PORT=8000 \
    MALLOC_ARENA_MAX=2 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 8000
CMD ["python", "-m", "service.app"]
