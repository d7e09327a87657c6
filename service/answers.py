"""A job as an answer: its picture, its document, or the problem that it ended with."""

from datetime import UTC, datetime
from http import HTTPStatus

from fastapi.responses import JSONResponse, Response

from contract.errors import JobCanceledError, JobExpiredError
from contract.images import ImageStore
from contract.jobs import JobRecord
from service.negotiation import Accept
from service.problems import problem_of_job
from service.schemas import JobDocument, job_url

POLL_HINT_SECONDS = "1"


def answer(images: ImageStore, record: JobRecord, accept: Accept) -> Response:
    """The picture or the document of a job that has ended, and 202 for one that has not."""
    if not record.state.is_terminal:
        headers = {"Location": job_url(record.id), "Retry-After": POLL_HINT_SECONDS, "X-Job-Id": record.id}
        return _document(record, HTTPStatus.ACCEPTED, headers)
    if accept.wants_document():
        return _document(record, HTTPStatus.OK, {"Location": job_url(record.id), "X-Job-Id": record.id})
    return picture(images, record)


def picture(images: ImageStore, record: JobRecord, known: str = "") -> Response:
    """The picture of a job that has ended; the problem, when it ended without one.

    ``known`` is the client's If-None-Match: a picture that it has is not sent again.
    """
    if record.error:
        return problem_of_job(record.error, record.id)
    if record.result is None:
        raise JobCanceledError("The job was canceled, so there is no picture.")
    headers = _picture_headers(record)
    if known.strip() == "*" or headers["ETag"] in known:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    try:
        data = images.open(record.result.image)
    except FileNotFoundError:
        raise JobExpiredError("The picture has been deleted: send the photograph again.") from None
    return Response(data, media_type=record.result.media_type, headers=headers)


def _document(record: JobRecord, status: HTTPStatus, headers: dict[str, str]) -> JSONResponse:
    return JSONResponse(JobDocument.of(record).model_dump(mode="json"), status, headers=headers)


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
