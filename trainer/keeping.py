"""A claim on a job while it is worked on: one thread that says that this trainer still has it."""

import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog

from contract.errors import AtelierError
from contract.jobbook import Claim, JobBook

log = structlog.get_logger()

EXIT_STUCK = 70
HANG_SECONDS = 900
"""Longer than the longest step that does not say that it goes on: preparing, on a machine that is busy otherwise."""


class Keeping:
    """Beats as long as the ``with`` block runs; ``is_lost`` when the job was canceled or given to another trainer.

    A training may take hours, so nothing ends it for its length. But it must say that it ``goes_on``: a thread that
    hangs cannot be stopped from outside, so then the process ends, its supervisor starts a new one, and that goes on
    from the state.
    """

    def __init__(
        self,
        book: JobBook,
        claim: Claim,
        beat_seconds: float,
        *,
        hang_seconds: float = HANG_SECONDS,
        end_process: Callable[[int], None] = os._exit,
    ) -> None:
        self._book = book
        self._claim = claim
        self._beat_seconds = beat_seconds
        self._hang_seconds = hang_seconds
        self._end_process = end_process
        self._went_on = time.monotonic()
        self._lost = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    @property
    def is_lost(self) -> bool:
        return self._lost.is_set()

    def goes_on(self) -> None:
        """Said by the work itself, many times a minute."""
        self._went_on = time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(self._beat_seconds):
            if time.monotonic() - self._went_on > self._hang_seconds:
                log.critical("the training hangs: the trainer ends", job=self._claim.job_id, seconds=self._hang_seconds)
                self._end_process(EXIT_STUCK)
                return
            try:
                if not self._book.beat(self._claim):
                    self._lost.set()
                    return
            except AtelierError as error:  # Redis is away: the claim may lapse, and the fence settles who writes
                log.warning("heartbeat missed", job=self._claim.job_id, reason=str(error))
            except Exception:  # the edge of the thread: without it, the claim would lapse
                log.exception("heartbeat failed", job=self._claim.job_id)
