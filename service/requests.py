"""Every request as operators see it: its id, its line in the log, its time among the metrics, its span."""

import re
import time
import uuid
from http import HTTPStatus

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.errors import InternalError
from contract.tracing import Span, span
from service.metrics import Metrics

log = structlog.get_logger()

HEADER = "X-Request-ID"
JOB_HEADER = "X-Job-Id"
PROBLEM_CODE = "atelier.problem"
"""Where in the scope of a request the code of the problem is that it was answered with."""
ID_PATTERN = r"[A-Za-z0-9_-]{1,128}"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
NO_ROUTE = "none"
"""Whatever is asked for under an address that there is not, or in a way that nobody knows, so that nobody can make up
label values."""
PROBES = ("/livez", "/readyz", "/metrics")
"""Asked every few seconds, so the log and the traces leave them out."""


def request_id() -> str:
    """Of the request that is being answered here."""
    return str(structlog.contextvars.get_contextvars().get("request", ""))


class RequestObserver:
    """Stands around everything else.

    The id of a request is the client's own (``X-Request-ID``) when it is one in form. It is in the answer, in every
    line of the log that is written meanwhile, in problem documents, and in the record of the job that is made.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        structlog.contextvars.clear_contextvars()  # uvicorn gives each request a context of its own; not all do
        structlog.contextvars.bind_contextvars(request=_id_of(headers))
        if scope["path"] in PROBES:
            await Answer(scope, self._metrics, Span()).watch(self._app, receive, send)
            return
        with span(scope["method"], kind="server", parent=headers.get("traceparent", "")) as current:
            if current.trace_id:
                structlog.contextvars.bind_contextvars(trace=current.trace_id)
            answer = Answer(scope, self._metrics, current)
            try:
                await answer.watch(self._app, receive, send)
            finally:
                answer.tell()


class Answer:
    """One answer while it is given."""

    def __init__(self, scope: Scope, metrics: Metrics, current: Span) -> None:
        self._scope = scope
        self._metrics = metrics
        self._span = current
        self._began = time.monotonic()
        self._status = 0
        self._bytes = 0
        self._job: str | None = None
        self._code = ""

    async def watch(self, app: ASGIApp, receive: Receive, send: Send) -> None:
        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[HEADER] = request_id()
                self._job = headers.get(JOB_HEADER)
                self._begins(message["status"])
            self._bytes += len(message.get("body", b""))
            await send(message)

        try:
            await app(self._scope, receive, watched)
        except Exception:
            if not self._status:
                self._begins(HTTPStatus.INTERNAL_SERVER_ERROR)  # the answer is given further out
            raise

    def tell(self) -> None:
        """The line in the log, and the attributes of the span, once it is over."""
        method, route = self._template()
        seconds = round(time.monotonic() - self._began, 6)
        more = {name: value for name, value in (("job", self._job), ("code", self._code)) if value}
        log.info("request", method=method, route=route, status=self._status, seconds=seconds, bytes=self._bytes, **more)
        self._span.rename(f"{method} {route}")
        self._span.tell(http__request__method=method, http__route=route, http__response__status_code=self._status)
        if self._status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._span.fail(str(self._status))

    def _begins(self, status: int) -> None:
        self._status = int(status)
        self._code = self._scope.get(
            PROBLEM_CODE, InternalError.code if status == HTTPStatus.INTERNAL_SERVER_ERROR else ""
        )
        if self._code:
            self._metrics.refusals.labels(self._code).inc()
        self._metrics.requests.labels(*self._template(), str(status)).observe(time.monotonic() - self._began)

    def _template(self) -> tuple[str, str]:
        """The method, and the template of the address: known once the request has found its route."""
        method, route = self._scope["method"], getattr(self._scope.get("route"), "path", NO_ROUTE)
        return (method if route != NO_ROUTE and method in METHODS else NO_ROUTE), route


def _id_of(headers: Headers) -> str:
    sent = headers.get(HEADER, "")
    return sent if re.fullmatch(ID_PATTERN, sent) else uuid.uuid4().hex
