"""A training run: what it learns, that it can be stopped anywhere, and what it leaves in its folder."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from contract.errors import AtelierError, SettingsError
from generator.checkpoint import CONTENT_ROW, Checkpoint
from generator.network import GeneratorConfig
from tests.conftest import until
from trainer.perceptual import LossConfig
from trainer.train import BankTraining, Run, TrainConfig, app, prepare, write_atomically

LOSS = LossConfig(content_layer="relu2_1", style_layers=("relu1_1", "relu2_1"))
CONFIG = TrainConfig(GeneratorConfig(width=4), LOSS, iterations=6, batch=2, size=32, style_size=32)

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
            "previews": [],
            "checkpoint_seconds": 1000,
            "device": torch.device("cpu"),
        }
        return prepare(config, folder=folder, **arguments | others)

    return prepare_run


def silent(_iteration: int, _figures: dict[str, float]) -> None:
    pass


def train_until(run: Run, last: int) -> None:
    """Asks the run to stop after an iteration, as a signal does."""

    def stop(iteration: int, _figures: dict[str, float]) -> None:
        run.stop_requested = iteration >= last

    run.train(stop)


def logged(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


def bank_of(folder: Path) -> Checkpoint:
    return Checkpoint.from_bytes((folder / "bank.safetensors").read_bytes())


# --- What is trained -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("styles", "batch"), [(1, 4), (2, 2), (3, 4), (4, 3), (6, 1)])
def test_every_row_of_the_bank_is_trained_equally_often(styles: int, batch: int) -> None:
    names = [f"style{number}" for number in range(styles)]
    training = BankTraining(replace(CONFIG, batch=batch), names, torch.device("cpu"))
    drawn: list[int] = []
    for training.iteration in range(3 * (styles + 1)):
        rows = training.rows().tolist()
        assert len(rows) == batch
        drawn += rows
        counts = Counter(drawn)
        assert max(counts.values()) - min(counts[row] for row in range(styles + 1)) <= 1
    assert set(Counter(drawn).values()) == {3 * batch}


def test_rows_come_in_another_order_each_round() -> None:
    training = BankTraining(replace(CONFIG, batch=5), ["a", "b", "c", "d"], torch.device("cpu"))
    rounds = set()
    for training.iteration in range(10):
        rounds.add(tuple(training.rows().tolist()))
    assert len(rounds) > 5


def test_the_losses_of_an_easy_task_go_down(prepared: PrepareRun, tmp_path: Path) -> None:
    run = prepared(tmp_path, replace(CONFIG, iterations=40, batch=3, learning_rate=5e-3))
    totals: list[float] = []
    run.train(lambda _, figures: totals.append(figures["total"]))
    assert len(totals) == 40
    assert sum(totals[-5:]) < 0.6 * sum(totals[:5])


def test_training_changes_the_trunk_and_every_row(prepared: PrepareRun, tmp_path: Path) -> None:
    run = prepared(tmp_path)
    before = run.training.state()
    weights = {name: tensor.clone() for name, tensor in before["generator"].items()}
    styles = before["styles"].clone()
    run.train(silent)
    assert all(not torch.equal(tensor, weights[name]) for name, tensor in run.training.generator.state_dict().items())
    assert ((run.training.styles - styles).abs().amax(dim=1) > 1e-4).all()


def test_the_learning_rates_fall_from_their_peaks_to_a_hundredth(prepared: PrepareRun, tmp_path: Path) -> None:
    run = prepared(tmp_path, replace(CONFIG, iterations=8, learning_rate=1e-3, style_learning_rate=1e-2))
    rates: list[tuple[float, ...]] = []
    run.train(lambda *_: rates.append(tuple(group["lr"] for group in run.training.optimizer.param_groups)))
    assert rates[0] == pytest.approx((1e-3, 1e-2))
    assert rates[4] == pytest.approx((0.505e-3, 0.505e-2))  # halfway between the peak and its hundredth
    assert rates == sorted(rates, reverse=True)
    assert rates[-1][0] > 1e-5


def test_the_figures_tell_styles_and_content_row_apart(prepared: PrepareRun, tmp_path: Path) -> None:
    run = prepared(tmp_path, replace(CONFIG, batch=3))  # one of each row
    seen: list[dict[str, float]] = []
    run.train(lambda _, figures: seen.append(figures))
    for figures in seen:
        styled = LOSS.content_weight * figures["content"] + LOSS.style_weight * figures["style"]
        assert figures["total"] == pytest.approx((2 * styled + figures["identity"]) / 3, rel=1e-3)


@pytest.mark.parametrize("architecture", ["residual", "pyramid"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_every_kind_of_generator_can_be_trained(
    prepared: PrepareRun, tmp_path: Path, architecture: Any, norm: Any
) -> None:
    config = replace(CONFIG, generator=GeneratorConfig(architecture, norm, width=4), iterations=2)
    prepared(tmp_path, config).train(silent)
    bank = bank_of(tmp_path)
    assert bank.config == config.generator
    bank.generator()


def test_a_run_that_diverges_says_so_and_keeps_no_broken_weights(prepared: PrepareRun, tmp_path: Path) -> None:
    run = prepared(tmp_path, replace(CONFIG, learning_rate=1e30))
    with pytest.raises(AtelierError, match=r"no longer numbers.*--learning-rate"):
        run.train(silent)
    assert not (tmp_path / "bank.safetensors").exists()
    assert not (tmp_path / "state.pt").exists()


# --- Stopping and going on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_run_that_was_stopped_ends_where_one_that_was_not_ends(
    prepared: PrepareRun, tmp_path: Path, norm: Any
) -> None:
    config = replace(CONFIG, generator=GeneratorConfig(norm=norm, width=4))
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    prepared(whole, config).train(silent)
    for last in (1, 4):
        train_until(prepared(stopped, config), last)
        assert [line["iteration"] for line in logged(stopped)] == list(range(1, last + 1))
    resumed = prepared(stopped, config)
    assert resumed.training.iteration == 4
    resumed.train(silent)

    assert logged(stopped) == logged(whole)
    assert (stopped / "bank.safetensors").read_bytes() == (whole / "bank.safetensors").read_bytes()
    assert_equal_states(torch.load(stopped / "state.pt"), torch.load(whole / "state.pt"))


def assert_equal_states(one: Any, other: Any, where: str = "state") -> None:
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal_states(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for index, (first, second) in enumerate(zip(one, other, strict=True)):
            assert_equal_states(first, second, f"{where}[{index}]")
    else:
        assert one == other, where


def test_a_run_that_has_ended_trains_no_further(prepared: PrepareRun, tmp_path: Path) -> None:
    prepared(tmp_path).train(silent)
    written = (tmp_path / "bank.safetensors").read_bytes()
    prepared(tmp_path).train(silent)
    assert (tmp_path / "bank.safetensors").read_bytes() == written
    assert len(logged(tmp_path)) == CONFIG.iterations


@pytest.mark.parametrize(
    "change",
    [
        {"iterations": 7},
        {"batch": 3},
        {"size": 40},
        {"learning_rate": 1e-2},
        {"seed": 1},
        {"generator": GeneratorConfig(width=5)},
        {"loss": replace(LOSS, style_weight=1.0)},
    ],
)
def test_a_run_with_other_arguments_does_not_go_on_in_the_same_folder(
    prepared: PrepareRun, tmp_path: Path, change: dict[str, Any]
) -> None:
    train_until(prepared(tmp_path), 1)
    with pytest.raises(SettingsError, match="other arguments"):
        prepared(tmp_path, replace(CONFIG, **change))


def test_a_run_with_other_styles_does_not_go_on_in_the_same_folder(
    prepared: PrepareRun, tmp_path: Path, paintings: list[Path]
) -> None:
    train_until(prepared(tmp_path), 1)
    with pytest.raises(SettingsError, match="other arguments"):
        prepared(tmp_path, styles=paintings[::-1])


def test_a_long_run_saves_itself_on_the_way(prepared: PrepareRun, tmp_path: Path) -> None:
    run = prepared(tmp_path, checkpoint_seconds=0)
    kept: list[int] = []

    def look(iteration: int, _figures: dict[str, float]) -> None:
        if iteration > 1:  # what the iteration before has left
            kept.append(torch.load(tmp_path / "state.pt")["iteration"])
            assert len(logged(tmp_path)) >= iteration - 1
            bank_of(tmp_path).generator()

    run.train(look)
    assert kept == [1, 2, 3, 4, 5]


def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(b"old")

    def fail(beside: Path) -> None:
        beside.write_bytes(b"ne")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"


def test_a_writer_that_succeeds_replaces_the_old_file_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(b"old")
    write_atomically(path, lambda beside: beside.write_bytes(b"new"))
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


# --- What is left --------------------------------------------------------------------------------------------------


def test_the_bank_has_a_row_for_the_content_and_one_for_each_style(prepared: PrepareRun, tmp_path: Path) -> None:
    run = prepared(tmp_path)
    run.train(silent)
    bank = bank_of(tmp_path)
    assert bank.names == (CONTENT_ROW, "stripes", "checks")
    content = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        trained = run.training.generator.eval()(content, run.training.styles)
        written = bank.generator()(content, bank.styles)
    assert torch.allclose(written, trained, atol=0.01)  # the file's convolutions are in half precision


def test_a_preview_shows_each_photograph_and_each_row_of_the_bank(
    prepared: PrepareRun, tmp_path: Path, photographs: Path
) -> None:
    run = prepared(tmp_path, replace(CONFIG, iterations=1), previews=sorted(photographs.iterdir())[:2])
    run.train(silent)
    side, gap, columns, rows = 384, 2, 4, 2
    with Image.open(tmp_path / "preview.png") as preview:
        assert preview.size == (gap + columns * (side + gap), gap + rows * (side + gap))


@pytest.mark.parametrize("file", ["stripes.png", "content.png"])
def test_two_rows_of_one_name_are_refused(
    prepared: PrepareRun, tmp_path: Path, paintings: list[Path], file: str
) -> None:
    other = tmp_path / file
    other.write_bytes(paintings[1].read_bytes())
    with pytest.raises(SettingsError, match="file name of its own"):
        prepared(tmp_path / "run", styles=[paintings[0], other])
    assert not (tmp_path / "run").exists()


# --- The command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def arguments(vgg: Path, photographs: Path, paintings: list[Path], tmp_path: Path) -> list[str]:
    """Of a tiny run into ``run``, without --iterations."""
    options = {
        "--content": photographs,
        "--vgg": vgg,
        "--out": tmp_path / "run",
        "--width": 4,
        "--batch": 2,
        "--size": 32,
        "--style-size": 32,
        "--device": "cpu",
    }
    styles = [argument for painting in paintings for argument in ("--style", str(painting))]
    return ["bank", *styles, *(str(argument) for option in options.items() for argument in option)]


def start(arguments: list[str], **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "trainer.train", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def without(arguments: list[str], option: str) -> list[str]:
    place = arguments.index(option)
    return arguments[:place] + arguments[place + 2 :]


def test_a_command_leaves_a_bank_that_can_be_used(
    arguments: list[str], tmp_path: Path, photographs: Path, vgg: Path
) -> None:
    """The photographs and the weights of the descriptor may come from the environment."""
    arguments = [*without(without(arguments, "--content"), "--vgg"), "--iterations", "2"]
    process = start(arguments, ATELIER_CONTENT=str(photographs), ATELIER_VGG=str(vgg))
    _, complaints = process.communicate(timeout=100)
    assert (process.returncode, complaints) == (0, "")
    bank = bank_of(tmp_path / "run")
    assert bank.names == (CONTENT_ROW, "stripes", "checks")
    assert bank.generator()(torch.rand(1, 3, 32, 32), bank.styles[1:2]).isfinite().all()
    assert [line["iteration"] for line in logged(tmp_path / "run")] == [1, 2]


def test_a_command_that_is_told_to_stop_saves_what_it_has_learned(arguments: list[str], tmp_path: Path) -> None:
    process = start([*arguments, "--iterations", "1000000", "--checkpoint-seconds", "0"])
    try:
        state = tmp_path / "run" / "state.pt"
        until(lambda: state.exists() or process.poll() is not None, 90, "the first state")
        process.send_signal(signal.SIGTERM)
        _, complaints = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, complaints) == (0, "")
    assert torch.load(state)["iteration"] == logged(tmp_path / "run")[-1]["iteration"] >= 1
    bank_of(tmp_path / "run").generator()


@pytest.mark.parametrize(
    ("option", "what"),
    [("--content", "Where are the photographs"), ("--vgg", "Where are the VGG-19 weights")],
)
def test_a_command_without_what_it_needs_says_how_to_name_it(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, option: str, what: str
) -> None:
    monkeypatch.delenv("ATELIER_CONTENT", raising=False)
    monkeypatch.delenv("ATELIER_VGG", raising=False)
    result = CliRunner().invoke(app, without(arguments, option))
    assert isinstance(result.exception, SettingsError)
    assert what in str(result.exception)
    assert option in str(result.exception)


def test_a_command_that_names_a_folder_that_is_not_there_is_refused(arguments: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*arguments, "--content", str(tmp_path / "nowhere")])
    assert isinstance(result.exception, SettingsError)
    assert "There is nothing at" in str(result.exception)


@pytest.mark.parametrize(
    "wrong",
    [["--architecture", "transformer"], ["--norm", "layer"], ["--width", "0"], ["--seed", "-1"], ["--size", "8"]],
)
def test_an_option_that_is_out_of_range_is_a_mistake_of_the_caller(arguments: list[str], wrong: list[str]) -> None:
    assert CliRunner().invoke(app, [*arguments, *wrong]).exit_code == 2
