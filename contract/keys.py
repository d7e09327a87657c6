"""Keys: who may call the service. The command line writes their file, and gateways read it.

    [keys.phone]
    hash = "sha256:…"
    scopes = ["stylize"]
    requests_per_minute = 60

The file holds the hash of a key, never the key. A key is 256 random bits, so a plain SHA-256 is right: the slow hashes
of passwords make up for secrets that can be guessed, and nobody guesses this one, however fast the hash is. They would
only make each request slow.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator

from contract.errors import InvalidParameterError, SettingsError
from contract.jobs import Message

KEY_PREFIX = "atl_"
"""So that people, and those who look for secrets in public places, know one when they see it."""
KEY_BYTES = 32
HASH_PATTERN = r"^sha256:[0-9a-f]{64}$"
NAME_PATTERN = r"^[a-z0-9_-]{1,64}$"


class Scope(StrEnum):
    """What a key is good for. None holds another; reading needs a key, and no scope."""

    STYLIZE = "stylize"
    TRAIN = "train"
    ADMIN = "admin"


class Key(Message):
    """What is known of a key."""

    hash: str = Field(pattern=HASH_PATTERN)
    scopes: frozenset[Scope] = Field(min_length=1)
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Requests that make jobs; None is the gateway's default."""
    uploads: int | None = Field(default=None, ge=1)
    """Bodies that may come in at once; None is the gateway's default."""


class KeyFile(Message):
    """Every key by the name of its client."""

    keys: dict[Annotated[str, Field(pattern=NAME_PATTERN)], Key] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _tells_clients_apart(self) -> Self:
        hashes = [key.hash for key in self.keys.values()]
        if doubled := [name for name, key in self.keys.items() if hashes.count(key.hash) > 1]:
            raise ValueError(f"{' and '.join(doubled)} have the same hash")
        return self


def new_secret() -> str:
    """A key that nobody has had before."""
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)


def hash_of(secret: str) -> str:
    return "sha256:" + hashlib.sha256(secret.encode()).hexdigest()


def read_keys(path: Path) -> dict[str, Key]:
    """The keys of a file. Raises SettingsError that says what is wrong with it."""
    try:
        return _parsed(path.read_text())
    except FileNotFoundError:
        raise _broken(path, "there is no such file: `atelier keys create` makes it") from None
    except OSError as error:
        raise _broken(path, f"it cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _broken(path, f"{where}: {first['msg']}" if where else first["msg"]) from None
    except ValueError as error:  # no TOML, or no text
        raise _broken(path, str(error)) from error


def add_key(path: Path, name: str, key: Key) -> None:
    """Writes another key down; a file that is not there is made, for its owner's eyes only.

    Raises InvalidParameterError for a name that is taken or is none, SettingsError for a file that cannot be used.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidParameterError(f"{name[:80]!r} is no name: use 1 to 64 of a-z, 0-9, _ and -.", parameter="name")
    with _changing(path) as (text, keys):
        if name in keys:
            raise InvalidParameterError(f"There is a key {name!r} already: revoke it first.", parameter="name")
        _replace(path, f"{text.rstrip()}\n\n{_block(name, key)}".lstrip(), {**keys, name: key})


def remove_key(path: Path, name: str) -> None:
    """Takes a key out of the file, and leaves the rest of it, comments too, as it is. Raises as ``add_key`` does."""
    with _changing(path) as (text, keys):
        if name not in keys:
            raise InvalidParameterError(f"There is no key {name[:80]!r}.", parameter="name")
        _replace(path, _without(text, name), {other: key for other, key in keys.items() if other != name})


def _parsed(text: str) -> dict[str, Key]:
    return KeyFile.model_validate(tomllib.loads(text)).keys


def _broken(path: Path, what: str) -> SettingsError:
    return SettingsError(f"The file of keys, {path} (ATELIER_API_KEYS), cannot be used: {what}.")


def _block(name: str, key: Key) -> str:
    """A key as it stands in the file. JSON's words for strings, their lists and numbers are TOML's, too."""
    values = key.model_dump(mode="json", exclude_none=True)
    values["scopes"] = [scope.value for scope in Scope if scope in key.scopes]
    return f"[keys.{name}]\n" + "".join(f"{field} = {json.dumps(value)}\n" for field, value in values.items())


def _without(text: str, name: str) -> str:
    """The text without the table of this key; comments right above the next table are that one's."""
    lines = text.splitlines(keepends=True)
    heads = [number for number, line in enumerate(lines) if line.lstrip().startswith("[")]
    for start, end in pairwise([*heads, len(lines)]):
        if re.match(rf"\s*\[\s*keys\s*\.\s*[\"']?{name}[\"']?\s*\]", lines[start]):
            while end < len(lines) and end > start + 1 and lines[end - 1].lstrip()[:1] in ("", "#"):
                end -= 1
            return "".join(lines[:start] + lines[end:])
    return text


@contextmanager
def _changing(path: Path) -> Iterator[tuple[str, dict[str, Key]]]:
    """The text of the file and its keys, while nobody else changes them; "" for a file that is not there yet."""
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise _broken(path, f"its folder cannot be opened ({error.strerror})") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # the folder, as the file itself is replaced
        yield (path.read_text(), read_keys(path)) if path.exists() else ("", {})
    finally:
        os.close(folder)


def _replace(path: Path, text: str, keys: dict[str, Key]) -> None:
    """Puts a new text in place as a whole, if it says what it should. Who may read the file stays as it was."""
    try:
        right = _parsed(text) == keys
    except ValueError:
        right = False
    if not right:
        raise _broken(path, "it is written in a way that this command cannot change: change it by hand")
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            written = Path(file.name)
            try:
                if path.exists():
                    was = path.stat()
                    os.chown(written, was.st_uid, was.st_gid)
                    written.chmod(was.st_mode)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                written.replace(path)
            except BaseException:
                written.unlink()
                raise
    except OSError as error:
        raise _broken(path, f"it cannot be written ({error.strerror})") from error
