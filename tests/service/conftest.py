"""Pictures to send, and gateways to send them to, whose every answer is held against their description."""

import base64
import re
import signal
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import certifi
import httpx
import numpy as np
import pytest
from PIL import Image
from redis import Redis

from contract.images import ImageStore
from contract.jobbook import Claim, JobBook
from contract.jobs import StylizeJob, StylizeResult, Timings
from contract.keys import Key, Scope, add_key, hash_of, new_secret
from contract.presence import Presence
from contract.queue import JobQueue
from contract.storage import open_storage
from contract.styles import Pictures, StyleCard, StyleDescription, StyleSource, StyleStore
from contract.watch import Watcher
from generator.checkpoint import CONTENT_ROW, trunk_of, vector_of
from service.app import Server, configuration, create_app
from service.gateway import UploadRoom
from service.settings import ServiceSettings
from tests.conftest import Stack, claim_of, free_port, publish_tiny, tiny_bank, until
from tests.pictures import encoded

Field = tuple[str, tuple[str | None, bytes] | tuple[str | None, str]]

PATIENCE_SECONDS = 60
ASYNC = {"Prefer": "respond-async"}
DOCUMENT = {"Accept": "application/json"}
ALONE = {"Cache-Control": "no-store"}
"""A job of its own, whatever has been asked for before."""
TIMINGS = Timings(decode_seconds=0.1, compute_seconds=0.2, encode_seconds=0.3)


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
    return encoded(image, file_format, **options)


def png_that_says_it_has(width: int, height: int) -> bytes:
    """A PNG of a header and no pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@cache
def openapi() -> dict[str, Any]:
    return create_app(ServiceSettings()).openapi()


def must_be_documented(response: httpx.Response) -> None:
    """Fails for an answer, whatever test it is of, whose status or problem code its route does not announce."""
    for template, operations in openapi()["paths"].items():
        operation = operations.get(response.request.method.lower())
        pattern = re.sub(r"{\w+}", "[^/]+", template)
        if operation is None or not re.fullmatch(pattern, response.request.url.path, re.DOTALL):
            continue
        announced = operation["responses"].get(str(response.status_code))
        assert announced is not None, f"{template}: {response.status_code} is not documented"
        if response.headers.get("content-type") == "application/problem+json":
            response.read()
            assert f"`{response.json()['code']}`" in announced["description"], f"{template}: {response.text}"


def client_of(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=PATIENCE_SECONDS, event_hooks={"response": [must_be_documented]})


@pytest.fixture(autouse=True, scope="package")
def one_certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """To trust: reading all that there are takes longer than a test."""
    end = "-----END CERTIFICATE-----"
    path = tmp_path_factory.mktemp("certificates") / "one.pem"
    path.write_text(Path(certifi.where()).read_text().partition(end)[0] + end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(path))
        yield


@pytest.fixture(scope="session")
def client(stack: Stack) -> Iterator[httpx.Client]:
    """Talks to the whole service."""
    with client_of(stack.url) as client:
        yield client


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def post(client: httpx.Client, data: bytes, headers: dict[str, str] | None = None, **options: Any) -> httpx.Response:
    """POST /stylize in the plainest form: the picture as the body, the options in the query."""
    query = {"style": "tiny", **options}
    return client.post("/stylize", params=query, content=data, headers={"Content-Type": "image/png", **(headers or {})})


def form(client: httpx.Client, *fields: Field, **query: str) -> httpx.Response:
    return client.post("/stylize", files=list(fields), params=query)


def picture_field(data: bytes, name: str = "image") -> Field:
    return name, ("photo.jpg", data)


def text_field(name: str, value: str) -> Field:
    return name, (None, value)


def data_url(data: bytes, media_type: str = "image/jpeg") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def document(client: httpx.Client, **members: Any) -> httpx.Response:
    return client.post("/stylize", json=members)


def train(client: httpx.Client, *pictures: bytes, **options: str) -> httpx.Response:
    """POST /styles."""
    fields = [*map(picture_field, pictures), *(text_field(*option) for option in options.items())]
    return client.post("/styles", files=fields)


def publish_bank(
    store: StyleStore, *names: str, seed: int = 5, pictures: Pictures | None = None, **said: Any
) -> list[StyleCard]:
    """Tiny styles that share a trunk, which can reproduce the photograph, and what is said of them all."""
    bank = tiny_bank(CONTENT_ROW, *names, seed=seed)
    about = {"source": StyleSource.IMPORTED, "architecture": "residual", "norm": "instance", "has_content_row": True}
    descriptions = [StyleDescription(name=name, width=bank.config.width, **{**about, **said}) for name in names]
    return [store.publish(each, trunk_of(bank), vector_of(bank, each.name), pictures) for each in descriptions]


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
    queue: JobQueue
    workers: Presence
    trainers: Presence
    images: ImageStore
    styles: StyleStore
    uploads: UploadRoom
    watcher: Watcher


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
        app = create_app(settings)
        server = Server(configuration(app, settings))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            until(lambda: server.started, what="the gateway")
            with client_of(f"http://127.0.0.1:{settings.port}") as client:
                book = JobBook(redis_client, settings)
                parts = app.state.gateway
                yield LoneGateway(
                    server,
                    client,
                    book,
                    parts.queue,
                    Presence(redis_client, "worker"),
                    Presence(redis_client, "trainer"),
                    ImageStore(storage),
                    StyleStore(storage),
                    parts.uploads,
                    parts.watcher,
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


# --- A worker's work, done by hand ---------------------------------------------------------------------------------


def accepted(gateway: LoneGateway, **headers: str) -> str:
    """The id of a job of its own that waits."""
    response = post(gateway.client, saved(drawn()), headers={**ASYNC, **ALONE, **headers})
    assert response.status_code == 202
    return str(response.json()["id"])


def claimed(gateway: LoneGateway, job_id: str) -> Claim:
    claim = claim_of(gateway.book, job_id)
    assert claim is not None
    return claim


def succeed(gateway: LoneGateway, job_id: str, before_the_end: Callable[[], object] = lambda: None) -> bytes:
    """Does the worker's work; the picture."""
    claim = claimed(gateway, job_id)
    request = claim.record.request
    assert isinstance(request, StylizeJob)
    data = saved(drawn(), request.media_type.name)
    ref = gateway.images.put(data)
    result = StylizeResult(media_type=request.media_type, width=48, height=32, bytes=len(data), sha256=ref.sha256)
    before_the_end()
    assert gateway.book.succeed(claim, result, TIMINGS)
    return data


def waits(gateway: LoneGateway) -> None:
    """Returns when a request waits for a job, or follows it."""
    until(lambda: gateway.watcher.listeners > 0, what="a request that waits")


def the_one_that_waits(redis_client: "Redis") -> str:
    (job_id,) = redis_client.zrange("atelier:queued:stylize", 0, -1)
    return str(job_id)


# --- Keys ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Keys:
    """A file of keys, and the keys themselves."""

    path: Path

    def make(self, name: str, *scopes: Scope, **quotas: int) -> dict[str, str]:
        """Another key; the headers that it is sent in."""
        secret = new_secret()
        add_key(self.path, name, Key(hash=hash_of(secret), scopes=frozenset(scopes or Scope), **quotas))
        return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """A file without keys yet: nobody may call a gateway that has it."""
    (tmp_path / "keys.toml").touch()
    return Keys(tmp_path / "keys.toml")
