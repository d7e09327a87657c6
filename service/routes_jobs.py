"""Jobs: how one is doing, what it made, and its end."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from contract import errors
from contract.errors import ForbiddenError, ResultNotReadyError, SwitchedOffError
from contract.jobs import BatchResult, JobState
from service.access import ClientDep
from service.answers import POLL_HINT_SECONDS, preview, result
from service.batches import archive
from service.events import EventStream, begin, stream
from service.exposure import is_only_this_machine, reached_at
from service.gateway import GatewayDep
from service.openapi import (
    ARCHIVE,
    EVENTS,
    IF_NONE_MATCH,
    JOB,
    JOB_FAILURES,
    JPEG,
    MADE,
    NOT_MODIFIED,
    PICTURES,
    RETRY_AFTER,
    TRAINED,
    job_links,
    problems,
)
from service.schemas import DeliveryDocument, DeliveryList, JobDocument, JobList, Kind, job_url

Unfinished = Literal["queued", "running"]
WaitQuery = Annotated[float, Query(ge=0, description="Seconds to wait for the job to end.")]
LastEventId = Annotated[
    str,
    Header(
        alias="Last-Event-ID", description="The id of the last event that you have heard: the stream goes on after it."
    ),
]
EVENT_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""No proxy may keep events back, be it to have more of them."""

LOST_JOB = (errors.JobNotFoundError, errors.JobExpiredError, errors.QueueUnavailableError)
"""How every address of a job may fail."""

router = APIRouter()


@router.get(
    "/jobs",
    summary="List the jobs that wait or run",
    responses=problems(errors.ForbiddenError, errors.QueueUnavailableError, errors.InvalidParameterError),
)
def list_jobs(
    gateway: GatewayDep,
    client: ClientDep,
    response: Response,
    kind: Annotated[Kind | None, Query(description="Those of this kind only.")] = None,
    state: Annotated[Unfinished | None, Query(description="Those in this state only.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many are listed at most.")] = 100,
) -> JobList:
    """In the order in which they came: your own, or, with a key of the scope `admin`, everybody's.

    A batch is listed, and so is each of its jobs. Jobs that have ended are not: keep the ids of yours. Where nobody
    needs a key, they are listed on a service that one machine alone reaches: whoever knows a job's id may have its
    picture.
    """
    if not (client.has_key or is_only_this_machine(reached_at(gateway.settings))):
        raise ForbiddenError("Others than this machine reach the service, and nobody needs a key: jobs are not listed.")
    response.headers["Cache-Control"] = "no-store"
    records, total = gateway.book.unfinished(
        limit, client=client.sees, kind=kind, state=JobState(state) if state else None
    )
    return JobList(jobs=list(map(JobDocument.of, records)), total=total)


@router.get(
    "/jobs/{job_id}",
    summary="Ask how a job is doing",
    responses={
        200: {"headers": {**RETRY_AFTER, **JOB}, "links": job_links(besides="get_job")},
        **problems(*LOST_JOB, errors.InvalidParameterError),
    },
)
async def get_job(
    job_id: str, gateway: GatewayDep, client: ClientDep, response: Response, wait: WaitQuery = 0
) -> JobDocument:
    """With `wait=N` the answer comes when the job ends, or after N seconds."""
    record = client.own(await run_in_threadpool(gateway.book.get, job_id))
    if wait > 0 and not record.state.is_terminal:
        await gateway.wait(client, job_id, min(wait, gateway.settings.max_wait_seconds))
        record = await run_in_threadpool(gateway.book.get, job_id)
    if not record.state.is_terminal:
        response.headers["Retry-After"] = POLL_HINT_SECONDS[record.request.kind]
    response.headers.update({"Cache-Control": "no-store", "X-Job-Id": record.id})
    return JobDocument.of(record)


@router.get(
    "/jobs/{job_id}/events",
    summary="Follow a job",
    response_class=EventStream,
    responses={
        200: EVENTS,
        204: {"description": "You have heard the last event: do not ask again"},
        **problems(*LOST_JOB, errors.TooManyListenersError, errors.InvalidParameterError),
    },
)
async def get_events(job_id: str, gateway: GatewayDep, client: ClientDep, last_event_id: LastEventId = "") -> Response:
    """Server-sent events: `snapshot` with the job's document, then `state`, `progress` and `preview` until it ends.

    The last one is a `state` (or, of a job that has ended before, the `snapshot`). With `Last-Event-ID`, which browsers
    send by themselves when they come back, the stream goes on where it was. A comment comes when nothing has for 15
    seconds.
    """
    beginning = await run_in_threadpool(begin, gateway.book, job_id, last_event_id)
    client.own(beginning.snapshot.record)
    if beginning.is_over:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    return EventStream(
        stream(gateway, beginning),
        place=gateway.watcher.place(client.name),
        headers={"X-Job-Id": job_id, **EVENT_HEADERS},
    )


