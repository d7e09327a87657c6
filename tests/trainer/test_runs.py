"""A run: what it leaves, and that it can be stopped anywhere."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from contract.errors import SettingsError, StoreUnavailableError, TrainingDivergedError
from contract.storage import open_storage
from generator.checkpoint import CONTENT_ROW, Checkpoint
from generator.network import GeneratorConfig, Norm
from tests.trainer.conftest import SHALLOW
from tests.trainer.test_training import bank, same
from trainer.content import Photographs
from trainer.perceptual import PerceptualLoss
from trainer.runs import BANK, LOSSES, STATE, Run, forget
from trainer.training import TrainConfig, Training

CPU = torch.device("cpu")
CONFIG = TrainConfig(GeneratorConfig(width=4), SHALLOW, iterations=6, batch=2, size=16, warm_up=2)
QUICK = replace(CONFIG, frozen_trunk=True)

NewRun = Callable[..., Run]
"""(folder, config = CONFIG, **other fields of ``Run``), as after a start of the process."""


@pytest.fixture
def new_run(shallow_loss: PerceptualLoss, photographs: Path) -> NewRun:
    """Of two rows besides the content's; a quick one has one, and begins with a bank."""

    def make(folder: Path, config: TrainConfig = CONFIG, **others: Any) -> Run:
        start = bank(config.generator.norm) if config.frozen_trunk else None
        training = Training(config, start.names if start else (CONTENT_ROW, "a", "b"), CPU, start)
        fields: dict[str, Any] = {"checkpoint_seconds": 1000, **others}
        return Run(training, Photographs(photographs, seed=0), shallow_loss, open_storage(str(folder)), **fields)

    return make


def train(run: Run, last: int | None = None) -> bool:
    """To the end, or until it is stopped after an iteration; whether it is at its end."""
    return run.train(lambda _: None, lambda: last is not None and run.training.iteration >= last)


def losses_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / LOSSES).read_text().splitlines()]


def bank_of(folder: Path) -> Checkpoint:
    return Checkpoint.from_bytes((folder / BANK).read_bytes())


def state_of(folder: Path) -> dict[str, Any]:
    """All but the time that it took. What is no number is no difference."""
    state: dict[str, Any] = torch.load(folder / STATE)
    return {name: value for name, value in state.items() if name != "seconds"} | {
        "history": state["history"].nan_to_num(-1)
    }


# --- Stopping and going on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("config", [CONFIG, QUICK, replace(QUICK, pool=2)], ids=["bank", "quick", "pool"])
def test_a_run_that_was_stopped_ends_where_one_that_was_not_ends(
    new_run: NewRun, tmp_path: Path, config: TrainConfig, norm: Norm
) -> None:
    config = replace(config, generator=GeneratorConfig(norm=norm, width=4))
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert train(new_run(whole, config))
    for last in (1, 4):
        run = new_run(stopped, config)
        assert run.resume() == (last > 1)
        assert not train(run, last)
        assert [line["iteration"] for line in losses_of(stopped)] == list(range(1, last + 1))
    resumed = new_run(stopped, config)
    assert resumed.resume()
    assert resumed.training.iteration == 4
    assert train(resumed)

    assert losses_of(stopped) == losses_of(whole)
    assert (stopped / BANK).read_bytes() == (whole / BANK).read_bytes()
    assert same(state_of(stopped), state_of(whole))


def test_a_run_that_has_ended_trains_no_further(new_run: NewRun, tmp_path: Path) -> None:
    train(new_run(tmp_path))
    written = (tmp_path / BANK).read_bytes()
    again = new_run(tmp_path)
    assert again.resume()
    assert train(again)
    assert (tmp_path / BANK).read_bytes() == written
    assert len(losses_of(tmp_path)) == CONFIG.iterations


def test_a_run_that_never_was_is_not_gone_on_with(new_run: NewRun, tmp_path: Path) -> None:
    assert not new_run(tmp_path).resume()
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_other_arguments_does_not_go_on_in_the_same_place(new_run: NewRun, tmp_path: Path) -> None:
    train(new_run(tmp_path), 1)
    with pytest.raises(SettingsError, match="other arguments"):
        new_run(tmp_path, replace(CONFIG, seed=1)).resume()


def test_a_long_run_saves_itself_on_the_way(new_run: NewRun, tmp_path: Path) -> None:
    told: list[int] = []
    run: Run = new_run(tmp_path, checkpoint_seconds=0, saved=lambda _: told.append(run.training.iteration))
    kept: list[int] = []

    def look(_: dict[str, float]) -> None:
        if run.training.iteration > 1:  # what the iteration before has left
            kept.append(torch.load(tmp_path / STATE)["iteration"])
            assert len(losses_of(tmp_path)) == kept[-1]
            bank_of(tmp_path).generator()

    run.train(look, lambda: False)
    assert kept == [1, 2, 3, 4, 5]
    assert told == [1, 2, 3, 4, 5, 6, 6]


