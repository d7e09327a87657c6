"""The job book: the only owner of job state. Celery carries an id; what is true of a job stands here.

A job is claimed before it is worked on (attempt + 1, fence + 1), kept with a heartbeat, and ended by whoever holds its
latest fence. A worker that dies stops beating, and the reaper puts its jobs back. A worker that comes back from the
dead holds an old fence, and its result is refused.
"""

import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis, RedisError
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from contract import transitions
from contract.errors import (
    AtelierError,
    JobExpiredError,
    JobFinishedError,
    JobNotFoundError,
    PoisonJobError,
    QueueFullError,
    QueueUnavailableError,
)
from contract.jobs import JobFailure, JobRecord, JobResult, JobState, StylizeJob, Timings
from contract.settings import ContractSettings

PREFIX = "atelier:"
REAPER_SECONDS = 5
TICKET_GRACE_SECONDS = 10
"""How long the ticket of a waiting job may be under way before it is missed."""


@dataclass(frozen=True)
class Claim:
    """The right to work on a job, until somebody holds a newer fence."""

    record: JobRecord
    fence: int

    @property
    def job_id(self) -> str:
        return self.record.id


@dataclass(frozen=True)
class QueueDepth:
    queued: int
    running: int


def connect(url: str, *, patience_seconds: float) -> Redis:
    """A client that keeps trying for about this long while connections are refused, and then raises.

    A server that hangs is given up after at most three times that. Short in the gateway, longer in a worker.
    """
    retries = max(1, round(patience_seconds / 2))
    over_network = {} if url.startswith("unix://") else {"socket_keepalive": True}
    return Redis.from_url(
        url,
        decode_responses=True,
        socket_connect_timeout=min(2.0, patience_seconds),
        socket_timeout=min(3.0, patience_seconds),
        health_check_interval=15,
        retry=Retry(ExponentialBackoff(cap=2.0, base=0.05), retries),
        **over_network,
    )


def redis_time(client: Redis) -> float:
    """Seconds since 1970 by Redis's clock, the only one that counts."""
    seconds, microseconds = client.time()
    return seconds + microseconds / 1e6


@contextmanager
def queue_errors() -> Iterator[None]:
    """Turns Redis's failures into one that clients may read."""
    try:
        yield
    except RedisError as error:
        raise QueueUnavailableError(
            f"The queue does not answer ({type(error).__name__}); try again in a moment.", retry_after_seconds=5
        ) from error


