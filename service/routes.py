"""The HTTP interface: what each address does."""

from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from contract import errors
from contract.errors import InvalidParameterError, QueueUnavailableError, ResultNotReadyError, TooManyUploadsError
from contract.jobs import JobRecord, StylizeJob
from service.answers import POLL_HINT_SECONDS, answer, picture
from service.gateway import Gateway, GatewayDep
from service.negotiation import Accept, Prefer
from service.openapi import JOB_FAILURES, PICTURES, STYLIZE_BODY, STYLIZED, problems
from service.problems import BY_CODE, leaves, status_of, type_of
from service.readiness import readiness
from service.schemas import (
    DEFAULT_QUALITY,
    Index,
    JobDocument,
    Liveness,
    ProblemKind,
    ProblemList,
    Readiness,
    StyleDocument,
    StyleList,
    StylizeOptions,
    job_url,
)
from service.uploads import Upload, read_upload

UPLOADS_HINT_SECONDS = 5

WaitQuery = Annotated[float, Query(ge=0, description="Seconds to wait for the job to end.")]

router = APIRouter()


@router.post(
    "/stylize",
    summary="Stylize a photograph",
    response_class=Response,
    openapi_extra={"requestBody": STYLIZE_BODY},
    responses={
        200: STYLIZED,
        202: {"description": "The job goes on: ask at `Location`", "model": JobDocument},
        **problems(
            errors.MalformedBodyError,
            errors.NoImageError,
            errors.UnsupportedBodyError,
            errors.InvalidParameterError,
            errors.NotAcceptableError,
            errors.BodyTooLargeError,
            errors.UploadTimeoutError,
            *leaves(errors.BusyError),
            errors.JobExpiredError,
            *JOB_FAILURES,
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
    record = await _accept_job(gateway, request, query, accept)
    if prefer.wait_seconds > 0:
        await gateway.wait(record.id, prefer.wait_seconds)
        record = await run_in_threadpool(_as_it_is_now, gateway, record)
    response = await run_in_threadpool(answer, gateway.images, record, accept)
    response.headers["Vary"] = "Accept, Prefer"
    if applied := prefer.applied(accepted=response.status_code == HTTPStatus.ACCEPTED):
        response.headers["Preference-Applied"] = applied
    return response


@router.get(
    "/jobs/{job_id}",
    summary="Ask how a job is doing",
    responses=problems(
        errors.JobNotFoundError, errors.JobExpiredError, errors.InvalidParameterError, errors.QueueUnavailableError
    ),
)
async def get_job(job_id: str, gateway: GatewayDep, response: Response, wait: WaitQuery = 0) -> JobDocument:
    """With `wait=N` the answer comes when the job ends, or after N seconds."""
    record = await run_in_threadpool(gateway.book.get, job_id)
    if wait > 0 and not record.state.is_terminal:
        await gateway.wait(job_id, min(wait, gateway.settings.max_wait_seconds))
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
        **problems(
            errors.JobNotFoundError,
            errors.JobExpiredError,
            errors.ResultNotReadyError,
            errors.QueueUnavailableError,
            *JOB_FAILURES,
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
    return picture(gateway.images, record, request.headers.get("if-none-match", ""))


@router.delete(
    "/jobs/{job_id}",
    summary="Cancel a job",
    responses=problems(
        errors.JobNotFoundError,
        errors.JobExpiredError,
        errors.JobFinishedError,
        errors.InvalidParameterError,
        errors.QueueUnavailableError,
    ),
)
def cancel_job(job_id: str, gateway: GatewayDep) -> JobDocument:
    """Ends a job that waits or runs; 409 when it has succeeded or failed already."""
    return JobDocument.of(gateway.book.cancel(job_id))


@router.get("/styles", summary="List the styles", responses=problems(errors.StoreUnavailableError))
def list_styles(gateway: GatewayDep) -> StyleList:
    return StyleList(styles=gateway.styles.cards())


@router.get(
    "/styles/{name}",
    summary="Get to know a style",
    responses=problems(errors.StyleNotFoundError, errors.InvalidParameterError, errors.StoreUnavailableError),
)
def get_style(name: str, gateway: GatewayDep) -> StyleDocument:
    """`name` may be `name@version`."""
    card = gateway.styles.get(name)
    return StyleDocument(**card.model_dump(), versions=gateway.styles.versions(card.name))


@router.get("/problems", summary="List the ways in which a request may fail")
async def list_problems() -> ProblemList:
    """The `type` of every problem document leads here."""
    kinds = sorted(BY_CODE.values(), key=lambda kind: kind.code)
    return ProblemList(
        problems=[
            ProblemKind(type=type_of(kind), code=kind.code, title=kind.title, status=status_of(kind)) for kind in kinds
        ]
    )


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
    found = readiness(gateway)
    status = HTTPStatus.OK if found.ready else HTTPStatus.SERVICE_UNAVAILABLE
    headers = {} if found.ready else {"Retry-After": POLL_HINT_SECONDS}
    return JSONResponse(found.model_dump(), status, headers=headers)


@router.get("/", summary="Where things are")
async def index() -> Index:
    return Index(version=version("atelier"))


async def _accept_job(gateway: Gateway, request: Request, query: StylizeOptions, accept: Accept) -> JobRecord:
    """From a request to a waiting job. The upload's bytes end here: a thousand requests may wait, and hold none."""
    if gateway.uploads.locked():
        raise TooManyUploadsError(
            f"{gateway.settings.max_uploads} uploads are coming in, and no more are taken: try again in a moment.",
            retry_after_seconds=UPLOADS_HINT_SECONDS,
        )
    async with gateway.uploads:
        upload = await read_upload(request, query, gateway.settings)
        return await run_in_threadpool(_submit, gateway, upload, accept)


def _submit(gateway: Gateway, upload: Upload, accept: Accept) -> JobRecord:
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
    return gateway.queue.submit(job)


def _as_it_is_now(gateway: Gateway, record: JobRecord) -> JobRecord:
    """The record after a wait. The job has been accepted: if Redis is away by now, its address is still the answer."""
    try:
        return gateway.book.get(record.id)
    except QueueUnavailableError:
        return record
