"""What the processes of a deployment agree on."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from contract.errors import SettingsError
from contract.settings import ContractSettings, load


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_QUEUE_LIMIT", "7")
    monkeypatch.setenv("ATELIER_REDIS_URL", "redis://example:6379/1")
    settings = ContractSettings()
    assert (settings.queue_limit, settings.redis_url) == (7, "redis://example:6379/1")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ATELIER_QUEUE_LIMIT", "0"),
        ("ATELIER_TRAIN_QUEUE_LIMIT", "0"),
        ("ATELIER_RESULT_SECONDS", "0"),
        ("ATELIER_TOMBSTONE_SECONDS", "-1"),
        ("ATELIER_JOB_SECONDS", "0"),
        ("ATELIER_ATTEMPTS", "0"),
        ("ATELIER_HEARTBEAT_SECONDS", "0"),
        ("ATELIER_LOST_AFTER_SECONDS", "never"),
    ],
)
def test_settings_that_cannot_work_are_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError, match=variable.removeprefix("ATELIER_").lower()):
        ContractSettings()


def test_settings_do_not_change_while_the_service_runs() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ContractSettings().queue_limit = 1


def test_the_store_lies_in_the_data_folder_unless_it_is_named(tmp_path: Path) -> None:
    assert ContractSettings(data=tmp_path).store_url == str(tmp_path / "store")
    assert ContractSettings(data=tmp_path, store="s3://pictures").store_url == "s3://pictures"


def test_a_worker_beats_several_times_before_it_is_taken_for_lost() -> None:
    settings = ContractSettings()
    assert 3 * settings.heartbeat_seconds <= settings.lost_after_seconds


def test_a_heart_that_beats_too_slowly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_HEARTBEAT_SECONDS", "20")
    with pytest.raises(SettingsError, match="ATELIER_LOST_AFTER_SECONDS"):
        load(ContractSettings)


def test_a_setting_of_the_wrong_kind_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_QUEUE_LIMIT", "many")
    with pytest.raises(SettingsError, match="ATELIER_QUEUE_LIMIT: "):
        load(ContractSettings)
