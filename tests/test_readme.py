"""The README says what is there."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml
from pydantic_settings import BaseSettings

from atelier.settings import LauncherSettings
from contract.storage import open_storage
from contract.styles import StyleStore
from service.settings import ServiceSettings
from tests.conftest import publish_tiny
from trainer.settings import TrainerSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_every_setting_is_in_the_table_and_nothing_else() -> None:
    classes: list[type[BaseSettings]] = [LauncherSettings, ServiceSettings, TrainerSettings, WorkerSettings]
    settings = {f"ATELIER_{name.upper()}" for kind in classes for name in kind.model_fields}
    table = {name for line in README.splitlines() if line.startswith("| `ATELIER_") for name in _variables(line)}
    assert table == settings


def test_the_defaults_in_the_table_are_the_real_ones() -> None:
    fields = {
        name: field
        for kind in (LauncherSettings, ServiceSettings, TrainerSettings, WorkerSettings)
        for name, field in kind.model_fields.items()
    }
    checked = 0
    for line in README.splitlines():
        if not line.startswith("| `ATELIER_"):
            continue
        variables, defaults = _variables(line), re.findall(r"`([^`]+)`", line.split("|")[2])
        for variable, default in zip(variables, defaults, strict=False):
            field = fields.get(variable.removeprefix("ATELIER_").lower())
            if field is not None and isinstance(field.default, int | float):
                assert json.loads(default) == field.default, variable
                checked += 1
    assert checked >= 21


def test_the_tree_names_every_folder() -> None:
    listed = set(re.findall(r"^([a-z]+)/ +", README, re.MULTILINE))
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    ignored = {"data", "runs", "build"} | {name for name in folders if name.endswith(".egg-info")}
    assert folders - ignored == listed


def _variables(line: str) -> list[str]:
    return re.findall(r"`(ATELIER_[A-Z_]+)`", line.split("|")[1])


def test_every_local_link_leads_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text())]
    assert links
    assert [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()] == []


def test_a_folder_that_a_setting_names_is_never_taken_for_a_volume() -> None:
    """In Compose's short form `docker/keys` would be one; in the long form it is a folder beside the Compose file."""
    compose: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    volumes = [volume for service in compose["services"].values() for volume in service.get("volumes", ())]
    short = {volume.split(":")[0] for volume in volumes if isinstance(volume, str)}
    named = {volume["source"]: volume["type"] for volume in volumes if not isinstance(volume, str)}
    assert short == set(compose["volumes"])
    assert named == {"${ATELIER_KEYS_FOLDER:-./docker/keys}": "bind"}
    assert "| `ATELIER_KEYS_FOLDER` | `./docker/keys` |" in (ROOT / "docs" / "deployment.md").read_text()


def test_the_commands_of_the_backup_bring_the_styles_back_and_leave_pictures_alone(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "deployment.md").read_text()
    keep, restore = (
        re.search(rf"gateway (tar --{action} .*? --directory) /data(.*?) [<>] styles.tar.gz", page)
        for action in ("create", "extract")
    )
    assert keep is not None
    assert restore is not None
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    store = StyleStore(open_storage(str(here / "store")))
    card = publish_tiny(store, "dusk")
    (here / "store" / "images").mkdir()
    archive = subprocess.run([*keep[1].split(), here, *keep[2].split()], check=True, capture_output=True).stdout
    subprocess.run([*restore[1].split(), there, *restore[2].split()], check=True, input=archive)
    restored = StyleStore(open_storage(str(there / "store")))
    assert restored.get("dusk") == card
    assert restored.read_trunk(card.trunk) == store.read_trunk(card.trunk)
    assert {path.name for path in (there / "store").iterdir()} == {"styles", "trunks"}


def test_what_is_promised_of_jobs_is_promised_in_the_same_words_everywhere() -> None:
    promise = (
        "No job that was accepted is lost when a process is killed; a machine that loses power loses those of its last "
        "second."
    )
    pages = ["README.md", "docs/deployment.md", "docs/operations.md", "docs/reliability.md"]
    assert [page for page in pages if promise not in " ".join((ROOT / page).read_text().split())] == []
