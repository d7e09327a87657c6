"""A service of which every part may be killed, stopped, starved and cut off, and the promises that must hold all the
same: every job that was accepted ends, once, and nothing hangs."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis, RedisError

from atelier.redis_server import redis_binary
from contract.storage import open_storage
from contract.styles import StyleStore
from tests.chaos.processes import begun_afresh, started
from tests.conftest import free_port, publish_tiny, until
from tests.pictures import encoded, photograph

HEARTBEAT_SECONDS = 0.3
LOST_AFTER_SECONDS = 1.5
PATIENCE_SECONDS = 90
START_SECONDS = 200
"""Of the first process, for which everything is imported, on a machine that has other things to do."""
CLIENTS = 4


class RedisServer:
    """A real one, which writes everything to disk, as `atelier up` and the containers have it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = Redis.from_url(self.url, decode_responses=True, socket_timeout=5)
        self.start()

    def start(self) -> None:
        command = [redis_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until(self._answers, what="Redis")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False


class House:
    """A gateway, and as many workers as the test starts, on a Redis and a folder of their own."""

    def __init__(self, folder: Path, *, afresh: bool = False, **environment: str) -> None:
        """``afresh``: its processes begin with Python, as it takes to preload something into them."""
        self.folder = folder
        self.afresh = afresh
        self.redis = RedisServer(folder)
        self.port = free_port()
        self.environment = {
            "ATELIER_DATA": str(folder),
            "ATELIER_REDIS_URL": self.redis.url,
            "ATELIER_PORT": str(self.port),
            "ATELIER_BUILTIN_STYLES": str(folder / "no-builtin-styles"),
            "ATELIER_ENGINE": "torch",
            "ATELIER_DEVICE": "cpu",
            "ATELIER_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "ATELIER_LOST_AFTER_SECONDS": str(LOST_AFTER_SECONDS),
            **environment,
        }
        self.processes: dict[str, Any] = {}
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)
        publish_tiny(StyleStore(open_storage(self.environment.get("ATELIER_STORE", str(folder / "store")))), "tiny")
        self.start("gateway", "service.app")

    def start(self, name: str, module: str = "worker.app", **environment: str) -> None:
        """Starts a process; ``ready`` waits for it."""
        begin = begun_afresh if self.afresh else started
        self.processes[name] = begin(module, {**self.environment, **environment}, self.folder, name)
        if module == "service.app":
            until(lambda: self.get("/livez") == 200, START_SECONDS, "the gateway")

    def kill(self, name: str) -> None:
        """Without a word."""
        process = self.processes.pop(name)
        process.kill()
        process.wait() if self.afresh else process.join()

    def send(self, name: str, number: signal.Signals) -> None:
        os.kill(self.processes[name].pid, number)

    def close(self) -> None:
        self.client.close()
        for name in list(self.processes):
            self.kill(name)
        self.redis.process.kill()
        self.redis.process.wait()

    # --- Gates ---

    def gate(self, worker: str, gate: str, what: str) -> Path:
        folder = self.folder / f"{worker}.gates"
        folder.mkdir(exist_ok=True)
        return folder / f"{gate} {what}"

    @contextmanager
    def closed(self, worker: str, gate: str) -> Iterator[None]:
        """This worker stops at this gate, if it comes there, until the end of the block."""
        self.gate(worker, gate, "reached").unlink(missing_ok=True)
        self.gate(worker, gate, "closed").touch()
        try:
            yield
        finally:
            self.gate(worker, gate, "closed").unlink()

    def reached(self, worker: str, gate: str) -> None:
        until(self.gate(worker, gate, "reached").exists, PATIENCE_SECONDS, f"{worker} {gate}")

    # --- The clients' side ---

    def get(self, path: str) -> int:
        """The status of an answer; 0 when there is none."""
        try:
            return self.client.get(path).status_code
        except httpx.HTTPError:
            return 0

    def ready(self) -> None:
        until(lambda: self.get("/readyz") == 200, PATIENCE_SECONDS, "the service to be ready")

    def post(
        self, seed: int = 0, side: int = 40, size: int | None = None, content: bytes | None = None
    ) -> httpx.Response:
        return self.client.post(
            "/stylize",
            params={"style": "tiny", **({"size": size} if size else {})},
            content=content or encoded(photograph(side, side, seed=seed)),
            headers={"Content-Type": "image/jpeg", "Prefer": "respond-async", "Cache-Control": "no-store"},
        )

    def accepted(self, seed: int = 0, side: int = 40, size: int | None = None, content: bytes | None = None) -> str:
        answer = self.post(seed, side, size, content)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def accepted_many(self, count: int) -> list[str]:
        with ThreadPoolExecutor(CLIENTS) as clients:
            return list(clients.map(self.accepted, range(count)))

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.client.get(f"/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def state(self, job_id: str) -> str:
        """Of a job; empty while nobody can say."""
        with suppress(httpx.HTTPError, AssertionError):
            return str(self.job(job_id)["state"])
        return ""

    def all_succeed(self, ids: list[str], seconds: float = PATIENCE_SECONDS) -> None:
        until(lambda: all(self.state(job_id) == "succeeded" for job_id in ids), seconds, "all jobs to succeed")

    def ended(self, state: str = "succeeded") -> int:
        """How many jobs have ended like this, as those count that end them."""
        metrics = self.client.get("/metrics").text
        found = re.search(rf'^atelier_jobs_finished_total{{kind="stylize",state="{state}"}} (\S+)$', metrics, re.M)
        return int(float(found[1])) if found else 0

    def log(self, name: str) -> str:
        """What it has written; nothing before it has begun to."""
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""


Houses = Callable[..., House]


@pytest.fixture
def houses(tmp_path: Path) -> Iterator[Houses]:
    """Builds a house with these settings."""
    built: list[House] = []

    def build(**environment: Any) -> House:
        folder = tmp_path / f"house-{len(built)}"
        folder.mkdir()
        built.append(House(folder, **environment))
        return built[-1]

    yield build
    for house in built:
        house.close()


@pytest.fixture
def house(houses: Houses) -> House:
    """Without a worker."""
    return houses()
