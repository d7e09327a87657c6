"""The sheet that a drawing is made on: its side, its coordinates, its colours, and how it becomes a picture."""

from typing import Any

import numpy as np
import numpy.typing as npt

from generator.pixels import Pixels

SIDE = 768
"""The side of a finished picture, in pixels."""

Field = npt.NDArray[np.floating[Any]]
"""H,W: one number for every pixel."""

Canvas = npt.NDArray[np.floating[Any]]
"""H,W,3 RGB, 0..1."""

Colour = npt.NDArray[np.floating[Any]]
"""RGB, 0..1."""

Mask = npt.NDArray[np.bool_]
"""H,W: which pixels."""


def colour(code: str) -> Colour:
    """A colour from six hexadecimal digits."""
    return np.array(list(bytes.fromhex(code)), dtype=np.float32) / 255


def palette(codes: str) -> Canvas:
    """Colours [N,3] from codes with spaces between them."""
    return np.stack([colour(code) for code in codes.split()])


def sheet(paper: Colour, side: int = SIDE) -> Canvas:
    return np.tile(paper, (side, side, 1)).astype(np.float32)


def plane(side: int = SIDE) -> tuple[Field, Field]:
    """x and y of every pixel's centre: from 0 at the left and the top to 1 at the right and the bottom."""
    along = (np.arange(side, dtype=np.float32) + 0.5) / side
    x, y = np.meshgrid(along, along)
    return x, y


def smoothstep(low: float, high: float, field: Field) -> Field:
    """0 below ``low``, 1 above ``high``, without a corner between. ``low`` may be the greater: then it falls."""
    t = np.clip((field - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def blend(canvas: Canvas, over: Colour | Canvas, cover: Field) -> Canvas:
    """``over`` on top of the canvas: as opaque as ``cover`` says."""
    return canvas + (over - canvas) * cover[:, :, None]


def ramp(colours: Canvas, at: Field) -> Canvas:
    """Colours [N,3] spread evenly over 0..1, read at every pixel."""
    stops = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(at, stops, colours[:, channel]) for channel in range(3)], axis=-1).astype(np.float32)


def reduced(field: Field, side: int = SIDE) -> Field:
    """The field or canvas at a smaller size: every pixel is the mean of a square. That smooths what was drawn large."""
    times = field.shape[0] // side
    squares = field.reshape(side, times, side, times, *field.shape[2:])
    return np.asarray(squares.mean(axis=(1, 3)), dtype=np.float32)


def finished(canvas: Canvas) -> Pixels:
    """The canvas as a picture of ``SIDE`` pixels."""
    levels = np.clip(reduced(canvas), 0, 1) * 255
    return np.round(levels).astype(np.uint8)
