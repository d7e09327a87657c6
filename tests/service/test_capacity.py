"""How busy the service is, and what it holds requests against."""

import pytest
from redis import Redis

from contract.admission import Terms
from contract.jobbook import JobBook
from contract.jobs import Priority
from contract.settings import ContractSettings
from service.capacity import estimated_wait, jobs_before
from service.settings import ServiceSettings
from tests.contract.conftest import a_job
from tests.service.conftest import (
    ALONE,
    ASYNC,
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
)

NO_LIMITS = {"port", "heartbeat_seconds", "lost_after_seconds", "ping_seconds"}
"""Settings that are numbers, and no limits."""


def test_an_idle_service_knows_nothing_of_waiting(gateway: LoneGateway) -> None:
    response = gateway.client.get("/capacity")
    assert response.headers["cache-control"] == "no-store"
    assert response.json()["stylize"] == {
        "queued": 0,
        "running": 0,
        "queue_limit": 256,
        "oldest_seconds": None,
        "processes": 0,
        "mean_seconds": None,
        "estimated_wait_seconds": None,
        "priorities": {
            "interactive": {"queued": 0, "queue_limit": 256, "estimated_wait_seconds": None},
            "normal": {"queued": 0, "queue_limit": 224, "estimated_wait_seconds": None},
            "batch": {"queued": 0, "queue_limit": 192, "estimated_wait_seconds": None},
        },
    }
    assert response.json()["train"]["queue_limit"] == 16


def test_what_waits_and_runs_is_counted_by_kind(gateway: LoneGateway) -> None:
    claimed(gateway, accepted(gateway))
    accepted(gateway)
    train(gateway.client, saved(drawn()), name="new")
    gateway.workers.announce("a-worker", 60)
    capacity = gateway.client.get("/capacity").json()
    pictures, styles = capacity["stylize"], capacity["train"]
    assert (pictures["queued"], pictures["running"], pictures["processes"]) == (1, 1, 1)
    assert (styles["queued"], styles["running"], styles["processes"]) == (1, 0, 0)
    assert 0 <= pictures["oldest_seconds"] < 30


def test_the_oldest_is_the_one_that_was_sent_first_even_if_it_was_put_back(
    gateway: LoneGateway, redis_client: "Redis"
) -> None:
    first, _ = accepted(gateway), accepted(gateway)
    created = float(redis_client.hget(f"atelier:job:{first}", "created_at") or 0)
    redis_client.hset(f"atelier:job:{first}", "created_at", str(created - 100))
    gateway.book.release(claimed(gateway, first))
    assert 100 <= gateway.client.get("/capacity").json()["stylize"]["oldest_seconds"] < 130


def test_the_wait_is_estimated_from_how_long_jobs_took(gateway: LoneGateway, redis_client: "Redis") -> None:
    gateway.workers.announce("a-worker", 60)
    job_id = accepted(gateway)
    claim = claimed(gateway, job_id)
    started = float(redis_client.hget(f"atelier:job:{job_id}", "started_at") or 0)
    redis_client.hset(f"atelier:job:{job_id}", "started_at", str(started - 10))
    gateway.book.cancel(job_id)
    assert gateway.client.get("/capacity").json()["stylize"]["mean_seconds"] is None, "it has not succeeded"
    assert claim is not None
    for _ in range(3):
        job_id = accepted(gateway)
        succeed_after(gateway, redis_client, job_id, seconds=10)
    for _ in range(4):
        accepted(gateway)
    found = gateway.client.get("/capacity").json()["stylize"]
    assert 10 <= found["mean_seconds"] < 12
    assert found["estimated_wait_seconds"] == pytest.approx(4 * found["mean_seconds"], abs=0.01)


def succeed_after(gateway: LoneGateway, redis_client: "Redis", job_id: str, seconds: float) -> None:
    """As if the worker had needed this long."""
    succeed(
        gateway,
        job_id,
        before_the_end=lambda: redis_client.hincrbyfloat(f"atelier:job:{job_id}", "started_at", -seconds),
    )


