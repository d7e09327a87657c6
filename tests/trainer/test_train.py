"""The command that trains banks: what it takes, what it leaves, and that it survives being killed."""

import json
import os
import random
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from contract.errors import AtelierError, CheckpointError, SettingsError, TrainingDataError
from generator.checkpoint import CONTENT_ROW, Checkpoint
from generator.network import GeneratorConfig
from tests.conftest import tiny_bank, until
from tests.trainer.conftest import SHALLOW, patches
from tests.trainer.test_runs import bank_of, losses_of, state_of
from tests.trainer.test_training import same
from trainer.perceptual import LossConfig
from trainer.runs import STATE, Run
from trainer.train import PREVIEW, app, prepare
from trainer.training import TrainConfig

CONFIG = TrainConfig(GeneratorConfig(width=4), SHALLOW, iterations=3, batch=2, size=32, style_size=32)

PrepareRun = Callable[..., Run]
"""(folder, config = CONFIG, **other arguments of ``prepare``)"""


@pytest.fixture
def prepared(vgg: Path, photographs: Path, paintings: list[Path]) -> PrepareRun:
    """Runs with two styles and five photographs."""

    def prepare_run(folder: Path, config: TrainConfig = CONFIG, **others: Any) -> Run:
        arguments: dict[str, Any] = {
            "styles": paintings,
            "content": photographs,
            "vgg": vgg,
            "checkpoint_seconds": 1000,
            "device": torch.device("cpu"),
            "looking_size": 32,
        }
        return prepare(config, folder=folder, **arguments | others)

    return prepare_run


def train(run: Run, last: int | None = None) -> None:
    """To the end, or until it is stopped after an iteration."""
    run.train(lambda _: None, lambda: last is not None and run.training.iteration >= last)


# --- What it works with --------------------------------------------------------------------------------------------


def test_a_run_leaves_a_bank_its_losses_and_a_preview(prepared: PrepareRun, tmp_path: Path) -> None:
    train(prepared(tmp_path))
    assert bank_of(tmp_path).names == (CONTENT_ROW, "stripes", "checks")
    assert [line["iteration"] for line in losses_of(tmp_path)] == [1, 2, 3]
    side, gap, columns, rows = 32, 4, 4, 1  # one photograph of five is held out
    with Image.open(tmp_path / PREVIEW) as preview:
        assert preview.size == (gap + columns * (side + gap), gap + rows * (side + gap))
        assert preview.format == "JPEG"


@pytest.mark.parametrize("file", ["stripes.png", "content.png"])
def test_two_rows_of_one_name_are_refused(
    prepared: PrepareRun, tmp_path: Path, paintings: list[Path], file: str
) -> None:
    other = tmp_path / file
    other.write_bytes(paintings[1].read_bytes())
    with pytest.raises(SettingsError, match="file name of its own"):
        prepared(tmp_path / "run", styles=[paintings[0], other])
    assert not (tmp_path / "run").exists()


def test_a_run_with_other_files_does_not_go_on_in_the_same_folder(
    prepared: PrepareRun, tmp_path: Path, paintings: list[Path]
) -> None:
    train(prepared(tmp_path / "run"), 1)
    with pytest.raises(SettingsError, match="other arguments"):
        prepared(tmp_path / "run", styles=paintings[::-1])
    repainted = tmp_path / "stripes.png"
    patches(0).save(repainted)
    with pytest.raises(SettingsError, match="other arguments"):
        prepared(tmp_path / "run", styles=[repainted, paintings[1]])
    assert prepared(tmp_path / "run").training.iteration == 1


# --- A bank to begin with ------------------------------------------------------------------------------------------


def saved(bank: Checkpoint, path: Path) -> Path:
    path.write_bytes(bank.to_bytes())
    return path


