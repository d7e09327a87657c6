"""A real HTTP server of one file, which can do everything that goes wrong on the way."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import certifi
import pytest

from trainer.download import Patience, Source

IMPATIENT = Patience(attempts=3, backoff_seconds=0)


def stay_at_home(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """No proxy, and one certificate, as reading all of them takes longer than a test."""
    monkeypatch.setenv("NO_PROXY", "*")
    end = "-----END CERTIFICATE-----"
    (folder / "certificate.pem").write_text(Path(certifi.where()).read_text().partition(end)[0] + end)
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "certificate.pem"))


@dataclass
class Served:
    """What the server has, and how it behaves. The lists hold one entry for each request to come; then all is well."""

    files: dict[str, bytes]
    address: str = ""
    etag: str = '"one"'
    """Of every file. Empty: the server names no version."""
    modified: str = ""
    knows_range: bool = True
    knows_if_range: bool = True
    names_length: bool = True
    break_after: list[int | None] = field(default_factory=list)
    """The connection is cut after so many bytes of the body."""
    hang_after: list[int | None] = field(default_factory=list)
    """Nothing more comes after so many bytes of the body."""
    statuses: list[int] = field(default_factory=list)
    location: str = ""
    ranges: list[str] = field(default_factory=list)
    """What the answer calls the range that it holds, instead of the truth."""
    surplus: int = 0
    """How much longer than the file the answer says that it is."""
    requests: list[dict[str, str]] = field(default_factory=list)
    """The headers of every request, with its path as ``Path``."""
    released: threading.Event = field(default_factory=threading.Event)

    def source(self, name: str, **otherwise: Any) -> Source:
        body = self.files[name]
        known = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest(), **otherwise}
        return Source(f"{self.address}/{name}", **known)

    def asked_for(self) -> list[str]:
        """The range of every request."""
        return [headers.get("Range", "all") for headers in self.requests]


@contextmanager
def serving(**files: bytes) -> Iterator[Served]:
    """Files by name, with _ for the dot."""
    served = Served({name.replace("_", "."): body for name, body in files.items()})

    class Handler(_Handler):
        what = served

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
    thread.start()
    try:
        yield served
    finally:
        served.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    what: Served
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        what = self.what
        what.requests.append({**dict(self.headers.items()), "Path": self.path})
        status = what.statuses.pop(0) if what.statuses else 200
        body = what.files.get(self.path.removeprefix("/"))
        if status == 200 and body is None:
            status = 404
        if status != 200 or body is None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            if what.location:
                self.send_header("Location", what.location)
            self.end_headers()
            return
        self._send(body, self._start())

    def _start(self) -> int:
        what, wanted = self.what, self.headers.get("Range")
        if not wanted or not what.knows_range:
            return 0
        if what.knows_if_range and self.headers.get("If-Range", what.etag or what.modified) != (
            what.etag or what.modified
        ):
            return 0
        return int(wanted.removeprefix("bytes=").removesuffix("-"))

    def _send(self, body: bytes, start: int) -> None:
        what = self.what
        rest = body[start:]
        if start > 0 and not rest:
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            named = what.ranges.pop(0) if what.ranges else f"bytes {start}-{len(body) - 1}/{len(body)}"
            self.send_header("Content-Range", named)
        for header, value in (("ETag", what.etag), ("Last-Modified", what.modified)):
            if value:
                self.send_header(header, value)
        if what.names_length:
            self.send_header("Content-Length", str(len(rest) + what.surplus))
        self.send_header("Connection", "close")
        self.end_headers()
        cut = what.break_after.pop(0) if what.break_after else None
        hang = what.hang_after.pop(0) if what.hang_after else None
        self.wfile.write(rest[: cut if cut is not None else hang])
        self.wfile.flush()
        if hang is not None:
            what.released.wait()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass
