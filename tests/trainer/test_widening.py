"""A wider bank makes the same pictures, and can learn what the narrow one could not."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from contract.errors import CheckpointError
from generator.checkpoint import CONTENT_ROW, Checkpoint
from generator.network import GeneratorConfig
from tests.conftest import tiny_bank
from tests.trainer.conftest import SHALLOW, pictures
from trainer.perceptual import PerceptualLoss
from trainer.training import TrainConfig, Training
from trainer.widening import widened

NAMES = (CONTENT_ROW, "a", "b")


@torch.no_grad()
def every_row(bank: Checkpoint, content: Tensor) -> Tensor:
    """The picture [3,H,W] in each style of the bank [N,3,H,W]."""
    stylized: Tensor = bank.generator()(content.expand(len(bank.names), -1, -1, -1), bank.styles)
    return stylized


@pytest.mark.parametrize(("narrow", "wide"), [(4, 5), (4, 8), (5, 7), (1, 2), (3, 3), (7, 13)])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_widened_bank_makes_the_same_pictures(narrow: int, wide: int, seed: int) -> None:
    bank = tiny_bank(*NAMES, seed=seed, width=narrow)
    wider = widened(bank, wide, seed)
    assert wider.names == NAMES
    assert wider.config == GeneratorConfig(width=wide)
    for size in (16, 33):
        content = pictures(1, seed=seed, size=size)
        assert torch.allclose(every_row(wider, content), every_row(bank, content), atol=2e-4)


def test_a_bank_in_half_precision_is_widened_as_well() -> None:
    bank = tiny_bank(*NAMES).half()
    wider = widened(bank, 6)
    assert all(tensor.dtype == torch.float32 for tensor in wider.trunk.values()), "shares are no halves"
    content = pictures(1)
    assert torch.allclose(every_row(wider, content), every_row(bank, content), atol=2e-4)


def test_a_widened_bank_can_be_written_and_read() -> None:
    wider = widened(tiny_bank(*NAMES), 5)
    again = Checkpoint.from_bytes(wider.to_bytes())
    assert again.config == wider.config
    assert torch.equal(every_row(again, pictures(1)), every_row(wider, pictures(1)))


def test_the_bank_that_is_widened_stays_as_it_is() -> None:
    bank = tiny_bank(*NAMES)
    before = bank.to_bytes()
    widened(bank, 8)
    assert bank.to_bytes() == before


def nearest_twins(bank: Checkpoint) -> float:
    """How far apart the two filters of the first layer are that are most alike."""
    filters = bank.trunk["layers.0.conv.weight"].flatten(1)
    apart = torch.cdist(filters, filters) + 1e9 * torch.eye(len(filters))
    return float(apart.min())


def test_copies_learn_different_things(shallow_loss: PerceptualLoss) -> None:
    wider = widened(tiny_bank(*NAMES), 8)
    assert nearest_twins(wider) == 0
    config = TrainConfig(wider.config, SHALLOW, iterations=10, batch=2, size=16, warm_up=1)
    training = Training(config, NAMES, torch.device("cpu"), wider)
    for number in range(4):
        training.step(pictures(2, seed=number, size=16), shallow_loss)
    assert nearest_twins(training.checkpoint()) > 2e-3, "a fifth of what they have moved"


@pytest.mark.parametrize(
    ("config", "width"),
    [
        (GeneratorConfig("pyramid", width=4), 8),
        (GeneratorConfig(norm="batch", width=4), 8),
        (GeneratorConfig(width=4), 3),
        (GeneratorConfig(width=4), 9),
    ],
)
def test_what_cannot_be_widened_is_refused(config: GeneratorConfig, width: int) -> None:
    with pytest.raises(CheckpointError, match="cannot be widened"):
        widened(replace(tiny_bank(*NAMES), config=config), width)
