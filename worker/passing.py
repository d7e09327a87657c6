"""Small pictures pass large ones: what a thread does while the large picture that it has claimed waits for room.

How large a picture is, nobody knows before its job is claimed and its file looked at. So a thread that looks for a
small one claims job after job in their order, and puts back those that are large, uncounted, into the places that they
had.
"""

import itertools
import threading
from collections.abc import Callable
from contextlib import ExitStack

from contract.errors import AtelierError
from contract.jobbook import Claim, JobBook, Pick
from contract.jobs import StylizeJob
from worker.heartbeat import Heartbeat

LOOK_PAST = 8
"""How many jobs are looked at: a small one that has as many large ones before it waits until they are fewer."""

NOTHING = Pick(None)


class Passing:
    """Finds a small picture behind large ones that wait.

    One thread looks at a time, and only when there is news: who watches a job sees that it is claimed and put back.
    """

    def __init__(self, book: JobBook, heartbeat: Heartbeat, is_small: Callable[[StylizeJob], bool]) -> None:
        self._book = book
        self._heartbeat = heartbeat
        self._is_small = is_small
        self._looking = threading.Lock()
        self._numbers = itertools.count(1)
        self._claimed = 0
        self._looks = 0
        self._looked_at: object = None
        self._suspect = threading.Event()

    def pick(self) -> Pick:
        """The job whose turn it is, for a thread that is free. Raises what the book does.

        When a look has all that waits in its hands for the moment, that moment is waited for: the thread's ticket is
        spent else, and what is put back waits for the reaper.
        """
        looks = self._looks
        pick = self._book.pick(alone=False)
        if pick == NOTHING and (self._looking.locked() or self._looks != looks):
            with self._looking:
                pick = self._book.pick(alone=False)
        if pick.claim:  # behind it there may be what was not to be seen before
            self._claimed = next(self._numbers)
        return pick

    def small(self) -> Claim | None:
        """The right to work on a small picture; None when there is none, or nothing new. Raises what the book does."""
        if not self._looking.acquire(blocking=False):
            return None
        try:
            news = self._claimed, self._book.counts("admitted"), self._book.counts("reaped")
            if news == self._looked_at:
                return None
            found = self._look()
            self._looked_at = news if found is None else None  # behind one there may be others
            return found
        finally:
            self._looks += 1  # by now its hands are empty
            self._looking.release()

    def heard_of_suspect(self) -> bool:
        """Whether a look has met a job that must be worked on alone. It is said once: whoever hears it sees to it."""
        heard = self._suspect.is_set()
        self._suspect.clear()
        return heard

    def _look(self) -> Claim | None:
        with ExitStack() as passed:
            for _ in range(LOOK_PAST):
                pick = self._book.pick(alone=False)
                if pick.suspect:
                    self._suspect.set()
                elif pick.claim is None:
                    return None
                elif self._keeps_small(pick.claim, passed):
                    return pick.claim
        return None

    def _keeps_small(self, claim: Claim, passed: ExitStack) -> bool:
        """Whether the job is small; else it is put back with those that are passed. All are kept alive until then."""
        passed.enter_context(self._heartbeat.keep(claim))
        small = False
        try:
            request = claim.record.request
            small = isinstance(request, StylizeJob) and self._is_small(request)
        except AtelierError:  # its own attempt will say what is wrong with it
            pass
        finally:
            if not small:
                passed.callback(self._book.release, claim, counts=False)
        return small
