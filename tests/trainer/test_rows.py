"""Where a new row begins, and what the descriptor is calibrated on."""

from pathlib import Path

import pytest
import torch

from generator.checkpoint import CONTENT_ROW
from tests.conftest import tiny_bank
from tests.trainer.conftest import SHALLOW, pictures
from trainer.content import Photographs
from trainer.evaluation import stylized_with
from trainer.perceptual import PerceptualLoss
from trainer.rows import best_row, calibrated, trial

CPU = torch.device("cpu")


@pytest.mark.parametrize("row", [1, 2, 3])
def test_the_best_row_is_the_one_whose_pictures_have_the_style(shallow_loss: PerceptualLoss, row: int) -> None:
    bank = tiny_bank(CONTENT_ROW, "a", "b", "c")
    contents = pictures(2, seed=3)
    painting = stylized_with(bank.generator(), bank.styles[row], contents)
    loss = shallow_loss.with_styles([[pictures(1)[0]], list(painting)])
    assert torch.equal(best_row(bank, loss, contents, 2), bank.styles[row])


def test_a_descriptor_is_calibrated_on_crops_of_the_photographs(vgg: Path, photographs: Path) -> None:
    source = Photographs(photographs, seed=0)
    descriptor = calibrated(vgg, SHALLOW, source, CPU, 32)
    crops = torch.cat([trial(source, 32), *(source.batch(number, 4, 32) for number in range(10))])
    for features in descriptor(crops).values():
        assert float(features.mean()) == pytest.approx(1, rel=0.3)


def test_the_crops_of_a_trial_are_always_the_same_and_no_batch_has_them(photographs: Path) -> None:
    one, other = Photographs(photographs, seed=0), Photographs(photographs, seed=0)
    assert torch.equal(trial(one, 32), trial(other, 32))
    assert not any(torch.equal(trial(one, 32), one.batch(number, 2, 32)) for number in range(20))
