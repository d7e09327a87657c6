"""The Python client sends pictures until there is room, and follows a job however often its events are cut off."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from atelier.client import Client, ServiceError
from atelier.events import parse_events
from tests.atelier.conftest import CommandLine

QUEUED = {"state": "queued", "attempt": 0, "progress": None, "urls": {"self": "/jobs/1", "events": "/jobs/1/events"}}
DONE = {**QUEUED, "state": "succeeded", "attempt": 1, "result": {}}


def event(name: str, event_id: str, data: dict[str, Any]) -> str:
    return f"retry: 2000\nevent: {name}\nid: {event_id}\ndata: {json.dumps(data)}\n\n"


RUNS = {"state": "running", "attempt": 1, "job": None}
ENDS = {"state": "succeeded", "attempt": 1, "job": DONE}


FULL = (503, json.dumps({"detail": "192 jobs are waiting.", "code": "queue-full"}))
OFTEN = (429, json.dumps({"detail": "Your key may make 2 requests a minute.", "code": "quota-exceeded"}))
LIMITS = (200, json.dumps({"limits": [{"name": "batch", "value": 2}, {"name": "body", "value": 10_000}]}))


def batch_of(*names: str) -> tuple[int, str]:
    """The answer to a batch that is done at once."""
    return 202, json.dumps({**DONE, "children": [{"urls": {"result": f"/{name}"}} for name in names]})


@contextmanager
def scripted(*answers: tuple[int, str], retry_after: str | list[str] = "1") -> Iterator[tuple[str, list[str | None]]]:
    """A service that gives these answers one after the other; its address, and what was said to have been heard."""
    hints = iter(retry_after) if isinstance(retry_after, list) else repeat(retry_after)
    left, heard = iter(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self) -> None:
            heard.append(self.headers.get("Last-Event-ID"))
            status, text = next(left)
            self.send_response(status)
            self.send_header("Content-Type", "text/event-stream")
            if status in (202, 429, 503) and (hint := next(hints)):
                self.send_header("Retry-After", hint)
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
    with scripted((200, cut), (200, event("state", "3-0", ENDS))) as (url, heard), Client(url) as client:
        client.follow(QUEUED, lambda job: states.append(job["state"]))
    assert heard == [None, "2-0"]
    assert states == ["queued", "running", "succeeded"]


def test_a_job_is_asked_for_while_there_is_no_place_for_who_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long that is: a service that answers is not away."""
    monkeypatch.setattr("atelier.client.AWAY_SECONDS", 0)
    running = {**QUEUED, "state": "running", "attempt": 1}
    documents = [(200, json.dumps(document)) for document in (QUEUED, running, DONE)]
    answers = [answer for document in documents for answer in ((503, "{}"), document)]
    states: list[str] = []
    with scripted(*answers) as (url, asked), Client(url) as client:
        assert client.follow(QUEUED, lambda job: states.append(job["state"])) == DONE
    assert len(asked) == len(answers)
    assert states == ["running", "succeeded"]


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


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    """What is in them is nothing to the client."""
    paths = [tmp_path / f"{name}.jpg" for name in ("a", "b", "c")]
    for path in paths:
        path.write_bytes(b"a photograph")
    return paths


def test_pictures_that_are_turned_away_for_now_are_sent_again_and_all_are_stylized(photographs: list[Path]) -> None:
    why: list[str] = []
    answers = (LIMITS, OFTEN, FULL, batch_of("a", "b"), (200, "A"), (200, "B"), FULL, (200, "C"))
    with scripted(*answers) as (url, asked), Client(url, busy=lambda error: why.append(str(error))) as client:
        stylized = list(client.stylize_all(photographs, "tiny"))
    assert stylized == list(zip(photographs, (b"A", b"B", b"C"), strict=True))
    assert len(asked) == len(answers)
    assert why == ["Your key may make 2 requests a minute.", "192 jobs are waiting."]


def test_the_command_line_says_why_it_waits(tmp_path: Path, atelier: CommandLine, photographs: list[Path]) -> None:
    command = ("stylize", *map(str, photographs[:2]), "--style", "tiny", "-o", f"{tmp_path}/out")
    with scripted(LIMITS, FULL, FULL, batch_of("a", "b"), (200, "A"), (200, "B")) as (url, _):
        said = atelier.asides(*command, ATELIER_URL=url)
    assert said.splitlines() == ["atelier: 192 jobs are waiting. Waiting, for up to 10 minutes."]
    assert (tmp_path / "out" / "b.jpg").read_bytes() == b"B"


def test_patience_has_an_end(photographs: list[Path]) -> None:
    with (
        scripted(FULL, FULL, retry_after=["1", "600"]) as (url, asked),
        Client(url) as client,
        pytest.raises(ServiceError, match="192 jobs are waiting"),
    ):
        client.stylize(photographs[0], "tiny")
    assert len(asked) == 2


@pytest.mark.parametrize("retry_after", ["601", "", "soon"])
def test_who_is_told_to_come_back_much_later_or_at_no_time_does_not_wait(
    photographs: list[Path], retry_after: str
) -> None:
    waits: list[ServiceError] = []
    with scripted(FULL, retry_after=retry_after) as (url, _), Client(url, busy=waits.append) as client:
        with pytest.raises(ServiceError, match="192 jobs are waiting"):
            client.stylize(photographs[0], "tiny")
        assert waits == []
