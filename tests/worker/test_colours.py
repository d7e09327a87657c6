"""Keeping the colours: the chroma is the content's, the luminance the stylized picture's."""

import numpy as np
import numpy.typing as npt
import pytest

from generator.pixels import Pixels
from worker.colours import with_colours_of

Planes = npt.NDArray[np.float64]


def luminance_and_chroma(pixels: Pixels) -> tuple[Planes, Planes]:
    """Y [H,W] and Cb, Cr [H,W,2] of ITU-R BT.601 in full range, as JPEG has them (JFIF 1.02), around zero."""
    red, green, blue = np.moveaxis(pixels.astype(float), -1, 0)
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    return luminance, np.stack([(blue - luminance) / 1.772, (red - luminance) / 1.402], axis=-1)


def picture(seed: int, low: int = 0, high: int = 256) -> Pixels:
    return np.random.default_rng(seed).integers(low, high, (32, 48, 3)).astype(np.uint8)


@pytest.mark.parametrize("seed", range(3))
def test_the_luminance_is_new_and_the_chroma_is_not(seed: int) -> None:
    content, stylized = picture(seed, 108, 148), picture(seed + 1, 60, 196)  # of too little chroma to be clipped
    kept = luminance_and_chroma(with_colours_of(content, stylized))
    assert np.abs(kept[0] - luminance_and_chroma(stylized)[0]).max() <= 1
    assert np.abs(kept[1] - luminance_and_chroma(content)[1]).max() < 1e-9


def test_what_is_no_colour_of_rgb_is_clipped_and_nothing_wraps_around() -> None:
    blue = np.full((4, 4, 3), (0, 0, 255), np.uint8)  # its luminance is 29
    white, black = np.full_like(blue, 255), np.zeros_like(blue)
    assert (with_colours_of(blue, white) == (226, 226, 255)).all()
    assert (with_colours_of(blue, black) == (0, 0, 226)).all()


def test_a_picture_with_its_own_colours_stays_as_it_is() -> None:
    assert np.array_equal(with_colours_of(picture(0), picture(0)), picture(0))


def test_a_grey_photograph_stays_grey() -> None:
    grey = np.repeat(picture(0)[..., :1], 3, axis=2)
    kept = with_colours_of(grey, picture(1))
    assert np.ptp(kept, axis=2).max() == 0
    assert np.abs(kept[..., 0] - luminance_and_chroma(picture(1))[0]).max() <= 0.51


def test_neither_picture_is_changed() -> None:
    content, stylized = picture(0), picture(1)
    with_colours_of(content, stylized)
    assert np.array_equal(content, picture(0))
    assert np.array_equal(stylized, picture(1))
