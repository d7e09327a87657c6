"""Traces that go on across the queue: the request in the gateway, the job in the worker, one trace.

OpenTelemetry does it, where it is installed (the extra ``tracing``) and a collector is named in the standard variable
``OTEL_EXPORTER_OTLP_ENDPOINT``. Else nothing of it is imported, and a span is nothing. What a process must know of
another's trace, and of its request, travels with the job's record as its origin.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Literal

import structlog

from contract.jobs import JobRecord, Origin
from contract.settings import traces_collector

log = structlog.get_logger()

SpanKind = Literal["internal", "server", "consumer"]

FLUSH_MILLISECONDS = 2000

_provider: Any = None
_tracer: Any = None


class Span:
    """Part of a trace; of none, when nothing is traced."""

    def __init__(self, inner: Any = None) -> None:
        self._inner = inner

    @property
    def trace_id(self) -> str:
        """In hexadecimal digits; empty when nothing is traced."""
        return f"{self._inner.get_span_context().trace_id:032x}" if self._inner else ""

    def rename(self, name: str) -> None:
        if self._inner:
            self._inner.update_name(name)

    def tell(self, **attributes: str | float) -> None:
        """More about it; dots in the names of attributes are written as two underscores."""
        if self._inner:
            self._inner.set_attributes(_named(attributes))

    def fail(self, reason: str) -> None:
        if self._inner:
            from opentelemetry.trace import Status, StatusCode

            self._inner.set_status(Status(StatusCode.ERROR, reason))


def configure_tracing(process: str) -> None:
    """Sends the spans of this process to the collector that is named, if one is."""
    endpoint = traces_collector()
    if not endpoint:
        return
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        log.warning("nothing is traced: OpenTelemetry is not installed (the extra `tracing` of this package)")
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say goes before.
    resource = Resource.create({"service.name": f"atelier-{process}"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace_with(provider)
    log.info("spans are sent to a collector")


def trace_with(provider: Any) -> None:
    """From now on this process's spans are this provider's; None ends it."""
    global _provider, _tracer
    _provider, _tracer = provider, provider.get_tracer("atelier") if provider else None


def flush_traces() -> None:
    """Sends what has not been sent yet, for a process that is about to end."""
    if _provider is not None:
        _provider.force_flush(FLUSH_MILLISECONDS)


def origin() -> Origin:
    """Where a job comes from that is made now: the request that is being answered, and the span that is open."""
    request_id = str(structlog.contextvars.get_contextvars().get("request", ""))
    if _tracer is None:
        return Origin(request_id=request_id)
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return Origin(request_id=request_id, traceparent=carrier.get("traceparent", ""))


@contextmanager
def span(
    name: str, *, kind: SpanKind = "internal", parent: str | None = None, **attributes: str | float
) -> Iterator[Span]:
    """What is done inside is a part of the trace, under the span that is open here.

    With a ``parent`` (a traceparent) it is under that one; an empty one begins a trace. An exception that leaves it
    marks it as failed.
    """
    if _tracer is None:
        yield Span()
        return
    from opentelemetry.trace import SpanKind as Kind

    with _tracer.start_as_current_span(
        name,
        context=None if parent is None else _context(parent),
        kind=Kind[kind.upper()],
        attributes=_named(attributes),
    ) as inner:
        yield Span(inner)


@contextmanager
def job_span(record: JobRecord) -> Iterator[Span]:
    """An attempt at a job, under the request that it comes from, which the lines of the log name as well."""
    attributes: dict[str, str | float] = {"atelier__job": record.id, "atelier__attempt": record.attempt}
    with span(record.request.kind, kind="consumer", parent=record.origin.traceparent, **attributes) as current:
        names = {"request": record.origin.request_id, "trace": current.trace_id}
        with structlog.contextvars.bound_contextvars(**{name: value for name, value in names.items() if value}):
            if record.started_at:
                began = record.created_at.timestamp()
                past_span("queue", began, record.started_at.timestamp() - began)
            yield current


def open_span() -> Span:
    """The span in which this is said."""
    if _tracer is None:
        return Span()
    from opentelemetry.trace import get_current_span

    return Span(get_current_span())


def past_span(name: str, began: float, seconds: float, **attributes: str | float) -> None:
    """A part of the trace that is over: it began so many seconds after 1970, and took so long."""
    if _tracer is None:
        return
    inner = _tracer.start_span(name, start_time=round(began * 1e9), attributes=_named(attributes))
    inner.end(round((began + seconds) * 1e9))


def just_ended(name: str, seconds: float, **attributes: str | float) -> None:
    """A part of the trace that took so long until now."""
    past_span(name, time.time() - seconds, seconds, **attributes)


def _context(traceparent: str) -> Any:
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent}, Context())


def _named(attributes: dict[str, str | float]) -> dict[str, str | float]:
    return {name.replace("__", "."): value for name, value in attributes.items()}
