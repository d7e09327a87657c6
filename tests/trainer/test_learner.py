"""From a job to a style: what is published, and how a job fails. On a real Redis and a real store, in one process."""

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import obstore
import pytest
import safetensors.torch
import torch
from PIL import Image

from contract.errors import StoreUnavailableError, TrainingDivergedError
from contract.jobbook import Claim, JobBook
from contract.jobs import JobRecord, JobState, Progress, Stage, TrainJob, TrainResult
from contract.styles import StyleCard, StylePicture, StyleSource, StyleStatus
from generator.checkpoint import Checkpoint, content_row
from tests.conftest import claim_of, tiny_bank, until
from tests.pictures import decoded, encoded
from tests.trainer.conftest import able, patches, pictures
from tests.trainer.file_server import IMPATIENT, Served, serving, stay_at_home
from tests.trainer.service import LONG, Service, base_bank, easy_painting, gone, hard_painting, result_of
from trainer.app import Trainer
from trainer.content import Photographs
from trainer.fetch import Sources, descriptor_file, fetch_missing
from trainer.learner import TRAININGS, Learner
from trainer.reporter import Reporter
from trainer.settings import TrainerSettings
from trainer.sheets import jpeg, wide_sheet

Work = Callable[[Trainer], "Future[None]"]


@pytest.fixture
def service(trainer_settings: TrainerSettings, redis_client: object) -> Service:
    """With a style whose trunk has a row for the content."""
    service = Service(trainer_settings)
    service.publish("base", base_bank())
    return service


@pytest.fixture
def work() -> Iterator[Work]:
    """Works on a job in a thread of its own, as Celery does: a training lowers the priority of its thread for good."""
    with ThreadPoolExecutor(2) as pool:
        yield lambda trainer: pool.submit(trainer.work)


@pytest.fixture
def learnt(service: Service, work: Work) -> Callable[..., JobRecord]:
    """What becomes of a job: (name, picture, **options of the job) → its record at the end."""

    def learn(name: str = "mine", picture: bytes | None = None, **options: Any) -> JobRecord:
        job_id = service.create(name, picture, **options)
        work(Trainer(service.settings)).result(100)
        return service.book.get(job_id)

    return learn


def failure(record: JobRecord) -> tuple[str, str]:
    assert record.state is JobState.FAILED
    assert record.error is not None
    return record.error.code, record.error.detail


# --- What is learnt ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class School:
    """A service in which three styles have been learnt, and the records of their jobs."""

    service: Service
    quick: JobRecord
    full: JobRecord
    draft: JobRecord

    def card(self, name: str) -> StyleCard:
        return self.service.styles.get(name)


@pytest.fixture(scope="module")
def school(tmp_path_factory: pytest.TempPathFactory, redis_url: str, vgg: Path, photographs: Path) -> School:
    service = Service(able(tmp_path_factory.mktemp("school"), redis_url, vgg, photographs))
    service.publish("base", base_bank())
    jobs = {
        "quick": service.create("my_own-style", description="A painting."),
        "full": service.create("full", title="In full", quality="full"),
        "draft": service.create("draft", hard_painting(), iterations=1),
    }
    trainer = Trainer(service.settings)
    with ThreadPoolExecutor(1) as pool:
        for _ in jobs:
            pool.submit(trainer.work).result(100)
    return School(service, **{name: service.book.get(job_id) for name, job_id in jobs.items()})


def test_a_quick_style_is_a_vector_on_the_trunk_of_the_base(school: School) -> None:
    result, card = result_of(school.quick), school.card("my_own-style")
    assert school.quick.state is JobState.SUCCEEDED
    assert (str(result.style), result.status, result.reason) == ("my_own-style@1", StyleStatus.PUBLISHED, "")
    assert card.trunk == school.service.base.trunk
    assert (card.title, card.description, card.source) == ("My own style", "A painting.", StyleSource.TRAINED)
    assert card.has_content_row
    moved = (school.service.vector("my_own-style") - base_bank().styles[1]).abs()
    assert 1e-3 < moved.max() < 0.1, "three small steps from the nearest row"
    assert card.training is not None
    assert (card.training.method, card.training.iterations, card.training.start) == ("quick", 3, "base@1")
    assert (card.training.size, card.training.style_size) == (32, 128)


