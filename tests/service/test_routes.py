"""The HTTP interface, from the outside: a whole service for pictures, a gateway without workers for the rest."""

import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import numpy as np
import pytest
from redis import Redis

from contract.errors import BrokenImageError, JobTimeoutError
from contract.images import MediaType
from contract.jobbook import Claim
from contract.jobs import JobResult, Timings
from tests.conftest import Stack, free_port, until
from tests.service.conftest import Gateways, LoneGateway, code, drawn, opened, parameters, post, saved, with_alpha

ASYNC = {"Prefer": "respond-async"}
DOCUMENT = {"Accept": "application/json"}
TIMINGS = Timings(decode_seconds=0.1, compute_seconds=0.2, encode_seconds=0.3)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def accepted(gateway: LoneGateway, **headers: str) -> str:
    """The id of a job that waits."""
    response = post(gateway.client, saved(drawn()), headers={**ASYNC, **headers})
    assert response.status_code == 202
    return str(response.json()["id"])


def claimed(gateway: LoneGateway, job_id: str) -> Claim:
    claim = gateway.book.claim(job_id)
    assert claim is not None
    return claim


def succeed(gateway: LoneGateway, job_id: str) -> bytes:
    """Does the worker's work; the picture."""
    claim = claimed(gateway, job_id)
    data = saved(drawn(), claim.record.request.media_type.name)
    ref = gateway.images.put(data)
    result = JobResult(
        media_type=claim.record.request.media_type, width=48, height=32, bytes=len(data), sha256=ref.sha256
    )
    assert gateway.book.succeed(claim, result, TIMINGS)
    return data


def waits(redis_client: "Redis") -> None:
    """Returns when a request waits for the end of a job."""
    until(lambda: redis_client.info("clients")["blocked_clients"] > 0, what="a request that waits")


def the_one_that_waits(redis_client: "Redis") -> str:
    (job_id,) = redis_client.zrange("atelier:queued:stylize", 0, -1)
    return str(job_id)


# --- Pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sides", [(16, 16), (17, 31), (31, 17), (300, 16), (16, 300), (63, 65), (101, 67), (128, 128), (19, 23)]
)
def test_the_result_has_exactly_the_size_of_the_photograph(client: httpx.Client, sides: tuple[int, int]) -> None:
    assert opened(post(client, saved(drawn(*sides))).content).size == sides


@pytest.mark.parametrize(
    ("sides", "size", "expected"),
    [
        ((200, 100), 64, (64, 32)),
        ((100, 200), 65, (32, 65)),
        ((100, 67), 199, (199, 133)),
        ((333, 250), 77, (77, 58)),
        ((16, 16), 16, (16, 16)),
        ((16, 16), 131, (131, 131)),
        ((300, 16), 300, (300, 16)),
        ((40, 30), 40, (40, 30)),
    ],
)
def test_the_long_side_of_the_result_is_exactly_the_size_asked_for(
    client: httpx.Client, sides: tuple[int, int], size: int, expected: tuple[int, int]
) -> None:
    assert opened(post(client, saved(drawn(*sides)), size=str(size)).content).size == expected


@pytest.mark.parametrize("own", MediaType)
def test_the_result_has_the_format_of_the_photograph(client: httpx.Client, own: MediaType) -> None:
    response = post(client, saved(drawn(), own.name))
    assert response.headers["content-type"] == own
    assert opened(response.content).format == own.name


@pytest.mark.parametrize("wished", MediaType)
def test_accept_and_format_choose_the_format_of_the_result(client: httpx.Client, wished: MediaType) -> None:
    data = saved(drawn(), "JPEG")
    by_accept = post(client, data, headers={"Accept": f"text/html, {wished}, */*;q=0.1"})
    by_option = post(client, data, headers={"Accept": "image/jpeg"}, format=wished.value.removeprefix("image/"))
    for response in (by_accept, by_option):
        assert response.headers["content-type"] == wished
        assert opened(response.content).format == wished.name
    assert by_accept.content == by_option.content


def test_several_lines_of_accept_are_one(client: httpx.Client) -> None:
    lines = [("Content-Type", "image/png"), ("Accept", "text/html"), ("Accept", "image/webp")]
    response = httpx.post(f"{client.base_url}/stylize?style=tiny", content=saved(drawn()), headers=lines, timeout=60)
    assert response.headers["content-type"] == "image/webp"


