"""The job book: the only owner of job state. Celery carries an id; what is true of a job stands here.

A job is claimed before it is worked on (attempt + 1, fence + 1), kept with a heartbeat, and ended by whoever holds its
latest fence. A worker that dies stops beating, and the reaper puts its jobs back. A worker that comes back from the
dead holds an old fence, and its result is refused.
"""

import json
import math
import re
import secrets
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast, get_args

from redis import Redis, RedisError
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from contract import admission_scripts, prelude, transitions
from contract.admission import ALONE, Admission, KnownKey, Terms, request_fingerprint
from contract.errors import (
    AtelierError,
    JobExpiredError,
    JobFinishedError,
    JobNotFoundError,
    JobSharedError,
    KeyReusedError,
    PoisonJobError,
    QueueFullError,
    QueueUnavailableError,
    RequestInFlightError,
    StyleExistsError,
)
from contract.images import PictureSize
from contract.jobs import (
    BatchJob,
    JobFailure,
    JobRecord,
    JobState,
    Priority,
    Progress,
    StylizeJob,
    StylizeResult,
    Timings,
    TrainJob,
    TrainResult,
)
from contract.settings import ContractSettings
from contract.tracing import origin
from contract.webhooks import MAX_DELIVERIES, MAX_WEBHOOKS

PREFIX = "atelier:"
ANNOUNCEMENTS = PREFIX + "announcements"
"""The stream that names every job to which something happens."""
ANNOUNCEMENTS_KEPT = prelude.ANNOUNCEMENTS_KEPT
DURATIONS = PREFIX + "durations"
COUNTS = PREFIX + "counts"
BATCHES = PREFIX + "batches"
"""The ids of batches, also of some that have ended."""
JobKind = Literal["stylize", "train"]
KINDS: tuple[JobKind, ...] = get_args(JobKind)
Counted = Literal["admitted", "finished", "reaped", "tickets"]
"""What is counted: requests for jobs by what they became; jobs by how they ended; what the reaper did (put a job back
whose worker was silent, ``queued``, or ``failed`` it, or sent a ``ticket`` again); tickets that found ``nothing``."""
HOWS: dict[Counted, tuple[str, ...]] = {
    "admitted": ("created", "shared", "hit"),
    "finished": ("succeeded", "failed", "canceled", "forgotten"),
    "reaped": ("queued", "failed", "ticket"),
    "tickets": ("nothing",),
}
"""How each of these may go: what the scripts give to ``count_one``."""
REAPER_SECONDS = 5
EVENT_ID_PATTERN = r"[0-9]{1,19}-[0-9]{1,19}"
RESERVATION_SECONDS = 15
"""How long an idempotency key outlives a gateway that died while its request came in."""
HIT_SECONDS = 60
"""How long a result must still be kept to be the answer to another request, or a tenth of all its time."""
TICKET_GRACE_SECONDS = 10
"""How long the ticket of a waiting job may be under way before it is missed."""
ROOM = {Priority.INTERACTIVE: 1.0, Priority.NORMAL: 7 / 8, Priority.BATCH: 3 / 4}
"""How full the queue may become with jobs of each priority: the rest of it is for those that are more urgent."""


@dataclass(frozen=True)
class Claim:
    """The right to work on a job, until somebody holds a newer fence."""

    record: JobRecord
    fence: int

    @property
    def job_id(self) -> str:
        return self.record.id


@dataclass(frozen=True)
class Pick:
    """What somebody who could work on a job is given."""

    claim: Claim | None
    suspect: bool = False
    """Whether the next job was tried before, and is given only to who works on it alone."""


@dataclass(frozen=True)
class Snapshot:
    """A job as it was after one of its events."""

    record: JobRecord
    event_id: str
    """The latest event that the record knows of."""


class _Glance(NamedTuple):
    """What must be known of a job to list it, or not; in the order in which jobs are listed."""

    created_at: float
    place: int
    """Jobs of one batch were made at the same time."""
    id: str
    state: str
    client: str
    kind: str
    batches: str


@dataclass(frozen=True)
class QueueDepth:
    queued: int
    running: int


