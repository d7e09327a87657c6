"""Calls of webhooks: written down with the event, made by whoever takes them, kept as long as their job."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from redis import Redis

from contract.admission import Admission, Terms
from contract.errors import DeliveryNotFoundError, InternalError
from contract.jobbook import JobBook
from contract.jobs import JobState, Timings
from contract.outbox import DELIVERIES, OUTBOX, Outbox
from contract.settings import ContractSettings
from contract.webhooks import MAX_DELIVERIES, MAX_WEBHOOKS, Attempt, Delivery, Webhook, WebhookEvent
from tests.conftest import until
from tests.contract.conftest import RESULT, TRAINED, a_job, a_training, claimed, silence

HOOK = Webhook(url="https://one.example/hook")
EVERYTHING = Webhook(url="https://all.example/hook", events=tuple(WebhookEvent))
FAILED = Attempt(at=datetime.now(UTC), outcome="rejected", status=500)


@pytest.fixture
def outbox(redis_client: "Redis") -> Outbox:
    return Outbox(redis_client)


def asked(book: JobBook, webhook: Webhook | None = HOOK) -> Admission:
    """A request that shares its job with equal ones."""
    return book.admit(a_job(), Terms(may_find=True, may_be_found=True, webhook=webhook))


def told(outbox: Outbox, job_id: str) -> list[tuple[str, str, JobState]]:
    """Who is to hear what, and how the job is in it."""
    return [(delivery.url, delivery.event, delivery.record.state) for delivery in outbox.deliveries(job_id)]


def succeed(book: JobBook, job_id: str) -> None:
    assert book.succeed(claimed(book, job_id), RESULT, Timings())


ENDS: dict[str, Callable[[JobBook, str], object]] = {
    "job.succeeded": succeed,
    "job.failed": lambda book, job_id: book.fail(claimed(book, job_id), InternalError("No."), Timings()),
    "job.canceled": lambda book, job_id: book.cancel(job_id),
}


@pytest.mark.parametrize("event", ENDS)
def test_the_end_of_a_job_is_a_call_with_the_job_as_it_ended(book: JobBook, outbox: Outbox, event: str) -> None:
    job_id = asked(book).record.id
    assert outbox.take(10, 30) == []
    ENDS[event](book, job_id)
    (delivery,) = outbox.take(10, 30)
    assert (delivery.event, delivery.url, delivery.id) == (event, HOOK.url, f"{job_id}-1")
    assert delivery.record == book.get(job_id)


def test_a_job_that_is_given_up_is_a_call_too(book: JobBook, outbox: Outbox, redis_client: "Redis") -> None:
    job_id = asked(book).record.id
    for _ in range(3):
        claimed(book, job_id)
        silence(redis_client, job_id)
        book.reap()
    assert told(outbox, job_id) == [(HOOK.url, "job.failed", JobState.FAILED)]


def test_a_training_is_told_of_like_a_picture(book: JobBook, outbox: Outbox) -> None:
    job_id = book.admit(a_training(), Terms(webhook=EVERYTHING)).record.id
    assert book.succeed(claimed(book, job_id), TRAINED, Timings())
    assert [event for _, event, _ in told(outbox, job_id)] == ["job.started", "job.succeeded"]


def test_only_what_was_asked_for_is_told_and_a_start_once(book: JobBook, outbox: Outbox, redis_client: "Redis") -> None:
    job_id = asked(book, EVERYTHING).record.id
    asked(book, HOOK)
    claimed(book, job_id)
    silence(redis_client, job_id)
    book.reap()
    succeed(book, job_id)
    assert told(outbox, job_id) == [
        (EVERYTHING.url, "job.started", JobState.RUNNING),
        (EVERYTHING.url, "job.succeeded", JobState.SUCCEEDED),
        (HOOK.url, "job.succeeded", JobState.SUCCEEDED),
    ]


def test_a_job_without_webhooks_leaves_nothing(book: JobBook, outbox: Outbox, redis_client: "Redis") -> None:
    job_id = asked(book, None).record.id
    succeed(book, job_id)
    assert outbox.deliveries(job_id) == []
    assert [key for name in ("outbox", "deliver") for key in redis_client.scan_iter(f"*{name}*")] == []


# --- A job of several requests -------------------------------------------------------------------------------------


def test_whoever_is_given_the_same_job_is_called_too_and_who_asks_twice_once(book: JobBook, outbox: Outbox) -> None:
    other = Webhook(url="https://two.example/hook")
    admitted = [asked(book, webhook) for webhook in (None, HOOK, other, HOOK)]
    assert [admission.how for admission in admitted] == ["created", "shared", "shared", "shared"]
    succeed(book, admitted[0].record.id)
    assert [url for url, _, _ in told(outbox, admitted[0].record.id)] == [HOOK.url, other.url]


def test_whoever_is_given_a_job_that_has_ended_is_called_at_once(
    book: JobBook, outbox: Outbox, redis_client: "Redis"
) -> None:
    job_id = asked(book, None).record.id
    succeed(book, job_id)
    assert [asked(book).how, asked(book).how] == ["hit", "hit"]
    assert told(outbox, job_id) == [(HOOK.url, "job.succeeded", JobState.SUCCEEDED)] * 2
    assert 0 < redis_client.ttl(f"atelier:deliveries:{job_id}") <= redis_client.ttl(f"atelier:job:{job_id}")
    assert asked(book, Webhook(url=HOOK.url, events=(WebhookEvent.FAILED,))).how == "hit"
    assert len(told(outbox, job_id)) == 2


def test_a_job_has_room_for_so_many_webhooks_and_calls(book: JobBook, outbox: Outbox) -> None:
    first = asked(book, None).record.id
    hooks = [Webhook(url=f"https://{number}.example/") for number in range(MAX_WEBHOOKS + 1)]
    *shared, alone = [asked(book, hook) for hook in hooks]
    assert {admission.record.id for admission in shared} == {first}
    assert alone.how == "created"
    succeed(book, alone.record.id)
    assert [asked(book).how for _ in range(MAX_DELIVERIES)] == ["hit"] * (MAX_DELIVERIES - 1) + ["created"]


# --- Taking, trying, giving up -------------------------------------------------------------------------------------


def test_a_call_is_one_gateways_for_a_while_and_then_anothers(book: JobBook, outbox: Outbox) -> None:
    job_id = asked(book).record.id
    succeed(book, job_id)
    (taken,) = outbox.take(10, 0.2)
    assert outbox.take(10, 30) == []
    again: list[Delivery] = []

    def taken_again() -> bool:
        again.extend(outbox.take(10, 30))
        return bool(again)

    until(taken_again, what="the hold to end")
    assert again == [taken]


def test_what_was_tried_is_kept_and_tried_again_when_it_is_time(
    book: JobBook, outbox: Outbox, redis_client: "Redis"
) -> None:
    job_id = asked(book).record.id
    succeed(book, job_id)
    (taken,) = outbox.take(10, 30)
    outbox.attempted(taken, FAILED, 5)
    (kept,) = outbox.deliveries(job_id)
    assert kept.attempts == (FAILED,)
    assert kept.next_attempt_at is not None
    assert 0 < (kept.next_attempt_at - datetime.now(UTC)).total_seconds() <= 5
    redis_client.zadd("atelier:outbox", {f"{job_id}/1": 0})
    (again,) = outbox.take(10, 30)
    delivered = Attempt(at=datetime.now(UTC), outcome="delivered", status=204)
    outbox.attempted(again, delivered, None)
    (kept,) = outbox.deliveries(job_id)
    assert (kept.attempts, kept.next_attempt_at) == ((FAILED, delivered), None)
    outbox.attempted(taken, FAILED, 0)  # a gateway that comes back from the dead
    assert outbox.take(10, 30) == []
    assert outbox.deliveries(job_id)[0].attempts == (FAILED, delivered, FAILED)


def test_nothing_is_tried_after_the_job_is_gone(
    book: JobBook, outbox: Outbox, redis_client: "Redis", settings: ContractSettings
) -> None:
    job_id = asked(book).record.id
    succeed(book, job_id)
    (taken,) = outbox.take(10, 30)
    outbox.attempted(taken, FAILED, settings.result_seconds + 1)
    assert outbox.deliveries(job_id)[0].next_attempt_at is None
    assert outbox.redeliver(job_id, 1).next_attempt_at is not None
    redis_client.delete(f"atelier:deliveries:{job_id}")  # what time does to it
    assert outbox.take(10, 30) == []
    assert redis_client.zcard("atelier:outbox") == 0
    outbox.attempted(taken, FAILED, 0)
    assert redis_client.exists(f"atelier:deliveries:{job_id}") == 0


def test_a_call_may_be_made_once_more(book: JobBook, outbox: Outbox) -> None:
    job_id = asked(book).record.id
    succeed(book, job_id)
    (taken,) = outbox.take(10, 30)
    outbox.attempted(taken, FAILED, None)
    assert outbox.take(10, 30) == []
    assert outbox.redeliver(job_id, 1).attempts == (FAILED,)
    assert [delivery.number for delivery in outbox.take(10, 30)] == [1]
    for number in (0, 2):
        with pytest.raises(DeliveryNotFoundError):
            outbox.redeliver(job_id, number)


def test_a_call_that_a_newer_gateway_wrote_keeps_no_other_from_being_made(
    book: JobBook, outbox: Outbox, redis_client: "Redis"
) -> None:
    ids = [book.admit(a_job(), Terms(webhook=HOOK)).record.id for _ in range(2)]
    for job_id in ids:
        book.cancel(job_id)
    redis_client.hset(DELIVERIES + ids[0], "1", '{"event": "job.dreamt", "in": "another way"}')
    assert [delivery.job_id for delivery in outbox.take(10, 0.05)] == [ids[1]]
    assert redis_client.zcard(OUTBOX) == 2  # it is left to whoever can read it


def test_of_a_call_that_is_made_again_and_again_the_first_attempts_are_kept(book: JobBook, outbox: Outbox) -> None:
    job_id = book.admit(a_job(), Terms(webhook=HOOK)).record.id
    book.cancel(job_id)
    (taken,) = outbox.take(10, 30)
    long = FAILED.model_copy(update={"detail": "no" * 2000})
    for _ in range(12):
        outbox.attempted(taken, long, 0)
    (told,) = outbox.deliveries(job_id)
    assert len(told.attempts) == 5  # of some 4,000 bytes each
    assert told.next_attempt_at is not None
