"""Several pictures in one request: one job that tells how they do, and hands them out as one archive."""

import io
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import httpx
import pytest
from redis import Redis

from contract.errors import BrokenImageError
from tests.conftest import Stack, until
from tests.pictures import decoded
from tests.service.conftest import (
    ALONE,
    ASYNC,
    TIMINGS,
    Gateways,
    LoneGateway,
    claimed,
    client_of,
    code,
    drawn,
    parameters,
    picture_field,
    post,
    saved,
    succeed,
    text_field,
    waits,
)

DATA_DESCRIPTOR = 8
"""The bit of an entry whose sizes stand behind it (APPNOTE 4.4.4)."""


def batch(
    client: httpx.Client, *pictures: bytes, headers: dict[str, str] | None = None, **options: Any
) -> httpx.Response:
    fields = [*map(picture_field, pictures), text_field("style", "tiny")]
    return client.post("/stylize", files=fields, params=options, headers=headers or {})


def pictures(count: int) -> list[bytes]:
    return [saved(drawn(40 + number, 30)) for number in range(count)]


def ids(job: dict[str, Any]) -> list[str]:
    return [child["id"] for child in job["children"]]


def fail(gateway: LoneGateway, job_id: str) -> None:
    assert gateway.book.fail(claimed(gateway, job_id), BrokenImageError("It is cut off."), TIMINGS)