class JobBook:
    """Job records in Redis, and the steps that change them. Safe to share between threads."""

    def __init__(self, client: Redis, settings: ContractSettings) -> None:
        self._redis = client
        self._settings = settings
        self._scripts = {
            name: client.register_script(transitions.PRELUDE + getattr(transitions, name))
            for name in (
                "CREATE", "FORGET", "CLAIM", "BEAT", "COMMIT", "RELEASE", "CANCEL", "REQUEUE", "RESUBMITTED",
            )
        }  # fmt: skip

    # --- The gateway's side ---

    def create(self, request: StylizeJob) -> JobRecord:
        """A new waiting job. Raises QueueFullError when as many wait already as may."""
        job_id = str(uuid.uuid4())
        outcome = self._run("CREATE", job_id, request.model_dump_json(), self._settings.queue_limit)
        if outcome == "full":
            raise QueueFullError(
                f"{self._settings.queue_limit} jobs are waiting, and no more are taken: try again in a moment.",
                retry_after_seconds=5,
            )
        return self.get(job_id)

    def forget(self, job_id: str) -> None:
        """Takes back a job whose ticket could not be sent."""
        self._run("FORGET", job_id)

    def get(self, job_id: str) -> JobRecord:
        """Raises JobNotFoundError for an id that never was, JobExpiredError for one whose time is over."""
        with queue_errors():
            fields = cast(dict[str, str], self._redis.hgetall(_key("job", job_id)))
            if fields:
                return JobRecord.from_hash(fields)
            expired = self._redis.exists(_key("tombstone", job_id))
        if expired:
            raise JobExpiredError("The job has ended and its result has been deleted: send the picture again.")
        raise JobNotFoundError("There is no job with this id.")

    def cancel(self, job_id: str) -> JobRecord:
        """Ends a job that has not ended. What its worker still makes of it is dropped. Canceling twice is no error.

        Raises JobFinishedError when it has succeeded or failed already, JobNotFoundError, JobExpiredError.
        """
        before = self._run("CANCEL", job_id, self._settings.result_seconds, self._settings.tombstone_seconds)
        record = self.get(job_id)
        if before in (JobState.SUCCEEDED, JobState.FAILED):
            raise JobFinishedError(f"The job has {before} already: there is nothing to cancel.")
        return record

    def depth(self) -> QueueDepth:
        with queue_errors():
            queued, running = self._redis.zcard(_set("queued")), self._redis.zcard(_set("running"))
        return QueueDepth(queued, running)

    # --- The worker's side ---

    def claim(self, job_id: str) -> Claim | None:
        """The right to work on a job; None when it is over, or somebody else has it, or it failed as poison now."""
        outcome, fence = self._run(
            "CLAIM",
            job_id,
            secrets.token_hex(8),
            self._settings.attempts,
            self._lost_after_milliseconds,
            self._poison,
            self._settings.result_seconds,
            self._settings.tombstone_seconds,
        )
        return Claim(self.get(job_id), fence) if outcome == "claimed" else None

    def beat(self, claim: Claim) -> bool:
        """Says that the job is still worked on; whether the claim still holds."""
        return bool(self._run("BEAT", claim.job_id, claim.fence, self._lost_after_milliseconds))

    def succeed(self, claim: Claim, result: JobResult, timings: Timings) -> bool:
        """Ends the job with a picture; False when the claim no longer holds, and nothing has been written."""
        return self._commit(claim, JobState.SUCCEEDED, result.model_dump_json(), "", timings)

    def fail(self, claim: Claim, error: AtelierError, timings: Timings) -> bool:
        """Ends the job with a reason; False when the claim no longer holds, and nothing has been written."""
        return self._commit(claim, JobState.FAILED, "", _failure(error), timings)

    def release(self, claim: Claim, *, counts: bool = True) -> bool:
        """Puts a claimed job back to be tried again; False when the claim no longer holds, and nothing has changed.

        ``counts`` says whether the attempt does: it does when the store was out of reach, and does not when the worker
        stopped for a reason that has nothing to do with the job.
        """
        return bool(self._run("RELEASE", claim.job_id, claim.fence, int(counts), TICKET_GRACE_SECONDS))

    # --- The reaper's side ---

    def lead_reaping(self, reaper: str) -> bool:
        """Whether this process is the one that reaps for the next while.

        For a moment there may be two, which does no harm: every step of reaping is atomic and may be done twice.
        """
        key = PREFIX + "reaper"
        with queue_errors():
            if self._redis.set(key, reaper, nx=True, ex=3 * REAPER_SECONDS):
                return True
            if self._redis.get(key) == reaper:
                self._redis.expire(key, 3 * REAPER_SECONDS)
                return True
        return False

    def reap(self) -> list[str]:
        """Puts back the jobs of workers that have gone silent; those that wait again and need a ticket.

        A job that has been tried too often fails as poison instead.
        """
        with queue_errors():
            running = cast(list[str], self._redis.zrange(_set("running"), 0, -1))
        return [job_id for job_id in running if self._requeue(job_id) == "queued"]

    def waiting(self) -> list[str]:
        """Jobs that have waited so long that their ticket must be in the queue."""
        with queue_errors():
            deadline = redis_time(self._redis) - TICKET_GRACE_SECONDS
            return cast(list[str], self._redis.zrangebyscore(_set("queued"), "-inf", deadline))

    def contents_in_use(self) -> set[str]:
        """The hashes of the pictures that jobs still wait for or work on."""
        with queue_errors():
            # In one step: a job that goes from one set to the other in between must not slip through.
            active = cast(list[str], self._redis.zunion([_set("queued"), _set("running")]))
            pipeline = self._redis.pipeline(transaction=False)
            for job_id in active:
                pipeline.hget(_key("job", job_id), "request")
            requests = [request for request in pipeline.execute() if request]
        return {StylizeJob.model_validate_json(request).content.sha256 for request in requests}

    def resubmitted(self, job_id: str) -> None:
        """Notes that the ticket of a waiting job has been sent again."""
        self._run("RESUBMITTED", job_id)

    def _requeue(self, job_id: str) -> str:
        return cast(
            str,
            self._run(
                "REQUEUE",
                job_id,
                self._settings.attempts,
                self._poison,
                self._settings.result_seconds,
                self._settings.tombstone_seconds,
            ),
        )

    def _commit(self, claim: Claim, state: JobState, result: str, error: str, timings: Timings) -> bool:
        record = claim.record
        if record.started_at:
            waited = (record.started_at - record.created_at).total_seconds()
            timings = timings.model_copy(update={"queue_seconds": round(waited, 6)})
        return bool(
            self._run(
                "COMMIT",
                claim.job_id,
                claim.fence,
                state.value,
                result,
                error,
                timings.model_dump_json(),
                self._settings.result_seconds,
                self._settings.tombstone_seconds,
            )
        )

    @property
    def _lost_after_milliseconds(self) -> int:
        return round(self._settings.lost_after_seconds * 1000)

    @property
    def _poison(self) -> str:
        return _failure(
            PoisonJobError(
                f"Its worker stopped without an answer {self._settings.attempts} times. The picture may need more "
                "memory than there is: try a smaller size."
            )
        )

    def _run(self, script: str, job_id: str, *arguments: str | int) -> Any:
        keys = [
            *(_key(kind, job_id) for kind in ("job", "heartbeat", "tombstone", "events")),
            _set("queued"),
            _set("running"),
        ]
        with queue_errors():
            return self._scripts[script](keys=keys, args=[job_id, *arguments])


def _failure(error: AtelierError) -> str:
    return JobFailure(code=error.code, detail=str(error)).model_dump_json()


def _key(kind: str, name: str) -> str:
    return f"{PREFIX}{kind}:{name}"


def _set(state: str) -> str:
    return f"{PREFIX}{state}:stylize"


def events_key(job_id: str) -> str:
    """The stream on which a job's changes of state are announced."""
    return _key("events", job_id)
