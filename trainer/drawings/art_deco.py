"""A city of towers before a rising sun, over a sea of scales: compass work in gold, teal, navy and cream."""

from dataclasses import dataclass

import numpy as np

from generator.pixels import Pixels
from trainer.drawings.canvas import (
    SIDE,
    Canvas,
    Colour,
    Field,
    Mask,
    blend,
    colour,
    finished,
    palette,
    plane,
    ramp,
)
from trainer.drawings.noise import blurred, clouds, slope

SEED = 17
LARGE = 2 * SIDE
GOLD = palette("7a5418 b5842f e0b95a fbe9b0 d6a944 9a6c22")
NAVY = colour("101f3f")
NIGHT = colour("0a1228")
TEAL = colour("1c6e73")
SEA = colour("0f474f")
MINT = colour("7fb5a6")
CREAM = colour("f2e6c9")
CORAL = colour("c9573c")
HORIZON = 0.66
SUN = (0.5, HORIZON)
RINGS = (0.0, 0.255, 0.40, 0.56, 0.74, 2.0)
RAYS = 36
LINE = 0.0042
"""The width of a fine gold line; the picture's side is 1."""


@dataclass(frozen=True)
class Poster:
    """Flat colours, and where gold leaf lies on them; of the whole sheet or of a part of it."""

    draw: np.random.Generator
    x: Field
    y: Field
    colours: Canvas
    gold: Field

    def part(self, left: float, top: float, right: float, bottom: float) -> "Poster":
        """A part to work on, which is quicker: what is done to it is done to the whole."""
        (start, end), (first, last) = (
            np.clip(np.array(pair) * LARGE, 0, LARGE).astype(int) for pair in ((top, bottom), (left, right))
        )
        rows, columns = slice(int(start), int(end)), slice(int(first), int(last))
        views = (values[rows, columns] for values in (self.x, self.y, self.colours, self.gold))
        return Poster(self.draw, *views)

    def fill(self, where: Mask, paint: Colour | Canvas) -> None:
        """Paint covers the gold below it."""
        self.colours[where] = paint if paint.ndim == 1 else paint[where]
        self.gold[where] = 0

    def gild(self, where: Mask, cover: Field | float = 1.0) -> None:
        np.maximum(self.gold, cover, out=self.gold, where=where)

    def line(self, where: Mask, distance: Field, width: float = LINE) -> None:
        """Gold where ``distance``, in sides of the picture, is next to nothing."""
        edge = np.clip((width / 2 - np.abs(distance)) * (LARGE / 2.0) + 0.5, 0, 1)
        self.gild(where, edge.astype(np.float32))


def _blank() -> Poster:
    ground = np.tile(NIGHT, (LARGE, LARGE, 1))
    return Poster(np.random.default_rng(SEED), *plane(LARGE), ground, np.zeros((LARGE, LARGE), dtype=np.float32))


def picture() -> Pixels:
    poster = _blank()
    _sunburst(poster)
    _corners(poster)
    for tower in ((0.10, 0.085, 0.30), (0.90, 0.085, 0.26), (0.255, 0.075, 0.40), (0.755, 0.08, 0.44)):
        _tower(poster, *tower)
    _sea(poster)
    _fan(poster, 0.5, 1.02, 0.30)
    for x in (0.06, 0.94):
        _fan(poster, x, 1.03, 0.22)
    return finished(_printed(poster))


def _sunburst(poster: Poster) -> None:
    """Rays with gold edges, crossed by rings that shift their colours on."""
    x, y = poster.x - SUN[0], poster.y - SUN[1]
    far, turn = np.hypot(x, y), np.arctan2(-y, x) / np.pi
    paints = np.stack([NAVY, CREAM, TEAL, NIGHT, MINT, SEA])
    ring = np.searchsorted(np.array(RINGS, dtype=np.float32), far) - 1
    shifted = turn * RAYS + (ring % 2).astype(np.float32) / 2
    ray, edge = np.floor(shifted).astype(int), shifted % 1
    whole = np.ones_like(ray, dtype=bool)
    poster.fill(whole, paints[(ray + 2 * ring) % len(paints)] * (1 - 0.28 * edge)[:, :, None])
    poster.line(whole, np.minimum(edge, 1 - edge) * np.pi * far / RAYS)
    for radius in RINGS[1:-1]:
        for offset in (-0.009, 0.0, 0.009):
            poster.line(whole, far - radius - offset, LINE * (1.8 if offset == 0 else 0.7))
    _beads(poster, far, turn)
    _half_sun(poster, far, turn)


