"""The lock on a data folder, and the sentences about one that cannot be used."""

import os
from pathlib import Path

import pytest

from atelier.folder import locked, written
from contract.errors import SettingsError


def test_a_second_holder_is_told_who_the_first_is(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(SettingsError, match=f"already, as process {os.getpid()}:"), locked(tmp_path):
        pass
    with locked(tmp_path) as file:
        assert Path(file.name).read_text() == str(os.getpid())


def test_a_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SettingsError, match="ATELIER_DATA"), locked(tmp_path / "file" / "data"):
        pass


def test_what_goes_wrong_when_the_folder_is_written_to_becomes_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot be written to \(Read-only file system\)"), written(tmp_path):
        raise OSError(30, "Read-only file system")
