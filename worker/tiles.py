"""Pictures of any size in bounded memory: the exact result, computed tile by tile.

Instance norm needs the mean and the variance of each channel over the whole picture, so tiles that normalise themselves
make another picture, with seams. Here each layer's statistics are taken over all tiles before the next layer runs: one
sweep over the picture for each norm. Within a sweep, a tile is computed with as much of its surroundings as its
convolutions see, so what is kept of it is what the whole would have been. Layers at full resolution are computed anew
in each sweep that needs them; maps at a half and at a quarter of it are kept, in half precision in scratch files: 32
and 16 bytes for each pixel of the picture, 48 at most at a time. Where that cannot hold them, twice as many.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from collections.abc import Generator as Steps
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from generator.instance_norm import NORM_EPSILON
from generator.pixels import Pixels, to_pixels, to_tensor
from worker.networks import Affine, Network
from worker.pools import start_threads
from worker.runtimes import threads
from worker.steps import Step, steps

T = TypeVar("T")

TILE_SIDE = 640
"""Of a tile, in pixels: larger ones take more memory, and gain little."""
QUARTER = 4
"""How much smaller the smallest maps are than the picture, in height and in width. Their pixels are called cells."""
CHUNK_BYTES = 1 << 20
"""How much of a map, in float32, is worked on at once: what the cache of a core holds."""
LARGEST_HALF = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class Box:
    """A rectangle of a picture or map: rows top to bottom, columns left to right, the ends not included."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def times(self, factor: int) -> "Box":
        return Box(self.top * factor, self.bottom * factor, self.left * factor, self.right * factor)

    def within(self, other: "Box") -> "Box":
        """The same rectangle, counted from the corner of ``other``."""
        return Box(self.top - other.top, self.bottom - other.top, self.left - other.left, self.right - other.left)


def tiles(height: int, width: int, side: int, halo: int) -> Iterator[tuple[Box, Box]]:
    """(core, window) of each tile: cores cover everything once, and a window has ``halo`` more on every side.

    Cores have sides of at most ``side``, and as equal as can be. At the border of the picture a window ends with it,
    and reaches further inwards instead: all windows have one size, for which an engine prepares once.
    """
    for top, bottom, first, last in _spans(height, side, halo):
        for left, right, start, end in _spans(width, side, halo):
            yield Box(top, bottom, left, right), Box(first, last, start, end)


