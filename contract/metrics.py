"""What every process tells Prometheus in the same way, and the server for those that have no other."""

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, start_http_server

from contract.errors import SettingsError


def process_registry() -> CollectorRegistry:
    """A registry that tells of the process already: its memory, its time, its open files, its Python."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


def serve_metrics(registry: CollectorRegistry, host: str, port: int) -> int:
    """Answers Prometheus on a port of its own, from a thread of its own; the port, and none (0) when that is 0.

    Raises SettingsError when the port cannot be had.
    """
    if not port:
        return 0
    try:
        server, _ = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise SettingsError(
            f"Port {port} of {host} cannot be used for metrics ({error.strerror}): choose another ATELIER_METRICS_PORT."
        ) from error
    return int(server.server_port)
