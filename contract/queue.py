"""The queue: Celery, and every setting of it. A ticket says that a job of its kind waits, and nothing else.

Which job is done is decided when a worker takes a ticket, by the job book. Celery's own bookkeeping (results, retries,
revocation) is not used: the job book knows better. A ticket may be lost or delivered twice at any time, and nothing
comes of it.
"""

import ssl
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from celery import Celery, bootsteps
from kombu.exceptions import OperationalError
from redis import ConnectionPool, Redis, RedisError

from contract.admission import ALONE, Admission, Terms
from contract.errors import QueueUnavailableError
from contract.jobbook import KINDS, PREFIX, JobBook, JobKind, queue_errors
from contract.jobs import BatchJob, JobRecord, StylizeJob, TrainJob
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
        broker_use_ssl=_tls_options(settings.redis_url) or False,
        # Acknowledged when its job is done, so that no more tickets are taken than can be worked on.
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
            # A training takes longer: its ticket comes a second time then, to a trainer that has none, or to nobody.
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
        """Writes the job down, then sends a ticket; when that fails, the job is taken back.

        Raises what ``JobBook.admit`` does, QueueUnavailableError. When Redis goes away in the very middle, so that
        nothing can be taken back, the job may still be done: for a client that has been told to try again.
        """
        with span("admission") as current:
            admission = self._book.admit(request, terms)
            current.tell(atelier__job=admission.record.id, atelier__admission=admission.how)
            if admission.how == "created":
                try:
                    self._ring(request.kind, self._book.depth(request.kind).queued, at_most=1)
                except QueueUnavailableError:
                    self._book.forget(admission.record.id)
                    raise
        return admission

    def admit_batch(self, batch: BatchJob, requests: Sequence[StylizeJob], terms: Terms) -> Admission:
        """Writes all of a batch down, or nothing, then sends tickets. Raises as ``admit`` does."""
        with span("admission") as current:
            admission = self._book.admit_batch(batch, requests, terms)
            current.tell(atelier__job=admission.record.id, atelier__admission=admission.how)
            if admission.how == "created":
                try:
                    self._ring("stylize", self._book.depth("stylize").queued, at_most=len(requests))
                except QueueUnavailableError:
                    self._book.forget(admission.record.id)
                    raise
        return admission

    def reap(self) -> int:
        """Puts back the jobs whose worker was lost, and sends the tickets that are missing; for how many jobs."""
        return sum(map(self._reap, KINDS))

    def _reap(self, kind: JobKind) -> int:
        lost = len(self._book.reap(kind))
        sent = self._ring(kind, self._book.overdue(kind))
        if sent:
            self._book.missed(kind, sent)
        return max(lost, sent)

    def _ring(self, kind: JobKind, jobs: int, at_most: int | None = None) -> int:
        """Sees to it that there are tickets for so many jobs; how many it has sent.

        Those that workers have taken, and have not yet picked a job for, look lost: then there are some too many, which
        find nothing. There are never more of them in the queue than there were jobs.
        """
        with queue_errors():
            missing = max(0, jobs - self._redis.llen(PREFIX + kind))
        missing = missing if at_most is None else min(missing, at_most)
        for _ in range(missing):
            self._send_ticket(kind)
        return missing

    def _send_ticket(self, kind: JobKind) -> None:
        """A kind of job has a queue and a task of its own name."""
        try:
            self._app.send_task(kind, queue=kind, retry=False)
        except (OperationalError, OSError, RedisError) as error:
            raise QueueUnavailableError(
                f"The queue does not take jobs ({type(error).__name__}); try again in a moment.", retry_after_seconds=5
            ) from error


def on_progress(app: Celery, seconds: float, progressed: Callable[[], None]) -> None:
    """Has the consumer of a worker say every so often that it is running: from its own loop, so it is true."""

    class Progress(bootsteps.StartStopStep):
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: Any) -> None:
            progressed()
            consumer.timer.call_repeatedly(seconds, progressed)

    app.steps["consumer"].add(Progress)


def _broker_url(redis_url: str) -> str:
    """The URL in kombu's words: that for a unix socket is another than redis-py's, and TLS has ``_tls_options``."""
    if redis_url.startswith("unix://"):
        return redis_url.replace("unix://", "redis+socket://", 1)
    if redis_url.startswith("rediss://"):
        url = urlsplit(redis_url)
        others = [(name, value) for name, value in parse_qsl(url.query) if not name.startswith("ssl_")]
        return url._replace(query=urlencode(others)).geturl()
    return redis_url


def _tls_options(redis_url: str) -> dict[str, Any]:
    """What Celery's connections ask of the server's certificate: the same as our own. Nothing without TLS.

    Left to itself, kombu takes any certificate, and reads some of the URL's parameters in other ways than redis-py,
    which reads them here.
    """
    if not redis_url.startswith("rediss://"):
        return {}
    given = ConnectionPool.from_url(redis_url).connection_kwargs
    options = {name: value for name, value in given.items() if name.startswith("ssl_")}
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, **options}
