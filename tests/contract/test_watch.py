"""Hearing of jobs: told at once, hardly late, nothing twice, and not shaken by a Redis that restarts."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from redis import Redis

from contract.errors import ImageLostError, TooManyListenersError
from contract.images import ImageRef
from contract.jobbook import Claim, JobBook, connect
from contract.jobs import Progress, Stage, Timings
from contract.settings import ContractSettings
from contract.watch import BEGINNING, CONNECTIONS, JobEvent, Watcher, connect_async, places_of_a_client
from tests.contract.conftest import RESULT, TRAINED, a_job, a_training, claimed, own_redis, silence

ENDS: dict[str, Callable[[JobBook, Claim], object]] = {
    "succeeded": lambda book, claim: book.succeed(claim, RESULT, Timings()),
    "failed": lambda book, claim: book.fail(claim, ImageLostError("gone"), Timings()),
    "canceled": lambda book, claim: book.cancel(claim.job_id),
}


@asynccontextmanager
async def _watcher(url: str, max_listeners: int = 100) -> AsyncIterator[Watcher]:
    watcher = Watcher(connect_async(url), max_listeners=max_listeners)
    try:
        yield watcher
    finally:
        await watcher.aclose()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def _while_waiting(
    watcher: Watcher, job_id: str, act: Callable[[], object], seconds: float = 30
) -> tuple[bool, float]:
    """What a wait says during which something happens in another thread, and how long after that it says so."""
    waiting = asyncio.create_task(watcher.wait_for_end(job_id, seconds))
    await _until(lambda: watcher.listeners > 0)
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
        async with _watcher(redis_url) as watcher:
            return await _while_waiting(watcher, claim.job_id, lambda: end(book, claim))

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
    async with _watcher(url) as watcher:
        start = time.monotonic()
        return await watcher.wait_for_end(job_id, seconds), time.monotonic() - start


def test_a_wait_is_over_when_its_time_is(book: JobBook, redis_url: str) -> None:
    job_id = claimed(book, book.create(a_job()).id).job_id
    ended, seconds = asyncio.run(_timed(redis_url, job_id, 0.3))
    assert not ended
    assert 0.25 < seconds < 2


def test_no_time_is_no_wait(book: JobBook, redis_url: str) -> None:
    ended, seconds = asyncio.run(_timed(redis_url, book.create(a_job()).id, 0))
    assert not ended
    assert seconds < 1


@pytest.mark.parametrize("seconds", [1e-120, 0.0003, 0.001])
def test_a_wait_whose_time_is_over_while_redis_is_asked_is_over(book: JobBook, redis_url: str, seconds: float) -> None:
    job_id = book.create(a_job()).id

    async def watch() -> None:
        async with _watcher(redis_url) as watcher:
            for _ in range(100):
                waiting = asyncio.create_task(watcher.wait_for_end(job_id, seconds))
                done, _ = await asyncio.wait({waiting}, timeout=20)
                assert done, "it hangs"
                assert not waiting.result()

    asyncio.run(watch())


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
        async with _watcher(redis_url) as watcher:
            return await _while_waiting(watcher, job_id, second_attempt)

    assert asyncio.run(watch())[0]
    assert book.get(job_id).attempt == 3


def test_a_wait_is_not_over_when_a_training_gets_on(book: JobBook, redis_url: str) -> None:
    claim = claimed(book, book.create(a_training()).id)

    def get_on() -> None:
        for percent in range(0, 100, 20):
            assert book.progress(claim, Progress(fraction=percent / 100, stage=Stage.TRAINING))

    async def watch() -> tuple[bool, float]:
        async with _watcher(redis_url) as watcher:
            return await _while_waiting(watcher, claim.job_id, get_on, seconds=1)

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
            async with _watcher(redis.url) as watcher:
                return await _while_waiting(watcher, claim.job_id, crash_then_end)

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


def test_many_wait_for_the_same_job(book: JobBook, redis_url: str) -> None:
    claim = claimed(book, book.create(a_job()).id)

    async def watch() -> list[bool]:
        async with _watcher(redis_url) as watcher:
            waits = [asyncio.create_task(watcher.wait_for_end(claim.job_id, 30)) for _ in range(8)]
            await asyncio.to_thread(book.succeed, claim, RESULT, Timings())
            return await asyncio.gather(*waits)

    assert asyncio.run(watch()) == [True] * 8


def test_a_thousand_listeners_hold_one_connection(book: JobBook, redis_client: "Redis", redis_url: str) -> None:
    claims = [claimed(book, book.create(a_job(sha256=f"{number:064x}")).id) for number in range(5)]
    before = redis_client.info("clients")["connected_clients"]

    async def watch() -> tuple[int, list[bool]]:
        async with _watcher(redis_url, max_listeners=1000) as watcher:
            waits = [asyncio.create_task(watcher.wait_for_end(claims[n % 5].job_id, 60)) for n in range(1000)]
            await _until(lambda: watcher.listeners == 1000)
            await _until(lambda: redis_client.info("clients")["blocked_clients"] == 1)
            held = redis_client.info("clients")["connected_clients"] - before
            for claim in claims:
                await asyncio.to_thread(book.succeed, claim, RESULT, Timings())
            return held, await asyncio.gather(*waits)

    held, ended = asyncio.run(watch())
    assert ended == [True] * 1000
    assert held <= CONNECTIONS


def test_one_listener_more_than_may_is_refused_until_another_has_gone(book: JobBook, redis_url: str) -> None:
    job_id = book.create(a_job()).id

    async def watch() -> None:
        async with _watcher(redis_url, max_listeners=1) as watcher:
            waiting = asyncio.create_task(watcher.wait_for_end(job_id, 60))
            await _until(lambda: watcher.listeners == 1)
            with pytest.raises(TooManyListenersError):
                await watcher.wait_for_end(job_id, 60)
            waiting.cancel()
            await _until(lambda: watcher.listeners == 0)
            assert not await watcher.wait_for_end(job_id, 0.1)

    asyncio.run(watch())


def test_a_client_takes_its_share_of_the_places_and_leaves_the_others(redis_url: str) -> None:
    async def watch() -> None:
        async with _watcher(redis_url, max_listeners=8) as watcher:
            with ExitStack() as anns, ExitStack() as others:
                for _ in range(2):
                    anns.enter_context(watcher.place("ann"))
                with pytest.raises(TooManyListenersError, match="2 requests with your key"), watcher.place("ann"):
                    pass
                for client in ("bob", "bob", "", "", "", ""):  # whoever has no name has no share
                    others.enter_context(watcher.place(client))
                with pytest.raises(TooManyListenersError, match="8 requests"), watcher.place("cid"):
                    pass
                anns.close()
                with watcher.place("ann"):
                    pass

    asyncio.run(watch())


@pytest.mark.parametrize(("places", "share"), [(1, 1), (3, 1), (8, 2), (1000, 250)])
def test_the_share_of_a_client_is_a_quarter_and_a_place_at_least(places: int, share: int) -> None:
    assert places_of_a_client(places) == share


def test_nobody_listens_to_redis_when_nobody_listens(book: JobBook, redis_client: "Redis", redis_url: str) -> None:
    job_id = book.create(a_job()).id

    async def watch() -> None:
        async with _watcher(redis_url) as watcher:
            assert not await watcher.wait_for_end(job_id, 0.1)
            await _until(lambda: redis_client.info("clients")["blocked_clients"] == 0)
            assert not await watcher.wait_for_end(job_id, 0.1)  # and again, when somebody does

    asyncio.run(watch())


# --- Following ------------------------------------------------------------------------------------------------------


async def _follow(
    watcher: Watcher, job_id: str, after: str = BEGINNING, *, idle_seconds: float = 30
) -> list[JobEvent | None]:
    return [event async for event in watcher.follow(job_id, after, idle_seconds=idle_seconds)]


def _states(events: list[JobEvent | None]) -> list[str]:
    return [event.fields.get("state", event.fields["event"]) for event in events if event]


def test_every_event_is_told_once_and_in_order_to_each_who_follows(book: JobBook, redis_url: str) -> None:
    job_id = book.create(a_training()).id

    def live() -> None:
        claim = claimed(book, job_id)
        for percent in range(50):
            assert book.progress(claim, Progress(fraction=percent / 100, stage=Stage.TRAINING))
        assert book.succeed(claim, TRAINED, Timings())

    async def watch() -> list[list[JobEvent | None]]:
        async with _watcher(redis_url) as watcher:
            following = [asyncio.create_task(_follow(watcher, job_id)) for _ in range(3)]
            await _until(lambda: watcher.listeners == 3)
            await asyncio.to_thread(live)
            return [*await asyncio.gather(*following), await _follow(watcher, job_id)]

    told = asyncio.run(watch())
    assert told == [told[0]] * 4
    assert _states(told[0]) == ["queued", "running", *["progress"] * 50, "succeeded"]


def test_who_comes_back_is_told_what_was_missed_and_no_more(book: JobBook, redis_url: str) -> None:
    claim = claimed(book, book.create(a_training()).id)
    for percent in range(10):
        assert book.progress(claim, Progress(fraction=percent / 100, stage=Stage.TRAINING))
    assert book.succeed(claim, TRAINED, Timings())

    async def watch() -> None:
        async with _watcher(redis_url) as watcher:
            events = await _follow(watcher, claim.job_id)
            for number, event in enumerate(events):
                assert event is not None
                assert event.ends or await _follow(watcher, claim.job_id, event.id) == events[number + 1 :]

    asyncio.run(watch())


def test_previews_are_an_event_when_they_are_others(book: JobBook, redis_url: str) -> None:
    claim = claimed(book, book.create(a_training()).id)
    first, second = (ImageRef(sha256=letter * 64, bytes=1) for letter in "de")
    for preview in (first, first, second):
        assert book.progress(claim, Progress(fraction=0.5, stage=Stage.TRAINING, previews=(preview,)))
    book.cancel(claim.job_id)

    async def watch() -> list[JobEvent | None]:
        async with _watcher(redis_url) as watcher:
            return await _follow(watcher, claim.job_id)

    events = asyncio.run(watch())
    assert _states(events)[2:] == ["progress", "preview", "progress", "progress", "preview", "canceled"]
    told = [event.fields["previews"] for event in events if event and "previews" in event.fields]
    assert told == [f'["{preview.sha256}"]' for preview in (first, second)]


def test_who_follows_a_job_to_which_nothing_happens_is_told_so(book: JobBook, redis_url: str) -> None:
    job_id = book.create(a_job()).id

    async def watch() -> list[JobEvent | None]:
        told = []
        async with _watcher(redis_url) as watcher:
            async for event in watcher.follow(job_id, BEGINNING, idle_seconds=0.1):
                told.append(event)
                if len(told) == 3:
                    await asyncio.to_thread(book.cancel, job_id)
        return told

    queued, *nothing, canceled = asyncio.run(watch())
    assert _states([queued, canceled]) == ["queued", "canceled"]
    assert nothing[:2] == [None, None]


def test_following_outlives_a_redis_that_restarts(settings: ContractSettings, tmp_path: Path) -> None:
    with own_redis(tmp_path) as redis, connect(redis.url, patience_seconds=10) as sync:
        book = JobBook(sync, settings)
        claim = claimed(book, book.create(a_job()).id)

        def crash_then_end() -> None:
            redis.stop()
            redis.start()
            assert book.succeed(claim, RESULT, Timings())

        async def watch() -> list[JobEvent | None]:
            async with _watcher(redis.url) as watcher:
                following = asyncio.create_task(_follow(watcher, claim.job_id))
                await _until(lambda: watcher.listeners == 1)
                await asyncio.to_thread(crash_then_end)
                return await following

        assert _states(asyncio.run(watch())) == ["queued", "running", "succeeded"]


def test_a_watcher_that_is_released_lets_go_of_all_who_listen(book: JobBook, redis_url: str) -> None:
    job_id = book.create(a_job()).id

    async def watch() -> None:
        async with _watcher(redis_url) as watcher:
            waiting = asyncio.create_task(watcher.wait_for_end(job_id, 60))
            following = asyncio.create_task(_follow(watcher, job_id))
            await _until(lambda: watcher.listeners == 2)
            watcher.release()
            assert not await waiting
            assert _states(await following) == ["queued"]
            assert watcher.listeners == 0

    asyncio.run(watch())
