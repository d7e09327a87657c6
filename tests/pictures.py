"""Photographs for tests, drawn here."""

import io

import numpy as np
from PIL import Image


def photograph(width: int = 96, height: int = 64, seed: int = 0) -> Image.Image:
    """Something with a gradient, an edge and a little noise in it, different for every seed."""
    draw = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    disc = ((x - draw.random()) ** 2 + (y - draw.random()) ** 2 < 0.05).astype(float)
    pixels = np.stack([x, y, disc], axis=2) * 200 + draw.integers(0, 40, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def encoded(picture: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def decoded(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture
