"""A claim that is kept while it is worked on."""

import pytest

from contract.images import ImageRef
from contract.jobbook import Claim, JobBook, connect
from contract.jobs import JobState, TrainJob
from contract.settings import ContractSettings
from tests.conftest import claim_of, until
from trainer.keeping import EXIT_STUCK, Keeping

JOB = TrainJob(name="mine", images=(ImageRef(sha256="0" * 64, bytes=1),))


@pytest.fixture
def book(settings: ContractSettings, redis_client: object) -> JobBook:
    return JobBook(connect(settings.redis_url, patience_seconds=1), settings)


@pytest.fixture
def claim(book: JobBook) -> Claim:
    claim = claim_of(book, book.create(JOB).id)
    assert claim is not None
    return claim


def test_a_claim_holds_for_as_long_as_it_is_kept(book: JobBook, claim: Claim, settings: ContractSettings) -> None:
    """Without a beat, it is lost after a second: it must be taken for lost first, and then it is taken back."""
    until(lambda: book.reap("train") == [claim.job_id], what="the job to be taken for lost")
    with Keeping(book, claim, settings.heartbeat_seconds) as keeping:
        until(lambda: book.get(claim.job_id).state is JobState.RUNNING, what="the claim to be taken back")
        assert book.reap("train") == []
        assert not keeping.is_lost


def test_a_claim_that_is_no_longer_kept_is_lost(book: JobBook, claim: Claim, settings: ContractSettings) -> None:
    with Keeping(book, claim, settings.heartbeat_seconds):
        pass
    until(lambda: book.reap("train") == [claim.job_id], what="the job to be taken for lost")


def test_a_job_that_is_canceled_is_lost(book: JobBook, claim: Claim, settings: ContractSettings) -> None:
    with Keeping(book, claim, settings.heartbeat_seconds) as keeping:
        assert not keeping.is_lost
        book.cancel(claim.job_id)
        until(lambda: keeping.is_lost, what="the cancellation to be heard of")


def test_a_job_that_another_trainer_has_is_lost(book: JobBook, claim: Claim, settings: ContractSettings) -> None:
    assert book.release(claim)
    assert claim_of(book, claim.job_id) is not None
    with Keeping(book, claim, settings.heartbeat_seconds) as keeping:
        until(lambda: keeping.is_lost, what="the other claim to be heard of")


def test_a_redis_that_is_away_does_not_lose_a_claim(claim: Claim, settings: ContractSettings) -> None:
    away = connect("redis://127.0.0.1:1/0", patience_seconds=0.1)
    asked: list[bool] = []

    class Book(JobBook):
        def beat(self, claim: Claim) -> bool:
            asked.append(True)
            return super().beat(claim)

    with Keeping(Book(away, settings), claim, 0.01) as keeping:
        until(lambda: len(asked) >= 3, what="it to be tried again")
        assert not keeping.is_lost


def test_a_training_that_hangs_ends_its_process(book: JobBook, claim: Claim, settings: ContractSettings) -> None:
    """So that its supervisor starts another one, which goes on from the state."""
    ended: list[int] = []
    keeping = Keeping(book, claim, settings.heartbeat_seconds, hang_seconds=0.5, end_process=ended.append)
    with keeping:
        for _ in range(4):
            keeping.goes_on()
            assert book.beat(claim)
        assert ended == []
        until(lambda: ended == [EXIT_STUCK], what="the end of the process")
