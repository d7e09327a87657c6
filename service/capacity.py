"""How much there is to do, who does it, and how long a new job would wait."""

from contract.jobbook import JobBook, JobKind, QueueDepth
from contract.presence import Presence
from service.gateway import Gateway
from service.schemas import Capacity, KindCapacity


def capacity(gateway: Gateway) -> Capacity:
    """Raises QueueUnavailableError."""
    settings = gateway.settings
    return Capacity(
        stylize=_of_kind(gateway.book, "stylize", gateway.workers, settings.queue_limit),
        train=_of_kind(gateway.book, "train", gateway.trainers, settings.train_queue_limit),
    )


def _of_kind(book: JobBook, kind: JobKind, presence: Presence, limit: int) -> KindCapacity:
    depth, processes, mean = book.depth(kind), len(presence.names()), book.mean_seconds(kind)
    return KindCapacity(
        queued=depth.queued,
        running=depth.running,
        queue_limit=limit,
        oldest_seconds=book.oldest_seconds(kind),
        processes=processes,
        mean_seconds=mean,
        estimated_wait_seconds=estimated_wait(depth, processes, mean),
    )


def estimated_wait(depth: QueueDepth, processes: int, mean_seconds: float | None) -> float | None:
    """How long a job would wait that came now; None when nobody is there, or nobody knows how long jobs take.

    While jobs wait, those that run are as many as can at once, so each of the others waits for its turn among them.
    """
    if not processes:
        return None
    if not depth.queued:
        return 0.0
    return None if mean_seconds is None else round(depth.queued / max(depth.running, processes) * mean_seconds, 3)
