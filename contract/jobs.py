"""Jobs: what is asked for, what becomes of it, and how it is written down."""

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contract.images import ImageRef, MediaType, PictureSize
from contract.styles import NAME_PATTERN, Evaluation, StyleRef, StyleStatus

MAX_BLEND = 8
"""How many styles may be blended."""
WEIGHT_TOLERANCE = 1e-3
"""How far the weights of a blend may be from adding up to 1."""
MAX_STRENGTH = 1.5
MAX_STYLE_PICTURES = 8
MAX_ITERATIONS = 100_000
MIN_STROKE_SIZE, MAX_STROKE_SIZE = 0.25, 4.0
MAX_STYLE_WEIGHT = 10.0


class Message(BaseModel):
    """What crosses a process boundary is frozen, and says nothing that the other side does not know.

    Its numbers are finite: JSON knows no others, and a record that held one could not be read again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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


class Priority(StrEnum):
    """How urgent a job is; the most urgent first."""

    INTERACTIVE = "interactive"
    """Somebody waits for it."""
    NORMAL = "normal"
    BATCH = "batch"
    """One of many, that will be looked at later."""


class StyleShare(Message):
    """One style of a blend, and how much of it."""

    style: StyleRef
    weight: float = Field(default=1.0, gt=0, le=1)

    def __str__(self) -> str:
        return f"{self.style}:{self.weight:g}"


def written(styles: "tuple[StyleShare, ...]") -> str:
    """As a client may write it: ``name@version``, or ``name@version:weight,…``."""
    return str(styles[0].style) if len(styles) == 1 else ",".join(map(str, styles))


class StylizeJob(Message):
    """One picture in one style, or in a blend of styles that share a trunk."""

    kind: Literal["stylize"] = "stylize"
    content: ImageRef
    styles: tuple[StyleShare, ...] = Field(min_length=1, max_length=MAX_BLEND)
    """Their weights add up to 1."""
    strength: float = Field(default=1.0, ge=0, le=MAX_STRENGTH)
    """0 is the photograph as the generator reproduces it, in its own colours, 1 the style, and more is exaggerated."""
    preserve_color: bool = False
    """Whether the stylized picture keeps the colours of the content: its luminance is new, its chroma is not."""
    size: int | None = None
    """The long side of the result in pixels; None is that of the content."""
    media_type: MediaType
    quality: int = Field(ge=1, le=100)
    file_pixels: int = Field(default=0, ge=0)
    """How many pixels the content has as it was sent, and the result is to have: who picks jobs may ask for small ones.
    0 is that nobody has written it down."""
    result_pixels: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _shares_a_whole(self) -> Self:
        if abs(sum(share.weight for share in self.styles) - 1) > WEIGHT_TOLERANCE:
            raise ValueError("the weights of the styles do not add up to 1")
        return self

    @property
    def pictures(self) -> tuple[ImageRef, ...]:
        return (self.content,)

    @property
    def picture_size(self) -> PictureSize:
        return PictureSize(self.file_pixels, self.result_pixels)

    @property
    def style(self) -> str:
        return written(self.styles)


class BatchJob(Message):
    """Several pictures in one style, or one blend: each is a job of its own, and this one tells how they do."""

    kind: Literal["batch"] = "batch"
    styles: tuple[StyleShare, ...] = Field(min_length=1, max_length=MAX_BLEND)

    @property
    def pictures(self) -> tuple[ImageRef, ...]:
        return ()

    @property
    def style(self) -> str:
        return written(self.styles)


class TrainJob(Message):
    """A style to be learnt from pictures."""

    kind: Literal["train"] = "train"
    name: str = Field(pattern=NAME_PATTERN)
    title: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=4000)
    images: tuple[ImageRef, ...] = Field(min_length=1, max_length=MAX_STYLE_PICTURES)
    """Pictures of the one style."""
    quality: Literal["quick", "full"] = "quick"
    """``quick`` fits a style vector to a trunk that stays as it is, ``full`` trains a generator of its own."""
    iterations: int | None = Field(default=None, ge=1, le=MAX_ITERATIONS)
    """None is what the trainer holds to be enough."""
    style_weight: float = Field(default=1.0, gt=0, le=MAX_STYLE_WEIGHT)
    """How much style counts against content, as a multiple of the trainer's own weight."""
    stroke_size: float = Field(default=1.0, ge=MIN_STROKE_SIZE, le=MAX_STROKE_SIZE)
    """How large the strokes become, as a multiple of the trainer's own size."""
    content: str | None = Field(default=None, pattern=NAME_PATTERN)
    """A folder inside the trainer's photographs; None is all of them."""
    replace: bool = True
    """Whether it may take the place of a style that has the name by then; else it becomes a draft beside that."""

    @property
    def pictures(self) -> tuple[ImageRef, ...]:
        return self.images