def test_nothing_acceptable_is_406(client: httpx.Client) -> None:
    response = post(client, saved(drawn()), headers={"Accept": "text/html, image/gif"})
    assert response.status_code == 406
    assert code(response) == "not-acceptable"


@pytest.mark.parametrize("wished", ["jpeg", "webp", "avif"])
def test_quality_trades_bytes_for_closeness(client: httpx.Client, wished: str) -> None:
    data = saved(drawn())
    low, high = (post(client, data, format=wished, quality=quality) for quality in ("1", "100"))
    assert len(low.content) < len(high.content)


def test_alpha_is_kept_where_the_format_has_it_and_white_where_not(client: httpx.Client) -> None:
    data = saved(with_alpha())
    png = opened(post(client, data).content)
    jpeg = opened(post(client, data, format="jpeg", quality="100").content)
    assert png.mode == "RGBA"
    assert png.getchannel("A").tobytes() == with_alpha().getchannel("A").tobytes()
    assert jpeg.mode == "RGB"
    assert np.asarray(jpeg)[:, :16].min() > 245


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "I;16"])
def test_every_colour_model_is_stylized(client: httpx.Client, mode: str) -> None:
    image = drawn().convert("L").convert("I;16") if mode == "I;16" else drawn().convert(mode)
    response = post(client, saved(image, "JPEG" if mode == "CMYK" else "PNG"))
    assert response.status_code == 200
    assert opened(response.content).size == image.size


def test_styles_differ_and_a_version_may_be_named(client: httpx.Client) -> None:
    data = saved(drawn())
    tiny, version_1, other = (post(client, data, style=style).content for style in ("tiny", "tiny@1", "other"))
    assert tiny == version_1
    assert tiny != other


@pytest.mark.parametrize("style", ["nobody", "tiny@9"])
def test_an_unknown_style_is_404(client: httpx.Client, style: str) -> None:
    response = post(client, saved(drawn()), style=style)
    assert response.status_code == 404
    assert code(response) == "style-not-found"


def test_the_answer_says_what_it_is(client: httpx.Client) -> None:
    response = post(client, saved(drawn()))
    headers = response.headers
    assert response.status_code == 200
    assert headers["etag"] == f'"{hashlib.sha256(response.content).hexdigest()}"'
    assert headers["cache-control"] == "private, max-age=3600"
    assert headers["x-style"] == "tiny"
    assert headers["x-style-version"] == "1"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"] == 'inline; filename="tiny.png"'
    assert "Accept" in headers["vary"].split(", ")
    assert "preference-applied" not in headers
    assert client.get(f"/jobs/{headers['x-job-id']}/result").content == response.content


def test_requests_at_once_get_each_their_own_picture(client: httpx.Client, pool: ThreadPoolExecutor) -> None:
    requests = [(saved(drawn(32, 24 if i % 4 else 32)), "tiny" if i % 2 else "other") for i in range(8)]

    def stylized(request: tuple[bytes, str]) -> Any:
        return np.asarray(opened(post(client, request[0], style=request[1]).content)).astype(int)

    together = list(pool.map(stylized, requests))
    for request, picture in zip(requests, together, strict=True):
        # Sums may be taken in another order in a batch, which rounding may make one level of.
        assert np.abs(stylized(request) - picture).max() <= 1


# --- Jobs, with a worker -------------------------------------------------------------------------------------------


