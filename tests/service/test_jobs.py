"""What becomes of a job, and what is said of it: a gateway without workers, and the test does their work."""

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest
from redis import Redis

from contract.errors import BrokenImageError, JobTimeoutError
from tests.conftest import claim_of, free_port, until
from tests.service.conftest import (
    ALONE,
    ASYNC,
    DOCUMENT,
    TIMINGS,
    Gateways,
    LoneGateway,
    accepted,
    claimed,
    code,
    drawn,
    parameters,
    post,
    saved,
    succeed,
    the_one_that_waits,
    train,
    waits,
)


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


def test_the_jobs_that_wait_or_run_are_listed_as_they_are_told_of(gateway: LoneGateway) -> None:
    first, second, third = accepted(gateway), accepted(gateway), accepted(gateway)
    claimed(gateway, first)
    succeed(gateway, second)
    response = gateway.client.get("/jobs")
    told = [gateway.client.get(f"/jobs/{job_id}").json() for job_id in (first, third)]
    assert response.json() == {"jobs": told, "total": 2}
    assert [job["state"] for job in told] == ["running", "queued"]
    assert response.headers["cache-control"] == "no-store"
    one = gateway.client.get("/jobs", params={"limit": 1}).json()
    assert ([job["id"] for job in one["jobs"]], one["total"]) == ([first], 2)


def test_jobs_of_a_kind_or_in_a_state_are_listed_by_themselves(gateway: LoneGateway) -> None:
    runs, training = accepted(gateway), train(gateway.client, saved(drawn()), name="new").json()["id"]
    claimed(gateway, runs)
    for asked, expected in (({"kind": "train"}, [training]), ({"state": "running"}, [runs]), ({"kind": "batch"}, [])):
        found = gateway.client.get("/jobs", params=asked).json()
        assert ([job["id"] for job in found["jobs"]], found["total"]) == (expected, len(expected))


@pytest.mark.parametrize(
    ("name", "value"), [("limit", "0"), ("limit", "1001"), ("limit", "many"), ("kind", "texture"), ("state", "failed")]
)
def test_a_list_of_jobs_that_there_is_not_is_refused(gateway: LoneGateway, name: str, value: str) -> None:
    assert parameters(gateway.client.get("/jobs", params={name: value})) == [name]


def test_where_strangers_need_no_key_they_are_not_told_of_jobs(gateways: Gateways) -> None:
    """Whoever has a job's id may have its picture."""
    with gateways(bind="192.0.2.1", allow_anonymous=True) as gateway:
        job_id = accepted(gateway)
        assert gateway.client.get(f"/jobs/{job_id}").is_success
        assert code(gateway.client.get("/jobs")) == "forbidden"
    with gateways(bind="127.0.0.1", allow_anonymous=True) as gateway:
        assert gateway.client.get("/jobs").is_success


def test_post_answers_when_the_job_ends(gateway: LoneGateway, redis_client: "Redis", pool: ThreadPoolExecutor) -> None:
    answer = pool.submit(post, gateway.client, saved(drawn()))
    waits(gateway)
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
    waits(gateway)
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


def test_when_the_wait_runs_out_the_job_is_told_as_it_is_by_then(
    gateway: LoneGateway, redis_client: "Redis", pool: ThreadPoolExecutor
) -> None:
    answer = pool.submit(post, gateway.client, saved(drawn()), {"Prefer": "wait=1"})
    waits(gateway)
    claimed(gateway, the_one_that_waits(redis_client))
    assert answer.result().status_code == 202
    assert answer.result().json()["state"] == "running"


def test_respond_async_with_a_wait_is_applied_when_the_wait_runs_out(
    gateway: LoneGateway, redis_client: "Redis", pool: ThreadPoolExecutor
) -> None:
    late = post(gateway.client, saved(drawn()), headers={"Prefer": "respond-async, wait=1"})
    assert late.status_code == 202
    assert late.headers["preference-applied"] == "respond-async, wait=1"
    gateway.client.delete(late.headers["location"])
    answer = pool.submit(post, gateway.client, saved(drawn()), {"Prefer": "respond-async, wait=50"})
    waits(gateway)
    succeed(gateway, the_one_that_waits(redis_client))
    assert answer.result().status_code == 200
    assert answer.result().headers["preference-applied"] == "wait=50"


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
    waits(gateway)
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
    waits(gateway)
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
    waits(gateway)
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
    assert claim_of(gateway.book, job_id) is None
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
    waits(gateway)
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
    lambda client, job_id: client.get(f"/jobs/{job_id}/events"),
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
        response = post(gateway.client, saved(drawn()), headers={**ASYNC, **ALONE})
        assert response.status_code == 503
        assert code(response) == "queue-full"
        assert int(response.headers["retry-after"]) > 0
        gateway.client.delete(f"/jobs/{first}")
        accepted(gateway)


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