@router.get(
    "/jobs/{job_id}/result",
    summary="Get what a job made",
    response_class=Response,
    openapi_extra={"parameters": [IF_NONE_MATCH]},
    responses={
        200: {"description": "The picture, or the pictures", "headers": MADE, "content": {**PICTURES, **ARCHIVE}},
        303: TRAINED,
        304: NOT_MODIFIED,
        **problems(*LOST_JOB, errors.ResultNotReadyError, *JOB_FAILURES),
    },
)
def get_result(job_id: str, gateway: GatewayDep, client: ClientDep, request: Request) -> Response:
    """409 while the job goes on; for a failed job, the reason.

    Of a batch it is a ZIP archive: each picture under its position and style, and `problems.json` if some are missing.
    """
    record = client.own(gateway.book.get(job_id))
    if not record.state.is_terminal:
        raise ResultNotReadyError(
            f"The job is {record.state}: ask again, or wait with GET {job_url(job_id)}?wait=30.",
            retry_after_seconds=int(POLL_HINT_SECONDS[record.request.kind]),
        )
    if isinstance(record.result, BatchResult):
        return archive(gateway.images, gateway.book, record)
    return result(gateway.images, record, request.headers.get("if-none-match", ""))


@router.get(
    "/jobs/{job_id}/previews/{index}",
    summary="See how far a training is",
    response_class=Response,
    openapi_extra={"parameters": [IF_NONE_MATCH]},
    responses={
        200: JPEG,
        304: NOT_MODIFIED,
        **problems(*LOST_JOB, errors.PreviewNotFoundError, errors.InvalidParameterError, errors.StoreUnavailableError),
    },
)
def get_preview(
    job_id: str, index: Annotated[int, Path(ge=0)], gateway: GatewayDep, client: ClientDep, request: Request
) -> Response:
    """A photograph in the style as it is by now. The address stays, the picture changes: ask with `If-None-Match`."""
    record = client.own(gateway.book.get(job_id))
    return preview(gateway.images, record, index, request.headers.get("if-none-match", ""))


@router.get(
    "/jobs/{job_id}/deliveries",
    summary="See how the calls of webhooks went",
    responses=problems(*LOST_JOB, errors.InvalidParameterError),
)
def list_deliveries(job_id: str, gateway: GatewayDep, client: ClientDep, response: Response) -> DeliveryList:
    """Every call for an event of the job, with each attempt, and when the next one is due."""
    client.own(gateway.book.get(job_id))
    response.headers["Cache-Control"] = "no-store"
    return DeliveryList(deliveries=list(map(DeliveryDocument.of, gateway.outbox.deliveries(job_id))))


@router.post(
    "/jobs/{job_id}/deliveries/{number}/redeliver",
    summary="Call a webhook once more",
    status_code=HTTPStatus.ACCEPTED,
    responses=problems(*LOST_JOB, errors.DeliveryNotFoundError, errors.SwitchedOffError, errors.InvalidParameterError),
)
def redeliver(
    job_id: str, number: Annotated[int, Path(ge=1, le=10**9)], gateway: GatewayDep, client: ClientDep
) -> DeliveryDocument:
    """Now, with the same `webhook-id`, whether it has been delivered or given up, or waits for its next attempt."""
    if not gateway.settings.webhook_secrets:
        raise SwitchedOffError("Nobody is called from here any more: ATELIER_WEBHOOK_SECRETS is not set.")
    client.own(gateway.book.get(job_id))
    return DeliveryDocument.of(gateway.outbox.redeliver(job_id, number))


@router.delete(
    "/jobs/{job_id}",
    summary="Cancel a job",
    responses=problems(*LOST_JOB, errors.JobFinishedError, errors.JobSharedError, errors.InvalidParameterError),
)
def cancel_job(job_id: str, gateway: GatewayDep, client: ClientDep) -> JobDocument:
    """Ends a job that waits or runs; 409 when it has succeeded or failed already, or others were given the same job.

    A batch ends with its jobs, but for those that others were given, too.
    """
    client.own(gateway.book.get(job_id))
    return JobDocument.of(gateway.book.cancel(job_id))
