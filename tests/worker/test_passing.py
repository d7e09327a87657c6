"""Looking for small pictures behind large ones, on a real Redis."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from contract.admission import Terms
from contract.errors import AtelierError, ImageLostError
from contract.images import ImageRef, MediaType
from contract.jobbook import JobBook
from contract.jobs import JobState, Priority, StyleShare, StylizeJob
from contract.presence import Presence
from contract.settings import ContractSettings
from contract.styles import StyleRef
from tests.conftest import until
from worker.heartbeat import Heartbeat
from worker.passing import LOOK_PAST, Passing

SMALL, LARGE, LOST = 512, 8000, 1
"""What jobs say of their size here."""


@pytest.fixture
def book(redis_client: Redis, settings: ContractSettings) -> JobBook:
    return JobBook(redis_client, settings)


@pytest.fixture
def heartbeat(book: JobBook, redis_client: Redis) -> Iterator[Heartbeat]:
    heartbeat = Heartbeat(
        book, Presence(redis_client, "worker"), "worker", beat_seconds=0.2, lost_after_seconds=1, job_seconds=60
    )
    yield heartbeat
    heartbeat.stop()


@pytest.fixture
def passing(book: JobBook, heartbeat: Heartbeat) -> Passing:
    return Passing(book, heartbeat, is_small)


def is_small(job: StylizeJob) -> bool:
    if job.size == LOST:
        raise ImageLostError("It is gone.")
    return job.size == SMALL


def posted(book: JobBook, size: int, priority: Priority = Priority.NORMAL) -> str:
    shares = (StyleShare(style=StyleRef(name="tiny", version=1)),)
    content = ImageRef(sha256="0" * 64, bytes=1)
    job = StylizeJob(content=content, styles=shares, size=size, media_type=MediaType.PNG, quality=90)
    return book.admit(job, Terms(may_find=False, may_be_found=False, priority=priority)).record.id


def found(passing: Passing) -> str | None:
    claim = passing.small()
    return claim.job_id if claim else None


def fences(book: JobBook, jobs: list[str]) -> list[int]:
    """Each claim and each return raises them."""
    return [book.get(job_id).fence for job_id in jobs]


def test_a_small_one_is_found_behind_large_ones_which_have_their_places_and_attempts_as_before(
    book: JobBook, passing: Passing
) -> None:
    large = [posted(book, LARGE) for _ in range(3)]
    small = posted(book, SMALL)
    assert found(passing) == small
    records = [book.get(job_id) for job_id in large]
    assert [(record.state, record.attempt) for record in records] == [(JobState.QUEUED, 0)] * 3
    picks = [book.pick().claim for _ in large]
    assert [claim and claim.job_id for claim in picks] == large


def test_a_more_urgent_small_one_is_found_when_a_less_urgent_class_has_its_turn(
    book: JobBook, passing: Passing
) -> None:
    posted(book, LARGE, Priority.BATCH)
    urgent = [posted(book, SMALL, Priority.INTERACTIVE) for _ in range(9)]
    assert [found(passing) for _ in urgent] == urgent


def test_all_small_ones_are_found_one_after_the_other(book: JobBook, passing: Passing) -> None:
    posted(book, LARGE)
    small = [posted(book, SMALL) for _ in range(3)]
    assert [found(passing) for _ in range(4)] == [*small, None]


def test_without_news_nothing_is_claimed_again(book: JobBook, passing: Passing) -> None:
    large = [posted(book, LARGE) for _ in range(2)]
    assert found(passing) is None
    after_a_look = fences(book, large)
    assert after_a_look == [2, 2]
    assert found(passing) is None
    assert fences(book, large) == after_a_look
    small = posted(book, SMALL)
    assert found(passing) == small


def test_another_claim_is_news(book: JobBook, passing: Passing) -> None:
    """It may have been the last large one of so many that the small one behind them was not seen."""
    for _ in range(LOOK_PAST):
        posted(book, LARGE)
    small = posted(book, SMALL)
    assert found(passing) is None
    assert book.pick().claim is not None
    assert found(passing) is None
    assert passing.pick().claim is not None
    assert found(passing) == small


def test_a_free_thread_waits_for_what_a_look_has_in_its_hands(book: JobBook, heartbeat: Heartbeat) -> None:
    looking, go_on = threading.Event(), threading.Event()

    def slowly(_: StylizeJob) -> bool:
        looking.set()
        assert go_on.wait(10)
        return False

    large, passing = posted(book, LARGE), Passing(book, heartbeat, slowly)
    with ThreadPoolExecutor(2) as pool:
        look = pool.submit(passing.small)
        assert looking.wait(10)
        free = pool.submit(passing.pick)
        until(lambda: book.counts("tickets") == {("stylize", "nothing"): 1}, what="the free thread to find nothing")
        go_on.set()
        assert look.result(10) is None
        claim = free.result(10).claim
    assert claim is not None
    assert claim.job_id == large


def test_no_more_than_so_many_are_looked_at(book: JobBook, passing: Passing) -> None:
    large = [posted(book, LARGE) for _ in range(LOOK_PAST + 2)]
    assert found(passing) is None
    assert fences(book, large) == [2] * LOOK_PAST + [0, 0]


def test_one_whose_size_cannot_be_seen_is_passed_like_a_large_one(book: JobBook, passing: Passing) -> None:
    lost, small = posted(book, LOST), posted(book, SMALL)
    assert found(passing) == small
    record = book.get(lost)
    assert (record.state, record.attempt) == (JobState.QUEUED, 0)


def test_a_failure_that_nobody_expects_loses_no_job(book: JobBook, heartbeat: Heartbeat) -> None:
    def breaks(_: StylizeJob) -> bool:
        raise MemoryError

    large = posted(book, LARGE)
    with pytest.raises(MemoryError):
        Passing(book, heartbeat, breaks).small()
    record = book.get(large)
    assert (record.state, record.attempt) == (JobState.QUEUED, 0)


def test_a_job_that_lost_its_worker_is_passed_and_said_once(book: JobBook, passing: Passing) -> None:
    suspect = posted(book, SMALL)
    claim = book.pick().claim
    assert claim is not None
    assert book.release(claim)
    small = posted(book, SMALL, Priority.BATCH)
    assert not passing.heard_of_suspect()
    assert found(passing) == small
    assert book.get(suspect).state is JobState.QUEUED
    assert [passing.heard_of_suspect(), passing.heard_of_suspect()] == [True, False]


def test_a_queue_that_does_not_answer_is_said(passing: Passing, redis_client: Redis) -> None:
    redis_client.set("atelier:counts", "not what the book wrote")
    with pytest.raises(AtelierError):
        passing.small()
