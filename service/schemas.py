"""The documents that the HTTP interface answers with, where they differ from what the processes say to each other."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field

from contract.jobs import (
    BatchResult,
    Child,
    JobFailure,
    JobRecord,
    JobState,
    Priority,
    Progress,
    Stage,
    StylizeResult,
    Timings,
    TrainJob,
    TrainResult,
)
from contract.styles import StyleCard, StylePicture, StyleRef
from contract.webhooks import Attempt, Delivery, WebhookEvent


class JobUrls(BaseModel):
    """Use these; do not build them."""

    self: str
    events: str
    result: str
    cancel: str
    deliveries: str


class ProgressDocument(BaseModel):
    """How far the training of a style is."""

    fraction: Annotated[float, Field(ge=0, le=1, description="Of the whole job.")]
    stage: Stage
    detail: Annotated[str, Field(description="What is being done, for people.")]
    iteration: int
    iterations: int
    losses: Annotated[dict[str, float], Field(description="`total`, `content` and `style` of the last iterations.")]
    seconds_left: float | None
    previews: Annotated[
        list[str],
        Field(description="Where the photographs are that show the style as it is by now: ask again for newer ones."),
    ]

    @classmethod
    def of(cls, progress: Progress, job_id: str) -> Self:
        urls = [_preview_url(job_id, index) for index in range(len(progress.previews))]
        return cls(**progress.model_dump(exclude={"previews"}), previews=urls)


class ChildUrls(BaseModel):
    self: str
    result: str


class ChildDocument(BaseModel):
    """A job of a batch. Equal pictures may be one job."""

    id: str
    state: JobState
    urls: ChildUrls

    @classmethod
    def of(cls, child: Child) -> Self:
        address = job_url(child.id)
        return cls(id=child.id, state=child.state, urls=ChildUrls(self=address, result=f"{address}/result"))


Kind = Literal["stylize", "train", "batch"]
"""Of a job, as clients see it: a batch is one, too."""


class JobDocument(BaseModel):
    """A job, as clients see it. New members may come: ignore what you do not know."""

    id: str
    kind: Kind
    state: JobState
    style: Annotated[
        str,
        Field(
            description="`name@version`, or a blend; of a training the name.",
            examples=["starry_night@1", "starry_night@1:0.6,great_wave@1:0.4"],
        ),
    ]
    priority: Annotated[Priority, Field(description="A more urgent request for the same raises it.")]
    client: Annotated[
        str | None, Field(description="The name of the key that asked for it; null where none is needed.")
    ]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: Annotated[datetime | None, Field(description="When an ended job and its picture are deleted.")]
    attempt: Annotated[int, Field(description="How often it has been tried; 0 before somebody has it.")]
    timings: Timings
    progress: Annotated[
        ProgressDocument | None,
        Field(description="Of a training, of a batch, or of a large picture, once it has begun."),
    ]
    children: Annotated[
        list[ChildDocument] | None, Field(description="Of a batch: a job for each picture, in their order.")
    ]
    result: StylizeResult | TrainResult | BatchResult | None
    error: JobFailure | None
    urls: JobUrls

    @classmethod
    def of(cls, record: JobRecord) -> Self:
        address = job_url(record.id)
        request = record.request
        return cls(
            id=record.id,
            kind=request.kind,
            state=record.state,
            style=request.name if isinstance(request, TrainJob) else request.style,
            priority=record.priority,
            client=record.client or None,
            created_at=record.created_at,
            started_at=record.started_at,
            finished_at=record.finished_at,
            expires_at=record.expires_at,
            attempt=record.attempt,
            timings=record.timings,
            progress=ProgressDocument.of(record.progress, record.id) if record.progress else None,
            children=[ChildDocument.of(child) for child in record.children] or None,
            result=record.result,
            error=record.error,
            urls=JobUrls(
                self=address,
                events=f"{address}/events",
                result=f"{address}/result",
                cancel=address,
                deliveries=f"{address}/deliveries",
            ),
        )


class JobList(BaseModel):
    """The jobs that wait or run, in the order in which they came."""

    jobs: list[JobDocument]
    total: Annotated[
        int, Field(description="How many there are, listed or not; batches and their jobs count each for itself.")
    ]


class WebhookPayload(BaseModel):
    """What a webhook is sent: an event, and the job as it was then."""

    type: WebhookEvent
    timestamp: Annotated[datetime, Field(description="When it happened.")]
    data: JobDocument


class DeliveryDocument(BaseModel):
    """A call of a webhook for one event."""

    number: int
    webhook_id: Annotated[str, Field(description="The `webhook-id` of the call, the same in every attempt.")]
    event: WebhookEvent
    at: Annotated[datetime, Field(description="When it happened.")]
    url: str
    state: Literal["pending", "delivered", "given-up"]
    attempts: list[Attempt]
    next_attempt_at: Annotated[
        datetime | None, Field(description="While one is under way: when another would be made if nobody heard of it.")
    ]

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        delivered = any(attempt.outcome == "delivered" for attempt in delivery.attempts)
        ended: Literal["delivered", "given-up"] = "delivered" if delivered else "given-up"
        return cls(
            number=delivery.number,
            webhook_id=delivery.id,
            event=delivery.event,
            at=delivery.at,
            url=delivery.url,
            state="pending" if delivery.next_attempt_at else ended,
            attempts=list(delivery.attempts),
            next_attempt_at=delivery.next_attempt_at,
        )


class DeliveryList(BaseModel):
    deliveries: list[DeliveryDocument]


class StateEvent(BaseModel):
    """`event: state`: a job waits (again), is worked on, or has ended."""

    state: JobState
    attempt: Annotated[int, Field(description="How often it has been tried.")]
    at: datetime
    job: Annotated[JobDocument | None, Field(description="With the last event: the job that has ended.")]


class PreviewItem(BaseModel):
    url: str
    sha256: Annotated[str, Field(description="Of the picture that is there now; it is its `ETag`, too.")]


class PreviewEvent(BaseModel):
    """`event: preview`: there are new pictures of what a training has come to."""

    previews: list[PreviewItem]

    @classmethod
    def of(cls, hashes: list[str], job_id: str) -> Self:
        return cls(
            previews=[PreviewItem(url=_preview_url(job_id, index), sha256=sha) for index, sha in enumerate(hashes)]
        )


def job_url(job_id: str) -> str:
    return f"/jobs/{job_id}"


def _preview_url(job_id: str, index: int) -> str:
    return f"{job_url(job_id)}/previews/{index}"


class StyleUrls(BaseModel):
    """Use these; do not build them. They are those of the version, whose pictures never change."""

    self: str
    thumbnail: str | None
    sheet: str | None


class StyleItem(StyleCard):
    """A version of a style, and where to find it."""

    urls: StyleUrls

    @classmethod
    def of(cls, card: StyleCard, **more: Any) -> Self:
        address = style_url(card.ref)
        pictures = {
            picture.value: f"{address}/{picture}" if picture in card.pictures else None for picture in StylePicture
        }
        return cls(**card.model_dump(), urls=StyleUrls(self=address, **pictures), **more)


class StyleDocument(StyleItem):
    """One style: its active version (or the one asked for), and the versions that there are."""

    versions: list[int]
    active: Annotated[int | None, Field(description="The version that the bare name means.")]


class StyleList(BaseModel):
    """The active version of every style, and the latest versions that are none: drafts, to be looked at first."""

    styles: list[StyleItem]
    drafts: list[StyleItem]


def style_url(style: StyleRef) -> str:
    return f"/styles/{style}"


class ProblemItem(BaseModel):
    parameter: str
    detail: str


class Problem(BaseModel):
    """RFC 9457."""

    type: Annotated[str, Field(description="`/problems#code`: all of them are listed at `/problems`.")]
    title: str
    status: int
    detail: str
    code: str
    request_id: Annotated[str, Field(description="The `X-Request-ID` of the answer: the log has more under it.")]
    errors: list[ProblemItem] = []
    job: Annotated[str | None, Field(description="The job that ended with this problem.")] = None


class ProblemKind(BaseModel):
    """One way in which a request may fail: what its problem documents have in common."""

    type: str
    code: Annotated[str, Field(description="For programs; it never changes.")]
    title: str
    status: int


class ProblemList(BaseModel):
    problems: list[ProblemKind]


class Checks(BaseModel):
    """`redis`, `store` and `workers` decide: each must be `ok`. `trainers`, `styles` and `queue` only inform, and with
    `of=gateway` so does `workers`."""

    redis: Annotated[str, Field(description="Decides. `ok`, or what is wrong.")]
    store: Annotated[str, Field(description="Decides. `ok`, or what is wrong.")]
    workers: Annotated[str, Field(description="Decides, unless `of=gateway`. `ok` when a worker is ready.")]
    trainers: Annotated[str, Field(description="A hint. `ok`, or that none is ready to train new styles.")]
    styles: Annotated[str, Field(description="A hint. `ok`, or that there is none yet.")]
    queue: Annotated[
        str,
        Field(
            description="For information.",
            examples=["pictures: 3 waiting, 1 running; styles: 0 waiting, 1 running"],
        ),
    ]


class Readiness(BaseModel):
    """Whether the service, or the gateway alone, can do its work now, and what is missing."""

    ready: bool
    checks: Checks


class Limit(BaseModel):
    """What a request is held against. A maximum, unless `about` says otherwise."""

    name: str
    value: float
    unit: Annotated[str, Field(examples=["bytes", "pixels", "seconds", "requests"])]
    setting: Annotated[str | None, Field(description="The variable that moves it; null when nothing does.")]
    about: str


class LimitList(BaseModel):
    limits: list[Limit]


class ClassCapacity(BaseModel):
    """How it stands with the jobs of one priority."""

    queued: int
    queue_limit: Annotated[int, Field(description="Jobs that may wait, of all priorities, for one more to be taken.")]
    estimated_wait_seconds: Annotated[
        float | None, Field(description="How long a new job would wait; null when unknown, or nobody is ready.")
    ]


class KindCapacity(BaseModel):
    """How it stands with one kind of job."""

    queued: Annotated[int, Field(description="Jobs that wait.")]
    running: Annotated[int, Field(description="Jobs that are worked on.")]
    queue_limit: Annotated[int, Field(description="Jobs that may wait; one more is answered 503.")]
    oldest_seconds: Annotated[
        float | None, Field(description="How long the oldest of those that wait has waited; null when none does.")
    ]
    processes: Annotated[int, Field(description="Workers, or trainers, that are ready.")]
    mean_seconds: Annotated[
        float | None, Field(description="How long a job takes once it is worked on, of late; null when unknown.")
    ]
    estimated_wait_seconds: Annotated[
        float | None,
        Field(description="How long a new job of priority `normal` would wait; null when unknown, or nobody is ready."),
    ]
    priorities: dict[Priority, ClassCapacity]


class Capacity(BaseModel):
    """How much there is to do, and who does it. An estimate, not a promise."""

    stylize: KindCapacity
    train: KindCapacity


class Liveness(BaseModel):
    status: Literal["alive"] = "alive"


class Index(BaseModel):
    """Where things are."""

    name: str = "Atelier"
    version: str
    documentation: str = "/docs"
    openapi: str = "/openapi.json"
    stylize: str = "/stylize"
    jobs: str = "/jobs"
    styles: str = "/styles"
    limits: str = "/limits"
    capacity: str = "/capacity"
    problems: str = "/problems"
