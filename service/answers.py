"""A job as an answer: what it made, its document, or the problem that it ended with."""

from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus

from fastapi.responses import JSONResponse, Response

from contract.admission import Admission
from contract.errors import JobCanceledError, JobExpiredError, PreviewNotFoundError
from contract.images import ImageStore, MediaType
from contract.jobs import JobRecord, StylizeJob, StylizeResult, TrainJob, TrainResult
from service.negotiation import Accept
from service.problems import problem_of_job
from service.schemas import JobDocument, job_url, style_url

POLL_HINT_SECONDS = {"stylize": "1", "train": "5", "batch": "2"}
FILE_NAME_LENGTH = 200


def answer(images: ImageStore, record: JobRecord, accept: Accept) -> Response:
    """The picture or the document of a job that has ended, and 202 for one that has not."""
    if not record.state.is_terminal:
        return accepted(record)
    if accept.wants_document():
        return _document(record, HTTPStatus.OK, {"Location": job_url(record.id), "X-Job-Id": record.id})
    return result(images, record)


def accepted(record: JobRecord) -> Response:
    """202: where the job is to be found, and when to look there again."""
    hint = POLL_HINT_SECONDS[record.request.kind]
    headers = {"Location": job_url(record.id), "Retry-After": hint, "X-Job-Id": record.id}
    return _document(record, HTTPStatus.ACCEPTED, headers)


def replayed(admission: Admission) -> dict[str, str]:
    """Says that a request had been sent before, under the same idempotency key."""
    return {"Idempotency-Replayed": "true"} if admission.how == "replayed" else {}


def result(images: ImageStore, record: JobRecord, known: str = "") -> Response:
    """What a job that has ended made: the picture, or the way to the style; else the problem that it ended with.

    ``known`` is the client's If-None-Match: a picture that it has is not sent again.
    """
    if record.error:
        return problem_of_job(record.error, record.id)
    if record.result is None:
        raise JobCanceledError("The job was canceled, so it has no result.")
    if isinstance(record.result, TrainResult):
        headers = {"Location": style_url(record.result.style), "X-Job-Id": record.id}
        return Response(status_code=HTTPStatus.SEE_OTHER, headers=headers)
    assert isinstance(record.result, StylizeResult)
    return _stylized(images, record, record.result, known)


def preview(images: ImageStore, record: JobRecord, index: int, known: str = "") -> Response:
    """The latest picture of this index that a training has shown. Raises PreviewNotFoundError."""
    previews = record.progress.previews if record.progress else ()
    if index >= len(previews):
        raise PreviewNotFoundError(
            "Only the training of a style shows previews."
            if not isinstance(record.request, TrainJob)
            else f"The job shows {len(previews)} previews by now: its document lists them."
        )

    def read() -> bytes:
        try:
            return images.open(previews[index])
        except FileNotFoundError:
            raise PreviewNotFoundError("The preview has been deleted: see the style itself.") from None

    headers = {"Cache-Control": "no-cache", "X-Job-Id": record.id}
    return picture(read, MediaType.JPEG, previews[index].sha256, known, headers)


def picture(
    read: Callable[[], bytes], media_type: MediaType, sha256: str, known: str, headers: dict[str, str]
) -> Response:
    """A picture with its hash as the tag; without its bytes (304), when If-None-Match says that the client has them."""
    tag = f'"{sha256}"'
    headers = {"ETag": tag, "X-Content-Type-Options": "nosniff", **headers}
    if known.strip() == "*" or tag in known:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(read(), media_type=media_type, headers=headers)


def _stylized(images: ImageStore, record: JobRecord, made: StylizeResult, known: str) -> Response:
    def read() -> bytes:
        try:
            return images.open(made.image)
        except FileNotFoundError:
            raise JobExpiredError("The picture has been deleted: send the photograph again.") from None

    assert isinstance(record.request, StylizeJob)
    headers = {
        "Cache-Control": f"private, max-age={seconds_left(record)}",
        "Content-Disposition": f'inline; filename="{file_name(record, made)}"',
        "X-Job-Id": record.id,
        "X-Style": record.request.style,
        "X-Compute-Seconds": f"{record.timings.compute_seconds or 0:g}",
    }
    return picture(read, made.media_type, made.sha256, known, headers)


def _document(record: JobRecord, status: HTTPStatus, headers: dict[str, str]) -> JSONResponse:
    return JSONResponse(JobDocument.of(record).model_dump(mode="json"), status, headers=headers)


def file_name(record: JobRecord, made: StylizeResult) -> str:
    """A name for a file of the picture: that of its style."""
    assert isinstance(record.request, StylizeJob)
    name = "-".join(share.style.name for share in record.request.styles)[:FILE_NAME_LENGTH]
    return f"{name}.{made.media_type.suffix}"


def seconds_left(record: JobRecord) -> int:
    """How long the picture is still kept."""
    assert record.expires_at is not None
    return max(0, round((record.expires_at - datetime.now(UTC)).total_seconds()))
