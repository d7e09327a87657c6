"""One way to reach a local folder, S3, GCS or Azure: the ground of ImageStore and StyleStore."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from contract.errors import SettingsError, StoreUnavailableError


def open_storage(url: str) -> ObjectStore:
    """The object store at a URL, or in a local folder, which is made when it is missing.

    Raises SettingsError when the URL is not one of a known kind or the folder cannot be made.
    """
    try:
        if "://" in url and not url.startswith("file://"):
            return from_url(url)
        return LocalStore(Path(url.removeprefix("file://")), mkdir=True)
    except (ValueError, BaseError, OSError) as error:
        raise SettingsError(
            f"The store cannot be opened ({_kind_of(error)}): ATELIER_STORE names a folder that can be written, or a "
            "URL of s3, gs or az."
        ) from error


def store_time(storage: ObjectStore) -> datetime:
    """Now by the clock with which the store dates what is put into it; that of this machine may be wrong.

    Raises what the store raises.
    """
    obstore.put(storage, "clock", b"")
    return obstore.head(storage, "clock")["last_modified"]


@contextmanager
def store_errors() -> Iterator[None]:
    """Turns the store's failures (no network, no rights, a full disk) into one that clients may read."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (BaseError, OSError) as error:
        raise StoreUnavailableError(
            f"The store does not answer ({_kind_of(error)}); try again later.", retry_after_seconds=5
        ) from error


def _kind_of(error: BaseException) -> str:
    """The kind of failure only: obstore's messages name paths."""
    cause = str(error)
    if "os error 28" in cause or "No space left" in cause:
        return "it is full"
    if "Permission denied" in cause or "Read-only" in cause:
        return "it cannot be written to"
    return type(error).__name__
