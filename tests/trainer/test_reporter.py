"""What a training tells about itself, and that telling costs nothing."""

import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from contract.images import ImageRef, ImageStore
from contract.jobbook import Claim, JobBook, connect, events_key
from contract.jobs import Progress, Stage, TrainJob
from contract.settings import ContractSettings
from contract.storage import open_storage
from tests.conftest import claim_of, until
from trainer.reporter import LAST_STEPS, REPORT_SECONDS, STAGE_BEGINS, Reporter

JOB = TrainJob(name="mine", images=(ImageRef(sha256="0" * 64, bytes=1),))
LONG = 1000.0


@pytest.fixture
def book(settings: ContractSettings, redis_client: object) -> JobBook:
    return JobBook(connect(settings.redis_url, patience_seconds=1), settings)


@pytest.fixture
def claim(book: JobBook) -> Claim:
    claim = claim_of(book, book.create(JOB).id)
    assert claim is not None
    return claim


@pytest.fixture
def images(settings: ContractSettings) -> ImageStore:
    return ImageStore(open_storage(settings.store_url))


def told(book: JobBook, claim: Claim) -> Progress:
    progress = book.get(claim.job_id).progress
    assert progress is not None
    return progress


# --- Stages --------------------------------------------------------------------------------------------------------


def test_stages_follow_one_another_and_the_fraction_only_grows(book: JobBook, images: ImageStore, claim: Claim) -> None:
    reporter = Reporter(book, images, claim, LONG)
    seen = []
    for stage in STAGE_BEGINS:
        reporter.stage(stage)
        progress = told(book, claim)
        assert progress.stage is stage
        assert progress.fraction == STAGE_BEGINS[stage]
        seen.append(progress.fraction)
    assert seen == sorted(set(seen))
    assert 0 <= seen[0] < seen[-1] < 1


def test_the_evaluation_takes_as_much_of_the_job_as_it_is_planned_to(
    book: JobBook, images: ImageStore, claim: Claim
) -> None:
    begins, ends = STAGE_BEGINS[Stage.TRAINING], STAGE_BEGINS[Stage.PUBLISHING]
    told_of: list[tuple[float, float | None]] = []
    for done in (0.0, 0.5, 1.0):
        reporter = Reporter(book, images, claim, LONG)
        reporter.plan(300, 100)
        reporter.stage(Stage.EVALUATING)
        reporter._stage_began -= 10  # as if it had taken so many seconds
        reporter._reported = -math.inf
        reporter.evaluating(done, "half of it")
        progress = told(book, claim)
        told_of.append((progress.fraction, progress.seconds_left))
        assert progress.detail == "half of it"
    middle = begins + 0.75 * (ends - begins)
    assert [fraction for fraction, _ in told_of] == pytest.approx([middle, (middle + ends) / 2, ends])
    before_anything, half_way, at_the_end = (left for _, left in told_of)
    assert (before_anything, at_the_end) == (None, 0)
    assert half_way == pytest.approx(10, abs=5)


@pytest.mark.parametrize(
    ("attempt", "iteration", "died"), [(2, 100, True), (1, 100, False), (2, 99, False), (2, None, False)]
)
def test_it_is_known_that_an_attempt_died_over_the_evaluation(
    book: JobBook, images: ImageStore, claim: Claim, attempt: int, iteration: int | None, died: bool
) -> None:
    """Whatever the attempts after it came to: they prepare first."""
    progress = iteration and Progress(fraction=0.02, stage=Stage.PREPARING, iteration=iteration, iterations=100)
    record = claim.record.model_copy(update={"attempt": attempt, "progress": progress})
    assert Reporter(book, images, replace(claim, record=record), LONG).died_evaluating is died


def test_what_is_fetched_is_said(book: JobBook, images: ImageStore, claim: Claim) -> None:
    Reporter(book, images, claim, LONG).fetching(0.5, "vgg19.pth: 274 of 548 MB")
    progress = told(book, claim)
    assert (progress.stage, progress.detail) == (Stage.FETCHING, "vgg19.pth: 274 of 548 MB")
    assert progress.fraction == STAGE_BEGINS[Stage.PREPARING] / 2


# --- Iterations ----------------------------------------------------------------------------------------------------


def trained(book: JobBook, images: ImageStore, claim: Claim, losses: list[dict[str, float]]) -> Progress:
    """What is told after these iterations of a hundred."""
    reporter = Reporter(book, images, claim, LONG)
    for iteration, of_one in enumerate(losses, start=1):
        reporter.iteration(iteration, 100, of_one)
    reporter.preview(list, now=True)
    return told(book, claim)


