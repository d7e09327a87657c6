"""POST /stylize: a picture in, the stylized picture out; or several, as a batch."""

import math
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from contract import errors
from contract.admission import Admission, Terms
from contract.errors import InvalidParameterError, QueueUnavailableError
from contract.jobs import BatchJob, JobRecord, Priority, StyleShare, StylizeJob, StylizeResult
from service.access import ClientDep
from service.answers import accepted, answer, replayed
from service.blends import read_blend
from service.clients import Client
from service.gateway import Gateway, GatewayDep
from service.idempotency import payload_fingerprint, reserved
from service.inspection import check_format
from service.negotiation import Accept, Caching, Prefer
from service.openapi import (
    CACHE_CONTROL,
    CACHED,
    IDEMPOTENCY_FAILURES,
    IDEMPOTENCY_KEY,
    LOCATION,
    MADE,
    OUTBOUND_FAILURES,
    PREFER,
    PREFERRED,
    REPLAYED,
    RETRY_AFTER,
    STYLIZE_BODY,
    STYLIZE_FAILURES,
    STYLIZED,
    UPLOAD_FAILURES,
    job_links,
    problems,
)
from service.options import DEFAULT_QUALITY, StylizeOptions
from service.schemas import JobDocument
from service.uploads import Upload, check_uploads, read_upload
from service.webhooks import read_webhook

router = APIRouter()


@router.post(
    "/stylize",
    summary="Stylize a photograph",
    response_class=Response,
    openapi_extra={"requestBody": STYLIZE_BODY, "parameters": [PREFER, IDEMPOTENCY_KEY, CACHE_CONTROL]},
    responses={
        200: {
            **STYLIZED,
            "headers": {**MADE, **REPLAYED, **CACHED, **PREFERRED},
            "links": job_links("$response.header.X-Job-Id", besides="cancel_job"),
        },
        202: {
            "description": "The job goes on: ask at `Location`",
            "model": JobDocument,
            "headers": {**LOCATION, **RETRY_AFTER, **REPLAYED, **CACHED, **PREFERRED},
            "links": job_links(),
        },
        **problems(
            *UPLOAD_FAILURES,
            *OUTBOUND_FAILURES,
            *IDEMPOTENCY_FAILURES,
            errors.NotAcceptableError,
            errors.JobExpiredError,
            *STYLIZE_FAILURES,
        ),
    },
)
async def stylize(
    request: Request, gateway: GatewayDep, client: ClientDep, query: Annotated[StylizeOptions, Query()]
) -> Response:
    """Send a picture, name a style (or a blend of several), get the picture in that style.

    The answer is the picture when it is ready within 30 seconds (`Prefer: wait=N` says how many, `Prefer:
    respond-async` none), and 202 with the address of the job when it is not. The job goes on either way.

    What has been asked for before in the same words is not done again: the answer is that of the earlier job, whether
    it goes on or has its picture still. `Cache-Control: no-cache` wants it done anew, `no-store` wants that nobody
    else is given it, either.

    Jobs are done by `priority` first, and of those of one priority every client has its turn.

    A form with several pictures is a batch, answered 202 at once: a job of which each picture is a job of its own. All
    of them are taken, or none. Its document lists them and says how far it is, its result is a ZIP archive.
    """
    accept = Accept(request.headers.getlist("accept"))
    prefer = Prefer.parse(
        request.headers.getlist("prefer"),
        default_seconds=gateway.settings.wait_seconds,
        max_seconds=gateway.settings.max_wait_seconds,
    )
    urgency = Priority.INTERACTIVE if prefer.wait_seconds > 0 else Priority.NORMAL
    admission = await _accept_job(gateway, client, request, query, accept, urgency)
    record = admission.record
    if isinstance(record.request, BatchJob):
        prefer = replace(prefer, waits_as_asked=False)
        response = accepted(record)
    else:
        if prefer.wait_seconds > 0 and not record.state.is_terminal:
            await gateway.wait(client, record.id, prefer.wait_seconds)
            record = await run_in_threadpool(_as_it_is_now, gateway, record)
        response = await run_in_threadpool(answer, gateway.images, record, accept)
        response.headers["X-Cache"] = "hit" if admission.how == "hit" else "miss"
    response.headers["Vary"] = "Accept, Prefer"
    response.headers.update(replayed(admission))
    if applied := prefer.applied(accepted=response.status_code == HTTPStatus.ACCEPTED):
        response.headers["Preference-Applied"] = applied
    return response


