"""How the gateway starts and ends."""

from collections.abc import Iterator

import pytest
from redis import Redis
from structlog.testing import capture_logs

from service.app import GRACEFUL_SECONDS, HOUSEKEEPING_SECONDS
from tests.service.conftest import Gateways


@pytest.fixture
def memory_policy(redis_client: "Redis") -> Iterator["Redis"]:
    """A Redis whose memory policy may be changed."""
    yield redis_client
    redis_client.config_set("maxmemory-policy", "noeviction")


@pytest.mark.parametrize(
    ("policy", "warns"),
    [("noeviction", False), ("allkeys-lru", True), ("volatile-lru", True), ("volatile-ttl", True)],
)
def test_a_redis_that_may_evict_jobs_is_warned_of(
    gateways: Gateways, memory_policy: "Redis", policy: str, warns: bool
) -> None:
    memory_policy.config_set("maxmemory-policy", policy)
    with capture_logs() as logs, gateways():
        pass
    assert [line["policy"] for line in logs if "evict" in line["event"]] == ([policy] if warns else [])


def test_it_ends_within_the_patience_of_its_launcher() -> None:
    assert GRACEFUL_SECONDS + HOUSEKEEPING_SECONDS < 20
