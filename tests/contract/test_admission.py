"""How requests become jobs: one job for one key, one job for equal requests, and nobody's job is taken away."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from redis import Redis

from contract.admission import Admission, Idempotency, KnownKey, Terms
from contract.errors import (
    ImageLostError,
    JobNotFoundError,
    JobSharedError,
    KeyReusedError,
    QueueFullError,
    RequestInFlightError,
    StyleExistsError,
)
from contract.images import MediaType
from contract.jobbook import RESERVATION_SECONDS, JobBook
from contract.jobs import JobState, StylizeJob, Timings
from contract.settings import ContractSettings
from tests.conftest import until
from tests.contract.conftest import RESULT, a_job, a_training, claimed

SHARED = Terms(may_find=True, may_be_found=True)


def keyed(key: str = "key", token: str = "token", fingerprint: str = "payload", terms: Terms = SHARED) -> Terms:
    return Terms(Idempotency(key, token, fingerprint), terms.may_find, terms.may_be_found)


def done(book: JobBook, job_id: str) -> None:
    assert book.succeed(claimed(book, job_id), RESULT, Timings())


# --- Idempotency keys ------------------------------------------------------------------------------------------------


def test_a_key_is_reserved_for_one_request_and_becomes_its_job(book: JobBook) -> None:
    assert book.reserve("key", "token") is None
    with pytest.raises(RequestInFlightError):
        book.reserve("key", "other")
    job_id = book.admit(a_job(), keyed()).record.id
    assert book.reserve("key", "other") == KnownKey(job_id, "payload")


def test_a_key_that_was_let_go_is_free_and_only_its_holder_lets_go_of_it(book: JobBook) -> None:
    book.reserve("key", "token")
    book.unreserve("key", "other")
    with pytest.raises(RequestInFlightError):
        book.reserve("key", "other")
    book.unreserve("key", "token")
    assert book.reserve("key", "other") is None


def test_a_key_that_has_become_a_job_is_not_let_go(book: JobBook) -> None:
    book.reserve("key", "token")
    book.admit(a_job(), keyed())
    book.unreserve("key", "token")
    assert book.reserve("key", "other") is not None


def test_the_key_of_a_gateway_that_died_is_free_soon(book: JobBook, redis_client: "Redis") -> None:
    book.reserve("key", "token")
    assert 0 < redis_client.ttl("atelier:idempotency:key") <= RESERVATION_SECONDS
    redis_client.delete("atelier:idempotency:key")  # what time does
    assert book.reserve("key", "other") is None


def test_whoever_has_a_key_reserves_it_for_longer(book: JobBook, redis_client: "Redis") -> None:
    book.reserve("key", "token")
    redis_client.pexpire("atelier:idempotency:key", 100)
    book.reserve("key", "token")
    assert redis_client.pttl("atelier:idempotency:key") > 1000


def test_a_request_that_lost_its_reservation_makes_no_second_job(book: JobBook) -> None:
    book.reserve("key", "new")
    with pytest.raises(RequestInFlightError):
        book.admit(a_job(), keyed(token="old"))
    first = book.admit(a_job(), keyed(token="new"))
    assert book.admit(a_job(), keyed(token="old")) == Admission(first.record, "replayed")
    assert book.depth().queued == 1


@pytest.mark.parametrize("request_", [a_job(), a_training()], ids=["stylize", "train"])
def test_many_requests_with_one_key_at_once_are_one_job(book: JobBook, request_: StylizeJob) -> None:
    with ThreadPoolExecutor(8) as pool:
        alone = Terms()
        admitted = list(pool.map(lambda _: book.admit(request_, keyed(terms=alone)), range(16)))
    assert len({admission.record.id for admission in admitted}) == 1
    assert sorted(admission.how for admission in admitted) == ["created", *["replayed"] * 15]


def test_a_key_with_another_payload_is_refused(book: JobBook) -> None:
    book.admit(a_job(), keyed())
    with pytest.raises(KeyReusedError):
        book.admit(a_job("b" * 64), keyed(fingerprint="another"))
    assert book.depth().queued == 1


def test_a_key_is_known_as_long_as_its_job(book: JobBook, redis_client: "Redis", settings: ContractSettings) -> None:
    job_id = book.admit(a_job(), keyed()).record.id
    assert redis_client.ttl("atelier:idempotency:key") == -1
    done(book, job_id)
    left = redis_client.ttl("atelier:idempotency:key")
    assert abs(left - redis_client.ttl(f"atelier:job:{job_id}")) <= 1
    assert 0 < left <= settings.result_seconds
    redis_client.delete(f"atelier:job:{job_id}")
    assert book.reserve("key", "other") is None


def test_the_keys_of_all_who_share_a_job_expire_with_it(book: JobBook, redis_client: "Redis") -> None:
    job_id = book.admit(a_job(), keyed("one", "1")).record.id
    assert book.admit(a_job(), keyed("two", "2")).record.id == job_id
    done(book, job_id)
    assert book.admit(a_job(), keyed("three", "3")) == Admission(book.get(job_id), "hit")
    assert all(redis_client.ttl(f"atelier:idempotency:{key}") > 0 for key in ("one", "two", "three"))


def test_a_full_queue_replays_and_shares_what_it_has(redis_client: "Redis", settings: ContractSettings) -> None:
    book = JobBook(redis_client, settings.model_copy(update={"queue_limit": 1}))
    first = book.admit(a_job(), keyed())
    assert book.admit(a_job(), keyed()).how == "replayed"
    assert book.admit(a_job(), SHARED).record == first.record
    with pytest.raises(QueueFullError):
        book.admit(a_job("b" * 64), keyed("other"))
    assert book.reserve("other", "token") is None


def test_a_training_is_replayed_though_its_name_is_taken(book: JobBook) -> None:
    first = book.admit(a_training(), keyed(terms=Terms()))
    assert book.admit(a_training(), keyed(terms=Terms())) == Admission(first.record, "replayed")
    with pytest.raises(StyleExistsError):
        book.admit(a_training(), keyed("other", terms=Terms()))


# --- Equal requests --------------------------------------------------------------------------------------------------


def test_equal_requests_are_one_job_while_it_goes_on_and_after_it_has_succeeded(book: JobBook) -> None:
    first = book.admit(a_job(), SHARED)
    assert first.how == "created"
    assert book.admit(a_job(), SHARED) == Admission(first.record, "shared")
    claim = claimed(book, first.record.id)
    assert book.admit(a_job(), SHARED).record == claim.record
    assert book.succeed(claim, RESULT, Timings())
    assert book.admit(a_job(), SHARED) == Admission(book.get(claim.job_id), "hit")
    assert book.depth().queued == 0


def test_many_equal_requests_at_once_are_one_job(book: JobBook) -> None:
    with ThreadPoolExecutor(8) as pool:
        admitted = list(pool.map(lambda _: book.admit(a_job(), SHARED), range(16)))
    assert len({admission.record.id for admission in admitted}) == 1
    assert sorted(admission.how for admission in admitted) == ["created", *["shared"] * 15]


OTHERS: dict[str, dict[str, object]] = {
    "another picture": {"content": a_job("b" * 64).content},
    "another size": {"size": 256},
    "another format": {"media_type": MediaType.WEBP},
    "another quality": {"quality": 81},
    "another strength": {"strength": 0.5},
    "its own colours": {"preserve_color": True},
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_a_request_that_differs_in_anything_is_a_job_of_its_own(book: JobBook, change: dict[str, object]) -> None:
    book.admit(a_job(), SHARED)
    assert book.admit(a_job().model_copy(update=change), SHARED).how == "created"


def test_a_request_is_the_same_whether_or_not_its_gateway_has_written_down_how_many_pixels_there_are(
    book: JobBook,
) -> None:
    book.admit(a_job(), SHARED)
    assert book.admit(a_job().model_copy(update={"file_pixels": 12, "result_pixels": 6}), SHARED).how == "shared"


ENDS: dict[str, Callable[[JobBook, str], object]] = {
    "failed": lambda book, job_id: book.fail(claimed(book, job_id), ImageLostError("gone"), Timings()),
    "canceled": lambda book, job_id: book.cancel(job_id),
    "forgotten": lambda book, job_id: book.forget(job_id),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_job_without_a_result_is_not_found(book: JobBook, end: Callable[[JobBook, str], object]) -> None:
    job_id = book.admit(a_job(), SHARED).record.id
    end(book, job_id)
    again = book.admit(a_job(), SHARED)
    assert again.how == "created"
    assert again.record.id != job_id


def test_a_client_finds_jobs_of_its_own_only_and_each_job_knows_whose_it_is(book: JobBook) -> None:
    admitted = [book.admit(a_job(), replace(SHARED, client=name)) for name in ("", "ann", "bob", "ann")]
    assert [admission.how for admission in admitted] == ["created", "created", "created", "shared"]
    assert [admission.record.client for admission in admitted] == ["", "ann", "bob", "ann"]


def test_a_job_that_is_to_be_found_by_nobody_is_not(book: JobBook) -> None:
    first = book.admit(a_job(), Terms()).record.id
    second = book.admit(a_job(), SHARED)
    assert (second.how, second.record.id != first) == ("created", True)
    assert book.admit(a_job(), SHARED).record.id == second.record.id


def test_who_wants_it_done_anew_makes_the_job_that_is_found(book: JobBook) -> None:
    old = book.admit(a_job(), SHARED).record.id
    new = book.admit(a_job(), Terms(may_be_found=True)).record.id
    done(book, old)
    assert book.admit(a_job(), SHARED) == Admission(book.get(new), "shared")
    assert new != old


def test_a_result_that_is_gone_is_not_found(book: JobBook) -> None:
    gone = book.admit(a_job(), SHARED).record.id
    done(book, gone)
    new = book.admit(a_job(), keyed("key")).record.id
    assert new == gone
    again = book.admit(a_job(), Terms(Idempotency("key", "token", "payload"), True, True, gone=frozenset({gone})))
    assert again.how == "created"
    assert book.admit(a_job(), SHARED).record.id == again.record.id


def test_a_result_that_is_about_to_expire_is_not_found(book: JobBook, redis_client: "Redis") -> None:
    job_id = book.admit(a_job(), SHARED).record.id
    done(book, job_id)
    redis_client.expire(f"atelier:job:{job_id}", 50)
    assert book.admit(a_job(), SHARED).how == "created"


def test_a_result_is_found_no_longer_than_it_is_kept(redis_client: "Redis", settings: ContractSettings) -> None:
    book = JobBook(redis_client, settings.model_copy(update={"result_seconds": 1}))
    done(book, book.admit(a_job(), SHARED).record.id)
    assert book.admit(a_job(), SHARED).how == "hit"
    until(lambda: not list(redis_client.scan_iter("atelier:same:*")), 10, "the result to expire")
    assert book.admit(a_job(), SHARED).how == "created"


# --- What others were given ------------------------------------------------------------------------------------------


def test_a_job_that_several_requests_were_given_is_not_canceled(book: JobBook) -> None:
    job_id = book.admit(a_job(), SHARED).record.id
    book.admit(a_job(), SHARED)
    with pytest.raises(JobSharedError):
        book.cancel(job_id)
    assert book.get(job_id).state is JobState.QUEUED
    done(book, job_id)


def test_a_request_that_is_sent_again_does_not_share_its_job(book: JobBook) -> None:
    job_id = book.admit(a_job(), keyed()).record.id
    book.admit(a_job(), keyed())
    book.reserve("key", "again")
    assert book.cancel(job_id).state is JobState.CANCELED


def test_a_job_whose_ticket_was_not_sent_is_kept_for_others_who_were_given_it(book: JobBook) -> None:
    shared, replayed = book.admit(a_job(), SHARED).record.id, book.admit(a_job("b" * 64), keyed()).record.id
    book.admit(a_job(), SHARED)
    book.reserve("key", "again")
    for job_id in (shared, replayed):
        book.forget(job_id)
        assert book.get(job_id).state is JobState.QUEUED


def test_a_job_whose_ticket_was_not_sent_leaves_its_key_free(book: JobBook) -> None:
    job_id = book.admit(a_job(), keyed()).record.id
    book.forget(job_id)
    with pytest.raises(JobNotFoundError):
        book.get(job_id)
    assert book.reserve("key", "other") is None
