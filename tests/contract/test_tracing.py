"""Spans of a process, and whether there are any."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PROGRAM = """
import sys
from contract.logs import configure_logs
from contract.tracing import configure_tracing, flush_traces, span

configure_logs("gateway")
configure_tracing("gateway")
with span("something", kind="server", parent="") as current:
    print(bool(current.trace_id), "opentelemetry.sdk.trace" in sys.modules)
flush_traces()
"""


def ran(program: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """A process with these variables, that came to a good end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")} | variables
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)


class Collector(BaseHTTPRequestHandler):
    """Takes what is sent to it."""

    def do_POST(self) -> None:
        self.server.taken.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Collector)
    server.taken = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_nothing_is_traced_or_even_imported_unless_a_collector_is_named() -> None:
    assert ran(PROGRAM).stdout.split() == ["False", "False"]


def test_spans_go_to_the_collector_that_is_named(collector: HTTPServer) -> None:
    run = ran(PROGRAM, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_port}")
    assert run.stdout.split() == ["True", "True"]
    ((path, data),) = collector.taken  # type: ignore[attr-defined]
    assert path == "/v1/traces"
    (resource,) = ExportTraceServiceRequest.FromString(data).resource_spans
    assert [each.name for each in resource.scope_spans[0].spans] == ["something"]
    names = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert names["service.name"] == "atelier-gateway"


def test_without_opentelemetry_a_collector_is_refused_with_a_warning() -> None:
    hidden = "import sys; sys.modules['opentelemetry'] = None\n"
    run = ran(hidden + PROGRAM, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert run.stdout.split() == ["False", "False"]
    assert "OpenTelemetry is not installed" in run.stderr
