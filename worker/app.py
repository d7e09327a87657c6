"""The worker process: takes tickets from the queue, claims the jobs, and has them stylized.

python -m worker.app
"""

import os
import signal
import sys
import threading
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import structlog
from celery import Celery
from celery.signals import setup_logging, worker_ready, worker_shutdown, worker_shutting_down

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
from contract.jobbook import Claim, JobBook, Pick, connect
from contract.jobs import StylizeJob, StylizeResult, Timings
from contract.logs import configure_logs
from contract.metrics import serve_metrics
from contract.presence import Presence, process_name
from contract.queue import LONE_WORKER, STYLIZE_QUEUE, STYLIZE_TASK, celery_app, on_progress
from contract.settings import load
from contract.storage import open_storage
from contract.styles import StyleCard, StyleSource, StyleStore
from contract.tracing import configure_tracing, job_span, open_span, span
from generator.checkpoint import Checkpoint, style_vector
from generator.devices import choose_device, reuse_freed_memory
from worker.batcher import Batcher
from worker.choice import Probe, choose
from worker.engine import Engine, NetworkCache
from worker.heartbeat import Heartbeat, Keeping
from worker.isolation import Isolation
from worker.memory import DecodedPictures
from worker.metrics import WorkerMetrics
from worker.places import Places
from worker.pools import start_threads
from worker.settings import WorkerSettings
from worker.stylizer import Stopwatch, Stylizer
from worker.tiles import TILE_SIDE

log = structlog.get_logger()

REDIS_PATIENCE_SECONDS = 20
WARM_UP_SIDE = 64