def room_for(priority: Priority, queue_limit: int) -> int:
    """How many pictures may wait for one of this priority to be taken still."""
    return math.ceil(queue_limit * ROOM[priority])


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
            name: client.register_script(prelude.PRELUDE + script)
            for name, script in (admission_scripts.SCRIPTS | transitions.SCRIPTS).items()
        }

    # --- The gateway's side ---

    def reserve(self, key: str, token: str) -> KnownKey | None:
        """Keeps an idempotency key for the request with this token, for a while; or the job that it has become.

        Raises RequestInFlightError while another request has it.
        """
        milliseconds = round(RESERVATION_SECONDS * 1000)
        outcome, *known = self._run("RESERVE", "", token, milliseconds, more_keys=(_key("idempotency", key),))
        if outcome == "in flight":
            raise _in_flight()
        return KnownKey(*known) if outcome == "known" else None

    def unreserve(self, key: str, token: str) -> None:
        """Lets go of an idempotency key, if nothing has come of the request that had it."""
        self._run("UNRESERVE", "", token, more_keys=(_key("idempotency", key),))

    def create(self, request: StylizeJob | TrainJob) -> JobRecord:
        """A new waiting job. Raises as ``admit`` does."""
        return self.admit(request).record

    def admit(self, request: StylizeJob | TrainJob, terms: Terms = ALONE) -> Admission:
        """A new waiting job, or one that will do as well.

        Raises QueueFullError when as many of its kind wait already as may, StyleExistsError when a style of its name is
        being trained; KeyReusedError and RequestInFlightError for an idempotency key that is not this request's.
        """
        name = request.name if isinstance(request, TrainJob) else ""
        limit = self._limit(request.kind, terms.priority)
        said = {**self._said(terms), "kind": request.kind, "limit": limit, "name": name}
        return self._admitted("CREATE", request, said, terms, (request,))

    def admit_batch(self, batch: BatchJob, requests: Sequence[StylizeJob], terms: Terms) -> Admission:
        """A batch of jobs for these requests, new ones or such as will do as well: of all of them, or of none.

        Raises as ``admit`` does.
        """
        said = {
            **self._said(terms),
            "kind": "stylize",
            "limit": self._limit("stylize", terms.priority),
            "jobs": [{"id": str(uuid.uuid4()), "request": request.model_dump_json()} for request in requests],
            "result_seconds": self._settings.result_seconds,
            "tombstone_seconds": self._settings.tombstone_seconds,
        }
        return self._admitted("CREATE_BATCH", batch, said, terms, requests)

    def found(self, requests: Sequence[StylizeJob], terms: Terms) -> list[JobRecord]:
        """The jobs that there are for these requests, and that have succeeded."""
        if not terms.may_find:
            return []
        with queue_errors():
            ids = cast(
                list[str | None],
                self._redis.mget([_key("same", request_fingerprint(request, terms.client)) for request in requests]),
            )
            pipeline = self._redis.pipeline(transaction=False)
            for job_id in filter(None, ids):
                pipeline.hgetall(_key("job", job_id))
            records = [JobRecord.from_hash(fields) for fields in pipeline.execute() if fields]
        return [record for record in records if record.state is JobState.SUCCEEDED]

    def _said(self, terms: Terms) -> dict[str, Any]:
        """The terms, as the scripts read them."""
        key = terms.idempotency
        return {
            "token": key.token if key else "",
            "fingerprint": key.fingerprint if key else "",
            "may_find": terms.may_find,
            "hit_milliseconds": round(1000 * min(HIT_SECONDS, self._settings.result_seconds / 10)),
            "gone": sorted(terms.gone),
            "client": terms.client,
            "priority": terms.priority,
            "origin": origin().model_dump_json(),
            "webhook": terms.webhook.model_dump_json() if terms.webhook else "",
            "max_webhooks": MAX_WEBHOOKS,
            "max_calls": MAX_DELIVERIES,
        }

    def _admitted(
        self,
        script: str,
        request: StylizeJob | TrainJob | BatchJob,
        said: dict[str, Any],
        terms: Terms,
        requests: Sequence[StylizeJob | TrainJob],
    ) -> Admission:
        """What a script makes of a request; of a batch, of each of its requests."""
        shares = terms.may_find or terms.may_be_found
        outcome, job_id = self._run(
            script,
            str(uuid.uuid4()),
            request.model_dump_json(),
            json.dumps(said),
            more_keys=(
                _key("idempotency", terms.idempotency.key) if terms.idempotency else "",
                *(_key("same", request_fingerprint(each, terms.client)) if shares else "" for each in requests),
            ),
        )
        if not job_id:
            raise _refusal(outcome, said["limit"], said.get("name", ""))
        return Admission(self.get(job_id), outcome)

    def forget(self, job_id: str) -> None:
        """Takes back a job whose ticket could not be sent."""
        self._run("FORGET", job_id)

    def get(self, job_id: str) -> JobRecord:
        """Raises JobNotFoundError for an id that never was, JobExpiredError for one whose time is over."""
        with queue_errors():
            return self._record(job_id, cast(dict[str, str], self._redis.hgetall(_key("job", job_id))))

    def unfinished(
        self, limit: int, *, client: str | None = None, kind: str | None = None, state: JobState | None = None
    ) -> tuple[list[JobRecord], int]:
        """The jobs that wait or run, and the batches that they are of, in the order in which they came: so many of them
        at most, and how many there are. Only those of a client, of a kind, in a state, where one is named.
        """
        with queue_errors():
            jobs = self._glances(self._waiting_or_running())
            batches = self._glances({batch for job in jobs for batch in job.batches.split()})
            found = [
                glance
                for glance in jobs + batches
                if not JobState(glance.state).is_terminal
                and client in (None, glance.client)
                and kind in (None, glance.kind)
                and state in (None, glance.state)
            ]
            pipeline = self._redis.pipeline(transaction=False)
            for glance in sorted(found)[:limit]:
                pipeline.hgetall(_key("job", glance.id))
            records = [JobRecord.from_hash(fields) for fields in pipeline.execute() if fields]
        return [record for record in records if not record.state.is_terminal], len(found)

    def _glances(self, ids: Collection[str]) -> list[_Glance]:
        """At those of the jobs whose records are there."""
        pipeline = self._redis.pipeline(transaction=False)
        for job_id in ids:
            pipeline.hmget(_key("job", job_id), "created_at", "place", "state", "client", "kind", "batches")
        return [
            _Glance(float(created_at), int(place or 0), job_id, state, client or "", kind, batches or "")
            for job_id, (created_at, place, state, client, kind, batches) in zip(ids, pipeline.execute(), strict=True)
            if created_at
        ]

    def snapshot(self, job_id: str) -> Snapshot:
        """The job, and the latest of its events at that moment. Raises as ``get`` does."""
        pairs, event_id = self._run("SNAPSHOT", job_id)
        return Snapshot(self._record(job_id, dict(zip(pairs[::2], pairs[1::2], strict=True))), event_id)

    def has_event(self, job_id: str, event_id: str) -> bool:
        """Whether this event of the job is still kept: then all that came after it are, too."""
        if not re.fullmatch(EVENT_ID_PATTERN, event_id):
            return False
        with queue_errors():
            return bool(self._redis.xrange(events_key(job_id), event_id, event_id))

    def cancel(self, job_id: str) -> JobRecord:
        """Ends a job that has not ended. What its worker still makes of it is dropped. Canceling twice is no error.

        Raises JobFinishedError when it has succeeded or failed already, JobSharedError when several requests were given
        it, JobNotFoundError, JobExpiredError.
        """
        before = self._run("CANCEL", job_id, self._settings.result_seconds, self._settings.tombstone_seconds)
        record = self.get(job_id)
        if before in (JobState.SUCCEEDED, JobState.FAILED):
            raise JobFinishedError(f"The job has {before} already: there is nothing to cancel.")
        if before == "shared":
            raise JobSharedError("Others sent the same and were given this job, too: it goes on for them.")
        return record

    def depth(self, kind: JobKind = "stylize") -> QueueDepth:
        with queue_errors():
            queued, running = self._redis.zcard(_set("queued", kind)), self._redis.zcard(_set("running", kind))
        return QueueDepth(queued, running)

    def waiting(self, kind: JobKind = "stylize") -> dict[Priority, int]:
        """How many jobs wait with each priority."""
        return dict(zip(Priority, self._run("WAITING", "", kind), strict=True))

    def oldest_seconds(self, kind: JobKind = "stylize") -> float | None:
        """How long the job that was created first of those that wait has waited; None when none does.

        Not told by the scores of the set, which begin anew when a job is put back.
        """
        created_at = _key("job", "*->created_at")
        with queue_errors():
            first = cast(
                list[str | None], self._redis.sort(_set("queued", kind), 0, 1, by=created_at, get=[created_at])
            )
            return max(0.0, redis_time(self._redis) - float(first[0])) if first and first[0] else None

    def mean_seconds(self, kind: JobKind = "stylize") -> float | None:
        """How long a job of this kind takes, once it is worked on; None when none has succeeded for a day."""
        with queue_errors():
            mean = cast(str | None, self._redis.hget(DURATIONS, kind))
        return float(mean) if mean else None

    def counts(self, what: Counted) -> dict[tuple[JobKind, str], int]:
        """How many requests for jobs of a kind became what, or jobs of a kind ended how, and so on, since Redis was
        empty.

        A request that was sent again is not counted again. A job that was taken back, as its ticket could not be sent,
        counts as one that was ``forgotten``.
        """
        with queue_errors():
            counts = cast(dict[str, str], self._redis.hgetall(COUNTS))
        split = ((name.split(":"), int(count)) for name, count in counts.items())
        return {(cast(JobKind, kind), how): count for (about, kind, how), count in split if about == what}

    # --- The worker's side ---

    def pick(self, kind: JobKind = "stylize", *, alone: bool = True, largest: PictureSize | None = None) -> Pick:
        """The job whose turn it is, and the right to work on it.

        The most urgent class is first, but a class in which a job waits is passed over for so long only; in a class
        clients take turns, and of a client the oldest job is first. Without ``alone`` no job is given that was tried
        before. What has been tried too often fails as poison.

        With ``largest`` no picture is given that has more pixels in its file, or as a result: larger ones are passed
        over, and keep their turns. One whose size is not known counts as small.
        """
        token = secrets.token_hex(8)
        outcome, job_id, fence = self._run(
            "PICK",
            "",
            kind,
            token,
            int(alone),
            self._settings.attempts,
            self._lost_after_milliseconds,
            self._poison,
            self._settings.result_seconds,
            self._settings.tombstone_seconds,
            *((largest.file_pixels, largest.result_pixels) if largest else ("", "")),
            more_keys=(_key("pick", token),),
        )
        claim = Claim(self.get(job_id), fence) if outcome == "claimed" else None
        return Pick(claim, suspect=outcome == "suspect")

    def beat(self, claim: Claim) -> bool:
        """Says that the job is still worked on; whether the claim still holds."""
        return bool(self._run("BEAT", claim.job_id, claim.fence, self._lost_after_milliseconds))

    def progress(self, claim: Claim, progress: Progress, *, lasts: bool = False) -> bool:
        """Writes down how far the job is; whether the claim still holds.

        ``lasts`` says that the next attempt would go on from here: then the attempts are counted anew.
        """
        previews = json.dumps([preview.sha256 for preview in progress.previews])
        return bool(self._run("PROGRESS", claim.job_id, claim.fence, progress.model_dump_json(), int(lasts), previews))

    def succeed(self, claim: Claim, result: StylizeResult | TrainResult, timings: Timings) -> bool:
        """Ends the job with what it made; False when the claim no longer holds, and nothing has been written."""
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

    def reap(self, kind: JobKind = "stylize") -> list[str]:
        """Puts back the jobs of this kind of workers that have gone silent; those that wait again.

        A job that has been tried too often fails as poison instead.
        """
        with queue_errors():
            running = cast(list[str], self._redis.zrange(_set("running", kind), 0, -1))
        return [job_id for job_id in running if self._requeue(job_id) == "queued"]

    def overdue(self, kind: JobKind = "stylize") -> int:
        """How many jobs of this kind have waited so long that there must be a ticket for each of them."""
        with queue_errors():
            deadline = redis_time(self._redis) - TICKET_GRACE_SECONDS
            return self._redis.zcount(_set("queued", kind), "-inf", deadline)

    def pictures_in_use(self) -> set[str]:
        """The hashes of the pictures that jobs still wait for or work on."""
        with queue_errors():
            pipeline = self._redis.pipeline(transaction=False)
            for job_id in self._waiting_or_running():
                pipeline.hgetall(_key("job", job_id))
            records = [JobRecord.from_hash(fields) for fields in pipeline.execute() if fields]
        return {picture.sha256 for record in records for picture in record.pictures} | self._results_of_batches()

    def _waiting_or_running(self) -> list[str]:
        """The ids of all jobs that somebody works on or will, so not of batches."""
        # In one step: a job that goes from one set to the other in between must not slip through.
        active = self._redis.zunion([_set(state, kind) for state in ("queued", "running") for kind in KINDS])
        return cast(list[str], active)

    def _results_of_batches(self) -> set[str]:
        """The pictures that children of batches have made: they are kept as long as the batch, which may be longer than
        they would be by themselves."""
        with queue_errors():
            ids = sorted(cast(set[str], self._redis.smembers(BATCHES)))
            pipeline = self._redis.pipeline(transaction=False)
            for job_id in ids:
                pipeline.hget(_key("job", job_id), "children")
            children = dict(zip(ids, pipeline.execute(), strict=True))
            if over := [job_id for job_id, listed in children.items() if not listed]:
                self._redis.srem(BATCHES, *over)
            for child in {child["id"] for listed in children.values() if listed for child in json.loads(listed)}:
                pipeline.hget(_key("job", child), "result")
            return {json.loads(result)["sha256"] for result in pipeline.execute() if result}

    def missed(self, kind: JobKind, tickets: int) -> None:
        """Notes that so many tickets were missing, and have been sent again."""
        with queue_errors():
            self._redis.hincrby(COUNTS, f"reaped:{kind}:ticket", tickets)

    def _record(self, job_id: str, fields: dict[str, str]) -> JobRecord:
        if fields:
            return JobRecord.from_hash(fields)
        with queue_errors():
            expired = self._redis.exists(_key("tombstone", job_id))
        if expired:
            raise JobExpiredError("The job has ended and its result has been deleted: send the picture again.")
        raise JobNotFoundError("There is no job with this id.")

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
                TICKET_GRACE_SECONDS,
            ),
        )

    def _commit(self, claim: Claim, state: JobState, result: str, error: str, timings: Timings) -> bool:
        timings = timings.model_copy(update={"queue_seconds": claim.record.queue_seconds})
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

    def _limit(self, kind: JobKind, priority: Priority) -> int:
        if kind == "train":
            return self._settings.train_queue_limit
        return room_for(priority, self._settings.queue_limit)

    @property
    def _lost_after_milliseconds(self) -> int:
        return round(self._settings.lost_after_seconds * 1000)

    @property
    def _poison(self) -> str:
        return _failure(
            PoisonJobError(
                f"Its worker stopped without an answer {self._settings.attempts} times. It may need more memory than "
                "there is: try a smaller picture, or for a new style a smaller stroke_size."
            )
        )

    def _run(self, script: str, job_id: str, *arguments: str | int, more_keys: tuple[str, ...] = ()) -> Any:
        keys = [
            *(_key(part, job_id) for part in ("job", "heartbeat", "tombstone", "events")),
            PREFIX + "training",
            ANNOUNCEMENTS,
            DURATIONS,
            COUNTS,
            *(_set(state, kind) for kind in KINDS for state in ("queued", "running")),
            PREFIX + "order",
            *more_keys,
        ]
        with queue_errors():
            return self._scripts[script](keys=keys, args=[job_id, *arguments])


def _refusal(outcome: str, limit: int, name: str) -> AtelierError:
    """Why a request does not become a job."""
    if outcome == "full":
        return QueueFullError(
            f"{limit} jobs are waiting, and no more are taken: try again in a moment.", retry_after_seconds=5
        )
    if outcome == "taken":
        return StyleExistsError(f"A style {name!r} is being trained: wait for it, cancel it, or take another name.")
    return _in_flight() if outcome == "in flight" else key_reused()


def key_reused() -> KeyReusedError:
    return KeyReusedError(
        "This idempotency key was sent with another payload before: take a new key for a new request."
    )


def _in_flight() -> RequestInFlightError:
    return RequestInFlightError(
        "The first request with this idempotency key is still coming in: send it again in a moment.",
        retry_after_seconds=1,
    )


def _failure(error: AtelierError) -> str:
    return JobFailure(code=error.code, detail=str(error)).model_dump_json()


def _key(kind: str, name: str) -> str:
    return f"{PREFIX}{kind}:{name}"


def _set(state: str, kind: JobKind) -> str:
    return f"{PREFIX}{state}:{kind}"


def events_key(job_id: str) -> str:
    """The stream on which a job's changes of state are announced."""
    return _key("events", job_id)