def test_the_document_of_an_ended_job_tells_everything(client: httpx.Client) -> None:
    before = datetime.now(UTC)
    response = post(client, saved(drawn(64, 48)), headers=DOCUMENT, format="webp", size="32")
    job = response.json()
    assert response.status_code == 200
    assert response.headers["x-job-id"] == job["id"]
    assert (job["state"], job["style"], job["version"], job["attempt"]) == ("succeeded", "tiny", 1, 1)
    assert job["error"] is None
    texts = [job[name] for name in ("created_at", "started_at", "finished_at", "expires_at")]
    times = [datetime.fromisoformat(text) for text in texts]
    assert all(text.endswith("Z") for text in texts)
    assert times == sorted(times)
    assert before - timedelta(minutes=1) < times[0] <= datetime.now(UTC) + timedelta(minutes=1)
    assert (times[3] - times[2]).total_seconds() == pytest.approx(3600, abs=1)
    assert set(job["timings"]) == {"queue_seconds", "decode_seconds", "compute_seconds", "encode_seconds"}
    assert all(0 <= seconds < 60 for seconds in job["timings"].values())
    picture = client.get(job["urls"]["result"])
    assert job["result"] == {
        "media_type": "image/webp",
        "width": 32,
        "height": 24,
        "bytes": len(picture.content),
        "sha256": hashlib.sha256(picture.content).hexdigest(),
    }
    assert opened(picture.content).format == "WEBP"
    assert client.get(job["urls"]["self"]).json() == job


def test_respond_async_answers_at_once_and_the_picture_follows(client: httpx.Client) -> None:
    data = saved(drawn())
    response = post(client, data, headers=ASYNC)
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "respond-async"
    assert int(response.headers["retry-after"]) > 0
    location = response.headers["location"]
    assert location == f"/jobs/{response.headers['x-job-id']}" == response.json()["urls"]["self"]
    job = client.get(location, params={"wait": 30}).json()
    assert job["state"] == "succeeded"
    assert client.get(job["urls"]["result"]).content == post(client, data).content


def test_when_the_wait_runs_out_the_job_goes_on(client: httpx.Client, stack: Stack) -> None:
    worker = stack.processes["worker"]
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        response = post(client, saved(drawn()), headers={"Prefer": "wait=1"})
        assert response.status_code == 202
        assert response.headers["preference-applied"] == "wait=1"
        assert response.elapsed.total_seconds() >= 0.9
        assert response.json()["state"] == "queued"
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    job = client.get(response.headers["location"], params={"wait": 30}).json()
    assert job["state"] == "succeeded"
    assert job["timings"]["queue_seconds"] >= 0.5


def test_the_result_is_not_sent_again_to_who_has_it(client: httpx.Client) -> None:
    first = post(client, saved(drawn()))
    url = f"/jobs/{first.headers['x-job-id']}/result"
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        response = client.get(url, headers={"If-None-Match": known})
        assert response.status_code == 304
        assert response.content == b""
        assert response.headers["etag"] == tag
        assert response.headers["cache-control"] == first.headers["cache-control"]
    response = client.get(url, headers={"If-None-Match": '"other"'})
    assert response.status_code == 200
    assert response.headers["etag"] == tag


def test_the_same_request_makes_the_same_picture(client: httpx.Client) -> None:
    data = saved(drawn(99, 101))
    assert post(client, data).headers["etag"] == post(client, data).headers["etag"]


# --- Jobs, without a worker ----------------------------------------------------------------------------------------


def test_a_job_that_waits_says_so(gateway: LoneGateway) -> None:
    response = gateway.client.get(f"/jobs/{accepted(gateway)}")
    job = response.json()
    assert (job["state"], job["attempt"], job["result"], job["error"]) == ("queued", 0, None, None)
    assert (job["started_at"], job["finished_at"], job["expires_at"]) == (None, None, None)
    assert int(response.headers["retry-after"]) > 0
    assert response.headers["cache-control"] == "no-store"


def test_a_job_that_runs_says_so(gateway: LoneGateway) -> None:
    job_id = accepted(gateway)
    claimed(gateway, job_id)
    job = gateway.client.get(f"/jobs/{job_id}").json()
    assert (job["state"], job["attempt"]) == ("running", 1)
    assert job["started_at"] >= job["created_at"]


def test_post_answers_when_the_job_ends(gateway: LoneGateway, redis_client: "Redis", pool: ThreadPoolExecutor) -> None:
    answer = pool.submit(post, gateway.client, saved(drawn()))
    waits(redis_client)
    job_id = the_one_that_waits(redis_client)
    data = succeed(gateway, job_id)
    assert answer.result().content == data
    assert answer.result().headers["x-compute-seconds"] == "0.2"
    assert answer.result().elapsed.total_seconds() < 20


