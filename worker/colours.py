"""Keeping the colours of the photograph: only its light and shade are stylized."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from generator.pixels import Pixels


def with_colours_of(content: Pixels, stylized: Pixels) -> Pixels:
    """The luminance of the stylized picture with the chroma of the content, both uint8 [H,W,3].

    Luminance-only transfer (Gatys, Bethge, Hertzmann, Shechtman 2016, "Preserving Color in Neural Artistic Style
    Transfer", 1606.05897), in the YCbCr of JPEG (BT.601, full range) where they take YIQ. They stylize the luminance
    alone, after matching that of the style picture to the content's; our network has stylized in colour before.

    Chroma is what R, G and B are beside the luminance, B = Y + 1.772 Cb and R = Y + 1.402 Cr: it stays when all three
    are moved by the same. That is exact, where a way through 8 bits of Cb and Cr would round them. What is then no
    colour of RGB is clipped.
    """
    brighter = _luminance(stylized) - _luminance(content)
    moved = content + brighter[..., np.newaxis]  # int16: -255..510
    return moved.clip(0, 255).astype(np.uint8)


def _luminance(pixels: Pixels) -> npt.NDArray[np.int16]:
    """Y = 0.299 R + 0.587 G + 0.114 B of each pixel [H,W], rounded to 0..255."""
    return np.asarray(Image.fromarray(pixels).convert("L")).astype(np.int16)
