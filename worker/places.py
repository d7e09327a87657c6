"""Places for large pictures: they may have all threads but one, so that small ones need not wait for them."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from contract.images import PictureSize
from contract.jobbook import Claim, JobBook, Pick
from contract.jobs import StylizeJob
from worker.memory import DecodedPictures


class Places:
    """Picks what there is a place for: while large pictures have all of theirs, small ones only.

    How large a picture is, its job says. One whose gateway was too old to write that down counts as small here, and
    waits in its thread for room in memory.
    """

    def __init__(self, book: JobBook, memory: DecodedPictures, threads: int) -> None:
        self._book = book
        self._memory = memory
        self._free = threading.BoundedSemaphore(max(1, threads - 1))
        self._picking = threading.Lock()

    def is_large(self, claim: Claim) -> bool:
        request = claim.record.request
        return isinstance(request, StylizeJob) and not self._memory.is_small(request.picture_size)

    @contextmanager
    def picked(self) -> Iterator[tuple[Pick, PictureSize | None]]:
        """The job whose turn it is, and how large it could be at most (None is any size). A large one keeps its place
        until the end. Raises what the book does.

        One thread picks at a time: so whoever finds no place free knows that all of them are of pictures that are
        worked on. Those who have worked on them see to what was left (``Worker.work``).
        """
        with ExitStack() as place:
            with self._picking:
                largest: PictureSize | None = self._memory.largest_small
                if self._free.acquire(blocking=False):
                    place.callback(self._free.release)
                    largest = None
                pick = self._book.pick(alone=False, largest=largest)
                if not (pick.claim and self.is_large(pick.claim)):
                    place.close()
            yield pick, largest
