"""The worker, from a ticket to the end of the job, on a real Redis and a real store."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from contract.admission import Terms
from contract.errors import ImageTooLargeError, QueueUnavailableError, StoreUnavailableError
from contract.images import ImageRef, ImageStore, MediaType
from contract.jobbook import Claim
from contract.jobs import JobRecord, JobState, Priority, StyleShare, StylizeJob, StylizeResult
from contract.queue import STYLIZE_TASK
from contract.settings import ContractSettings
from contract.storage import open_storage
from contract.styles import StyleDescription, StyleRef, StyleSource, StyleStore
from generator.checkpoint import trunk_of, vector_of
from tests.conftest import publish_tiny, tiny_bank, until
from tests.pictures import encoded, photograph
from worker.app import Worker, create_app
from worker.memory import PictureSize
from worker.passing import Passing
from worker.settings import WorkerSettings
from worker.stylizer import Attempt, Stopwatch


@pytest.fixture
def worker(settings: ContractSettings, styles: StyleStore, redis_client: object) -> Iterator[Worker]:
    publish_tiny(styles, "tiny")
    worker = Worker(WorkerSettings(**settings.model_dump(), engine="torch"))
    yield worker
    worker.close()


@pytest.fixture
def images(settings: ContractSettings) -> ImageStore:
    return ImageStore(open_storage(settings.store_url))


def posted(worker: Worker, images: ImageStore, **options: float) -> str:
    content = images.put(encoded(photograph(40, 30)))
    return worker.book.create(a_job(content).model_copy(update=options)).id


def a_job(content: ImageRef) -> StylizeJob:
    styles = (StyleShare(style=StyleRef(name="tiny", version=1)),)
    return StylizeJob(content=content, styles=styles, media_type=MediaType.PNG, quality=90)


class Failing:
    """A stylizer that does something else."""

    def __init__(self, act: Callable[[], StylizeResult]) -> None:
        self.act = act

    def stylize(self, _: StylizeJob, __: Stopwatch, ___: Attempt) -> StylizeResult:
        return self.act()


def failing(worker: Worker, error: BaseException) -> None:
    def act() -> StylizeResult:
        raise error

    worker.stylizer = Failing(act)  # type: ignore[assignment]


def ended(worker: Worker, job_id: str) -> JobRecord:
    worker.work()
    return worker.book.get(job_id)


def test_a_ticket_becomes_a_picture(worker: Worker, images: ImageStore) -> None:
    record = ended(worker, posted(worker, images))
    assert record.state is JobState.SUCCEEDED
    assert isinstance(record.result, StylizeResult)
    assert (record.result.width, record.result.height) == (40, 30)
    assert all(seconds is not None and seconds >= 0 for seconds in record.timings.model_dump().values())


def test_a_ticket_of_an_older_version_which_named_its_job_is_one_like_others(
    worker: Worker, images: ImageStore, settings: ContractSettings
) -> None:
    job_id = posted(worker, images)
    with create_app(WorkerSettings(**settings.model_dump()), worker) as app:
        app.tasks[STYLIZE_TASK](job="of-another-time")
    assert worker.book.get(job_id).state is JobState.SUCCEEDED


def test_a_ticket_too_many_does_nothing(worker: Worker, images: ImageStore) -> None:
    record = ended(worker, posted(worker, images))
    assert ended(worker, record.id) == record


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ImageTooLargeError("too large"), "image-too-large"),
        (MemoryError(), "out-of-memory"),
        (ZeroDivisionError(), "internal-error"),
    ],
)
def test_what_goes_wrong_ends_the_job_with_its_code(
    worker: Worker, images: ImageStore, error: Exception, code: str
) -> None:
    failing(worker, error)
    record = ended(worker, posted(worker, images))
    assert record.state is JobState.FAILED
    assert record.error is not None
    assert record.error.code == code


def test_a_store_out_of_reach_is_tried_again_and_then_said(worker: Worker, images: ImageStore) -> None:
    failing(worker, StoreUnavailableError("The store does not answer."))
    job_id = posted(worker, images)
    states = [ended(worker, job_id).state for _ in range(worker.attempts)]
    assert states == [JobState.QUEUED] * (worker.attempts - 1) + [JobState.FAILED]
    error = worker.book.get(job_id).error
    assert error is not None
    assert error.code == "store-unavailable"


def test_a_picture_lost_from_the_store_is_said(worker: Worker, images: ImageStore) -> None:
    gone = images.put(b"gone").model_copy(update={"sha256": "0" * 64})
    error = ended(worker, worker.book.create(a_job(gone)).id).error
    assert error is not None
    assert error.code == "image-lost"


def test_a_strength_that_the_style_does_not_have_is_said(worker: Worker, images: ImageStore) -> None:
    error = ended(worker, posted(worker, images, strength=0.5)).error
    assert error is not None
    assert (error.code, "strength" in error.detail) == ("styles-do-not-blend", True)


def test_a_job_that_lost_its_worker_is_worked_on_alone(worker: Worker, images: ImageStore) -> None:
    suspect = posted(worker, images)
    claim = worker.book.pick().claim
    assert claim is not None
    assert worker.book.release(claim)
    neighbour = posted(worker, images)
    begun, finish = threading.Event(), threading.Event()

    def act() -> StylizeResult:
        begun.set()
        finish.wait(10)
        raise MemoryError

    worker.stylizer = Failing(act)  # type: ignore[assignment]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(worker.work)
        assert begun.wait(10)
        assert worker.book.get(suspect).attempt == 2
        second = pool.submit(worker.work)
        until(lambda: second.running())
        assert worker.book.get(neighbour).state is JobState.QUEUED
        finish.set()
        first.result(10)
        second.result(10)
    assert worker.book.get(neighbour).state is JobState.FAILED


def test_a_job_that_lost_its_worker_counts_no_attempt_while_it_waits_to_be_alone(
    worker: Worker, images: ImageStore
) -> None:
    """Else the worker's next death, by another job, would be counted against it."""
    suspect = posted(worker, images)
    claim = worker.book.pick().claim
    assert claim is not None
    assert worker.book.release(claim)
    with ThreadPoolExecutor(1) as pool:
        with worker.isolation.shared():
            waiting = pool.submit(worker.work)
            until(lambda: worker.isolation.waiting_alone == 1, what="the turn of the suspect")
            record = worker.book.get(suspect)
            assert (record.state, record.attempt) == (JobState.QUEUED, 1)
        waiting.result(30)
    record = worker.book.get(suspect)
    assert (record.state, record.attempt) == (JobState.SUCCEEDED, 2)