def test_a_full_style_brings_its_own_trunk_and_a_row_for_the_content(school: School) -> None:
    assert school.full.state is JobState.SUCCEEDED
    card = school.card("full")
    assert card.trunk != school.service.base.trunk
    assert (card.title, card.width, card.has_content_row) == ("In full", 4, True)
    row = content_row(school.service.styles.read_trunk(card.trunk))
    assert row is not None
    assert (row - base_bank().styles[0]).abs().max() > 1e-4, "which has been trained, too"
    assert card.training is not None
    assert card.training.method == "full"


@pytest.mark.parametrize("name", ["my_own-style", "full"])
def test_what_is_published_is_what_was_evaluated(school: School, name: str) -> None:
    """The pictures that were looked at are those that the weights in the store make."""
    service, card = school.service, school.card(name)
    assert service.settings.content is not None
    contents = Photographs(service.settings.content, seed=0).held_out_squares(8, 32)
    stylized = service.stylized(name, contents)
    assert service.styles.picture(card, StylePicture.THUMBNAIL) == jpeg(stylized[0])
    assert service.styles.picture(card, StylePicture.SHEET) == jpeg(wide_sheet(contents, stylized))
    for record in (school.quick, school.full):
        result = result_of(record)
        assert result.evaluation == service.styles.get(str(result.style)).evaluation


def test_the_evaluation_holds_yardsticks(school: School) -> None:
    evaluation = result_of(school.quick).evaluation
    assert evaluation is not None
    assert evaluation.untouched.content == 0
    assert evaluation.stylized.total < evaluation.untouched.total
    assert evaluation.optimised is not None
    assert evaluation.optimised.total < evaluation.stylized.total
    assert (evaluation.photographs, evaluation.size, evaluation.optimised_photographs) == (1, 32, 1)


def test_a_style_that_fails_its_check_is_a_draft_with_a_reason(school: School) -> None:
    result = result_of(school.draft)
    assert result.status is StyleStatus.DRAFT
    assert "style loss" in result.reason
    assert school.service.styles.active_card("draft") is None
    card = school.card("draft@1")
    assert (card.status, card.reason) == (StyleStatus.DRAFT, result.reason)
    assert school.service.stylized("draft@1", pictures(1)).isfinite().all(), "it can be looked at"


def test_the_last_previews_are_those_of_the_style(school: School) -> None:
    service, progress = school.service, school.quick.progress
    assert progress is not None
    assert progress.stage is Stage.PUBLISHING
    assert [service.images.open(ref) for ref in progress.previews] == [
        service.styles.picture(school.card("my_own-style"), StylePicture.THUMBNAIL)
    ]


def test_nothing_is_left_of_a_training(school: School) -> None:
    assert school.service.leftovers() == []


def test_a_style_may_have_any_name(service: Service, learnt: Callable[..., JobRecord]) -> None:
    """``content`` is what the row of a bank is called that is no style."""
    assert learnt("content", iterations=1).state is JobState.SUCCEEDED
    assert (service.vector("content") - base_bank().styles[1]).abs().max() > 1e-3


def test_a_style_may_be_learnt_from_several_pictures(service: Service, learnt: Callable[..., JobRecord]) -> None:
    refs = tuple(service.images.put(data) for data in (easy_painting(), hard_painting()))
    assert learnt("both", images=refs).state is JobState.SUCCEEDED
    assert not torch.equal(service.vector("both@1"), base_bank().styles[1])


def test_a_new_version_is_learnt_beside_the_old_one(service: Service, learnt: Callable[..., JobRecord]) -> None:
    service.publish("mine", tiny_bank("mine", seed=3), StyleSource.TRAINED)
    assert str(result_of(learnt("mine")).style) == "mine@2"
    assert service.styles.versions("mine") == [1, 2]
    assert service.styles.get("mine").version == 2


@pytest.mark.parametrize("replace", [False, True])
def test_a_style_that_was_given_the_name_meanwhile_stays_the_style_unless_it_was_to_be_replaced(
    service: Service, work: Work, replace: bool
) -> None:
    job_id = service.create("mine", replace=replace)
    service.publish("mine", tiny_bank("mine", seed=3), StyleSource.IMPORTED)
    work(Trainer(service.settings)).result(100)
    result = result_of(service.book.get(job_id))
    assert str(result.style) == "mine@2"
    assert result.status is (StyleStatus.PUBLISHED if replace else StyleStatus.DRAFT)
    assert result.reason == (
        "" if replace else ("While it was learnt, mine@1 was published: activate this version to put it in its place.")
    )
    assert service.styles.get("mine").version == (2 if replace else 1)