async def _accept_job(
    gateway: Gateway, client: Client, request: Request, query: StylizeOptions, accept: Accept, urgency: Priority
) -> Admission:
    """From a request to a job, as urgent as this unless the request says how urgent it is.

    The upload's bytes end here: a thousand requests may wait, and hold none.
    """
    caching = Caching.parse(request.headers.getlist("cache-control"))
    terms = Terms(may_find=caching.may_find, may_be_found=caching.may_be_found, client=client.name)
    async with gateway.uploading(client), reserved(request, gateway.book, client) as reservation:
        sent = await read_upload(request, query, gateway.settings.max_batch)
        if reservation:
            fingerprint = await run_in_threadpool(payload_fingerprint, sent.pictures, sent.options)
            # Before anything is fetched: what is at an address may have changed since, or be gone.
            if replay := await run_in_threadpool(reservation.replay, gateway.book, fingerprint):
                return replay
            terms = replace(terms, idempotency=reservation.idempotency(fingerprint))
        urgency = Priority.BATCH if len(sent.pictures) > 1 else urgency
        terms = replace(
            terms,
            webhook=await read_webhook(gateway, sent.options),
            priority=Priority(sent.options.priority or urgency),
        )
        pictures = [await gateway.fetch(sent.options.image_url)] if sent.options.image_url else sent.pictures
        uploads = await run_in_threadpool(check_uploads, pictures, sent.options, gateway.settings)
        return await run_in_threadpool(_submit, gateway, uploads, sent.options, accept, terms)


def _submit(
    gateway: Gateway, uploads: Sequence[Upload], options: StylizeOptions, accept: Accept, terms: Terms
) -> Admission:
    """From checked uploads to a job."""
    if options.style is None:
        raise InvalidParameterError("Which style? Name one with `style`; GET /styles lists them.", parameter="style")
    styles = read_blend(options.style, options.strength, gateway.styles)
    jobs = [_job(gateway, upload, styles, accept) for upload in uploads]
    return _admit(gateway, jobs[0], terms) if len(jobs) == 1 else _admit_batch(gateway, jobs, terms)


def _job(gateway: Gateway, upload: Upload, styles: tuple[StyleShare, ...], accept: Accept) -> StylizeJob:
    """What is to be done; the picture is in the store then."""
    options = upload.options
    media_type = options.media_type or (
        upload.media_type if accept.wants_document() else accept.best_format(upload.media_type)
    )
    check_format(media_type, max(upload.result_sides))
    return StylizeJob(
        content=gateway.images.put(upload.data),
        styles=styles,
        strength=options.strength,
        preserve_color=options.preserve_color,
        size=options.size,
        media_type=media_type,
        quality=options.quality or DEFAULT_QUALITY[media_type],
        file_pixels=math.prod(upload.sides),
        result_pixels=math.prod(upload.result_sides),
    )


def _admit(gateway: Gateway, job: StylizeJob, terms: Terms) -> Admission:
    """A new job, or one that was asked for in the same words, unless the picture that it made is gone."""
    admission = gateway.queue.admit(job, terms)
    made = admission.record.result
    if admission.how == "hit" and isinstance(made, StylizeResult) and not gateway.images.has(made.image):
        return gateway.queue.admit(job, replace(terms, gone=frozenset({admission.record.id})))
    return admission


def _admit_batch(gateway: Gateway, jobs: Sequence[StylizeJob], terms: Terms) -> Admission:
    """A batch of new jobs, or of those that were asked for in the same words, unless what they made is gone."""
    found = [(record.id, record.result) for record in gateway.book.found(jobs, terms)]
    gone = (job_id for job_id, made in found if isinstance(made, StylizeResult) and not gateway.images.has(made.image))
    terms = replace(terms, gone=frozenset(gone))
    return gateway.queue.admit_batch(BatchJob(styles=jobs[0].styles), jobs, terms)


def _as_it_is_now(gateway: Gateway, record: JobRecord) -> JobRecord:
    """The record after a wait. The job has been accepted: if Redis is away by now, its address is still the answer."""
    try:
        return gateway.book.get(record.id)
    except QueueUnavailableError:
        return record
