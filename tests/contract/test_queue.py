"""The queue: tickets that say that a job waits and nothing else, and are sent again when they are lost."""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from celery import Celery
from redis import Redis

from contract.admission import Idempotency, Terms
from contract.errors import JobNotFoundError, QueueFullError, QueueUnavailableError, StyleExistsError
from contract.jobbook import ANNOUNCEMENTS, COUNTS, TICKET_GRACE_SECONDS, JobBook, QueueDepth, connect, room_for
from contract.jobs import JobRecord, JobState, Priority, StylizeJob, Timings, TrainJob
from contract.queue import STYLIZE_QUEUE, STYLIZE_TASK, TRAIN_QUEUE, TRAIN_TASK, JobQueue, celery_app
from contract.settings import ContractSettings
from tests.conftest import free_port
from tests.contract.conftest import RESULT, a_job, a_training, claimed, own_redis, silence

TICKETS = "atelier:stylize"
TRAIN_TICKETS = "atelier:train"


@pytest.fixture
def app(settings: ContractSettings) -> Iterator[Celery]:
    with celery_app(settings) as app:
        yield app


@pytest.fixture
def lost_app(settings: ContractSettings) -> Iterator[Celery]:
    """Its broker does not answer."""
    with celery_app(settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{free_port()}/0"})) as app:
        yield app


def _tickets(client: "Redis", queue: str = TICKETS) -> int:
    """How many tickets lie in the queue."""
    return len(_messages(client, queue))


def _messages(client: "Redis", queue: str = TICKETS) -> list[str]:
    return cast(list[str], client.lrange(queue, 0, -1))


def _arguments(message: str) -> dict[str, Any]:
    positional, keywords, _ = json.loads(base64.b64decode(json.loads(message)["body"]))
    assert positional == []
    assert isinstance(keywords, dict)
    return keywords


def _age(client: "Redis", job_id: str) -> None:
    """The job has waited for longer than its ticket may be under way."""
    for waiting in ("atelier:queued:stylize", "atelier:queued:train"):
        if client.zscore(waiting, job_id) is not None:
            client.zincrby(waiting, -TICKET_GRACE_SECONDS - 1, job_id)


def submit(app: Celery, book: JobBook, client: "Redis", request: StylizeJob | TrainJob) -> JobRecord:
    return JobQueue(app, book, client).submit(request)


def reap(app: Celery, book: JobBook, client: "Redis") -> int:
    return JobQueue(app, book, client).reap()


# --- Submitting ---


def test_a_submitted_job_is_written_down_and_has_a_ticket(app: Celery, book: JobBook, redis_client: "Redis") -> None:
    record = submit(app, book, redis_client, a_job())
    assert book.get(record.id) == record
    assert record.state is JobState.QUEUED
    assert _tickets(redis_client) == 1


def test_a_ticket_names_its_task_and_nothing_else(app: Celery, book: JobBook, redis_client: "Redis") -> None:
    record = submit(app, book, redis_client, a_job())
    (raw,) = _messages(redis_client)
    ticket = json.loads(raw)
    assert _arguments(raw) == {}
    assert ticket["content-type"] == "application/json"
    assert ticket["headers"]["task"] == STYLIZE_TASK
    assert record.id not in raw + base64.b64decode(ticket["body"]).decode()


def test_a_training_has_its_ticket_in_a_queue_of_its_own(app: Celery, book: JobBook, redis_client: "Redis") -> None:
    submit(app, book, redis_client, a_job())
    submit(app, book, redis_client, a_training())
    assert _tickets(redis_client) == _tickets(redis_client, TRAIN_TICKETS) == 1
    (raw,) = _messages(redis_client, TRAIN_TICKETS)
    assert json.loads(raw)["headers"]["task"] == TRAIN_TASK
    with app.connection_for_read() as connection, connection.SimpleQueue(TRAIN_QUEUE) as queue:
        message = queue.get(timeout=10)
        assert message.payload[1] == {}
        message.ack()


def test_a_style_that_is_being_trained_gets_no_second_ticket(app: Celery, book: JobBook, redis_client: "Redis") -> None:
    submit(app, book, redis_client, a_training("dusk"))
    with pytest.raises(StyleExistsError):
        submit(app, book, redis_client, a_training("dusk"))
    assert _tickets(redis_client, TRAIN_TICKETS) == 1


def test_everything_in_redis_bears_our_name(app: Celery, book: JobBook, redis_client: "Redis") -> None:
    submit(app, book, redis_client, a_job())
    assert [key for key in redis_client.scan_iter() if not key.startswith("atelier:")] == []


def test_a_full_queue_takes_no_ticket(
    app: Celery, book: JobBook, redis_client: "Redis", settings: ContractSettings
) -> None:
    room = room_for(Priority.NORMAL, settings.queue_limit)
    for _ in range(room):
        submit(app, book, redis_client, a_job())
    with pytest.raises(QueueFullError):
        submit(app, book, redis_client, a_job())
    assert _tickets(redis_client) == room


def test_those_who_cancel_what_they_have_sent_do_not_fill_the_queue_with_tickets(
    app: Celery, book: JobBook, redis_client: "Redis"
) -> None:
    for _ in range(30):
        book.cancel(submit(app, book, redis_client, a_job()).id)
    submit(app, book, redis_client, a_job())
    assert _tickets(redis_client) == 1


def test_a_job_that_several_requests_are_given_has_one_ticket(
    app: Celery, book: JobBook, redis_client: "Redis"
) -> None:
    queue, terms = JobQueue(app, book, redis_client), Terms(Idempotency("key", "token", "payload"), True, True)
    admitted = [queue.admit(a_job(), each) for each in (terms, terms, Terms(None, True, True))]
    assert [admission.how for admission in admitted] == ["created", "replayed", "shared"]
    assert _tickets(redis_client) == 1


def test_a_job_that_another_was_given_outlives_the_loss_of_its_ticket(
    app: Celery, lost_app: Celery, book: JobBook, redis_client: "Redis"
) -> None:
    terms = Terms(None, True, True)
    job_id = book.admit(a_job(), terms).record.id  # by a gateway that is about to lose the broker
    assert JobQueue(lost_app, book, redis_client).admit(a_job(), terms).record.id == job_id
    book.forget(job_id)
    _age(redis_client, job_id)
    assert JobQueue(app, book, redis_client).reap() == 1
    assert _tickets(redis_client) == 1


def test_a_job_without_a_ticket_has_never_been(lost_app: Celery, book: JobBook, redis_client: "Redis") -> None:
    start = time.monotonic()
    with pytest.raises(QueueUnavailableError) as caught:
        submit(lost_app, book, redis_client, a_job())
    assert time.monotonic() - start < 5
    assert caught.value.retry_after_seconds
    assert "127.0.0.1" not in str(caught.value)
    assert book.depth() == QueueDepth(queued=0, running=0)
    assert set(redis_client.scan_iter()) == {ANNOUNCEMENTS, COUNTS, "atelier:order"}


def test_a_training_without_a_ticket_leaves_its_name_free(
    app: Celery, lost_app: Celery, book: JobBook, redis_client: "Redis"
) -> None:
    with pytest.raises(QueueUnavailableError):
        submit(lost_app, book, redis_client, a_training("dusk"))
    assert set(redis_client.scan_iter()) == {ANNOUNCEMENTS, COUNTS, "atelier:order"}
    submit(app, book, redis_client, a_training("dusk"))


def test_a_broker_out_of_memory_takes_no_ticket(app: Celery, book: JobBook, redis_client: "Redis") -> None:
    job_id = book.create(a_job()).id
    _age(redis_client, job_id)
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(QueueUnavailableError):
            reap(app, book, redis_client)
        book.forget(job_id)
    finally:
        redis_client.config_set("maxmemory", 0)
    with pytest.raises(JobNotFoundError):
        book.get(job_id)


def test_the_queue_works_again_when_redis_is_back(settings: ContractSettings, tmp_path: Path) -> None:
    with own_redis(tmp_path) as redis, connect(redis.url, patience_seconds=1) as client:
        book = JobBook(client, settings)
        with celery_app(settings.model_copy(update={"redis_url": redis.url})) as app:
            submit(app, book, client, a_job())
            redis.stop()
            with pytest.raises(QueueUnavailableError):
                submit(app, book, client, a_job())
            redis.start()
            submit(app, book, client, a_job())
            assert _tickets(client) == 2
            assert book.depth() == QueueDepth(queued=2, running=0)


def test_tickets_go_over_a_unix_socket(settings: ContractSettings, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    unix = settings.model_copy(update={"redis_url": f"unix://{path}"})
    with own_redis(tmp_path, "--unixsocket", str(path)), connect(unix.redis_url, patience_seconds=2) as client:
        with celery_app(unix) as app:
            submit(app, JobBook(client, unix), client, a_job())
        assert _tickets(client) == 1


# --- Reaping ---


def test_nothing_is_reaped_while_all_is_well(app: Celery, book: JobBook, redis_client: "Redis") -> None:
    submit(app, book, redis_client, a_job())
    claimed(book, book.create(a_job()).id)
    assert reap(app, book, redis_client) == 0
    assert _tickets(redis_client) == 1


def test_a_lost_ticket_is_sent_again_once(app: Celery, book: JobBook, redis_client: "Redis") -> None:
    job_id = submit(app, book, redis_client, a_job()).id
    redis_client.delete(TICKETS)
    assert reap(app, book, redis_client) == 0  # it may still be under way
    _age(redis_client, job_id)
    assert reap(app, book, redis_client) == 1
    assert reap(app, book, redis_client) == 0
    assert _tickets(redis_client) == 1


def test_a_thousand_rounds_over_a_long_queue_add_no_ticket(app: Celery, book: JobBook, redis_client: "Redis") -> None:
    for _ in range(5):
        _age(redis_client, submit(app, book, redis_client, a_job()).id)
    assert sum(reap(app, book, redis_client) for _ in range(1000)) == 0
    assert _tickets(redis_client) == 5


def test_tickets_that_workers_hold_without_a_job_are_made_up_for_once(
    app: Celery, book: JobBook, redis_client: "Redis"
) -> None:
    """Threads that wait for a suspect to be done alone have taken tickets, and picked nothing yet."""
    for _ in range(5):
        _age(redis_client, submit(app, book, redis_client, a_job()).id)
    redis_client.ltrim(TICKETS, 0, 1)
    assert [reap(app, book, redis_client) for _ in range(100)] == [3] + 99 * [0]
    assert _tickets(redis_client) == 5


def test_only_the_ticket_that_is_missing_is_sent_again(app: Celery, book: JobBook, redis_client: "Redis") -> None:
    first = submit(app, book, redis_client, a_job()).id
    lost = book.create(a_job()).id
    for job_id in (first, lost):
        _age(redis_client, job_id)
    assert reap(app, book, redis_client) == 1
    assert _tickets(redis_client) == 2


def test_the_job_of_a_lost_worker_gets_a_new_ticket(app: Celery, book: JobBook, redis_client: "Redis") -> None:
    job_id = submit(app, book, redis_client, a_job()).id
    redis_client.delete(TICKETS)
    claimed(book, job_id)
    silence(redis_client, job_id)
    assert reap(app, book, redis_client) == 1
    assert _tickets(redis_client) == 1
    assert reap(app, book, redis_client) == 0


def test_lost_jobs_of_every_kind_get_a_new_ticket_in_their_own_queue(
    app: Celery, book: JobBook, redis_client: "Redis"
) -> None:
    stylizing, training, ticketless = (
        submit(app, book, redis_client, request).id for request in (a_job(), a_training("dusk"), a_training("dawn"))
    )
    redis_client.delete(TICKETS, TRAIN_TICKETS)
    for job_id in (stylizing, training):
        claimed(book, job_id)
        silence(redis_client, job_id)
    _age(redis_client, ticketless)
    assert reap(app, book, redis_client) == 3
    assert (_tickets(redis_client), _tickets(redis_client, TRAIN_TICKETS)) == (1, 2)
    assert reap(app, book, redis_client) == 0


def test_a_poisoned_job_gets_no_ticket(
    app: Celery, book: JobBook, redis_client: "Redis", settings: ContractSettings
) -> None:
    job_id = book.create(a_job()).id
    for attempt in range(settings.attempts):
        claimed(book, job_id)
        silence(redis_client, job_id)
        assert reap(app, book, redis_client) == int(attempt + 1 < settings.attempts)
    assert _tickets(redis_client) == 1
    assert book.get(job_id).state is JobState.FAILED


def test_a_released_job_gets_a_new_ticket_at_the_next_round(app: Celery, book: JobBook, redis_client: "Redis") -> None:
    book.release(claimed(book, book.create(a_job()).id))
    assert reap(app, book, redis_client) == 1
    assert _tickets(redis_client) == 1


def test_a_ticket_too_many_does_no_harm(app: Celery, book: JobBook, redis_client: "Redis") -> None:
    """A worker has taken the ticket and not yet picked a job: to the reaper it looks lost."""
    job_id = submit(app, book, redis_client, a_job()).id
    with app.connection_for_read() as connection, connection.SimpleQueue(STYLIZE_QUEUE) as queue:
        taken = queue.get(timeout=10)
        _age(redis_client, job_id)
        assert reap(app, book, redis_client) == 1
        claim = book.pick().claim
        assert claim is not None
        taken.ack()
        again = queue.get(timeout=10)
        assert book.pick().claim is None
        again.ack()
    assert book.succeed(claim, RESULT, Timings())
    assert book.get(job_id).attempt == 1


def test_a_reaper_that_cannot_send_tickets_tries_again(
    app: Celery, lost_app: Celery, book: JobBook, redis_client: "Redis"
) -> None:
    job_id = book.create(a_job()).id
    claimed(book, job_id)
    silence(redis_client, job_id)
    with pytest.raises(QueueUnavailableError):
        reap(lost_app, book, redis_client)
    assert book.get(job_id).state is JobState.QUEUED
    assert reap(app, book, redis_client) == 1
    assert _tickets(redis_client) == 1


# --- Settings ---


def test_celery_is_set_up_for_jobs_that_are_written_down_elsewhere(app: Celery, settings: ContractSettings) -> None:
    conf: Any = app.conf
    assert conf.task_acks_late is True
    assert conf.task_reject_on_worker_lost is False
    assert conf.worker_prefetch_multiplier == 1
    assert conf.task_ignore_result is True
    assert conf.result_backend is None
    assert (conf.task_serializer, conf.accept_content) == ("json", ["json"])
    assert conf.worker_enable_remote_control is False
    assert conf.task_publish_retry is False
    assert conf.broker_transport_options["visibility_timeout"] > settings.job_seconds
    assert conf.broker_transport_options["global_keyprefix"] == "atelier:"


def test_two_apps_in_one_process_keep_to_their_own_settings(settings: ContractSettings) -> None:
    with celery_app(settings) as one, celery_app(settings.model_copy(update={"job_seconds": 10})) as other:
        timeouts = [app.conf.broker_transport_options["visibility_timeout"] for app in (one, other)]
    assert timeouts == [2 * settings.job_seconds, 20]