def document(gateway: LoneGateway, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = gateway.client.get(f"/jobs/{job_id}").json()
    return found


def test_a_batch_is_stylized_from_beginning_to_end(stack: Stack) -> None:
    with client_of(stack.url) as client:
        response = batch(client, *pictures(3), headers=ALONE)
        assert response.status_code == 202
        job = response.json()
        address = response.headers["Location"]
        assert (job["kind"], job["style"], job["priority"]) == ("batch", "tiny@1", "batch")
        until(lambda: client.get(address, params={"wait": 10}).json()["state"] == "succeeded", 60, "the batch")
        archive = client.get(f"{address}/result")
        assert (archive.headers["Content-Type"], archive.headers["X-Job-Id"]) == ("application/zip", job["id"])
        with ZipFile(io.BytesIO(archive.content)) as files:
            assert files.testzip() is None
            assert files.namelist() == ["01-tiny.png", "02-tiny.png", "03-tiny.png"]
            assert {entry.compress_type for entry in files.infolist()} == {ZIP_STORED}
            # Sizes are in front of the files, for readers that do not wait for the end of the archive.
            assert not any(entry.flag_bits & DATA_DESCRIPTOR for entry in files.infolist())
            sizes = [decoded(files.read(name)).size for name in files.namelist()]
            alone = [client.get(child["urls"]["result"]).content for child in job["children"]]
            assert alone == [files.read(name) for name in files.namelist()]
        assert sizes == [(40, 30), (41, 30), (42, 30)]


def test_a_batch_tells_how_its_pictures_do(gateway: LoneGateway) -> None:
    job = batch(gateway.client, *pictures(2)).json()
    first, second = ids(job)
    assert [child["state"] for child in job["children"]] == ["queued", "queued"]
    assert job["children"][0]["urls"] == {"self": f"/jobs/{first}", "result": f"/jobs/{first}/result"}
    assert code(gateway.client.get(f"/jobs/{job['id']}/result")) == "result-not-ready"
    succeed(gateway, first)
    job = document(gateway, job["id"])
    assert (job["state"], job["progress"]["fraction"], job["progress"]["detail"]) == ("running", 0.5, "1 of 2 pictures")
    fail(gateway, second)
    job = document(gateway, job["id"])
    assert (job["state"], job["result"]) == ("succeeded", {"succeeded": 1, "failed": 1, "canceled": 0})
    assert [child["state"] for child in job["children"]] == ["succeeded", "failed"]


def test_what_could_not_be_made_is_listed_in_the_archive(gateway: LoneGateway, redis_client: "Redis") -> None:
    job = batch(gateway.client, *pictures(4)).json()
    first, broken, canceled, lost = ids(job)
    data = succeed(gateway, first)
    fail(gateway, broken)
    gateway.client.delete(f"/jobs/{canceled}")
    succeed(gateway, lost)
    redis_client.delete(f"atelier:job:{lost}")
    with ZipFile(io.BytesIO(gateway.client.get(f"/jobs/{job['id']}/result").content)) as files:
        assert files.namelist() == ["01-tiny.png", "problems.json"]
        assert files.read("01-tiny.png") == data
        problems = json.loads(files.read("problems.json"))
    assert [(problem["position"], problem["job"], problem["code"]) for problem in problems] == [
        (2, f"/jobs/{broken}", "broken-image"),
        (3, f"/jobs/{canceled}", "job-canceled"),
        (4, f"/jobs/{lost}", "job-expired"),
    ]


def test_a_batch_none_of_whose_pictures_could_be_made_is_a_problem(gateway: LoneGateway) -> None:
    job = batch(gateway.client, *pictures(2)).json()
    for child in ids(job):
        fail(gateway, child)
    response = gateway.client.get(f"/jobs/{job['id']}/result")
    assert (response.status_code, code(response)) == (422, "batch-failed")


def test_a_batch_can_be_followed(gateway: LoneGateway, pool: Any) -> None:
    job = batch(gateway.client, *pictures(2)).json()
    following = pool.submit(gateway.client.get, f"/jobs/{job['id']}/events")
    waits(gateway)
    for child in ids(job):
        succeed(gateway, child)
    events = following.result().text.split("\n\n")
    names = [
        line.removeprefix("event: ") for event in events for line in event.splitlines() if line.startswith("event")
    ]
    assert names == ["snapshot", "state", "progress", "progress", "state"]
    last = json.loads(next(line for line in events[4].splitlines() if line.startswith("data: ")).removeprefix("data: "))
    assert [child["state"] for child in last["job"]["children"]] == ["succeeded", "succeeded"]


def test_a_canceled_batch_takes_its_jobs_with_it_but_for_those_of_others(gateway: LoneGateway) -> None:
    job = batch(gateway.client, *pictures(2)).json()
    shared, _ = ids(job)
    assert post(gateway.client, pictures(1)[0], ASYNC).json()["id"] == shared
    canceled = gateway.client.delete(f"/jobs/{job['id']}").json()
    assert canceled["state"] == "canceled"
    assert [child["state"] for child in canceled["children"]] == ["queued", "canceled"]
    assert code(gateway.client.get(f"/jobs/{job['id']}/result")) == "job-canceled"


def test_a_batch_that_does_not_fit_into_the_queue_leaves_nothing_there(gateways: Gateways) -> None:
    with gateways(queue_limit=4) as gateway:
        assert code(batch(gateway.client, *pictures(4))) == "queue-full"
        assert gateway.book.depth().queued == 0
        assert batch(gateway.client, *pictures(3)).status_code == 202


def test_a_batch_that_is_sent_again_is_done_once(gateway: LoneGateway) -> None:
    headers = {"Idempotency-Key": "one", **ALONE}
    first = batch(gateway.client, *pictures(2), headers=headers)
    again = batch(gateway.client, *pictures(2), headers=headers)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    assert gateway.book.depth().queued == 2
    assert code(batch(gateway.client, *reversed(pictures(2)), headers=headers)) == "idempotency-key-reused"


def test_a_batch_finds_what_has_been_made_and_makes_anew_what_is_lost(gateway: LoneGateway) -> None:
    first = batch(gateway.client, *pictures(3)).json()
    for child in ids(first):
        succeed(gateway, child)
    again = batch(gateway.client, *pictures(3)).json()
    assert (again["state"], ids(again)) == ("succeeded", ids(first))
    gateway.images.sweep(timedelta(-1), in_use=())
    third = batch(gateway.client, *pictures(3)).json()
    assert (third["state"], {child["state"] for child in third["children"]}) == ("queued", {"queued"})
    assert not set(ids(third)) & set(ids(first))


def test_a_batch_is_answered_at_once_whatever_is_preferred(gateway: LoneGateway) -> None:
    response = batch(gateway.client, *pictures(2), headers={"Prefer": "wait=30"})
    assert (response.status_code, "Preference-Applied" in response.headers) == (202, False)
    response = batch(gateway.client, *pictures(2), headers=ASYNC)
    assert response.headers["Preference-Applied"] == "respond-async"


def test_the_priority_of_a_batch_can_be_chosen(gateway: LoneGateway) -> None:
    job = batch(gateway.client, *pictures(2), priority="normal").json()
    assert {document(gateway, child)["priority"] for child in ids(job)} == {"normal"}


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: [*pictures(1), b"no picture"], "unsupported-image"),
        (lambda: [*pictures(1), saved(drawn(8, 8))], "image-too-small"),
        (lambda: [*pictures(1), b""], "no-image"),
        (lambda: pictures(4), "malformed-body"),
    ],
)
def test_one_picture_that_cannot_be_used_refuses_the_batch(
    gateways: Gateways, make: Callable[[], list[bytes]], expected: str
) -> None:
    with gateways(max_batch=3) as gateway:
        response = batch(gateway.client, *make())
        assert code(response) == expected
        assert gateway.book.depth().queued == 0
        if expected in ("unsupported-image", "image-too-small"):
            assert response.json()["detail"].startswith("Picture 2 of 2: ")


def test_a_batch_without_a_style_is_refused(gateway: LoneGateway) -> None:
    assert parameters(gateway.client.post("/stylize", files=list(map(picture_field, pictures(2))))) == ["style"]
