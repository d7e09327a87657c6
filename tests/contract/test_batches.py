"""Batches: several pictures, and a job that tells how they do; taken whole or not at all, ended with the last."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest
from redis import Redis

from contract.admission import Admission, Idempotency, Terms
from contract.errors import (
    BrokenImageError,
    ImageLostError,
    JobExpiredError,
    JobFinishedError,
    JobNotFoundError,
    KeyReusedError,
    QueueFullError,
)
from contract.jobbook import ANNOUNCEMENTS, COUNTS, JobBook, QueueDepth, events_key
from contract.jobs import BatchJob, BatchResult, JobRecord, JobState, Priority, StylizeJob, Timings
from contract.outbox import Outbox
from contract.prelude import MAX_BATCHES
from contract.settings import ContractSettings
from contract.webhooks import Webhook, WebhookEvent
from tests.conftest import until
from tests.contract.conftest import RESULT, TINY, a_job, claimed, silence

LAZY = Terms(may_find=True, may_be_found=True, priority=Priority.BATCH)
QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELED = JobState


def pictures(count: int, first: int = 1) -> list[StylizeJob]:
    return [a_job(f"{number:064x}") for number in range(first, first + count)]


def admit(book: JobBook, requests: list[StylizeJob], terms: Terms = LAZY) -> Admission:
    return book.admit_batch(BatchJob(styles=a_job().styles), requests, terms)


def batch_of(book: JobBook, count: int, terms: Terms = LAZY) -> JobRecord:
    return admit(book, pictures(count), terms).record


def states(book: JobBook, batch: JobRecord) -> list[JobState]:
    return [child.state for child in book.get(batch.id).children]


def events(client: "Redis", batch: JobRecord) -> list[dict[str, str]]:
    return [event for _, event in cast(Any, client.xrange(events_key(batch.id)))]


def succeed(book: JobBook, job_id: str) -> None:
    assert book.succeed(claimed(book, job_id), RESULT, Timings())


def fail(book: JobBook, job_id: str) -> None:
    assert book.fail(claimed(book, job_id), BrokenImageError("It is cut off."), Timings())


# --- A life without accidents ---


def test_a_batch_lists_its_children_in_the_order_of_the_pictures(book: JobBook) -> None:
    batch = batch_of(book, 3)
    assert isinstance(batch.request, BatchJob)
    assert (batch.state, batch.request.style) == (QUEUED, str(TINY))
    assert [book.get(child.id).request for child in batch.children] == pictures(3)
    assert states(book, batch) == [QUEUED] * 3
    assert batch.priority is Priority.BATCH
    assert book.depth() == QueueDepth(queued=3, running=0)
    assert book.waiting()[Priority.BATCH] == 3


def test_the_children_are_picked_in_the_order_of_the_pictures(book: JobBook) -> None:
    batch = batch_of(book, 5)
    picks = [book.pick().claim for _ in batch.children]
    assert [claim.job_id for claim in picks if claim] == [child.id for child in batch.children]
    assert book.pick().claim is None, "nobody works on the batch itself"


def test_a_batch_goes_along_with_its_children(book: JobBook, redis_client: "Redis") -> None:
    batch = batch_of(book, 3)
    one, two, three = (child.id for child in batch.children)
    claim = claimed(book, one)
    assert (book.get(batch.id).state, states(book, batch)) == (RUNNING, [RUNNING, QUEUED, QUEUED])
    book.release(claim)
    assert states(book, batch) == [QUEUED] * 3
    succeed(book, one)
    fail(book, two)
    record = book.get(batch.id)
    assert record.progress is not None
    assert record.progress.fraction == pytest.approx(2 / 3)
    assert record.progress.detail == "2 of 3 pictures"
    assert record.finished_at is None
    succeed(book, three)
    record = book.get(batch.id)
    assert (record.state, record.result) == (SUCCEEDED, BatchResult(succeeded=2, failed=1, canceled=0))
    assert states(book, batch) == [SUCCEEDED, FAILED, SUCCEEDED]
    assert record.started_at is not None
    told = events(redis_client, batch)
    assert [event["state"] for event in told if event["event"] == "state"] == ["queued", "running", "succeeded"]
    fractions = [json.loads(event["progress"])["fraction"] for event in told if event["event"] == "progress"]
    assert fractions == [pytest.approx(number / 3) for number in (1, 2, 3)]


def test_a_batch_none_of_whose_pictures_could_be_made_fails(book: JobBook) -> None:
    batch = batch_of(book, 2)
    fail(book, batch.children[0].id)
    book.cancel(batch.children[1].id)
    record = book.get(batch.id)
    assert (record.state, record.result) == (FAILED, None)
    assert record.error is not None
    assert record.error.code == "batch-failed"


def test_a_batch_all_of_whose_pictures_were_canceled_is_canceled(book: JobBook) -> None:
    batch = batch_of(book, 2)
    for child in batch.children:
        book.cancel(child.id)
    assert book.get(batch.id).state is CANCELED


# --- All or nothing ---


def test_a_batch_that_does_not_fit_into_the_queue_is_refused_whole(
    book: JobBook, redis_client: "Redis", settings: ContractSettings
) -> None:
    room = 9  # three quarters of it
    assert settings.queue_limit == 12
    batch_of(book, room - 2)
    before = sorted(redis_client.scan_iter())
    with pytest.raises(QueueFullError, match=str(room)):
        admit(book, pictures(3, first=100))
    assert sorted(redis_client.scan_iter()) == before
    assert book.depth().queued == room - 2
    admit(book, pictures(2, first=100))


def test_of_many_batches_at_once_those_are_taken_that_fit(book: JobBook) -> None:
    def create(number: int) -> bool:
        try:
            admit(book, pictures(4, first=10 * number))
        except QueueFullError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(create, range(1, 20)))
    assert taken.count(True) == 2
    assert book.depth().queued == 8


def test_what_is_there_already_needs_no_room(book: JobBook) -> None:
    batch_of(book, 9)
    shared = batch_of(book, 9)
    assert book.depth().queued == 9
    assert len(shared.children) == 9


# --- Children that there are ---


def test_children_are_found_like_every_job(book: JobBook) -> None:
    done = book.admit(pictures(1)[0], LAZY).record.id
    succeed(book, done)
    waiting = book.admit(pictures(1, first=2)[0], LAZY).record.id
    batch = batch_of(book, 3)
    assert [child.id for child in batch.children[:2]] == [done, waiting]
    assert states(book, batch) == [SUCCEEDED, QUEUED, QUEUED]
    assert book.get(batch.id).state is RUNNING
    counts = book.counts("admitted")
    assert [counts["stylize", how] for how in ("created", "shared", "hit")] == [3, 1, 1]
    for child in batch.children[1:]:
        succeed(book, child.id)
    assert book.get(batch.id).state is SUCCEEDED


def test_a_batch_whose_pictures_are_all_there_has_ended_at_once(book: JobBook) -> None:
    first = batch_of(book, 2)
    for child in first.children:
        succeed(book, child.id)
    again = batch_of(book, 2)
    assert again.id != first.id
    assert again.children == book.get(first.id).children
    assert (again.state, again.result) == (SUCCEEDED, BatchResult(succeeded=2, failed=0, canceled=0))
    assert again.progress is not None
    assert again.progress.fraction == 1


def test_equal_pictures_of_a_batch_are_one_job_which_is_not_shared(book: JobBook) -> None:
    picture, other = pictures(2)
    batch = admit(book, [picture, other, picture]).record
    one, _, again = (child.id for child in batch.children)
    assert one == again
    assert book.depth().queued == 2
    book.cancel(one)
    assert states(book, batch) == [CANCELED, QUEUED, CANCELED]
    succeed(book, batch.children[1].id)
    assert book.get(batch.id).result == BatchResult(succeeded=1, failed=0, canceled=2)


def test_equal_pictures_that_are_to_be_made_anew_are_two_jobs(book: JobBook) -> None:
    picture = a_job()
    batch = admit(book, [picture, picture], Terms(priority=Priority.BATCH)).record
    assert len({child.id for child in batch.children}) == 2


def test_an_end_counts_for_every_batch_of_the_job(book: JobBook) -> None:
    batches = [batch_of(book, 1) for _ in range(3)]
    (job_id,) = {child.id for batch in batches for child in batch.children}
    succeed(book, job_id)
    assert {book.get(batch.id).state for batch in batches} == {SUCCEEDED}


def test_a_job_is_the_child_of_so_many_batches_and_then_another_is_made(book: JobBook) -> None:
    """Whatever becomes of it is written down in all of them."""
    batches = [batch_of(book, 1) for _ in range(2 * MAX_BATCHES)]
    assert len({child.id for batch in batches for child in batch.children}) == 2
    assert book.depth().queued == 2


def test_a_child_that_ended_unseen_breaks_no_later_step_of_another(book: JobBook, redis_client: "Redis") -> None:
    """An older worker knows no batches, and ends a child without a word to them."""
    batch = batch_of(book, 2)
    first, second = (child.id for child in batch.children)
    redis_client.hset(f"atelier:job:{first}", "state", "failed")
    assert book.release(claimed(book, second), counts=False)
    succeed(book, second)
    assert book.get(batch.id).state is SUCCEEDED


def test_a_result_that_is_gone_is_made_anew(book: JobBook) -> None:
    first = batch_of(book, 2)
    for child in first.children:
        succeed(book, child.id)
    gone, kept = (child.id for child in first.children)
    assert [record.id for record in book.found(pictures(2), LAZY)] == [gone, kept]
    again = admit(book, pictures(2), replace(LAZY, gone=frozenset({gone}))).record
    assert again.children[0].id != gone
    assert again.children[1].id == kept
    assert states(book, again) == [QUEUED, SUCCEEDED]


def test_a_batch_has_an_idempotency_key(book: JobBook) -> None:
    terms = replace(LAZY, idempotency=Idempotency("key", "token", "payload"), may_find=False)
    first = admit(book, pictures(2), terms)
    again = admit(book, pictures(2), terms)
    assert (again.how, again.record.id) == ("replayed", first.record.id)
    assert book.depth().queued == 2
    with pytest.raises(KeyReusedError):
        admit(book, pictures(2), replace(terms, idempotency=Idempotency("key", "token", "other")))


# --- Canceling ---


def test_a_canceled_batch_takes_its_children_with_it(book: JobBook) -> None:
    batch = batch_of(book, 3)
    done, running, _ = (child.id for child in batch.children)
    succeed(book, done)
    claim = claimed(book, running)
    assert book.cancel(batch.id).state is CANCELED
    assert states(book, batch) == [SUCCEEDED, CANCELED, CANCELED]
    assert not book.succeed(claim, RESULT, Timings())
    assert book.depth() == QueueDepth(queued=0, running=0)
    assert book.cancel(batch.id).state is CANCELED, "twice is no error"


def test_children_that_others_were_given_go_on(book: JobBook) -> None:
    batch = batch_of(book, 2)
    shared, alone = (child.id for child in batch.children)
    assert book.admit(pictures(1)[0], LAZY).how == "shared"
    book.cancel(batch.id)
    assert (book.get(shared).state, book.get(alone).state) == (QUEUED, CANCELED)
    succeed(book, shared)
    assert book.get(batch.id).state is CANCELED


def test_a_batch_that_has_ended_cannot_be_canceled(book: JobBook) -> None:
    batch = batch_of(book, 1)
    succeed(book, batch.children[0].id)
    with pytest.raises(JobFinishedError):
        book.cancel(batch.id)


# --- What goes wrong ---


def test_children_that_kill_their_workers_end_their_batch(
    book: JobBook, redis_client: "Redis", settings: ContractSettings
) -> None:
    batch = batch_of(book, 1)
    (child,) = batch.children
    for attempt in range(settings.attempts):
        claimed(book, child.id)
        silence(redis_client, child.id)
        assert states(book, batch) == [RUNNING]
        book.reap()
        assert states(book, batch) == [QUEUED if attempt + 1 < settings.attempts else FAILED]
    assert book.get(batch.id).state is FAILED


def test_a_child_that_is_taken_back_by_its_worker_runs_again(book: JobBook, redis_client: "Redis") -> None:
    batch = batch_of(book, 1)
    claim = claimed(book, batch.children[0].id)
    silence(redis_client, claim.job_id)
    book.reap()
    assert book.beat(claim)
    assert states(book, batch) == [RUNNING]


def test_of_many_ends_at_once_the_last_one_ends_the_batch(book: JobBook, redis_client: "Redis") -> None:
    batch = batch_of(book, 8)
    claims = [claimed(book, child.id) for child in batch.children]
    together = threading.Barrier(8)

    def end(number: int) -> None:
        together.wait(30)
        if number % 2:
            assert book.succeed(claims[number], RESULT, Timings())
        else:
            assert book.fail(claims[number], ImageLostError("gone"), Timings())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(end, range(8)))
    assert book.get(batch.id).result == BatchResult(succeeded=4, failed=4, canceled=0)
    assert [event.get("state") for event in events(redis_client, batch)].count("succeeded") == 1
    assert book.counts("finished")["batch", "succeeded"] == 1  # type: ignore[index]


def test_a_child_that_is_gone_does_not_keep_its_batch_from_ending(book: JobBook, redis_client: "Redis") -> None:
    """Evicted, or deleted by hand."""
    batch = batch_of(book, 3)
    evicted, expired, last = (child.id for child in batch.children)
    redis_client.delete(f"atelier:job:{evicted}")
    succeed(book, expired)
    redis_client.delete(f"atelier:job:{expired}")
    succeed(book, last)
    assert book.get(batch.id).result == BatchResult(succeeded=2, failed=1, canceled=0)


def test_a_webhook_hears_of_the_batch_and_not_of_its_children(book: JobBook, redis_client: "Redis") -> None:
    events = (WebhookEvent.STARTED, WebhookEvent.SUCCEEDED)
    batch = batch_of(book, 2, replace(LAZY, webhook=Webhook(url="https://example.com/", events=events)))
    for child in batch.children:
        succeed(book, child.id)
    outbox = Outbox(redis_client)
    calls = outbox.deliveries(batch.id)
    assert [call.event for call in calls] == list(events)
    assert [child.state for child in calls[-1].record.children] == [SUCCEEDED, SUCCEEDED]
    assert [outbox.deliveries(child.id) for child in batch.children] == [[], []]


def test_a_batch_whose_tickets_cannot_be_sent_has_never_been(book: JobBook, redis_client: "Redis") -> None:
    batch = admit(
        book, pictures(3), replace(LAZY, webhook=Webhook(url="https://one.example/", events=(WebhookEvent.STARTED,)))
    ).record
    redis_client.hset(f"atelier:deliveries:{batch.id}", "1", "{}")  # a start that was called already
    book.forget(batch.id)
    with pytest.raises(JobNotFoundError):
        book.get(batch.id)
    assert book.depth() == QueueDepth(queued=0, running=0)
    assert set(redis_client.scan_iter()) == {ANNOUNCEMENTS, COUNTS, "atelier:order"}


def test_what_somebody_has_begun_is_not_taken_back_with_its_batch(book: JobBook) -> None:
    batch = batch_of(book, 2)
    claim = claimed(book, batch.children[0].id)
    book.forget(batch.id)
    assert book.depth() == QueueDepth(queued=0, running=1)
    assert book.succeed(claim, RESULT, Timings())


# --- How long they live ---


def test_children_live_as_long_as_their_batch(book: JobBook, redis_client: "Redis") -> None:
    batch = batch_of(book, 2)
    first, last = (child.id for child in batch.children)
    succeed(book, first)
    redis_client.expire(f"atelier:job:{first}", 5)  # time goes by
    succeed(book, last)
    lives = [redis_client.ttl(f"atelier:job:{job_id}") for job_id in (first, last, batch.id)]
    assert max(lives) - min(lives) <= 1
    assert min(lives) > 3000
    ends = [book.get(job_id).expires_at for job_id in (first, last, batch.id)]
    assert max(filter(None, ends)) - min(filter(None, ends)) < timedelta(seconds=1)


def test_a_batch_expires_with_its_children(redis_client: "Redis", settings: ContractSettings) -> None:
    hasty = JobBook(redis_client, settings.model_copy(update={"result_seconds": 1}))
    batch = batch_of(hasty, 1)
    succeed(hasty, batch.children[0].id)

    def is_over() -> bool:
        try:
            hasty.get(batch.id)
        except JobExpiredError:
            return True
        return False

    until(is_over, what="the batch to expire")
    assert hasty.pictures_in_use() == set()
    assert not redis_client.exists("atelier:batches")


def test_what_children_have_made_is_in_use_as_long_as_the_batch(book: JobBook) -> None:
    batch = batch_of(book, 2)
    first, last = (child.id for child in batch.children)
    succeed(book, first)
    assert book.pictures_in_use() == {f"{2:064x}", RESULT.sha256}
    succeed(book, last)
    assert book.pictures_in_use() == {RESULT.sha256}


def test_batches_are_listed_before_their_jobs_until_they_have_ended(book: JobBook) -> None:
    batch = batch_of(book, 5)
    one, *others = (child.id for child in batch.children)
    assert [record.id for record in book.unfinished(10)[0]] == [batch.id, one, *others]
    assert [record.id for record in book.unfinished(10, kind="batch")[0]] == [batch.id]
    succeed(book, one)
    assert [record.id for record in book.unfinished(10)[0]] == [batch.id, *others]
    for job_id in others:
        succeed(book, job_id)
    assert book.unfinished(10) == ([], 0)
