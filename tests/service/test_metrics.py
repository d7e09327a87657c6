"""What Prometheus reads of a gateway."""

import socket

import httpx
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from structlog.testing import capture_logs

from contract.errors import BrokenImageError
from service.problems import BY_CODE
from tests.conftest import until
from tests.contract.conftest import silence
from tests.service.conftest import (
    ALONE,
    ASYNC,
    PATIENCE_SECONDS,
    TIMINGS,
    Gateways,
    LoneGateway,
    accepted,
    claimed,
    code,
    drawn,
    post,
    saved,
    succeed,
    train,
    waits,
)


def told(gateway: LoneGateway, name: str, **labels: str) -> float | None:
    """One figure; None when it is not there."""
    response = gateway.client.get("/metrics")
    assert response.status_code == 200
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return None


def test_requests_are_counted_by_the_template_of_their_address_and_their_status(gateway: LoneGateway) -> None:
    for _ in range(2):
        gateway.client.get(f"/jobs/{accepted(gateway)}")
    gateway.client.get("/jobs/x")
    name = "atelier_http_request_seconds_count"
    assert told(gateway, name, method="GET", route="/jobs/{job_id}", status="200") == 2
    assert told(gateway, name, method="GET", route="/jobs/{job_id}", status="404") == 1
    assert told(gateway, name, method="POST", route="/stylize", status="202") == 2


def test_a_client_makes_up_no_label(gateway: LoneGateway) -> None:
    for number in range(3):
        gateway.client.request(f"MADE{number}", f"/made/up/{number}")
        gateway.client.request(f"MADE{number}", "/stylize")
    assert told(gateway, "atelier_http_request_seconds_count", method="none", route="none", status="404") == 3
    assert told(gateway, "atelier_http_request_seconds_count", method="none", route="/stylize", status="405") == 3
    assert "made" not in gateway.client.get("/metrics").text.lower()


def test_a_wait_counts_as_time_and_a_stream_does_not(gateway: LoneGateway) -> None:
    job_id = accepted(gateway)
    gateway.client.get(f"/jobs/{job_id}", params={"wait": 0.4})
    seconds = told(gateway, "atelier_http_request_seconds_sum", method="GET", route="/jobs/{job_id}", status="200")
    assert seconds is not None
    assert 0.4 <= seconds < 10
    with gateway.client.stream("GET", f"/jobs/{job_id}/events"):
        waits(gateway)
        labels = {"method": "GET", "route": "/jobs/{job_id}/events", "status": "200"}
        assert told(gateway, "atelier_http_request_seconds_count", **labels) == 1
        assert told(gateway, "atelier_listeners") == 1


def test_jobs_are_counted_where_they_begin_and_where_they_end(gateway: LoneGateway) -> None:
    first = post(gateway.client, saved(drawn()), headers=ASYNC).json()["id"]
    post(gateway.client, saved(drawn()), headers=ASYNC)
    succeed(gateway, first)
    post(gateway.client, saved(drawn()))
    failed = claimed(gateway, accepted(gateway))
    gateway.book.fail(failed, BrokenImageError("It is cut off."), TIMINGS)
    gateway.client.delete(f"/jobs/{train(gateway.client, saved(drawn()), name='new').json()['id']}")
    admitted, finished = "atelier_jobs_admitted_total", "atelier_jobs_finished_total"
    assert told(gateway, admitted, kind="stylize", how="created") == 2
    assert told(gateway, admitted, kind="stylize", how="shared") == 1
    assert told(gateway, admitted, kind="stylize", how="hit") == 1
    assert told(gateway, admitted, kind="train", how="created") == 1
    assert told(gateway, finished, kind="stylize", state="succeeded") == 1
    assert told(gateway, finished, kind="stylize", state="failed") == 1
    assert told(gateway, finished, kind="train", state="canceled") == 1


