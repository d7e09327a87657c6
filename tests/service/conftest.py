"""Pictures to send, and gateways to send them to."""

import io
import signal
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image
from redis import Redis

from contract.images import ImageStore
from contract.jobbook import JobBook
from contract.storage import open_storage
from contract.styles import StyleStore
from service.app import Server, create_app
from service.settings import ServiceSettings
from tests.conftest import Stack, free_port, publish_tiny, until

PATIENCE_SECONDS = 60


def drawn(width: int = 48, height: int = 32) -> Image.Image:
    """A picture without symmetry."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return Image.fromarray((np.stack([x, y, 1 - x * y], axis=-1) * 200 + 20).astype(np.uint8))


def with_alpha(width: int = 48, height: int = 32) -> Image.Image:
    """Invisible on the left."""
    image = drawn(width, height)
    image.putalpha(
        Image.fromarray(np.where(np.arange(width) < width // 2, 0, 255).astype(np.uint8)[None].repeat(height, 0))
    )
    return image


def saved(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, file_format, **options)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def png_that_says_it_has(width: int, height: int) -> bytes:
    """A PNG of a header and no pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture(scope="session")
def client(stack: Stack) -> Iterator[httpx.Client]:
    """Talks to the whole service."""
    with httpx.Client(base_url=stack.url, timeout=PATIENCE_SECONDS) as client:
        yield client


def post(client: httpx.Client, data: bytes, headers: dict[str, str] | None = None, **options: Any) -> httpx.Response:
    """POST /stylize in the plainest form: the picture as the body, the options in the query."""
    query = {"style": "tiny", **options}
    return client.post("/stylize", params=query, content=data, headers={"Content-Type": "image/png", **(headers or {})})


def code(response: httpx.Response) -> str:
    """The code of a problem, which must be one in form."""
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == response.status_code >= 400
    assert problem["title"]
    assert problem["detail"]
    assert problem["type"].endswith(problem["code"])
    return str(problem["code"])


def parameters(response: httpx.Response) -> list[str]:
    """The parameters that a problem names."""
    assert response.status_code == 422
    assert code(response) == "invalid-parameter"
    return [item["parameter"] for item in response.json()["errors"]]


@dataclass(frozen=True)
class LoneGateway:
    """A gateway in a thread of the tests. No worker takes its jobs: what becomes of them is the test's."""

    server: Server
    client: httpx.Client
    book: JobBook
    images: ImageStore
    styles: StyleStore


Gateways = Callable[..., AbstractContextManager[LoneGateway]]


@pytest.fixture
def gateways(redis_client: "Redis", redis_url: str, tmp_path: Path) -> Gateways:
    """Starts a gateway with these settings."""

    @contextmanager
    def start(**changes: Any) -> Iterator[LoneGateway]:
        values = {
            "data": tmp_path,
            "redis_url": redis_url,
            "builtin_styles": tmp_path / "no-builtin-styles",
            "port": free_port(),
            **changes,
        }
        settings = ServiceSettings(**values)
        storage = open_storage(settings.store_url)
        publish_tiny(StyleStore(storage), "tiny")
        server = Server(uvicorn.Config(create_app(settings), port=settings.port, log_config=None))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            until(lambda: server.started, what="the gateway")
            with httpx.Client(base_url=f"http://127.0.0.1:{settings.port}", timeout=PATIENCE_SECONDS) as client:
                yield LoneGateway(
                    server, client, JobBook(redis_client, settings), ImageStore(storage), StyleStore(storage)
                )
        finally:
            server.handle_exit(signal.SIGTERM, None)
            thread.join()

    return start


@pytest.fixture
def gateway(gateways: Gateways) -> Iterator[LoneGateway]:
    """A gateway without any worker."""
    with gateways() as gateway:
        yield gateway
