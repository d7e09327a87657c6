"""Compiled networks on disk: bounded, and not needed."""

import os
from pathlib import Path

from worker.kept import ORPHANED_SECONDS, UNFINISHED, Kept


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def age(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_what_is_kept_is_found_in_the_next_process(tmp_path: Path) -> None:
    Kept(tmp_path / "engine").keep("network", b"compiled")
    found = Kept(tmp_path / "engine").find("network")
    assert found
    assert found.read_bytes() == b"compiled"
    assert Kept(tmp_path / "engine").find("other") is None


def test_what_was_used_longest_ago_leaves(tmp_path: Path) -> None:
    kept = Kept(tmp_path, limit_bytes=25)
    for number in range(2):
        kept.keep(f"network {number}", bytes(10))
        age(tmp_path / f"network {number}", 100 - number)
    assert kept.find("network 0")  # used again, and now the newest
    kept.keep("network 2", bytes(10))
    assert names(tmp_path) == {"network 0", "network 2"}


def test_an_old_version_leaves_nothing_behind_for_ever(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.blob").write_bytes(bytes(10))
        age(tmp_path / f"{number}.blob", 100 - number)
    Kept(tmp_path, limit_bytes=20)
    assert names(tmp_path) == {"3.blob", "4.blob"}


def test_what_was_left_unfinished_leaves_when_it_is_old(tmp_path: Path) -> None:
    for name, seconds in (("new", 0), ("old", ORPHANED_SECONDS + 1)):
        (tmp_path / (UNFINISHED + name)).touch()
        age(tmp_path / (UNFINISHED + name), seconds)
    Kept(tmp_path)
    assert names(tmp_path) == {UNFINISHED + "new"}


def test_a_folder_that_cannot_be_made_is_gone_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    kept = Kept(tmp_path / "file" / "engine")
    kept.keep("network", b"compiled")
    assert kept.folder is None
    assert kept.find("network") is None


def test_a_folder_that_is_lost_later_is_gone_without(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "engine")
    (tmp_path / "engine").rmdir()
    kept.keep("network", b"compiled")
    assert kept.folder is None
