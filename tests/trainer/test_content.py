"""Batches of photographs: what they hold, and that they can be drawn again."""

import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from contract.errors import ImageTooSmallError, SettingsError, TrainingDataError
from tests.conftest import until
from tests.trainer.conftest import patches
from trainer.content import Ahead, Photographs, load, longer_side, middle_square, random_crop, shorter_side


def colours(folder: Path, count: int) -> Path:
    """A folder of ``count`` pictures of one colour each: their red is 0, 3, 6 …"""
    for number in range(count):
        Image.new("RGB", (40, 40), (3 * number, 0, 0)).save(folder / f"{number:02}.png")
    return folder


def reds(pictures: Tensor) -> list[int]:
    """Of each picture [B,3,H,W], the number that ``colours`` gave it."""
    return [round(float(red) * 255) // 3 for red in pictures[:, 0, 0, 0]]


def names(paths: list[Path]) -> list[int]:
    return sorted(int(path.stem) for path in paths)


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
    batch = Photographs(colours(tmp_path, 6), seed=0, held_out=0).batch(0, 6, 32)
    assert sorted(reds(batch)) == list(range(6))


def test_a_batch_may_be_larger_than_the_folder(tmp_path: Path) -> None:
    assert len(Photographs(colours(tmp_path, 2), seed=0).batch(0, 5, 32)) == 5


# --- Photographs that are held out ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "held_out"), [(2, 1), (4, 1), (9, 1), (10, 2), (39, 7), (80, 8)])
def test_every_photograph_comes_in_a_batch_or_is_held_out(tmp_path: Path, count: int, held_out: int) -> None:
    photographs = Photographs(colours(tmp_path, count), seed=0)
    kept = reds(photographs.held_out_squares(100, 32))
    trained = {red for number in range(2 * count) for red in reds(photographs.batch(number, 4, 32))}
    assert len(kept) == held_out
    assert trained | set(kept) == set(range(count))
    assert trained & set(kept) == set()


def test_of_a_single_photograph_nothing_can_be_held_out(tmp_path: Path) -> None:
    photographs = Photographs(colours(tmp_path, 1), seed=0)
    assert torch.equal(photographs.held_out_squares(8, 40)[0], photographs.batch(0, 1, 40)[0])


def test_the_same_photographs_are_held_out_wherever_the_folder_is_and_whatever_the_seed(tmp_path: Path) -> None:
    kept = set()
    for folder, seed in (("one", 0), ("other", 1)):
        (tmp_path / folder).mkdir()
        found = Photographs(colours(tmp_path / folder, 20), seed).held_out
        kept.add(tuple(names(found)))
    assert len(kept) == 1


def test_other_photographs_are_shown_when_one_that_is_held_out_cannot_be_read(tmp_path: Path) -> None:
    photographs = Photographs(colours(tmp_path, 20), seed=0)
    whole = reds(photographs.held_out_squares(3, 32))
    photographs.held_out[1].write_bytes(b"not a picture")
    assert reds(photographs.held_out_squares(3, 32)) == [whole[0], whole[2], int(photographs.held_out[3].stem)]
    for path in photographs.held_out:
        path.write_bytes(b"not a picture")
    with pytest.raises(TrainingDataError, match="held out"):
        photographs.held_out_squares(3, 32)


def test_a_held_out_photograph_shows_its_middle() -> None:
    picture = Image.new("RGB", (120, 40))
    picture.paste((255, 255, 255), (40, 0, 80, 40))
    assert middle_square(picture, 40).min() == 1
    assert middle_square(picture.transpose(Image.Transpose.ROTATE_90), 20)[:, 2:-2].min() > 0.99


# --- Photographs that cannot be used -------------------------------------------------------------------------------


def header_of(width: int, height: int) -> bytes:
    """A PNG that says that it has this many pixels, and holds none."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


@pytest.mark.parametrize("kind", ["empty", "cut off", "another format", "too many pixels", "a strip"])
def test_a_photograph_that_cannot_be_used_is_passed_over(tmp_path: Path, kind: str) -> None:
    whole = patches(0, 200, 200)
    folder = colours(tmp_path, 6)
    photographs = Photographs(folder, seed=0, held_out=0)
    bad = folder / "02.png"
    if kind == "another format":
        whole.save(bad, "BMP")
    elif kind == "a strip":  # whose crops would be of a picture of 32 × 96,000 pixels
        Image.new("RGB", (3000, 1), (255, 255, 255)).save(bad)
    else:
        data = bad.read_bytes()
        half = data[: len(data) // 2]
        bad.write_bytes({"empty": b"", "cut off": half, "too many pixels": header_of(20_000, 20_000)}[kind])
    assert sorted(reds(photographs.batch(0, 6, 32))) == [0, 1, 3, 3, 4, 5], "the next one takes its place"
    again = Photographs(folder, seed=0, held_out=0)
    assert torch.equal(photographs.batch(0, 6, 32), again.batch(0, 6, 32))


def test_a_photograph_that_is_passed_over_changes_no_other_crop(tmp_path: Path) -> None:
    for number in range(6):
        patches(number, 50, 60).save(tmp_path / f"{number}.png")
    photographs = Photographs(tmp_path, seed=0, held_out=0)
    before = photographs.batch(0, 6, 32)
    (tmp_path / "2.png").write_bytes(b"not a picture")
    changed = [not torch.equal(one, other) for one, other in zip(before, photographs.batch(0, 6, 32), strict=True)]
    assert sum(changed) == 1


def test_a_folder_of_nothing_but_broken_photographs_is_refused(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(b"not a picture")
    with pytest.raises(TrainingDataError, match="None of the photographs can be read"):
        Photographs(tmp_path, seed=0).batch(0, 1, 32)


# --- Crops ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(20, 20), (20, 100), (100, 20), (63, 64)])
def test_photographs_that_are_too_small_are_enlarged(size: tuple[int, int]) -> None:
    crop = random_crop(patches(0, *size), 64, np.random.default_rng(0))
    assert crop.shape == (3, 64, 64)
    assert crop.std() > 0.05, "the picture fills the square"


def test_half_of_the_crops_are_mirrored() -> None:
    draw = np.random.default_rng(0)
    white_is_left = [bool(random_crop(halves(32, 32), 32, draw)[0, 0, 0] == 1) for _ in range(200)]
    assert 70 < sum(white_is_left) < 130


@pytest.mark.parametrize(("width", "height"), [(32, 36), (36, 32)])
def test_crops_come_from_every_place(width: int, height: int) -> None:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    picture = Image.fromarray(np.stack([x, y, x], axis=2).astype(np.uint8))
    draw = np.random.default_rng(0)
    crops = [random_crop(picture, 32, draw).mul(255).round() for _ in range(100)]
    corners = {(int(crop[0].min()), int(crop[1].min())) for crop in crops}
    assert corners == {(left, top) for left in range(width - 31) for top in range(height - 31)}


@pytest.mark.parametrize(("side", "least"), [(320, 1 / 3), (96, 1 / 3), (48, 32 / 48), (32, 1.0), (10, 1.0)])
def test_a_crop_shows_between_a_third_and_all_of_the_shorter_side(side: int, least: float) -> None:
    """A smaller photograph is not enlarged more than it must be."""
    ramp = np.linspace(0, 255, side, dtype=np.float32).astype(np.uint8)
    picture = Image.fromarray(np.broadcast_to(ramp[None, :, None], (side + 20, side, 3)).copy())
    draw = np.random.default_rng(0)
    shares = [float(crop.max() - crop.min()) for crop in (random_crop(picture, 32, draw) for _ in range(150))]
    assert min(shares) == pytest.approx(least, abs=0.04)
    assert max(shares) == pytest.approx(1, abs=0.06)


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


# --- Folders -------------------------------------------------------------------------------------------------------


def test_a_picture_that_is_asked_for_by_name_and_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.png", tmp_path / "broken.png"):
        (tmp_path / "broken.png").write_bytes(b"not a picture")
        with pytest.raises(SettingsError, match=path.name):
            load(path)


def test_pictures_are_found_in_folders_of_folders_and_other_files_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "film.mp4").write_bytes(b"")
    for name in ("a.JPG", "deep/b.png", "deep/deeper/c.webp", "d.jpeg", "e.avif"):
        patches(0).save(tmp_path / name)
    found = Photographs(tmp_path, seed=0, held_out=0).paths
    assert [path.name for path in found] == ["a.JPG", "d.jpeg", "b.png", "c.webp", "e.avif"]


@pytest.mark.parametrize("folder", ["", "nowhere"])
def test_a_folder_without_photographs_is_refused_and_its_path_is_not_told(tmp_path: Path, folder: str) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.raises(TrainingDataError, match="no photographs") as caught:
        Photographs(tmp_path / folder, seed=0)
    assert str(tmp_path) not in str(caught.value)


# --- Sizes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pixels", "size"), [(20, (38, 20)), (42, (80, 42)), (1, (2, 1))])
def test_a_shorter_side_is_what_it_should_be_and_proportions_are_kept(pixels: int, size: tuple[int, int]) -> None:
    assert shorter_side(patches(0, 40, 21), pixels).size == size
    assert shorter_side(patches(0, 21, 40), pixels).size == size[::-1]


@pytest.mark.parametrize(("pixels", "size"), [(40, (40, 21)), (80, (80, 42)), (30, (30, 16))])
def test_a_longer_side_is_what_it_should_be_and_proportions_are_kept(pixels: int, size: tuple[int, int]) -> None:
    assert longer_side(patches(0, 40, 21), pixels).size == size
    assert longer_side(patches(0, 21, 40), pixels).size == size[::-1]


def test_a_style_picture_that_is_a_strip_is_refused() -> None:
    """A descriptor network has nothing left of it after four halvings."""
    assert longer_side(patches(0, 320, 40), 128).size == (128, 16)
    with pytest.raises(ImageTooSmallError, match="128×15 pixels"):
        longer_side(patches(0, 320, 38), 128)


# --- Ahead ---------------------------------------------------------------------------------------------------------


class Making:
    """Makes [number], and remembers what it was asked for."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.lock = threading.Lock()

    def __call__(self, number: int) -> Tensor:
        with self.lock:
            self.made.append(number)
        if number == 13:
            raise TrainingDataError("none")
        return torch.tensor([number])


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_batches_made_ahead_are_the_same_in_any_order(photographs: Path, threads: int) -> None:
    source = Photographs(photographs, seed=0)
    make: Callable[[int], Tensor] = lambda number: source.batch(number, 2, 32)  # noqa: E731
    ahead = Ahead(make, threads)
    for number in (0, 1, 2, 5, 6, 3, 3, 0, 9, 8):
        assert torch.equal(ahead.get(number, iter(range(number + 1, 10))), make(number))
    ahead.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_are_made_before_they_are_asked_for_and_once_only(threads: int) -> None:
    making = Making()
    ahead = Ahead(making, threads)
    assert ahead.get(0, iter(range(1, 100))).tolist() == [0]
    until(lambda: len(making.made) == 1 + threads, what="those that follow")
    assert ahead.get(1, iter(())).tolist() == [1]
    assert sorted(making.made) == list(range(1 + threads))
    ahead.close()


def test_a_batch_that_fails_does_so_when_it_is_asked_for() -> None:
    ahead = Ahead(Making(), 1)
    assert ahead.get(12, iter((13,))).tolist() == [12]
    with pytest.raises(TrainingDataError):
        ahead.get(13, iter((14,)))
    assert ahead.get(14, iter(())).tolist() == [14]
    ahead.close()
