"""What operators see of a request: its id, its line in the log."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from redis import Redis
from structlog.testing import capture_logs

from tests.conftest import until
from tests.service.conftest import (
    ALONE,
    ASYNC,
    PATIENCE_SECONDS,
    LoneGateway,
    accepted,
    code,
    drawn,
    post,
    saved,
    train,
)

Lines = list[Any]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What is logged of requests."""
    with capture_logs() as logs:
        yield logs


def line_of(lines: Lines, route: str) -> dict[str, Any]:
    """The one line of a request; it is written when the answer has gone out already."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found[:] = [line for line in lines if line["event"] == "request" and line["route"] == route]
        return bool(found)

    until(is_there, what="the line in the log")
    assert len(found) == 1
    return found[0]


def test_a_request_keeps_the_id_that_it_comes_with(gateway: LoneGateway) -> None:
    response = gateway.client.get("/livez", headers={"X-Request-ID": "mine-1_A"})
    assert response.headers["X-Request-ID"] == "mine-1_A"


@pytest.mark.parametrize("sent", ["", "two words", "ä".encode(), "a" * 129, "a\tb", "<script>", "http://a:b@c/"])
def test_an_id_that_is_none_is_replaced(gateway: LoneGateway, sent: str | bytes) -> None:
    headers = {b"X-Request-ID": sent if isinstance(sent, bytes) else sent.encode()}
    given = [gateway.client.get("/livez", headers=headers).headers["X-Request-ID"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in given)
    assert given[0] != given[1]


@pytest.mark.parametrize("path", ["/jobs/x", "/nowhere", "/limits?x"])
def test_a_problem_names_its_request(gateway: LoneGateway, path: str) -> None:
    response = gateway.client.request("POST" if "limits" in path else "GET", path, headers={"X-Request-ID": "lost"})
    assert code(response) in ("job-not-found", "not-found", "method-not-allowed")
    assert response.headers["X-Request-ID"] == response.json()["request_id"] == "lost"


def test_even_a_fault_of_ours_names_its_request(gateway: LoneGateway, lines: Lines, redis_client: "Redis") -> None:
    redis_client.hset("atelier:job:damaged", "state", "no state at all")
    response = httpx.get(
        gateway.client.base_url.join("/jobs/damaged"), headers={"X-Request-ID": "unlucky"}, timeout=PATIENCE_SECONDS
    )
    assert response.status_code == 500
    assert response.headers["X-Request-ID"] == response.json()["request_id"] == "unlucky"
    line = line_of(lines, "/jobs/{job_id}")
    assert (line["status"], line["code"]) == (500, "internal-error")


def test_a_job_knows_the_request_that_made_it(gateway: LoneGateway) -> None:
    job_id = accepted(gateway, **{"X-Request-ID": "the-first"})
    assert gateway.book.get(job_id).origin.request_id == "the-first"
    style = train(gateway.client, saved(drawn()), name="new")
    assert gateway.book.get(style.json()["id"]).origin.request_id == style.headers["X-Request-ID"]


def test_every_request_has_one_line_that_says_what_became_of_it(gateway: LoneGateway, lines: Lines) -> None:
    response = post(gateway.client, saved(drawn()), headers={**ASYNC, **ALONE})
    line = line_of(lines, "/stylize")
    assert (line["method"], line["status"], line["bytes"]) == ("POST", 202, len(response.content))
    assert line["job"] == response.json()["id"]
    assert 0 < line["seconds"] < 60
    gateway.client.get("/jobs/secret-of-a-client")
    line = line_of(lines, "/jobs/{job_id}")
    assert (line["status"], line["code"]) == (404, "job-not-found")
    assert "secret" not in str(lines)


def test_probes_are_not_logged(gateway: LoneGateway, lines: Lines) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/limits"):
        gateway.client.get(path)
    line_of(lines, "/limits")
    assert [line["route"] for line in lines if line["event"] == "request"] == ["/limits"]
