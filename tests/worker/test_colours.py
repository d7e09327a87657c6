"""Keeping the colours: the chroma is the content's, the luminance the stylized picture's; and giving them back."""

import numpy as np
import numpy.typing as npt
import pytest

from generator.pixels import Pixels
from worker.colours import STRIP_ROWS, towards_palette_of, with_colours_of

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


# --- Going back to the palette ---


def coloured(seed: int, mean: tuple[int, int, int], spread: float, height: int = 64) -> Pixels:
    """A picture whose channels vary together, around this colour."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(height, 48, 3)) @ (0.6 * np.eye(3) + generator.uniform(0, 0.4, size=(3, 3)))
    return (np.array(mean) + spread * noise).round().clip(0, 255).astype(np.uint8)


def mean_and_covariance(pixels: Pixels) -> tuple[Planes, Planes]:
    colours = pixels.reshape(-1, 3).astype(float)
    return colours.mean(axis=0), np.cov(colours.T, bias=True)


@pytest.mark.parametrize("height", [64, STRIP_ROWS + 9])
def test_a_picture_gets_the_mean_and_the_covariance_of_the_photograph(height: int) -> None:
    content, stylized = coloured(1, (150, 100, 90), 12, height), coloured(2, (90, 110, 160), 16, height)
    moved = towards_palette_of(content, stylized, 1.0)
    found, wanted = mean_and_covariance(moved), mean_and_covariance(content)
    assert np.abs(found[0] - wanted[0]).max() < 0.5
    assert np.abs(found[1] - wanted[1]).max() < 0.1 * np.abs(wanted[1]).max()


def test_colours_that_are_only_tinted_and_faded_come_back_to_the_pixel() -> None:
    content = coloured(3, (140, 120, 100), 15)
    faded = (60 + 0.6 * content).round().astype(np.uint8)
    back = towards_palette_of(content, faded, 1.0)
    assert np.abs(back.astype(int) - content).max() <= 3  # rounding, divided by 0.6, is one of them


def test_a_share_of_the_way_is_between_the_two() -> None:
    content, stylized = coloured(4, (150, 100, 90), 12), coloured(5, (90, 110, 160), 16)
    assert np.array_equal(towards_palette_of(content, stylized, 0.0), stylized)
    all_the_way = towards_palette_of(content, stylized, 1.0).astype(float)
    half = towards_palette_of(content, stylized, 0.5)
    assert np.abs(half - (all_the_way + stylized) / 2).max() <= 1


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_flat_picture_gets_the_mean_colour_and_no_noise(grey: int) -> None:
    content = coloured(6, (150, 100, 90), 12)
    flat = np.full_like(content, grey)
    moved = towards_palette_of(content, flat, 1.0)
    assert np.ptp(moved.reshape(-1, 3), axis=0).max() == 0
    assert np.abs(moved[0, 0] - mean_and_covariance(content)[0]).max() <= 1