# --- Large pictures and small ones ---

WHOLE_ROOM = PictureSize(30_000, 30_000)
"""All that large pictures have."""
ONE_PLACE = PictureSize(5_001, 5_001)
"""Hardly any of it, but the one thread of two that they have."""


@pytest.fixture
def narrow(settings: ContractSettings, styles: StyleStore, redis_client: object) -> Iterator[Worker]:
    """A worker with two threads, for which pictures above 5,000 pixels are large, and 200×150 is all that fits."""
    publish_tiny(styles, "tiny")
    worker = Worker(
        WorkerSettings(
            **settings.model_dump(),
            engine="torch",
            concurrency=2,
            max_upload_megapixels=0.04,
            tile_above_megapixels=0.005,
        )
    )
    yield worker
    worker.close()


def large(worker: Worker, images: ImageStore, seed: int, priority: Priority = Priority.BATCH) -> str:
    return sent(worker, images.put(encoded(photograph(200, 150, seed))), priority)


def small(worker: Worker, images: ImageStore, priority: Priority = Priority.INTERACTIVE) -> str:
    return sent(worker, images.put(encoded(photograph(40, 30))), priority)


def sent(worker: Worker, content: ImageRef, priority: Priority) -> str:
    return worker.book.admit(a_job(content), Terms(may_find=False, may_be_found=False, priority=priority)).record.id


def states(worker: Worker, *jobs: str) -> list[JobState]:
    return [worker.book.get(job_id).state for job_id in jobs]


def wait_for_room(worker: Worker, count: int) -> None:
    until(lambda: len(worker.memory._large._waiting) == count, what="large pictures to wait for room")


@pytest.mark.parametrize("held", [WHOLE_ROOM, ONE_PLACE])
@pytest.mark.parametrize("priority", [Priority.INTERACTIVE, Priority.BATCH])
def test_small_pictures_are_made_while_large_ones_have_all_threads_and_wait(
    narrow: Worker, images: ImageStore, held: PictureSize, priority: Priority
) -> None:
    """Even behind others, in their own class, that have not been claimed: those are put back and lose nothing."""
    with ThreadPoolExecutor(2) as pool:
        with narrow.memory.reserved(held, lambda: True):
            first = [large(narrow, images, seed) for seed in range(2)]
            tickets = [pool.submit(narrow.work) for _ in first]
            wait_for_room(narrow, 2)
            behind = [large(narrow, images, seed) for seed in range(2, 4)]
            quick = [small(narrow, images, priority) for _ in range(3)]
            until(lambda: states(narrow, *quick) == [JobState.SUCCEEDED] * 3, what="the small ones")
            assert states(narrow, *first) == [JobState.RUNNING] * 2
            until(lambda: states(narrow, *behind) == [JobState.QUEUED] * 2, what="the others to be put back")
        tickets += [pool.submit(narrow.work) for _ in behind]
        for ticket in tickets:
            ticket.result(30)
    ends = [narrow.book.get(job_id) for job_id in (*first, *behind, *quick)]
    assert [(record.state, record.attempt) for record in ends] == [(JobState.SUCCEEDED, 1)] * 7


