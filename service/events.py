"""The events of a job as a stream (text/event-stream): what it is at first, then what becomes of it, until it ends."""

import json
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from contract.errors import AtelierError, QueueUnavailableError
from contract.jobbook import JobBook, Snapshot
from contract.jobs import JobState, Progress
from contract.watch import JobEvent
from service.gateway import Gateway
from service.schemas import JobDocument, PreviewEvent, ProgressDocument, StateEvent

RETRY_MILLISECONDS = 2000
"""How long a client that lost the stream is to wait before it asks for the rest."""


class EventStream(StreamingResponse):
    """A stream that is sent from a place among those who listen.

    The framework's own class makes events of what a route yields: then an unknown job is no 404, and the time between
    pings no setting.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        content: AsyncIterator[bytes],
        status_code: int = HTTPStatus.OK,  # FastAPI asks the class for its default
        *,
        place: AbstractContextManager[None],
        headers: dict[str, str],
    ) -> None:
        super().__init__(content, status_code, headers)
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises TooManyListenersError before anything is sent."""
        with self._place:
            await super().__call__(scope, receive, send)


@dataclass(frozen=True)
class Beginning:
    """Where a client begins to listen."""

    snapshot: Snapshot
    heard: str
    """The event that it has heard last; empty when it is told of the job as it is first."""

    @property
    def is_over(self) -> bool:
        """Whether the client has heard everything."""
        return self.snapshot.record.state.is_terminal and self.heard == self.snapshot.event_id


def begin(book: JobBook, job_id: str, heard: str) -> Beginning:
    """Goes on after this event, if it is kept still. Raises JobNotFoundError, JobExpiredError."""
    return Beginning(book.snapshot(job_id), heard if book.has_event(job_id, heard) else "")


async def stream(gateway: Gateway, beginning: Beginning) -> AsyncIterator[bytes]:
    """The events from here on. It ends with the job; early when the gateway stops, or the job is gone."""
    record, heard = beginning.snapshot.record, beginning.heard
    if not heard:
        heard = beginning.snapshot.event_id
        yield _encoded("snapshot", heard, JobDocument.of(record), retry=RETRY_MILLISECONDS)
        if record.state.is_terminal:
            return
    following = gateway.watcher.follow(record.id, heard, idle_seconds=gateway.settings.ping_seconds)
    async with aclosing(following) as events:
        async for event in events:
            if piece := await run_in_threadpool(_told, gateway.book, record.id, event):
                yield piece
            elif event is None:
                return


def _told(book: JobBook, job_id: str, event: JobEvent | None) -> bytes:
    """What is said of one event; of none, that the stream is still there, or nothing when the job is not."""
    if event is None:
        return KEEPALIVE_COMMENT if _is_there(book, job_id) else b""
    match event.fields:
        case {"event": "state"}:
            return _state(book, job_id, event)
        case {"event": "progress", "progress": text}:
            progress = Progress.model_validate_json(text)
            return _encoded("progress", event.id, ProgressDocument.of(progress, job_id))
        case {"event": "preview", "previews": text}:
            return _encoded("preview", event.id, PreviewEvent.of(json.loads(text), job_id))
    return b""  # of another version of Atelier


def _is_there(book: JobBook, job_id: str) -> bool:
    """Whether the job is kept, as far as is known."""
    try:
        book.get(job_id)
    except QueueUnavailableError:
        return True
    except AtelierError:
        return False
    return True


def _state(book: JobBook, job_id: str, event: JobEvent) -> bytes:
    at = datetime.fromtimestamp(int(event.id.partition("-")[0]) / 1000, UTC)
    try:
        job = JobDocument.of(book.get(job_id)) if event.ends else None
    except AtelierError:
        return b""  # the stream closes, and the client asks again for what it has not heard
    state, attempt = JobState(event.fields["state"]), int(event.fields.get("attempt", 0))
    return _encoded("state", event.id, StateEvent(state=state, attempt=attempt, at=at, job=job))


def _encoded(name: str, event_id: str, document: BaseModel, retry: int | None = None) -> bytes:
    return format_sse_event(data_str=document.model_dump_json(), event=name, id=event_id, retry=retry)
