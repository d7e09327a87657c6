"""POST /stylize: a picture in, the stylized picture out."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from contract import errors
from contract.errors import InvalidParameterError, QueueUnavailableError
from contract.jobs import JobRecord, StylizeJob
from service.answers import answer
from service.blends import read_blend
from service.gateway import Gateway, GatewayDep
from service.negotiation import Accept, Prefer
from service.openapi import STYLIZE_BODY, STYLIZE_FAILURES, STYLIZED, UPLOAD_FAILURES, problems
from service.options import DEFAULT_QUALITY, StylizeOptions
from service.schemas import JobDocument
from service.uploads import Upload, read_upload

router = APIRouter()


@router.post(
    "/stylize",
    summary="Stylize a photograph",
    response_class=Response,
    openapi_extra={"requestBody": STYLIZE_BODY},
    responses={
        200: STYLIZED,
        202: {"description": "The job goes on: ask at `Location`", "model": JobDocument},
        **problems(*UPLOAD_FAILURES, errors.NotAcceptableError, errors.JobExpiredError, *STYLIZE_FAILURES),
    },
)
async def stylize(request: Request, gateway: GatewayDep, query: Annotated[StylizeOptions, Query()]) -> Response:
    """Send a picture, name a style (or a blend of several), get the picture in that style.

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


async def _accept_job(gateway: Gateway, request: Request, query: StylizeOptions, accept: Accept) -> JobRecord:
    """From a request to a waiting job. The upload's bytes end here: a thousand requests may wait, and hold none."""
    async with gateway.uploading():
        upload = await read_upload(request, query, gateway.settings)
        return await run_in_threadpool(_submit, gateway, upload, accept)


def _submit(gateway: Gateway, upload: Upload, accept: Accept) -> JobRecord:
    """From a checked upload to a waiting job."""
    options = upload.options
    if options.style is None:
        raise InvalidParameterError("Which style? Name one with `style`; GET /styles lists them.", parameter="style")
    styles = read_blend(options.style, options.strength, gateway.styles)
    media_type = options.media_type or (
        upload.media_type if accept.wants_document() else accept.best_format(upload.media_type)
    )
    job = StylizeJob(
        content=gateway.images.put(upload.data),
        styles=styles,
        strength=options.strength,
        preserve_color=options.preserve_color,
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
