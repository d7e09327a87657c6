"""The trainer process: takes training jobs from their own queue, one at a time.

python -m trainer.app
"""

import os
import sys
import threading
import time
from contextlib import closing, suppress

import obstore
import structlog
from celery import Celery
from celery.signals import setup_logging, worker_shutdown, worker_shutting_down
from obstore.store import ObjectStore

from contract.errors import (
    AtelierError,
    InternalError,
    JobExpiredError,
    JobNotFoundError,
    OutOfMemoryError,
    QueueUnavailableError,
    StoreUnavailableError,
)
from contract.images import ImageStore
from contract.jobbook import Claim, JobBook, connect
from contract.jobs import Timings, TrainJob
from contract.logs import configure_logs
from contract.metrics import serve_metrics
from contract.presence import Presence, process_name
from contract.queue import LONE_WORKER, TRAIN_QUEUE, TRAIN_TASK, celery_app, on_progress
from contract.settings import load
from contract.storage import open_storage, store_errors
from contract.styles import StyleStore
from contract.tracing import configure_tracing, job_span, open_span, span
from generator.devices import choose_device, is_out_of_memory, reuse_freed_memory
from trainer.keeping import Keeping
from trainer.learner import TRAININGS, Learner, StoppedError
from trainer.metrics import TrainerMetrics
from trainer.reporter import Reporter
from trainer.runs import forget
from trainer.settings import TrainerSettings

log = structlog.get_logger()

REDIS_PATIENCE_SECONDS = 20
REPORT_PATIENCE_SECONDS = 1
"""A training does not wait for a Redis that is away only to say how far it is."""
NICENESS = 10
"""On a CPU, training takes what stylizing leaves: a photograph is waited for, a style is not."""