# --- What it begins with -------------------------------------------------------------------------------------------


def begun(service: Service, work: Work) -> str:
    """What a quick job starts from."""
    job_id = service.create("begun", iterations=1)
    work(Trainer(service.settings)).result(100)
    card = service.styles.get(str(result_of(service.book.get(job_id)).style))
    assert card.training is not None
    base = service.styles.get(card.training.start)
    assert card.trunk == base.trunk
    assert card.has_content_row == base.has_content_row
    return card.training.start


def test_the_base_is_one_that_ships_with_atelier_and_can_show_the_content(service: Service, work: Work) -> None:
    service.publish("a_builtin_of_old", tiny_bank("a_builtin_of_old", seed=3))
    service.publish("a_style_of_theirs", tiny_bank("content", "a_style_of_theirs", seed=4), StyleSource.IMPORTED)
    assert begun(service, work) == "base@1"


def test_the_settings_may_name_the_base_and_a_version_that_is_not_active(service: Service, work: Work) -> None:
    for seed in (4, 5):
        service.publish("theirs", tiny_bank("theirs", seed=seed, width=3), StyleSource.IMPORTED)
    assert begun(service.other(base_style="theirs@1"), work) == "theirs@1"


def test_a_new_style_begins_with_the_nearest_of_all_styles_on_the_trunk(
    service: Service, learnt: Callable[..., JobRecord]
) -> None:
    bank = base_bank()
    odd = Checkpoint(bank.config, bank.trunk, ("content", "base", "odd"), torch.cat([bank.styles, 1 - bank.styles[1:]]))
    service.publish("odd", odd)
    learnt("mine", iterations=1)
    moved = {name: float((service.vector("mine") - service.vector(name)).abs().max()) for name in ("base", "odd")}
    assert moved["base"] < 0.05 < moved["odd"]


def test_without_any_style_there_is_nothing_to_begin_with(
    trainer_settings: TrainerSettings, redis_client: object, work: Work
) -> None:
    service = Service(trainer_settings)
    job_id = service.create()
    work(Trainer(service.settings)).result(100)
    code, detail = failure(service.book.get(job_id))
    assert code == "training-data-missing"
    assert "import a bank first" in detail


# --- What it tells -------------------------------------------------------------------------------------------------


def test_a_job_tells_how_far_it_is_and_shows_what_it_has_come_to(service: Service, work: Work) -> None:
    trainer, job_id = Trainer(service.settings), service.create(iterations=LONG)
    learning = work(trainer)
    stages: set[Stage] = set()

    def is_far() -> bool:
        progress = service.progress(job_id)
        if progress is not None:
            stages.add(progress.stage)
        return progress is not None and progress.iteration >= 3 and len(progress.losses) == 3

    until(is_far, 60, "some iterations")
    progress = service.progress(job_id)
    assert progress is not None
    assert stages <= {Stage.PREPARING, Stage.TRAINING}
    assert progress.iterations == LONG
    assert set(progress.losses) == {"total", "content", "style"}
    assert progress.seconds_left is not None
    assert 0.05 <= progress.fraction < 0.06
    first = progress.previews
    assert [decoded(service.images.open(ref)).size for ref in first] == [(32, 32)]
    until(lambda: (service.progress(job_id) or progress).previews != first, 30, "another preview")
    trainer.stop()
    learning.result(30)


# --- How it ends otherwise -----------------------------------------------------------------------------------------


def test_a_job_that_is_canceled_stops_between_iterations_and_leaves_nothing(service: Service, work: Work) -> None:
    service = service.other(checkpoint_seconds=0.01)
    job_id = service.create(iterations=LONG)
    learning = work(Trainer(service.settings))
    until(lambda: service.iteration(job_id) >= 3, 60, "some iterations")
    assert service.leftovers() != []
    service.book.cancel(job_id)
    learning.result(30)
    assert service.book.get(job_id).state is JobState.CANCELED
    assert service.leftovers() == []
    assert service.styles.versions("mine") == []


