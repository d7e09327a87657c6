"""The heartbeat, on a real Redis, with a job book of short patience: a claim is lost after a second."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from redis import Redis

from contract.images import ImageRef, MediaType
from contract.jobbook import Claim, JobBook
from contract.jobs import JobState, Stage, StyleShare, StylizeJob
from contract.presence import Presence
from contract.settings import ContractSettings
from contract.styles import StyleRef
from tests.conftest import claim_of, until
from worker.heartbeat import EXIT_STUCK, Heartbeat


@pytest.fixture
def book(redis_client: "Redis", settings: ContractSettings) -> JobBook:
    return JobBook(redis_client, settings)


@pytest.fixture
def presence(redis_client: "Redis") -> Presence:
    return Presence(redis_client, "worker")


@contextmanager
def beating(
    book: JobBook,
    presence: Presence,
    settings: ContractSettings,
    job_seconds: float = 60,
    end_process: Callable[[int], None] = lambda _: None,
) -> Iterator[Heartbeat]:
    heartbeat = Heartbeat(
        book,
        presence,
        "me",
        beat_seconds=settings.heartbeat_seconds,
        lost_after_seconds=settings.lost_after_seconds,
        job_seconds=job_seconds,
        end_process=end_process,
    )
    try:
        yield heartbeat
    finally:
        heartbeat.stop()


def claimed(book: JobBook) -> Claim:
    content = ImageRef(sha256="0" * 64, bytes=1)
    styles = (StyleShare(style=StyleRef(name="tiny", version=1)),)
    record = book.create(StylizeJob(content=content, styles=styles, media_type=MediaType.PNG, quality=90))
    claim = claim_of(book, record.id)
    assert claim is not None
    return claim


def state(book: JobBook, claim: Claim) -> JobState:
    return book.get(claim.job_id).state


def until_the_next_beat(presence: Presence) -> None:
    presence.dismiss("me")
    until(lambda: presence.names() == ["me"], 10, "the next beat")


def test_a_claim_is_kept_for_longer_than_a_silent_one_would_last(
    book: JobBook, presence: Presence, settings: ContractSettings
) -> None:
    kept, silent = claimed(book), claimed(book)
    with beating(book, presence, settings) as heartbeat, heartbeat.keep(kept) as keeping:
        until(lambda: silent.job_id in book.reap(), 10, "the silent claim to be lost")
        ends = time.monotonic() + settings.lost_after_seconds
        until(lambda: time.monotonic() > ends or state(book, kept) is not JobState.RUNNING, 10)
        assert book.reap() == []
        assert state(book, kept) is JobState.RUNNING
        assert keeping.holds()


def test_a_claim_that_is_no_longer_kept_is_lost(book: JobBook, presence: Presence, settings: ContractSettings) -> None:
    claim = claimed(book)
    with beating(book, presence, settings) as heartbeat:
        with heartbeat.keep(claim):
            pass
        until(lambda: claim.job_id in book.reap(), 10, "the claim to be lost")


def test_work_on_a_canceled_job_is_no_longer_wanted(
    book: JobBook, presence: Presence, settings: ContractSettings
) -> None:
    canceled, other = claimed(book), claimed(book)
    with (
        beating(book, presence, settings) as heartbeat,
        heartbeat.keep(canceled) as keeping,
        heartbeat.keep(other) as keeping_other,
    ):
        assert keeping.holds()
        book.cancel(canceled.job_id)
        until(lambda: not keeping.holds(), 10, "the worker to hear of it")
        assert keeping_other.holds()


def test_work_on_a_job_that_another_worker_has_taken_is_no_longer_wanted(
    book: JobBook, presence: Presence, settings: ContractSettings
) -> None:
    claim = claimed(book)
    book.release(claim)
    assert claim_of(book, claim.job_id) is not None
    with beating(book, presence, settings) as heartbeat, heartbeat.keep(claim) as keeping:
        until(lambda: not keeping.holds(), 10, "the worker to hear of it")
    assert state(book, claim) is JobState.RUNNING


def test_a_job_that_takes_too_long_is_failed_and_the_process_ends(
    book: JobBook, presence: Presence, settings: ContractSettings
) -> None:
    codes: list[int] = []
    stuck = claimed(book)
    with beating(book, presence, settings, job_seconds=1, end_process=codes.append) as heartbeat, heartbeat.keep(stuck):
        heartbeat.ready()
        until(lambda: bool(codes), 10, "the end of the process")
    record = book.get(stuck.job_id)
    assert codes[0] == EXIT_STUCK
    assert record.state is JobState.FAILED
    assert record.error is not None
    assert record.error.code == "job-timeout"


def test_the_neighbours_of_a_stuck_job_go_back_into_the_queue(
    book: JobBook, presence: Presence, settings: ContractSettings
) -> None:
    codes: list[int] = []
    with beating(book, presence, settings, job_seconds=1, end_process=codes.append) as heartbeat:
        heartbeat.ready()
        stuck = claimed(book)
        with heartbeat.keep(stuck):
            for _ in range(2):
                until_the_next_beat(presence)
            neighbour = claimed(book)
            with heartbeat.keep(neighbour):
                until(lambda: bool(codes), 10, "the end of the process")
                assert state(book, neighbour) is JobState.QUEUED
                assert presence.names() == []
    assert state(book, stuck) is JobState.FAILED


def test_a_worker_is_announced_when_it_is_ready_and_dismissed_when_it_stops(
    book: JobBook, presence: Presence, settings: ContractSettings
) -> None:
    with beating(book, presence, settings) as heartbeat:
        assert presence.names() == []
        heartbeat.ready()
        assert presence.names() == ["me"]
    assert presence.names() == []


def test_a_worker_that_beats_stays_announced(
    book: JobBook, presence: Presence, settings: ContractSettings, redis_client: "Redis"
) -> None:
    with beating(book, presence, settings) as heartbeat:
        heartbeat.ready()
        redis_client.flushall()
        until(lambda: presence.names() == ["me"], 10, "the next beat")


def test_a_worker_whose_consumer_stands_still_is_announced_no_longer(
    book: JobBook, presence: Presence, settings: ContractSettings
) -> None:
    with beating(book, presence, settings) as heartbeat:
        heartbeat.ready()
        until(lambda: presence.names() == [], 10, "its word to run out")
        heartbeat.consumer_is_alive()
        until(lambda: presence.names() == ["me"], 10, "the next beat")


def test_time_in_which_others_are_served_does_not_count(
    book: JobBook, presence: Presence, settings: ContractSettings
) -> None:
    codes: list[int] = []
    with beating(book, presence, settings, job_seconds=0.5, end_process=codes.append) as heartbeat:
        patient = claimed(book)
        with heartbeat.keep(patient) as keeping:
            keeping.waits()
            heartbeat.ready()
            started = time.monotonic()
            until(lambda: time.monotonic() - started > 1.2, 10, "more than the time that a job may take")
            assert state(book, patient) is JobState.RUNNING
            keeping.works()
            until(lambda: bool(codes), 10, "the end of the process")
    assert state(book, patient) is JobState.FAILED


def test_progress_is_written_down_with_the_next_beat_and_begins_the_time_anew(
    book: JobBook, presence: Presence, settings: ContractSettings
) -> None:
    codes: list[int] = []
    with beating(book, presence, settings, job_seconds=1.0, end_process=codes.append) as heartbeat:
        claim = claimed(book)
        with heartbeat.keep(claim) as keeping:
            started = time.monotonic()
            while time.monotonic() - started < 2:
                keeping.progressed((time.monotonic() - started) / 4)
                time.sleep(0.05)
            assert codes == []
            progress = book.get(claim.job_id).progress
            assert progress is not None
            assert progress.stage is Stage.STYLIZING
            assert 0 < progress.fraction <= 0.5
            until(lambda: bool(codes), 10, "the end of a job that stands still")


def test_a_worker_whose_consumer_stands_still_ends_when_it_has_no_jobs(
    book: JobBook, presence: Presence, settings: ContractSettings
) -> None:
    codes: list[int] = []
    claim = claimed(book)
    heartbeat = Heartbeat(
        book,
        presence,
        "me",
        beat_seconds=settings.heartbeat_seconds,
        lost_after_seconds=settings.lost_after_seconds,
        job_seconds=60,
        consumer_seconds=0.5,
        end_process=codes.append,
    )
    try:
        heartbeat.ready()
        with heartbeat.keep(claim):
            ends = time.monotonic() + settings.lost_after_seconds + 1.5
            until(lambda: time.monotonic() > ends, 10)
            assert codes == []
            assert state(book, claim) is JobState.RUNNING
        until(lambda: bool(codes), 10, "the end of the process")
        assert codes[0] == EXIT_STUCK
    finally:
        heartbeat.stop()
