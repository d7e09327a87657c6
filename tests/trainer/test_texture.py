"""Textures: noise in, texture out."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn.functional import avg_pool2d
from typer.testing import CliRunner

from generator.network import PYRAMID_RATIOS
from tests.trainer.test_runs import bank_of, losses_of
from trainer.texture import PREVIEW, SAMPLES, Noise, prepare_texture, samples, texture_config
from trainer.train import app, style_picture


def test_noise_depends_on_seed_and_number_alone() -> None:
    assert torch.equal(Noise(1).batch(2, 3, 64), Noise(1).batch(2, 3, 64))
    for other in (Noise(0).batch(2, 3, 64), Noise(1).batch(3, 3, 64)):
        assert not torch.equal(other, Noise(1).batch(2, 3, 64))


@pytest.mark.parametrize("size", [64, 80])
def test_every_scale_of_the_pyramid_sees_noise_and_not_its_average(size: int) -> None:
    """White noise would be pooled to gray: 32² pixels of it have a 32nd of its deviation."""
    noise = Noise(0).batch(0, 16, size)
    assert noise.shape == (16, 3, size, size)
    uniform = 12**-0.5
    for ratio in PYRAMID_RATIOS:
        assert avg_pool2d(noise, ratio).std() > 0.9 * uniform


def test_the_command_trains_a_generator_that_makes_textures(vgg: Path, paintings: list[Path], tmp_path: Path) -> None:
    arguments = ["texture", "--style", str(paintings[0]), "--vgg", str(vgg), "--out", str(tmp_path), "--device", "cpu"]
    sizes = ["--iterations", "4", "--batch", "2", "--size", "32", "--style-size", "32"]
    result = CliRunner().invoke(app, [*arguments, *sizes], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    bank = bank_of(tmp_path)
    assert bank.names == ("stripes",), "there is no content to reproduce"
    assert (bank.config.architecture, bank.config.padding) == ("pyramid", "circular")
    assert [line["iteration"] for line in losses_of(tmp_path)] == [1, 2, 3, 4]
    with Image.open(tmp_path / PREVIEW) as preview:
        assert preview.width > SAMPLES * 32


def test_the_texture_comes_nearer_to_its_picture_and_samples_differ(
    vgg: Path, paintings: list[Path], tmp_path: Path
) -> None:
    run = prepare_texture(
        texture_config("instance", 40, batch=2, size=32, style_size=32, seed=0),
        name="stripes",
        picture=style_picture(paintings[0], 32),
        vgg=vgg,
        folder=tmp_path,
        checkpoint_seconds=1000,
        device=torch.device("cpu"),
    )
    run.train(lambda _: None, lambda: False)
    totals = [line["total"] for line in losses_of(tmp_path)]
    assert sum(totals[-5:]) < 0.7 * sum(totals[:5])
    made = samples(run.training)
    assert (made[0] - made[1]).abs().mean() > 0.01
