"""The description of the interface."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis

from contract.errors import (
    AtelierError,
    BatchFailedError,
    BlendError,
    CheckpointError,
    ImageError,
    JobError,
    StoreUnavailableError,
    TrainingDataError,
    TrainingDivergedError,
)
from contract.images import MediaType
from service.description import written
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

RENEW = (
    "the interface has changed: `make openapi` (python -m service.description docs/openapi.json) writes it down anew"
)
POST = httpx.Request("POST", "http://test/stylize")
NOT_OF_ONE_PICTURE = (TrainingDivergedError, TrainingDataError, BatchFailedError)
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
        "/jobs": {"get"},
        "/jobs/{job_id}": {"get", "delete"},
        "/jobs/{job_id}/events": {"get"},
        "/jobs/{job_id}/result": {"get"},
        "/jobs/{job_id}/deliveries": {"get"},
        "/jobs/{job_id}/deliveries/{number}/redeliver": {"post"},
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
    options = {"style", "strength", "preserve_color", "size", "format", "quality", "priority", "image_url"}
    options |= {"webhook_url", "webhook_events"}
    assert set(forms) == {"multipart/form-data", "image/*", "application/json"}
    assert set(forms["multipart/form-data"]["schema"]["properties"]) == {"image", *options}
    assert set(forms["application/json"]["schema"]["properties"]) == {"image", *options}
    assert {each["name"] for each in stylize["parameters"] if each["in"] == "query"} == options
    assert {each["name"] for each in stylize["parameters"] if each["in"] == "header"} == {
        "Prefer",
        "Idempotency-Key",
        "Cache-Control",
        "X-Request-ID",
        "traceparent",
    }
    told = {"Idempotency-Replayed", "X-Cache", "X-Job-Id", "RateLimit", "RateLimit-Policy"}
    assert set(stylize["responses"]["200"]["headers"]) >= told
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
    fields |= {"webhook_url", "webhook_events"}
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
    if kind not in NOT_OF_ONE_PICTURE:
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


# --- As a whole ------------------------------------------------------------------------------------------------------


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in openapi()["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_the_committed_description_is_the_real_one() -> None:
    committed = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"
    assert committed.read_text() == written(openapi()), RENEW


def test_the_description_is_openapi_3_1() -> None:
    schemathesis.openapi.from_dict(openapi()).validate()
    wrong = {**openapi(), "paths": {"/x": {"get": {"responses": {"200": {}}}}}}
    with pytest.raises(jsonschema_rs.ValidationError):
        schemathesis.openapi.from_dict(wrong).validate()


def test_every_schema_in_the_description_is_a_json_schema() -> None:
    for model in openapi()["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **model})


def test_every_operation_has_an_id_a_summary_and_an_id_of_its_requests() -> None:
    ids = [operation["operationId"] for _, operation in operations()]
    assert len(set(ids)) == len(ids)
    assert {"stylize", "get_job", "get_result", "get_events", "cancel_job", "train_style"} <= set(ids)
    for name, operation in operations():
        assert operation["summary"], name
        assert {each["name"] for each in operation["parameters"]} >= {"X-Request-ID"}, name
        assert all("X-Request-ID" in response["headers"] for response in operation["responses"].values()), name


def test_every_failure_has_an_example_that_is_one() -> None:
    examples = openapi()["components"]["examples"]
    assert set(examples) == {kind.code for kind in leaves(AtelierError)}
    problem = jsonschema_rs.validator_for({**openapi()["components"]["schemas"]["Problem"], **openapi()})
    for name, operation in operations():
        for status, response in operation["responses"].items():
            if PROBLEM not in response.get("content", {}):
                continue
            shown = response["content"][PROBLEM]["examples"]
            assert set(shown) == set(re.findall("`([a-z-]+)`", response["description"])), name
            for code_shown in shown:
                example = examples[code_shown]["value"]
                assert (example["code"], example["status"]) == (code_shown, int(status)), name
                problem.validate(example)


def test_the_way_from_a_request_to_its_picture_is_a_chain_of_links() -> None:
    by_id = {operation["operationId"]: operation for _, operation in operations()}
    for start in ("stylize", "train_style"):
        links = by_id[start]["responses"]["202"]["links"]
        assert set(links) == {"get_job", "get_events", "get_result", "cancel_job"}
        assert {link["parameters"]["job_id"] for link in links.values()} == {"$response.body#/id"}
    assert set(by_id["get_job"]["responses"]["200"]["links"]) == {"get_events", "get_result", "cancel_job"}
    for name, operation in operations():
        for response in operation["responses"].values():
            for link in response.get("links", {}).values():
                wanted = {each["name"] for each in by_id[link["operationId"]]["parameters"]}
                assert set(link["parameters"]) <= wanted, name
