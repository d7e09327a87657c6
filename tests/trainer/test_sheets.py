"""Pictures of a style."""

import numpy as np
import pytest
import torch

from tests.pictures import decoded
from tests.trainer.conftest import pictures
from trainer.sheets import GAP, jpeg, sheet, wide_sheet


def test_a_picture_becomes_a_jpeg_that_looks_like_it() -> None:
    picture = pictures(1, size=32)[0]
    file = decoded(jpeg(picture))
    assert (file.format, file.size) == ("JPEG", (32, 32))
    assert np.abs(np.asarray(file) / 255 - picture.permute(1, 2, 0).numpy()).mean() < 0.1


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_sheet_has_a_row_for_each_photograph_and_a_wide_one_a_column(count: int) -> None:
    contents, one, other = (torch.full((count, 3, 20, 20), value) for value in (0.1, 0.5, 0.9))
    step = 20 + GAP
    tall, wide = sheet(contents, [one, other]), wide_sheet(contents, one)
    assert tall.shape == (3, GAP + count * step, GAP + 3 * step)
    assert wide.shape == (3, GAP + 2 * step, GAP + count * step)
    middles = slice(GAP + 10, None, step)
    assert torch.equal(tall[0, middles, middles], torch.tensor([[0.1, 0.5, 0.9]] * count))
    assert torch.equal(wide[0, middles, middles], torch.tensor([[0.1] * count, [0.5] * count]))
    assert tall[:, 0, 0].tolist() == wide[:, -1, -1].tolist() == [1, 1, 1], "white between them"
