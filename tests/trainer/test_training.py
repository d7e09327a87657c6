"""The training of a bank: which weights move and by how much, and what happens when they move the wrong way."""

import io
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from contract.errors import SettingsError, TrainingDivergedError
from generator.checkpoint import CONTENT_ROW, Checkpoint, of_generator
from generator.network import Architecture, Generator, GeneratorConfig, Norm
from tests.conftest import tiny_bank
from tests.trainer.conftest import SHALLOW, pictures
from trainer.optimizers import OPTIMIZERS, OptimizerName
from trainer.perceptual import PerceptualLoss
from trainer.training import WATCH_PICTURES, WATCH_WINDOW, TrainConfig, Training

CPU = torch.device("cpu")
SIZE = 16
CONFIG = TrainConfig(GeneratorConfig(width=4), SHALLOW, iterations=100, batch=2, size=SIZE, warm_up=1)
QUICK = replace(CONFIG, frozen_trunk=True, style_learning_rate=2e-2)
NAMES = (CONTENT_ROW, "a", "b")


def batch(number: int, count: int = 2) -> Tensor:
    return pictures(count, seed=100 + number, size=SIZE)


def train(training: Training, loss: PerceptualLoss, iterations: int) -> list[dict[str, float]]:
    return [training.step(batch(number, training.config.batch), loss) for number in range(iterations)]


def trunk_of(training: Training) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in training.generator.state_dict().items()}


def bank(norm: Norm = "instance", names: Sequence[str] = (CONTENT_ROW, "a")) -> Checkpoint:
    """One to start from, whose running averages, if it has any, are not those of a new one."""
    if norm == "instance":
        return tiny_bank(*names)
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(norm=norm, width=4))
    rows = generator.neutral_style().repeat(len(names), 1)
    with torch.no_grad():
        generator.train()(pictures(4, size=SIZE), rows[:1].expand(4, -1))
    return of_generator(generator, tuple(names), rows + 0.3 * torch.randn_like(rows))