def test_a_long_poll_answers_when_the_job_ends(
    gateway: LoneGateway, redis_client: "Redis", pool: ThreadPoolExecutor
) -> None:
    job_id = accepted(gateway)
    answer = pool.submit(gateway.client.get, f"/jobs/{job_id}", params={"wait": 50})
    waits(redis_client)
    succeed(gateway, job_id)
    assert answer.result().json()["state"] == "succeeded"
    assert answer.result().elapsed.total_seconds() < 20


def test_a_long_poll_that_runs_out_answers_as_things_are(gateway: LoneGateway) -> None:
    response = gateway.client.get(f"/jobs/{accepted(gateway)}", params={"wait": 0.3})
    assert response.status_code == 200
    assert response.json()["state"] == "queued"
    assert 0.2 < response.elapsed.total_seconds() < 5


def test_nobody_waits_longer_than_is_allowed(gateways: Gateways) -> None:
    with gateways(max_wait_seconds=0.5) as gateway:
        job_id = accepted(gateway)
        assert gateway.client.get(f"/jobs/{job_id}", params={"wait": 1000}).elapsed.total_seconds() < 5
        response = post(gateway.client, saved(drawn()), headers={"Prefer": "wait=1000"})
        assert response.status_code == 202
        assert response.headers["preference-applied"] == "wait=0.5"


def test_without_a_preference_the_wait_is_that_of_the_settings(gateways: Gateways) -> None:
    with gateways(wait_seconds=0.3) as gateway:
        response = post(gateway.client, saved(drawn()))
        assert response.status_code == 202
        assert "preference-applied" not in response.headers
        assert response.elapsed.total_seconds() >= 0.3


def test_wait_0_does_not_wait(gateway: LoneGateway) -> None:
    response = post(gateway.client, saved(drawn()), headers={"Prefer": "wait=0"})
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "wait=0"


def test_a_gateway_that_stops_lets_go_of_who_waits(
    gateway: LoneGateway, redis_client: "Redis", pool: ThreadPoolExecutor
) -> None:
    answer = pool.submit(post, gateway.client, saved(drawn()))
    waits(redis_client)
    gateway.server.handle_exit(signal.SIGTERM, None)
    assert answer.result().status_code == 202
    assert answer.result().elapsed.total_seconds() < 10


def test_the_result_of_a_job_that_goes_on_is_not_ready(gateway: LoneGateway) -> None:
    response = gateway.client.get(f"/jobs/{accepted(gateway)}/result")
    assert response.status_code == 409
    assert code(response) == "result-not-ready"
    assert int(response.headers["retry-after"]) > 0


def test_a_failed_job_tells_why_in_its_document_and_in_place_of_its_picture(
    gateway: LoneGateway, redis_client: "Redis", pool: ThreadPoolExecutor
) -> None:
    answer = pool.submit(post, gateway.client, saved(drawn()))
    waits(redis_client)
    job_id = the_one_that_waits(redis_client)
    assert gateway.book.fail(claimed(gateway, job_id), BrokenImageError("It is cut off."), TIMINGS)
    for response in (answer.result(), gateway.client.get(f"/jobs/{job_id}/result")):
        assert response.status_code == 422
        assert code(response) == "broken-image"
        assert response.json()["detail"] == "It is cut off."
        assert response.headers["x-job-id"] == job_id
    job = gateway.client.get(f"/jobs/{job_id}").json()
    assert job["state"] == "failed"
    assert job["error"] == {"code": "broken-image", "detail": "It is cut off."}
    assert job["result"] is None


def test_a_failed_job_is_a_document_where_json_is_accepted(
    gateway: LoneGateway, redis_client: "Redis", pool: ThreadPoolExecutor
) -> None:
    answer = pool.submit(post, gateway.client, saved(drawn()), DOCUMENT)
    waits(redis_client)
    job_id = the_one_that_waits(redis_client)
    assert gateway.book.fail(claimed(gateway, job_id), JobTimeoutError("Too long."), TIMINGS)
    assert answer.result().status_code == 200
    assert answer.result().json()["error"]["code"] == "job-timeout"