def test_losses_are_means_over_the_last_iterations(book: JobBook, images: ImageStore, claim: Claim) -> None:
    losses: list[dict[str, float]] = [{"total": float(iteration)} for iteration in range(60)]
    losses[-1]["identity"] = 7.0  # not every batch has one
    progress = trained(book, images, claim, losses)
    assert (progress.iteration, progress.iterations) == (60, 100)
    assert progress.losses == {"identity": 7.0, "total": pytest.approx(59 - LAST_STEPS / 2)}
    assert progress.fraction == pytest.approx(
        STAGE_BEGINS[Stage.TRAINING] + 0.6 * (STAGE_BEGINS[Stage.EVALUATING] - STAGE_BEGINS[Stage.TRAINING])
    )


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_loss_that_is_no_number_leaves_the_record_readable(
    book: JobBook, images: ImageStore, claim: Claim, broken: float
) -> None:
    progress = trained(book, images, claim, [{"total": 2.0}, {"total": broken, "style": broken}, {"total": 4.0}])
    assert progress.losses == {"total": 3.0}


def test_the_time_that_is_left_is_known_after_two_iterations(book: JobBook, images: ImageStore, claim: Claim) -> None:
    assert trained(book, images, claim, [{"total": 1.0}]).seconds_left is None
    reporter = Reporter(book, images, claim, LONG)
    reporter.plan(10_000, 5_000)
    began = time.monotonic()
    reporter.iteration(1, 10_000, {"total": 1.0})
    until(lambda: time.monotonic() - began > 0.05)
    reporter.iteration(2, 10_000, {"total": 1.0})
    took = time.monotonic() - began
    reporter.preview(list, now=True)
    left = told(book, claim).seconds_left
    assert left is not None
    assert 0.05 * 14_998 - 1 < left < took * 14_998 + 1, "with the evaluation to come"


def test_there_are_at_most_two_reports_a_second(
    book: JobBook, images: ImageStore, claim: Claim, redis_client: "Redis"
) -> None:
    reporter = Reporter(book, images, claim, LONG)
    key = events_key(claim.job_id)
    before, began = redis_client.xlen(key), time.monotonic()
    for iteration in range(1, 3001):
        reporter.iteration(iteration, 3000, {"total": 1.0})
    reports = redis_client.xlen(key) - before
    assert 1 <= reports <= 1 + (time.monotonic() - began) / REPORT_SECONDS


# --- Previews ------------------------------------------------------------------------------------------------------


def test_previews_are_in_the_store_and_in_the_record(book: JobBook, images: ImageStore, claim: Claim) -> None:
    reporter = Reporter(book, images, claim, LONG)
    reporter.preview(lambda: [b"one", b"two"])
    assert [images.open(ref) for ref in told(book, claim).previews] == [b"one", b"two"]
    reporter.preview(lambda: pytest.fail("it is not time for others yet"))
    reporter.preview(lambda: [b"three"], now=True)
    assert [images.open(ref) for ref in told(book, claim).previews] == [b"three"]


def test_previews_that_were_swept_are_there_again_at_the_end(
    book: JobBook, images: ImageStore, claim: Claim, settings: ContractSettings
) -> None:
    reporter = Reporter(book, images, claim, LONG)
    reporter.preview(lambda: [b"one"])
    (ref,) = told(book, claim).previews
    (Path(settings.store_url) / ref.path).unlink()
    reporter.keep_previews()
    assert images.open(ref) == b"one"


def test_a_second_attempt_goes_on_with_what_the_first_one_told(book: JobBook, images: ImageStore, claim: Claim) -> None:
    first = Reporter(book, images, claim, LONG)
    first.preview(lambda: [b"one"])
    assert book.release(claim)
    again = claim_of(book, claim.job_id)
    assert again is not None
    Reporter(book, images, again, LONG).stage(Stage.PREPARING)
    assert len(told(book, claim).previews) == 1


# --- What goes wrong -----------------------------------------------------------------------------------------------


def test_a_redis_that_is_away_costs_a_report_and_no_more(
    images: ImageStore, claim: Claim, settings: ContractSettings
) -> None:
    away = JobBook(connect("redis://127.0.0.1:1/0", patience_seconds=1), settings)
    reporter = Reporter(away, images, claim, LONG)
    began = time.monotonic()
    reporter.stage(Stage.TRAINING)
    reporter.iteration(1, 10, {"total": 1.0})
    reporter.preview(lambda: [b"one"])
    reporter.evaluating(0.5)
    reporter.stage(Stage.PUBLISHING)
    assert time.monotonic() - began < 5


def test_a_store_that_is_away_costs_a_preview_and_no_more(
    book: JobBook, images: ImageStore, claim: Claim, settings: ContractSettings
) -> None:
    folder = Path(settings.store_url) / "images"
    folder.write_text("a file where a folder should be")
    reporter = Reporter(book, images, claim, 0)
    reporter.preview(lambda: [b"one"])
    assert told(book, claim).previews == ()
    folder.unlink()
    reporter.preview(lambda: [b"two"])
    assert [images.open(ref) for ref in told(book, claim).previews] == [b"two"]


def test_a_claim_that_is_lost_is_told_nothing(book: JobBook, images: ImageStore, claim: Claim) -> None:
    reporter = Reporter(book, images, claim, LONG)
    reporter.stage(Stage.PREPARING)
    book.cancel(claim.job_id)
    reporter.stage(Stage.TRAINING)
    assert told(book, claim).stage is Stage.PREPARING
