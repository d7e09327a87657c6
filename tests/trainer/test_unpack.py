"""Archives of photographs: good ones, interrupted ones and hostile ones."""

import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.errors import TrainingDataError
from trainer.unpack import Limits, unpack

Entry = tuple[str | zipfile.ZipInfo, bytes]


def photograph(number: int) -> bytes:
    """Nobody decodes it here."""
    return b"\xff\xd8\xff\xe0" + bytes([number]) * 500


GOOD: list[Entry] = [("val/", b""), *[(f"val/{number}.jpg", photograph(number)) for number in range(4)]]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "photographs.zip"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "content" / "coco"


def pack(archive: Path, entries: list[Entry], method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(archive, "w", method) as packed:
        for name, body in entries:
            packed.writestr(name, body)


def unpacked(
    archive: Path,
    folder: Path,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] = lambda *_: None,
    limits: Limits | None = None,
) -> bool:
    return unpack(archive, folder, progress=progress, stopped=stopped, limits=limits)


def refusal(archive: Path, folder: Path, limits: Limits | None = None) -> str:
    """The message. Nothing was written anywhere, and the archive is gone."""
    elsewhere = set(folder.parents[1].rglob("*")) - {archive}
    with pytest.raises(TrainingDataError) as caught:
        unpacked(archive, folder, limits=limits)
    assert set(folder.parents[1].rglob("*")) - {folder.parent} == elsewhere
    message = str(caught.value)
    assert message.startswith("photographs.zip cannot be used and was deleted: ")
    return message


def marked(name: str, kind: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (kind | 0o777) << 16
    return entry


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_photographs_are_unpacked_and_the_archive_is_deleted(archive: Path, folder: Path, method: int) -> None:
    pack(archive, [*GOOD, ("README.txt", b"hello"), ("a/b/c/x.JPEG", photograph(9))], method)
    seen: list[tuple[int, int]] = []
    assert unpacked(archive, folder, progress=lambda done, of: seen.append((done, of)))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        **{f"{number}.jpg": photograph(number) for number in range(4)},
        "x.JPEG": photograph(9),
    }
    assert seen == [(number, 5) for number in range(1, 6)]
    assert set(archive.parent.iterdir()) == {folder.parent}
    assert list(folder.parent.iterdir()) == [folder]


