"""Isolation: a job that may have killed its worker is worked on alone.

When a worker dies, all jobs that it had are tried again, and one of them may be to blame. If they ran together again,
the innocent would be failed as poison along with it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Isolation:
    """A lock that many may share, or one hold alone. Whoever waits to be alone goes before those that come later."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing = 0
        self._alone = False
        self.waiting_alone = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not self.waiting_alone)
            self._sharing += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharing -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self.waiting_alone += 1
            try:
                self._changed.wait_for(lambda: not self._alone and not self._sharing)
            finally:
                self.waiting_alone -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()
