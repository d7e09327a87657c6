"""The command line, run in this process; and a trainer, whose part is played by the tests."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis

from atelier import cli
from contract.errors import TrainingDivergedError
from contract.images import ImageStore
from contract.jobbook import Claim, JobBook
from contract.jobs import Progress, Stage, Timings, TrainJob, TrainResult
from contract.settings import ContractSettings
from contract.storage import open_storage
from contract.styles import StyleRef, StyleStatus
from tests.conftest import Stack, claim_of, until
from tests.pictures import encoded, photograph


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


@pytest.fixture
def painting(tmp_path: Path) -> Path:
    path = tmp_path / "painting.jpg"
    path.write_bytes(encoded(photograph(seed=3)))
    return path


class HandTrainer:
    """Takes the jobs of a stack as a trainer would."""

    def __init__(self, stack: Stack) -> None:
        url = stack.environment["ATELIER_REDIS_URL"]
        self.redis = Redis.from_url(url, decode_responses=True)
        self.book = JobBook(self.redis, ContractSettings(redis_url=url))
        self.images = ImageStore(open_storage(str(stack.folder / "store")))

    def claim(self) -> Claim:
        until(lambda: bool(self.redis.zcard("atelier:queued:train")), what="a training")
        (job_id,) = self.redis.zrange("atelier:queued:train", 0, 0)
        claim = claim_of(self.book, str(job_id))
        assert claim is not None
        return claim

    def report(self, claim: Claim) -> None:
        preview = self.images.put(encoded(photograph(seed=5)))
        progress = Progress(fraction=0.5, stage=Stage.TRAINING, iteration=5, iterations=10, previews=(preview,))
        assert self.book.progress(claim, progress)


@contextmanager
def trainer(stack: Stack, status: StyleStatus = StyleStatus.PUBLISHED, error: Exception | None = None) -> Iterator[
    list[TrainJob]
]:  # fmt: skip
    """A trainer that takes one job, shows a preview, and ends it; what it was asked for."""
    asked: list[TrainJob] = []
    hand = HandTrainer(stack)

    def work() -> None:
        claim = hand.claim()
        assert isinstance(claim.record.request, TrainJob)
        asked.append(claim.record.request)
        hand.report(claim)
        if isinstance(error, TrainingDivergedError):
            assert hand.book.fail(claim, error, Timings())
        else:
            style = StyleRef(name=claim.record.request.name, version=1)
            result = TrainResult(style=style, status=status, reason="It is grey." if status == "draft" else "")
            assert hand.book.succeed(claim, result, Timings())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield asked
    finally:
        thread.join()
        hand.redis.close()