class Worker:
    """What one worker process is made of."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.name = process_name(os.getpid())
        self.metrics = WorkerMetrics()
        self.attempts = settings.attempts
        device = choose_device(settings.device)
        storage = open_storage(settings.store_url)
        self.styles = StyleStore(storage)
        self.styles.install(StyleStore(open_storage(str(settings.builtin_styles))))
        client = connect(settings.redis_url, patience_seconds=REDIS_PATIENCE_SECONDS)
        self.book = JobBook(client, settings)
        self.presence = Presence(client, "worker")
        self.heartbeat = Heartbeat(
            self.book,
            self.presence,
            self.name,
            beat_seconds=settings.heartbeat_seconds,
            lost_after_seconds=settings.lost_after_seconds,
            job_seconds=settings.job_seconds,
        )
        build = choose(device, settings.engine, settings.precision, settings.engine_cache, self._probe)
        settings.scratch_folder.mkdir(parents=True, exist_ok=True)
        tile_above_pixels = round(settings.tile_above_megapixels * 1e6)
        engine = Engine(
            NetworkCache(self.styles.read_trunk, build, settings.trunk_cache_megabytes * 2**20, self.metrics),
            tile_above_pixels=tile_above_pixels,
            tile_side=TILE_SIDE,
            scratch=settings.scratch_folder,
        )
        self.batcher = Batcher(engine, round(settings.batch_megapixels * 1e6), self.metrics)
        max_pixels = round(settings.max_upload_megapixels * 1e6)
        self.memory = DecodedPictures(max_pixels, whole_pixels=tile_above_pixels)
        self.stylizer = Stylizer(ImageStore(storage), self.styles, self.batcher, max_pixels, self.memory)
        self.isolation = Isolation()
        self.places = Places(self.book, self.memory, settings.concurrency)
        self._stopping = False
        log.info("worker starts", worker=self.name, device=str(device))

    def _probe(self) -> Probe:
        """A built-in style to choose the engine by."""
        for card in self._builtin_by_trunk():
            try:
                generator = Checkpoint.from_bytes(self.styles.read_trunk(card.trunk)).generator()
                return Probe(generator, style_vector(self.styles.vector(card)))
            except AtelierError as error:
                log.error("built-in style cannot be read", style=str(card.ref), reason=str(error))  # noqa: TRY400
        return Probe.random()

    def _builtin_by_trunk(self) -> list[StyleCard]:
        """One of the built-in styles for each trunk."""
        return list({card.trunk: card for card in self.styles.cards() if card.source is StyleSource.BUILTIN}.values())

    def warm_up(self) -> None:
        """Runs each built-in generator once, then says that this worker is ready."""
        picture = np.zeros((WARM_UP_SIDE, WARM_UP_SIDE, 3), np.uint8)
        for card in self._builtin_by_trunk():
            try:
                self.batcher.submit(card.trunk, picture, style_vector(self.styles.vector(card))).result()
            except AtelierError as error:  # the other styles can be served all the same
                log.error("built-in style cannot be run", style=str(card.ref), reason=str(error))  # noqa: TRY400
        self.heartbeat.ready()
        log.info("worker is ready", worker=self.name)

    def work(self) -> None:
        """The whole of a ticket: one job, if one waits; and after a large picture all others that it can get, since
        tickets may have been spent in vain while there was no place for them."""
        after_large = False
        while claim := self._work_on_next():
            after_large = after_large or self.places.is_large(claim)
            if self._stopping or not after_large:
                return

    def _work_on_next(self) -> Claim | None:
        """Works on the job whose turn it is; its claim when it has ended. One that was tried before may have killed its
        worker: it is claimed only when it can be worked on alone, so that it takes nobody's attempts with it but its
        own."""
        with self.isolation.shared(), self.places.picked() as (pick, largest):
            ended = self._work_on(pick)
        if pick.suspect:
            with self.isolation.alone():
                ended = self._work_on(self.book.pick(alone=True, largest=largest))
        return ended

    def stop(self) -> None:
        """Told to end, Celery waits for the jobs under way: those that would take long go back to the queue now."""
        self._stopping = True
        self.batcher.stop_large()

    def close(self) -> None:
        self.batcher.close()
        self.heartbeat.stop()

    def _work_on(self, pick: Pick) -> Claim | None:
        """The claim, when its job has ended by it."""
        if pick.claim is None:
            return None
        with structlog.contextvars.bound_contextvars(job=pick.claim.job_id), job_span(pick.claim.record):
            return pick.claim if self._attempt(pick.claim) else None

    def _attempt(self, claim: Claim) -> bool:
        """Stylizes, and ends the job with a picture or with a reason, unless it is put back to be tried again; whether
        it was the end. Nothing else escapes but a lost Redis."""
        watch = Stopwatch()
        with self.heartbeat.keep(claim) as keeping:
            try:
                request = claim.record.request
                assert isinstance(request, StylizeJob), "a ticket in the wrong queue"
                result = self.stylizer.stylize(request, watch, keeping)
            except CancelledError:
                return self._given_up(claim, keeping)
            except StoreUnavailableError as error:
                return self._try_again(claim, error, watch)
            except AtelierError as error:
                self._fail(claim, error, watch)
            except MemoryError:
                self._fail(claim, OutOfMemoryError("The picture does not fit into memory: try a smaller size."), watch)
            except Exception:
                log.exception("job failed", job=claim.job_id)
                self._fail(claim, InternalError("Something went wrong on our side; the log has it."), watch)
            else:
                self._succeed(claim, result, watch)
        return True

    def _succeed(self, claim: Claim, result: StylizeResult, watch: Stopwatch) -> None:
        timings = _timings(claim, watch)
        with span("commit"):
            committed = self.book.succeed(claim, result, timings)
        said = "job done" if committed else "result refused: the claim is no longer ours"
        log.info(said, job=claim.job_id, **watch.seconds)
        if committed:
            self.metrics.succeeded(timings)
        else:
            self.metrics.refused()

    def _fail(self, claim: Claim, error: AtelierError, watch: Stopwatch) -> None:
        open_span().fail(error.code)
        timings = _timings(claim, watch)
        if self.book.fail(claim, error, timings):
            self.metrics.failed(error.code, timings)
        else:
            self.metrics.refused()
        log.info("job failed", job=claim.job_id, code=error.code, reason=str(error), cause=str(error.__cause__ or ""))

    def _try_again(self, claim: Claim, error: AtelierError, watch: Stopwatch) -> bool:
        """The store is out of reach: another attempt, in a while, may find it back. Whether this was the last one."""
        if claim.record.attempt >= self.attempts:
            self._fail(claim, error, watch)
            return True
        self.book.release(claim)
        self.metrics.put_back(error.code)
        log.warning("job put back", job=claim.job_id, reason=str(error))
        return False

    def _given_up(self, claim: Claim, keeping: Keeping) -> bool:
        """Nobody wants the picture any more; or the worker stops before its turn came, and another is to make it.
        Whether it was the end."""
        is_over = not keeping.holds()
        if not is_over:
            self.book.release(claim, counts=False)
        self.metrics.given_up()
        log.info("job given up", job=claim.job_id)
        return is_over


def _timings(claim: Claim, watch: Stopwatch) -> Timings:
    return watch.timings().model_copy(update={"queue_seconds": claim.record.queue_seconds})


def create_app(settings: WorkerSettings, worker: Worker) -> Celery:
    """The Celery app with its one task, on the threads pool: decoding runs in parallel there, beside one engine."""
    app = celery_app(settings)
    app.conf.update(worker_pool="threads", worker_concurrency=settings.concurrency)
    on_progress(app, settings.heartbeat_seconds, worker.heartbeat.consumer_is_alive)

    @app.task(name=STYLIZE_TASK)
    def stylize(**_: object) -> None:  # tickets of older versions named their jobs
        try:
            worker.work()
        except (JobNotFoundError, JobExpiredError):
            log.info("the job is gone")
        except QueueUnavailableError as error:  # the reaper will find the job
            log.warning("redis was lost during a job", reason=str(error))
        except MemoryError:  # raised on, it would keep this worker from ever taking another ticket
            log.exception("out of memory outside of a job's work")

    return app


def main() -> None:
    configure_logs("worker")
    configure_tracing("worker")
    reuse_freed_memory()
    try:
        settings = load(WorkerSettings)
        worker = Worker(settings)
        serve_metrics(worker.metrics.registry, settings.metrics_host, settings.metrics_port)
    except AtelierError as error:
        log.critical("worker cannot start", code=error.code, reason=str(error))
        sys.exit(1)
    setup_logging.connect(lambda **_: None, weak=False)  # ours is set up already
    failed = threading.Event()
    warm_up = threading.Thread(target=_warm_up, args=(worker, failed), name="warm-up")

    def ready(sender: Any, **_: object) -> None:
        start_threads(sender.pool.executor, settings.concurrency)
        warm_up.start()

    worker_ready.connect(ready, weak=False)
    worker_shutting_down.connect(lambda **_: worker.stop(), weak=False)
    worker_shutdown.connect(lambda **_: worker.close(), weak=False)
    create_app(settings, worker).worker_main(["--quiet", "worker", f"--queues={STYLIZE_QUEUE}", *LONE_WORKER])
    sys.exit(1 if failed.is_set() else 0)


def _warm_up(worker: Worker, failed: threading.Event) -> None:
    try:
        worker.warm_up()
    except CancelledError:  # told to stop meanwhile
        return
    except Exception:
        log.exception("worker cannot run the built-in styles: it stops")
        failed.set()
        signal.raise_signal(signal.SIGTERM)


if __name__ == "__main__":
    main()