def test_a_trainer_that_lost_its_job_to_another_writes_nothing_more(service: Service, work: Work) -> None:
    """It would go back to where it was the work of the one that has it now."""
    job_id = service.create(iterations=LONG)
    learning = work(Trainer(service.settings))
    until(lambda: service.iteration(job_id) >= 3, 60, "some iterations")
    record = service.book.get(job_id)
    assert service.book.release(Claim(record, record.fence))
    obstore.put(service.storage, f"{TRAININGS}{job_id}/state.pt", b"of the other")
    learning.result(30)
    assert service.leftovers() == [f"{job_id}/state.pt"]
    assert (Path(service.settings.store_url) / TRAININGS / job_id / "state.pt").read_bytes() == b"of the other"
    assert service.book.get(job_id).state is JobState.QUEUED


def test_a_training_that_stops_is_gone_on_with_and_ends_where_it_would_have_ended(
    service: Service, work: Work, tmp_path: Path
) -> None:
    job_id = service.create(iterations=30)
    first = Trainer(service.settings)
    learning = work(first)
    until(lambda: service.iteration(job_id) >= 2, 60, "some iterations")
    first.stop()
    learning.result(30)
    record, state = service.book.get(job_id), service.saved(job_id)
    assert (record.state, record.attempt) == (JobState.QUEUED, 0), "which was not the fault of the job"
    assert state is not None
    assert 2 <= state["iteration"] < 30

    work(Trainer(service.settings)).result(100)
    card = service.styles.get(str(result_of(service.book.get(job_id)).style))
    assert card.training is not None
    assert card.training.iterations == 30
    assert service.leftovers() == []

    elsewhere = service.other(data=tmp_path / "elsewhere")
    elsewhere.publish("base", base_bank())
    elsewhere.create("whole", iterations=30)
    work(Trainer(elsewhere.settings)).result(100)
    assert torch.equal(elsewhere.vector("whole"), service.vector("mine"))


def attempt(service: Service, job_id: str) -> tuple[Claim, Callable[[], TrainResult]]:
    """The claim of a trainer that says nothing to the book at its end, and what it does."""
    claim = claim_of(service.book, job_id)
    assert claim is not None
    learner = Learner(service.settings, service.storage, service.images, service.styles, torch.device("cpu"))
    reporter = Reporter(service.book, service.images, claim, 1000)
    job = claim.record.request
    assert isinstance(job, TrainJob)
    return claim, partial(learner.learn, job_id, job, reporter, lambda: False)


def test_a_trainer_that_dies_between_publishing_and_saying_so_publishes_once(service: Service, work: Work) -> None:
    job_id = service.create(replace=False)
    claim, learn = attempt(service, job_id)
    published = learn()
    assert service.book.release(claim)
    work(Trainer(service.settings)).result(100)
    result = result_of(service.book.get(job_id))
    assert (result.style, result.status) == (published.style, StyleStatus.PUBLISHED)
    assert service.styles.versions("mine") == [1]


