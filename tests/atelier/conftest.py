"""The command line, run in this process."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from atelier import cli


@dataclass
class CommandLine:
    """The command line in this process, which has loaded PyTorch already."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def output(self, *arguments: str, **environment: str) -> str:
        """What it says when it does what it was asked to."""
        return self._run(0, arguments, environment)[0]

    def refusal(self, *arguments: str, **environment: str) -> str:
        """The sentence that it refuses with."""
        _, said = self._run(1, arguments, environment)
        assert any(line.startswith("atelier: ") for line in said.splitlines())
        return said

    def asides(self, *arguments: str, **environment: str) -> str:
        """What it says beside what it was asked for, when it does that."""
        return self._run(0, arguments, environment)[1]

    def aborted(self, *arguments: str, **environment: str) -> None:
        """It asked, and nobody said yes."""
        self._run(1, arguments, environment)

    def _run(self, code: int, arguments: tuple[str, ...], environment: dict[str, str]) -> tuple[str, str]:
        self.monkeypatch.setattr(sys, "argv", ["atelier", *arguments])
        for name, value in {"ATELIER_DATA": str(self.folder), "COLUMNS": "200", **environment}.items():
            self.monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ending:
            cli.main()
        said, complaint = self.capsys.readouterr()
        assert ending.value.code == code, complaint
        return said, complaint


@pytest.fixture
def atelier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)
