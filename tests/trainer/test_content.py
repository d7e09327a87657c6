"""Batches of photographs: what they hold, and that they can be drawn again."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from contract.errors import SettingsError
from tests.trainer.conftest import patches
from trainer.content import Photographs, load, random_crop, scaled


def colours(folder: Path, count: int) -> Path:
    """A folder of ``count`` pictures of one colour each: their red is 0, 10, 20 …"""
    for number in range(count):
        Image.new("RGB", (40, 40), (10 * number, 0, 0)).save(folder / f"{number}.png")
    return folder


def halves(width: int, height: int) -> Image.Image:
    """White on the left, black on the right."""
    picture = Image.new("RGB", (width, height))
    picture.paste((255, 255, 255), (0, 0, width // 2, height))
    return picture


def test_a_batch_depends_on_its_seed_and_its_number_alone(photographs: Path) -> None:
    one, other = Photographs(photographs, seed=3), Photographs(photographs, seed=3)
    forwards = [one.batch(number, 2, 32) for number in range(4)]
    backwards = [other.batch(number, 2, 32) for number in reversed(range(4))]
    for first, second in zip(forwards, reversed(backwards), strict=True):
        assert torch.equal(first, second)


def test_other_numbers_and_other_seeds_give_other_batches(photographs: Path) -> None:
    batches = [Photographs(photographs, seed).batch(number, 4, 32) for seed in (0, 1) for number in (0, 1)]
    for index, batch in enumerate(batches):
        assert not any(torch.equal(batch, other) for other in batches[index + 1 :])


def test_a_batch_holds_squares_in_the_range_of_the_generator(photographs: Path) -> None:
    batch = Photographs(photographs, seed=0).batch(0, 3, 24)
    assert batch.shape == (3, 3, 24, 24)
    assert batch.dtype == torch.float32
    assert 0 <= batch.min() < 0.2
    assert 0.8 < batch.max() <= 1


def test_a_photograph_comes_once_in_a_batch_as_long_as_there_are_others(tmp_path: Path) -> None:
    batch = Photographs(colours(tmp_path, 6), seed=0).batch(0, 6, 32)
    assert batch[:, 0, 0, 0].mul(255).round().sort().values.tolist() == [0, 10, 20, 30, 40, 50]


def test_a_batch_may_be_larger_than_the_folder(tmp_path: Path) -> None:
    assert len(Photographs(colours(tmp_path, 2), seed=0).batch(0, 5, 32)) == 5


def test_every_photograph_has_its_turn(tmp_path: Path) -> None:
    photographs = Photographs(colours(tmp_path, 6), seed=0)
    reds = torch.cat([photographs.batch(number, 2, 32)[:, 0, 0, 0] for number in range(40)])
    assert len(set(reds.tolist())) == 6


@pytest.mark.parametrize("size", [(20, 20), (20, 100), (100, 20), (63, 64)])
def test_photographs_that_are_too_small_are_enlarged(size: tuple[int, int]) -> None:
    crop = random_crop(patches(0, *size), 64, np.random.default_rng(0))
    assert crop.shape == (3, 64, 64)
    assert crop.std() > 0.05, "the picture fills the square"


def test_half_of_the_crops_are_mirrored() -> None:
    draw = np.random.default_rng(0)
    white_is_left = [bool(random_crop(halves(32, 32), 32, draw)[0, 0, 0] == 1) for _ in range(200)]
    assert 70 < sum(white_is_left) < 130


def test_crops_come_from_every_place() -> None:
    x, y = np.meshgrid(np.arange(35), np.arange(36))
    picture = Image.fromarray(np.stack([x, y, x], axis=2).astype(np.uint8))
    draw = np.random.default_rng(0)
    crops = [random_crop(picture, 32, draw).mul(255).round() for _ in range(200)]
    corners = {(int(crop[0].min()), int(crop[1].min())) for crop in crops}
    assert corners == {(left, top) for left in range(4) for top in range(5)}


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the picture must be turned right
    halves(40, 20).save(path, exif=exif, quality=95)
    upright = load(path)
    assert upright.size == (20, 40)
    assert np.array(upright)[5].min() > 240, "white, which was left, is at the top"
    assert np.array(upright)[35].max() < 15


@pytest.mark.parametrize("name", ["Landscape", "Portrait"])
def test_every_orientation_of_a_camera_gives_the_same_picture(shared: Path, name: str) -> None:
    folder = shared / "hostile" / "exif_orientation"
    upright = [load(path) for path in sorted(folder.glob(f"{name}_?.jpg"))]
    assert len(upright) == 9
    assert len({picture.size for picture in upright}) == 1
    small = [np.array(picture.resize((16, 16))).astype(float) for picture in upright]
    assert max(np.abs(picture - small[1]).mean() for picture in small) < 5


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK"])
def test_photographs_of_every_colour_mode_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("photograph.jpg" if mode == "CMYK" else "photograph.png")
    patches(0).convert(mode).save(path)
    assert load(path).mode == "RGB"


def test_pictures_are_found_in_folders_of_folders_and_other_files_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "film.mp4").write_bytes(b"")
    for name in ("a.JPG", "deep/b.png", "deep/deeper/c.webp", "d.jpeg"):
        patches(0).save(tmp_path / name)
    found = Photographs(tmp_path, seed=0).paths
    assert [path.name for path in found] == ["a.JPG", "d.jpeg", "b.png", "c.webp"]


def test_a_folder_without_photographs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.raises(SettingsError, match="no photographs"):
        Photographs(tmp_path, seed=0)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no photographs"):
        Photographs(tmp_path / "nowhere", seed=0)


@pytest.mark.parametrize(("factor", "size"), [(0.5, (20, 11)), (2.0, (80, 42)), (0.001, (1, 1))])
def test_a_scaled_picture_keeps_its_proportions_and_at_least_a_pixel(factor: float, size: tuple[int, int]) -> None:
    assert scaled(patches(0, 40, 21), factor).size == size
