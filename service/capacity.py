"""How much there is to do, who does it, and how long a new job would wait."""

from contract.jobbook import JobBook, JobKind, room_for
from contract.jobs import Priority
from contract.prelude import SHARE
from contract.presence import Presence
from service.gateway import Gateway
from service.schemas import Capacity, ClassCapacity, KindCapacity


def capacity(gateway: Gateway) -> Capacity:
    """Raises QueueUnavailableError."""
    settings = gateway.settings
    rooms = {priority: room_for(priority, settings.queue_limit) for priority in Priority}
    styles = dict.fromkeys(Priority, settings.train_queue_limit)
    return Capacity(
        stylize=_of_kind(gateway.book, "stylize", gateway.workers, settings.queue_limit, rooms),
        train=_of_kind(gateway.book, "train", gateway.trainers, settings.train_queue_limit, styles),
    )


def _of_kind(book: JobBook, kind: JobKind, presence: Presence, limit: int, rooms: dict[Priority, int]) -> KindCapacity:
    depth, processes, mean = book.depth(kind), len(presence.names()), book.mean_seconds(kind)
    waiting = book.waiting(kind)
    at_once = max(depth.running, processes) if processes else 0
    priorities = {
        priority: ClassCapacity(
            queued=waiting[priority],
            queue_limit=rooms[priority],
            estimated_wait_seconds=estimated_wait(jobs_before(priority, waiting), at_once, mean),
        )
        for priority in Priority
    }
    return KindCapacity(
        queued=depth.queued,
        running=depth.running,
        queue_limit=limit,
        oldest_seconds=book.oldest_seconds(kind),
        processes=processes,
        mean_seconds=mean,
        estimated_wait_seconds=priorities[Priority.NORMAL].estimated_wait_seconds,
        priorities=priorities,
    )


def jobs_before(priority: Priority, waiting: dict[Priority, int]) -> float:
    """How many of the jobs that wait would be done before a new one of this priority: those of its class, those that
    are more urgent but for the share that is kept from them, and as many of the others as their share comes to."""
    classes = list(Priority)
    place = classes.index(priority)
    higher = sum(waiting[each] for each in classes[:place])
    before = waiting[priority] + min(higher, (SHARE - 1) * (waiting[priority] + 1))
    lower = [min(waiting[each], before / (SHARE - 1)) for each in classes[place + 1 :]]
    return before + sum(lower)


def estimated_wait(jobs: float, at_once: int, mean_seconds: float | None) -> float | None:
    """How long a job would wait that came after so many; None when nobody is there, or nobody knows how long jobs take.

    While jobs wait, those that run are as many as can at once, so each of the others waits for its turn among them.
    """
    if not at_once:
        return None
    if not jobs:
        return 0.0
    return None if mean_seconds is None else round(jobs / at_once * mean_seconds, 3)
