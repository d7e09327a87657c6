"""The batcher: many jobs on one side, one engine on the other.

Jobs that are decoded wait here until the engine is idle; then those that fit into one pass (the same trunk, the same
size) go together. Nobody ever waits for a batch to fill: with an idle engine, a lone job starts at once. Large pictures
are stylized tile by tile, one picture after the other, and between two tiles the others have their turn.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from collections.abc import Generator as Steps
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from contract.errors import OutOfMemoryError
from generator.pixels import Pixels
from worker.metrics import WorkerMetrics


class Engine(Protocol):
    def stylize(self, trunk: str, contents: Sequence[Pixels], styles: Sequence[Tensor]) -> list[Pixels]: ...
    def is_large(self, content: Pixels) -> bool: ...
    def stylize_in_tiles(self, trunk: str, content: Pixels, style: Tensor) -> Steps[float, None, Pixels]: ...


@dataclass(frozen=True)
class Stylized:
    """A picture, and how long the engine was at work on it: for one that went with others, on all of them."""

    pixels: Pixels
    compute_seconds: float
    batch_size: int = 1
    """How many went together."""


@dataclass(frozen=True)
class Request:
    """One picture for the engine. At its turn it is dropped when it is not ``wanted`` any more, else ``taken``.

    A large one is asked again between tiles, and ``progressed`` hears how much is done, 0..1.
    """

    trunk: str
    content: Pixels
    style: Tensor
    wanted: Callable[[], bool]
    taken: Callable[[], None]
    progressed: Callable[[float], None]
    answer: "Future[Stylized]" = field(default_factory=Future)

    @property
    def group(self) -> tuple[str, tuple[int, ...]]:
        return self.trunk, self.content.shape

    @property
    def pixels(self) -> int:
        height, width, _ = self.content.shape
        return int(height * width)


class Tiling:
    """A large picture under way."""

    def __init__(self, request: Request, engine: Engine, metrics: WorkerMetrics) -> None:
        self.request = request
        self._metrics = metrics
        self._steps = engine.stylize_in_tiles(request.trunk, request.content, request.style)
        self._seconds = 0.0
        self._taken = False

    def advance(self) -> bool:
        """Computes one tile; whether there are more. Answers the request when it is done or when it failed."""
        request = self.request
        if not request.wanted():
            self.cancel()
            return False
        if not self._taken:
            self._taken = True
            request.taken()
        start = time.perf_counter()
        try:
            request.progressed(next(self._steps))
        except StopIteration as done:
            self._seconds += time.perf_counter() - start
            self._metrics.large(request.pixels)
            request.answer.set_result(Stylized(done.value, self._seconds))
            return False
        except BaseException as error:  # the edge of the engine's thread: it must go on, and the job must hear of it
            request.answer.set_exception(error)
            return False
        self._seconds += time.perf_counter() - start
        self._metrics.tile()
        return True

    def cancel(self) -> None:
        self._steps.close()
        self.request.answer.cancel()


class Batcher:
    """One thread that feeds one engine."""

    def __init__(self, engine: Engine, batch_pixels: int, metrics: WorkerMetrics | None = None) -> None:
        self._engine = engine
        self._metrics = metrics or WorkerMetrics()
        self._batch_pixels = batch_pixels
        self._waiting: deque[Request] = deque()
        self._large: deque[Tiling] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(
        self,
        trunk: str,
        content: Pixels,
        style: Tensor,
        wanted: Callable[[], bool] = lambda: True,
        taken: Callable[[], None] = lambda: None,
        progressed: Callable[[float], None] = lambda _: None,
    ) -> "Future[Stylized]":
        """The future picture; cancelled when it was not ``wanted`` any more, or the batcher was closed."""
        request = Request(trunk, content, style, wanted, taken, progressed)
        with self._changed:
            if self._closed:
                request.answer.cancel()
            else:
                if self._engine.is_large(content):
                    self._large.append(Tiling(request, self._engine, self._metrics))
                else:
                    self._waiting.append(request)
                self._changed.notify()
        return request.answer

    def stop_large(self) -> None:
        """No further tile is computed from now on: large pictures are cancelled, and the others go on.

        It may be called where a signal is handled, since it takes no lock.
        """
        self._stopping = True

    def close(self) -> None:
        """Ends the thread after the pass or the tile that is under way; what is not done is cancelled."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        for request in self._waiting:
            request.answer.cancel()
        for tiling in self._large:
            tiling.cancel()

    def _run(self) -> None:
        while self._has_work():
            if batch := self._next_batch():
                self._stylize(batch)
            if self._large and self._stopping:
                self._large.popleft().cancel()
            elif self._large and not self._large[0].advance():
                self._large.popleft()

    def _has_work(self) -> bool:
        """Waits for some; False when the batcher is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._large or self._closed)
            return not self._closed

    def _next_batch(self) -> list[Request]:
        """The oldest request and those that can go with it; empty when there is none."""
        with self._changed:
            self._drop_unwanted()
            if not self._waiting:
                return []
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

        A batch that fails is tried again in halves: less may fit into memory, and one that is to blame fails alone. A
        picture that does not fit into memory by itself is tried again in tiles.
        """
        start = time.perf_counter()
        try:
            pictures = self._engine.stylize(
                batch[0].trunk, [request.content for request in batch], [request.style for request in batch]
            )
        except BaseException as error:  # the edge of the engine's thread: it must go on, and the jobs must hear of it
            if len(batch) == 1:
                if isinstance(error, OutOfMemoryError):
                    self._metrics.out_of_memory("tiled")
                    self._large.append(Tiling(batch[0], self._engine, self._metrics))
                else:
                    batch[0].answer.set_exception(error)
                return
            if isinstance(error, OutOfMemoryError):
                self._metrics.out_of_memory("halved")
        else:
            seconds = time.perf_counter() - start
            self._metrics.batch(len(batch), sum(request.pixels for request in batch))
            for request, pixels in zip(batch, pictures, strict=True):
                request.answer.set_result(Stylized(pixels, seconds, len(batch)))
            return
        # The error, whose traceback held the tensors of the pass that failed, is gone by now, and they with it.
        half = len(batch) // 2
        self._stylize(batch[:half])
        self._stylize(batch[half:])
