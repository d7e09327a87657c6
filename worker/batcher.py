"""The batcher: many jobs on one side, one engine on the other.

Jobs that are decoded wait here until the engine is idle; then those that fit into one pass (the same trunk, the same
size) go together. Nobody ever waits for a batch to fill: with an idle engine, a lone job starts at once.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from generator.pixels import Pixels


class Engine(Protocol):
    def stylize(self, trunk: str, contents: Sequence[Pixels], styles: Sequence[Tensor]) -> list[Pixels]: ...


@dataclass(frozen=True)
class Stylized:
    """A picture, and how long the engine's pass took that made it."""

    pixels: Pixels
    compute_seconds: float


@dataclass(frozen=True)
class Request:
    """One picture for the engine. At its turn it is dropped when it is not ``wanted`` any more, else ``taken``."""

    trunk: str
    content: Pixels
    style: Tensor
    wanted: Callable[[], bool]
    taken: Callable[[], None]
    answer: "Future[Stylized]" = field(default_factory=Future)

    @property
    def group(self) -> tuple[str, tuple[int, ...]]:
        return self.trunk, self.content.shape

    @property
    def pixels(self) -> int:
        height, width, _ = self.content.shape
        return int(height * width)


class Batcher:
    """One thread that feeds one engine."""

    def __init__(self, engine: Engine, batch_pixels: int) -> None:
        self._engine = engine
        self._batch_pixels = batch_pixels
        self._waiting: deque[Request] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(
        self,
        trunk: str,
        content: Pixels,
        style: Tensor,
        wanted: Callable[[], bool] = lambda: True,
        taken: Callable[[], None] = lambda: None,
    ) -> "Future[Stylized]":
        """The future picture; cancelled when it was not ``wanted`` any more, or the batcher was closed."""
        request = Request(trunk, content, style, wanted, taken)
        with self._changed:
            if self._closed:
                request.answer.cancel()
            else:
                self._waiting.append(request)
                self._changed.notify()
        return request.answer

    def close(self) -> None:
        """Ends the thread after the pass that is under way; what waits is cancelled."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        for request in self._waiting:
            request.answer.cancel()

    def _run(self) -> None:
        while batch := self._next_batch():
            self._stylize(batch)

    def _next_batch(self) -> list[Request]:
        """The oldest request and those that can go with it; empty when the batcher is closed."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return []
                self._drop_unwanted()
                if self._waiting:
                    break
            first = self._waiting[0]
            fitting = max(1, self._batch_pixels // first.pixels)
            batch = [request for request in self._waiting if request.group == first.group][:fitting]
            taken = set(map(id, batch))
            self._waiting = deque(request for request in self._waiting if id(request) not in taken)
        for request in batch:
            request.taken()
        return batch

    def _drop_unwanted(self) -> None:
        kept = deque[Request]()
        for request in self._waiting:
            if request.wanted():
                kept.append(request)
            else:
                request.answer.cancel()
        self._waiting = kept

    def _stylize(self, batch: list[Request]) -> None:
        """Answers every request of a batch, with a picture or with what went wrong with it.

        A batch that fails is tried again in halves: less may fit into memory, and one that is to blame fails alone.
        """
        start = time.perf_counter()
        try:
            pictures = self._engine.stylize(
                batch[0].trunk, [request.content for request in batch], [request.style for request in batch]
            )
        except BaseException as error:  # the edge of the engine's thread: it must go on, and the jobs must hear of it
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
                return
        else:
            seconds = time.perf_counter() - start
            for request, pixels in zip(batch, pictures, strict=True):
                request.answer.set_result(Stylized(pixels, seconds))
            return
        # The error, whose traceback held the tensors of the pass that failed, is gone by now, and they with it.
        half = len(batch) // 2
        self._stylize(batch[:half])
        self._stylize(batch[half:])
