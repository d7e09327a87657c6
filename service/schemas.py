"""The documents of the HTTP interface, where they differ from what the processes say to each other."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from contract.images import MediaType
from contract.jobs import JobFailure, JobRecord, JobResult, JobState, Timings
from contract.styles import StyleCard

MIN_SIDE = 16
"""The least that the generators take, in pixels."""

DEFAULT_QUALITY = {MediaType.JPEG: 90, MediaType.PNG: 100, MediaType.WEBP: 88, MediaType.AVIF: 75}

Format = Literal["jpeg", "png", "webp", "avif"]


class StylizeOptions(BaseModel):
    """What may be asked of POST /stylize: in the query, as form fields or as JSON members."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    style: Annotated[str | None, Field(description="A style's name, or `name@version`.", examples=["starry_night"])] = (
        None
    )
    size: Annotated[
        int | None,
        Field(
            ge=MIN_SIDE,
            description="The long side of the result in pixels; default: the photograph's own, up to the pixel limit.",
        ),
    ] = None
    format: Annotated[
        Format | None, Field(description="The format of the result; it wins over `Accept`. Default: the photograph's.")
    ] = None
    quality: Annotated[
        int | None, Field(ge=1, le=100, description="Of JPEG, WebP and AVIF; default 90, 88 and 75.")
    ] = None

    @property
    def media_type(self) -> MediaType | None:
        return MediaType(f"image/{self.format}") if self.format else None


class StylizeDocument(StylizeOptions):
    """POST /stylize as JSON."""

    image: Annotated[str, Field(description="The picture as a data URL: `data:image/jpeg;base64,…`")]


class JobUrls(BaseModel):
    """Use these; do not build them."""

    self: str
    result: str
    cancel: str


class JobDocument(BaseModel):
    """A job, as clients see it. New members may come: ignore what you do not know."""

    id: str
    state: JobState
    style: str
    version: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: Annotated[datetime | None, Field(description="When an ended job and its picture are deleted.")]
    attempt: Annotated[int, Field(description="How often it has been tried; 0 before a worker has it.")]
    timings: Timings
    result: JobResult | None
    error: JobFailure | None
    urls: JobUrls

    @classmethod
    def of(cls, record: JobRecord) -> Self:
        address = job_url(record.id)
        return cls(
            id=record.id,
            state=record.state,
            style=record.request.style.name,
            version=record.request.style.version,
            created_at=record.created_at,
            started_at=record.started_at,
            finished_at=record.finished_at,
            expires_at=record.expires_at,
            attempt=record.attempt,
            timings=record.timings,
            result=record.result,
            error=record.error,
            urls=JobUrls(self=address, result=f"{address}/result", cancel=address),
        )


def job_url(job_id: str) -> str:
    return f"/jobs/{job_id}"


class StyleList(BaseModel):
    styles: list[StyleCard]


class StyleDocument(StyleCard):
    """One style: its active version (or the one asked for), and the versions that there are."""

    versions: list[int]


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
    errors: list[ProblemItem] = []


class ProblemKind(BaseModel):
    """One way in which a request may fail: what its problem documents have in common."""

    type: str
    code: Annotated[str, Field(description="For programs; it never changes.")]
    title: str
    status: int


class ProblemList(BaseModel):
    problems: list[ProblemKind]


class Checks(BaseModel):
    """`redis`, `store` and `workers` decide: each must be `ok`. `styles` and `queue` only inform."""

    redis: Annotated[str, Field(description="Decides. `ok`, or what is wrong.")]
    store: Annotated[str, Field(description="Decides. `ok`, or what is wrong.")]
    workers: Annotated[str, Field(description="Decides. `ok` when at least one worker is ready.")]
    styles: Annotated[str, Field(description="A hint. `ok`, or that there is none yet.")]
    queue: Annotated[str, Field(description="For information.", examples=["3 waiting, 1 running"])]


class Readiness(BaseModel):
    """Whether the service can do its work now, and what is missing."""

    ready: bool
    checks: Checks


class Liveness(BaseModel):
    status: Literal["alive"] = "alive"


class Index(BaseModel):
    """Where things are."""

    name: str = "Atelier"
    version: str
    documentation: str = "/docs"
    openapi: str = "/openapi.json"
    stylize: str = "/stylize"
    styles: str = "/styles"
    problems: str = "/problems"