def test_a_run_that_diverges_keeps_no_broken_weights(new_run: NewRun, tmp_path: Path) -> None:
    run = new_run(tmp_path, replace(CONFIG, learning_rate=1e30))
    with pytest.raises(TrainingDivergedError):
        train(run)
    assert list(tmp_path.iterdir()) == []


# --- A store that is full or out of reach --------------------------------------------------------------------------


def test_a_store_that_is_out_of_reach_for_a_while_costs_nothing(new_run: NewRun, tmp_path: Path) -> None:
    run = new_run(tmp_path, checkpoint_seconds=0, prefix="trainings/one/")
    in_the_way = tmp_path / "trainings"
    in_the_way.write_text("a file where a folder should be")

    def mend(_: dict[str, float]) -> None:
        if run.training.iteration == 4:
            in_the_way.unlink()

    assert run.train(mend, lambda: False)
    assert len(losses_of(tmp_path / "trainings" / "one")) == CONFIG.iterations
    assert torch.load(tmp_path / "trainings" / "one" / STATE)["iteration"] == CONFIG.iterations


def test_a_run_that_cannot_save_itself_at_its_end_says_so(new_run: NewRun, tmp_path: Path) -> None:
    (tmp_path / "trainings").write_text("a file where a folder should be")
    with pytest.raises(StoreUnavailableError):
        train(new_run(tmp_path, prefix="trainings/one/"))


# --- Batches -------------------------------------------------------------------------------------------------------


class Counting(Photographs):
    """Photographs that remember which batches were asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, seed=0)
        self.asked: list[int] = []

    def batch(self, number: int, count: int, size: int) -> Tensor:
        self.asked.append(number)
        return super().batch(number, count, size)


@pytest.mark.parametrize(
    ("pool", "asked"), [(0, [0, 1, 2, 3, 4, 5]), (2, [0, 1]), (4, [0, 1, 2, 3]), (50, [0, 1, 2, 3, 4, 5])]
)
def test_a_batch_is_made_once_and_none_that_is_not_used(
    new_run: NewRun, tmp_path: Path, photographs: Path, pool: int, asked: list[int]
) -> None:
    counting = Counting(photographs)
    run = new_run(tmp_path, replace(QUICK, pool=pool))
    run.photographs = counting
    train(run)
    assert sorted(counting.asked) == asked


def test_a_run_that_goes_on_in_the_middle_of_its_pool_sees_the_same_batches(
    new_run: NewRun, tmp_path: Path, photographs: Path
) -> None:
    config = replace(QUICK, pool=4)
    train(new_run(tmp_path, config), 3)
    run = new_run(tmp_path, config)
    run.resume()
    counting = run.photographs = Counting(photographs)
    train(run)
    assert {0, 1, 3} <= set(counting.asked), "for the iterations 4, 5 and 6"
    assert len(set(counting.asked)) == len(counting.asked)


@pytest.mark.parametrize("pool", [0, 2])
def test_what_is_known_of_a_pool_changes_nothing(new_run: NewRun, tmp_path: Path, pool: int) -> None:
    """Its content targets are computed once; the losses are those of seeing the content each time."""
    run = new_run(tmp_path, replace(QUICK, pool=pool))
    by_hand = new_run(tmp_path / "by hand", replace(QUICK, pool=pool)).training
    train(run)
    while not by_hand.is_over:
        by_hand.step(run.photographs.batch(by_hand.batch_number(), 2, 16), run.loss)
    assert torch.equal(run.training.styles, by_hand.styles)


# --- What is left --------------------------------------------------------------------------------------------------


def test_the_bank_has_a_row_for_the_content_and_one_for_each_style(new_run: NewRun, tmp_path: Path) -> None:
    run = new_run(tmp_path)
    train(run)
    found = bank_of(tmp_path)
    assert found.names == (CONTENT_ROW, "a", "b")
    content = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        trained = run.training.generator.eval()(content, run.training.styles)
        written = found.generator()(content, found.styles)
    assert torch.allclose(written, trained, atol=0.01)  # the file's convolutions are in half precision


def test_the_losses_are_json_that_anybody_reads(new_run: NewRun, tmp_path: Path) -> None:
    train(new_run(tmp_path, replace(CONFIG, batch=1)))
    assert "NaN" not in (tmp_path / LOSSES).read_text()
    lines = losses_of(tmp_path)
    assert [line["iteration"] for line in lines] == [1, 2, 3, 4, 5, 6]
    kinds = {tuple(line) for line in lines}
    assert kinds == {("iteration", "total", "content", "style"), ("iteration", "total", "identity")}


def test_what_is_forgotten_is_gone_and_nothing_else(new_run: NewRun, tmp_path: Path) -> None:
    for name in ("one", "one-more"):
        train(new_run(tmp_path, prefix=f"trainings/{name}/"), 1)
    storage = open_storage(str(tmp_path))
    for _ in range(2):  # what is not there is forgotten already
        forget(storage, "trainings/one")
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {f"trainings/one-more/{file}" for file in (BANK, LOSSES, STATE)}
