"""A loose garden of flowers in transparent washes: hard edges, blooms, granulation and the grain of the paper."""

from dataclasses import dataclass, field

import numpy as np

from generator.pixels import Pixels
from trainer.drawings.canvas import SIDE, Canvas, Colour, Field, colour, finished, palette, sheet, smoothstep
from trainer.drawings.marks import Points, smooth_path
from trainer.drawings.noise import blurred, clouds, paper_grain, slope

SEED = 31
PAPER = colour("fbf7ec")
PINKS = palette("e8487f d6336c f2738f f59a8a c63b94")
BLUES = palette("3f63c8 5a86dc 6a4fc0 4aa3d8 8a6ad0")
YELLOWS = palette("f6b92c f7d046 f08a30")
LEAVES = palette("4f9a3a 2f8a5f 7fb23c 1f6f6a 5a8f2c 2a7f8a")
SKY = palette("7fc4e6 a8d8d0 f7d9a0 f2b8c0 b8b0e8 9fd6b0")
HEART = colour("4a2a6a")

Place = tuple[float, float]
"""x and y, in pixels."""


@dataclass
class Sheet:
    """How much of red, green and blue the dried paint takes away at every pixel: washes add up, for they are clear."""

    draw: np.random.Generator
    absorbed: Canvas = field(default_factory=lambda: np.zeros((SIDE, SIDE, 3), dtype=np.float32))

    def __post_init__(self) -> None:
        self.tooth = paper_grain(self.draw)
        self.ragged = 4.5 * clouds(self.draw, 16, octaves=3) + 1.4 * clouds(self.draw, 90, octaves=2)
        self.pooling = clouds(self.draw, 9, octaves=4)

    def wash(
        self, rows: slice, columns: slice, depth: Field, paint: Colour, strength: float, edge: float = 1.0
    ) -> None:
        """Paint where ``depth`` is positive: it says how many pixels a place lies inside the wash.

        The paint gathers at the edge as it dries, flows to where the sheet lies low and settles between the bumps.
        """
        depth = depth + self.ragged[rows, columns]
        cover = smoothstep(-0.9, 0.9, depth)
        rim = np.exp(-np.clip(depth, 0, None) / 2.6) + 0.35 * np.exp(-np.clip(depth, 0, None) / 11)
        settled = 1 - 0.17 * self.tooth[rows, columns]
        density = cover * (0.60 + 0.26 * self.pooling[rows, columns] + 0.85 * edge * rim) * settled
        self.absorbed[rows, columns] += np.clip(strength * density, 0, None)[:, :, None] * -np.log(paint.clip(0.03, 1))

    def lift(self, rows: slice, columns: slice, depth: Field, amount: float) -> None:
        """Water pushes the paint out of a place, to its rim: a bloom."""
        depth = depth + 1.6 * self.ragged[rows, columns]
        inside = smoothstep(-1.5, 4.0, depth)
        rim = np.exp(-((depth / 2.2) ** 2))
        self.absorbed[rows, columns] *= (1 - amount * inside + 0.9 * amount * rim)[:, :, None]


def picture() -> Pixels:
    draw = np.random.default_rng(SEED)
    paper = Sheet(draw)
    _ground(paper)
    _far_leaves(paper)
    _blooms(paper, 22)
    _stems(paper)
    _flowers(paper)
    _blooms(paper, 14)
    _spray(paper)
    return finished(_dried(paper))


def _window(x: float, y: float, reach: float) -> tuple[slice, slice, Field, Field]:
    """The pixels within ``reach`` of a place, and their distances from it to the right and downwards."""
    (top, bottom), (left, end) = (np.clip([at - reach, at + reach + 1], 0, SIDE).astype(int) for at in (y, x))
    rows, columns = slice(int(top), int(bottom)), slice(int(left), int(end))
    down, right = np.mgrid[rows, columns].astype(np.float32)
    return rows, columns, right - x, down - y


def _ground(paper: Sheet) -> None:
    """Wet in wet: great pools of pale colours that run into one another, some with dried edges."""
    for number in range(34):
        x, y = paper.draw.uniform(-40, SIDE + 40, 2)
        size = paper.draw.uniform(80, 190)
        rows, columns, right, down = _window(x, y, 1.6 * size)
        wobble = (
            1 + 0.25 * np.sin(3 * np.arctan2(down, right) + number) + 0.12 * np.sin(7 * np.arctan2(down, right) + x)
        )
        depth = (1 - np.hypot(right, 1.25 * down) / (size * wobble)) * size
        paint = SKY[paper.draw.integers(len(SKY))]
        soft = 0.20 * smoothstep(0, 0.8 * size, depth)
        paper.absorbed[rows, columns] += soft[:, :, None] * -np.log(paint)
        if number % 2:
            paper.wash(rows, columns, depth - 0.25 * size, paint, 0.42, 0.7)


