"""Unpacks an archive of photographs that nobody needs to trust: all of it, or nothing."""

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from contract.errors import TrainingDataError
from trainer.download import Advance, Stopped, make_room, reason

SUFFIXES = {".jpg", ".jpeg"}
JPEG_START = b"\xff\xd8\xff"


@dataclass(frozen=True)
class Limits:
    """What an archive of photographs may hold."""

    photographs: int = 200_000
    photograph_bytes: int = 32 * 2**20
    bytes: int = 4 * 2**30


def unpack(archive: Path, folder: Path, *, progress: Advance, stopped: Stopped, limits: Limits | None = None) -> bool:
    """The JPEG files of a zip archive become the files of ``folder``, and the archive is deleted.

    The folder appears when it is complete; one that was begun (``NAME.part``) is begun again. Folders inside the
    archive do not count, other files are left out. False when it was stopped. Raises TrainingDataError; an archive that
    is broken, or holds what no archive of photographs holds, is deleted, too.
    """
    part = folder.with_name(f"{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        if not _unpack_into(part, archive, progress, stopped, limits or Limits()):
            return False
        os.sync()  # thousands of files: what has its name must survive a power failure
        part.rename(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        archive.unlink()
        raise TrainingDataError(f"{archive.name} cannot be used and was deleted: {error}.") from error
    except OSError as error:
        raise TrainingDataError(f"The photographs of {archive.name} cannot be unpacked: {reason(error)}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    archive.unlink()
    return True


def _unpack_into(folder: Path, archive: Path, progress: Advance, stopped: Stopped, limits: Limits) -> bool:
    with zipfile.ZipFile(archive) as packed:
        photographs = _photographs(packed.infolist(), limits)
        make_room(folder, sum(entry.file_size for entry in photographs.values()), f"the photographs of {archive.name}")
        for number, (name, entry) in enumerate(photographs.items()):
            if stopped():
                return False
            (folder / name).write_bytes(_read(packed, entry))
            progress(number + 1, len(photographs))
    return True


def _photographs(entries: Iterable[zipfile.ZipInfo], limits: Limits) -> dict[str, zipfile.ZipInfo]:
    """What is to be unpacked, by the name that it gets. Raises BadZipFile for anything suspicious, before all else."""
    photographs: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        path = PurePosixPath(entry.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in entry.filename:
            raise zipfile.BadZipFile("it holds a name that leads out of its folder")
        if entry.is_dir() or path.suffix.lower() not in SUFFIXES:
            continue
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            raise zipfile.BadZipFile("it holds something that is no file")
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise zipfile.BadZipFile("it is encrypted, or packed in a way that is not read here")
        if path.name in photographs:
            raise zipfile.BadZipFile("it holds two files of one name")
        if entry.file_size > limits.photograph_bytes:
            raise zipfile.BadZipFile("it holds a file that is too large for a photograph")
        photographs[path.name] = entry
    if not photographs:
        raise zipfile.BadZipFile("it holds no photographs")
    if len(photographs) > limits.photographs or sum(e.file_size for e in photographs.values()) > limits.bytes:
        raise zipfile.BadZipFile("it holds too much")
    return photographs


def _read(packed: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """The bytes of a JPEG file, whose CRC is right. Never decompresses more than the archive says that there is."""
    with packed.open(entry) as file:
        photograph = file.read(entry.file_size + 1)  # read() would decompress to the end; and one more checks the CRC
    if len(photograph) != entry.file_size:
        raise zipfile.BadZipFile("a file in it is shorter than it says")
    if not photograph.startswith(JPEG_START):
        raise zipfile.BadZipFile("it holds a file that is no JPEG in spite of its name")
    return photograph
