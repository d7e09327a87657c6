"""What processes tell Prometheus in the same way, and the server for those that have no other."""

from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)

from contract.errors import (
    AtelierError,
    CheckpointError,
    InternalError,
    OutOfMemoryError,
    ScratchFullError,
    SettingsError,
    StoreUnavailableError,
    TrainingDataError,
    TrainingDivergedError,
)
from contract.jobbook import JobKind

OUR_FAULTS: tuple[type[AtelierError], ...] = (
    InternalError,
    OutOfMemoryError,
    ScratchFullError,
    CheckpointError,
    StoreUnavailableError,
    TrainingDataError,
    TrainingDivergedError,
)
"""Why jobs fail that whoever runs the service should look at."""


def process_registry() -> CollectorRegistry:
    """A registry that tells of the process already: its memory, its time, its open files, its Python."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


class JobMetrics:
    """What whoever works on jobs of a kind tells of them: how attempts end, and how long stages take.

    No label holds anything that a client made up: kinds, outcomes, stages, and the codes of ``contract.errors``.
    """

    def __init__(
        self, registry: CollectorRegistry, kind: JobKind, *, successes: str, stages: str, stage_seconds: Sequence[float]
    ) -> None:
        """``successes`` are the outcomes of a job that went well, ``stages`` says which stages are meant."""
        self._kind = kind
        self._attempts = Counter(
            "atelier_jobs",
            f"Attempts at jobs by outcome: {successes}, failed (with its code), put_back, given_up, refused.",
            ("kind", "outcome", "code"),
            registry=registry,
        )
        for error in OUR_FAULTS:  # told before they happen: a figure whose first value is 8 has not increased
            self._attempts.labels(kind, "failed", error.code)
        self._stages = Histogram(
            "atelier_job_stage_seconds", stages, ("kind", "stage"), buckets=stage_seconds, registry=registry
        )

    def ended(self, outcome: str, code: str = "") -> None:
        """An attempt is over."""
        self._attempts.labels(self._kind, outcome, code).inc()

    def stage_over(self, stage: str, seconds: float) -> None:
        self._stages.labels(self._kind, stage).observe(seconds)


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
