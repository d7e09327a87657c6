"""What engines have compiled, kept on disk for the next start: as much as fits, and work goes on without.

Compiled networks are files under a hash of the network and of the engine's version. Those of trunks that are gone and
of older versions are not told apart from the others: nobody uses them any more, and what was used longest ago leaves.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import structlog

log = structlog.get_logger()

LIMIT_BYTES = 512 * 2**20
"""A full-width trunk takes some 16 MB of it, with its sweeps."""
UNFINISHED = "unfinished-"
ORPHANED_SECONDS = 3600
"""How old an unfinished file is that nobody finishes any more."""


class Kept:
    """A folder of compiled networks, or none where it cannot be written."""

    def __init__(self, folder: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self.folder: Path | None = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            self.give_up(error)
        self.trim()

    def find(self, name: str) -> Path | None:
        """A file that was kept."""
        if self.folder is None or not (path := self.folder / name).exists():
            return None
        with suppress(OSError):
            os.utime(path)
        return path

    def keep(self, name: str, content: bytes) -> None:
        """Keeps a file; where that fails, nothing is kept any more."""
        if self.folder is None:
            return
        try:
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix=UNFINISHED, delete=False) as file:
                file.write(content)
            Path(file.name).replace(self.folder / name)
        except OSError as error:
            self.give_up(error)
        self.trim()

    def give_up(self, reason: Exception) -> None:
        log.warning(
            "compiled networks cannot be kept, each start compiles them", folder=str(self.folder), reason=str(reason)
        )
        self.folder = None

    def trim(self) -> None:
        """Deletes what was used longest ago, until the rest is within the limit, and what was left unfinished."""
        room = self._limit_bytes
        for path, used, size in sorted(self._files(), key=lambda file: -file[1]):
            room -= size
            orphaned = path.name.startswith(UNFINISHED) and time.time() - used > ORPHANED_SECONDS
            if room < 0 or orphaned:
                with suppress(OSError):  # another worker was faster
                    path.unlink()

    def _files(self) -> Iterator[tuple[Path, float, int]]:
        """(path, when it was used last, bytes)"""
        with suppress(OSError):
            for path in self.folder.iterdir() if self.folder else ():
                with suppress(OSError):  # gone meanwhile
                    found = path.stat()
                    yield path, max(found.st_atime, found.st_mtime), found.st_size
