"""The description of the interface."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from contract.errors import (
    AtelierError,
    BlendError,
    CheckpointError,
    ImageError,
    JobError,
    StoreUnavailableError,
    TrainingDataError,
    TrainingDivergedError,
)
from contract.images import MediaType
from service.problems import BY_CODE, leaves
from service.problems import MEDIA_TYPE as PROBLEM
from tests.service.conftest import (
    TIMINGS,
    LoneGateway,
    claimed,
    code,
    drawn,
    must_be_documented,
    openapi,
    saved,
    train,
)

POST = httpx.Request("POST", "http://test/stylize")
TRAINING_FAILURES = (TrainingDivergedError, TrainingDataError)
JOB_FAILURES = [*leaves(ImageError), *leaves(JobError), BlendError, CheckpointError, StoreUnavailableError]


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_the_description_has_every_address() -> None:
    methods = {path: set(operations) for path, operations in openapi()["paths"].items()}
    assert methods == {
        "/": {"get"},
        "/stylize": {"post"},
        "/jobs/{job_id}": {"get", "delete"},
        "/jobs/{job_id}/events": {"get"},
        "/jobs/{job_id}/result": {"get"},
        "/jobs/{job_id}/previews/{index}": {"get"},
        "/styles": {"get", "post"},
        "/styles/{name}": {"get", "delete"},
        "/styles/{name}/thumbnail": {"get"},
        "/styles/{name}/sheet": {"get"},
        "/styles/{name}/active": {"put"},
        "/limits": {"get"},
        "/capacity": {"get"},
        "/metrics": {"get"},
        "/problems": {"get"},
        "/livez": {"get"},
        "/readyz": {"get"},
    }
    assert openapi()["openapi"].startswith("3.1")


def test_every_reference_of_the_description_leads_somewhere() -> None:
    found = set(references(openapi()))
    assert found
    for reference in found:
        node: Any = openapi()
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


def test_the_description_tells_the_three_forms_of_a_request() -> None:
    stylize = openapi()["paths"]["/stylize"]["post"]
    forms = stylize["requestBody"]["content"]
    options = {"style", "strength", "preserve_color", "size", "format", "quality", "image_url"}
    assert set(forms) == {"multipart/form-data", "image/*", "application/json"}
    assert set(forms["multipart/form-data"]["schema"]["properties"]) == {"image", *options}
    assert set(forms["application/json"]["schema"]["properties"]) == {"image", *options}
    assert {each["name"] for each in stylize["parameters"] if each["in"] == "query"} == options
    assert {each["name"] for each in stylize["parameters"] if each["in"] == "header"} == {
        "Idempotency-Key",
        "Cache-Control",
    }
    assert set(stylize["responses"]["200"]["headers"]) == {"Idempotency-Replayed", "X-Cache", "X-Job-Id"}
    assert set(stylize["responses"]["200"]["content"]) == {*MediaType, "application/json"}


def test_every_failure_is_described_as_a_problem() -> None:
    for path, operations in openapi()["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400 and path != "/readyz":
                    assert set(response["content"]) == {"application/problem+json"}, (path, status)


def test_the_description_tells_what_a_new_style_may_be_sent_with() -> None:
    (form,) = openapi()["paths"]["/styles"]["post"]["requestBody"]["content"].values()
    fields = {"name", "title", "description", "quality", "iterations", "style_weight", "stroke_size", "content"}
    assert set(form["schema"]["properties"]) == {"image", "replace", *fields}
    assert set(form["schema"]["required"]) == {"image", "name"}
    assert form["schema"]["properties"]["image"]["maxItems"] == 8


@pytest.mark.parametrize("kind", JOB_FAILURES)
def test_every_way_in_which_a_job_may_fail_is_documented_where_its_result_is_asked_for(
    gateway: LoneGateway, kind: type[AtelierError]
) -> None:
    job_id = train(gateway.client, saved(drawn()), name="new").json()["id"]
    assert gateway.book.fail(claimed(gateway, job_id), kind("Why."), TIMINGS)
    result = gateway.client.get(f"/jobs/{job_id}/result")  # this client refuses what is not documented
    assert code(result) == kind.code
    if kind not in TRAINING_FAILURES:
        posted = httpx.Response(result.status_code, headers=result.headers, content=result.content, request=POST)
        must_be_documented(posted)


def test_an_answer_that_is_not_documented_is_noticed() -> None:
    undocumented = httpx.Response(418, request=POST)
    with pytest.raises(AssertionError, match="418"):
        must_be_documented(undocumented)
    problem = {"code": "bad-settings"}
    with pytest.raises(AssertionError, match="bad-settings"):
        must_be_documented(httpx.Response(409, json=problem, headers={"Content-Type": PROBLEM}, request=POST))


def test_every_problem_is_listed_where_its_type_leads_to(gateway: LoneGateway) -> None:
    listed = gateway.client.get("/problems").json()["problems"]
    problem = gateway.client.get("/jobs/x").json()
    common = {name: problem[name] for name in ("type", "code", "title", "status")}
    assert common in listed
    assert gateway.client.get(problem["type"]).json()["problems"] == listed
    assert [item["code"] for item in listed] == sorted(BY_CODE)
