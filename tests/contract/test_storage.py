"""The way to the store: where it may be, and how it says that it is out of reach."""

from pathlib import Path

import obstore
import pytest
from obstore.store import LocalStore, S3Store

from contract.errors import SettingsError, StoreUnavailableError
from contract.storage import open_storage, store_errors


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert isinstance(open_storage(str(folder)), LocalStore)
    assert folder.is_dir()


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    obstore.put(open_storage(f"file://{tmp_path}/store"), "one", b"1")
    assert (tmp_path / "store" / "one").read_bytes() == b"1"


def test_a_bucket_is_named_by_its_url() -> None:
    assert isinstance(open_storage("s3://bucket/prefix"), S3Store)


@pytest.mark.parametrize("url", ["ftp://example/store", "nonsense://store", "s3://"])
def test_a_url_of_no_known_kind_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="ATELIER_STORE"):
        open_storage(url)


def test_a_folder_that_cannot_be_made_is_reported_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(SettingsError) as caught:
        open_storage(str(tmp_path / "taken" / "store"))
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (OSError(28, "No space left on device", "/secret/place"), "it is full"),
        (PermissionError(13, "Permission denied", "/secret/place"), "it cannot be written to"),
        (OSError(30, "Read-only file system", "/secret/place"), "it cannot be written to"),
        (TimeoutError("connecting to /secret/place"), "TimeoutError"),
    ],
)
def test_a_failure_is_told_by_its_kind_and_names_no_path(failure: OSError, said: str) -> None:
    with pytest.raises(StoreUnavailableError, match=said) as caught, store_errors():
        raise failure
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is failure


def test_a_missing_file_is_no_failure_of_the_store(tmp_path: Path) -> None:
    store = open_storage(str(tmp_path))
    with pytest.raises(FileNotFoundError), store_errors():
        obstore.get(store, "nothing")