@dataclass(frozen=True)
class Shape:
    """The pixels around a petal or leaf: how far along it each is (0..1), across it and beyond its ends, in pixels."""

    rows: slice
    columns: slice
    along: Field
    across: Field
    beyond: Field

    @staticmethod
    def at(x: float, y: float, angle: float, long: float, wide: float) -> "Shape":
        cosine, sine = np.cos(angle), np.sin(angle)
        reach = 0.55 * max(long * abs(cosine) + wide * abs(sine), long * abs(sine) + wide * abs(cosine)) + 9
        rows, columns, right, down = _window(x + long / 2 * cosine, y + long / 2 * sine, reach)
        along = (right * cosine + down * sine) / long + 0.5
        beyond = np.maximum(np.maximum(-along, along - 1), 0) * long
        return Shape(rows, columns, np.clip(along, 0, 1), down * cosine - right * sine, beyond)


def _petal(
    paper: Sheet, place: Place, angle: float, size: tuple[float, float], paint: Colour, strength: float, edge: float = 1
) -> None:
    """A drop of ``size`` (length and width) with its point at ``place``; the outer end is broad."""
    long, wide = size
    shape = Shape.at(*place, angle, long, wide)
    half = wide / 2 * np.sqrt(np.sin(np.pi * shape.along**1.5).clip(0))
    # Beyond both ends the depth falls as it does at the sides.
    depth = half - np.abs(shape.across) - 2 * shape.beyond
    paper.wash(shape.rows, shape.columns, depth, paint, strength * paper.draw.uniform(0.8, 1.2), edge)


def _leaf(paper: Sheet, place: Place, angle: float, long: float, strength: float) -> None:
    """Two halves that leave a light rib between them."""
    paints = paper.draw.choice(LEAVES, 2)
    wide = long * paper.draw.uniform(0.26, 0.40)
    shape = Shape.at(*place, angle, long, 2.4 * wide)
    half = wide * np.sin(np.pi * shape.along**0.8)
    for side, paint in zip((-1, 1), paints, strict=True):
        across = side * (shape.across - 0.16 * long * shape.along**2)
        depth = np.minimum(across - 1.8, half - across) - 2 * shape.beyond
        paper.wash(shape.rows, shape.columns, depth, paint, strength * paper.draw.uniform(0.7, 1.25))


def _far_leaves(paper: Sheet) -> None:
    """Pale leaves and ghosts of flowers behind."""
    for _ in range(58):
        x, y = paper.draw.uniform(-20, SIDE + 20, 2)
        _leaf(paper, (x, y), paper.draw.uniform(0, 2 * np.pi), paper.draw.uniform(70, 150), 0.30)
    for _ in range(9):
        x, y = paper.draw.uniform(0, SIDE, 2)
        paints = PINKS if paper.draw.random() < 0.4 else BLUES
        for angle in np.arange(5) * 2 * np.pi / 5 + paper.draw.uniform(0, 6):
            _petal(paper, (x, y), angle, (80, 80), paints[paper.draw.integers(len(paints))], 0.22)


def _stems(paper: Sheet) -> None:
    """Stems that lean like grass, each with leaves of its own."""
    for _ in range(15):
        x, lean = paper.draw.uniform(0, SIDE), paper.draw.normal(0, 90)
        top = paper.draw.uniform(100, 420)
        path = smooth_path([(x, SIDE + 20), (x + 0.2 * lean, 620), (x + lean, top)], 70)
        _line(paper, path, paper.draw.uniform(2.2, 4.2), LEAVES[paper.draw.integers(len(LEAVES))], 0.75)
        for place in paper.draw.choice(np.arange(8, 60), 4, replace=False):
            _leaf(
                paper,
                path[place],
                paper.draw.choice([-0.6, -2.5]) + paper.draw.normal(0, 0.4),
                paper.draw.uniform(55, 120),
                0.75,
            )


def _line(paper: Sheet, path: Points, width: float, paint: Colour, strength: float) -> None:
    """A line from the point of a brush, which only ever goes up: every row of pixels crosses it once."""
    across, down = path[::-1].T
    top, left = max(0, int(down[0])), max(0, int(across.min() - 12))
    rows, columns = slice(top, SIDE), slice(left, min(SIDE, int(across.max() + 12)))
    at = np.interp(np.arange(top, SIDE), down, across)
    steep = 1 / np.hypot(1, np.gradient(at))
    aside = np.abs(np.arange(columns.start, columns.stop)[None, :] - at[:, None]) * steep[:, None]
    # The raggedness of a wash would break a line up.
    depth = width - aside - 0.8 * paper.ragged[rows, columns]
    paper.wash(rows, columns, depth.astype(np.float32), paint, strength)


