"""The colours of the photograph: kept where only light and shade are stylized, given back at low strength."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from generator.pixels import Pixels

Matrix = npt.NDArray[np.float64]

STRIP_ROWS = 256
"""How much of a picture is in floating point at once."""
LEAST_VARIANCE = (2 / 255) ** 2
"""Added to that of the stylized picture, so that what hardly varies in it is not made much of, noise and all."""


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


def towards_palette_of(content: Pixels, stylized: Pixels, share: float) -> Pixels:
    """The stylized picture with its colours moved, by this share (0 to 1), to those of the content, both uint8 [H,W,3].

    Instance norm forgets how bright a photograph is, how much contrast it has and which tint, so the row of a bank
    that reproduces the content cannot know its colours. They are put back by the one linear map of RGB that gives the
    stylized picture the mean and the covariance of the content and moves its pixels least: the linear Monge-Kantorovich
    map (Pitié and Kokaram 2007, "The Linear Monge-Kantorovitch Linear Colour Mapping for Example-Based Colour
    Transfer", equation 5).
    """
    wanted_mean, wanted = _mean_and_covariance(content)
    mean, covariance = _mean_and_covariance(stylized)
    matrix = (1 - share) * np.eye(3) + share * _monge_kantorovich(covariance + LEAST_VARIANCE * np.eye(3), wanted)
    shift = mean + share * (wanted_mean - mean) - matrix @ mean
    moved = np.empty_like(stylized)
    for first in range(0, len(stylized), STRIP_ROWS):
        strip = stylized[first : first + STRIP_ROWS].astype(np.float32)
        strip = strip @ matrix.T.astype(np.float32) + (255 * shift).astype(np.float32)
        moved[first : first + STRIP_ROWS] = strip.round().clip(0, 255)
    return moved


def _mean_and_covariance(pixels: Pixels) -> tuple[Matrix, Matrix]:
    """Of the colours of a picture, in 0 to 1: [3] and [3,3]."""
    total, squares = np.zeros(3), np.zeros((3, 3))
    for first in range(0, len(pixels), STRIP_ROWS):
        strip = pixels[first : first + STRIP_ROWS].reshape(-1, 3).astype(np.float32) / 255
        total += strip.sum(axis=0, dtype=np.float64)
        squares += strip.T @ strip
    count = pixels.shape[0] * pixels.shape[1]
    mean = total / count
    return mean, squares / count - np.outer(mean, mean)


def _monge_kantorovich(covariance: Matrix, wanted: Matrix) -> Matrix:
    """T = A^-½ (A^½ B A^½)^½ A^-½, which is symmetric and has T A T = B. [3,3]"""
    root = _power(covariance, 0.5)
    inverse = _power(covariance, -0.5)
    return inverse @ _power(root @ wanted @ root, 0.5) @ inverse


def _power(symmetric: Matrix, exponent: float) -> Matrix:
    """Of a symmetric matrix without negative eigenvalues, but for rounding."""
    values, vectors = np.linalg.eigh(symmetric)
    return np.asarray((vectors * np.maximum(values, 1e-12) ** exponent) @ vectors.T)