def test_a_job_that_waits_can_be_canceled_and_again(gateway: LoneGateway) -> None:
    job_id = accepted(gateway)
    for _ in range(2):
        response = gateway.client.delete(f"/jobs/{job_id}")
        assert response.status_code == 200
        assert response.json()["state"] == "canceled"
    assert gateway.book.claim(job_id) is None
    response = gateway.client.get(f"/jobs/{job_id}/result")
    assert response.status_code == 409
    assert code(response) == "job-canceled"


def test_a_job_that_runs_can_be_canceled_and_its_worker_writes_no_more(gateway: LoneGateway) -> None:
    job_id = accepted(gateway)
    claim = claimed(gateway, job_id)
    assert gateway.client.delete(f"/jobs/{job_id}").json()["state"] == "canceled"
    assert not gateway.book.fail(claim, BrokenImageError("Late."), TIMINGS)
    assert gateway.client.get(f"/jobs/{job_id}").json()["state"] == "canceled"


def test_who_waits_for_a_canceled_job_hears_of_it(
    gateway: LoneGateway, redis_client: "Redis", pool: ThreadPoolExecutor
) -> None:
    answer = pool.submit(post, gateway.client, saved(drawn()))
    waits(redis_client)
    job_id = the_one_that_waits(redis_client)
    gateway.client.delete(f"/jobs/{job_id}")
    assert answer.result().status_code == 409
    assert code(answer.result()) == "job-canceled"


def test_an_ended_job_cannot_be_canceled(gateway: LoneGateway) -> None:
    job_id = accepted(gateway)
    succeed(gateway, job_id)
    response = gateway.client.delete(f"/jobs/{job_id}")
    assert response.status_code == 409
    assert code(response) == "job-finished"
    assert gateway.client.get(f"/jobs/{job_id}").json()["state"] == "succeeded"


ASK: list[Callable[[httpx.Client, str], httpx.Response]] = [
    lambda client, job_id: client.get(f"/jobs/{job_id}"),
    lambda client, job_id: client.get(f"/jobs/{job_id}", params={"wait": 5}),
    lambda client, job_id: client.get(f"/jobs/{job_id}/result"),
    lambda client, job_id: client.delete(f"/jobs/{job_id}"),
]


@pytest.mark.parametrize("job_id", ["0b1e5a3c-7d52-4a57-9d8c-2c5a0f6d7e11", "x", "%00%ff", "a" * 1000])
def test_an_unknown_job_is_404(gateway: LoneGateway, job_id: str) -> None:
    for ask in ASK:
        response = ask(gateway.client, job_id)
        assert response.status_code == 404
        assert code(response) == "job-not-found"


def test_an_expired_job_is_410_until_its_id_is_forgotten(gateways: Gateways) -> None:
    with gateways(result_seconds=1, tombstone_seconds=60) as gateway:
        job_id = accepted(gateway)
        succeed(gateway, job_id)
        assert gateway.client.get(f"/jobs/{job_id}").status_code == 200
        until(lambda: gateway.client.get(f"/jobs/{job_id}").status_code != 200, 10, "the job to expire")
        for ask in ASK:
            response = ask(gateway.client, job_id)
            assert response.status_code == 410
            assert code(response) == "job-expired"


def test_a_result_that_has_left_the_store_is_410(gateway: LoneGateway) -> None:
    job_id = accepted(gateway)
    succeed(gateway, job_id)
    gateway.images.sweep(timedelta(seconds=-60), in_use=())
    response = gateway.client.get(f"/jobs/{job_id}/result")
    assert response.status_code == 410
    assert code(response) == "job-expired"


# --- When something is missing -------------------------------------------------------------------------------------


def test_a_full_queue_is_503_with_a_hint(gateways: Gateways) -> None:
    with gateways(queue_limit=1) as gateway:
        first = accepted(gateway)
        response = post(gateway.client, saved(drawn()), headers=ASYNC)
        assert response.status_code == 503
        assert code(response) == "queue-full"
        assert int(response.headers["retry-after"]) > 0
        gateway.client.delete(f"/jobs/{first}")
        accepted(gateway)


def test_the_service_is_ready_while_a_worker_is(gateway: LoneGateway) -> None:
    response = gateway.client.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"ready": False, "checks": {"workers": "no worker is ready", "styles": "ok"}}
    assert "retry-after" in response.headers
    gateway.book.announce_worker("one", 30)
    response = gateway.client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"ready": True, "checks": {"workers": "ok", "styles": "ok"}}
    gateway.book.dismiss_worker("one")
    assert gateway.client.get("/readyz").status_code == 503


