"""How much is decoded at once: large pictures take turns, so that several of them do not fill the memory together."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager

LOOK_SECONDS = 1.0
"""How often those that wait ask whether they are still wanted."""


class PixelBudget:
    """So many pixels may be decoded at once; one picture alone may have more. First come, first served."""

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._used = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def reserved(self, pixels: int, wanted: Callable[[], bool]) -> Iterator[None]:
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
        try:
            yield
        finally:
            with self._changed:
                self._used -= pixels
                self._changed.notify_all()

    def _has_room(self, ticket: object, pixels: int) -> bool:
        return self._waiting[0] is ticket and (not self._used or self._used + pixels <= self._pixels)
