"""The HTTP interface: what each address does."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Any

from celery import Celery
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from starlette.concurrency import run_in_threadpool

from contract.errors import (
    AtelierError,
    InvalidParameterError,
    JobCanceledError,
    JobExpiredError,
    ResultNotReadyError,
)
from contract.images import ImageStore, MediaType
from contract.jobbook import JobBook
from contract.jobs import JobRecord, StylizeJob
from contract.queue import submit
from contract.styles import StyleStore
from contract.watch import wait_for_end
from service.negotiation import Accept, Prefer
from service.problems import problem_of_job
from service.schemas import (
    DEFAULT_QUALITY,
    Index,
    JobDocument,
    Liveness,
    Problem,
    Readiness,
    StyleDocument,
    StyleList,
    StylizeDocument,
    StylizeOptions,
    job_url,
)
from service.settings import ServiceSettings
from service.uploads import Upload, read_upload

POLL_HINT_SECONDS = "1"


@dataclass(frozen=True)
class Gateway:
    """What the routes work with."""

    settings: ServiceSettings
    redis: Redis
    waiting: AsyncRedis
    queue: Celery
    book: JobBook
    images: ImageStore
    styles: StyleStore
    stopping: asyncio.Event


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


GatewayDep = Annotated[Gateway, Depends(_gateway)]
WaitQuery = Annotated[float, Query(ge=0, description="Seconds to wait for the job to end.")]

PICTURES: dict[str, Any] = {
    media_type.value: {"schema": {"type": "string", "format": "binary"}} for media_type in MediaType
}


PROBLEM: dict[str, Any] = Problem.model_json_schema()
# The framework collects the definitions of its own models only: this one must stand by itself.
PROBLEM["properties"]["errors"]["items"] = PROBLEM.pop("$defs")["ProblemItem"]


def _problems(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    content = {"application/problem+json": _schema(PROBLEM)}
    return {status.value: {"description": status.phrase, "content": content} for status in statuses}


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"schema": schema}


STYLIZE_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": _schema(
            {
                "type": "object",
                "required": ["image"],
                "properties": {
                    "image": {"type": "string", "format": "binary"},
                    **StylizeOptions.model_json_schema()["properties"],
                },
                "additionalProperties": False,
            }
        ),
        "image/*": _schema({"type": "string", "format": "binary"}),
        "application/json": _schema(StylizeDocument.model_json_schema()),
    },
}

router = APIRouter()


@router.post(
    "/stylize",
    summary="Stylize a photograph",
    response_class=Response,
    openapi_extra={"requestBody": STYLIZE_BODY},
    responses={
        200: {
            "description": "The picture, or the ended job where JSON is accepted",
            "content": {**PICTURES, "application/json": _schema({"$ref": "#/components/schemas/JobDocument"})},
        },
        202: {"description": "The job goes on: ask at `Location`", "model": JobDocument},
        **_problems(
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.NOT_FOUND,
            HTTPStatus.NOT_ACCEPTABLE,
            HTTPStatus.REQUEST_TIMEOUT,
            HTTPStatus.CONFLICT,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            HTTPStatus.SERVICE_UNAVAILABLE,
        ),
    },
)
async def stylize(request: Request, gateway: GatewayDep, query: Annotated[StylizeOptions, Query()]) -> Response:
    """Send a picture, name a style, get the picture in that style.

    The answer is the picture when it is ready within 30 seconds (`Prefer: wait=N` says how many, `Prefer:
    respond-async` none), and 202 with the address of the job when it is not. The job goes on either way.
    """
    accept = Accept(request.headers.getlist("accept"))
    prefer = Prefer.parse(
        request.headers.getlist("prefer"),
        default_seconds=gateway.settings.wait_seconds,
        max_seconds=gateway.settings.max_wait_seconds,
    )
    upload = await read_upload(request, query, gateway.settings)
    record = await run_in_threadpool(_accept_job, gateway, upload, accept)
    if prefer.wait_seconds > 0 and await _ends(gateway, record.id, prefer.wait_seconds):
        record = await run_in_threadpool(gateway.book.get, record.id)
    response = await run_in_threadpool(_answer, gateway, record, accept)
    response.headers["Vary"] = "Accept, Prefer"
    if prefer.applied:
        response.headers["Preference-Applied"] = prefer.applied
    return response


@router.get(
    "/jobs/{job_id}",
    summary="Ask how a job is doing",
    responses=_problems(
        HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE
    ),
)
async def get_job(job_id: str, gateway: GatewayDep, response: Response, wait: WaitQuery = 0) -> JobDocument:
    """With `wait=N` the answer comes when the job ends, or after N seconds."""
    record = await run_in_threadpool(gateway.book.get, job_id)
    if wait > 0 and not record.state.is_terminal:
        await _ends(gateway, job_id, min(wait, gateway.settings.max_wait_seconds))
        record = await run_in_threadpool(gateway.book.get, job_id)
    if not record.state.is_terminal:
        response.headers["Retry-After"] = POLL_HINT_SECONDS
    response.headers["Cache-Control"] = "no-store"
    return JobDocument.of(record)


@router.get(
    "/jobs/{job_id}/result",
    summary="Get the picture that a job made",
    response_class=Response,
    responses={
        200: {"description": "The picture", "content": PICTURES},
        304: {"description": "You have it: its ETag is in `If-None-Match`"},
        **_problems(
            HTTPStatus.NOT_FOUND,
            HTTPStatus.CONFLICT,
            HTTPStatus.GONE,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            HTTPStatus.INTERNAL_SERVER_ERROR,
            HTTPStatus.SERVICE_UNAVAILABLE,
            HTTPStatus.GATEWAY_TIMEOUT,
        ),
    },
)
def get_result(job_id: str, gateway: GatewayDep, request: Request) -> Response:
    """409 while the job goes on; for a failed job, the reason."""
    record = gateway.book.get(job_id)
    if not record.state.is_terminal:
        raise ResultNotReadyError(
            f"The job is {record.state}: ask again, or wait with GET {job_url(job_id)}?wait=30.", retry_after_seconds=1
        )
    known = request.headers.get("if-none-match", "")
    if record.result and (known.strip() == "*" or f'"{record.result.sha256}"' in known):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=_picture_headers(record))
    return _picture(gateway, record)


@router.delete(
    "/jobs/{job_id}",
    summary="Cancel a job",
    responses=_problems(
        HTTPStatus.NOT_FOUND,
        HTTPStatus.CONFLICT,
        HTTPStatus.GONE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
)
def cancel_job(job_id: str, gateway: GatewayDep) -> JobDocument:
    """Ends a job that waits or runs; 409 when it has succeeded or failed already."""
    return JobDocument.of(gateway.book.cancel(job_id))


@router.get("/styles", summary="List the styles")
def list_styles(gateway: GatewayDep) -> StyleList:
    return StyleList(styles=gateway.styles.cards())


@router.get(
    "/styles/{name}",
    summary="Get to know a style",
    responses=_problems(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY),
)
def get_style(name: str, gateway: GatewayDep) -> StyleDocument:
    """`name` may be `name@version`."""
    card = gateway.styles.get(name)
    return StyleDocument(**card.model_dump(), versions=gateway.styles.versions(card.name))


@router.head("/livez", include_in_schema=False)
@router.get("/livez", summary="Is the gateway alive?")
async def livez() -> Liveness:
    return Liveness()


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    summary="Can the service do its work?",
    response_model=Readiness,
    responses={503: {"description": "Not now; `checks` says why", "model": Readiness}},
)
def readyz(gateway: GatewayDep) -> Response:
    checks = {
        "workers": _check(lambda: "ok" if gateway.book.workers() else "no worker is ready"),
        "styles": _check(lambda: "ok" if gateway.styles.names() else "there are no styles"),
    }
    readiness = Readiness(ready=all(state == "ok" for state in checks.values()), checks=checks)
    status = HTTPStatus.OK if readiness.ready else HTTPStatus.SERVICE_UNAVAILABLE
    headers = {} if readiness.ready else {"Retry-After": POLL_HINT_SECONDS}
    return JSONResponse(readiness.model_dump(), status, headers=headers)


@router.get("/", summary="Where things are")
async def index() -> Index:
    return Index(version=version("atelier"))


def _accept_job(gateway: Gateway, upload: Upload, accept: Accept) -> JobRecord:
    """From a checked upload to a waiting job."""
    options = upload.options
    if options.style is None:
        raise InvalidParameterError("Which style? Name one with `style`; GET /styles lists them.", parameter="style")
    card = gateway.styles.get(options.style)
    media_type = options.media_type or (
        upload.media_type if accept.wants_document() else accept.best_format(upload.media_type)
    )
    job = StylizeJob(
        content=gateway.images.put(upload.data),
        style=card.ref,
        size=options.size,
        media_type=media_type,
        quality=options.quality or DEFAULT_QUALITY[media_type],
    )
    return submit(gateway.queue, gateway.book, job)


async def _ends(gateway: Gateway, job_id: str, seconds: float) -> bool:
    """Whether the job ends within this long; a gateway that is stopping does not wait."""
    watching = asyncio.ensure_future(wait_for_end(gateway.waiting, job_id, seconds))
    stopping = asyncio.ensure_future(gateway.stopping.wait())
    try:
        await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return watching.done() and watching.result()
    finally:
        watching.cancel()
        stopping.cancel()
        await asyncio.wait({watching, stopping})  # the connection goes back before anybody closes them all


def _answer(gateway: Gateway, record: JobRecord, accept: Accept) -> Response:
    """The picture or the document of a job that has ended, and 202 for one that has not."""
    if not record.state.is_terminal:
        headers = {"Location": job_url(record.id), "Retry-After": POLL_HINT_SECONDS, "X-Job-Id": record.id}
        return _document(record, HTTPStatus.ACCEPTED, headers)
    if accept.wants_document():
        return _document(record, HTTPStatus.OK, {"Location": job_url(record.id), "X-Job-Id": record.id})
    return _picture(gateway, record)


def _document(record: JobRecord, status: HTTPStatus, headers: dict[str, str]) -> JSONResponse:
    return JSONResponse(JobDocument.of(record).model_dump(mode="json"), status, headers=headers)


def _picture(gateway: Gateway, record: JobRecord) -> Response:
    """The picture of a job that has ended; the problem, when it ended without one."""
    if record.error:
        return problem_of_job(record.error, record.id)
    if record.result is None:
        raise JobCanceledError("The job was canceled, so there is no picture.")
    try:
        data = gateway.images.open(record.result.image)
    except FileNotFoundError:
        raise JobExpiredError("The picture has been deleted: send the photograph again.") from None
    return Response(data, media_type=record.result.media_type, headers=_picture_headers(record))


def _picture_headers(record: JobRecord) -> dict[str, str]:
    assert record.result is not None
    style = record.request.style
    return {
        "ETag": f'"{record.result.sha256}"',
        "Cache-Control": f"private, max-age={_seconds_left(record)}",
        "Content-Disposition": f'inline; filename="{style.name}.{record.result.media_type.suffix}"',
        "X-Content-Type-Options": "nosniff",
        "X-Job-Id": record.id,
        "X-Style": style.name,
        "X-Style-Version": str(style.version),
        "X-Compute-Seconds": f"{record.timings.compute_seconds or 0:g}",
    }


def _seconds_left(record: JobRecord) -> int:
    """How long the picture is still kept."""
    assert record.expires_at is not None
    return max(0, round((record.expires_at - datetime.now(UTC)).total_seconds()))


def _check(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except AtelierError as error:
        return str(error)