def test_a_style_whose_evaluation_kills_its_trainer_is_published_without_optimised_pictures(
    service: Service, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = service.create()
    claim, learn = attempt(service, job_id)

    def die(*_: object, **__: object) -> None:
        raise SystemExit

    with monkeypatch.context() as dying:
        dying.setattr("trainer.evaluation.optimised", die)
        with pytest.raises(SystemExit):
            learn()
    assert service.book.release(claim)
    work(Trainer(service.settings)).result(100)
    evaluation = result_of(service.book.get(job_id)).evaluation
    assert evaluation is not None
    assert evaluation.optimised is None
    assert evaluation.stylized.style < evaluation.untouched.style


def test_an_evaluation_without_memory_for_optimised_pictures_does_without(
    learnt: Callable[..., JobRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    def have_no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("trainer.evaluation.optimised", have_no_memory)
    evaluation = result_of(learnt()).evaluation
    assert evaluation is not None
    assert evaluation.optimised is None
    assert evaluation.stylized.style < evaluation.untouched.style


def test_a_state_of_another_base_is_not_gone_on_with(service: Service, work: Work) -> None:
    job_id = service.create(iterations=4)
    stopped = Trainer(service.settings)
    stopped.stop()
    work(stopped).result(100)
    assert service.saved(job_id) is not None
    theirs = service.publish("theirs", tiny_bank("theirs", seed=4), StyleSource.IMPORTED)
    work(Trainer(service.settings.model_copy(update={"base_style": "theirs"}))).result(100)
    card = service.styles.get(str(result_of(service.book.get(job_id)).style))
    assert card.trunk == theirs.trunk


def test_a_ticket_too_many_does_nothing(service: Service, work: Work) -> None:
    trainer, job_id = Trainer(service.settings), service.create()
    work(trainer).result(100)
    record = service.book.get(job_id)
    work(trainer).result(100)
    assert service.book.get(job_id) == record
    assert service.styles.versions("mine") == [1]


def test_states_of_jobs_that_have_ended_are_forgotten_and_others_are_not(
    service: Service, learnt: Callable[..., JobRecord]
) -> None:
    others, canceled = service.create("others"), service.create("canceled")
    assert claim_of(service.book, others) is not None, "another trainer has it"
    service.book.cancel(canceled)
    for job_id in (others, canceled, "never-was"):
        obstore.put(service.storage, f"{TRAININGS}{job_id}/state.pt", b"state")
    learnt("mine")
    assert service.leftovers() == [f"{others}/state.pt"]


# --- Jobs that fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "code"),
    [
        (b"not a picture at all", "unsupported-image"),
        (hard_painting()[:200], "broken-image"),
        (encoded(patches(0, 400, 20), "PNG"), "image-too-small"),
    ],
)
def test_a_style_picture_that_cannot_be_used_fails_the_job(
    service: Service, learnt: Callable[..., JobRecord], picture: bytes, code: str
) -> None:
    assert failure(learnt("mine", picture))[0] == code
    assert service.leftovers() == []
    assert service.styles.versions("mine") == []


def test_a_style_picture_that_is_lost_fails_the_job(service: Service, learnt: Callable[..., JobRecord]) -> None:
    assert failure(learnt("mine", images=(gone(service.images),)))[0] == "image-lost"


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vgg: Path, photographs: Path) -> Iterator[Served]:
    """What training needs, where it is published: on a server of our own."""
    stay_at_home(monkeypatch, tmp_path)
    weights, pictures = io.BytesIO(), io.BytesIO()
    torch.save(safetensors.torch.load_file(vgg), weights)
    with zipfile.ZipFile(pictures, "w") as packed:
        for path in photographs.iterdir():
            packed.writestr(f"val2017/{path.stem}.jpg", encoded(Image.open(path), "JPEG"))
    with serving(vgg19_pth=weights.getvalue(), val2017_zip=pictures.getvalue()) as served:
        sources = Sources(served.source("vgg19.pth"), served.source("vgg19.pth"), served.source("val2017.zip"))
        fetching = partial(fetch_missing, sources=sources, patience=IMPATIENT)
        monkeypatch.setattr("trainer.learner.fetch_missing", fetching)
        monkeypatch.setattr("trainer.learner.descriptor_file", partial(descriptor_file, sources=sources))
        yield served


def test_what_is_missing_is_fetched_as_a_stage_of_the_first_job(
    service: Service, work: Work, published: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Progress] = []
    progress = JobBook.progress

    def listen(book: JobBook, claim: Claim, now: Progress, *, lasts: bool = False) -> bool:
        told.append(now)
        return progress(book, claim, now, lasts=lasts)

    monkeypatch.setattr(JobBook, "progress", listen)
    bare = service.settings.model_copy(update={"vgg": None, "content": None, "fetch": "auto"})
    first, second = service.create("first"), service.create("second")
    for job_id in (first, second):
        work(Trainer(bare)).result(100)
        assert service.book.get(job_id).state is JobState.SUCCEEDED
    fetching = [now for now in told if now.stage is Stage.FETCHING]
    assert fetching, "it says so"
    assert re.search(r"vgg19\.pth: \d+ of \d+ MB", fetching[0].detail)
    assert told.index(fetching[-1]) < next(i for i, now in enumerate(told) if now.stage is Stage.TRAINING)
    assert [request["Path"] for request in published.requests] == ["/vgg19.pth", "/val2017.zip"], "once"


def test_what_cannot_be_fetched_fails_the_job_and_says_what_to_put_where(
    service: Service, work: Work, published: Served
) -> None:
    published.statuses += [404]
    bare = service.settings.model_copy(update={"vgg": None, "content": None, "fetch": "auto"})
    job_id = service.create()
    work(Trainer(bare)).result(100)
    code, detail = failure(service.book.get(job_id))
    assert code == "training-data-missing"
    assert "as descriptor/vgg19.pth, or name a file of these weights with ATELIER_VGG" in detail
    assert str(bare.data) not in detail


@pytest.mark.parametrize("missing", ["content", "vgg"])
def test_data_that_is_missing_and_may_not_be_fetched_fails_the_job_at_once(
    service: Service, work: Work, missing: str
) -> None:
    service = service.other(**{missing: None})
    job_id = service.create()
    work(Trainer(service.settings)).result(100)
    record = service.book.get(job_id)
    code, detail = failure(record)
    assert (code, record.attempt) == ("training-data-missing", 1)
    assert "ATELIER_FETCH=never" in detail
    assert str(service.settings.data) not in detail


def test_a_folder_without_photographs_fails_the_job_and_its_path_is_not_told(
    service: Service, work: Work, tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    service = service.other(content=tmp_path / "nothing")
    job_id = service.create()
    work(Trainer(service.settings)).result(100)
    code, detail = failure(service.book.get(job_id))
    assert code == "training-data-missing"
    assert str(tmp_path) not in detail


def test_a_job_may_name_a_folder_of_photographs(service: Service, work: Work, tmp_path: Path) -> None:
    for folder, count in (("cats", 2), ("dogs", 2)):
        for number in range(count):
            (tmp_path / "all" / folder).mkdir(parents=True, exist_ok=True)
            patches(number + 50).save(tmp_path / "all" / folder / f"{number}.png")
    service = service.other(content=tmp_path / "all")
    trainer = Trainer(service.settings)
    jobs = {name: service.create(name, content=name) for name in ("cats", "mice")}
    for _ in jobs:
        work(trainer).result(100)
    assert service.book.get(jobs["cats"]).state is JobState.SUCCEEDED
    code, detail = failure(service.book.get(jobs["mice"]))
    assert code == "training-data-missing"
    assert detail == "The trainer's photographs have no folder 'mice'; they have cats, dogs."


def test_weights_that_are_broken_fail_the_job_and_their_path_is_not_told(
    service: Service, work: Work, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"not weights")
    service = service.other(vgg=broken)
    job_id = service.create()
    work(Trainer(service.settings)).result(100)
    code, detail = failure(service.book.get(job_id))
    assert code == "bad-checkpoint"
    assert detail.startswith("broken.pth does not hold the VGG-19 weights")
    assert str(tmp_path) not in detail


class Failing(Trainer):
    """A trainer whose learner does something else."""

    error: BaseException

    def _the_learner(self) -> Any:
        raise self.error


def failing(service: Service, error: BaseException) -> Trainer:
    trainer = Failing(service.settings)
    trainer.error = error
    return trainer


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TrainingDivergedError("The loss grew."), "training-diverged"),
        (MemoryError(), "out-of-memory"),
        (torch.OutOfMemoryError(), "out-of-memory"),
        (ZeroDivisionError(), "internal-error"),
    ],
)
def test_what_goes_wrong_ends_the_job_with_its_code(service: Service, work: Work, error: Exception, code: str) -> None:
    job_id = service.create()
    obstore.put(service.storage, f"{TRAININGS}{job_id}/state.pt", b"state")
    work(failing(service, error)).result(100)
    assert failure(service.book.get(job_id))[0] == code
    assert service.leftovers() == []


def test_a_store_out_of_reach_is_waited_for_and_costs_no_attempt(service: Service, work: Work) -> None:
    trainer = failing(service, StoreUnavailableError("The store does not answer."))
    job_id = service.create()
    obstore.put(service.storage, f"{TRAININGS}{job_id}/state.pt", b"state")
    for _ in range(service.settings.attempts + 1):
        work(trainer).result(100)
        record = service.book.get(job_id)
        assert (record.state, record.attempt) == (JobState.QUEUED, 0)
        assert service.leftovers() == [f"{job_id}/state.pt"], "another attempt goes on with it"
