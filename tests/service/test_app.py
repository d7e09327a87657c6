"""How the gateway starts and ends."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from structlog.testing import capture_logs

from contract.jobbook import REAPER_SECONDS
from service.app import GRACEFUL_SECONDS, HOUSEKEEPING_SECONDS
from tests.conftest import until
from tests.service.conftest import Gateways, LoneGateway, publish_bank


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


def test_the_network_of_a_deleted_style_is_deleted_once_it_is_old(gateway: LoneGateway, tmp_path: Path) -> None:
    kept = gateway.styles.get("tiny").trunk
    old, young = (publish_bank(gateway.styles, name, seed=seed)[0].trunk for name, seed in (("old", 6), ("young", 7)))
    trunks = tmp_path / "store" / "trunks"
    for trunk in (kept, old):
        os.utime(trunks / f"{trunk}.safetensors", times=(0, 0))
    for name in ("old", "young"):
        assert gateway.client.delete(f"/styles/{name}").status_code == 204
    until(lambda: not (trunks / f"{old}.safetensors").exists(), 4 * REAPER_SECONDS, "the sweep")
    assert {path.stem for path in trunks.iterdir()} == {kept, young}


def test_it_ends_within_the_patience_of_its_launcher() -> None:
    assert GRACEFUL_SECONDS + HOUSEKEEPING_SECONDS < 20