@pytest.mark.parametrize(
    ("jobs", "at_once", "mean", "expected"),
    [
        (0, 0, 5.0, None),
        (9, 0, 5.0, None),
        (0, 4, None, 0.0),
        (9, 1, None, None),
        (9, 3, 5.0, 15.0),
        (8, 4, 5.0, 10.0),
    ],
)
def test_jobs_wait_for_their_turn_among_those_that_run(
    jobs: float, at_once: int, mean: float | None, expected: float | None
) -> None:
    assert estimated_wait(jobs, at_once, mean) == expected


@pytest.mark.parametrize(
    "waiting", [(0, 0, 0), (5, 0, 0), (0, 5, 3), (10, 10, 10), (40, 2, 0), (2, 40, 40), (100, 0, 6)]
)
@pytest.mark.parametrize("priority", Priority)
def test_the_jobs_before_a_new_one_are_those_that_are_picked_before_it(
    redis_client: "Redis", settings: ContractSettings, waiting: tuple[int, int, int], priority: Priority
) -> None:
    """To within the share of the classes: the estimate does not know how much of its share each has had."""
    book = JobBook(redis_client, settings.model_copy(update={"queue_limit": 1000}))
    for each, count in zip(Priority, waiting, strict=True):
        for _ in range(count):
            book.admit(a_job(), Terms(priority=each))
    expected = jobs_before(priority, book.waiting())
    mine = book.admit(a_job(), Terms(priority=priority)).record.id
    before = 0
    while (claim := book.pick().claim) and claim.job_id != mine:
        before += 1
    assert before == pytest.approx(expected, rel=0.2, abs=2)


def test_what_waits_is_told_by_priority(gateway: LoneGateway) -> None:
    for priority in ("interactive", "batch", "batch"):
        post(gateway.client, saved(drawn()), {**ASYNC, **ALONE}, priority=priority)
    found = gateway.client.get("/capacity").json()["stylize"]["priorities"]
    assert {priority: told["queued"] for priority, told in found.items()} == {"interactive": 1, "normal": 0, "batch": 2}


def test_without_redis_nobody_knows(gateways: Gateways) -> None:
    with gateways(redis_url="redis://127.0.0.1:1/0") as gateway:
        assert code(gateway.client.get("/capacity")) == "queue-unavailable"
        assert gateway.client.get("/limits").status_code == 200


def test_every_setting_that_is_a_limit_is_listed_with_its_value(gateways: Gateways) -> None:
    changes = {"max_body_megabytes": 2, "max_megapixels": 0.5, "queue_limit": 7, "max_waiting": 3}
    with gateways(**changes) as gateway:
        listed = gateway.client.get("/limits").json()["limits"]
    fields = ServiceSettings.model_fields
    numbers = {name for name, field in fields.items() if field.annotation in (int, float)} - NO_LIMITS
    assert {item["setting"] for item in listed if item["setting"]} == {f"ATELIER_{name.upper()}" for name in numbers}
    values = {item["setting"]: item["value"] for item in listed}
    assert values["ATELIER_MAX_BODY_MEGABYTES"] == 2 * 2**20
    assert values["ATELIER_MAX_MEGAPIXELS"] == 500_000
    assert (values["ATELIER_QUEUE_LIMIT"], values["ATELIER_MAX_WAITING"]) == (7, 3)
    assert len({item["name"] for item in listed}) == len(listed)


def test_what_is_listed_is_what_is_held(gateways: Gateways) -> None:
    with gateways(max_body_megabytes=0.1, queue_limit=1, max_side=100) as gateway:
        limits = {item["name"]: item["value"] for item in gateway.client.get("/limits").json()["limits"]}
        body = round(limits["body"])
        assert code(post(gateway.client, bytes(body + 1))) == "body-too-large"
        assert code(post(gateway.client, bytes(body))) == "unsupported-image"
        side = round(limits["side"])
        assert code(post(gateway.client, saved(drawn(side + 1, 16)))) == "image-too-large"
        key = "k" * round(limits["idempotency_key"])
        wide = post(gateway.client, saved(drawn(side, 16)), {**ASYNC, **ALONE, "Idempotency-Key": key})
        assert wide.status_code == 202
        assert (
            code(post(gateway.client, saved(drawn()), {**ASYNC, "Idempotency-Key": key + "k"})) == "invalid-parameter"
        )
        assert code(post(gateway.client, saved(drawn()), {**ASYNC, **ALONE})) == "queue-full"
