"""The dashboard and the alerts speak of nothing that no process tells."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from contract.errors import AtelierError, PoisonJobError, TrainingDataError, TrainingDivergedError
from contract.metrics import OUR_FAULTS
from tests.service.conftest import TIMINGS, LoneGateway, accepted, claimed, post, succeed
from tests.service.conftest import gateway as gateway
from tests.service.conftest import gateways as gateways
from trainer.metrics import TrainerMetrics
from worker.metrics import WorkerMetrics

DOCKER = Path(__file__).resolve().parents[1] / "docker"
ON_A_GPU = {"atelier_device_memory_bytes"}
ENDINGS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


Samples = list[tuple[str, dict[str, str], float]]
HOLDS: dict[str, Callable[[str, str], bool]] = {
    "=": lambda value, wanted: value == wanted,
    "!=": lambda value, wanted: value != wanted,
    "=~": lambda value, pattern: re.fullmatch(pattern, value) is not None,
    "!~": lambda value, pattern: re.fullmatch(pattern, value) is None,
}
"""How Prometheus holds a label against what a query asks for."""


def samples(gateway: LoneGateway) -> Samples:
    families = text_string_to_metric_families(gateway.client.get("/metrics").text)
    return [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]


def sums(alert: str, told: Samples) -> list[float]:
    """What each selector of an alert takes from the figures, all added up."""
    (expression,) = [expression for name, expression in alerts() if name == alert]
    found = []
    for name, conditions in re.findall(r'(atelier_\w+){((?:[^"}]|"[^"]*")*)}', expression):
        asked = re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', conditions)
        taken = (
            value
            for known, labels, value in told
            if known == name and all(HOLDS[how](labels.get(label, ""), text) for label, how, text in asked)
        )
        found.append(sum(taken))
    return found


@pytest.fixture
def exposed(gateway: LoneGateway) -> dict[str, set[str]]:
    """Every sample that gateway, worker and trainer tell, with the labels that it has; also before anything happens."""
    succeed(gateway, accepted(gateway))
    post(gateway.client, b"no picture")
    families = list(text_string_to_metric_families(gateway.client.get("/metrics").text))
    registries: list[Collector] = [WorkerMetrics().registry, TrainerMetrics().registry]
    families += [family for registry in registries for family in registry.collect()]
    return {
        family.name.removesuffix("_total") + ending: {name for sample in family.samples for name in sample.labels}
        for family in families
        for ending in ENDINGS.get(family.type, ())
    }


def panels() -> Iterator[tuple[str, str]]:
    for panel in json.loads((DOCKER / "grafana" / "atelier.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def alerts() -> Iterator[tuple[str, str]]:
    for group in yaml.safe_load((DOCKER / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"].keys() == {"summary", "action"}, rule
            yield rule["alert"], rule["expr"]


def test_every_figure_of_the_dashboard_and_the_alerts_is_told(exposed: dict[str, set[str]]) -> None:
    asked = [*panels(), *alerts()]
    assert len(asked) > 25
    for where, expression in asked:
        names = re.findall(r"\b(?:atelier|process)_[a-z_]+", expression)
        assert names, where
        unknown = [name for name in names if name not in exposed and name not in ON_A_GPU]
        assert unknown == [], where


def test_the_page_of_figures_names_all_that_there_are_and_no_other(exposed: dict[str, set[str]]) -> None:
    page = (DOCKER.parent / "docs" / "observability.md").read_text()
    named = set(re.findall(r"`(atelier_[a-z_]+)`", page))
    told = {re.sub("_(bucket|count|sum)$", "", name) for name in exposed if name.startswith("atelier_")}
    told -= {name for name in told if name.endswith("_created")}  # when each began, which the library tells
    assert named - ON_A_GPU == told


OF_TRAININGS = {TrainingDataError, TrainingDivergedError}


@pytest.mark.parametrize(
    ("alert", "kinds"),
    [("JobsFailByOurFault", set(OUR_FAULTS) - OF_TRAININGS), ("TrainingsFailByOurFault", set(OUR_FAULTS))],
)
def test_alerts_on_our_faults_name_all_of_them(alert: str, kinds: set[type[AtelierError]]) -> None:
    (failures,) = [expression for name, expression in alerts() if name == alert]
    found = re.search('code=~"([^"]+)"', failures)
    assert found is not None
    assert set(found[1].split("|")) == {kind.code for kind in kinds}


def test_what_alerts_count_is_told_before_it_happens(gateway: LoneGateway) -> None:
    """Of a figure whose first value is 8, Prometheus says that it has not increased."""
    told = samples(gateway)
    registries: list[Collector] = [WorkerMetrics().registry, TrainerMetrics().registry]
    families = [family for registry in registries for family in registry.collect()]
    told += [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]
    known = {(name, *(labels.get(label, "") for label in ("kind", "state", "how", "code"))) for name, labels, _ in told}
    for kind in ("stylize", "train"):
        for state in ("succeeded", "failed"):
            assert ("atelier_jobs_finished_total", kind, state, "", "") in known
        for how in ("queued", "failed"):
            assert ("atelier_jobs_reaped_total", kind, "", how, "") in known
        for error in OUR_FAULTS:
            assert ("atelier_jobs_total", kind, "", "", error.code) in known


def test_the_failure_of_a_job_is_no_failure_of_the_requests_that_ask_for_it(gateway: LoneGateway) -> None:
    job_id = accepted(gateway)
    assert gateway.book.fail(claimed(gateway, job_id), PoisonJobError("It took three workers down."), TIMINGS)
    for _ in range(3):
        assert gateway.client.get(f"/jobs/{job_id}/result").status_code == 500
    assert sums("RequestsFailByOurFault", samples(gateway)) == [0, 1]  # of one request, which made the job


def test_an_answer_500_of_any_other_address_is_told_of(gateway: LoneGateway) -> None:
    broken = {"method": "GET", "route": "/styles", "status": "500"}
    told: Samples = [*samples(gateway), ("atelier_http_request_seconds_count", broken, 2.0)]
    assert sums("RequestsFailByOurFault", told) == [2, 2]


def test_the_share_of_jobs_that_fail_is_of_those_that_were_done(gateway: LoneGateway) -> None:
    for _ in range(3):
        assert gateway.book.fail(claimed(gateway, accepted(gateway)), PoisonJobError("It is the picture."), TIMINGS)
    succeed(gateway, accepted(gateway))
    gateway.client.delete(f"/jobs/{accepted(gateway)}")
    assert sums("JobsFail", samples(gateway)) == [3, 4, 3]


@pytest.fixture
def promtool() -> str:
    """Prometheus' own check of files; Debian's package is ``prometheus``."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed")
    return found