class Trainer:
    """What one trainer process is made of."""

    def __init__(self, settings: TrainerSettings) -> None:
        self.name = process_name(os.getpid())
        self.metrics = TrainerMetrics()
        self._settings = settings
        self._storage: ObjectStore = open_storage(settings.store_url)
        client = connect(settings.redis_url, patience_seconds=REDIS_PATIENCE_SECONDS)
        self._book = JobBook(client, settings)
        self._reports = JobBook(connect(settings.redis_url, patience_seconds=REPORT_PATIENCE_SECONDS), settings)
        self._presence = Presence(client, "trainer")
        self._images = ImageStore(self._storage)
        self._styles = StyleStore(self._storage)
        self._styles.install(StyleStore(open_storage(str(settings.builtin_styles))))
        self._learner: Learner | None = None
        self._stopping = threading.Event()

    def announce(self) -> None:
        """Said by the loop that takes tickets, each time that it comes round."""
        self._presence.announce(self.name, self._settings.lost_after_seconds)

    def stop(self) -> None:
        """The training that is under way saves itself, and its job waits for the next trainer."""
        self._stopping.set()

    def close(self) -> None:
        """Says that this trainer is gone."""
        with suppress(QueueUnavailableError):
            self._presence.dismiss(self.name)

    def work(self) -> None:
        """The whole of a ticket: one training, if one waits."""
        self._forget_ended()
        claim = self._book.pick("train").claim
        if claim is None:
            return
        with (
            structlog.contextvars.bound_contextvars(job=claim.job_id),
            job_span(claim.record),
            Keeping(self._book, claim, self._settings.heartbeat_seconds) as keeping,
        ):
            self._attempt(claim, keeping)

    def _attempt(self, claim: Claim, keeping: Keeping) -> None:
        """Learns, and ends the job with a style or with a reason. Nothing else escapes but a lost Redis."""
        job = claim.record.request
        assert isinstance(job, TrainJob)
        began = time.monotonic()
        reporter = Reporter(self._reports, self._images, claim, self._settings.preview_seconds, self.metrics)

        def stopped() -> bool:
            keeping.goes_on()
            if keeping.is_lost:  # at once, before anything is saved: another trainer may have gone on meanwhile
                raise StoppedError
            return self._stopping.is_set()

        try:
            with closing(reporter):
                result = self._the_learner().learn(claim.job_id, job, reporter, stopped)
        except StoppedError:
            self._given_up(claim, keeping)
        except StoreUnavailableError as error:
            self._try_again(claim, error)
        except AtelierError as error:
            self._fail(claim, error)
        except Exception as error:
            if is_out_of_memory(error):
                self._fail(claim, OutOfMemoryError("The training does not fit into memory: try a smaller stroke_size."))
                return
            log.exception("job failed")
            self._fail(claim, InternalError("Something went wrong on our side; the log has it."))
        else:
            timings = Timings(compute_seconds=round(time.monotonic() - began, 3))
            with span("commit"):
                committed = self._book.succeed(claim, result, timings)
            said = "style published" if committed else "result refused: the claim is no longer ours"
            log.info(said, style=str(result.style), status=result.status, seconds=timings.compute_seconds)
            self.metrics.ended(result.status.value if committed else "refused")
            self._forget_if_over(claim.job_id)

    def _the_learner(self) -> Learner:
        """Made by the first job, in its thread: CUDA is first touched inside a task."""
        if self._learner is None:
            device = choose_device(self._settings.device)
            if device.type == "cpu":
                os.nice(NICENESS)
            self._learner = Learner(self._settings, self._storage, self._images, self._styles, device)
            log.info("learner is ready", device=str(device))
        return self._learner

    def _fail(self, claim: Claim, error: AtelierError) -> None:
        open_span().fail(error.code)
        committed = self._book.fail(claim, error, Timings())
        self.metrics.ended(*(("failed", error.code) if committed else ("refused",)))
        log.info("job failed", code=error.code, reason=str(error), cause=str(error.__cause__ or ""))
        self._forget_if_over(claim.job_id)

    def _try_again(self, claim: Claim, error: AtelierError) -> None:
        """The store is out of reach. That is not the job's fault, and what was learnt is worth waiting for."""
        log.warning("job waits for the store", reason=str(error))
        self.metrics.ended("put_back", error.code)
        self._stopping.wait(self._settings.lost_after_seconds)
        self._book.release(claim, counts=False)

    def _given_up(self, claim: Claim, keeping: Keeping) -> None:
        """Nobody wants the style any more, or the trainer stops and another one goes on."""
        self.metrics.ended("given_up" if keeping.is_lost else "put_back")
        if keeping.is_lost:
            log.info("job given up: it was canceled, or another trainer has it")
            self._forget_if_over(claim.job_id)
        else:
            self._book.release(claim, counts=False)
            log.info("job put back: this trainer stops")

    def _forget_ended(self) -> None:
        """Deletes the states of trainings whose jobs have ended without their trainer, canceled for instance."""
        try:
            with store_errors():
                paths = [entry["path"] for page in obstore.list(self._storage, prefix=TRAININGS) for entry in page]
            for job_id in {path.split("/")[1] for path in paths}:
                self._forget_if_over(job_id)
        except (AtelierError, OSError) as error:
            log.warning("old trainings stay", reason=str(error))

    def _forget_if_over(self, job_id: str) -> None:
        """Another trainer may have the job, and go on from its state."""
        if self._has_ended(job_id):
            self._forget(job_id)

    def _has_ended(self, job_id: str) -> bool:
        try:
            return self._book.get(job_id).state.is_terminal
        except (JobNotFoundError, JobExpiredError):
            return True

    def _forget(self, job_id: str) -> None:
        try:
            forget(self._storage, f"{TRAININGS}{job_id}")
        except StoreUnavailableError as error:
            log.warning("state of a training stays", reason=str(error))


def create_app(settings: TrainerSettings, trainer: Trainer) -> Celery:
    """The Celery app with its one task, on a single thread beside the loop that takes tickets.

    So there is one training at a time: a ticket that comes again meanwhile, or a second one, waits for that thread.
    """
    app = celery_app(settings)
    app.conf.update(worker_pool="threads", worker_concurrency=1)
    on_progress(app, settings.heartbeat_seconds, trainer.announce)

    @app.task(name=TRAIN_TASK)
    def train(**_: object) -> None:  # tickets of older versions named their jobs
        try:
            trainer.work()
        except (JobNotFoundError, JobExpiredError):
            log.info("the job is gone")
        except QueueUnavailableError as error:  # the reaper will find the job
            log.warning("redis was lost during a job", reason=str(error))

    return app


def main() -> None:
    configure_logs("trainer")
    configure_tracing("trainer")
    reuse_freed_memory()
    try:
        settings = load(TrainerSettings)
        trainer = Trainer(settings)
        serve_metrics(trainer.metrics.registry, settings.metrics_host, settings.metrics_port)
    except AtelierError as error:
        log.critical("trainer cannot start", code=error.code, reason=str(error))
        sys.exit(1)
    setup_logging.connect(lambda **_: None, weak=False)  # ours is set up already
    worker_shutting_down.connect(lambda **_: trainer.stop(), weak=False)
    worker_shutdown.connect(lambda **_: trainer.close(), weak=False)
    create_app(settings, trainer).worker_main(["--quiet", "worker", f"--queues={TRAIN_QUEUE}", *LONE_WORKER])


if __name__ == "__main__":
    main()