def test_large_and_small_pictures_together_all_come_to_their_end(narrow: Worker, images: ImageStore) -> None:
    jobs = [job for seed in range(4) for job in (large(narrow, images, seed), small(narrow, images))]
    with ThreadPoolExecutor(2) as pool:
        while not all(state.is_terminal for state in states(narrow, *jobs)):
            for ticket in [pool.submit(narrow.work) for _ in range(2)]:
                ticket.result(30)
    ends = [narrow.book.get(job_id) for job_id in jobs]
    assert [(record.state, record.attempt) for record in ends] == [(JobState.SUCCEEDED, 1)] * 8


def test_a_large_picture_that_is_canceled_while_it_waits_gives_its_thread_back(
    narrow: Worker, images: ImageStore
) -> None:
    with ThreadPoolExecutor(1) as pool, narrow.memory.reserved(WHOLE_ROOM, lambda: True):
        job_id = large(narrow, images, 0)
        ticket = pool.submit(narrow.work)
        wait_for_room(narrow, 1)
        narrow.book.cancel(job_id)
        ticket.result(30)
    assert states(narrow, job_id) == [JobState.CANCELED]


def test_a_large_picture_that_waits_does_not_fail_with_what_goes_wrong_beside_it(
    narrow: Worker, images: ImageStore
) -> None:
    looked = threading.Event()

    class Broken(Passing):
        def small(self) -> Claim | None:
            looked.set()
            raise QueueUnavailableError("The queue does not answer.", retry_after_seconds=1)

    narrow.passing = Broken(narrow.book, narrow.heartbeat, narrow.stylizer.is_small)
    with ThreadPoolExecutor(1) as pool:
        with narrow.memory.reserved(WHOLE_ROOM, lambda: True):
            job_id = large(narrow, images, 0)
            ticket = pool.submit(narrow.work)
            assert looked.wait(30)
        ticket.result(30)
    assert states(narrow, job_id) == [JobState.SUCCEEDED]


def test_a_worker_that_stops_looks_for_no_more_small_pictures(narrow: Worker, images: ImageStore) -> None:
    job_id = small(narrow, images)
    narrow.stop()
    assert not narrow._make_small_one()
    assert narrow.book.get(job_id).fence == 0


def test_small_pictures_wait_while_somebody_waits_to_be_alone(narrow: Worker, images: ImageStore) -> None:
    job_id = small(narrow, images)
    with ThreadPoolExecutor(1) as pool, narrow.isolation.shared():
        pool.submit(narrow.isolation.alone().__enter__)
        until(lambda: narrow.isolation.waiting_alone == 1)
        assert not narrow._make_small_one()
    assert narrow.book.get(job_id).fence == 0


def test_a_job_that_lost_its_worker_and_was_met_meanwhile_is_worked_on_alone_afterwards(
    narrow: Worker, images: ImageStore
) -> None:
    suspect = small(narrow, images)
    claim = narrow.book.pick().claim
    assert claim is not None
    with ThreadPoolExecutor(1) as pool:
        with narrow.memory.reserved(WHOLE_ROOM, lambda: True):
            job_id = large(narrow, images, 0)
            ticket = pool.submit(narrow.work)
            wait_for_room(narrow, 1)
            assert narrow.book.release(claim)
            quick = small(narrow, images, Priority.BATCH)
            until(lambda: states(narrow, quick) == [JobState.SUCCEEDED], what="the small one")
            assert states(narrow, suspect) == [JobState.QUEUED]
        ticket.result(30)
    assert states(narrow, job_id, suspect) == [JobState.SUCCEEDED] * 2
    assert narrow.book.get(suspect).attempt == 2


def test_a_ticket_that_finds_nothing_does_not_wait_to_be_alone(worker: Worker, images: ImageStore) -> None:
    running = posted(worker, images)
    assert worker.book.pick().claim is not None
    with ThreadPoolExecutor(1) as pool, worker.isolation.shared():
        pool.submit(worker.work).result(10)
    assert worker.book.get(running).attempt == 1


def test_work_that_is_stopped_before_its_turn_goes_back_and_does_not_count(worker: Worker, images: ImageStore) -> None:
    worker.batcher.close()
    record = ended(worker, posted(worker, images))
    assert (record.state, record.attempt) == (JobState.QUEUED, 0)


def test_warming_up_passes_by_a_built_in_style_that_is_damaged(
    settings: ContractSettings, redis_client: object
) -> None:
    builtin = StyleStore(open_storage(str(settings.builtin_styles)))
    bank = tiny_bank("good")
    for name, trunk in (("good", trunk_of(bank)), ("damaged", b"not a checkpoint")):
        draft = StyleDescription(
            name=name, source=StyleSource.BUILTIN, architecture="residual", norm="instance", width=bank.config.width
        )
        builtin.publish(draft, trunk, vector_of(bank, "good"))
    worker = Worker(WorkerSettings(**settings.model_dump(), engine="torch"))
    try:
        worker.warm_up()
        assert {card.name for card in worker.styles.cards()} == {"good", "damaged"}
        assert worker.presence.names() == [worker.name]
    finally:
        worker.close()
    assert worker.presence.names() == []