def check(*command: str | Path) -> None:
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_prometheus_reads_what_it_scrapes_and_which_alerts_there_are(promtool: str) -> None:
    check(promtool, "check", "config", "--syntax-only", DOCKER / "prometheus.yml")
    check(promtool, "check", "rules", DOCKER / "alerts.yml")


def test_alerts_speak_when_they_should_and_at_no_other_time(promtool: str) -> None:
    """Each of them, by Prometheus' own reckoning."""
    check(promtool, "test", "rules", DOCKER / "alerts.test.yml")
    tried = (DOCKER / "alerts.test.yml").read_text()
    assert [name for name, _ in alerts() if f'alertname="{name}"' not in tried] == []


def test_prometheus_reads_what_the_dashboard_asks(promtool: str, tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": re.sub(r"\$__\w+|\[\$\w+\]", "[5m]", expression)}
        for number, (_, expression) in enumerate(panels())
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    check(promtool, "check", "rules", tmp_path / "rules.yml")


def test_prometheus_finds_every_process_where_it_tells_its_figures() -> None:
    root = DOCKER.parent
    services = yaml.safe_load((root / "docker-compose.yml").read_text())["services"]
    ports = {"gateway": 8000} | {
        name: int(services[name]["environment"]["ATELIER_METRICS_PORT"]) for name in ("worker", "trainer")
    }
    scraped = yaml.safe_load((DOCKER / "prometheus.yml").read_text())["scrape_configs"]
    assert {each["job_name"]: each["dns_sd_configs"][0]["port"] for each in scraped} == ports
    assert all(each["dns_sd_configs"][0]["names"] == [each["job_name"]] for each in scraped)


def test_the_compose_file_beside_mounts_files_that_there_are() -> None:
    root = DOCKER.parent
    more: dict[str, Any] = yaml.safe_load((root / "docker-compose.observability.yml").read_text())
    mounts = [volume.split(":")[0] for service in more["services"].values() for volume in service.get("volumes", ())]
    files = [mount for mount in mounts if mount.startswith("./")]
    assert len(files) == 5
    assert [name for name in files if not (root / name).is_file()] == []
    for name in ("datasource", "dashboards"):
        assert yaml.safe_load((DOCKER / "grafana" / f"{name}.yml").read_text())["apiVersion"] == 1
