"""The clients' connections: one that keeps the gateway waiting is closed, and there are only as many as there is room.

uvicorn bounds neither how long a request's header may take nor how slowly an answer may be read, and a process that has
no file descriptors left can reach neither Redis nor the store. A body is bounded by ``service.guard``.
"""

import asyncio
import resource
from collections.abc import Callable
from typing import Any, ClassVar

import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.settings import ServiceSettings

log = structlog.get_logger()

RESERVED_FILES = 256
"""For Redis, the store, and whatever else the gateway opens."""
LEAST_READ_BYTES = 16 * 1024
"""How much of an answer that waits to be read must go out in ``upload_idle_seconds``."""


class Connection(H11Protocol):
    """uvicorn's, with bounds. Those that wait for a request are kept in the order in which they began to."""

    idle_seconds: ClassVar[float]
    max_connections: ClassVar[int]
    waiting: ClassVar[dict["Connection", None]]

    _timer: asyncio.TimerHandle | None = None
    _writing_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_header()
        if len(self.connections) > self.max_connections:
            next(iter(self.waiting))._close()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._answers():
            self._stop_waiting()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._answers() and not self.transport.is_closing():
            self._wait_for_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        _cancel(self._writing_timer)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look_at_reader(self.transport.get_write_buffer_size() + LEAST_READ_BYTES)

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._writing_timer)

    def _answers(self) -> bool:
        """Whether there is a request under way."""
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_header(self) -> None:
        self._stop_waiting()
        self.waiting[self] = None
        self._timer = self._later(self._close)

    def _stop_waiting(self) -> None:
        self.waiting.pop(self, None)
        _cancel(self._timer)

    def _close(self) -> None:
        self._stop_waiting()
        self.timeout_keep_alive_handler()

    def _look_at_reader(self, unread_before: int) -> None:
        """Gives up a client that takes none of its answer, and with it the memory that holds the answer."""
        unread = self.transport.get_write_buffer_size()
        if unread > unread_before - LEAST_READ_BYTES:
            self.transport.abort()
        else:
            self._writing_timer = self._later(self._look_at_reader, unread)

    def _later(self, act: Callable[..., None], *arguments: Any) -> asyncio.TimerHandle:
        return self.loop.call_later(self.idle_seconds, act, *arguments)


def connection_class(settings: ServiceSettings) -> type[Connection]:
    """The connections of one server with these bounds, as far as the system lets it have files."""

    class Bounded(Connection):
        idle_seconds = settings.upload_idle_seconds
        max_connections = _room(settings.max_connections)
        waiting: ClassVar[dict[Connection, None]] = {}

    return Bounded


def _room(wanted: int) -> int:
    """How many connections there may be; the limit of open files is raised for them as far as it can be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = wanted + RESERVED_FILES
    if soft not in (resource.RLIM_INFINITY, hard) and soft < files:
        soft = files if hard == resource.RLIM_INFINITY else min(files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    room = wanted if soft == resource.RLIM_INFINITY else min(wanted, max(1, soft - RESERVED_FILES))
    if room < wanted:
        log.warning("fewer connections than wanted: raise the limit of open files", wanted=wanted, connections=room)
    return room


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