def _spans(length: int, side: int, halo: int) -> Iterator[tuple[int, int, int, int]]:
    """(core start, core end, window start, window end) along one side."""
    side = -(-length // -(-length // side))
    window = min(length, side + 2 * halo)
    for start in range(0, length, side):
        first = min(max(0, start - halo), length - window)
        yield start, min(start + side, length), first, first + window


class Statistics:
    """Mean and variance of each channel over parts that come one after the other (Chan, Golub, LeVeque 1983)."""

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._pivot: Tensor | None = None  # near the mean: single precision keeps its digits for the differences
        self._mean = torch.zeros(channels, dtype=torch.float64)
        self._squares = torch.zeros(channels, dtype=torch.float64)  # the sum of squared distances from the mean

    def add(self, values: Tensor) -> None:
        """[1,C,H,W], the fastest with channels last in memory."""
        if self._pivot is None:
            self._pivot = values.float().mean((0, 2, 3), keepdim=True)
        for rows in torch.split(values, _rows_at_once(values.shape[1], values.shape[3]), dim=2):
            # The fastest that there is; it sums up in single precision.
            found = torch.batch_norm_update_stats(rows - self._pivot, None, None, 0.0)
            self._merge(rows.shape[2] * rows.shape[3], *(one.double() for one in found))

    def _merge(self, count: int, mean: Tensor, variance: Tensor) -> None:
        assert self._pivot is not None
        total = self._count + count
        distance = mean + self._pivot.double().flatten() - self._mean
        self._squares += variance * count + distance.square() * (self._count * count / total)
        self._mean += distance * (count / total)
        self._count = total

    def affine(self, style: Affine) -> Affine:
        """What normalising, scaling by γ and shifting by β come to: y = scale·x + shift."""
        gamma, beta = (part.double() for part in style)
        scale = gamma / (self._squares / self._count + NORM_EPSILON).sqrt()
        return scale.float(), (beta - self._mean * scale).float()


def _rows_at_once(channels: int, width: int) -> int:
    """How many rows of a map make a chunk."""
    return max(1, CHUNK_BYTES // (channels * width * torch.float32.itemsize))


class ScratchMap:
    """A map [C,H,W] in a file without a name, gone when closed; in half precision, or in float32 when float16 cannot
    hold it.

    Read and written with system calls, so that a full disk is an OSError, and nothing of it counts as our memory.
    """

    def __init__(self, folder: Path, channels: int, height: int, width: int, dtype: torch.dtype) -> None:
        self.channels, self.height, self.width, self.dtype = channels, height, width, dtype
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - lives as long as this map
        self._pixel = channels * dtype.itemsize

    def read(self, box: Box) -> Tensor:
        """[1,C,H,W], channels last in memory, as they are in the file."""
        pixels = torch.empty((box.bottom - box.top, box.right - box.left, self.channels), dtype=self.dtype)
        for row, line in enumerate(_lines(pixels)):
            _read(self._file.fileno(), line, self._offset(box, row))
        return pixels.permute(2, 0, 1)[None]

    def write(self, box: Box, values: Tensor) -> None:
        """Of [1,C,H,W]. Raises FloatOverflowError when float16 cannot hold them, OSError when the disk is full."""
        if self.dtype is torch.float16:
            least, most = torch.aminmax(values)
            if max(-least, most) > LARGEST_HALF:
                raise FloatOverflowError
        for row, line in enumerate(_lines(values[0].permute(1, 2, 0).to(self.dtype))):
            _write(self._file.fileno(), line, self._offset(box, row))

    def close(self) -> None:
        self._file.close()

    def _offset(self, box: Box, row: int) -> int:
        return ((box.top + row) * self.width + box.left) * self._pixel


class FloatOverflowError(ArithmeticError):
    """Activations are too large for float16."""


def _lines(pixels: Tensor) -> Iterator[memoryview]:
    """The memory of each row of [H,W,C]; rows themselves have no gaps, or are copied."""
    for row in pixels.view(torch.int16 if pixels.dtype.itemsize == 2 else torch.int32).numpy():
        yield np.ascontiguousarray(row).reshape(-1).view(np.uint8).data


def _read(descriptor: int, line: memoryview, offset: int) -> None:
    while line:
        count = os.preadv(descriptor, [line], offset)
        if not count:
            raise OSError("a scratch file ends too early")
        line, offset = line[count:], offset + count


def _write(descriptor: int, line: memoryview, offset: int) -> None:
    while line:
        count = os.pwrite(descriptor, line, offset)
        line, offset = line[count:], offset + count


def tile_helpers() -> Executor:
    """The threads that read, write and take statistics while the next tile is computed. Each of their operations takes
    one core: PyTorch's own threads would take turns with those of the inference engine.
    """
    own = torch.get_num_threads()
    helpers = ThreadPoolExecutor(threads(), "tiles", _use_one_core)
    start_threads(helpers, threads())
    torch.set_num_threads(own)  # which threads that begin later have as well
    return helpers


def _use_one_core() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # PyTorch asks once in each thread how many there are, and stays with the answer


def stylized_in_tiles(
    network: Network, content: Pixels, style: Tensor, *, side: int, folder: Path, helpers: Executor
) -> Steps[float, None, Pixels]:
    """Stylizes content [H,W,3] with a style vector [S]; yields after each tile how much is done, returns the picture.

    ``side`` is that of a tile in pixels, a multiple of 4; ``helpers`` are ``tile_helpers()``. It can be closed between
    two tiles. Raises OSError when ``folder`` has no room for the maps.
    """
    for dtype in (torch.float16, torch.float32):
        try:
            return (yield from _TiledPass(network, content, style, side, folder, helpers, dtype).run())
        except FloatOverflowError:
            if dtype is torch.float32:
                raise
    raise AssertionError


class _TiledPass:
    """One picture on its way through the network."""

    def __init__(
        self,
        network: Network,
        content: Pixels,
        style: Tensor,
        side: int,
        folder: Path,
        helpers: Executor,
        dtype: torch.dtype,
    ) -> None:
        self._network = network
        self._content = content
        self._chain = steps(network.generator)
        parts = torch.split(style.float(), network.generator.style_sizes)
        self._styles: list[Affine] = [(part[: len(part) // 2], part[len(part) // 2 :]) for part in parts]
        self._side = side
        self._folder = folder
        self._helpers = helpers
        self._dtype = dtype
        is_half = dtype is torch.float16 and network.sweep_dtype is torch.bfloat16
        self._raw_dtype = torch.bfloat16 if is_half else dtype
        self._affines: dict[int, Affine] = {len(self._chain) - 1: self._styles[-1]}
        self._height, self._width = (-(-length // QUARTER) for length in content.shape[:2])  # in cells
        self._down = [index for index, step in enumerate(self._chain) if step.stride > 1]
        self._blocks = [index for index, step in enumerate(self._chain) if step.opens_block]
        self._up = [index for index, step in enumerate(self._chain) if step.upsample]
        self._work = sum(self._cost(*sweep) for sweep in self._sweeps())
        self._done = 0.0
        self._beside: list[Future[Any]] = []

    def run(self) -> Steps[float, None, Pixels]:
        with ExitStack() as scratch:
            try:
                return (yield from self._run(scratch))
            finally:
                wait(self._beside)  # they may read and write maps, which are closed next

    def _help(self, work: Callable[..., T], *arguments: Any) -> Future[T]:
        """Has a helper do it."""
        future = self._helpers.submit(work, *arguments)
        self._beside = [other for other in self._beside if not other.done()] + [future]
        return future

    def _run(self, scratch: ExitStack) -> Steps[float, None, Pixels]:
        x = yield from self._to_cells(scratch)
        y, z = (self._map(scratch, self._down[-1]) for _ in range(2))
        for first in self._blocks:
            yield from self._sweep(x, first, first, y)
            yield from self._sweep(y, first + 1, first + 1, z, leading=True)
            self._settle(x, z, first + 1)
        y.close()
        z.close()
        return (yield from self._to_pixels(scratch, x))

    def _to_cells(self, scratch: ExitStack) -> Steps[float, None, ScratchMap]:
        """The layers before the residual blocks: the map that these begin with."""
        *above, half, quarter = range(self._down[-1] + 1)
        for last in above:
            yield from self._sweep(None, 0, last, None)
        at_half, raw = self._map(scratch, half), self._map(scratch, quarter)
        yield from self._sweep(None, 0, half, at_half)
        yield from self._sweep(at_half, quarter, quarter, raw, leading=True)
        at_half.close()
        x = self._map(scratch, quarter, settled=True)
        self._settle(x, raw, quarter)
        raw.close()
        return x

    def _to_pixels(self, scratch: ExitStack, x: ScratchMap) -> Steps[float, None, Pixels]:
        """The layers behind the residual blocks: the picture."""
        half, *below = range(self._up[0], len(self._chain))
        at_half = self._map(scratch, half)
        yield from self._sweep(x, half, half, at_half)
        x.close()
        for last in below[:-1]:
            yield from self._sweep(at_half, below[0], last, None, leading=True)
        stylized = np.empty_like(self._content)
        yield from self._sweep(at_half, below[0], below[-1], stylized, leading=True)
        return stylized

    def _map(self, scratch: ExitStack, index: int, *, settled: bool = False) -> ScratchMap:
        """For what comes out of a step."""
        fineness = self._fineness(index)
        shape = self._chain[index].convolution.out_channels, self._height * fineness, self._width * fineness
        made = ScratchMap(self._folder, *shape, self._dtype if settled else self._raw_dtype)
        scratch.callback(made.close)
        return made

    def _fineness(self, index: int) -> int:
        """How many pixels a cell has in what comes out of a step, in height and in width; -1: in the picture."""
        fineness = QUARTER
        for step in self._chain[: index + 1]:
            fineness = fineness * (2 if step.upsample else 1) // step.stride
        return fineness

    def _sweeps(self) -> Iterator[tuple[int, int]]:
        """First and last step of every sweep."""
        *above, quarter = range(self._down[-1] + 1)
        yield from ((0, last) for last in above)
        yield quarter, quarter
        yield from ((index, index) for first in self._blocks for index in (first, first + 1))
        half, *below = range(self._up[0], len(self._chain))
        yield half, half
        yield from ((below[0], last) for last in below)

    def _cost(self, first: int, last: int) -> float:
        """Multiplications for a cell."""
        return sum(
            self._chain[index].convolution.weight.numel() * self._fineness(index) ** 2
            for index in range(first, last + 1)
        )

    def _sweep(
        self, source: ScratchMap | None, first: int, last: int, kept: ScratchMap | Pixels | None, leading: bool = False
    ) -> Steps[float, None, None]:
        """Steps ``first`` to ``last`` over a map, or over the photograph: takes the statistics of the last and keeps
        its map, or makes the picture. ``leading``: the map is raw, and the norm behind it is applied first.
        """
        run = self._network.sweep(first, last, leading=leading)
        statistics = Statistics(self._chain[last].convolution.out_channels)
        before, after = self._fineness(first - 1), self._fineness(last)
        halo = -(-halo_of(self._chain[first : last + 1]) // before)
        grid = list(tiles(self._height, self._width, self._side // QUARTER, halo))

        def read(window: Box) -> Tensor:
            return source.read(window.times(before)) if source else self._window(window)

        def finish(core: Box, values: Tensor) -> None:
            if isinstance(kept, np.ndarray):
                part = kept[core.times(after).slices]  # ends with the picture, where that is no multiple of four
                part[:] = to_pixels(values[0].float())[: part.shape[0], : part.shape[1]]
                return
            statistics.add(values)
            if kept is not None:
                kept.write(core.times(after), values)

        finished: Future[None] | None = None
        following = self._help(read, grid[0][1])
        for number, (core, window) in enumerate(grid, start=1):
            x = following.result()
            if number < len(grid):
                following = self._help(read, grid[number][1])
            output = run(x, self._affines)
            if finished:
                finished.result()  # one after the other: statistics are added up
            finished = self._help(finish, core, output[:, :, *core.within(window).times(after).slices])
            self._done += self._cost(first, last) / len(grid)
            if number < len(grid):
                yield min(1.0, self._done / self._work)
        assert finished
        finished.result()
        if not self._chain[last].is_output:
            self._affines[last] = statistics.affine(self._styles[last])
        yield min(1.0, self._done / self._work)

    def _window(self, window: Box) -> Tensor:
        """[1,3,H,W] of the picture; beyond its last row and column these are repeated, as in ``Generator.forward``."""
        box = window.times(QUARTER)
        pixels = self._content[box.slices]
        missing = (box.bottom - box.top - pixels.shape[0], box.right - box.left - pixels.shape[1])
        if any(missing):
            pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        return to_tensor(pixels)[None].contiguous(memory_format=torch.channels_last)

    def _settle(self, x: ScratchMap, update: ScratchMap, index: int) -> None:
        """The step's norm, and what follows it, made part of ``x``."""
        step = self._chain[index]
        scale, shift = (part[:, None, None] for part in self._affines[index])
        rows = _rows_at_once(len(scale), self._width)

        def settle(top: int) -> None:
            box = Box(top, min(top + rows, self._height), 0, self._width)
            values = torch.addcmul(shift, update.read(box).float(), scale)
            x.write(box, values.add_(x.read(box)) if step.closes_block else values.relu_())

        def settle_every(start: int) -> None:
            for top in range(start * rows, self._height, rows * threads()):
                settle(top)

        for done in [self._help(settle_every, start) for start in range(threads())]:
            done.result()


def halo_of(chain: list[Step]) -> int:
    """How far, in pixels of its input, the output of these steps sees."""
    needed = 0
    for step in reversed(chain):
        needed = needed * step.stride + step.padding
        if step.upsample:
            needed = -(-needed // 2)
    return needed
