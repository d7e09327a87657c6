"""When the service says that it can do its work."""

import shutil
from pathlib import Path

from tests.conftest import free_port
from tests.service.conftest import Gateways, LoneGateway, accepted, claimed, drawn, saved, train

FINE = {
    "redis": "ok",
    "store": "ok",
    "workers": "ok",
    "trainers": "ok",
    "styles": "ok",
    "queue": "pictures: 0 waiting, 0 running; styles: 0 waiting, 0 running",
}


def test_the_service_is_ready_while_a_worker_is(gateway: LoneGateway) -> None:
    gateway.trainers.announce("one", 30)
    response = gateway.client.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"ready": False, "checks": {**FINE, "workers": "no worker is ready"}}
    assert "retry-after" in response.headers
    gateway.workers.announce("one", 30)
    response = gateway.client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"ready": True, "checks": FINE}
    gateway.workers.dismiss("one")
    assert gateway.client.get("/readyz").status_code == 503


def test_a_gateway_takes_jobs_while_no_worker_is_ready(gateway: LoneGateway, tmp_path: Path) -> None:
    """A balancer that asked for the service would take every gateway away, with the results that are there."""
    response = gateway.client.get("/readyz?of=gateway")
    assert response.status_code == 200
    assert response.json()["ready"]
    assert response.json()["checks"]["workers"] == "no worker is ready"
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "store").write_text("a file where the store was")
    assert gateway.client.get("/readyz?of=gateway").status_code == 503


def test_a_part_that_there_is_not_is_refused(gateway: LoneGateway) -> None:
    response = gateway.client.get("/readyz?of=trainer")
    assert response.status_code == 422
    assert response.json()["code"] == "invalid-parameter"


def test_a_missing_style_is_a_hint_and_no_hindrance(gateway: LoneGateway, tmp_path: Path) -> None:
    gateway.workers.announce("one", 30)
    shutil.rmtree(tmp_path / "store" / "styles")
    response = gateway.client.get("/readyz")
    assert response.status_code == 200
    assert response.json()["ready"]
    assert "import" in response.json()["checks"]["styles"]


def test_a_missing_trainer_is_a_hint_and_no_hindrance(gateway: LoneGateway) -> None:
    gateway.workers.announce("one", 30)
    response = gateway.client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {
        "ready": True,
        "checks": {**FINE, "trainers": "no trainer is ready: new styles have to wait"},
    }


def test_a_store_out_of_reach_is_a_hindrance(gateway: LoneGateway, tmp_path: Path) -> None:
    gateway.workers.announce("one", 30)
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "store").write_text("a file where the store was")
    response = gateway.client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"]["store"] != "ok"


def test_without_redis_nothing_works(gateways: Gateways) -> None:
    with gateways(redis_url=f"redis://127.0.0.1:{free_port()}/0") as gateway:
        response = gateway.client.get("/readyz")
        assert gateway.client.get("/readyz?of=gateway").status_code == 503
    assert response.status_code == 503
    checks = response.json()["checks"]
    assert "ok" not in (checks["redis"], checks["workers"], checks["trainers"])
    assert checks["store"] == checks["styles"] == "ok"
    assert response.elapsed.total_seconds() < 10


def test_the_queues_are_told(gateway: LoneGateway) -> None:
    jobs = [accepted(gateway) for _ in range(3)]
    claimed(gateway, jobs[0])
    train(gateway.client, saved(drawn()), name="new")
    queue = gateway.client.get("/readyz").json()["checks"]["queue"]
    assert queue == "pictures: 2 waiting, 1 running; styles: 1 waiting, 0 running"