def _half_sun(poster: Poster, far: Field, turn: Field) -> None:
    """Bands with a border of short spokes, around a gold disc."""
    whole = np.ones_like(far, dtype=bool)
    cell = (turn * 48) % 1
    spokes = np.minimum(cell, 1 - cell) * np.pi * far / 48
    for radius, paint in ((0.235, CORAL), (0.195, CREAM), (0.15, CORAL), (0.10, NAVY)):
        poster.fill(far < radius, paint)
        poster.line(whole, far - radius, 2 * LINE)
        poster.line(far < radius, far - radius + 0.012)
        poster.line((far < radius - 0.012) & (far > radius - 0.032), spokes, 0.8 * LINE)
    poster.gild(far < 0.055)


def _beads(poster: Poster, far: Field, turn: Field) -> None:
    """Gold discs where the rays end on a ring."""
    for radius, count, size in ((0.325, 36, 0.0095), (0.65, 36, 0.015), (0.48, 36, 0.012)):
        aside = ((turn * count + 0.5) % 1 - 0.5) * np.pi * radius / count
        poster.gild(np.hypot(aside, far - radius) < size)
        poster.line(np.ones_like(far, dtype=bool), np.hypot(aside, far - radius) - 1.5 * size, 0.7 * LINE)


def _corners(poster: Poster) -> None:
    """Quarter rosettes of nested arcs in the upper corners."""
    for corner in (0.0, 1.0):
        part = poster.part(corner - 0.32, 0, corner + 0.32, 0.32)
        far = np.hypot(part.x - corner, part.y)
        turn = np.arctan2(part.y, np.abs(part.x - corner)) / (np.pi / 2)
        for number, radius in enumerate((0.30, 0.25, 0.20, 0.15, 0.09)):
            inside = far < radius
            petal = np.floor(turn * 8).astype(int) % 2 == number % 2
            part.fill(inside, (CREAM, TEAL, NAVY, CORAL, CREAM)[number])
            if number in (0, 2):
                part.fill(inside & petal, (MINT, SEA)[number // 2])
                cell = (turn * 8) % 1
                part.line(inside, np.minimum(cell, 1 - cell) * far * np.pi / 16)
            part.line(np.ones_like(inside), far - radius, 1.7 * LINE)
            part.line(inside, far - radius + 0.010, 0.8 * LINE)


def _tower(poster: Poster, middle: float, half: float, top: float) -> None:
    """Setbacks, a crown of arcs, pilasters and windows."""
    poster = poster.part(middle - half - 0.02, 0, middle + half + 0.02, HORIZON)
    for step, paint in enumerate((NIGHT, NAVY, SEA)):
        wide, roof = half * (1 - 0.27 * step), top + 0.10 - 0.075 * step
        aside = np.abs(poster.x - middle)
        inside = (aside < wide) & (poster.y > roof)
        poster.fill(inside, paint)
        poster.line(poster.y > roof - LINE, aside - wide, 1.4 * LINE)
        poster.line(aside < wide + LINE, poster.y - roof, 1.4 * LINE)
        _windows(poster, inside & (poster.y < roof + 0.06 + step), aside, wide)
    _crown(poster, middle, half * 0.46, top - 0.05)


def _windows(poster: Poster, inside: Mask, aside: Field, wide: float) -> None:
    lane = aside / wide * 3.5
    column, row = lane % 1, (poster.y * 34) % 1
    lit = (np.floor(lane) * 7 + np.floor(poster.y * 34) * 5).astype(int) % 6
    pane = inside & (column > 0.28) & (column < 0.72) & (row > 0.25) & (row < 0.80)
    poster.fill(pane & (lit < 2), CREAM)
    poster.fill(pane & (lit == 3), CORAL)
    poster.fill(pane & (lit > 3), TEAL)
    poster.line(inside, np.minimum(column, 1 - column) * wide / 3.5, 0.7 * LINE)


def _crown(poster: Poster, middle: float, half: float, base: float) -> None:
    """Nested arches with a sunburst in each, and a spire."""
    for number in range(4):
        size = half * (1 - 0.22 * number)
        foot = base - 0.35 * half * number
        x, y = (poster.x - middle) / size, (poster.y - foot) / (1.25 * size)
        far, turn = np.hypot(x, y), np.arctan2(-y, x) / np.pi
        inside = ((far < 1) & (y < 0)) | ((np.abs(x) < 1) & (y >= 0) & (poster.y < base + 0.06))
        poster.fill(inside, (TEAL, CREAM, NAVY, CORAL)[number])
        cell = (turn * 9) % 1
        poster.line((far < 0.96) & (y < 0), np.minimum(cell, 1 - cell) * np.pi * far * size / 9, 0.8 * LINE)
        poster.line(y < 0, (far - 1) * size, 1.6 * LINE)
        poster.line((y < 0) & (far < 1), (far - 0.82) * size, 0.8 * LINE)
    tip = base - 3.4 * half
    poster.gild(
        (np.abs(poster.x - middle) < 0.0075 * np.clip((poster.y - tip) / (1.4 * half), 0, 1))
        & (poster.y < base - half * 1.5)
    )


def _sea(poster: Poster) -> None:
    """Scales of nested arcs, row before row, that grow towards us."""
    top, size, number = HORIZON - 0.012, 0.040, 0
    poster.fill(poster.y > HORIZON, NIGHT)
    while top < 1.12:
        _scale_row(poster, top, size, number)
        top += size * 0.62
        size *= 1.13
        number += 1


def _scale_row(poster: Poster, top: float, size: float, number: int) -> None:
    poster = poster.part(0, max(HORIZON, top - 0.01), 1, top + 2.1 * size)
    lane = (poster.x - 0.5) / (2 * size) + 0.5 * (number % 2)
    x = (lane - np.round(lane)) * 2
    which = np.round(lane).astype(int)
    far = np.hypot(x, (poster.y - top - size) / size)
    below = poster.y > HORIZON
    paints = np.stack([TEAL, NAVY, MINT, SEA, CREAM, NAVY])
    for share, shift in ((1.0, 0), (0.76, 1), (0.52, 3), (0.28, 4)):
        inside = (far < share) & below
        poster.fill(inside, paints[(which * 2 + number + shift) % len(paints)])
        poster.line(below & (far < share + 0.1), (far - share) * size, LINE * (1.6 if share == 1.0 else 0.9))
    poster.gild((far < 0.10) & below)


def _fan(poster: Poster, x: float, y: float, size: float) -> None:
    """A palmette in front: blades around a stem, each with a line along its middle, on a scalloped rim."""
    poster = poster.part(x - 1.1 * size, y - 1.1 * size, x + 1.1 * size, 1)
    far, turn = np.hypot(poster.x - x, poster.y - y) / size, np.arctan2(y - poster.y, poster.x - x) / np.pi
    blades = 11
    cell = (turn * blades) % 1 - 0.5
    tip = 0.86 + 0.14 * np.sqrt(np.clip(1 - (2 * cell) ** 2, 0, 1))
    inside = far < tip
    poster.fill(far < tip + 0.04, NIGHT)
    paints = np.stack([CREAM, TEAL, NAVY])
    number = np.floor(turn * blades).astype(int)
    poster.fill(inside, paints[np.abs(number - blades // 2) % 3] * (1 - 0.25 * np.abs(cell))[:, :, None])
    around = far < tip + 0.05
    poster.line(around, (far - tip) * size, 2 * LINE)
    poster.line(inside, (0.5 - np.abs(cell)) * np.pi * far * size / blades, 1.5 * LINE)
    poster.line(inside & (far > 0.42) & (far < tip - 0.08), cell * np.pi * far * size / blades, 0.8 * LINE)
    poster.line(inside, (far - tip + 0.075) * size, 0.8 * LINE)
    for radius, paint in ((0.40, CORAL), (0.30, CREAM), (0.19, NAVY)):
        poster.fill(far < radius, paint)
        poster.line(np.ones_like(inside), (far - radius) * size, 1.6 * LINE)
    poster.gild(far < 0.10)


def _printed(poster: Poster) -> Canvas:
    """Gouache that is not quite even, and gold leaf that shines across the sheet."""
    draw = poster.draw
    brushed = clouds(draw, 60, 4, octaves=3, side=LARGE)
    gouache = poster.colours * (1 + 0.035 * clouds(draw, 6, side=LARGE) + 0.035 * brushed)[:, :, None]
    gouache += 0.012 * clouds(draw, 300, octaves=1, side=LARGE)[:, :, None]
    sheen = 0.5 + 0.5 * np.sin(9 * (poster.x + 0.7 * poster.y) + 0.5 * clouds(draw, 4, side=LARGE))
    rising = slope(blurred(poster.gold, 2))
    leaf = ramp(GOLD, np.clip(0.15 + 0.6 * sheen + 0.10 * brushed - 0.9 * rising, 0, 1))
    shadow = np.roll(blurred(poster.gold, 3), (3, 3), (0, 1))
    return blend(gouache * (1 - 0.35 * shadow)[:, :, None], leaf, poster.gold)
