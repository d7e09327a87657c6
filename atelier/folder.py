"""The data folder: one service holds it, and what cannot be written there is said in a sentence."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from contract.errors import SettingsError


@contextmanager
def written(folder: Path) -> Iterator[None]:
    """Turns what goes wrong when the folder is written to into SettingsError."""
    try:
        yield
    except OSError as error:
        raise SettingsError(
            f"The data folder {folder} cannot be written to ({error.strerror}): name another one with ATELIER_DATA."
        ) from error


@contextmanager
def locked(folder: Path) -> Iterator[IO[str]]:
    """Holds the data folder as long as the file that it gives is open, here or in a child process.

    Raises SettingsError when the folder is taken or cannot be written to.
    """
    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "atelier.lock").open("a+")  # not "w": whoever holds it has written its process id there
    with file:
        _lock(file, folder)
        with written(folder):
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield file


def _lock(file: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise SettingsError(
            f"Atelier runs on the data folder {folder} already, as process {file.read()}: stop it first, or name "
            "another folder with ATELIER_DATA."
        ) from error
