"""The life of a job: one owner at a time, one end, and no worker that can break either."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Connection, ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from contract.admission import Terms
from contract.errors import (
    AtelierError,
    ImageLostError,
    JobExpiredError,
    JobFinishedError,
    JobNotFoundError,
    JobTimeoutError,
    OutOfMemoryError,
    QueueFullError,
    QueueUnavailableError,
    StyleExistsError,
    TrainingDivergedError,
)
from contract.images import ImageRef
from contract.jobbook import (
    ANNOUNCEMENTS,
    COUNTS,
    KINDS,
    TICKET_GRACE_SECONDS,
    Claim,
    JobBook,
    JobKind,
    Pick,
    QueueDepth,
    connect,
    events_key,
)
from contract.jobs import BatchJob, JobRecord, JobState, Priority, Progress, Stage, StylizeJob, Timings, TrainJob
from contract.settings import ContractSettings
from tests.conftest import claim_of, free_port, until
from tests.contract.conftest import RESULT, TRAINED, a_job, a_training, claimed, own_redis, silence

QUICK = Timings(decode_seconds=0.1, compute_seconds=0.2)
SHARED = Terms(may_find=True, may_be_found=True)
HALFWAY = Progress(fraction=0.5, stage=Stage.TRAINING, iteration=50, iterations=100, losses={"total": 1.5})
NONE = QueueDepth(queued=0, running=0)
NOTHING = Pick(None)
URGENT = Terms(priority=Priority.INTERACTIVE)
"""So that the last place in the queue is given, too."""
ORDER = "atelier:order"
"""The number that was given last to what waits."""

# --- A life without accidents ---


def test_a_new_job_waits(book: JobBook) -> None:
    record = book.create(a_job())
    assert record.state is JobState.QUEUED
    assert record.request == a_job()
    assert (record.attempt, record.fence, record.started_at, record.finished_at) == (0, 0, None, None)
    assert abs(datetime.now(UTC) - record.created_at) < timedelta(seconds=10)
    assert book.get(record.id) == record


def test_jobs_that_wait_or_run_are_listed_the_oldest_first(book: JobBook) -> None:
    first, second = book.create(a_training("first")), book.create(a_job())
    third = book.admit(a_job(), Terms(client="phone")).record
    ended = book.create(a_job())
    book.cancel(ended.id)
    claim = claimed(book, second.id)
    assert book.unfinished(10) == ([first, claim.record, third], 3)
    assert book.unfinished(2) == ([first, claim.record], 3)
    assert book.unfinished(10, client="phone") == ([third], 1)
    assert book.unfinished(10, client="") == ([first, claim.record], 2)
    assert book.unfinished(10, kind="train") == ([first], 1)
    assert book.unfinished(10, kind="stylize", state=JobState.RUNNING) == ([claim.record], 1)
    assert book.unfinished(10, client="phone", state=JobState.RUNNING) == ([], 0)
    assert book.succeed(claim, RESULT, QUICK)
    assert book.unfinished(10) == ([first, third], 2)


def test_a_job_whose_record_is_gone_is_not_listed(book: JobBook, redis_client: Redis) -> None:
    first, second = book.create(a_job()), book.create(a_job())
    redis_client.delete(f"atelier:job:{first.id}")
    assert book.unfinished(10) == ([second], 1)


def test_every_job_has_an_id_of_its_own(book: JobBook) -> None:
    assert len({book.create(a_job()).id for _ in range(10)}) == 10


def test_a_claimed_job_runs(book: JobBook) -> None:
    created = book.create(a_job())
    claim = claimed(book, created.id)
    assert claim.job_id == created.id
    assert claim.record == book.get(created.id)
    assert claim.record.state is JobState.RUNNING
    assert (claim.record.attempt, claim.fence, claim.record.fence) == (1, 1, 1)
    assert claim.record.started_at is not None
    assert claim.record.started_at >= created.created_at


def test_a_job_succeeds_with_its_picture(book: JobBook, settings: ContractSettings) -> None:
    claim = claimed(book, book.create(a_job()).id)
    assert book.succeed(claim, RESULT, QUICK)
    record = book.get(claim.job_id)
    assert (record.state, record.result, record.error) == (JobState.SUCCEEDED, RESULT, None)
    assert record.started_at is not None
    assert record.finished_at is not None
    assert record.expires_at is not None
    assert record.created_at <= record.started_at <= record.finished_at
    lives = record.expires_at - record.finished_at
    assert abs(lives - timedelta(seconds=settings.result_seconds)) < timedelta(milliseconds=1)


def test_a_job_fails_with_its_reason(book: JobBook) -> None:
    claim = claimed(book, book.create(a_job()).id)
    assert book.fail(claim, OutOfMemoryError("Try a smaller size."), QUICK)
    record = book.get(claim.job_id)
    assert (record.state, record.result) == (JobState.FAILED, None)
    assert record.error is not None
    assert (record.error.code, record.error.detail) == ("out-of-memory", "Try a smaller size.")
    assert record.finished_at is not None


def test_the_timings_of_a_job_say_how_long_it_waited(book: JobBook) -> None:
    ends: list[Callable[[Claim], bool]] = [
        lambda claim: book.succeed(claim, RESULT, QUICK),
        lambda claim: book.fail(claim, ImageLostError("gone"), QUICK),
    ]
    for end in ends:
        claim = claimed(book, book.create(a_job()).id)
        assert end(claim)
        record = book.get(claim.job_id)
        assert record.started_at is not None
        waited = (record.started_at - record.created_at).total_seconds()
        assert record.timings == QUICK.model_copy(update={"queue_seconds": pytest.approx(waited, abs=1e-6)})


def test_an_ended_job_leaves_nothing_behind_that_does_not_expire(book: JobBook, redis_client: "Redis") -> None:
    for request in (a_job(), a_training()):
        for end in (
            lambda claim: book.succeed(claim, RESULT, QUICK),
            lambda claim: book.fail(claim, ImageLostError("gone"), QUICK),
            lambda claim: book.cancel(claim.job_id),
        ):
            claim = claimed(book, book.create(request).id)
            book.progress(claim, HALFWAY)
            end(claim)
        book.cancel(book.create(request).id)
    assert {key for key in redis_client.scan_iter() if redis_client.ttl(key) < 0} == {ORDER, COUNTS}


# --- The bound of the queue ---


def test_the_bound_of_the_queue_is_exact_among_many(book: JobBook, settings: ContractSettings) -> None:
    def create(_: int) -> JobRecord | QueueFullError:
        try:
            return book.admit(a_job(), URGENT).record
        except QueueFullError as full:
            return full

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(create, range(50)))
    created = [answer.id for answer in answers if isinstance(answer, JobRecord)]
    refused = [answer for answer in answers if isinstance(answer, QueueFullError)]
    limit = settings.queue_limit
    assert (len(created), len(set(created)), len(refused)) == (limit, limit, 50 - limit)
    assert all(full.retry_after_seconds for full in refused)
    assert book.depth() == QueueDepth(queued=settings.queue_limit, running=0)


def test_a_refused_job_leaves_nothing_behind(redis_client: "Redis", book: JobBook, settings: ContractSettings) -> None:
    for _ in range(settings.queue_limit):
        book.admit(a_job(), URGENT)
    before = sorted(redis_client.scan_iter())
    with pytest.raises(QueueFullError):
        book.admit(a_job(), URGENT)
    assert sorted(redis_client.scan_iter()) == before


@pytest.mark.parametrize("leave", [claim_of, JobBook.cancel, JobBook.forget])
def test_a_job_that_no_longer_waits_frees_its_place(
    book: JobBook, settings: ContractSettings, leave: Callable[[JobBook, str], object]
) -> None:
    first, *_ = [book.admit(a_job(), URGENT).record.id for _ in range(settings.queue_limit)]
    leave(book, first)
    book.admit(a_job(), URGENT)
    with pytest.raises(QueueFullError):
        book.admit(a_job(), URGENT)


def test_depth_counts_those_that_wait_and_those_that_run(book: JobBook) -> None:
    assert book.depth() == QueueDepth(queued=0, running=0)
    one, two, _ = [book.create(a_job()).id for _ in range(3)]
    claim = claimed(book, one)
    claimed(book, two)
    assert book.depth() == QueueDepth(queued=1, running=2)
    book.succeed(claim, RESULT, QUICK)
    assert book.depth() == QueueDepth(queued=1, running=1)


# --- Two kinds ---


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> JobKind:
    kind: JobKind = request.param
    return kind


def _one_of(kind: JobKind, number: int = 0) -> StylizeJob | TrainJob:
    return a_training(f"dusk-{number}") if kind == "train" else a_job()


def _lose(book: JobBook, client: "Redis", job_id: str) -> list[str]:
    """The worker of a job goes silent, and the reaper comes round."""
    silence(client, job_id)
    return [found for kind in KINDS for found in book.reap(kind)]


def _other(kind: JobKind) -> JobKind:
    (other,) = set(KINDS) - {kind}
    return other


def test_a_style_is_trained(book: JobBook) -> None:
    record = book.create(a_training())
    assert (record.state, record.request) == (JobState.QUEUED, a_training())
    claim = claimed(book, record.id)
    assert book.succeed(claim, TRAINED, Timings())
    record = book.get(record.id)
    assert (record.state, record.result, record.error) == (JobState.SUCCEEDED, TRAINED, None)


def test_each_kind_has_a_bound_of_its_own(book: JobBook, kind: JobKind, settings: ContractSettings) -> None:
    limits = {"stylize": settings.queue_limit, "train": settings.train_queue_limit}
    assert limits["stylize"] != limits["train"]
    for number in range(limits[kind]):
        book.admit(_one_of(kind, number), URGENT)
    with pytest.raises(QueueFullError, match=str(limits[kind])):
        book.admit(_one_of(kind, limits[kind]), URGENT)
    assert book.depth(kind) == QueueDepth(queued=limits[kind], running=0)
    assert book.depth(_other(kind)) == NONE
    book.create(_one_of(_other(kind)))


def test_a_job_stays_among_its_kind_from_beginning_to_end(book: JobBook, redis_client: "Redis", kind: JobKind) -> None:
    """Whatever a job goes through, the sets of the other kind never hold it."""
    waiting, running = QueueDepth(queued=1, running=0), QueueDepth(queued=0, running=1)

    def depths() -> tuple[QueueDepth, QueueDepth]:
        return book.depth(kind), book.depth(_other(kind))

    job_id = book.create(_one_of(kind)).id
    assert depths() == (waiting, NONE)
    first = claimed(book, job_id)
    assert depths() == (running, NONE)
    assert book.release(first)
    assert depths() == (waiting, NONE)
    second = claimed(book, job_id)
    assert depths() == (running, NONE)
    assert _lose(book, redis_client, job_id) == [job_id]
    assert depths() == (waiting, NONE)
    assert book.beat(second)
    assert depths() == (running, NONE)
    assert book.fail(second, ImageLostError("gone"), QUICK)
    assert depths() == (NONE, NONE)


@pytest.mark.parametrize("leave", [JobBook.cancel, JobBook.forget])
def test_a_job_that_is_taken_back_leaves_the_sets_of_its_kind(
    book: JobBook, kind: JobKind, leave: Callable[[JobBook, str], object]
) -> None:
    others = book.create(_one_of(_other(kind))).id
    leave(book, book.create(_one_of(kind)).id)
    assert book.depth(kind) == NONE
    assert book.depth(_other(kind)) == QueueDepth(queued=1, running=0)
    assert book.get(others).state is JobState.QUEUED


def test_each_kind_is_reaped_by_itself(book: JobBook, redis_client: "Redis") -> None:
    lost = {kind: claimed(book, book.create(_one_of(kind)).id).job_id for kind in KINDS}
    for job_id in lost.values():
        silence(redis_client, job_id)
    assert [book.reap(kind) for kind in KINDS] == [[lost[kind]] for kind in KINDS]
    assert [book.reap(kind) for kind in KINDS] == [[], []]


def test_each_kind_has_its_own_that_wait_for_long(book: JobBook) -> None:
    book.release(claimed(book, book.create(_one_of("train", 1)).id))
    for kind in KINDS:
        book.create(_one_of(kind))
    assert [book.overdue(kind) for kind in KINDS] == [0, 1]


def test_a_training_that_takes_its_trainers_down_fails(
    book: JobBook, redis_client: "Redis", settings: ContractSettings
) -> None:
    job_id = book.create(a_training()).id
    for attempt in range(1, settings.attempts + 1):
        claimed(book, job_id)
        silence(redis_client, job_id)
        assert book.reap("train") == ([job_id] if attempt < settings.attempts else [])
    error = book.get(job_id).error
    assert error is not None
    assert error.code == "poison-job"
    assert book.depth("train") == NONE


def test_an_id_without_a_job_leaves_the_sets_of_every_kind(book: JobBook, redis_client: "Redis") -> None:
    running, waiting = claimed(book, book.create(a_training("one")).id).job_id, book.create(a_training("two")).id
    silence(redis_client, running)
    redis_client.delete(f"atelier:job:{running}", f"atelier:job:{waiting}")
    assert book.reap("train") == []
    assert book.pick("train").claim is None
    assert book.depth("train") == NONE


def test_a_job_of_before_there_were_kinds_is_one_to_stylize(book: JobBook, redis_client: "Redis") -> None:
    old = [book.create(a_job()).id for _ in range(3)]
    for job_id in old:
        assert redis_client.hdel(f"atelier:job:{job_id}", "kind") == 1
    done, lost, canceled = old
    assert book.succeed(claimed(book, done), RESULT, QUICK)
    claimed(book, lost)
    silence(redis_client, lost)
    assert book.reap() == [lost]
    assert book.cancel(canceled).state is JobState.CANCELED
    assert book.depth() == QueueDepth(queued=1, running=0)
    assert book.depth("train") == NONE


# --- The name of a style that is being trained ---


def test_a_name_is_taken_while_its_style_is_being_trained(book: JobBook, redis_client: "Redis") -> None:
    job_id = book.create(a_training("dusk")).id
    before = sorted(redis_client.scan_iter())
    steps: list[Callable[[], object]] = [
        lambda: None,
        lambda: claimed(book, job_id),
        lambda: _lose(book, redis_client, job_id),
        lambda: claimed(book, job_id),
    ]
    for step in steps:
        step()
        with pytest.raises(StyleExistsError, match="dusk"):
            book.create(a_training("dusk"))
    new = {key for key in set(redis_client.scan_iter()) - set(before) if not key.startswith("atelier:pick:")}
    assert new <= {"atelier:running:train", f"atelier:heartbeat:{job_id}"}
    book.create(a_training("dawn"))


ENDS: dict[str, Callable[[JobBook, str], object]] = {
    "succeeded": lambda book, job_id: book.succeed(claimed(book, job_id), TRAINED, QUICK),
    "failed": lambda book, job_id: book.fail(claimed(book, job_id), TrainingDivergedError("NaN"), QUICK),
    "canceled": lambda book, job_id: book.cancel(job_id),
    "canceled while it ran": lambda book, job_id: (claimed(book, job_id), book.cancel(job_id)),
    "forgotten": lambda book, job_id: book.forget(job_id),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_name_is_free_again_when_its_training_has_ended(
    book: JobBook, redis_client: "Redis", end: Callable[[JobBook, str], object]
) -> None:
    end(book, book.create(a_training("dusk")).id)
    assert not redis_client.exists("atelier:training")
    second = book.create(a_training("dusk"))
    with pytest.raises(StyleExistsError):
        book.create(a_training("dusk"))
    assert second.state is JobState.QUEUED


def test_a_poisoned_training_frees_its_name(book: JobBook, redis_client: "Redis", settings: ContractSettings) -> None:
    job_id = book.create(a_training("dusk")).id
    for _ in range(settings.attempts):
        claimed(book, job_id)
        silence(redis_client, job_id)
        book.reap("train")
    assert book.get(job_id).state is JobState.FAILED
    book.create(a_training("dusk"))


def test_a_name_whose_job_has_been_evicted_is_free(book: JobBook, redis_client: "Redis") -> None:
    redis_client.delete(f"atelier:job:{book.create(a_training('dusk')).id}")
    book.create(a_training("dusk"))


def test_the_end_of_an_older_job_does_not_free_the_name_of_a_newer_one(book: JobBook, redis_client: "Redis") -> None:
    first = book.create(a_training("dusk")).id
    redis_client.hset("atelier:training", "dusk", book.create(a_training("dawn")).id)
    book.cancel(first)
    with pytest.raises(StyleExistsError):
        book.create(a_training("dusk"))


def test_of_many_trainings_of_one_name_at_once_one_is_taken(book: JobBook) -> None:
    def create(_: int) -> JobRecord | StyleExistsError:
        try:
            return book.create(a_training("dusk"))
        except StyleExistsError as taken:
            return taken

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(create, range(16)))
    assert len([answer for answer in answers if isinstance(answer, JobRecord)]) == 1
    assert book.depth("train") == QueueDepth(queued=1, running=0)


def test_a_training_that_finds_the_queue_full_takes_no_name(book: JobBook, settings: ContractSettings) -> None:
    first, *_ = [book.create(a_training(f"dusk-{number}")).id for number in range(settings.train_queue_limit)]
    with pytest.raises(QueueFullError):
        book.create(a_training("dawn"))
    book.cancel(first)
    book.create(a_training("dawn"))


# --- Progress ---


def test_progress_is_written_down_and_announced(book: JobBook, redis_client: "Redis") -> None:
    claim = claimed(book, book.create(a_training()).id)
    assert book.get(claim.job_id).progress is None
    further = HALFWAY.model_copy(update={"fraction": 0.75})
    for progress in (HALFWAY, further):
        assert book.progress(claim, progress)
        assert book.get(claim.job_id).progress == progress
    told = [fields for _, fields in redis_client.xrange(events_key(claim.job_id)) or []]
    assert told == [
        {"event": "state", "state": "queued", "attempt": "0"},
        {"event": "state", "state": "running", "attempt": "1"},
        {"event": "progress", "progress": HALFWAY.model_dump_json()},
        {"event": "progress", "progress": further.model_dump_json()},
    ]
    announced = [fields for _, fields in redis_client.xrange(ANNOUNCEMENTS) or []]
    assert announced == [{"job": claim.job_id}] * len(told)


def test_a_snapshot_knows_the_latest_event_that_it_holds(book: JobBook) -> None:
    job_id = book.create(a_job()).id
    queued = book.snapshot(job_id)
    claimed(book, job_id)
    running = book.snapshot(job_id)
    assert (queued.record.state, running.record.state) == (JobState.QUEUED, JobState.RUNNING)
    assert book.has_event(job_id, queued.event_id)
    assert book.has_event(job_id, running.event_id)
    assert queued.event_id < running.event_id
    assert not book.has_event(job_id, "0-1")
    assert not book.has_event(job_id, "-")


def test_only_the_holder_of_the_latest_fence_writes_progress(book: JobBook, redis_client: "Redis") -> None:
    zombie = claimed(book, book.create(a_training()).id)
    silence(redis_client, zombie.job_id)
    book.reap("train")
    second = claimed(book, zombie.job_id)
    told = redis_client.xlen(events_key(zombie.job_id))
    assert not book.progress(zombie, HALFWAY)
    assert book.get(zombie.job_id).progress is None
    assert redis_client.xlen(events_key(zombie.job_id)) == told
    assert book.progress(second, HALFWAY)
    assert book.get(zombie.job_id).progress == HALFWAY


@pytest.mark.parametrize("end", ["succeeded", "failed", "canceled"])
def test_no_progress_is_made_after_the_end(book: JobBook, end: str) -> None:
    claim = claimed(book, book.create(a_training()).id)
    assert book.progress(claim, HALFWAY)
    ends: dict[str, Callable[[], object]] = {
        "succeeded": lambda: book.succeed(claim, TRAINED, QUICK),
        "failed": lambda: book.fail(claim, TrainingDivergedError("NaN"), QUICK),
        "canceled": lambda: book.cancel(claim.job_id),
    }
    ends[end]()
    assert not book.progress(claim, HALFWAY.model_copy(update={"fraction": 1.0}))
    record = book.get(claim.job_id)
    assert (record.state.value, record.progress) == (end, HALFWAY)


def test_progress_brings_no_forgotten_job_back(book: JobBook, redis_client: "Redis") -> None:
    record = book.create(a_training())
    book.forget(record.id)
    assert not book.progress(Claim(record, record.fence), HALFWAY)
    assert set(redis_client.scan_iter()) == {ANNOUNCEMENTS, COUNTS, ORDER}


def test_progress_outlives_the_trainer_that_made_it(book: JobBook, redis_client: "Redis") -> None:
    claim = claimed(book, book.create(a_training()).id)
    book.progress(claim, HALFWAY)
    silence(redis_client, claim.job_id)
    book.reap("train")
    assert claimed(book, claim.job_id).record.progress == HALFWAY


# --- Taking a job back ---


def test_a_forgotten_job_has_never_been(book: JobBook, redis_client: "Redis") -> None:
    job_id = book.create(a_job()).id
    book.forget(job_id)
    with pytest.raises(JobNotFoundError):
        book.get(job_id)
    assert set(redis_client.scan_iter()) == {ANNOUNCEMENTS, COUNTS, ORDER}
    assert book.pick() == NOTHING


def test_a_claimed_job_is_not_forgotten(book: JobBook) -> None:
    claim = claimed(book, book.create(a_job()).id)
    book.forget(claim.job_id)
    assert book.get(claim.job_id) == claim.record
    assert book.succeed(claim, RESULT, QUICK)


def test_a_job_that_was_tried_before_is_not_forgotten(book: JobBook) -> None:
    claim = claimed(book, book.create(a_job()).id)
    book.release(claim)
    book.forget(claim.job_id)
    assert book.get(claim.job_id).state is JobState.QUEUED


# --- One owner ---


def test_of_two_that_claim_at_once_one_gets_the_job(book: JobBook, settings: ContractSettings) -> None:
    jobs = [book.admit(a_job(), URGENT).record.id for _ in range(settings.queue_limit)]
    together = threading.Barrier(4)

    def claim_all(_: int) -> list[Claim]:
        claims = []
        for _job in jobs:
            together.wait(30)
            claims.append(book.pick().claim)
        return [claim for claim in claims if claim]

    with ThreadPoolExecutor(4) as pool:
        won = [claim for claims in pool.map(claim_all, range(4)) for claim in claims]
    assert sorted(claim.job_id for claim in won) == sorted(jobs)
    assert {claim.fence for claim in won} == {1}


def test_a_ticket_too_many_finds_no_job_that_runs(book: JobBook) -> None:
    first = claimed(book, book.create(a_job()).id)
    assert book.pick() == NOTHING
    assert book.get(first.job_id) == first.record
    assert book.succeed(first, RESULT, QUICK)


def test_a_ticket_too_many_finds_no_job_that_has_ended(book: JobBook) -> None:
    succeeded = claimed(book, book.create(a_job()).id)
    book.succeed(succeeded, RESULT, QUICK)
    canceled = book.create(a_job()).id
    book.cancel(canceled)
    assert book.pick() == NOTHING
    assert book.get(succeeded.job_id).attempt == 1
    assert book.get(canceled).attempt == 0


def test_an_end_that_is_told_twice_counts_once(book: JobBook) -> None:
    claim = claimed(book, book.create(a_job()).id)
    assert book.succeed(claim, RESULT, QUICK)
    once = book.get(claim.job_id)
    assert book.succeed(claim, RESULT, QUICK)
    assert book.get(claim.job_id) == once


def test_a_failed_job_does_not_succeed_afterwards(book: JobBook) -> None:
    claim = claimed(book, book.create(a_job()).id)
    assert book.fail(claim, JobTimeoutError("It took too long."), QUICK)
    failed = book.get(claim.job_id)
    assert not book.succeed(claim, RESULT, QUICK)
    assert book.get(claim.job_id) == failed


def test_a_succeeded_job_does_not_fail_afterwards(book: JobBook) -> None:
    claim = claimed(book, book.create(a_job()).id)
    assert book.succeed(claim, RESULT, QUICK)
    assert not book.fail(claim, JobTimeoutError("It took too long."), QUICK)
    assert book.get(claim.job_id).error is None


# --- Workers that are lost ---


def test_a_beating_worker_keeps_its_job(book: JobBook, settings: ContractSettings) -> None:
    claim = claimed(book, book.create(a_job()).id)
    end = time.monotonic() + 1.5 * settings.lost_after_seconds

    def kept() -> bool:
        assert book.beat(claim)
        assert book.reap() == []
        return time.monotonic() > end

    until(kept)
    assert book.get(claim.job_id).attempt == 1


def test_the_job_of_a_silent_worker_waits_again(book: JobBook) -> None:
    lost = claimed(book, book.create(a_job()).id)
    until(lambda: book.reap() == [lost.job_id], what="the heartbeat to run out")
    assert book.depth() == QueueDepth(queued=1, running=0)
    assert book.get(lost.job_id).state is JobState.QUEUED
    assert book.reap() == []

    second = claimed(book, lost.job_id)
    assert second.fence > lost.fence
    assert second.record.attempt == 2


def test_a_zombie_worker_cannot_commit(book: JobBook, redis_client: "Redis") -> None:
    zombie = claimed(book, book.create(a_job()).id)
    silence(redis_client, zombie.job_id)
    book.reap()
    second = claimed(book, zombie.job_id)
    key = f"atelier:job:{zombie.job_id}"
    before = redis_client.hgetall(key)

    assert not book.beat(zombie)
    assert not book.succeed(zombie, RESULT, QUICK)
    assert not book.fail(zombie, ImageLostError("gone"), QUICK)
    assert not book.release(zombie)
    assert redis_client.hgetall(key) == before
    assert book.succeed(second, RESULT, QUICK)
    assert book.get(zombie.job_id).attempt == 2


def test_a_zombie_cannot_commit_after_the_second_worker_has(book: JobBook, redis_client: "Redis") -> None:
    zombie = claimed(book, book.create(a_job()).id)
    silence(redis_client, zombie.job_id)
    book.reap()
    second = claimed(book, zombie.job_id)
    book.fail(second, ImageLostError("gone"), QUICK)
    assert not book.succeed(zombie, RESULT, QUICK)
    assert not book.fail(zombie, ImageLostError("gone"), QUICK)
    assert book.get(zombie.job_id).state is JobState.FAILED


def test_a_zombies_beat_keeps_no_job_alive(book: JobBook, redis_client: "Redis") -> None:
    zombie = claimed(book, book.create(a_job()).id)
    silence(redis_client, zombie.job_id)
    book.reap()
    claimed(book, zombie.job_id)
    silence(redis_client, zombie.job_id)
    assert not book.beat(zombie)
    assert book.reap() == [zombie.job_id]


def test_a_worker_taken_for_lost_may_still_end_a_job_that_nobody_has_claimed(
    book: JobBook, redis_client: "Redis"
) -> None:
    slow = claimed(book, book.create(a_job()).id)
    silence(redis_client, slow.job_id)
    assert book.reap() == [slow.job_id]
    assert book.succeed(slow, RESULT, QUICK)
    assert book.get(slow.job_id).state is JobState.SUCCEEDED
    assert book.depth() == QueueDepth(queued=0, running=0)
    assert book.pick() == NOTHING


def test_a_job_that_takes_its_workers_down_fails_when_it_is_reaped(
    book: JobBook, redis_client: "Redis", settings: ContractSettings
) -> None:
    job_id = book.create(a_job()).id
    for attempt in range(1, settings.attempts + 1):
        last = claimed(book, job_id)
        assert last.record.attempt == attempt
        silence(redis_client, job_id)
        assert book.reap() == ([job_id] if attempt < settings.attempts else [])
    _assert_poisoned(book, last)


def test_a_job_that_was_put_back_too_often_fails_when_its_turn_comes(book: JobBook, settings: ContractSettings) -> None:
    job_id = book.create(a_job()).id
    for _ in range(settings.attempts):
        last = claimed(book, job_id)
        assert book.release(last)
    after = book.create(a_job("d" * 64)).id
    assert claimed(book, after).record.attempt == 1
    _assert_poisoned(book, last, running=1)


def _assert_poisoned(book: JobBook, last: Claim, running: int = 0) -> None:
    """Failed as poison, whole and for ever, whatever its last worker says."""
    record = book.get(last.job_id)
    assert record.state is JobState.FAILED
    assert record.error is not None
    assert record.error.code == "poison-job"
    assert record.finished_at is not None
    assert record.expires_at is not None
    assert book.depth() == QueueDepth(queued=0, running=running)
    assert not book.succeed(last, RESULT, QUICK)
    assert not book.fail(last, ImageLostError("gone"), QUICK)
    assert book.pick() == NOTHING
    assert book.get(last.job_id) == record


def test_a_released_job_waits_again_and_the_attempt_counts(book: JobBook, redis_client: "Redis") -> None:
    first = claimed(book, book.create(a_job()).id)
    assert book.release(first)
    assert not redis_client.exists(f"atelier:heartbeat:{first.job_id}")
    assert book.get(first.job_id).state is JobState.QUEUED
    assert book.depth() == QueueDepth(queued=1, running=0)
    assert not book.beat(first)
    assert not book.release(first)
    second = claimed(book, first.job_id)
    assert (second.fence, second.record.attempt) == (3, 2)


def test_an_attempt_that_the_worker_broke_off_does_not_count(book: JobBook, settings: ContractSettings) -> None:
    job_id = book.create(a_job()).id
    for _ in range(2 * settings.attempts):
        assert book.release(claimed(book, job_id), counts=False)
    assert claimed(book, job_id).record.attempt == 1


def test_a_released_job_gets_its_ticket_at_the_next_round(book: JobBook) -> None:
    claim = claimed(book, book.create(a_job()).id)
    assert book.overdue() == 0
    book.release(claim)
    assert book.overdue() == 1


def test_a_worker_taken_for_lost_takes_its_job_back_with_a_beat(book: JobBook, redis_client: "Redis") -> None:
    claim = claimed(book, book.create(a_job()).id)
    silence(redis_client, claim.job_id)
    assert book.reap() == [claim.job_id]
    assert book.beat(claim)
    assert book.get(claim.job_id).state is JobState.RUNNING
    assert book.depth() == QueueDepth(queued=0, running=1)
    assert book.pick() == NOTHING
    assert book.succeed(claim, RESULT, QUICK)


def test_ids_without_a_job_leave_the_sets(book: JobBook, redis_client: "Redis") -> None:
    running = claimed(book, book.create(a_job()).id)
    waiting = book.create(a_job()).id
    silence(redis_client, running.job_id)
    redis_client.delete(f"atelier:job:{running.job_id}", f"atelier:job:{waiting}")
    assert book.reap() == []
    assert book.pick() == NOTHING
    assert set(redis_client.scan_iter("atelier:order:*")) == set()
    assert book.depth() == QueueDepth(queued=0, running=0)


# --- Canceling ---


def test_a_waiting_job_is_canceled(book: JobBook) -> None:
    job_id = book.create(a_job()).id
    record = book.cancel(job_id)
    assert record.state is JobState.CANCELED
    assert record.finished_at is not None
    assert book.depth() == QueueDepth(queued=0, running=0)
    assert book.pick() == NOTHING


def test_the_worker_of_a_canceled_job_can_write_nothing(book: JobBook) -> None:
    claim = claimed(book, book.create(a_job()).id)
    assert book.beat(claim)
    canceled = book.cancel(claim.job_id)
    assert canceled.state is JobState.CANCELED
    assert canceled.fence > claim.fence
    assert not book.beat(claim)
    assert not book.succeed(claim, RESULT, QUICK)
    assert not book.fail(claim, ImageLostError("gone"), QUICK)
    assert not book.release(claim)
    assert book.get(claim.job_id) == canceled
    assert book.depth() == QueueDepth(queued=0, running=0)


def test_a_job_is_canceled_twice_without_harm(book: JobBook) -> None:
    job_id = book.create(a_job()).id
    once = book.cancel(job_id)
    assert book.cancel(job_id) == once


def test_an_ended_job_cannot_be_canceled(book: JobBook) -> None:
    succeeded = claimed(book, book.create(a_job()).id)
    book.succeed(succeeded, RESULT, QUICK)
    with pytest.raises(JobFinishedError, match="succeeded"):
        book.cancel(succeeded.job_id)
    failed = claimed(book, book.create(a_job()).id)
    book.fail(failed, ImageLostError("gone"), QUICK)
    with pytest.raises(JobFinishedError, match="failed"):
        book.cancel(failed.job_id)
    assert book.get(succeeded.job_id).result == RESULT


def test_an_unknown_job_cannot_be_canceled(book: JobBook, redis_client: "Redis") -> None:
    with pytest.raises(JobNotFoundError):
        book.cancel("no-such-job")
    assert list(redis_client.scan_iter()) == []


def test_of_an_end_and_a_cancellation_at_once_one_wins(book: JobBook) -> None:
    with ThreadPoolExecutor(2) as pool:
        for _ in range(30):
            claim = claimed(book, book.create(a_job()).id)
            committing = pool.submit(book.succeed, claim, RESULT, QUICK)
            canceling = pool.submit(book.cancel, claim.job_id)
            finished = isinstance(canceling.exception(), JobFinishedError)
            assert committing.result() is finished
            expected = JobState.SUCCEEDED if finished else JobState.CANCELED
            assert book.get(claim.job_id).state is expected


# --- Expiry ---


@pytest.fixture
def hasty(redis_client: "Redis", settings: ContractSettings) -> JobBook:
    """A book that keeps an ended job for a second, and its id for two more."""
    return JobBook(redis_client, settings.model_copy(update={"result_seconds": 1, "tombstone_seconds": 2}))


def test_an_ended_job_expires_and_is_forgotten_later(hasty: JobBook) -> None:
    claim = claimed(hasty, hasty.create(a_job()).id)
    hasty.succeed(claim, RESULT, QUICK)
    _assert_expires(hasty, claim.job_id)


def test_a_canceled_job_expires_and_is_forgotten_later(hasty: JobBook) -> None:
    job_id = hasty.create(a_job()).id
    hasty.cancel(job_id)
    _assert_expires(hasty, job_id)


def _assert_expires(book: JobBook, job_id: str) -> None:
    until(lambda: _raises(JobExpiredError, book.get, job_id), what="the job to expire")
    assert book.pick() == NOTHING
    with pytest.raises(JobExpiredError):
        book.cancel(job_id)
    until(lambda: _raises(JobNotFoundError, book.get, job_id), what="the job to be forgotten")


def _raises(error: type[Exception], function: Callable[[str], object], argument: str) -> bool:
    try:
        function(argument)
    except AtelierError as raised:
        return isinstance(raised, error)
    return False


def test_a_zombie_cannot_bring_an_expired_job_back(hasty: JobBook, redis_client: "Redis") -> None:
    claim = claimed(hasty, hasty.create(a_job()).id)
    hasty.cancel(claim.job_id)
    until(lambda: _raises(JobExpiredError, hasty.get, claim.job_id), what="the job to expire")
    assert not hasty.beat(claim)
    assert not hasty.succeed(claim, RESULT, QUICK)
    assert not hasty.release(claim)
    assert not redis_client.exists(f"atelier:job:{claim.job_id}", "atelier:queued:stylize", "atelier:running:stylize")


def test_jobs_that_have_not_ended_do_not_expire(hasty: JobBook, redis_client: "Redis") -> None:
    waiting, running = hasty.create(a_job()).id, hasty.create(a_job()).id
    claimed(hasty, running)
    assert [redis_client.ttl(f"atelier:job:{job_id}") for job_id in (waiting, running)] == [-1, -1]


# --- The reaper ---


def test_one_reaper_leads(book: JobBook, redis_client: "Redis") -> None:
    with ThreadPoolExecutor(8) as pool:
        leads = list(pool.map(book.lead_reaping, [f"gateway-{number}" for number in range(8)]))
    assert leads.count(True) == 1
    leader = f"gateway-{leads.index(True)}"
    redis_client.pexpire("atelier:reaper", 2000)
    assert book.lead_reaping(leader)
    assert redis_client.pttl("atelier:reaper") > 2000
    assert not book.lead_reaping("another")


def test_another_reaper_takes_over_from_one_that_is_gone(book: JobBook, redis_client: "Redis") -> None:
    assert book.lead_reaping("first")
    redis_client.pexpire("atelier:reaper", 50)
    until(lambda: book.lead_reaping("second"), what="the lead")
    assert not book.lead_reaping("first")


def test_there_must_be_a_ticket_for_a_job_that_has_waited_for_long(book: JobBook, redis_client: "Redis") -> None:
    old, _ = book.create(a_job()).id, book.create(a_job()).id
    assert book.overdue() == 0
    redis_client.zincrby("atelier:queued:stylize", -TICKET_GRACE_SECONDS - 1, old)
    assert book.overdue() == 1


def test_pictures_are_in_use_until_their_jobs_end(book: JobBook) -> None:
    waiting, running, done = ("1" * 64, "2" * 64, "3" * 64)
    book.create(a_job(waiting))
    book.create(a_job(waiting))
    claimed(book, book.create(a_job(running)).id)
    ended = claimed(book, book.create(a_job(done)).id)
    assert book.pictures_in_use() == {waiting, running, done}
    book.succeed(ended, RESULT, QUICK)
    assert book.pictures_in_use() == {waiting, running}


def test_the_pictures_of_a_style_and_its_previews_are_in_use_while_it_is_trained(book: JobBook) -> None:
    painting, detail, other, preview, later = ("1" * 64, "2" * 64, "3" * 64, "4" * 64, "5" * 64)
    book.create(a_training("waits", other))
    claim = claimed(book, book.create(a_training("runs", painting, detail)).id)
    assert book.pictures_in_use() == {painting, detail, other}
    for shown in (preview, later):
        book.progress(claim, HALFWAY.model_copy(update={"previews": (ImageRef(sha256=shown, bytes=1),)}))
        assert book.pictures_in_use() == {painting, detail, other, shown}
    book.succeed(claim, TRAINED, QUICK)
    assert book.pictures_in_use() == {other}


def test_a_picture_is_in_use_while_its_job_goes_to_and_fro(
    book: JobBook, redis_client: "Redis", settings: ContractSettings
) -> None:
    job_id = book.create(a_job()).id
    stop = threading.Event()

    def to_and_fro() -> None:
        tireless = JobBook(redis_client, settings.model_copy(update={"attempts": 10**6}))
        while not stop.is_set():
            assert tireless.release(claimed(tireless, job_id))

    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(to_and_fro)
        seen = [book.pictures_in_use() for _ in range(300)]
        stop.set()
        moving.result()
    assert all(contents == {"a" * 64} for contents in seen)


# --- Redis in trouble ---

EVERY_QUESTION: list[Callable[[JobBook, Claim], object]] = [
    lambda book, _: book.create(a_job()),
    lambda book, claim: book.forget(claim.job_id),
    lambda book, claim: book.get(claim.job_id),
    lambda book, _: book.unfinished(10),
    lambda book, claim: book.cancel(claim.job_id),
    lambda book, _: book.admit(a_job(), SHARED),
    lambda book, _: book.admit_batch(BatchJob(styles=a_job().styles), [a_job()], SHARED),
    lambda book, _: book.found([a_job()], SHARED),
    lambda book, _: book.reserve("key", "token"),
    lambda book, _: book.unreserve("key", "token"),
    lambda book, claim: book.snapshot(claim.job_id),
    lambda book, claim: book.has_event(claim.job_id, "1-1"),
    lambda book, _: book.depth(),
    lambda book, _: book.oldest_seconds(),
    lambda book, _: book.mean_seconds(),
    lambda book, _: book.counts("admitted"),
    lambda book, _: book.pick(),
    lambda book, _: book.waiting(),
    lambda book, claim: book.beat(claim),
    lambda book, claim: book.progress(claim, HALFWAY),
    lambda book, claim: book.succeed(claim, RESULT, QUICK),
    lambda book, claim: book.fail(claim, ImageLostError("gone"), QUICK),
    lambda book, claim: book.release(claim),
    lambda book, _: book.lead_reaping("me"),
    lambda book, _: book.reap(),
    lambda book, _: book.overdue(),
    lambda book, _: book.missed("stylize", 1),
    lambda book, _: book.pictures_in_use(),
]


def test_a_redis_that_is_down_is_reported_soon(settings: ContractSettings) -> None:
    now = datetime.now(UTC)
    claim = Claim(JobRecord(id="1", state=JobState.RUNNING, request=a_job(), created_at=now, started_at=now), 1)
    url = f"redis://127.0.0.1:{free_port()}/0"
    with connect(url, patience_seconds=1) as client:
        book = JobBook(client, settings)
        for ask in EVERY_QUESTION:
            start = time.monotonic()
            with pytest.raises(QueueUnavailableError) as caught:
                ask(book, claim)
            assert time.monotonic() - start < 3
            assert caught.value.retry_after_seconds
            assert "127.0.0.1" not in str(caught.value)


def test_every_question_is_asked_of_a_redis_that_is_down() -> None:
    public = {name for name in vars(JobBook) if not name.startswith("_")}
    assert {name for ask in EVERY_QUESTION for name in ask.__code__.co_names} >= public


def test_a_redis_that_hangs_is_given_up(settings: ContractSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"redis://127.0.0.1:{deaf.getsockname()[1]}/0"
        with connect(url, patience_seconds=0.5) as client:
            start = time.monotonic()
            with pytest.raises(QueueUnavailableError):
                JobBook(client, settings).depth()
            assert time.monotonic() - start < 5


@pytest.fixture
def full_redis(redis_client: "Redis") -> Iterator[Callable[[], Any]]:
    """Lets Redis run out of memory."""
    yield lambda: redis_client.config_set("maxmemory", 1)
    redis_client.config_set("maxmemory", 0)


def test_a_redis_out_of_memory_takes_no_job_and_keeps_those_it_has(
    book: JobBook, full_redis: Callable[[], Any]
) -> None:
    known = book.create(a_job())
    full_redis()
    with pytest.raises(QueueUnavailableError):
        book.create(a_job())
    with pytest.raises(QueueUnavailableError):
        book.pick()
    assert book.get(known.id) == book.snapshot(known.id).record == known
    assert book.depth() == QueueDepth(queued=1, running=0)


def test_a_job_can_be_taken_back_from_a_redis_out_of_memory(book: JobBook, full_redis: Callable[[], Any]) -> None:
    job_id = book.create(a_job()).id
    full_redis()
    book.forget(job_id)
    assert book.depth() == QueueDepth(queued=0, running=0)


@pytest.fixture
def lose_answer(redis_url: str, redis_client: "Redis") -> Iterator[tuple["Redis", threading.Event]]:
    """A client, and an event after which the answer of its next script is lost: Redis has done it, nobody knows."""
    lose = threading.Event()

    class LossyConnection(Connection):
        asked = ""

        def send_command(self, *args: Any, **kwargs: Any) -> None:
            self.asked = args[0]
            super().send_command(*args, **kwargs)  # type: ignore[no-untyped-call]

        def read_response(self, *args: Any, **kwargs: Any) -> Any:
            answer = super().read_response(*args, **kwargs)
            if self.asked == "EVALSHA" and lose.is_set():
                lose.clear()
                raise RedisConnectionError("the answer is lost")
            return answer

    pool = ConnectionPool.from_url(
        redis_url, connection_class=LossyConnection, decode_responses=True, retry=Retry(NoBackoff(), 1)
    )
    with Redis.from_pool(pool) as client:
        yield client, lose


def test_a_step_whose_answer_is_lost_is_taken_once(
    lose_answer: tuple["Redis", threading.Event], settings: ContractSettings
) -> None:
    client, lose = lose_answer
    book = JobBook(client, settings)

    lose.set()
    job_id = book.create(a_job()).id
    assert book.depth() == QueueDepth(queued=1, running=0)

    lose.set()
    claim = claimed(book, job_id)
    assert (claim.fence, claim.record.attempt) == (1, 1)

    lose.set()
    assert book.succeed(claim, RESULT, QUICK)
    assert book.get(job_id).result == RESULT

    lose.set()
    assert book.create(a_training()).state is JobState.QUEUED  # not refused because of its own name
    assert book.depth("train") == QueueDepth(queued=1, running=0)

    canceled = book.create(a_job()).id
    lose.set()
    assert book.cancel(canceled).state is JobState.CANCELED

    forgotten = book.create(a_job()).id
    lose.set()
    book.forget(forgotten)
    assert book.depth() == QueueDepth(queued=0, running=0)
    assert not lose.is_set()


def test_the_last_place_is_given_even_if_the_answer_is_lost(
    lose_answer: tuple["Redis", threading.Event], settings: ContractSettings
) -> None:
    client, lose = lose_answer
    book = JobBook(client, settings.model_copy(update={"queue_limit": 1}))
    lose.set()
    assert book.create(a_job()).state is JobState.QUEUED
    assert not lose.is_set()
    assert book.depth() == QueueDepth(queued=1, running=0)


def test_jobs_outlive_a_redis_that_crashes(settings: ContractSettings, tmp_path: Path) -> None:
    with own_redis(tmp_path) as redis, connect(redis.url, patience_seconds=10) as client:
        book = JobBook(client, settings)
        claim = claimed(book, book.create(a_job()).id)
        waiting = book.create(a_job())
        redis.stop()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(book.succeed, claim, RESULT, QUICK)
            redis.start()
            assert asked.result()
        assert book.get(claim.job_id).result == RESULT
        assert book.get(waiting.id) == waiting
        assert book.depth() == QueueDepth(queued=1, running=0)


def test_a_book_is_kept_over_a_unix_socket(settings: ContractSettings, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with own_redis(tmp_path, "--unixsocket", str(path)), connect(f"unix://{path}", patience_seconds=2) as client:
        book = JobBook(client, settings)
        claim = claimed(book, book.create(a_job()).id)
        assert book.succeed(claim, RESULT, QUICK)


def test_attempts_are_counted_anew_when_progress_lasts(book: JobBook, settings: ContractSettings) -> None:
    """A training of many hours may lose its trainer more often than three times; only tries in vain are counted."""
    progress = Progress(fraction=0.5, stage=Stage.TRAINING, iteration=5, iterations=10)
    job_id = book.create(a_training()).id
    for _ in range(settings.attempts + 2):
        claim = claimed(book, job_id)
        assert book.progress(claim, progress, lasts=True)
        assert book.get(job_id).attempt == 1
        assert book.release(claim)
    for attempt in range(2, settings.attempts + 1):
        claim = claimed(book, job_id)
        assert book.progress(claim, progress)
        assert book.get(job_id).attempt == attempt
        assert book.release(claim)
    assert book.pick("train") == NOTHING
    assert book.get(job_id).state is JobState.FAILED
