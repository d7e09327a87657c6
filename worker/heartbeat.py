"""The heartbeat: one thread that keeps this worker's claims alive, and ends what takes too long."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import structlog

from contract.errors import AtelierError, JobTimeoutError, QueueUnavailableError
from contract.jobbook import Claim, JobBook
from contract.jobs import Progress, Stage, Timings
from contract.presence import Presence

log = structlog.get_logger()

EXIT_STUCK = 70
CONSUMER_SECONDS = 60
"""How much longer a silent consumer is waited for: a connection to Redis that is dead is noticed after half of that."""


class Keeping:
    """A claim while it is worked on, and for how long that has been going on."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self._lost = threading.Event()
        self._works_since: float | None = time.monotonic()
        self._fraction = 0.0
        self._told = 0.0

    def holds(self) -> bool:
        """Whether the work is still wanted: not canceled, not taken over by another worker."""
        return not self._lost.is_set()

    def lose(self) -> None:
        self._lost.set()

    def waits(self) -> None:
        """Its turn has not come: the time that others take does not count."""
        self._works_since = None

    def works(self) -> None:
        """Its turn has come, and its time begins."""
        self._works_since = time.monotonic()

    def progressed(self, fraction: float) -> None:
        """So much is done, 0..1, and the time for the rest begins anew."""
        self._fraction = fraction
        self.works()

    def news(self) -> Progress | None:
        """How far it is, if that has changed since it was last asked for."""
        if self._fraction == self._told:
            return None
        self._told = self._fraction
        return Progress(fraction=self._told, stage=Stage.STYLIZING)

    def seconds(self) -> float:
        """How long it has been working without a pause, and without a sign of progress."""
        since = self._works_since
        return 0.0 if since is None else time.monotonic() - since


class Heartbeat:
    """Beats for the worker and for each of its claims, every ``beat_seconds``.

    A thread that runs a network cannot be stopped from outside. When a job takes longer than ``job_seconds``, the job
    is failed, the others are put back and the process ends, for its supervisor to start a new one. A worker whose
    consumer does not come round any more (``consumer_is_alive``) is announced no longer; ``consumer_seconds`` later it
    ends, too, once it has no jobs.
    """

    def __init__(
        self,
        book: JobBook,
        presence: Presence,
        worker: str,
        *,
        beat_seconds: float,
        lost_after_seconds: float,
        job_seconds: float,
        consumer_seconds: float = CONSUMER_SECONDS,
        end_process: Callable[[int], None] = os._exit,
    ) -> None:
        self._book = book
        self._presence = presence
        self._worker = worker
        self._beat_seconds = beat_seconds
        self._lost_after_seconds = lost_after_seconds
        self._job_seconds = job_seconds
        self._consumer_seconds = consumer_seconds
        self._end_process = end_process
        self._keepings: set[Keeping] = set()
        self._lock = threading.Lock()
        self._ready = False
        self._consumer_seen = self._redis_missed = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    @contextmanager
    def keep(self, claim: Claim) -> Iterator[Keeping]:
        keeping = Keeping(claim)
        with self._lock:
            self._keepings.add(keeping)
        try:
            yield keeping
        finally:
            with self._lock:
                self._keepings.discard(keeping)

    def ready(self) -> None:
        """From now on the worker is announced as ready for jobs."""
        self._ready = True
        self._announce()

    def consumer_is_alive(self) -> None:
        """Said by the loop that takes tickets, each time that it comes round."""
        self._consumer_seen = time.monotonic()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        if self._ready:
            with suppress(QueueUnavailableError):  # its key runs out by itself
                self._presence.dismiss(self._worker)

    def _run(self) -> None:
        while not self._stopped.wait(self._beat_seconds):
            try:
                self._beat()
            except AtelierError as error:  # Redis is away: the claims may lapse, and the fence settles who writes
                self._redis_missed = time.monotonic()
                log.warning("heartbeat missed", reason=str(error))
            except Exception:  # the edge of the thread: without it, every claim would lapse
                log.exception("heartbeat failed")

    def _beat(self) -> None:
        if self._ready:
            self._announce()
        for keeping in self._current():
            if keeping.seconds() > self._job_seconds:
                self._give_up(keeping)
            elif not self._book.beat(keeping.claim):
                keeping.lose()
            elif news := keeping.news():
                self._book.progress(keeping.claim, news)

    def _announce(self) -> None:
        silent = time.monotonic() - self._consumer_seen
        if silent < self._lost_after_seconds:
            self._presence.announce(self._worker, self._lost_after_seconds)
            return
        log.error("the consumer takes no tickets any more", seconds=round(silent))
        # While Redis is away it cannot take any, and is not to blame.
        silent = min(silent, time.monotonic() - self._redis_missed)
        self._presence.dismiss(self._worker)
        if silent > self._lost_after_seconds + self._consumer_seconds and not self._current():
            self._end_process(EXIT_STUCK)

    def _current(self) -> list[Keeping]:
        with self._lock:
            return list(self._keepings)

    def _give_up(self, stuck: Keeping) -> None:
        log.error("job takes too long: the worker ends", job=stuck.claim.job_id, seconds=self._job_seconds)
        self._book.fail(
            stuck.claim,
            JobTimeoutError(f"The job took longer than {self._job_seconds:g} seconds: try a smaller size."),
            Timings(),
        )
        for keeping in self._current():
            if keeping is not stuck:
                self._book.release(keeping.claim, counts=False)
        self._presence.dismiss(self._worker)
        self._end_process(EXIT_STUCK)