def test_a_run_begins_with_the_trunk_of_a_bank_and_its_rows_of_the_same_name(
    prepared: PrepareRun, tmp_path: Path
) -> None:
    bank = tiny_bank("other", CONTENT_ROW, "checks")
    begun = prepared(tmp_path / "run", start=saved(bank, tmp_path / "bank.safetensors")).training.checkpoint()
    assert all(torch.equal(begun.trunk[name], tensor) for name, tensor in bank.trunk.items())
    assert torch.equal(begun.styles[0], bank.styles[1])
    assert torch.equal(begun.styles[2], bank.styles[2])
    assert any(torch.equal(begun.styles[1], row) for row in bank.styles), "the nearest, for a name that is new"


def test_a_wider_run_begins_with_what_the_narrow_bank_makes(prepared: PrepareRun, tmp_path: Path) -> None:
    bank = tiny_bank(CONTENT_ROW, "stripes", "checks", width=3)
    begun = prepared(tmp_path / "run", start=saved(bank, tmp_path / "bank.safetensors")).training.checkpoint()
    content = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        wide, narrow = (one.generator()(content, one.styles) for one in (begun, bank))
    assert begun.config.width == 4
    assert torch.allclose(wide, narrow, atol=2e-4)


def test_a_bank_of_another_kind_is_no_beginning(prepared: PrepareRun, tmp_path: Path) -> None:
    for bank in (tiny_bank("a", width=5), tiny_bank("a", width=1)):
        with pytest.raises(CheckpointError):
            prepared(tmp_path / "run", start=saved(bank, tmp_path / "bank.safetensors"))


# --- The command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def arguments(vgg: Path, photographs: Path, paintings: list[Path], tmp_path: Path) -> list[str]:
    """Of a tiny run into ``run``, without --iterations."""
    options = {
        "--content": photographs,
        "--vgg": vgg,
        "--out": tmp_path / "run",
        "--width": 2,
        "--batch": 2,
        "--size": 32,
        "--style-size": 32,
        "--device": "cpu",
        "--style": paintings[0].parent,
    }
    return ["bank", *(str(argument) for option in options.items() for argument in option)]


