"""One trace from the client's request to the worker's commit, across the queue."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from contract.settings import ContractSettings
from contract.tracing import trace_with
from tests.conftest import until
from tests.service.conftest import ASYNC, LoneGateway, accepted, drawn, post, saved
from worker.app import Worker
from worker.settings import WorkerSettings

TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """What gateway, worker and trainer of this process would send to a collector."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace_with(provider)
    yield exporter
    trace_with(None)


@pytest.fixture
def worker(settings: ContractSettings, tmp_path: Path) -> Iterator[Worker]:
    """A worker on the store of the gateway, whose tickets are the test's."""
    worker = Worker(WorkerSettings(**{**settings.model_dump(), "data": tmp_path, "engine": "torch"}))
    yield worker
    worker.close()


def named(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {each.name: each for each in exporter.get_finished_spans()}


def tree(exporter: InMemorySpanExporter) -> dict[str, str]:
    """The name of the parent of each span; that of the client has none of ours."""
    names = {each.context.span_id: each.name for each in exporter.get_finished_spans() if each.context}
    return {
        each.name: names.get(each.parent.span_id, "client") if each.parent else ""
        for each in exporter.get_finished_spans()
    }


def test_a_request_and_its_job_are_one_trace(gateway: LoneGateway, worker: Worker, spans: InMemorySpanExporter) -> None:
    headers = {**ASYNC, "traceparent": CLIENT, "X-Request-ID": "the-one"}
    job_id = post(gateway.client, saved(drawn()), headers=headers).json()["id"]
    until(lambda: "POST /stylize" in named(spans), what="the end of the request")
    worker.work()
    assert tree(spans) == {
        "POST /stylize": "client",
        "admission": "POST /stylize",
        "stylize": "admission",
        "queue": "stylize",
        "decode": "stylize",
        "batch": "stylize",
        "compute": "batch",
        "encode": "stylize",
        "commit": "stylize",
    }
    found = named(spans)
    assert {f"{each.context.trace_id:032x}" for each in found.values() if each.context} == {TRACE}
    assert dict(found["stylize"].attributes or {}) == {"atelier.job": job_id, "atelier.attempt": 1}
    assert dict(found["POST /stylize"].attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/stylize",
        "http.response.status_code": 202,
    }
    assert (found["POST /stylize"].kind.name, found["stylize"].kind.name) == ("SERVER", "CONSUMER")
    began, ended = found["queue"].start_time, found["queue"].end_time
    assert began is not None
    assert ended is not None
    assert began < ended


def test_a_job_that_fails_is_marked_in_its_trace(
    gateway: LoneGateway, worker: Worker, spans: InMemorySpanExporter
) -> None:
    accepted(gateway)
    assert gateway.images.sweep(timedelta(-1), in_use=()) == 1
    worker.work()
    status = named(spans)["stylize"].status
    assert (status.is_ok, status.description) == (False, "image-lost")


def test_a_request_without_a_trace_begins_one(gateway: LoneGateway, spans: InMemorySpanExporter) -> None:
    for sent in ({}, {"traceparent": "nonsense"}, {"traceparent": CLIENT}):
        gateway.client.get("/limits", headers=sent)
    until(lambda: len(spans.get_finished_spans()) == 3, what="three spans")
    first, second, third = spans.get_finished_spans()
    assert (first.parent, second.parent, third.parent is not None) == (None, None, True)


def test_probes_are_not_traced(gateway: LoneGateway, spans: InMemorySpanExporter) -> None:
    for path in ("/livez", "/readyz", "/limits"):
        gateway.client.get(path)
    until(lambda: bool(spans.get_finished_spans()), what="a span")
    assert list(named(spans)) == ["GET /limits"]
