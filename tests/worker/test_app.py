"""The worker, from a ticket to the end of the job, on a real Redis and a real store."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from contract.admission import Terms
from contract.errors import ImageTooLargeError, StoreUnavailableError
from contract.images import ImageRef, ImageStore, MediaType, PictureSize
from contract.jobs import JobRecord, JobState, Priority, StyleShare, StylizeJob, StylizeResult
from contract.queue import STYLIZE_TASK
from contract.settings import ContractSettings
from contract.storage import open_storage
from contract.styles import StyleDescription, StyleRef, StyleSource, StyleStore
from generator.checkpoint import trunk_of, vector_of
from tests.conftest import publish_tiny, tiny_bank, until
from tests.pictures import encoded, photograph
from worker.app import Worker, create_app
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

Narrow = Callable[[int], Worker]


@pytest.fixture
def narrow(settings: ContractSettings, styles: StyleStore, redis_client: object) -> Iterator[Narrow]:
    """A worker with so many threads, for which pictures above 5,000 pixels are large, and 200×150 is all that fits."""
    publish_tiny(styles, "tiny")
    workers: list[Worker] = []

    def start(threads: int) -> Worker:
        limited = WorkerSettings(
            **settings.model_dump(),
            engine="torch",
            concurrency=threads,
            max_upload_megapixels=0.04,
            tile_above_megapixels=0.005,
        )
        workers.append(Worker(limited))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()


def large(worker: Worker, images: ImageStore, seed: int = 0, priority: Priority = Priority.BATCH) -> str:
    job = a_job(images.put(encoded(photograph(200, 150, seed))))
    return sent(worker, job.model_copy(update={"file_pixels": 200 * 150, "result_pixels": 200 * 150}), priority)


def small(worker: Worker, images: ImageStore, priority: Priority = Priority.INTERACTIVE) -> str:
    job = a_job(images.put(encoded(photograph(40, 30))))
    return sent(worker, job.model_copy(update={"file_pixels": 40 * 30, "result_pixels": 40 * 30}), priority)


def sent(worker: Worker, job: StylizeJob, priority: Priority) -> str:
    return worker.book.admit(job, Terms(priority=priority)).record.id


def states(worker: Worker, *jobs: str) -> list[JobState]:
    return [worker.book.get(job_id).state for job_id in jobs]


def claims(worker: Worker, *jobs: str) -> list[int]:
    """How often each has been claimed, or put back."""
    return [worker.book.get(job_id).fence for job_id in jobs]


def wait_for_room(worker: Worker, count: int) -> None:
    until(lambda: len(worker.memory._large._waiting) == count, what="large pictures to wait for room")


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("priority", [Priority.INTERACTIVE, Priority.BATCH])
def test_of_as_many_large_pictures_as_threads_one_waits_in_the_queue_and_its_thread_is_there_for_small_ones(
    narrow: Narrow, images: ImageStore, threads: int, priority: Priority
) -> None:
    """Its ticket is spent by then: it is had all the same by a thread that has ended one of the others."""
    worker = narrow(threads)
    with ThreadPoolExecutor(threads) as pool:
        with worker.memory.reserved(WHOLE_ROOM, lambda: True):
            jobs = [large(worker, images, seed) for seed in range(threads)]
            tickets = [pool.submit(worker.work) for _ in jobs[1:]]
            wait_for_room(worker, threads - 1)
            pool.submit(worker.work).result(30)
            quick = [small(worker, images, priority) for _ in range(3)]
            for _ in quick:
                pool.submit(worker.work).result(30)
            assert states(worker, *quick) == [JobState.SUCCEEDED] * 3
            assert states(worker, *jobs) == [JobState.RUNNING] * (threads - 1) + [JobState.QUEUED]
            assert claims(worker, *jobs) == [1] * (threads - 1) + [0]
        for ticket in tickets:
            ticket.result(30)
    assert states(worker, *jobs) == [JobState.SUCCEEDED] * threads
    assert claims(worker, *jobs) == [1] * threads


def test_the_one_thread_of_a_worker_has_large_pictures_too(narrow: Narrow, images: ImageStore) -> None:
    worker = narrow(1)
    assert ended(worker, large(worker, images)).state is JobState.SUCCEEDED


def test_a_ticket_for_each_is_enough_for_large_and_small_pictures_together(narrow: Narrow, images: ImageStore) -> None:
    worker = narrow(3)
    jobs = [job for seed in range(4) for job in (large(worker, images, seed), small(worker, images))]
    with ThreadPoolExecutor(3) as pool:
        for ticket in [pool.submit(worker.work) for _ in jobs]:
            ticket.result(60)
    assert states(worker, *jobs) == [JobState.SUCCEEDED] * 8
    assert claims(worker, *jobs) == [1] * 8


def test_a_large_picture_that_is_canceled_while_it_waits_gives_its_thread_and_its_place_back(
    narrow: Narrow, images: ImageStore
) -> None:
    worker = narrow(2)
    with ThreadPoolExecutor(1) as pool:
        with worker.memory.reserved(WHOLE_ROOM, lambda: True):
            canceled, other = large(worker, images, 0), large(worker, images, 1)
            ticket = pool.submit(worker.work)
            wait_for_room(worker, 1)
            worker.book.cancel(canceled)
            until(lambda: states(worker, other) == [JobState.RUNNING], what="the other to have the place")
        ticket.result(30)
    assert states(worker, canceled, other) == [JobState.CANCELED, JobState.SUCCEEDED]


def test_large_pictures_whose_gateway_did_not_say_so_wait_in_their_threads(narrow: Narrow, images: ImageStore) -> None:
    worker = narrow(2)
    with ThreadPoolExecutor(2) as pool:
        with worker.memory.reserved(WHOLE_ROOM, lambda: True):
            contents = [images.put(encoded(photograph(200, 150, seed))) for seed in range(2)]
            jobs = [sent(worker, a_job(content), Priority.BATCH) for content in contents]
            tickets = [pool.submit(worker.work) for _ in jobs]
            wait_for_room(worker, 2)
        for ticket in tickets:
            ticket.result(30)
    assert states(worker, *jobs) == [JobState.SUCCEEDED] * 2


def test_after_a_small_picture_the_next_waits_for_its_own_ticket(narrow: Narrow, images: ImageStore) -> None:
    worker = narrow(2)
    first, second = small(worker, images), small(worker, images)
    worker.work()
    assert states(worker, first, second) == [JobState.SUCCEEDED, JobState.QUEUED]


def test_a_large_picture_that_was_put_back_is_not_tried_again_at_once(narrow: Narrow, images: ImageStore) -> None:
    worker = narrow(2)
    failing(worker, StoreUnavailableError("The store does not answer."))
    record = ended(worker, large(worker, images))
    assert (record.state, record.attempt) == (JobState.QUEUED, 1)


def test_a_worker_that_stops_takes_no_further_large_picture(narrow: Narrow, images: ImageStore) -> None:
    worker = narrow(2)

    def act() -> StylizeResult:
        worker.stop()
        raise MemoryError

    worker.stylizer = Failing(act)  # type: ignore[assignment]
    first, second = large(worker, images, 0), large(worker, images, 1)
    worker.work()
    assert states(worker, first, second) == [JobState.FAILED, JobState.QUEUED]


def test_a_large_picture_that_is_stopped_before_its_turn_goes_back_and_is_not_taken_again(
    narrow: Narrow, images: ImageStore
) -> None:
    worker = narrow(2)
    worker.batcher.close()
    record = ended(worker, large(worker, images))
    assert (record.state, record.attempt, record.fence) == (JobState.QUEUED, 0, 2)


def test_a_small_job_that_lost_its_worker_is_worked_on_alone_before_large_ones_that_have_no_place(
    narrow: Narrow, images: ImageStore
) -> None:
    worker = narrow(2)
    suspect = small(worker, images, Priority.BATCH)
    claim = worker.book.pick().claim
    assert claim is not None
    with ThreadPoolExecutor(2) as pool:
        with worker.memory.reserved(WHOLE_ROOM, lambda: True):
            first, second = large(worker, images, 0), large(worker, images, 1, Priority.INTERACTIVE)
            tickets = [pool.submit(worker.work)]
            wait_for_room(worker, 1)
            assert worker.book.release(claim)
            tickets.append(pool.submit(worker.work))
            until(lambda: worker.isolation.waiting_alone == 1, what="the suspect's turn")
        for ticket in tickets:
            ticket.result(30)
    records = [worker.book.get(job_id) for job_id in (suspect, first, second)]
    assert [(record.state, record.attempt) for record in records] == [
        (JobState.SUCCEEDED, 2),
        (JobState.SUCCEEDED, 1),
        (JobState.SUCCEEDED, 1),
    ]
    started = {record.id: record.started_at for record in records}
    assert sorted(started, key=lambda job_id: str(started[job_id])) == [second, suspect, first]


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
