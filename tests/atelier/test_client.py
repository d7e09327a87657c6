"""The Python client follows a job through its events, however often they are cut off."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from atelier.client import Client, ServiceError
from atelier.events import parse_events

QUEUED = {"state": "queued", "attempt": 0, "progress": None, "urls": {"events": "/jobs/1/events"}}
DONE = {**QUEUED, "state": "succeeded", "attempt": 1, "result": {}}


def event(name: str, event_id: str, data: dict[str, Any]) -> str:
    return f"retry: 2000\nevent: {name}\nid: {event_id}\ndata: {json.dumps(data)}\n\n"


RUNS = {"state": "running", "attempt": 1, "job": None}
ENDS = {"state": "succeeded", "attempt": 1, "job": DONE}


@contextmanager
def scripted(*answers: tuple[int, str]) -> Iterator[tuple[str, list[str | None]]]:
    """A service that gives these answers one after the other; its address, and what was said to have been heard."""
    left, heard = iter(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.headers.get("Last-Event-ID"))
            status, text = next(left)
            self.send_response(status)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", heard
        server.shutdown()


def test_every_event_changes_the_document_that_is_shown() -> None:
    stream = event("snapshot", "1-0", QUEUED) + event("state", "2-0", RUNS) + ": ping\n\n"
    stream += event("progress", "3-0", {"fraction": 0.5}) + event("preview", "4-0", {}) + event("state", "5-0", ENDS)
    seen: list[tuple[str, Any]] = []
    with scripted((200, stream)) as (url, _), Client(url) as client:
        job = client.follow(QUEUED, lambda job: seen.append((job["state"], job["progress"])))
    assert job == DONE
    half = {"fraction": 0.5}
    assert seen == [("queued", None), ("running", None), ("running", half), ("running", half), ("succeeded", None)]


def test_a_stream_that_is_cut_off_goes_on_after_what_was_heard() -> None:
    cut = event("snapshot", "1-0", QUEUED) + event("state", "2-0", RUNS) + "event: state\nid: 3-0\ndata: {"
    states: list[str] = []
    with scripted((200, cut), (503, "{}"), (200, event("state", "3-0", ENDS))) as (url, heard), Client(url) as client:
        client.follow(QUEUED, lambda job: states.append(job["state"]))
    assert heard == [None, "2-0", "2-0"]
    assert states == ["queued", "running", "succeeded"]


def test_a_job_that_has_expired_meanwhile_is_a_problem() -> None:
    problem = json.dumps({"detail": "The job has ended.", "code": "job-expired"})
    with (
        scripted((410, problem)) as (url, _),
        Client(url) as client,
        pytest.raises(ServiceError, match="The job has ended"),
    ):
        client.follow(QUEUED, lambda _: None)


def test_data_may_hold_colons_and_an_event_without_data_is_none() -> None:
    (only,) = parse_events(
        ["event: state", "id: 1-0", 'data: {"a": "b: c"}', "", "retry: 1", "", "event: x", "id: 2-0"]
    )
    assert (only.name, only.id, only.data) == ("state", "1-0", {"a": "b: c"})
