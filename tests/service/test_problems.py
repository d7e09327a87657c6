"""Failures as clients see them."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI

from contract import errors
from contract.errors import AtelierError, InvalidParameterError, QueueFullError
from contract.jobs import JobFailure
from service import problems
from tests.service.conftest import code, parameters


def tree(kind: type[AtelierError]) -> list[type[AtelierError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in tree(child))]


ALL = [kind for kind in tree(AtelierError) if kind.__module__ == errors.__name__]


def answer_to(failure: Exception) -> httpx.Response:
    """What an app answers in which this happens."""
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    def fail() -> None:
        raise failure

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/")

    return asyncio.run(ask())


@pytest.mark.parametrize("kind", ALL)
def test_every_error_has_a_status_that_somebody_chose(kind: type[AtelierError]) -> None:
    chosen = [above for above in kind.__mro__ if above in problems.STATUS and above is not AtelierError]
    assert chosen or kind is AtelierError
    assert 400 <= problems.status_of(kind) <= 599


def test_every_error_has_a_code_of_its_own() -> None:
    assert len({kind.code for kind in ALL}) == len(ALL) > 30
    assert {code: problems.BY_CODE[code] for code in problems.BY_CODE if problems.BY_CODE[code] in ALL} == {
        kind.code: kind for kind in ALL
    }


def test_no_status_stands_for_an_error_that_is_gone() -> None:
    assert set(problems.STATUS) <= set(ALL)


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind is not InvalidParameterError])
def test_an_expected_failure_goes_out_with_its_code_and_its_message(kind: type[AtelierError]) -> None:
    response = answer_to(kind("What happened."))
    assert response.status_code == problems.status_of(kind)
    assert code(response) == kind.code
    assert response.json()["detail"] == "What happened."


def test_an_invalid_parameter_is_named() -> None:
    assert parameters(answer_to(InvalidParameterError("Too much.", parameter="size"))) == ["size"]


def test_what_passes_by_itself_says_when_to_come_back() -> None:
    assert answer_to(QueueFullError("Full.", retry_after_seconds=5)).headers["retry-after"] == "5"
    assert "retry-after" not in answer_to(QueueFullError("Full.")).headers


def test_an_unexpected_failure_says_nothing_of_the_inside() -> None:
    response = answer_to(RuntimeError("secret in /etc/passwd"))
    assert response.status_code == 500
    assert code(response) == "internal-error"
    assert "secret" not in response.text


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        ("broken-image", 422),
        ("image-too-large", 413),
        ("poison-job", 500),
        ("training-data-missing", 500),
        ("from-1999", 500),
    ],
)
def test_a_failed_job_has_the_status_of_its_code(failure: str, status: int) -> None:
    response = problems.problem_of_job(JobFailure(code=failure, detail="Why."), "some-id")
    assert response.status_code == status
    assert response.headers["x-job-id"] == "some-id"


@pytest.mark.parametrize("path", ["/nowhere", "/stylize/more", "/jobs/x/previews", "/styles/tiny/more"])
def test_an_unknown_path_is_a_problem(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert code(response) == "not-found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/stylize", {"POST"}),
        ("PUT", "/stylize", {"POST"}),
        ("POST", "/jobs/x", {"GET", "DELETE"}),
        ("POST", "/jobs/x/result", {"GET"}),
        ("DELETE", "/styles", {"GET", "POST"}),
        ("POST", "/styles/tiny", {"GET", "DELETE"}),
        ("GET", "/styles/tiny/active", {"PUT"}),
        ("POST", "/jobs/x/previews/0", {"GET"}),
        ("POST", "/livez", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method_is_told_every_right_one(
    client: httpx.Client, method: str, path: str, allowed: set[str]
) -> None:
    response = client.request(method, path)
    assert response.status_code == 405
    assert code(response) == "method-not-allowed"
    assert set(response.headers["allow"].split(", ")) == allowed


def test_what_the_framework_refuses_is_a_problem_with_the_parameter(client: httpx.Client) -> None:
    assert parameters(client.get("/jobs/x", params={"wait": "long"})) == ["wait"]
    assert parameters(client.get("/jobs/x", params={"wait": "-1"})) == ["wait"]
