"""Pictures of any size in bounded memory: the exact result, computed tile by tile.

Instance norm needs the mean and the variance of each channel over the whole picture, so tiles that normalise themselves
make another picture, with seams. Here each layer's statistics are taken over all tiles before the next layer runs: one
sweep over the picture for each norm. Within a sweep, a tile is computed with as much of its surroundings as its
convolutions see, so what is kept of it is what the whole would have been. Layers at full and half resolution are
computed anew in each sweep that needs them; maps at a quarter of the resolution are kept, in float16 in a scratch file:
16 bytes for each pixel of the picture and map, three maps at a time.
"""

import os
import tempfile
from collections.abc import Generator as Steps
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from generator.instance_norm import NORM_EPSILON
from generator.pixels import Pixels, to_pixels, to_tensor
from worker.networks import Affine, Network
from worker.steps import Step, steps

TILE_SIDE = 640
"""Of a tile, in pixels: larger ones take more memory, and gain little."""
QUARTER = 4
"""How much smaller the kept maps are than the picture, in height and in width."""
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

    def parts(self, factor: int) -> "Box":
        return Box(self.top // factor, self.bottom // factor, self.left // factor, self.right // factor)

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
        """[1,C,H,W]"""
        count = values.shape[-2] * values.shape[-1]
        if self._pivot is None:
            self._pivot = values.mean((0, 2, 3), keepdim=True)
        # The fastest that there is; it sums up in single precision.
        mean, variance = torch.batch_norm_update_stats(values - self._pivot, None, None, 0.0)
        total = self._count + count
        distance = mean.double() + self._pivot.double().flatten() - self._mean
        self._squares += variance.double() * count + distance.square() * (self._count * count / total)
        self._mean += distance * (count / total)
        self._count = total

    def affine(self, style: Affine) -> Affine:
        """What normalising, scaling by γ and shifting by β come to: y = scale·x + shift."""
        gamma, beta = (part.double() for part in style)
        scale = gamma / (self._squares / self._count + NORM_EPSILON).sqrt()
        return scale.float(), (beta - self._mean * scale).float()


class ScratchMap:
    """A map [C,H,W] in a file without a name: float16, or float32 when float16 cannot hold it. Gone when closed.

    Read and written with system calls, so that a full disk is an OSError, and nothing of it counts as our memory.
    """

    def __init__(self, folder: Path, channels: int, height: int, width: int, dtype: torch.dtype) -> None:
        self.channels, self.height, self.width, self.dtype = channels, height, width, dtype
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - lives as long as this map
        self._pixel = channels * dtype.itemsize

    def read(self, box: Box) -> Tensor:
        """[1,C,H,W], channels last in memory, as they are in the file."""
        return self.read_pixels(box).permute(2, 0, 1)[None]

    def write(self, box: Box, values: Tensor) -> None:
        """As ``write_pixels``, of [1,C,H,W]."""
        self.write_pixels(box, values[0].permute(1, 2, 0))

    def read_pixels(self, box: Box) -> Tensor:
        """[H,W,C] float32"""
        pixels = torch.empty((box.bottom - box.top, box.right - box.left, self.channels), dtype=self.dtype)
        for row, line in enumerate(_lines(pixels)):
            _read(self._file.fileno(), line, self._offset(box, row))
        return pixels.float()

    def write_pixels(self, box: Box, pixels: Tensor) -> None:
        """Raises FloatOverflowError when float16 cannot hold the values [H,W,C], OSError when the disk is full."""
        if self.dtype is torch.float16:
            least, most = torch.aminmax(pixels)
            if max(-least, most) > LARGEST_HALF:
                raise FloatOverflowError
        for row, line in enumerate(_lines(pixels.to(self.dtype).contiguous())):
            _write(self._file.fileno(), line, self._offset(box, row))

    def close(self) -> None:
        self._file.close()

    def _offset(self, box: Box, row: int) -> int:
        return ((box.top + row) * self.width + box.left) * self._pixel


class FloatOverflowError(ArithmeticError):
    """Activations are too large for float16."""


def _lines(pixels: Tensor) -> Iterator[memoryview]:
    """The memory of each row of [H,W,C]."""
    for line in pixels.view(torch.uint8).numpy().reshape(pixels.shape[0], -1):
        yield line.data


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


def stylized_in_tiles(
    network: Network, content: Pixels, style: Tensor, *, side: int, folder: Path
) -> Steps[float, None, Pixels]:
    """Stylizes content [H,W,3] with a style vector [S]; yields after each tile how much is done, returns the picture.

    ``side`` is that of a tile in pixels, a multiple of 4. It can be closed between two tiles. Raises OSError when
    ``folder`` has no room for the maps.
    """
    try:
        return (yield from _TiledPass(network, content, style, side, folder, torch.float16).run())
    except FloatOverflowError:
        return (yield from _TiledPass(network, content, style, side, folder, torch.float32).run())


class _TiledPass:
    """One picture on its way through the network."""

    def __init__(
        self, network: Network, content: Pixels, style: Tensor, side: int, folder: Path, dtype: torch.dtype
    ) -> None:
        self._network = network
        self._content = content
        self._chain = steps(network.generator)
        parts = torch.split(style.float(), network.generator.style_sizes)
        self._styles: list[Affine] = [(part[: len(part) // 2], part[len(part) // 2 :]) for part in parts]
        self._side = side
        self._folder = folder
        self._dtype = dtype
        self._affines: dict[int, Affine] = {len(self._chain) - 1: self._styles[-1]}
        self._height, self._width = (-(-length // QUARTER) for length in content.shape[:2])  # of the maps
        self._down = [index for index, step in enumerate(self._chain) if step.stride > 1][-1]
        self._blocks = [index for index, step in enumerate(self._chain) if step.opens_block]
        self._up = [index for index, step in enumerate(self._chain) if step.upsample]
        self._work = sum(self._cost(*sweep) for sweep in self._sweeps())
        self._done = 0.0

    def run(self) -> Steps[float, None, Pixels]:
        x, y, z = (self._map() for _ in range(3))
        try:
            for last in range(self._down):
                yield from self._from_content(last, None)
            yield from self._from_content(self._down, y)
            self._settle(x, y, self._down)
            for first in self._blocks:
                yield from self._from_map(x, first, first, y)
                yield from self._from_map(y, first + 1, first + 1, z)
                self._settle(x, z, first + 1)
            for last in self._up:
                yield from self._from_map(x, self._up[0], last, None)
            stylized = np.empty_like(self._content)
            yield from self._pixels(x, stylized)
            return stylized
        finally:
            for scratch in (x, y, z):
                scratch.close()

    def _map(self) -> ScratchMap:
        channels = self._chain[self._down].convolution.out_channels
        return ScratchMap(self._folder, channels, self._height, self._width, self._dtype)

    def _sweeps(self) -> Iterator[tuple[int, int]]:
        """First and last step of every sweep."""
        yield from ((0, last) for last in range(self._down + 1))
        yield from ((index, index) for first in self._blocks for index in (first, first + 1))
        yield from ((self._up[0], last) for last in (*self._up, len(self._chain) - 1))

    def _cost(self, first: int, last: int) -> float:
        """Multiplications for a pixel of the picture."""
        total, scale = 0.0, 1.0 if first == 0 else 1 / QUARTER
        for step in self._chain[first : last + 1]:
            scale *= (2 if step.upsample else 1) / step.stride
            total += step.convolution.weight.numel() * scale * scale
        return total

    def _from_content(self, last: int, kept: ScratchMap | None) -> Steps[float, None, None]:
        """Steps 0 to ``last`` over the picture: takes the statistics of the last, and keeps its map."""
        run = self._network.sweep(0, last, leading=False)
        halo = QUARTER * -(-halo_of(self._chain[: last + 1]) // QUARTER)
        statistics = Statistics(self._chain[last].convolution.out_channels)
        shrunk = int(np.prod([step.stride for step in self._chain[: last + 1]]))
        grid = list(tiles(self._height, self._width, self._side // QUARTER, halo // QUARTER))
        for core, window in grid:
            output = run(self._window(window), self._affines)
            values = _cut(output, core.within(window).times(QUARTER).parts(shrunk))
            statistics.add(values)
            if kept is not None:
                kept.write(core, values)
            yield self._advanced(0, last, len(grid))
        self._affines[last] = statistics.affine(self._styles[last])

    def _from_map(self, source: ScratchMap, first: int, last: int, kept: ScratchMap | None) -> Steps[float, None, None]:
        """Steps ``first`` to ``last`` over a map: takes the statistics of the last, and keeps its map."""
        run = self._network.sweep(first, last, leading=self._chain[first].closes_block)
        statistics = Statistics(self._chain[last].convolution.out_channels)
        grown = 2 ** sum(step.upsample for step in self._chain[first : last + 1])
        grid = list(self._map_tiles(first, last))
        for core, window in grid:
            output = run(source.read(window), self._affines)
            values = _cut(output, core.within(window).times(grown))
            statistics.add(values)
            if kept is not None:
                kept.write(core, values)
            yield self._advanced(first, last, len(grid))
        self._affines[last] = statistics.affine(self._styles[last])

    def _pixels(self, source: ScratchMap, stylized: Pixels) -> Steps[float, None, None]:
        """The last sweep, which makes the picture."""
        first, last = self._up[0], len(self._chain) - 1
        run = self._network.sweep(first, last, leading=False)
        grid = list(self._map_tiles(first, last))
        for core, window in grid:
            output = run(source.read(window), self._affines)
            inside = core.within(window).times(QUARTER).slices
            part = stylized[core.times(QUARTER).slices]  # ends with the picture, where that is no multiple of four
            part[:] = to_pixels(output[0][:, *inside])[: part.shape[0], : part.shape[1]]
            yield self._advanced(first, last, len(grid))

    def _map_tiles(self, first: int, last: int) -> Iterator[tuple[Box, Box]]:
        halo = halo_of(self._chain[first : last + 1])
        return tiles(self._height, self._width, self._side // QUARTER, halo)

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
        step, (scale, shift) = self._chain[index], self._affines[index]
        rows = max(1, self._side * self._side // (QUARTER * QUARTER * self._width))
        for top in range(0, self._height, rows):
            box = Box(top, min(top + rows, self._height), 0, self._width)
            pixels = torch.addcmul(shift, update.read_pixels(box), scale)
            x.write_pixels(box, pixels.add_(x.read_pixels(box)) if step.closes_block else pixels.relu_())

    def _advanced(self, first: int, last: int, tiles_in_sweep: int) -> float:
        self._done += self._cost(first, last) / tiles_in_sweep
        return min(1.0, self._done / self._work)


def _cut(values: Tensor, box: Box) -> Tensor:
    """A copy of this part of [1,C,H,W] without gaps, in the layout that it has: so statistics are taken the fastest."""
    channels_last = values.stride(1) == 1
    return values[:, :, *box.slices].clone(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )


def halo_of(chain: list[Step]) -> int:
    """How far, in pixels of its input, the output of these steps sees."""
    needed = 0
    for step in reversed(chain):
        needed = needed * step.stride + step.padding
        if step.upsample:
            needed = -(-needed // 2)
    return needed
