"""What the jobs of a batch have made, as one ZIP archive, written while it is sent: one picture is in memory."""

import io
import json
from collections.abc import Iterator
from itertools import chain
from zipfile import ZipFile, ZipInfo

from fastapi.responses import StreamingResponse

from contract.errors import JobCanceledError, JobExpiredError, JobNotFoundError
from contract.images import ImageStore
from contract.jobbook import JobBook
from contract.jobs import Child, JobFailure, JobRecord, StylizeResult
from service.answers import file_name, seconds_left
from service.schemas import job_url

ZIP = "application/zip"
PROBLEMS = "problems.json"


class Outlet(io.RawIOBase):
    """Keeps what is written to it until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._pieces.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def archive(images: ImageStore, book: JobBook, record: JobRecord) -> StreamingResponse:
    """The pictures of a batch that has ended, stored as they are. Raises StoreUnavailableError, QueueUnavailableError
    as long as nothing has been sent."""
    pieces = _pieces(images, book, record)
    first = next(pieces)
    headers = {
        "Cache-Control": f"private, max-age={seconds_left(record)}",
        "Content-Disposition": f'attachment; filename="{record.id}.zip"',
        "X-Job-Id": record.id,
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(chain((first,), pieces), media_type=ZIP, headers=headers)


def _pieces(images: ImageStore, book: JobBook, record: JobRecord) -> Iterator[bytes]:
    """Each picture under its position and its style; those that could not be made are in ``problems.json``."""
    assert record.finished_at is not None
    at, outlet = record.finished_at.timetuple()[:6], Outlet()
    problems = []
    with ZipFile(outlet, "w") as files:
        for position, child in enumerate(record.children, 1):
            made = _made(images, book, child)
            if isinstance(made, JobFailure):
                problems.append({"position": position, "job": job_url(child.id), **made.model_dump()})
                continue
            name, data = made
            files.writestr(ZipInfo(f"{position:02d}-{name}", at), data)
            yield outlet.taken()
        if problems:
            files.writestr(ZipInfo(PROBLEMS, at), json.dumps(problems, indent=1, ensure_ascii=False))
    yield outlet.taken()


def _made(images: ImageStore, book: JobBook, child: Child) -> tuple[str, bytes] | JobFailure:
    """The picture and a name for its file, or why there is none."""
    try:
        record = book.get(child.id)
        if record.error:
            return record.error
        if not isinstance(record.result, StylizeResult):
            return JobFailure(code=JobCanceledError.code, detail="The job was canceled.")
        return file_name(record, record.result), images.open(record.result.image)
    except (JobNotFoundError, JobExpiredError, FileNotFoundError):
        return JobFailure(code=JobExpiredError.code, detail="The picture has been deleted: send the photograph again.")
