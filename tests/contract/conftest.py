"""What the tests of the contract share: a job book, a job to put into it, and a Redis that may be shot down."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis, RedisError

from atelier.redis_server import redis_binary
from contract.images import ImageRef, MediaType
from contract.jobbook import Claim, JobBook
from contract.jobs import StyleShare, StylizeJob, StylizeResult, TrainJob, TrainResult
from contract.settings import ContractSettings
from contract.styles import StyleRef, StyleStatus
from tests.conftest import claim_of, free_port, until

TINY = StyleRef(name="tiny", version=1)
RESULT = StylizeResult(media_type=MediaType.PNG, width=4, height=3, bytes=7, sha256="b" * 64)
TRAINED = TrainResult(style=StyleRef(name="dusk", version=1), status=StyleStatus.PUBLISHED)


def a_job(sha256: str = "a" * 64) -> StylizeJob:
    return StylizeJob(
        content=ImageRef(sha256=sha256, bytes=1),
        styles=(StyleShare(style=TINY),),
        size=512,
        media_type=MediaType.PNG,
        quality=80,
    )


def a_training(name: str = "dusk", *sha256: str) -> TrainJob:
    return TrainJob(name=name, images=tuple(ImageRef(sha256=sha, bytes=1) for sha in sha256 or ("c" * 64,)))


@pytest.fixture
def book(redis_client: "Redis", settings: ContractSettings) -> JobBook:
    return JobBook(redis_client, settings)


def claimed(book: JobBook, job_id: str) -> Claim:
    """A claim that must succeed."""
    claim = claim_of(book, job_id)
    assert claim is not None
    return claim


def silence(client: "Redis", job_id: str) -> None:
    """The worker has not been heard of for too long: what time does to a heartbeat, at once."""
    assert client.delete(f"atelier:heartbeat:{job_id}") == 1


@dataclass
class OwnRedis:
    """A Redis that writes everything down, and that a test may kill and start again."""

    folder: Path
    options: tuple[str, ...] = ()
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self.port = self.port or free_port()
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", "", *self.options]
        self.process = subprocess.Popen(
            [redis_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), *durable],
            stdout=subprocess.DEVNULL,
        )
        until(self.answers, what="Redis")

    def answers(self) -> bool:
        try:
            with Redis.from_url(self.url) as client:
                return bool(client.ping())
        except RedisError:
            return False

    def stop(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


@contextmanager
def own_redis(folder: Path, *options: str) -> Iterator[OwnRedis]:
    redis = OwnRedis(folder, options)
    try:
        redis.start()
        yield redis
    finally:
        redis.stop()
