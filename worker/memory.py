"""How much is decoded at once: large pictures take turns, so that several of them do not fill the memory together.

Small ones have room of their own, so that none of them waits for a large one.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager

from contract.images import PictureSize

LOOK_SECONDS = 1.0
"""How often those that wait ask whether they are still wanted."""
SMALL_SHARE = 4
"""One part in so many of the room is kept for small pictures; at 50 megapixels that holds a photograph of 12."""


class Room:
    """The room that a picture has, for as long as it is worked on."""

    def __init__(self, pixels: int, give_back: Callable[[int], None]) -> None:
        self.pixels = pixels
        self._give_back = give_back

    def shrink_to(self, pixels: int) -> None:
        """It is as large as its result from now on, and no larger."""
        self._give_back(self.pixels - pixels)
        self.pixels = pixels


class PixelBudget:
    """So many pixels may be decoded at once; one picture alone may have more. First come, first served."""

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._used = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def reserved(self, pixels: int, wanted: Callable[[], bool]) -> Iterator[Room]:
        """Waits until there is room for so many pixels. Raises CancelledError when they are ``wanted`` no more."""
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                while not self._has_room(ticket, pixels):
                    self._changed.wait(LOOK_SECONDS)
                    if not wanted():
                        raise CancelledError
                self._used += pixels
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        room = Room(pixels, self._give_back)
        try:
            yield room
        finally:
            self._give_back(room.pixels)

    def _give_back(self, pixels: int) -> None:
        with self._changed:
            self._used -= pixels
            self._changed.notify_all()

    def _has_room(self, ticket: object, pixels: int) -> bool:
        return self._waiting[0] is ticket and (not self._used or self._used + pixels <= self._pixels)


class DecodedPictures:
    """The room for decoded pictures: so many ``pixels``, of which small pictures have a part that is theirs alone.

    A picture is small when its result is no larger than ``whole_pixels``, so that it is soon done, and it fits into
    that part, in its file and as a result. Large ones have the rest, where one alone may have more.
    """

    def __init__(self, pixels: int, *, whole_pixels: int) -> None:
        part = pixels // SMALL_SHARE
        self.largest_small = PictureSize(part, min(part, whole_pixels))
        self._small = PixelBudget(part)
        self._large = PixelBudget(pixels - part)

    def is_small(self, size: PictureSize) -> bool:
        most = self.largest_small
        return size.file_pixels <= most.file_pixels and size.result_pixels <= most.result_pixels

    def reserved(self, size: PictureSize, wanted: Callable[[], bool]) -> AbstractContextManager[Room]:
        """Waits until there is room for a picture. Raises CancelledError when it is ``wanted`` no more."""
        budget = self._small if self.is_small(size) else self._large
        return budget.reserved(size.pixels, wanted)
