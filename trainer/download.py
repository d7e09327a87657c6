"""Downloads that may be interrupted at any time: what has come stays, and only the rest is asked for.

A file grows as ``NAME.part``. The version that the server named (ETag or Last-Modified) is kept beside it, so that the
rest of another version is never put behind it. Only a file of the right length and SHA-256 gets its name.
"""

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from contract.errors import TrainingDataError

PAUSE_SECONDS = 0.1
"""How long a wait may go on after somebody asked to stop."""

Advance = Callable[[int, int], None]
"""Is told how much is done, and of how much."""
Stopped = Callable[[], bool]
"""Whether somebody asked to stop."""


@dataclass(frozen=True)
class Source:
    """A file that lies somewhere else: where, and what it must be."""

    url: str
    bytes: int
    sha256: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    def on(self, mirror: str) -> "Source":
        """The same file, under its name below another address."""
        return replace(self, url=f"{mirror.rstrip('/')}/{self.name}")


@dataclass(frozen=True)
class Patience:
    """How long a download bears with its server."""

    attempts: int = 6
    """In a row that bring nothing new. As long as the file grows, it goes on."""
    backoff_seconds: float = 1.0
    """Before the second attempt; doubled before every other one."""
    connect_seconds: float = 10.0
    read_seconds: float = 20.0
    """How long nothing may come: as long as that, nobody can stop it either."""

    def wait_seconds(self, vain: int) -> float:
        """The wait after so many attempts in a row that brought nothing new."""
        return self.backoff_seconds * 2.0 ** max(0, vain - 1)


def download(
    source: Source, target: Path, *, progress: Advance, stopped: Stopped, patience: Patience | None = None
) -> bool:
    """Brings the file to ``target``. False when it was stopped before: the same call goes on with what has come.

    Proxies and certificates are those that HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE … name. Raises TrainingDataError, whose
    message holds no address and no path.
    """
    patience = patience or Patience()
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _client(source, patience) as client:
            transfer = _Transfer(source, part, client, progress, stopped)
            if not transfer.finish(patience):
                return False
        _verify(source, part)
        part.replace(target)
        transfer.version.unlink(missing_ok=True)
    except OSError as error:
        raise TrainingDataError(f"{source.name} cannot be written: {reason(error)}.") from error
    return True


def _client(source: Source, patience: Patience) -> httpx.Client:
    timeout = httpx.Timeout(patience.read_seconds, connect=patience.connect_seconds)
    # Compressed, neither the length nor the place to go on from would be that of the file.
    headers = {"Accept-Encoding": "identity", "User-Agent": "atelier"}
    try:
        return httpx.Client(headers=headers, timeout=timeout, follow_redirects=True)
    except (OSError, ValueError, ImportError, httpx.InvalidURL) as error:
        raise TrainingDataError(
            f"{source.name} cannot be fetched: the proxy or the certificates cannot be used that HTTP_PROXY, "
            "HTTPS_PROXY, ALL_PROXY or SSL_CERT_FILE names."
        ) from error