FLOWERS = (
    *((165, 190, 118, "pink"), (430, 120, 92, "blue"), (645, 205, 122, "yellow"), (330, 345, 126, "pink")),
    *((90, 430, 104, "blue"), (590, 455, 120, "blue"), (215, 590, 116, "yellow"), (440, 625, 118, "pink")),
    *((700, 660, 108, "pink"), (55, 700, 88, "pink"), (740, 40, 84, "pink"), (30, 40, 86, "yellow")),
    *((560, 760, 90, "blue"), (320, 765, 80, "blue")),
)
"""Each: where it is, how large, and its colours."""


def _flowers(paper: Sheet) -> None:
    paints = {"pink": PINKS, "blue": BLUES, "yellow": YELLOWS}
    for x, y, size, name in FLOWERS:
        _flower(paper, x, y, size, paints[name])


def _flower(paper: Sheet, x: float, y: float, size: float, paints: Canvas) -> None:
    """Two rounds of overlapping petals, veins, and a dark heart with stamens."""
    # White paper is kept for a flower: a wet brush takes up what was there.
    rows, columns, right, down = _window(x, y, 1.3 * size)
    paper.absorbed[rows, columns] *= 1 - 0.80 * smoothstep(1.0, 0.75, np.hypot(right, down) / size)[:, :, None]
    for share, count in ((1.0, 6), (0.72, 5)):
        start = paper.draw.uniform(0, 2 * np.pi)
        for angle in start + np.arange(count) * 2 * np.pi / count + paper.draw.normal(0, 0.13, count):
            long = share * size * paper.draw.uniform(0.85, 1.1)
            paint = paints[paper.draw.integers(len(paints))]
            _petal(paper, (x, y), angle, (long, long * paper.draw.uniform(0.85, 1.1)), paint, 0.55)
            for spread in paper.draw.normal(0, 0.22, 3):
                _petal(paper, (x, y), angle + spread, (long * paper.draw.uniform(0.5, 0.8), 7), paint, 0.45, 0.4)
    for _ in range(5):
        angle = paper.draw.uniform(0, 2 * np.pi)
        _petal(paper, (x, y), angle, (0.26 * size, 0.24 * size), HEART, 0.55)
    for _ in range(16):
        angle, far = paper.draw.uniform(0, 2 * np.pi), paper.draw.uniform(0.2, 0.36) * size
        _drop(
            paper, x + far * np.cos(angle), y + far * np.sin(angle), paper.draw.uniform(1.5, 3.5), YELLOWS[2] * 0.8, 1.1
        )


def _drop(paper: Sheet, x: float, y: float, size: float, paint: Colour, strength: float) -> None:
    rows, columns, right, down = _window(x, y, size + 12)
    depth = size - np.hypot(right, down) - 0.85 * paper.ragged[rows, columns]
    paper.wash(rows, columns, depth, paint, strength)


def _blooms(paper: Sheet, count: int) -> None:
    """Drops of water that fell into paint when it was half dry."""
    for _ in range(count):
        x, y = paper.draw.uniform(0, SIDE, 2)
        size = paper.draw.uniform(14, 52)
        rows, columns, right, down = _window(x, y, 1.6 * size)
        turn = np.arctan2(down, right)
        frayed = 1 + 0.10 * np.sin(11 * turn + x) + 0.07 * np.sin(23 * turn + y)
        paper.lift(
            rows, columns, (size * frayed - np.hypot(right, down)).astype(np.float32), paper.draw.uniform(0.25, 0.55)
        )


def _spray(paper: Sheet) -> None:
    """Colour flicked from the brush."""
    paints = np.concatenate([PINKS, BLUES, YELLOWS, LEAVES])
    for _ in range(210):
        x, y = paper.draw.uniform(0, SIDE, 2)
        _drop(paper, x, y, 0.8 + 5.5 * paper.draw.random() ** 4, paints[paper.draw.integers(len(paints))], 0.75)


def _dried(paper: Sheet) -> Canvas:
    """Light through all washes, on a paper whose bumps catch it from the upper left."""
    light = 1 + 0.030 * np.clip(slope(blurred(paper.tooth, 1)), -2, 2)
    return np.asarray(sheet(PAPER) * light[:, :, None] * np.exp(-paper.absorbed))
