"""Marks of a hand: dabs and strokes on a canvas, tapering cuts, lines that shake a little."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.drawings.canvas import Canvas, Colour, Field

Points = npt.NDArray[np.float64]
"""N,2: x and y along a path."""


@dataclass(frozen=True)
class Stroke:
    """A short stroke with round ends, in pixels; ``bend`` is how far its middle stands off its ends."""

    x: float
    y: float
    angle: float
    length: float
    width: float
    colour: Colour
    opacity: float = 1.0
    bend: float = 0.0


@dataclass(frozen=True)
class Spot:
    """The part of a canvas under a stroke: where it is, and each pixel's place along and across the stroke."""

    rows: slice
    columns: slice
    along: Field
    across: Field


def spot_under(stroke: Stroke, canvas: Canvas) -> Spot:
    cosine, sine = math.cos(stroke.angle), math.sin(stroke.angle)
    spine, around = max(0.0, stroke.length - stroke.width) / 2, 0.65 * stroke.width + abs(stroke.bend) + 1
    rows = _within(stroke.y, spine * abs(sine) + around, canvas.shape[0])
    columns = _within(stroke.x, spine * abs(cosine) + around, canvas.shape[1])
    y = np.arange(rows.start - stroke.y, rows.stop - stroke.y - 0.5, dtype=np.float32)[:, None]
    x = np.arange(columns.start - stroke.x, columns.stop - stroke.x - 0.5, dtype=np.float32)
    along = x * cosine + y * sine
    bent = stroke.bend * (2 / max(stroke.length, 1)) ** 2
    across = y * cosine - x * sine + (bent * along * along - stroke.bend / 2)
    return Spot(rows, columns, along, across)


def _within(middle: float, reach: float, end: int) -> slice:
    start = min(end, max(0, int(middle - reach)))
    return slice(start, max(start, min(end, int(middle + reach) + 1)))


def off_the_spine(spot: Spot, stroke: Stroke) -> Field:
    """The distance from the middle line of the stroke, in half widths: 1 is its edge."""
    spine = max(0.0, stroke.length - stroke.width) / 2
    beyond = np.maximum(np.abs(spot.along) - spine, 0)
    return np.sqrt(beyond * beyond + spot.across * spot.across) * np.float32(2 / stroke.width)


def dab(canvas: Canvas, stroke: Stroke, relief: float = 0.0) -> None:
    """Thick paint: opaque, with ``relief`` lit from above on its upper side and darkened on its lower."""
    spot = spot_under(stroke, canvas)
    off = off_the_spine(spot, stroke)
    cover = stroke.opacity * np.minimum(np.maximum((1 - off) * (stroke.width / 2) + 0.5, 0), 1)
    light = 1 - spot.across * (relief * 2 / stroke.width * math.cos(stroke.angle))
    patch = canvas[spot.rows, spot.columns]
    patch += (stroke.colour * light[:, :, None] - patch) * cover[:, :, None]


def chalk(canvas: Canvas, stroke: Stroke, tooth: Field, pressure: float) -> None:
    """A stick drawn over rough paper: the more ``pressure``, the deeper between the bumps of ``tooth`` it reaches."""
    spot = spot_under(stroke, canvas)
    off = off_the_spine(spot, stroke)
    # A little streak along the stroke: no stick's end is even.
    streaks = 0.35 * np.sin(spot.across * 1.7 + np.float32(stroke.x))
    height = tooth[spot.rows, spot.columns] + streaks + np.float32(pressure) - 2.2 * off * off * off
    cover = np.float32(stroke.opacity) * np.minimum(np.maximum(height * 0.9 + 0.2, 0), 1)
    patch = canvas[spot.rows, spot.columns]
    patch += (stroke.colour - patch) * cover[:, :, None]


def smooth_path(corners: Sequence[tuple[float, float]], count: int = 60) -> Points:
    """A curve through the corners (Catmull-Rom), as ``count`` points."""
    knots = np.array([corners[0], *corners, corners[-1]], dtype=np.float64)
    place = np.linspace(0, len(corners) - 1 - 1e-9, count)
    first = place.astype(int)
    t = (place - first)[:, None]
    a, b, c, d = (knots[first + step] for step in range(4))
    return np.asarray(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))


def normals(path: Points) -> Points:
    """Unit vectors that stand on the path."""
    ahead = np.gradient(path, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True) + 1e-12
    return np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)


def ribbon(path: Points, widths: npt.NDArray[np.float64]) -> list[tuple[float, float]]:
    """The outline of a band along the path, as a polygon for Pillow."""
    aside = normals(path) * widths[:, None] / 2
    outline = np.concatenate([path + aside, (path - aside)[::-1]])
    return [(float(x), float(y)) for x, y in outline]


def taper(count: int, sharp: float = 0.7) -> npt.NDArray[np.float64]:
    """Widths 0..1 along a cut: the tool enters fast, rises out slowly."""
    t = np.linspace(0, 1, count)
    return np.asarray((np.sin(np.pi * t**0.8)).clip(0) ** sharp)


@dataclass(frozen=True)
class Brush:
    """A round brush of hairs: ``wet`` is how far its load lasts; above 1 it never runs dry."""

    width: float
    wet: float
    load: float = 1.0


def sweep(layer: Field, path: Points, widths: npt.NDArray[np.float64], brush: Brush, draw: np.random.Generator) -> None:
    """One brush stroke along a path of pixels, ``widths`` (0..1) being the pressure; the darker of two strokes stays.

    Each hair has a load of its own, so a stroke that runs dry breaks up into streaks.
    """
    lengths = np.linalg.norm(np.diff(path, axis=0), axis=1)
    steps = max(8, int(lengths.sum() * 1.8))
    hairs = max(4, int(brush.width * 1.8))
    at = np.linspace(0, len(path) - 1, steps)
    sides = np.linspace(-1, 1, hairs)
    spine, aside, pressure = (_along(values, at) for values in (path, normals(path), widths[:, None]))
    reach = pressure * brush.width / 2
    places = spine[:, None] + (reach * sides)[:, :, None] * aside[:, None]
    ink = _hairs(draw, steps, hairs, brush.wet) * brush.load
    ink *= np.clip((1 - np.abs(sides)) * reach + 0.35, 0, 1)
    columns, rows = np.round(places).astype(int).reshape(-1, 2).T
    inside = (columns >= 0) & (rows >= 0) & (columns < layer.shape[1]) & (rows < layer.shape[0])
    np.maximum.at(layer, (rows[inside], columns[inside]), ink.ravel()[inside].astype(np.float32))


def _along(values: Points, at: npt.NDArray[np.float64]) -> Points:
    """Rows of ``values`` at places between them."""
    return np.stack([np.interp(at, np.arange(len(values)), column) for column in values.T], axis=1)


def _hairs(draw: np.random.Generator, steps: int, hairs: int, wet: float) -> Points:
    """How much ink every hair gives at every step: less and less evenly, towards the end of the stroke."""
    loads = draw.normal(0, 0.35, hairs)
    coarse = draw.normal(0, 0.28, (steps // 14 + 2, hairs))
    flicker = _along(coarse, np.linspace(0, len(coarse) - 1, steps))
    spent = np.linspace(0, 1, steps)[:, None] ** 1.3
    return np.asarray(np.clip(3.2 * (wet + 0.55 - spent + loads + flicker), 0, 1))
