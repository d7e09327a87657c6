"""How a request becomes a job: a new one, or one that an earlier request has become already."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from contract.jobs import JobRecord, Priority, StylizeJob, TrainJob
from contract.webhooks import Webhook


@dataclass(frozen=True)
class Idempotency:
    """A client's word that a request is the same as one that it may have sent before."""

    key: str
    """Unique to the client, the address and the key that it sent."""
    token: str
    """Of the request that has the key reserved."""
    fingerprint: str
    """Of the payload: the same key with another payload is a mistake."""


@dataclass(frozen=True)
class Terms:
    """What a request may become."""

    idempotency: Idempotency | None = None
    may_find: bool = False
    """Whether a job that was asked for in the same words will do: one that goes on, or has succeeded."""
    may_be_found: bool = False
    """Whether this job will do for others."""
    gone: frozenset[str] = frozenset()
    """Jobs that have succeeded and will not do, since their results are gone."""
    client: str = ""
    """The name of who asks, to whom the job will belong; only that client's jobs will do for it. Empty is everybody
    where clients are not told apart. Clients take turns in the queue."""
    priority: Priority = Priority.NORMAL
    """A job that is found, and waits with a lower one, is raised to this."""
    webhook: Webhook | None = None
    """Whom the job is to call: the job that there is already, when that will do."""


ALONE = Terms()
"""A job of its own."""


@dataclass(frozen=True)
class Admission:
    """What a request has become."""

    record: JobRecord
    how: Literal["created", "shared", "hit", "replayed"] = "created"
    """``shared`` and ``hit``: the job of an equal request, which goes on or has succeeded. ``replayed``: the job of the
    first request with this idempotency key."""


@dataclass(frozen=True)
class KnownKey:
    """An idempotency key that has become a job."""

    job_id: str
    fingerprint: str


def request_fingerprint(request: StylizeJob | TrainJob, client: str) -> str:
    """The same for requests of one client that are the same in everything: the picture, the versions of the styles, the
    options. (How many pixels there are follows from these.)"""
    words = request.model_dump_json(exclude={"file_pixels", "result_pixels"})
    return hashlib.sha256(f"{client}\n{words}".encode()).hexdigest()
