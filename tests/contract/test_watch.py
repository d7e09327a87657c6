"""Waiting for the end of a job: told at once, hardly late, and not shaken by a Redis that restarts."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from contract.errors import ImageLostError
from contract.jobbook import Claim, JobBook, connect
from contract.jobs import Progress, Stage, Timings
from contract.settings import ContractSettings
from contract.watch import connect_async, wait_for_end
from tests.contract.conftest import RESULT, TRAINED, a_job, a_training, claimed, own_redis, silence

ENDS: dict[str, Callable[[JobBook, Claim], object]] = {
    "succeeded": lambda book, claim: book.succeed(claim, RESULT, Timings()),
    "failed": lambda book, claim: book.fail(claim, ImageLostError("gone"), Timings()),
    "canceled": lambda book, claim: book.cancel(claim.job_id),
}


@asynccontextmanager
async def _client(url: str, max_connections: int = 10) -> AsyncIterator[AsyncRedis]:
    client = connect_async(url, max_connections=max_connections)
    try:
        yield client
    finally:
        await client.aclose()
        await client.connection_pool.disconnect()


async def _while_waiting(
    client: AsyncRedis, job_id: str, act: Callable[[], object], seconds: float = 30
) -> tuple[bool, float]:
    """What a wait says during which something happens in another thread, and how long after that it says so."""
    waiting = asyncio.create_task(wait_for_end(client, job_id, seconds))
    while not (await client.info("clients"))["blocked_clients"]:
        await asyncio.sleep(0.01)
    assert not waiting.done()
    await asyncio.to_thread(act)
    acted = time.monotonic()
    return await waiting, time.monotonic() - acted


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_wait_is_over_when_the_job_ends(
    book: JobBook, redis_url: str, end: Callable[[JobBook, Claim], object]
) -> None:
    claim = claimed(book, book.create(a_job()).id)

    async def watch() -> tuple[bool, float]:
        async with _client(redis_url) as client:
            return await _while_waiting(client, claim.job_id, lambda: end(book, claim))

    ended, late = asyncio.run(watch())
    assert ended
    assert late < 2


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_wait_for_a_job_that_has_ended_is_over_at_once(
    book: JobBook, redis_url: str, end: Callable[[JobBook, Claim], object]
) -> None:
    claim = claimed(book, book.create(a_job()).id)
    end(book, claim)
    ended, seconds = asyncio.run(_timed(redis_url, claim.job_id, 30))
    assert ended
    assert seconds < 2


async def _timed(url: str, job_id: str, seconds: float) -> tuple[bool, float]:
    async with _client(url) as client:
        start = time.monotonic()
        return await wait_for_end(client, job_id, seconds), time.monotonic() - start


def test_a_wait_is_over_when_its_time_is(book: JobBook, redis_url: str) -> None:
    job_id = claimed(book, book.create(a_job()).id).job_id
    ended, seconds = asyncio.run(_timed(redis_url, job_id, 0.3))
    assert not ended
    assert 0.25 < seconds < 2


def test_no_time_is_no_wait(book: JobBook, redis_url: str) -> None:
    ended, seconds = asyncio.run(_timed(redis_url, book.create(a_job()).id, 0))
    assert not ended
    assert seconds < 1


def test_a_wait_goes_on_while_the_job_is_put_back_and_tried_again(
    book: JobBook, redis_client: "Redis", redis_url: str
) -> None:
    job_id = book.create(a_job()).id

    def second_attempt() -> None:
        claimed(book, job_id)
        silence(redis_client, job_id)
        book.reap()
        book.release(claimed(book, job_id))
        book.succeed(claimed(book, job_id), RESULT, Timings())

    async def watch() -> tuple[bool, float]:
        async with _client(redis_url) as client:
            return await _while_waiting(client, job_id, second_attempt)

    assert asyncio.run(watch())[0]
    assert book.get(job_id).attempt == 3


def test_a_wait_is_not_over_when_a_training_gets_on(book: JobBook, redis_url: str) -> None:
    claim = claimed(book, book.create(a_training()).id)

    def get_on() -> None:
        for percent in range(0, 100, 20):
            assert book.progress(claim, Progress(fraction=percent / 100, stage=Stage.TRAINING))

    async def watch() -> tuple[bool, float]:
        async with _client(redis_url) as client:
            return await _while_waiting(client, claim.job_id, get_on, seconds=1)

    assert not asyncio.run(watch())[0]
    assert book.succeed(claim, TRAINED, Timings())
    assert asyncio.run(_timed(redis_url, claim.job_id, 30))[0]


def test_a_wait_outlives_a_redis_that_restarts(settings: ContractSettings, tmp_path: Path) -> None:
    with own_redis(tmp_path) as redis, connect(redis.url, patience_seconds=10) as sync:
        book = JobBook(sync, settings)
        claim = claimed(book, book.create(a_job()).id)

        def crash_then_end() -> None:
            redis.stop()
            redis.start()
            assert book.succeed(claim, RESULT, Timings())

        async def watch() -> tuple[bool, float]:
            async with _client(redis.url) as client:
                return await _while_waiting(client, claim.job_id, crash_then_end)

        assert asyncio.run(watch())[0]


def test_a_redis_that_is_away_does_not_make_a_wait_late(tmp_path: Path) -> None:
    with own_redis(tmp_path) as redis:
        url = redis.url
        redis.stop()
        ended, seconds = asyncio.run(_timed(url, "a-job", 0.6))
    assert not ended
    assert seconds < 3


def test_a_redis_that_hangs_does_not_make_a_wait_late(tmp_path: Path) -> None:
    with own_redis(tmp_path) as redis:
        assert redis.process is not None
        redis.process.send_signal(signal.SIGSTOP)
        ended, seconds = asyncio.run(_timed(redis.url, "a-job", 0.6))
        redis.process.send_signal(signal.SIGCONT)
    assert not ended
    assert seconds < 3


def test_a_wait_without_a_free_connection_is_not_late(book: JobBook, redis_url: str) -> None:
    long, short = book.create(a_job()).id, book.create(a_job()).id

    async def watch() -> tuple[bool, float]:
        async with _client(redis_url, max_connections=1) as client:
            start = time.monotonic()

            async def short_wait() -> None:
                assert not await wait_for_end(client, short, 0.3)
                seconds.append(time.monotonic() - start)
                book.cancel(long)

            seconds: list[float] = []
            ended, _ = await asyncio.gather(wait_for_end(client, long, 30), short_wait())
            return ended, seconds[0]

    ended, seconds = asyncio.run(watch())
    assert ended
    assert seconds < 2


def test_many_wait_for_the_same_job(book: JobBook, redis_url: str) -> None:
    claim = claimed(book, book.create(a_job()).id)

    async def watch() -> list[bool]:
        async with _client(redis_url) as client:
            waits = [asyncio.create_task(wait_for_end(client, claim.job_id, 30)) for _ in range(8)]
            await asyncio.to_thread(book.succeed, claim, RESULT, Timings())
            return await asyncio.gather(*waits)

    assert asyncio.run(watch()) == [True] * 8
