"""What is trained for the comparison: a budget, and the generators that each experiment needs."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from generator.network import Architecture, GeneratorConfig, Norm, Padding
from trainer.perceptual import LossConfig
from trainer.texture import LEARNING_RATE
from trainer.training import TrainConfig

Light = Literal["original", "equalised", "stylised"]
"""What the training photographs look like: as they are, with an even histogram of brightness, or already in a style."""

MILESTONES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
"""When generators are kept to be measured later, as shares of the iterations."""
ARCHITECTURES: tuple[Architecture, ...] = ("pyramid", "residual")
NORMS: tuple[Norm, ...] = ("batch", "instance")


@dataclass(frozen=True)
class Budget:
    """How much work the comparison may be. Sizes are in pixels."""

    styles: tuple[str, ...]
    size: int = 128
    style_size: int = 256
    batch: int = 4
    iterations: int = 600
    texture_iterations: int = 300
    learning_rate: float = LEARNING_RATE
    residual_width: int = 16
    pyramid_width: int = 8
    seeds: int = 1
    side_seeds: int = 1
    """Seeds of the experiments that come beside the main one."""
    photographs: int = 8
    """On how many of those that training never saw everything is measured."""
    yardsticks: int = 2
    """How many of these are optimised by themselves, for each style."""
    yardstick_iterations: tuple[int, ...] = (50, 100, 500)
    resolutions: tuple[int, ...] = (512, 1080)

    @property
    def milestones(self) -> tuple[int, ...]:
        return tuple(sorted({max(1, round(share * self.iterations)) for share in MILESTONES}))

    def settings(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


GROWING = ("styles", "seeds", "side_seeds")
"""What may become more in a folder that has results: the others decide what these results are."""


@dataclass(frozen=True)
class Variant:
    """One generator of one style, trained from nothing."""

    architecture: Architecture
    norm: Norm
    style: str
    seed: int
    padding: Padding = "continued"
    light: Light = "original"

    @property
    def name(self) -> str:
        return f"{self.architecture}-{self.norm}-{self.padding}-{self.light}-{self.style}-{self.seed}"

    def about(self) -> dict[str, Any]:
        """What a result says of the generator that it was measured on."""
        return asdict(self)

    def config(self, budget: Budget, loss: LossConfig) -> TrainConfig:
        """All variants have the same hyperparameters, those of our own trainings."""
        width = budget.residual_width if self.architecture == "residual" else budget.pyramid_width
        return TrainConfig(
            GeneratorConfig(self.architecture, self.norm, width, self.padding),
            loss,
            iterations=budget.iterations,
            batch=budget.batch,
            size=budget.size,
            style_size=budget.style_size,
            learning_rate=budget.learning_rate,
            seed=self.seed,
            content_row=False,
        )


@dataclass(frozen=True)
class TextureVariant:
    """A generator of textures."""

    norm: Norm
    style: str

    @property
    def name(self) -> str:
        return f"texture-{self.norm}-{self.style}"


def main_variants(budget: Budget) -> list[Variant]:
    """Both architectures with both norms, seed by seed: a run that is cut short has whole seeds."""
    return [
        Variant(architecture, norm, style, seed)
        for seed in range(budget.seeds)
        for style in budget.styles
        for architecture in ARCHITECTURES
        for norm in NORMS
    ]


def first_seed(budget: Budget) -> list[Variant]:
    return [variant for variant in main_variants(budget) if variant.seed == 0]


def light_variants(budget: Budget) -> list[Variant]:
    """Residual generators of the first style, trained on photographs in three lights."""
    lights: tuple[Light, ...] = ("original", "equalised", "stylised")
    return [
        Variant("residual", norm, budget.styles[0], seed, light=light)
        for seed in range(budget.side_seeds)
        for light in lights
        for norm in NORMS
    ]


def normaliser(budget: Budget) -> Variant:
    """The generator that stylizes photographs for the training of others: another style than theirs."""
    return Variant("residual", "instance", budget.styles[1], 0)


def border_variants(budget: Budget) -> list[Variant]:
    """Pyramids of the first style, as in the paper's figure, with both paddings."""
    paddings: tuple[Padding, ...] = ("zeros", "continued")
    return [
        Variant("pyramid", norm, budget.styles[0], seed, padding=padding)
        for seed in range(budget.side_seeds)
        for padding in paddings
        for norm in NORMS
    ]


def texture_variants(budget: Budget) -> list[TextureVariant]:
    return [TextureVariant(norm, style) for style in budget.styles for norm in NORMS]


VARIANTS: dict[str, Callable[[Budget], list[Variant]]] = {
    "norms": main_variants,
    "test_time": first_seed,
    "contrast": first_seed,
    "photographs": lambda budget: [normaliser(budget), *light_variants(budget)],
    "borders": border_variants,
    "resolution": first_seed,
    "gatys": first_seed,
    "texture": lambda _budget: [],
}
"""By the name of the experiment."""

EXPERIMENTS = tuple(VARIANTS)


def wanted_variants(budget: Budget, experiments: tuple[str, ...]) -> list[Variant]:
    """Those of these experiments, each once, in the order in which they can be trained."""
    return list(dict.fromkeys(variant for name in experiments for variant in VARIANTS[name](budget)))
