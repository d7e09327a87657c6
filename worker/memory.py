"""How much is decoded at once: large pictures take turns, so that several of them do not fill the memory together.

Small ones have room of their own, so that none of them waits for a large one.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

LOOK_SECONDS = 0.5
"""How often those that wait ask whether they are still wanted, and what else there is to do."""
SMALL_SHARE = 4
"""One part in so many of the room is kept for small pictures; at 50 megapixels that holds a photograph of 12."""


@dataclass(frozen=True)
class PictureSize:
    """How many pixels a picture has in its file, and as a result."""

    file_pixels: int
    result_pixels: int

    @property
    def pixels(self) -> int:
        """How many it may have while it is worked on: it is decoded as it is in its file, and then resized."""
        return max(self.file_pixels, self.result_pixels)


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
    """So many pixels may be decoded at once, and so many pictures; one picture alone may have more pixels.

    First come, first served. Who waits does something else ``meanwhile``, if there is anything: it says whether there
    was.
    """

    def __init__(
        self, pixels: int, *, pictures: int | None = None, meanwhile: Callable[[], bool] = lambda: False
    ) -> None:
        self._pixels = pixels
        self._pictures = pictures
        self._meanwhile = meanwhile
        self._used = 0
        self._inside = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def reserved(self, pixels: int, wanted: Callable[[], bool]) -> Iterator[Room]:
        """Waits until there is room for so many pixels. Raises CancelledError when they are ``wanted`` no more."""
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
        try:
            seconds = 0.0
            while not self._enters(ticket, pixels, seconds):
                if not wanted():
                    raise CancelledError
                seconds = 0.0 if self._meanwhile() else LOOK_SECONDS
        finally:
            with self._changed:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        room = Room(pixels, self._give_back)
        try:
            yield room
        finally:
            self._give_back(room.pixels, pictures=1)

    def _enters(self, ticket: object, pixels: int, seconds: float) -> bool:
        """Takes the room for so many pixels if there is some within this time."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_room(ticket, pixels), seconds):
                return False
            self._used += pixels
            self._inside += 1
            return True

    def _give_back(self, pixels: int, pictures: int = 0) -> None:
        with self._changed:
            self._used -= pixels
            self._inside -= pictures
            self._changed.notify_all()

    def _has_room(self, ticket: object, pixels: int) -> bool:
        if self._waiting[0] is not ticket or (self._pictures is not None and self._inside >= self._pictures):
            return False
        return not self._used or self._used + pixels <= self._pixels


class DecodedPictures:
    """The room for decoded pictures: so many ``pixels``, of which small pictures have a part that is theirs alone.

    A picture is small when its result is no larger than ``whole_pixels``, so that it is soon done, and its file fits
    into that part. Large ones have the rest, where one alone may have more, and at most all ``threads`` but one: the
    other is there for small ones. What large ones do while they wait is theirs to say (``meanwhile``).
    """

    def __init__(
        self, pixels: int, *, whole_pixels: int, threads: int, meanwhile: Callable[[], bool] = lambda: False
    ) -> None:
        self._whole_pixels = whole_pixels
        self._small_pixels = pixels // SMALL_SHARE
        self._small = PixelBudget(self._small_pixels)
        self._large = PixelBudget(pixels - self._small_pixels, pictures=max(1, threads - 1), meanwhile=meanwhile)

    def is_small(self, size: PictureSize) -> bool:
        return size.result_pixels <= self._whole_pixels and size.pixels <= self._small_pixels

    def reserved(self, size: PictureSize, wanted: Callable[[], bool]) -> AbstractContextManager[Room]:
        """Waits until there is room for a picture. Raises CancelledError when it is ``wanted`` no more."""
        budget = self._small if self.is_small(size) else self._large
        return budget.reserved(size.pixels, wanted)
