"""Webhooks: whom a client wants called when something becomes of its job, and how the calls went."""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from contract.jobs import JobRecord, Message

MAX_WEBHOOKS = 16
"""How many a job may have, of requests that were given the same one."""
MAX_DELIVERIES = 100
"""How many calls of one job may be to be made or kept; then a request that wants one is given a job of its own."""


class WebhookEvent(StrEnum):
    """What becomes of a job. The last three are its end."""

    STARTED = "job.started"
    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELED = "job.canceled"


ENDS = (WebhookEvent.SUCCEEDED, WebhookEvent.FAILED, WebhookEvent.CANCELED)


class Webhook(Message):
    """An address to be called, and when."""

    url: str
    events: tuple[WebhookEvent, ...] = ENDS


class Attempt(Message):
    """A call that was made."""

    at: datetime
    outcome: Literal["delivered", "rejected", "timeout", "unreachable", "refused"]
    """``rejected``: the answer was not 2xx; ``refused``: the gateway may not call the address, as it is now."""
    status: int | None = None
    """Of the answer, if there was one."""
    detail: str = ""


class Delivery(Message):
    """A call for one event, made as often as it takes."""

    job_id: str
    number: int
    """1 for the first of the job."""
    event: WebhookEvent
    at: datetime
    """When it happened."""
    url: str
    record: JobRecord
    """The job as it was then."""
    attempts: tuple[Attempt, ...] = ()
    next_attempt_at: datetime | None = None
    """None when it has been delivered, or is given up."""

    @property
    def id(self) -> str:
        """The same in every attempt, so that whoever is called twice can tell."""
        return f"{self.job_id}-{self.number}"
