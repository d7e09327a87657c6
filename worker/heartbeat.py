"""The heartbeat: one thread that keeps this worker's claims alive, and ends what takes too long."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import structlog

from contract.errors import AtelierError, JobTimeoutError, QueueUnavailableError
from contract.jobbook import Claim, JobBook
from contract.jobs import Timings

log = structlog.get_logger()

EXIT_STUCK = 70


class Keeping:
    """A claim while it is worked on."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.since = time.monotonic()
        self._lost = threading.Event()

    def holds(self) -> bool:
        """Whether the work is still wanted: not canceled, not taken over by another worker."""
        return not self._lost.is_set()

    def lose(self) -> None:
        self._lost.set()


class Heartbeat:
    """Beats for the worker and for each of its claims, every ``beat_seconds``.

    A thread that runs a network cannot be stopped from outside. When a job takes longer than ``job_seconds``, the job
    is failed, the others are put back and the process ends, for its supervisor to start a new one.
    """

    def __init__(
        self,
        book: JobBook,
        worker: str,
        *,
        beat_seconds: float,
        lost_after_seconds: float,
        job_seconds: float,
        end_process: Callable[[int], None] = os._exit,
    ) -> None:
        self._book = book
        self._worker = worker
        self._beat_seconds = beat_seconds
        self._lost_after_seconds = lost_after_seconds
        self._job_seconds = job_seconds
        self._end_process = end_process
        self._keepings: set[Keeping] = set()
        self._lock = threading.Lock()
        self._ready = False
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
        self._book.announce_worker(self._worker, self._lost_after_seconds)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        if self._ready:
            with suppress(QueueUnavailableError):  # its key runs out by itself
                self._book.dismiss_worker(self._worker)

    def _run(self) -> None:
        while not self._stopped.wait(self._beat_seconds):
            try:
                self._beat()
            except AtelierError as error:  # Redis is away: the claims may lapse, and the fence settles who writes
                log.warning("heartbeat missed", reason=str(error))
            except Exception:  # the edge of the thread: without it, every claim would lapse
                log.exception("heartbeat failed")

    def _beat(self) -> None:
        if self._ready:
            self._book.announce_worker(self._worker, self._lost_after_seconds)
        for keeping in self._current():
            if time.monotonic() - keeping.since > self._job_seconds:
                self._give_up(keeping)
            elif not self._book.beat(keeping.claim):
                keeping.lose()

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
        self._book.dismiss_worker(self._worker)
        self._end_process(EXIT_STUCK)
