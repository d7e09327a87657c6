"""Jobs: what is asked for, what becomes of it, and how it is written down."""

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from contract.images import ImageRef, MediaType
from contract.styles import StyleRef


class Message(BaseModel):
    """What crosses a process boundary is frozen, and says nothing that the other side does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class JobState(StrEnum):
    """Where a job is. The last three are for ever."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_terminal(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED)


class StylizeJob(Message):
    """One picture in one style."""

    kind: Literal["stylize"] = "stylize"
    content: ImageRef
    style: StyleRef
    size: int | None = None
    """The long side of the result in pixels; None is that of the content."""
    media_type: MediaType
    quality: int = Field(ge=1, le=100)


class JobResult(Message):
    """The stylized picture."""

    media_type: MediaType
    width: int
    height: int
    bytes: int
    sha256: str

    @property
    def image(self) -> ImageRef:
        return ImageRef(sha256=self.sha256, bytes=self.bytes)


class JobFailure(Message):
    """Why a job failed: the code and the message of an AtelierError."""

    code: str
    detail: str


class Timings(Message):
    """How long each stage took, in seconds; None for what was not reached.

    The queue's is from the job's creation to its last start, so it holds earlier attempts, too.
    """

    queue_seconds: float | None = None
    decode_seconds: float | None = None
    compute_seconds: float | None = None
    encode_seconds: float | None = None


class JobRecord(Message):
    """The truth about a job, as Redis holds it. Times are those of Redis's clock."""

    id: str
    state: JobState
    request: StylizeJob
    attempt: int = 0
    fence: int = 0
    """Raised with every claim and cancellation: whoever holds an older number may no longer write."""
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    timings: Timings = Timings()
    result: JobResult | None = None
    error: JobFailure | None = None

    @classmethod
    def from_hash(cls, fields: dict[str, str]) -> Self:
        """From the flat fields of a Redis hash: times are seconds since 1970, nested values JSON."""
        values: dict[str, Any] = {name: fields[name] for name in ("id", "state", "attempt", "fence")}
        for name in ("request", "timings", "result", "error"):
            if fields.get(name):
                values[name] = json.loads(fields[name])
        for name in ("created_at", "started_at", "finished_at", "expires_at"):
            if fields.get(name):
                values[name] = datetime.fromtimestamp(float(fields[name]), UTC)
        return cls.model_validate(values)
