"""Smooth randomness: clouds, grain, streaks, and the bending of one field by another."""

import numpy as np
from PIL import Image

from trainer.drawings.canvas import SIDE, Field

COARSE = 8
"""From this radius on, a blur is made at half the size or less: nobody sees it, and it is quicker."""


def value_noise(draw: np.random.Generator, across: int, down: int, side: int = SIDE) -> Field:
    """Random values on a grid of ``across``×``down`` cells, smooth between: the mean is 0, the deviation about 1."""
    grid = draw.standard_normal((down + 3, across + 3)).astype(np.float32)
    box = (1, 1, across + 1, down + 1)  # Only inside are there neighbours on every side.
    return np.asarray(Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC, box=box))


def clouds(
    draw: np.random.Generator, across: int, down: int = 0, octaves: int = 4, side: int = SIDE, fade: float = 0.5
) -> Field:
    """Noise on several scales, each half the size and ``fade`` of the strength of the one before. Mean 0, deviation 1.

    ``across`` and ``down`` count the largest cells: when they differ, the noise is drawn out into streaks.
    """
    total = np.zeros((side, side), dtype=np.float32)
    for octave in range(octaves):
        cells = (across << octave, (down or across) << octave)
        total += fade**octave * value_noise(draw, min(cells[0], side), min(cells[1], side), side)
    return np.asarray((total - total.mean()) / (total.std() + 1e-6))


def warped(field: Field, right: Field, down: Field) -> Field:
    """The field read ``right`` and ``down`` pixels away from every pixel; past its edge the edge goes on."""
    height, width = field.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = np.clip(x + right, 0, width - 1.001), np.clip(y + down, 0, height - 1.001)
    left, top = x.astype(np.int32), y.astype(np.int32)
    x, y = x - left, y - top
    upper = field[top, left] * (1 - x) + field[top, left + 1] * x
    lower = field[top + 1, left] * (1 - x) + field[top + 1, left + 1] * x
    return np.asarray(upper * (1 - y) + lower * y, dtype=np.float32)


def blurred(field: Field, radius: float) -> Field:
    """About a Gaussian of deviation ``radius`` pixels: three running means each way."""
    if radius >= COARSE:
        return _resized(blurred(_resized(field, len(field) * 4 // COARSE), radius * 4 / COARSE), len(field))
    reach = max(1, round(radius))
    for _ in ("down", "across"):
        for _ in range(3):
            field = _running_mean(field, reach)
        field = np.ascontiguousarray(field.T)
    return field


def _resized(field: Field, side: int) -> Field:
    return np.asarray(Image.fromarray(field.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC))


def _running_mean(field: Field, reach: int) -> Field:
    """The mean of 2·reach + 1 neighbours above and below: a sum that goes down row by row."""
    rows = np.pad(field, ((reach, reach + 1), (0, 0)), mode="edge").astype(np.float32)
    total = rows[: 2 * reach + 1].sum(axis=0, dtype=np.float64)
    means = np.empty(field.shape, dtype=np.float32)
    for row in range(len(field)):
        means[row] = total
        total += rows[row + 2 * reach + 1]
        total -= rows[row]
    return means / np.float32(2 * reach + 1)


def slope(field: Field) -> Field:
    """How steeply the field rises towards the lower right, which is away from the light."""
    return np.asarray(np.gradient(field, axis=0) + np.gradient(field, axis=1))


def paper_grain(draw: np.random.Generator, side: int = SIDE) -> Field:
    """The tooth of a rough paper: bumps of a few pixels and finer ones on them. Mean 0, deviation 1."""
    coarse = clouds(draw, side // 6, octaves=2, side=side)
    fine = draw.standard_normal((side, side)).astype(np.float32)
    fine = 4 * fine + sum(np.roll(fine, step, axis) for step in (-1, 1) for axis in (0, 1))
    grain = 0.7 * coarse + fine / fine.std()
    return np.asarray(grain / grain.std(), dtype=np.float32)