def test_one_that_was_begun_is_begun_again(archive: Path, folder: Path) -> None:
    pack(archive, GOOD)
    part = folder.with_name("coco.part")
    part.mkdir(parents=True)
    (part / "0.jpg").write_bytes(b"half")
    (part / "stranger.jpg").write_bytes(b"of another archive")
    assert unpacked(archive, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert (folder / "0.jpg").read_bytes() == photograph(0)


def test_the_folder_appears_at_the_end(archive: Path, folder: Path) -> None:
    pack(archive, GOOD)
    there: list[bool] = []
    assert unpacked(archive, folder, progress=lambda *_: there.append(folder.exists()))
    assert there == [False] * 4


def test_it_stops_when_asked_and_can_be_begun_again(archive: Path, folder: Path) -> None:
    pack(archive, GOOD)
    seen: list[int] = []
    assert not unpacked(archive, folder, lambda: len(seen) == 2, lambda done, _: seen.append(done))
    assert seen == [1, 2]
    assert archive.exists()
    assert list(folder.parent.iterdir()) == []
    assert unpacked(archive, folder)


@pytest.mark.parametrize("name", ["../evil.jpg", "val/../../evil.jpg", "/tmp/evil.jpg", "..\\evil.jpg", "../"])
def test_a_name_that_leads_out_is_refused(archive: Path, folder: Path, name: str) -> None:
    pack(archive, [*GOOD, (name, photograph(5))])
    assert "leads out of its folder" in refusal(archive, folder)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(archive: Path, folder: Path, kind: int) -> None:
    pack(archive, [*GOOD, (marked("val/link.jpg", kind), b"/etc/passwd")])
    assert "no file" in refusal(archive, folder)


def test_two_photographs_of_one_name_are_refused(archive: Path, folder: Path) -> None:
    pack(archive, [*GOOD, ("other/1.jpg", photograph(7))])
    assert "one name" in refusal(archive, folder)


def test_what_only_calls_itself_a_photograph_is_refused(archive: Path, folder: Path) -> None:
    pack(archive, [*GOOD, ("val/program.jpg", b"#!/bin/sh")])
    assert "no JPEG" in refusal(archive, folder)


def test_an_archive_without_photographs_is_refused(archive: Path, folder: Path) -> None:
    pack(archive, [("README.txt", b"hello")])
    assert "no photographs" in refusal(archive, folder)


@pytest.mark.parametrize("limits", [Limits(photographs=3), Limits(bytes=2000)])
def test_too_much_is_refused(archive: Path, folder: Path, limits: Limits) -> None:
    pack(archive, GOOD)
    assert "too much" in refusal(archive, folder, limits)


def test_a_bomb_is_refused(archive: Path, folder: Path) -> None:
    pack(archive, [*GOOD, ("val/bomb.jpg", photograph(0) + bytes(40 * 2**20))])
    assert archive.stat().st_size < 100_000
    assert "too large" in refusal(archive, folder)


def test_a_bomb_that_lies_about_its_size_is_refused(archive: Path, folder: Path) -> None:
    bomb = photograph(0) + bytes(40 * 2**20)
    pack(archive, [*GOOD, ("val/bomb.jpg", bomb)])
    raw = archive.read_bytes()
    assert raw.count(struct.pack("<L", len(bomb))) == 2
    archive.write_bytes(raw.replace(struct.pack("<L", len(bomb)), struct.pack("<L", 1000)))
    assert "CRC" in refusal(archive, folder)


def test_one_bit_that_fell_over_is_seen(archive: Path, folder: Path) -> None:
    pack(archive, GOOD, zipfile.ZIP_STORED)
    raw = bytearray(archive.read_bytes())
    raw[raw.index(photograph(3)) + 100] ^= 1
    archive.write_bytes(raw)
    assert "CRC" in refusal(archive, folder)


def test_a_compressed_stream_that_is_broken_is_seen(archive: Path, folder: Path) -> None:
    pack(archive, GOOD)
    raw = archive.read_bytes()
    start = raw.index(b"val/2.jpg") + len("val/2.jpg")
    archive.write_bytes(raw[:start] + b"\xff" * 8 + raw[start + 8 :])
    refusal(archive, folder)


@pytest.mark.parametrize(("method", "size"), [(zipfile.ZIP_DEFLATED, 505), (zipfile.ZIP_STORED, 60_000)])
def test_an_entry_that_is_shorter_than_it_says_is_refused(archive: Path, folder: Path, method: int, size: int) -> None:
    pack(archive, GOOD, method)
    archive.write_bytes(archive.read_bytes().replace(struct.pack("<L", 504), struct.pack("<L", size)))
    refusal(archive, folder)


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_a_broken_archive_is_refused(archive: Path, folder: Path, keep: float) -> None:
    pack(archive, GOOD)
    raw = archive.read_bytes()
    archive.write_bytes(raw[: int(keep * len(raw)) if isinstance(keep, float) else keep])
    refusal(archive, folder)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(archive: Path, folder: Path, method: int) -> None:
    pack(archive, GOOD, method)
    assert "not read here" in refusal(archive, folder)


def test_an_encrypted_archive_is_refused(archive: Path, folder: Path) -> None:
    pack(archive, GOOD)
    raw = bytearray(archive.read_bytes())
    at = raw.index(b"PK\x01\x02", raw.index(b"PK\x01\x02") + 1)  # the entry of the first photograph
    raw[at + 8] |= 1
    archive.write_bytes(raw)
    assert "encrypted" in refusal(archive, folder)


def test_a_disk_that_is_too_small_is_seen_before_anything_is_written(archive: Path, folder: Path) -> None:
    pack(archive, [(f"{number}.jpg", photograph(0)) for number in range(2000)])
    archive.write_bytes(archive.read_bytes().replace(struct.pack("<L", 504), struct.pack("<L", 2**32 - 2)))
    with pytest.raises(TrainingDataError, match=r"too full for the photographs of photographs\.zip: 8,192,000 MB"):
        unpacked(archive, folder, limits=Limits(photograph_bytes=2**40, bytes=2**50))
    assert archive.exists()
    assert list(folder.parent.iterdir()) == []


def test_a_folder_that_cannot_be_made_leaves_the_archive(archive: Path, folder: Path) -> None:
    pack(archive, GOOD)
    folder.parent.write_text("a file")
    with pytest.raises(TrainingDataError, match=r"^The photographs of photographs\.zip cannot be unpacked: "):
        unpacked(archive, folder)
    assert archive.exists()


def test_photographs_that_are_there_are_not_overwritten(archive: Path, folder: Path) -> None:
    pack(archive, GOOD)
    folder.mkdir(parents=True)
    (folder / "0.jpg").write_bytes(b"mine")
    with pytest.raises(TrainingDataError, match="cannot be unpacked"):
        unpacked(archive, folder)
    assert [path.read_bytes() for path in folder.iterdir()] == [b"mine"]
    assert archive.exists()