def test_refusals_are_counted_by_their_code(gateway: LoneGateway) -> None:
    for _ in range(2):
        gateway.client.get("/jobs/x")
    gateway.client.get("/nowhere")
    gateway.client.post("/limits")
    post(gateway.client, b"no picture")
    gateway.client.get("/capacity?unknown=1")
    counted = {code: told(gateway, "atelier_requests_refused_total", code=code) for code in BY_CODE}
    assert {code: count for code, count in counted.items() if count} == {
        "job-not-found": 2,
        "not-found": 1,
        "method-not-allowed": 1,
        "unsupported-image": 1,
    }


def test_a_fault_of_ours_is_counted_though_its_answer_is_given_further_out(
    gateway: LoneGateway, redis_client: "Redis"
) -> None:
    redis_client.hset("atelier:job:damaged", "state", "no state at all")
    with capture_logs():
        response = httpx.get(gateway.client.base_url.join("/jobs/damaged"), timeout=PATIENCE_SECONDS)
    assert response.status_code == 500
    assert told(gateway, "atelier_requests_refused_total", code="internal-error") == 1


def test_what_the_reaper_does_is_counted_and_what_comes_twice(gateway: LoneGateway, redis_client: "Redis") -> None:
    lost = claimed(gateway, accepted(gateway))
    silence(redis_client, lost.job_id)
    redis_client.delete("atelier:stylize")
    assert gateway.queue.reap() == 1
    assert gateway.book.pick().claim is not None
    for _ in range(2):
        assert gateway.book.pick().claim is None
    assert told(gateway, "atelier_jobs_reaped_total", kind="stylize", how="queued") == 1
    assert told(gateway, "atelier_jobs_reaped_total", kind="stylize", how="ticket") == 1
    assert told(gateway, "atelier_tickets_in_vain_total", kind="stylize", found="nothing") == 2


def test_the_process_tells_of_itself(gateway: LoneGateway) -> None:
    resident = told(gateway, "process_resident_memory_bytes")
    assert resident is not None
    assert resident > 1e7


def test_queues_and_workers_are_told(gateway: LoneGateway) -> None:
    claimed(gateway, accepted(gateway))
    accepted(gateway)
    gateway.workers.announce("a-worker", 60)
    assert told(gateway, "atelier_queue_jobs", kind="stylize", priority="normal") == 1
    assert told(gateway, "atelier_running_jobs", kind="stylize") == 1
    assert told(gateway, "atelier_ready_processes", kind="stylize") == 1
    assert told(gateway, "atelier_ready_processes", kind="train") == 0
    oldest = told(gateway, "atelier_queue_oldest_seconds", kind="stylize")
    assert oldest is not None
    assert 0 < oldest < 30
    assert told(gateway, "atelier_redis_up") == 1


def test_uploads_that_come_in_are_told(gateway: LoneGateway) -> None:
    address = gateway.client.base_url
    with socket.create_connection((address.host, address.port or 80)) as upload:
        head = "POST /stylize HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\n"
        upload.sendall(head.encode())
        until(lambda: told(gateway, "atelier_uploads") == 1, what="the upload")
    until(lambda: told(gateway, "atelier_uploads") == 0, what="the upload to be given up")


def test_without_redis_there_are_metrics_still(gateways: Gateways) -> None:
    with gateways(redis_url="redis://127.0.0.1:1/0") as gateway:
        assert code(post(gateway.client, saved(drawn()), headers=ALONE)) == "queue-unavailable"
        assert told(gateway, "atelier_redis_up") == 0
        assert told(gateway, "atelier_queue_jobs", kind="stylize", priority="normal") is None
        name = "atelier_http_request_seconds_count"
        assert told(gateway, name, method="POST", route="/stylize", status="503") == 1


def test_only_this_machine_reads_metrics_unless_it_is_said_otherwise(gateways: Gateways) -> None:
    far = {"X-Forwarded-For": "203.0.113.7"}  # uvicorn believes a proxy on this machine
    with gateways() as gateway:
        assert gateway.client.get("/metrics").status_code == 200
        response = gateway.client.get("/metrics", headers=far)
        assert response.status_code == 403
        assert code(response) == "forbidden"
    with gateways(metrics_public=True) as gateway:
        assert gateway.client.get("/metrics", headers=far).status_code == 200