def start(arguments: list[str], **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "trainer.train", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "ATELIER_TRAINING_SIZE": "32", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def without(arguments: list[str], option: str) -> list[str]:
    place = arguments.index(option)
    return arguments[:place] + arguments[place + 2 :]


def test_a_command_that_is_told_to_stop_saves_what_it_has_learned(
    arguments: list[str], tmp_path: Path, photographs: Path, vgg: Path
) -> None:
    """The photographs and the weights of the descriptor may come from the environment."""
    arguments = without(without(arguments, "--content"), "--vgg")
    process = start(
        [*arguments, "--iterations", "1000000", "--checkpoint-seconds", "0"],
        ATELIER_CONTENT=str(photographs),
        ATELIER_VGG=str(vgg),
    )
    try:
        state = tmp_path / "run" / STATE
        until(lambda: state.exists() or process.poll() is not None, 90, "the first state")
        process.send_signal(signal.SIGTERM)
        _, complaints = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM, "so that nothing that comes after it takes it for finished"
    iteration = torch.load(state)["iteration"]
    assert (
        complaints
        == f"Stopped at iteration {iteration:,} of 1,000,000, and saved: the same command goes on from there.\n"
    )
    assert iteration == losses_of(tmp_path / "run")[-1]["iteration"] >= 1
    bank = bank_of(tmp_path / "run")
    assert bank.names == (CONTENT_ROW, "checks", "stripes")
    assert bank.generator()(torch.rand(1, 3, 32, 32), bank.styles[1:2]).isfinite().all()


@pytest.mark.parametrize("trial", [1, 2, 3])
def test_a_command_that_is_killed_at_any_moment_ends_where_one_that_was_not_ends(
    arguments: list[str], prepared: PrepareRun, paintings: list[Path], tmp_path: Path, trial: int
) -> None:
    """SIGKILL at a random moment: while it learns, or in the middle of saving."""
    killed, whole = tmp_path / "run", tmp_path / "whole"
    options = ("--iterations", "40", "--batch", "1", "--seed", str(trial), "--checkpoint-seconds", "0")
    process = start([*arguments, *options])
    try:
        until(lambda: (killed / STATE).exists() or process.poll() is not None, 90, "the first state")
        with suppress(subprocess.TimeoutExpired):
            process.wait(random.uniform(0, 0.8))
        process.kill()
        _, complaints = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGKILL, complaints

    generator = GeneratorConfig(width=2)
    config = TrainConfig(
        generator,
        LossConfig(),
        iterations=40,
        batch=1,
        size=32,
        style_size=32,
        learning_rate=2.5e-3,
        optimizer="muon",
        seed=trial,
    )
    resumed, uninterrupted = (prepared(folder, config, styles=sorted(paintings)) for folder in (killed, whole))
    assert 1 <= resumed.training.iteration < 40
    assert uninterrupted.training.iteration == 0
    uninterrupted.training.precision = resumed.training.precision  # it is measured, and need not come out alike
    train(resumed)
    train(uninterrupted)
    ends = [sum(line["total"] for line in losses_of(folder)[-10:]) / 10 for folder in (killed, whole)]
    assert ends[0] == pytest.approx(ends[1], rel=0.01)
    assert losses_of(killed) == losses_of(whole), "and not only nearly so"
    assert same(state_of(killed), state_of(whole))


@pytest.mark.parametrize(
    ("options", "optimizer", "rate"),
    [
        ([], "muon", 2.5e-3),
        (["--optimizer", "adam"], None, 1e-3),  # as in states from before there was a choice
        (["--learning-rate", "0.004"], "muon", 4e-3),
    ],
)
def test_each_optimiser_has_a_learning_rate_of_its_own(
    arguments: list[str], tmp_path: Path, options: list[str], optimizer: str | None, rate: float
) -> None:
    assert CliRunner().invoke(app, [*arguments, "--iterations", "1", *options]).exit_code == 0
    identity = json.loads(torch.load(tmp_path / "run" / STATE)["identity"])
    assert (identity.get("optimizer"), identity["learning_rate"]) == (optimizer, rate)


@pytest.mark.parametrize(
    ("option", "what"),
    [("--content", "Where are the photographs"), ("--vgg", "Where are the descriptor weights")],
)
def test_a_command_without_what_it_needs_says_how_to_name_it(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, what: str
) -> None:
    monkeypatch.delenv("ATELIER_CONTENT", raising=False)
    monkeypatch.delenv("ATELIER_VGG", raising=False)
    monkeypatch.setenv("ATELIER_DATA", str(tmp_path / "data"))
    result = CliRunner().invoke(app, without(arguments, option))
    assert isinstance(result.exception, SettingsError)
    assert what in str(result.exception)
    assert option in str(result.exception)


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (["--content", "nowhere"], TrainingDataError, "no photographs"),
        (["--vgg", "nowhere.pth"], CheckpointError, "nowhere.pth does not hold the VGG-19 weights"),
        (
            ["--loss", "johnson", "--vgg", "nowhere.pth"],
            CheckpointError,
            "nowhere.pth does not hold the VGG-16 weights",
        ),
        (["--style", "nowhere.png"], SettingsError, "There is nothing at nowhere.png"),
        (["--device", "abacus"], SettingsError, "'cpu' or 'cuda'"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(
    arguments: list[str], wrong: list[str], error: type[AtelierError], said: str
) -> None:
    result = CliRunner().invoke(app, [*arguments, *wrong])
    assert isinstance(result.exception, error)
    assert said in str(result.exception)


@pytest.mark.parametrize(
    "wrong",
    [
        ["--architecture", "transformer"],
        ["--norm", "layer"],
        ["--loss", "mine"],
        ["--optimizer", "sgd"],
        ["--width", "0"],
        ["--seed", "-1"],
        ["--size", "8"],
    ],
)
def test_an_option_that_is_out_of_range_is_a_mistake_of_the_caller(arguments: list[str], wrong: list[str]) -> None:
    assert CliRunner().invoke(app, [*arguments, *wrong]).exit_code == 2


@pytest.mark.filterwarnings("ignore:'trainer.train' found in sys.modules:RuntimeWarning")
def test_a_failure_is_a_sentence_and_no_traceback(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["trainer.train", *arguments, "--content", "nowhere"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("trainer.train", run_name="__main__")
    assert str(ended.value).startswith("There are no photographs")
