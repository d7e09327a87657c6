"""What becomes of the options of a job."""

from typing import Any

import pytest

from contract.images import ImageRef
from contract.jobs import TrainJob
from generator.network import GeneratorConfig
from trainer.recipes import RECIPES, config_of, loss_of, recipe_of
from trainer.training import TrainConfig

GENERATOR = GeneratorConfig(width=12)


def job(**options: Any) -> TrainJob:
    return TrainJob(name="mine", images=(ImageRef(sha256="0" * 64, bytes=1),), **options)


def config(device: str = "cpu", largest: int = 1000, **options: Any) -> TrainConfig:
    wanted = job(**options)
    return config_of(wanted, recipe_of(wanted, device, largest), GENERATOR)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_quick_leaves_the_trunk_alone_and_full_does_not(device: str) -> None:
    quick, full = config(device), config(device, quality="full")
    assert quick.frozen_trunk
    assert quick.pool > 0
    assert not full.frozen_trunk
    assert full.learning_rate > 0
    assert full.pool == 0
    assert quick.iterations < full.iterations
    assert quick.generator == full.generator == GENERATOR


@pytest.mark.parametrize(("device", "quality"), [(device, quality) for quality, device in RECIPES])
def test_a_job_may_say_for_how_long(device: str, quality: Any) -> None:
    assert config(device, quality=quality).iterations == RECIPES[quality, device].iterations
    assert config(device, quality=quality, iterations=7).iterations == 7


def test_the_stroke_size_is_that_of_the_style_picture_within_reason() -> None:
    assert [config(stroke_size=size).style_size for size in (0.25, 0.5, 1.0, 1.5, 4.0)] == [128, 256, 512, 768, 2048]


def test_the_style_weight_is_a_multiple_of_ours_and_nothing_else_changes() -> None:
    usual, heavy = loss_of(job()), loss_of(job(style_weight=2.5))
    assert heavy.style_weight == 2.5 * usual.style_weight
    assert (heavy.content_weight, heavy.layers, heavy.gram) == (usual.content_weight, usual.layers, usual.gram)


@pytest.mark.parametrize(("largest", "size"), [(64, 64), (192, 192), (1000, 192)])
def test_crops_are_no_larger_than_the_settings_allow(largest: int, size: int) -> None:
    assert config(largest=largest, quality="full").size == size
