"""Who is there, and who has fallen silent."""

import os
import subprocess
import sys

import pytest
from redis import Redis

from contract.errors import QueueUnavailableError
from contract.jobbook import connect
from contract.presence import Presence, process_name
from tests.conftest import free_port, until


def test_processes_are_there_while_they_say_so(redis_client: "Redis") -> None:
    presence = Presence(redis_client, "worker")
    assert presence.names() == []
    presence.announce("b", 30)
    presence.announce("a", 30)
    assert presence.names() == ["a", "b"]
    presence.dismiss("a")
    presence.dismiss("never-seen")
    assert presence.names() == ["b"]


def test_a_process_that_falls_silent_is_not_counted_and_not_kept(redis_client: "Redis") -> None:
    presence = Presence(redis_client, "worker")
    presence.announce("silent", 0.05)
    presence.announce("alive", 30)
    until(lambda: presence.names() == ["alive"], what="the silent one to go")
    assert redis_client.zcard("atelier:workers") == 1


def test_workers_and_trainers_are_told_apart(redis_client: "Redis") -> None:
    Presence(redis_client, "trainer").announce("t", 30)
    assert Presence(redis_client, "worker").names() == []


def test_a_redis_that_is_down_is_reported() -> None:
    with connect(f"redis://127.0.0.1:{free_port()}/0", patience_seconds=1) as client:
        presence = Presence(client, "worker")
        for ask in (lambda: presence.announce("me", 1), lambda: presence.dismiss("me"), presence.names):
            with pytest.raises(QueueUnavailableError):
                ask()


@pytest.mark.parametrize(("name", "healthy"), [(process_name(1), True), ("another-host-1", False), ("", False)])
def test_the_health_check_asks_for_a_worker_of_this_machine(
    redis_client: "Redis", redis_url: str, name: str, healthy: bool
) -> None:
    if name:
        Presence(redis_client, "worker").announce(name, 60)
    check = subprocess.run(
        [sys.executable, "-m", "contract.presence", "worker"],
        env={**os.environ, "ATELIER_REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (check.returncode == 0) is healthy
    assert "Traceback" not in check.stderr