def same(one: Any, other: Any) -> bool:
    """Whether two states hold the same, bit for bit."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def state_of(training: Training) -> dict[str, Any]:
    restored = Training(training.config, training.names, CPU, precision=training.precision)
    restored.restore(training.state())
    return {
        "trunk": trunk_of(restored),
        "rows": restored.styles,
        "optimizer": restored.optimizer.state_dict(),
        "iteration": restored.iteration,
    }


# --- Turns ---------------------------------------------------------------------------------------------------------


def turns(training: Training, iterations: int) -> list[int]:
    drawn: list[int] = []
    for training.iteration in range(iterations):
        drawn += training.batch_rows().tolist()
    return drawn


@pytest.mark.parametrize(
    ("styles", "content_turns", "style_turns"),
    [(1, 1, 3), (2, 1, 2), (3, 1, 1), (4, 1, 1), (7, 1, 1), (8, 2, 1), (15, 3, 1)],
)
@pytest.mark.parametrize("size", [1, 4])
def test_styles_have_equal_turns_and_the_content_a_quarter_to_a_ninth(
    styles: int, content_turns: int, style_turns: int, size: int
) -> None:
    names = [CONTENT_ROW, *(f"style{number}" for number in range(styles))]
    length = content_turns + styles * style_turns
    drawn = turns(Training(replace(CONFIG, batch=size), names, CPU), 3 * length)
    assert len(drawn) == 3 * length * size
    for start in range(0, len(drawn), length):
        counts = Counter(drawn[start : start + length])
        assert counts == {0: content_turns} | dict.fromkeys(range(1, styles + 1), style_turns)
    assert 1 / 9 < drawn.count(0) / len(drawn) <= 1 / 4


def test_the_content_has_no_turn_where_its_row_is_not_trained() -> None:
    assert set(turns(Training(QUICK, (CONTENT_ROW, "a"), CPU, bank()), 5)) == {1}


def test_a_generator_of_one_style_alone_has_no_turn_for_the_content_and_no_row() -> None:
    alone = Training(replace(CONFIG, content_row=False), (CONTENT_ROW, "a"), CPU)
    assert set(turns(alone, 5)) == {1}
    assert alone.checkpoint().names == ("a",)
    assert torch.equal(alone.checkpoint().styles[0], alone.styles[1])


def test_a_state_from_before_there_were_such_generators_is_gone_on_from() -> None:
    """What came later is not in the identity of the runs that do without it."""
    identity = json.loads(Training(CONFIG, NAMES, CPU).identity())
    assert "content_row" not in identity
    assert "optimizer" not in identity
    assert identity["generator"] == {"architecture": "residual", "norm": "instance", "width": 4}
    alone = json.loads(Training(replace(CONFIG, content_row=False), NAMES, CPU).identity())
    assert alone["content_row"] is False
    assert json.loads(Training(replace(CONFIG, optimizer="muon"), NAMES, CPU).identity())["optimizer"] == "muon"


def test_rows_come_in_another_order_each_round() -> None:
    training = Training(replace(CONFIG, batch=5), [CONTENT_ROW, "a", "b", "c", "d"], CPU)
    drawn = turns(training, 10)
    assert len({tuple(drawn[start : start + 5]) for start in range(0, 50, 5)}) > 5


def test_batches_come_again_when_there_is_a_pool_of_them() -> None:
    pooled, endless = Training(replace(CONFIG, pool=3), NAMES, CPU), Training(CONFIG, NAMES, CPU)
    numbers = []
    for iteration in range(7):
        pooled.iteration = endless.iteration = iteration
        numbers.append((pooled.batch_number(), endless.batch_number()))
    assert numbers == [(0, 0), (1, 1), (2, 2), (0, 3), (1, 4), (2, 5), (0, 6)]


# --- What moves ----------------------------------------------------------------------------------------------------


def test_a_bank_trains_its_trunk_and_every_row(shallow_loss: PerceptualLoss) -> None:
    training = Training(CONFIG, NAMES, CPU)
    weights, styles = trunk_of(training), training.styles
    train(training, shallow_loss, 5)
    assert all(not torch.equal(tensor, weights[name]) for name, tensor in trunk_of(training).items())
    assert ((training.styles - styles).abs().amax(dim=1) > 1e-4).all()


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_quick_moves_the_row_of_its_style_and_nothing_else(shallow_loss: PerceptualLoss, norm: Norm) -> None:
    """Running averages belong to the trunk, too."""
    start = bank(norm)
    training = Training(replace(QUICK, generator=start.config), start.names, CPU, start)
    train(training, shallow_loss, 4)
    after = training.checkpoint()
    assert after.trunk.keys() == start.trunk.keys()
    assert all(torch.equal(after.trunk[name], tensor) for name, tensor in start.trunk.items())
    assert torch.equal(after.styles[0], start.styles[0])
    assert (after.styles[1] - start.styles[1]).abs().median() > 1e-3
    assert after.names == start.names


def test_rows_that_are_not_in_the_batch_stay_where_they_are(shallow_loss: PerceptualLoss) -> None:
    """An optimiser with momentum moves whatever has a gradient, even one of zeros."""
    training = Training(replace(CONFIG, batch=1), NAMES, CPU)
    train(training, shallow_loss, 6)
    assert isinstance(training.optimizer, torch.optim.Adam)
    assert len(training.optimizer.state) == len(list(training.generator.parameters())) + len(NAMES), "all have momentum"
    for number in range(5):
        (row,), before = training.batch_rows().tolist(), training.styles
        training.step(batch(number, 1), shallow_loss)
        moved = (training.styles != before).any(dim=1).nonzero().flatten().tolist()
        assert moved == [row]


def test_a_bank_that_is_gone_on_with_begins_where_it_was() -> None:
    start = bank(names=NAMES)
    begun = Training(CONFIG, NAMES, CPU, start).checkpoint()
    assert torch.equal(begun.styles, start.styles)
    assert all(torch.equal(begun.trunk[name], tensor) for name, tensor in start.trunk.items())


@pytest.mark.parametrize("architecture", ["residual", "pyramid"])
def test_a_new_network_begins_with_a_flat_picture_and_one_that_is_gone_on_with_as_it_was(
    architecture: Architecture,
) -> None:
    config = replace(CONFIG, generator=GeneratorConfig(architecture, width=8))
    training = Training(config, NAMES, CPU)
    with torch.no_grad():
        made = training.generator(pictures(2, size=64), training.styles[:2])
    assert 0 < float(made.std(dim=(2, 3)).mean()) < 0.1
    again = Training(config, NAMES, CPU, start=training.checkpoint())
    assert torch.equal(again.generator.trunk.output.weight, training.generator.trunk.output.weight)


def test_a_run_with_the_same_seed_begins_alike_and_another_does_not() -> None:
    weights = [
        Training(replace(CONFIG, seed=seed), NAMES, CPU).checkpoint().trunk["output.weight"] for seed in (3, 3, 4)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("architecture", ["residual", "pyramid"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_every_kind_of_generator_can_be_trained(
    shallow_loss: PerceptualLoss, architecture: Architecture, norm: Norm
) -> None:
    config = replace(CONFIG, generator=GeneratorConfig(architecture, norm, width=2))
    training = Training(config, NAMES, CPU)
    train(training, shallow_loss, 2)
    trained = Checkpoint.from_bytes(training.checkpoint().to_bytes())
    assert trained.config == config.generator
    with torch.no_grad():
        assert trained.generator()(batch(0), trained.styles[:2]).isfinite().all()


def test_the_losses_of_an_easy_task_go_down(shallow_loss: PerceptualLoss) -> None:
    figures = train(Training(replace(CONFIG, iterations=30, batch=3), NAMES, CPU), shallow_loss, 30)
    totals = [figure["total"] for figure in figures]
    assert sum(totals[-5:]) < 0.3 * sum(totals[:5])


# --- Learning rates ------------------------------------------------------------------------------------------------


def test_learning_rates_rise_in_a_line_and_fall_in_a_cosine(shallow_loss: PerceptualLoss) -> None:
    config = replace(CONFIG, iterations=10, warm_up=4, learning_rate=1e-3, style_learning_rate=1e-2)
    training = Training(config, NAMES, CPU)
    seen: list[list[float]] = []
    for number in range(10):
        training.step(batch(number), shallow_loss)
        seen.append([group["lr"] for group in training.optimizer.param_groups])
    cosine = [0.01 + 0.99 * (1 + math.cos(math.pi * iteration / 10)) / 2 for iteration in range(10)]
    expected = [min(1.0, (iteration + 1) / 4) * cosine[iteration] for iteration in range(10)]
    assert [rates[0] / 1e-3 for rates in seen] == pytest.approx(expected)
    assert [rates[-1] / 1e-2 for rates in seen] == pytest.approx(expected)
    assert expected[:4] == sorted(expected[:4])
    assert expected[4:] == sorted(expected[4:], reverse=True)
    assert training.is_over


def test_the_last_convolution_learns_at_a_tenth_of_the_rate_of_the_others() -> None:
    training = Training(CONFIG, NAMES, CPU)
    rates = {id(weight): group["peak"] for group in training.optimizer.param_groups for weight in group["params"]}
    assert {rates[id(weight)] for weight in training.generator.trunk.output.parameters()} == {1e-4}
    assert {rates[id(weight)] for weight in training.generator.trunk.layers.parameters()} == {1e-3}
    assert {rates[id(row)] for row in training.rows} == {1e-2}


# --- Figures -------------------------------------------------------------------------------------------------------


def test_the_figures_tell_styles_and_content_row_apart(shallow_loss: PerceptualLoss) -> None:
    training = Training(replace(CONFIG, batch=5), NAMES, CPU)  # a whole round
    for figures in train(training, shallow_loss, 2):
        styled = SHALLOW.content_weight * figures["content"] + SHALLOW.style_weight * figures["style"]
        assert figures["total"] == pytest.approx((4 * styled + figures["identity"]) / 5, rel=1e-3)


def test_the_history_has_no_number_where_no_picture_of_the_batch_has_such_a_loss(shallow_loss: PerceptualLoss) -> None:
    training = Training(replace(CONFIG, batch=1), (CONTENT_ROW, "a"), CPU)
    train(training, shallow_loss, 4)
    assert sorted(tuple(map(math.isnan, figures)) for figures in training.history) == [
        *[(False, False, False, True)] * 3,  # of a style: total, content and style, but no identity
        (False, True, True, False),
    ]


# --- Divergence ----------------------------------------------------------------------------------------------------

BROKEN = torch.full((2, 3, SIZE, SIZE), math.nan)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_loss_that_is_no_number_takes_the_run_back_with_half_the_learning_rate(
    shallow_loss: PerceptualLoss, optimizer: OptimizerName
) -> None:
    training = Training(replace(CONFIG, optimizer=optimizer), NAMES, CPU)
    begun = state_of(training)
    train(training, shallow_loss, 3)
    figures = training.step(BROKEN, shallow_loss)
    assert math.isnan(figures["total"])
    assert training.history == []
    assert same(state_of(training), begun)
    training.step(batch(0), shallow_loss)
    assert training.iteration == 1
    assert training.optimizer.param_groups[0]["lr"] == pytest.approx(0.5e-3)


SNAPSHOT = WATCH_PICTURES
"""How many iterations of one picture each are between two snapshots."""


@pytest.mark.parametrize("config", [QUICK, *(replace(CONFIG, optimizer=name) for name in OPTIMIZERS)], ids=str)
def test_a_run_goes_back_to_its_last_snapshot_but_one(shallow_loss: PerceptualLoss, config: TrainConfig) -> None:
    """The last one may hold damage that no mean has shown yet."""
    training = Training(replace(config, batch=1, iterations=1000), (CONTENT_ROW, "a"), CPU, bank())
    train(training, shallow_loss, SNAPSHOT)
    snapshot = state_of(training)
    train(training, shallow_loss, SNAPSHOT + 3)
    assert not same(state_of(training)["rows"], snapshot["rows"])
    training.step(BROKEN[:1], shallow_loss)
    assert training.iteration == len(training.history) == SNAPSHOT
    assert same(state_of(training), snapshot)


def test_a_run_that_was_resumed_goes_back_as_far_as_one_that_never_stopped(shallow_loss: PerceptualLoss) -> None:
    """What was saved on the way may be damaged already: to go back to it would be to fail three times."""
    never_stopped = Training(replace(CONFIG, batch=1, iterations=1000), (CONTENT_ROW, "a"), CPU)
    train(never_stopped, shallow_loss, SNAPSHOT)
    healthy = state_of(never_stopped)
    train(never_stopped, shallow_loss, SNAPSHOT + 3)
    resumed = Training(never_stopped.config, never_stopped.names, CPU)
    resumed.restore(never_stopped.state())
    for training in (resumed, never_stopped):
        training.step(BROKEN[:1], shallow_loss)
        assert same(state_of(training), healthy)
        train(training, shallow_loss, 3)
    assert same(state_of(resumed), state_of(never_stopped))


def test_a_run_that_was_resumed_takes_its_snapshots_when_one_that_never_stopped_does(
    shallow_loss: PerceptualLoss,
) -> None:
    never_stopped = Training(replace(CONFIG, batch=1, iterations=1000), (CONTENT_ROW, "a"), CPU)
    train(never_stopped, shallow_loss, SNAPSHOT + 3)
    resumed = Training(never_stopped.config, never_stopped.names, CPU)
    resumed.restore(never_stopped.state())
    for training in (resumed, never_stopped):
        train(training, shallow_loss, SNAPSHOT)
        training.step(BROKEN[:1], shallow_loss)
        assert training.iteration == SNAPSHOT
    assert same(state_of(resumed), state_of(never_stopped))


@pytest.mark.parametrize("missing", [("healthy", "candidate"), ("candidate",)])
def test_a_state_from_before_snapshots_were_kept_is_gone_on_from(missing: tuple[str, ...]) -> None:
    training = Training(CONFIG, NAMES, CPU)
    state = torch.load(io.BytesIO(training.state()), weights_only=True)
    for name in missing:
        del state[name]
    old = io.BytesIO()
    torch.save(state, old)
    training.restore(old.getvalue())
    assert training.iteration == 0


@pytest.mark.parametrize("pictures_each", [1, 2, 4])
@pytest.mark.parametrize("jump", [150, 175, 199])
def test_a_run_goes_back_to_before_its_losses_jumped(
    shallow_loss: PerceptualLoss, pictures_each: int, jump: int
) -> None:
    """Losses are as if they had tripled at an iteration; however the windows and the snapshots lie."""
    training = Training(replace(CONFIG, batch=pictures_each, iterations=1000), (CONTENT_ROW, "a"), CPU)
    number = 0
    while training.iteration == number:
        training.step(batch(number, pictures_each), shallow_loss)
        if training.history:
            training.history[-1] = ((1.0 if number < jump else 3.0), *training.history[-1][1:])
        number += 1
        assert number < jump + 100
    assert training.iteration <= jump


@pytest.mark.parametrize(("before", "goes_back"), [(1.0, True), (1e4, False)])
def test_a_loss_that_grows_takes_the_run_back(shallow_loss: PerceptualLoss, before: float, goes_back: bool) -> None:
    training = Training(CONFIG, NAMES, CPU)
    enough = 2 * WATCH_PICTURES // CONFIG.batch
    training.history = [(before, math.nan, math.nan, math.nan)] * enough
    training.iteration = enough
    total = training.step(batch(0), shallow_loss)["total"]
    assert 100 < total < 1e4, "what an untrained generator has"
    assert training.iteration == (0 if goes_back else enough + 1)


@pytest.mark.parametrize(("pictures_each", "goes_back"), [(1, False), (4, True)])
def test_a_loss_grows_when_that_of_many_pictures_does(
    shallow_loss: PerceptualLoss, pictures_each: int, goes_back: bool
) -> None:
    """A run of single pictures may have begun with easy styles."""
    training = Training(replace(CONFIG, batch=pictures_each), NAMES, CPU)
    training.history = [(1.0, math.nan, math.nan, math.nan)] * (2 * WATCH_WINDOW)
    training.iteration = 2 * WATCH_WINDOW
    training.step(batch(0, pictures_each), shallow_loss)
    assert training.iteration == (0 if goes_back else 2 * WATCH_WINDOW + 1)


def test_gradients_that_are_no_numbers_are_not_followed(shallow_loss: PerceptualLoss) -> None:
    """The same batch would give the same gradients for ever."""
    training = Training(CONFIG, NAMES, CPU)
    begun = trunk_of(training)
    training.rows[1].register_hook(lambda gradient: gradient * math.inf)  # type: ignore[no-untyped-call]
    for _ in range(3):
        assert math.isfinite(training.step(batch(0), shallow_loss)["total"])
        assert same(trunk_of(training), begun)
    with pytest.raises(TrainingDivergedError):
        training.step(batch(0), shallow_loss)


def test_a_run_that_has_gone_back_three_times_fails_and_says_what_to_do(shallow_loss: PerceptualLoss) -> None:
    training = Training(replace(CONFIG, learning_rate=1e30), NAMES, CPU)
    with pytest.raises(TrainingDivergedError, match=r"halved 3 times.*style_weight"):
        train(training, shallow_loss, 20)
    assert training.iteration <= 1


def test_having_gone_back_is_remembered(shallow_loss: PerceptualLoss) -> None:
    """By a run that is killed and started again, too: it would go on for ever."""
    training = Training(CONFIG, NAMES, CPU)
    for _ in range(3):
        training.step(BROKEN, shallow_loss)
        resumed = Training(CONFIG, NAMES, CPU)
        resumed.restore(training.state())
        training = resumed
    training.step(batch(0), shallow_loss)
    assert training.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 / 8)
    with pytest.raises(TrainingDivergedError):
        training.step(BROKEN, shallow_loss)


# --- States --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"iterations": 7},
        {"batch": 3},
        {"learning_rate": 1e-2},
        {"seed": 1},
        {"pool": 2},
        {"optimizer": "muon"},
        {"generator": GeneratorConfig(width=5)},
        {"loss": replace(SHALLOW, style_weight=1.0)},
    ],
)
def test_a_state_of_another_configuration_is_refused(change: dict[str, Any]) -> None:
    state = Training(CONFIG, NAMES, CPU).state()
    with pytest.raises(SettingsError, match="other arguments"):
        Training(replace(CONFIG, **change), NAMES, CPU).restore(state)


def test_a_state_of_other_names_or_inputs_is_refused() -> None:
    state = Training(CONFIG, NAMES, CPU, inputs="some").state()
    for names, inputs in (((CONTENT_ROW, "b", "a"), "some"), (NAMES, "others")):
        with pytest.raises(SettingsError, match="other arguments"):
            Training(CONFIG, names, CPU, inputs=inputs).restore(state)
    Training(CONFIG, NAMES, CPU, inputs="some").restore(state)


def test_a_run_goes_on_in_the_precision_in_which_it_was_begun(shallow_loss: PerceptualLoss) -> None:
    """Which one is faster is measured at every start, and a busy machine measures badly."""
    begun, resumed = (Training(CONFIG, NAMES, CPU, precision=kind) for kind in (torch.bfloat16, torch.float32))
    train(begun, shallow_loss, 2)
    resumed.restore(begun.state())
    assert begun.step(batch(2), shallow_loss) == resumed.step(batch(2), shallow_loss)
    assert same(trunk_of(begun), trunk_of(resumed))


def test_a_state_that_is_refused_changes_nothing() -> None:
    other = Training(replace(CONFIG, seed=1), NAMES, CPU, precision=torch.bfloat16)
    other.iteration = 5
    training = Training(CONFIG, NAMES, CPU)
    before = training.checkpoint()
    with pytest.raises(SettingsError):
        training.restore(other.state())
    assert (training.iteration, training.precision) == (0, torch.float32)
    assert same(training.checkpoint().trunk, before.trunk)


def test_the_state_of_a_quick_run_holds_no_trunk() -> None:
    wide = bank()
    full, quick = (
        Training(replace(config, generator=wide.config), wide.names, CPU, wide) for config in (CONFIG, QUICK)
    )
    assert len(quick.state()) < len(full.state()) / 3


def test_half_precision_trains_what_full_precision_trains(shallow_loss: PerceptualLoss) -> None:
    ends = []
    for precision in (torch.float32, torch.bfloat16):
        training = Training(replace(CONFIG, iterations=15), NAMES, CPU, precision=precision)
        ends.append(train(training, shallow_loss, 15)[-1]["total"])
        assert all(weight.dtype == torch.float32 for weight in training.generator.parameters())
    assert ends[1] == pytest.approx(ends[0], rel=0.3)