class Stage(StrEnum):
    """What a worker does with a large picture; or what a trainer is doing, in this order."""

    STYLIZING = "stylizing"

    FETCHING = "fetching"
    PREPARING = "preparing"
    TRAINING = "training"
    EVALUATING = "evaluating"
    PUBLISHING = "publishing"


class Progress(Message):
    """How far a training is, or the stylizing of a large picture."""

    fraction: float = Field(ge=0, le=1)
    """Of the whole job."""
    stage: Stage
    detail: str = ""
    """What is being done, for people: ``vgg19.safetensors: 120 of 548 MB``."""
    iteration: int = 0
    iterations: int = 0
    losses: dict[str, float] = {}
    """``total``, ``content`` and ``style`` of the last iterations."""
    seconds_left: float | None = None
    previews: tuple[ImageRef, ...] = ()
    """JPEG pictures: held-out photographs, always the same ones, as they look by now."""


class StylizeResult(Message):
    """The stylized picture."""

    media_type: MediaType
    width: int
    height: int
    bytes: int
    sha256: str

    @property
    def image(self) -> ImageRef:
        return ImageRef(sha256=self.sha256, bytes=self.bytes)


class TrainResult(Message):
    """The style that was published."""

    style: StyleRef
    status: StyleStatus
    reason: str = ""
    """Why it is a draft."""
    evaluation: Evaluation | None = None


class BatchResult(Message):
    """What became of the pictures of a batch."""

    succeeded: int
    failed: int
    canceled: int


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


class Origin(Message):
    """The request that a job comes from, and the span that it goes on with; empty when nobody knows."""

    request_id: str = ""
    traceparent: str = ""
    """As W3C Trace Context writes it."""


class Child(Message):
    """A job of a batch, and how it is."""

    id: str
    state: JobState


class JobRecord(Message):
    """The truth about a job, as Redis holds it. Times are those of Redis's clock."""

    id: str
    state: JobState
    request: Annotated[StylizeJob | TrainJob | BatchJob, Field(discriminator="kind")]
    client: str = ""
    """The name of who asked for it; empty where clients are not told apart."""
    origin: Origin = Origin()
    """The request that made the job, for logs and traces."""
    priority: Priority = Priority.NORMAL
    children: tuple[Child, ...] = ()
    """Of a batch: one for each picture, in their order. Equal pictures may be one job."""
    attempt: int = 0
    fence: int = 0
    """Raised with every claim and cancellation: whoever holds an older number may no longer write."""
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    timings: Timings = Timings()
    progress: Progress | None = None
    result: StylizeResult | TrainResult | BatchResult | None = None
    error: JobFailure | None = None

    @property
    def queue_seconds(self) -> float | None:
        """From the job's creation to its last start."""
        return round((self.started_at - self.created_at).total_seconds(), 6) if self.started_at else None

    @property
    def pictures(self) -> tuple[ImageRef, ...]:
        """What the job still needs in the store while it has not ended."""
        return self.request.pictures + (self.progress.previews if self.progress else ())

    @classmethod
    def from_hash(cls, fields: dict[str, str]) -> Self:
        """From the flat fields of a Redis hash: times are seconds since 1970, nested values JSON."""
        values: dict[str, Any] = {name: fields[name] for name in ("id", "state", "attempt", "fence")}
        values |= {name: fields[name] for name in ("client", "priority") if name in fields}
        for name in ("request", "children", "origin", "timings", "progress", "result", "error"):
            if fields.get(name):
                values[name] = json.loads(fields[name])
        if style := values.get("request", {}).pop("style", None):  # written before styles could be blended
            values["request"]["styles"] = [{"style": style}]
        for name in ("created_at", "started_at", "finished_at", "expires_at"):
            if fields.get(name):
                values[name] = datetime.fromtimestamp(float(fields[name]), UTC)
        return cls.model_validate(values)