def test_without_redis_the_gateway_lives_and_says_what_is_missing(gateways: Gateways) -> None:
    with gateways(redis_url=f"redis://127.0.0.1:{free_port()}/0") as gateway:
        assert gateway.client.get("/livez").json() == {"status": "alive"}
        assert gateway.client.get("/styles").status_code == 200
        ready = gateway.client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["checks"]["workers"] != "ok"
        for response in (post(gateway.client, saved(drawn())), gateway.client.get("/jobs/x")):
            assert response.status_code == 503
            assert code(response) == "queue-unavailable"
            assert int(response.headers["retry-after"]) > 0
            assert response.elapsed.total_seconds() < 10


# --- Styles and the rest -------------------------------------------------------------------------------------------


def test_styles_are_listed_by_name_with_their_versions(client: httpx.Client) -> None:
    styles = client.get("/styles").json()["styles"]
    assert [(style["name"], style["version"]) for style in styles] == [("other", 1), ("tiny", 1)]


def test_a_style_may_be_asked_for_with_and_without_its_version(gateway: LoneGateway) -> None:
    style = gateway.client.get("/styles/tiny").json()
    assert (style["name"], style["version"], style["versions"]) == ("tiny", 1, [1])
    assert gateway.client.get("/styles/tiny@1").json() == style


@pytest.mark.parametrize("name", ["nobody", "tiny@2"])
def test_an_unknown_style_has_no_page(client: httpx.Client, name: str) -> None:
    response = client.get(f"/styles/{name}")
    assert response.status_code == 404
    assert code(response) == "style-not-found"


def test_the_name_of_a_style_must_be_one(client: httpx.Client) -> None:
    assert parameters(client.get("/styles/No such")) == ["style"]


def test_the_root_says_where_things_are(client: httpx.Client) -> None:
    index = client.get("/").json()
    for name in ("documentation", "openapi", "styles"):
        assert client.get(index[name]).status_code == 200
    assert client.get(index["stylize"]).status_code == 405


def test_the_gateway_does_not_say_what_it_is_made_of(client: httpx.Client) -> None:
    headers = client.get("/livez").headers
    assert "server" not in headers
    assert parsedate_to_datetime(headers["date"])


# --- The description -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def openapi(client: httpx.Client) -> dict[str, Any]:
    description: dict[str, Any] = client.get("/openapi.json").json()
    return description


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_the_description_has_every_address(openapi: dict[str, Any]) -> None:
    methods = {path: set(operations) for path, operations in openapi["paths"].items()}
    assert methods == {
        "/": {"get"},
        "/stylize": {"post"},
        "/jobs/{job_id}": {"get", "delete"},
        "/jobs/{job_id}/result": {"get"},
        "/styles": {"get"},
        "/styles/{name}": {"get"},
        "/livez": {"get"},
        "/readyz": {"get"},
    }
    assert openapi["openapi"].startswith("3.1")


def test_every_reference_of_the_description_leads_somewhere(openapi: dict[str, Any]) -> None:
    found = set(references(openapi))
    assert found
    for reference in found:
        node = openapi
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


def test_the_description_tells_the_three_forms_of_a_request(openapi: dict[str, Any]) -> None:
    stylize = openapi["paths"]["/stylize"]["post"]
    forms = stylize["requestBody"]["content"]
    options = {"style", "size", "format", "quality"}
    assert set(forms) == {"multipart/form-data", "image/*", "application/json"}
    assert set(forms["multipart/form-data"]["schema"]["properties"]) == {"image", *options}
    assert set(forms["application/json"]["schema"]["properties"]) == {"image", *options}
    assert {parameter["name"] for parameter in stylize["parameters"]} == options
    assert set(stylize["responses"]["200"]["content"]) == {*MediaType, "application/json"}


def test_every_failure_is_described_as_a_problem(openapi: dict[str, Any]) -> None:
    for path, operations in openapi["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400 and path != "/readyz":
                    assert set(response["content"]) == {"application/problem+json"}, (path, status)
