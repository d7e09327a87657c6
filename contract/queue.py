"""The queue: Celery, and every setting of it. A ticket carries the id of a job and nothing else.

Celery's own bookkeeping (results, retries, revocation) is not used: the job book knows better. A ticket may be lost or
delivered twice at any time, and nothing comes of it.
"""

import json
from collections.abc import Callable
from typing import Any, cast

from celery import Celery, bootsteps
from kombu.exceptions import OperationalError
from redis import Redis, RedisError

from contract.admission import ALONE, Admission, Terms
from contract.errors import QueueUnavailableError
from contract.jobbook import KINDS, PREFIX, JobBook, JobKind, queue_errors
from contract.jobs import JobRecord, StylizeJob, TrainJob
from contract.settings import ContractSettings
from contract.tracing import span

STYLIZE_QUEUE = STYLIZE_TASK = "stylize"
TRAIN_QUEUE = TRAIN_TASK = "train"

LONE_WORKER = ("--without-gossip", "--without-mingle", "--without-heartbeat")
"""Options of our Celery workers, which have nothing to say to one another."""

BROKER_SOCKET_SECONDS = 30
"""Longer than kombu's blocking read, so that only a dead connection runs into it."""


def celery_app(settings: ContractSettings) -> Celery:
    """The Celery app of gateway, workers and trainers."""
    app = Celery("atelier", broker=_broker_url(settings.redis_url), set_as_current=False)
    app.conf.update(
        # One message, one job: acknowledged when it is done, and no more taken than can be worked on.
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        task_reject_on_worker_lost=False,  # the reaper puts the job back, and counts the attempts
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        result_backend=None,
        task_serializer="json",
        accept_content=["json"],
        task_default_queue=STYLIZE_QUEUE,
        task_create_missing_queues=True,
        # A publisher must fail fast; a worker waits for Redis to come back.
        task_publish_retry=False,
        broker_connection_timeout=2,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "global_keyprefix": PREFIX,  # the shortest visibility timeout of all apps on a Redis would win
            # A training takes longer: its ticket comes a second time then, and is dropped, as the job has its claim.
            "visibility_timeout": 2 * settings.job_seconds,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_timeout": BROKER_SOCKET_SECONDS,
            "socket_connect_timeout": 2,
            "socket_keepalive": not settings.redis_url.startswith("unix://"),
            "retry_on_timeout": True,
            "max_retries": 0,
            "interval_start": 0,
            "interval_step": 0,
            "interval_max": 0,
        },
        # Nothing is asked of workers by broadcast: their keys in Redis say that they live.
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        enable_utc=True,
    )
    return app


class JobQueue:
    """The job book's records and Celery's tickets, kept together."""

    def __init__(self, app: Celery, book: JobBook, client: Redis) -> None:
        self._app = app
        self._book = book
        self._redis = client

    def submit(self, request: StylizeJob | TrainJob) -> JobRecord:
        """A job of its own. Raises as ``admit`` does."""
        return self.admit(request, ALONE).record

    def admit(self, request: StylizeJob | TrainJob, terms: Terms) -> Admission:
        """Writes the job down, then sends its ticket; when that fails, the job is taken back.

        Raises what ``JobBook.admit`` does, QueueUnavailableError. When Redis goes away in the very middle, so that
        nothing can be taken back, the job may still be done: for a client that has been told to try again.
        """
        with span("admission") as current:
            admission = self._book.admit(request, terms)
            current.tell(atelier__job=admission.record.id, atelier__admission=admission.how)
            if admission.how == "created":
                try:
                    self._send_ticket(request.kind, admission.record.id)
                except QueueUnavailableError:
                    self._book.forget(admission.record.id)
                    raise
        return admission

    def reap(self) -> int:
        """Sends again the tickets of jobs whose worker, or whose ticket, was lost; how many they were."""
        return sum(map(self._reap, KINDS))

    def _reap(self, kind: JobKind) -> int:
        missing = self._book.reap(kind)
        waiting = [job_id for job_id in self._book.waiting(kind) if job_id not in missing]
        if waiting:
            tickets = self._tickets(kind)
            missing += [job_id for job_id in waiting if job_id not in tickets]
        for job_id in missing:
            self._send_ticket(kind, job_id)
            self._book.resubmitted(job_id)
        return len(missing)

    def _send_ticket(self, kind: JobKind, job_id: str) -> None:
        """A kind of job has a queue and a task of its own name."""
        try:
            self._app.send_task(kind, kwargs={"job": job_id}, queue=kind, task_id=job_id, retry=False)
        except (OperationalError, OSError, RedisError) as error:
            raise QueueUnavailableError(
                f"The queue does not take jobs ({type(error).__name__}); try again in a moment.", retry_after_seconds=5
            ) from error

    def _tickets(self, kind: JobKind) -> set[str]:
        """The jobs whose tickets are in the queue, not taken by any worker."""
        with queue_errors():
            messages = cast(list[str], self._redis.lrange(PREFIX + kind, 0, -1))
        return {json.loads(message)["headers"]["id"] for message in messages}


def on_progress(app: Celery, seconds: float, progressed: Callable[[], None]) -> None:
    """Has the consumer of a worker say every so often that it is running: from its own loop, so it is true."""

    class Progress(bootsteps.StartStopStep):
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: Any) -> None:
            progressed()
            consumer.timer.call_repeatedly(seconds, progressed)

    app.steps["consumer"].add(Progress)


def _broker_url(redis_url: str) -> str:
    """kombu's word for a unix socket is another than redis-py's."""
    return redis_url.replace("unix://", "redis+socket://", 1) if redis_url.startswith("unix://") else redis_url
