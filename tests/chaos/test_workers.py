"""Workers that die, freeze and come back: every job is done, and once."""

import resource
import signal
import threading
from pathlib import Path

import pytest
from PIL import Image

from tests.chaos.conftest import PATIENCE_SECONDS, House
from tests.chaos.processes import MEMORY_SIDE, POISON_SIDE
from tests.conftest import until
from tests.pictures import encoded

pytestmark = pytest.mark.timeout(400)

WINDOWS = ("before the work", "after the work", "after the commit")


@pytest.mark.parametrize("window", WINDOWS)
def test_a_worker_killed_in_any_window_loses_no_job_and_does_none_twice(house: House, window: str) -> None:
    with house.closed("first", window):
        house.start("first")
        job = house.accepted()
        house.reached("first", window)
        house.kill("first")
    committed = window == "after the commit"
    assert house.state(job) == ("succeeded" if committed else "running")
    house.start("second")
    others = house.accepted_many(3)
    house.all_succeed([job, *others])
    assert house.job(job)["attempt"] == (1 if committed else 2)
    assert house.ended() == 4
    assert house.client.get(f"/jobs/{job}/result").status_code == 200


def test_every_ticket_delivered_three_times_does_each_job_once(house: House) -> None:
    jobs = house.accepted_many(6)
    redis = house.redis.client
    lists = [key for key in redis.scan_iter("atelier:*") if redis.type(key) == "list"]
    tickets = {key: redis.lrange(key, 0, -1) for key in lists}
    assert sum(map(len, tickets.values())) > 0
    for key, messages in tickets.items():
        redis.lpush(key, *messages, *messages)
    house.start("worker")
    house.all_succeed(jobs)
    until(lambda: not any(redis.llen(key) for key in lists), what="all tickets to be taken")
    assert {house.job(job)["attempt"] for job in jobs} == {1}
    assert house.ended() == 6


def test_a_worker_that_freezes_past_its_heartbeat_and_wakes_up_is_refused(house: House) -> None:
    with house.closed("zombie", "after the work"):
        house.start("zombie")
        job = house.accepted()
        house.reached("zombie", "after the work")
        house.send("zombie", signal.SIGSTOP)
        house.start("other")
        house.all_succeed([job])
        first = house.client.get(f"/jobs/{job}/result").headers["ETag"]
    house.send("zombie", signal.SIGCONT)
    until(lambda: "refused" in house.log("zombie"), PATIENCE_SECONDS, "the zombie to be refused")
    assert house.job(job)["attempt"] == 2
    assert house.ended() == 1
    assert house.client.get(f"/jobs/{job}/result").headers["ETag"] == first
    house.kill("other")
    house.all_succeed([house.accepted()])  # by the one that woke up


def test_a_picture_that_kills_its_workers_fails_after_three_attempts_and_harms_nobody(house: House) -> None:
    stop, deaths = threading.Event(), list[int]()

    def supervise() -> None:
        while not stop.is_set():
            house.start(f"worker-{len(deaths)}")
            process = house.processes[f"worker-{len(deaths)}"]
            while process.is_alive() and not stop.wait(0.02):
                pass
            deaths.append(process.exitcode)

    before = house.accepted_many(2)
    poison = house.accepted(size=POISON_SIDE)
    after = house.accepted_many(3)
    supervisor = threading.Thread(target=supervise)
    supervisor.start()
    try:
        house.all_succeed([*before, *after])
        until(lambda: house.state(poison) == "failed", PATIENCE_SECONDS, "the poison to be found out")
        house.all_succeed([house.accepted()])
    finally:
        stop.set()
        supervisor.join()
    assert house.job(poison)["error"]["code"] == "poison-job"
    assert [code for code in deaths if code == -signal.SIGKILL] == [-signal.SIGKILL] * 3
    assert (house.ended(), house.ended("failed")) == (6, 1)


def test_memory_that_runs_out_where_a_job_ends_stops_nobody(house: House) -> None:
    """More often than the pool has threads: each would be gone if it were lost."""
    house.start("worker", ATELIER_CONCURRENCY="2", ATELIER_ATTEMPTS="1")
    for _ in range(4):
        house.accepted(size=MEMORY_SIDE)
    until(lambda: house.log("worker").count("MemoryError") >= 4, PATIENCE_SECONDS, "four of them")
    house.all_succeed([house.accepted()])


def test_memory_that_really_runs_out_fails_that_job_alone(house: House) -> None:
    house.start("worker")
    house.all_succeed([house.accepted()])
    worker = house.processes["worker"].pid
    mapped = next(line for line in Path(f"/proc/{worker}/status").read_text().splitlines() if "VmSize" in line)
    limit = int(mapped.split()[1]) * 1024 + 64 * 2**20
    resource.prlimit(worker, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    large = house.accepted(content=encoded(Image.new("RGB", (6000, 6000), "teal")))
    small = house.accepted()
    until(lambda: house.state(large) == "failed", PATIENCE_SECONDS, "the large one to fail")
    assert house.job(large)["error"]["code"] == "out-of-memory"
    house.all_succeed([small])
    resource.prlimit(worker, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    house.all_succeed([house.accepted(side=500)])
    assert house.processes["worker"].is_alive()
