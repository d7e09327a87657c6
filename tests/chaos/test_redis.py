"""Redis dies, forgets everything, falls silent, is full, or is behind a wire that is cut."""

import signal
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.chaos.conftest import PATIENCE_SECONDS, House, Houses
from tests.chaos.proxy import Wire
from tests.conftest import until

pytestmark = pytest.mark.timeout(400)

BROKEN_SECONDS = 35
"""Longer than a worker waits for an answer."""
HANG_SECONDS = 30
"""Whoever waits longer for an answer than this hangs: three tries of Redis, and a busy machine."""


@pytest.fixture
def wire(houses: Houses) -> Iterator[tuple[House, Wire]]:
    """A house whose worker ``worker`` reaches Redis over a wire."""
    house = houses()
    wire = Wire(house.redis.port)
    house.start("worker", ATELIER_REDIS_URL=f"redis://127.0.0.1:{wire.port}/0")
    house.ready()
    yield house, wire
    wire.close()


def is_told_to_come_back(answer: httpx.Response) -> bool:
    """Whether it is the one refusal that is allowed while Redis is away."""
    return (
        answer.status_code == 503
        and int(answer.headers["Retry-After"]) > 0
        and answer.json()["code"] == "queue-unavailable"
        and answer.elapsed.total_seconds() < HANG_SECONDS
    )


def test_a_redis_that_is_killed_comes_back_with_all_that_was_accepted(house: House) -> None:
    house.start("worker")
    done = house.accepted()
    house.all_succeed([done])
    with house.closed("worker", "after the work"):
        running = house.accepted()
        house.reached("worker", "after the work")
        waiting = house.accepted_many(5)
        house.redis.kill()
        assert is_told_to_come_back(house.post())
        assert is_told_to_come_back(house.client.get(f"/jobs/{done}"))
        assert house.get("/livez") == 200
        house.redis.start()
    house.all_succeed([done, running, *waiting])
    assert house.ended() == 7


def test_a_redis_that_forgets_everything_makes_ids_unknown_and_stops_nobody(house: House) -> None:
    house.start("worker")
    done = house.accepted()
    house.all_succeed([done])
    with house.closed("worker", "after the work"):
        jobs = [done, house.accepted()]
        house.reached("worker", "after the work")
        jobs += house.accepted_many(3)
        answers: list[int] = []
        waits = [
            threading.Thread(target=lambda: answers.append(house.get(f"/jobs/{jobs[1]}?wait=3"))),
            threading.Thread(target=lambda: answers.append(house.get(f"/jobs/{jobs[2]}/events"))),
        ]
        for wait in waits:
            wait.start()
        until(lambda: "atelier_listeners 2" in house.client.get("/metrics").text, what="two that listen")
        house.redis.client.flushall()
    for wait in waits:
        wait.join(HANG_SECONDS)
        assert not wait.is_alive()
    assert set(answers) <= {200, 404, 410}
    assert {house.get(f"/jobs/{job}") for job in jobs} <= {404, 410}
    assert {house.get(f"/jobs/{job}/result") for job in jobs} <= {404, 410}
    house.all_succeed(house.accepted_many(3))
    house.ready()


@pytest.mark.parametrize("seconds", [4, pytest.param(30, marks=pytest.mark.chaos)])
def test_a_redis_that_says_nothing_for_a_while_is_waited_for(house: House, seconds: float) -> None:
    house.start("worker")
    done = house.accepted()
    house.all_succeed([done])
    waiting = house.accepted_many(5)
    house.redis.process.send_signal(signal.SIGSTOP)
    paused = time.monotonic()
    try:
        answers = [house.client.get(f"/jobs/{done}")]
        while time.monotonic() - paused < seconds:
            answers.append(house.post())
        assert house.get("/livez") == 200
    finally:
        house.redis.process.send_signal(signal.SIGCONT)
    assert all(is_told_to_come_back(answer) or answer.is_success for answer in answers)
    assert any(map(is_told_to_come_back, answers))
    house.all_succeed([*waiting, house.accepted()])
    house.ready()


def test_a_redis_that_is_full_takes_no_job_and_loses_none(house: House) -> None:
    """Celery ends a worker that cannot acknowledge what it did, so its supervisor has to start another."""
    house.start("worker", ATELIER_CONCURRENCY="1")
    with house.closed("worker", "after the work"):
        running = house.accepted()
        house.reached("worker", "after the work")
        waiting = house.accepted_many(3)
        before = house.client.get("/capacity").json()["stylize"]
        house.redis.client.config_set("maxmemory", "1")
        for _ in range(3):
            assert is_told_to_come_back(house.post())
        assert house.state(running) == "running"
        assert set(map(house.state, waiting)) == {"queued"}
    until(lambda: "redis was lost" in house.log("worker"), PATIENCE_SECONDS, "the worker to notice")
    house.redis.client.config_set("maxmemory", "0")
    assert house.client.get("/capacity").json()["stylize"]["queued"] <= before["queued"] + 1
    house.kill("worker")
    house.start("next")
    house.all_succeed([running, *waiting, house.accepted()])
    assert house.ended() == 5


def test_a_worker_whose_wire_is_cut_is_given_no_time_and_goes_on_when_it_is_mended(wire: tuple[House, Wire]) -> None:
    house, cable = wire
    with house.closed("worker", "after the work"):
        running = house.accepted()
        house.reached("worker", "after the work")
        cable.cut()
        waiting = house.accepted_many(3)
        until(lambda: house.state(running) == "queued", PATIENCE_SECONDS, "the job to be put back")
        assert house.get("/readyz") == 503
    cable.mend()
    house.all_succeed([running, *waiting])
    assert house.ended() == 4


@pytest.mark.chaos
def test_a_worker_whose_wire_is_dead_is_replaced_and_its_late_result_refused(wire: tuple[House, Wire]) -> None:
    """Nothing tells it that the wire is dead, so it has to find out, and does so within BROKER_SOCKET_SECONDS."""
    house, cable = wire
    with house.closed("worker", "after the work"):
        running = house.accepted()
        house.reached("worker", "after the work")
        cable.die()
        died = time.monotonic()
        house.start("other")
        waiting = house.accepted_many(3)
        house.all_succeed([running, *waiting])
    until(lambda: time.monotonic() - died > BROKEN_SECONDS, 60, "the worker to notice")
    cable.mend()
    house.kill("other")
    house.all_succeed(house.accepted_many(3), 3 * PATIENCE_SECONDS)
    assert house.job(running)["attempt"] == 2
    assert house.ended() == 7
