"""Pictures in the store: under their hash, young when put, swept when old."""

import hashlib
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from contract.errors import StoreUnavailableError
from contract.images import ImageRef, ImageStore, MediaType, fitted
from contract.storage import open_storage

HOUR = timedelta(hours=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> ImageStore:
    return ImageStore(open_storage(str(folder)))


def _grow_old(folder: Path, ref: ImageRef, seconds: float = 7200) -> None:
    then = time.time() - seconds
    os.utime(folder / ref.path, (then, then))


def test_a_picture_is_kept_under_the_hash_of_its_bytes(store: ImageStore, folder: Path) -> None:
    ref = store.put(b"picture")
    assert ref == ImageRef(sha256=hashlib.sha256(b"picture").hexdigest(), bytes=7)
    assert (folder / ref.path).read_bytes() == b"picture"
    assert store.open(ref) == b"picture"


def test_the_same_picture_is_kept_once(store: ImageStore, folder: Path) -> None:
    assert store.put(b"picture") == store.put(b"picture")
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 1


def test_a_reader_never_sees_half_a_picture(store: ImageStore) -> None:
    picture = bytes(range(256)) * 8000
    ref = store.put(picture)
    with ThreadPoolExecutor(4) as pool:
        puts = [pool.submit(store.put, picture) for _ in range(20)]
        opens = [pool.submit(store.open, ref) for _ in range(20)]
        assert {put.result() for put in puts} == {ref}
        assert {hashlib.sha256(found.result()).hexdigest() for found in opens} == {ref.sha256}


def test_a_picture_that_is_not_there_is_missing(store: ImageStore) -> None:
    with pytest.raises(FileNotFoundError):
        store.open(ImageRef(sha256="0" * 64, bytes=1))


@pytest.mark.parametrize("sha256", ["", "A" * 64, "0" * 63, "../" + "0" * 61, "0" * 64 + "\n"])
def test_a_reference_holds_a_hash_and_no_path(sha256: str) -> None:
    with pytest.raises(ValidationError):
        ImageRef(sha256=sha256, bytes=1)


def test_old_pictures_are_swept_and_young_ones_stay(store: ImageStore, folder: Path) -> None:
    old, young = store.put(b"old"), store.put(b"young")
    _grow_old(folder, old)
    assert store.sweep(HOUR, in_use=set()) == 1
    assert store.open(young) == b"young"
    with pytest.raises(FileNotFoundError):
        store.open(old)
    assert store.sweep(HOUR, in_use=set()) == 0


def test_a_picture_in_use_is_never_swept(store: ImageStore, folder: Path) -> None:
    used = store.put(b"used")
    _grow_old(folder, used)
    assert store.sweep(HOUR, in_use={used.sha256}) == 0
    assert store.open(used) == b"used"


def test_a_picture_that_is_put_again_is_young_again(store: ImageStore, folder: Path) -> None:
    ref = store.put(b"again")
    _grow_old(folder, ref)
    store.put(b"again")
    assert store.sweep(HOUR, in_use=set()) == 0


def test_a_sweep_of_nothing_sweeps_nothing(store: ImageStore) -> None:
    assert store.sweep(timedelta(0), in_use=set()) == 0


def test_a_sweep_leaves_the_styles_alone(store: ImageStore, folder: Path) -> None:
    style = folder / "styles" / "tiny" / "active"
    style.parent.mkdir(parents=True)
    style.write_text("1")
    os.utime(style, (0, 0))
    _grow_old(folder, store.put(b"old"))
    assert store.sweep(HOUR, in_use=set()) == 1
    assert style.exists()


def test_a_store_out_of_reach_says_so_and_names_no_path(store: ImageStore, folder: Path) -> None:
    ref = store.put(b"picture")
    shutil.rmtree(folder)
    folder.write_text("a file where the store was")
    for use in (
        lambda: store.put(b"other"),
        lambda: store.open(ref),
        lambda: store.sweep(timedelta(0), in_use=set()),
    ):
        with pytest.raises(StoreUnavailableError) as caught:
            use()
        assert "/" not in str(caught.value)
        assert caught.value.retry_after_seconds


def test_a_media_type_knows_its_suffix_and_whether_it_is_transparent() -> None:
    assert [media.suffix for media in MediaType] == ["jpg", "png", "webp", "avif"]
    assert [media for media in MediaType if not media.keeps_alpha] == [MediaType.JPEG]


@pytest.mark.parametrize(
    ("size", "long_side", "expected"),
    [
        ((200, 100), 64, (64, 32)),
        ((100, 200), 65, (32, 65)),
        ((328, 164), 777, (777, 388)),
        ((16, 16), 131, (131, 131)),
        ((40, 30), 40, (40, 30)),
        ((1000, 1), 16, (16, 1)),
    ],
)
def test_a_size_is_fitted_to_its_long_side(size: tuple[int, int], long_side: int, expected: tuple[int, int]) -> None:
    assert fitted(size, long_side) == expected
    assert fitted(size[::-1], long_side) == expected[::-1]
