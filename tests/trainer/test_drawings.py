"""The style pictures that our own code draws: the same each time, rich everywhere, and different."""

import functools
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from generator.pixels import Pixels
from trainer.drawings import DRAWINGS
from trainer.drawings.__main__ import app

CELL = 96


@functools.cache
def drawn(name: str) -> Pixels:
    """The picture, drawn once for all tests."""
    return DRAWINGS[name]()


def cells(picture: Pixels) -> Pixels:
    """[8,8,96·96,3]: the picture as squares."""
    count = len(picture) // CELL
    return picture.reshape(count, CELL, count, CELL, 3).swapaxes(1, 2).reshape(count, count, CELL * CELL, 3)


def colour_shares(picture: Pixels) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """How much of the picture each of 64 colours has."""
    codes = (picture // 64).astype(int) @ (16, 4, 1)
    return np.bincount(codes.ravel(), minlength=64) / codes.size


def test_there_are_eight_styles() -> None:
    assert list(DRAWINGS) == [
        "stained_glass",
        "woodcut",
        "halftone",
        "ink_wash",
        "pointillism",
        "watercolor",
        "art_deco",
        "pastel",
    ]


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_is_a_square_rgb_picture(name: str) -> None:
    assert drawn(name).shape == (768, 768, 3)
    assert drawn(name).dtype == np.uint8


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_second_drawing_is_the_same_to_the_last_bit(name: str) -> None:
    assert np.array_equal(DRAWINGS[name](), drawn(name))


def test_the_command_writes_every_drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DRAWINGS:
        monkeypatch.setitem(DRAWINGS, name, functools.partial(drawn, name))  # not drawn again
    folder = tmp_path / "made" / "by the command"
    assert CliRunner().invoke(app, [str(folder)], catch_exceptions=False).exit_code == 0
    assert {path.name for path in folder.iterdir()} == {f"{name}.png" for name in DRAWINGS}
    for name in DRAWINGS:
        assert np.array_equal(np.array(Image.open(folder / f"{name}.png")), drawn(name)), name


@pytest.mark.parametrize("name", DRAWINGS)
def test_no_part_of_a_drawing_is_empty(name: str) -> None:
    contrast = cells(drawn(name)).mean(axis=3).std(axis=2)
    assert contrast.min() > 8, f"the flattest square is {np.argwhere(contrast == contrast.min())[0] * CELL}"


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_uses_its_range_of_light(name: str) -> None:
    dark, light = np.percentile(drawn(name).mean(axis=2), (3, 97))
    assert dark < 110
    assert light > 165


def test_no_two_drawings_have_the_same_colours() -> None:
    shares = {name: colour_shares(drawn(name)) for name in DRAWINGS}
    for one, other in combinations(shares, 2):
        assert np.abs(shares[one] - shares[other]).sum() / 2 > 0.35, f"{one} and {other}"
