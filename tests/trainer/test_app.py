"""The trainer as a process of its own: tickets, signals, and what becomes of a job whose trainer goes away."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs

from contract.jobbook import connect
from contract.jobs import JobRecord, JobState, Stage
from contract.presence import Presence
from contract.styles import StyleStatus
from generator.checkpoint import Checkpoint, content_row
from tests.conftest import START_SECONDS, until
from tests.pictures import decoded
from tests.trainer.conftest import pictures
from tests.trainer.service import Service, base_bank, result_of
from trainer.app import Trainer, create_app
from trainer.settings import TrainerSettings

ITERATIONS = 80
"""More than are done before somebody steps in."""


@dataclass
class Process:
    """A trainer, as ``python -m trainer.app`` starts it."""

    service: Service
    log: Path
    running: "subprocess.Popen[bytes]"

    def is_ready(self) -> bool:
        assert self.running.poll() is None, self.log.read_text()
        return Presence(connect(self.service.settings.redis_url, patience_seconds=2), "trainer").names() != []

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Waits, and shows what the trainer has said when it was in vain."""
        try:
            until(lambda: self.is_ready() and condition(), 60, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log.read_text()}") from None

    def end(self, number: signal.Signals) -> int:
        """How it ended."""
        self.running.send_signal(number)
        return self.running.wait(60)


Start = Callable[[Service], Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts trainers that are ended with the test."""
    started: list[Process] = []

    def run(service: Service) -> Process:
        log = tmp_path / f"trainer-{len(started)}.log"
        known = {name.upper(): value for name, value in service.settings.model_dump().items() if value is not None}
        environment = {**os.environ, "OMP_NUM_THREADS": "1"} | {f"ATELIER_{n}": str(v) for n, v in known.items()}
        with log.open("wb") as out:
            running = subprocess.Popen([sys.executable, "-m", "trainer.app"], env=environment, stdout=out, stderr=out)
        started.append(Process(service, log, running))
        until(started[-1].is_ready, START_SECONDS, "the trainer")
        return started[-1]

    yield run
    for process in started:
        process.running.kill()
        process.running.wait()


@pytest.fixture
def service(trainer_settings: TrainerSettings, redis_client: object) -> Service:
    """That saves the states of trainings often."""
    service = Service(trainer_settings.model_copy(update={"checkpoint_seconds": 0.05}))
    service.publish("base", base_bank())
    return service


def test_a_trainer_that_is_told_to_stop_hands_its_job_to_the_next(service: Service, start: Start) -> None:
    job_id = service.queue.submit(service.job(iterations=ITERATIONS)).id
    first = start(service)
    first.until(lambda: service.iteration(job_id) >= 2, "some iterations")
    assert first.end(signal.SIGTERM) == 0
    assert not Presence(connect(service.settings.redis_url, patience_seconds=2), "trainer").names()
    record, state = service.book.get(job_id), service.saved(job_id)
    assert (record.state, record.attempt) == (JobState.QUEUED, 0)
    assert state is not None
    assert 2 <= state["iteration"] < ITERATIONS
    assert service.styles.versions("mine") == []

    second = start(service)
    assert service.queue.reap() == 1, "a ticket is sent again"
    second.until(lambda: service.book.get(job_id).state.is_terminal, "the end of the job")
    record = service.book.get(job_id)
    assert record.state is JobState.SUCCEEDED, second.log.read_text()
    assert record.attempt == 1
    assert goes_on_at(second) == state["iteration"]
    assert service.leftovers() == []
    assert_is_of_use(service, record)
    assert second.end(signal.SIGTERM) == 0, "with nothing to do"


def goes_on_at(process: Process) -> int:
    found = re.search(r"training goes on.*?iteration\W+(\d+)", process.log.read_text())
    assert found is not None, process.log.read_text()
    return int(found.group(1))


def assert_is_of_use(service: Service, record: JobRecord) -> None:
    """Whatever a worker and a client do with a style."""
    result = result_of(record)
    assert (str(result.style), result.status) == ("mine@1", StyleStatus.PUBLISHED)
    assert record.progress is not None
    assert (record.progress.stage, record.progress.iteration) == (Stage.PUBLISHING, ITERATIONS)
    assert [decoded(service.images.open(ref)).size for ref in record.progress.previews] == [(32, 32)]
    card = service.styles.get("mine")
    assert card.training is not None
    assert card.training.iterations == ITERATIONS
    trunk = service.styles.read_trunk(card.trunk)
    assert card.trunk == service.base.trunk
    assert content_row(trunk) is not None
    generator, vector, content = Checkpoint.from_bytes(trunk).generator(), service.vector("mine"), pictures(1, size=40)
    with torch.no_grad():
        assert generator(content, vector[None]).isfinite().all()


def test_a_job_whose_trainer_is_killed_is_finished_by_the_next(service: Service, start: Start) -> None:
    job_id = service.queue.submit(service.job(iterations=ITERATIONS)).id
    first = start(service)
    first.until(lambda: service.saved(job_id) is not None, "a state")
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    state = service.saved(job_id)
    assert state is not None
    assert service.book.get(job_id).state is JobState.RUNNING, "nobody knows yet"
    until(lambda: service.queue.reap() == 1, 30, "the job to be taken for lost")

    with ThreadPoolExecutor(1) as pool, capture_logs() as logs:
        pool.submit(Trainer(service.settings).work).result(100)
    record = service.book.get(job_id)
    assert (record.state, record.attempt) == (JobState.SUCCEEDED, 1), "what the first attempt came to has lasted"
    assert [entry["iteration"] for entry in logs if entry["event"] == "training goes on"] == [state["iteration"]]
    assert state["iteration"] >= 1
    assert service.styles.versions("mine") == [1]
    assert service.leftovers() == []


def test_a_ticket_too_many_starts_no_second_training_beside_the_first(service: Service) -> None:
    """Such as comes again when a training takes longer than the visibility timeout: it waits for the one thread."""
    with create_app(service.settings, Trainer(service.settings)) as app:
        assert (app.conf.worker_pool, app.conf.worker_concurrency) == ("threads", 1)
        assert (app.conf.worker_prefetch_multiplier, app.conf.task_acks_late) == (1, True)
