"""Real things to test with: a Redis server, a store in a folder, a tiny generator, and a whole running service."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from collections.abc import Generator as Steps
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
import torch
from redis import Redis, RedisError

from atelier.redis_server import redis_binary
from contract.jobbook import Claim, JobBook, JobKind
from contract.jobs import TrainJob
from contract.settings import ContractSettings
from contract.storage import open_storage
from contract.styles import StyleCard, StyleDescription, StyleSource, StyleStore
from generator.checkpoint import Checkpoint, of_generator, trunk_of, vector_of
from generator.network import Generator, GeneratorConfig

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
START_SECONDS = 90

Yielded = TypeVar("Yielded")
Returned = TypeVar("Returned")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tiny layers gain nothing from threads, which wait for one another on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of photographs, paintings and hostile files that lies beside a development checkout."""
    if not SHARED.is_dir():
        pytest.skip("needs the shared data beside the checkout")
    return SHARED


def until(condition: Callable[[], bool], seconds: float = 30, what: str = "it") -> None:
    """Waits for a condition, and fails when it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} seconds for {what}"
        time.sleep(0.02)


def run_to_end(steps: "Steps[Yielded, None, Returned]") -> "tuple[Returned, list[Yielded]]":
    """What a generator function returns, and what it has yielded on the way."""
    yielded: list[Yielded] = []
    while True:
        try:
            yielded.append(next(steps))
        except StopIteration as done:
            return done.value, yielded


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis for the whole session."""
    port = free_port()
    folder = tmp_path_factory.mktemp("redis")
    command = [redis_binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        url = f"redis://127.0.0.1:{port}/0"
        until(lambda: _answers(url), what="Redis")
        yield url
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with Redis.from_url(url) as client:
            return bool(client.ping())
    except RedisError:
        return False


@pytest.fixture
def redis_client(redis_url: str) -> Iterator["Redis"]:
    """A client of an empty Redis."""
    with Redis.from_url(redis_url, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> ContractSettings:
    """Everything in a folder of the test, and short patience."""
    return ContractSettings(
        data=tmp_path / "data",
        redis_url=redis_url,
        builtin_styles=tmp_path / "no-builtin-styles",
        queue_limit=12,
        heartbeat_seconds=0.2,
        lost_after_seconds=1.0,
    )


def claim_of(book: JobBook, job_id: str) -> Claim | None:
    """The right to work on this very job: what is picked before its turn comes is put back into its place."""
    others: list[Claim] = []
    try:
        kind: JobKind = "train" if isinstance(book.get(job_id).request, TrainJob) else "stylize"
        while claim := book.pick(kind).claim:
            if claim.job_id == job_id:
                return claim
            others.append(claim)
        return None
    finally:
        for other in others:
            assert book.release(other, counts=False)


@pytest.fixture
def styles(settings: ContractSettings) -> StyleStore:
    return StyleStore(open_storage(settings.store_url))


def tiny_bank(*names: str, seed: int = 0, width: int = 4) -> Checkpoint:
    """A residual generator of few channels, with random weights and a random style for each name."""
    torch.manual_seed(seed)
    generator = Generator(GeneratorConfig(width=width))
    rows = generator.neutral_style().repeat(len(names), 1)
    return of_generator(generator, names, rows + 0.3 * torch.randn_like(rows))


def publish_tiny(store: StyleStore, name: str, seed: int = 0) -> StyleCard:
    """A tiny style in the store."""
    bank = tiny_bank(name, seed=seed)
    draft = StyleDescription(
        name=name, source=StyleSource.IMPORTED, architecture="residual", norm="instance", width=bank.config.width
    )
    return store.publish(draft, trunk_of(bank), vector_of(bank, name))


@dataclass
class Stack:
    """A gateway and workers as processes of their own, on a Redis and a folder of their own."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    url: str = ""

    @property
    def styles(self) -> StyleStore:
        return StyleStore(open_storage(str(self.folder / "store")))

    def start(self, redis_url: str, **environment: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {
            **os.environ,
            "ATELIER_DATA": str(self.folder),
            "ATELIER_REDIS_URL": redis_url,
            "ATELIER_PORT": str(port),
            "ATELIER_BUILTIN_STYLES": str(self.folder / "no-builtin-styles"),
            "ATELIER_ENGINE": "torch",  # measuring the others takes seconds at each start
            "OMP_NUM_THREADS": "1",  # as one_thread
            **environment,
        }
        self.run("gateway", "service.app")
        self.run("worker", "worker.app")
        until(self.ready, START_SECONDS, "the service")

    def run(self, name: str, module: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", module], env=self.environment, stdout=log, stderr=log
            )

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz").is_success
        except httpx.HTTPError:
            return False

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(60)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One running service for the tests of the HTTP interface, with the styles ``tiny`` and ``other``."""
    folder = tmp_path_factory.mktemp("stack")
    yield from running_stack(folder)


def running_stack(folder: Path, **environment: str) -> Iterator[Stack]:
    """A service that is stopped afterwards, on a Redis of its own."""
    port = free_port()
    redis = subprocess.Popen(
        [redis_binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    url = f"redis://127.0.0.1:{port}/0"
    until(lambda: _answers(url), what="Redis")
    stack = Stack(folder)
    publish_tiny(stack.styles, "tiny", seed=1)
    publish_tiny(stack.styles, "other", seed=2)
    try:
        stack.start(url, **environment)
        yield stack
    finally:
        stack.stop()
        redis.terminate()
        redis.wait()