def make_room(folder: Path, needed_bytes: int, name: str) -> None:
    """Raises TrainingDataError when the disk has less room than that."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise TrainingDataError(
            f"The disk of the data folder is too full for {name}: {megabytes(needed_bytes)} MB more are needed, "
            f"{megabytes(free)} MB are free."
        )


def megabytes(count: int) -> str:
    return f"{round(count / 2**20):,}"


def reason(error: OSError) -> str:
    """What went wrong, without the path."""
    return "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or "the disk failed"


class _BrokenError(Exception):
    """This attempt has failed; another one may not."""


class _Transfer:
    """One file on its way into its part."""

    def __init__(self, source: Source, part: Path, client: httpx.Client, progress: Advance, stopped: Stopped) -> None:
        self.source = source
        self.part = part
        self.version = part.with_name(f"{part.name}.version")
        self._client = client
        self._progress = progress
        self._stopped = stopped
        self._answered = False

    def finish(self, patience: Patience) -> bool:
        """Receives until the part is complete. False when it was stopped."""
        if self._size > self.source.bytes:
            self._discard()
        make_room(self.part.parent, self.source.bytes - self._size, self.source.name)
        furthest, vain = self._size, 0
        while self._size < self.source.bytes:
            try:
                if self._stopped() or not self._receive():
                    return False
                trouble = "the connection ended early"
            except (_BrokenError, httpx.HTTPError) as error:
                trouble = str(error) or type(error).__name__
                self._give_up_without_network(error)
            except (httpx.InvalidURL, UnicodeError):
                raise self._failure("its address is not one") from None
            vain = 0 if self._size > furthest else vain + 1
            furthest = max(furthest, self._size)
            if vain == patience.attempts:
                raise self._failure(f"{vain} attempts in a row brought nothing new ({trouble})")
            if self._size < self.source.bytes and not pause(patience.wait_seconds(vain), self._stopped):
                return False
        return True

    def _receive(self) -> bool:
        """One request for what is still missing."""
        with self._client.stream("GET", self.source.url, headers=self._range()) as response:
            self._answered = True
            self._begin(response)
            done = self._size
            with self.part.open("ab") as file:
                for chunk in response.iter_raw():
                    if self._stopped():
                        return False
                    done += len(chunk)
                    if done > self.source.bytes:
                        raise self._another_file("more")
                    file.write(chunk)
                    self._progress(done, self.source.bytes)
        return True

    def _range(self) -> dict[str, str]:
        if not self._size:
            return {}
        known = self._known_version
        return {"Range": f"bytes={self._size}-"} | ({"If-Range": known} if known else {})

    def _begin(self, response: httpx.Response) -> None:
        """Makes the part what the body of this response belongs behind."""
        status, version = response.status_code, _version(response)
        if status == httpx.codes.PARTIAL_CONTENT and self._continues(
            response.headers.get("Content-Range", ""), version
        ):
            return
        if status in (httpx.codes.PARTIAL_CONTENT, httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE):
            self._discard()
            raise _BrokenError("the file has changed")
        if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in (
            httpx.codes.REQUEST_TIMEOUT,
            httpx.codes.TOO_EARLY,
            httpx.codes.TOO_MANY_REQUESTS,
        ):
            raise _BrokenError(f"the server answers {status}")
        if status != httpx.codes.OK:
            raise self._failure(f"the server answers {status} {response.reason_phrase}".rstrip())
        length = response.headers.get("Content-Length", str(self.source.bytes))
        if length != str(self.source.bytes):
            raise self._another_file(f"{int(length):,}")
        self.part.write_bytes(b"")
        self.version.write_text(version)  # in this order: a part is never behind the version of another one

    def _continues(self, content_range: str, version: str) -> bool:
        """Whether this is the rest of our file: servers exist that do not know If-Range."""
        if version and self._known_version and version != self._known_version:
            return False
        place, _, total = content_range.partition("/")
        return place.startswith(f"bytes {self._size}-") and total in ("*", str(self.source.bytes))

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)

    @property
    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    @property
    def _known_version(self) -> str:
        """Empty when it was lost or, by a power failure, is rubbish: the SHA-256 will tell."""
        known = self.version.read_bytes().decode("latin-1") if self.version.exists() else ""
        return known if known.isascii() and known.isprintable() else ""

    def _give_up_without_network(self, error: Exception) -> None:
        """Whoever has no network shall know at once; one that goes away meanwhile may come back."""
        if isinstance(error, httpx.UnsupportedProtocol):
            raise self._failure("its address is not one") from error
        if not self._answered and isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)):
            raise self._failure(f"nothing answers at its address ({error})") from error

    def _another_file(self, length: str) -> TrainingDataError:
        return self._failure(f"what lies at its address has {length} bytes instead of {self.source.bytes:,}")

    def _failure(self, trouble: str) -> TrainingDataError:
        return TrainingDataError(f"{self.source.name} cannot be fetched: {trouble}.")


def _version(response: httpx.Response) -> str:
    """What If-Range may hold; a weak ETag, which promises no equal bytes, may not be in it (RFC 9110, 13.1.5)."""
    etag = str(response.headers.get("ETag", ""))
    return etag if etag and not etag.startswith("W/") else str(response.headers.get("Last-Modified", ""))


def pause(seconds: float, stopped: Stopped) -> bool:
    """Waits. False when somebody asked to stop meanwhile."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not stopped():
        time.sleep(min(left, PAUSE_SECONDS))
    return not stopped()


def _verify(source: Source, part: Path) -> None:
    """Raises TrainingDataError, and deletes the part, when it is not the file."""
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    if found != source.sha256:
        part.unlink()
        raise TrainingDataError(
            f"{source.name} did not arrive as it should be and was deleted: its SHA-256 is {found}, and should be "
            f"{source.sha256}."
        )
