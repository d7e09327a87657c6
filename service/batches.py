"""What the jobs of a batch have made, as one ZIP archive, written while it is sent: two pictures are in memory."""

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


class Outlet(io.BytesIO):
    """Keeps what is written until it is taken.

    What has not been taken yet can be written anew: a file's header gets its sizes and its sum when the file has been
    written. Those who read while they receive cannot do without, where nothing is compressed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._taken = 0

    def tell(self) -> int:
        return self._taken + super().tell()

    def seek(self, at: int, whence: int = io.SEEK_SET) -> int:
        return self._taken + super().seek(at - self._taken if whence == io.SEEK_SET else at, whence)

    def taken(self) -> bytes:
        pieces = self.getvalue()
        super().seek(0)
        self.truncate()
        self._taken += len(pieces)
        return pieces


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
            del data, made
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
