"""How much training each way of learning a style gets, on a CPU and on a GPU.

The figures are those of ``benchmarks/``: what is enough for a style to look like itself, and no more, as somebody waits
for it.
"""

from dataclasses import dataclass, replace

from contract.jobs import TrainJob
from generator.network import GeneratorConfig
from trainer.perceptual import PRESETS, LossConfig
from trainer.training import TrainConfig

LOSS = "atelier"
STYLE_SIZE = 512
MIN_STYLE_SIZE, MAX_STYLE_SIZE = 128, 2048


@dataclass(frozen=True)
class Recipe:
    """Of one way on one kind of device."""

    iterations: int
    batch: int
    size: int
    learning_rate: float
    style_learning_rate: float
    warm_up: int
    pool: int = 0
    """See TrainConfig; a few thousand numbers learn no photograph by heart, so ``quick`` sees a few over and over."""
    yardsticks: int = 2
    yardstick_iterations: int = 50
    """Photographs that are optimised for the evaluation, and for how long."""


RECIPES = {
    ("quick", "cpu"): Recipe(120, 4, 144, 0.0, 2e-2, warm_up=5, pool=6, yardsticks=1, yardstick_iterations=30),
    ("quick", "cuda"): Recipe(200, 8, 256, 0.0, 2e-2, warm_up=5, pool=16, yardsticks=4, yardstick_iterations=50),
    ("full", "cpu"): Recipe(1500, 4, 192, 5e-4, 5e-3, warm_up=50, yardsticks=2, yardstick_iterations=100),
    ("full", "cuda"): Recipe(8000, 8, 256, 1e-3, 1e-2, warm_up=50, yardsticks=8, yardstick_iterations=200),
}


def recipe_of(job: TrainJob, device: str, largest_size: int) -> Recipe:
    recipe = RECIPES[job.quality, device]
    return replace(recipe, size=min(recipe.size, largest_size))


def loss_of(job: TrainJob) -> LossConfig:
    preset = PRESETS[LOSS]
    return replace(preset, style_weight=preset.style_weight * job.style_weight)


def config_of(job: TrainJob, recipe: Recipe, generator: GeneratorConfig) -> TrainConfig:
    style_size = round(STYLE_SIZE * job.stroke_size)
    return TrainConfig(
        generator,
        loss_of(job),
        iterations=job.iterations or recipe.iterations,
        batch=recipe.batch,
        size=recipe.size,
        style_size=min(max(style_size, MIN_STYLE_SIZE), MAX_STYLE_SIZE),
        learning_rate=recipe.learning_rate,
        style_learning_rate=recipe.style_learning_rate,
        warm_up=recipe.warm_up,
        frozen_trunk=job.quality == "quick",
        pool=recipe.pool,
    )
