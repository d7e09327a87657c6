"""Where the generators of the comparison are trained and kept: one folder for each, with a bank for each milestone."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from contract.errors import SettingsError
from contract.storage import open_storage
from generator.checkpoint import CONTENT_ROW, Checkpoint
from generator.network import Generator
from generator.pixels import to_tensor
from trainer.content import Photographs, load, longer_side, middle_square
from trainer.drawings import DRAWINGS
from trainer.evaluation import stylized_with
from trainer.paper.light import equalised
from trainer.paper.plan import Budget, TextureVariant, Variant, normaliser
from trainer.perceptual import PRESETS, PerceptualLoss
from trainer.rows import calibrated
from trainer.runs import STATE, Batches, Run
from trainer.texture import prepare_texture, texture_config
from trainer.training import Training

LOSS = PRESETS["atelier"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """A generator in evaluation mode, and its style vector [S]."""

    generator: Generator
    style: Tensor


class Altered:
    """Photographs that are altered after they have been cropped."""

    def __init__(self, photographs: Batches, alter: Callable[[Tensor], Tensor]) -> None:
        self._photographs = photographs
        self._alter = alter

    def batch(self, number: int, count: int, size: int) -> Tensor:
        return self._alter(self._photographs.batch(number, count, size))


def style_image(given: str, long_side: int) -> Tensor:
    """The picture [3,H,W] of a style: a file, or the name of one that we draw ourselves."""
    if given in DRAWINGS:
        return to_tensor(np.array(longer_side(Image.fromarray(DRAWINGS[given]()), long_side)))
    if not Path(given).is_file():
        raise SettingsError(f"{given!r} is no file, and none of the drawings {', '.join(DRAWINGS)}.")
    return to_tensor(np.array(longer_side(load(Path(given)), long_side)))


class Workshop:
    """All that trainings and measurements share: photographs, losses, and the folder of what was trained."""

    def __init__(
        self,
        budget: Budget,
        *,
        styles: dict[str, Tensor],
        content: Path,
        held_out: Path | None,
        vgg: Path,
        folder: Path,
        device: torch.device,
        checkpoint_seconds: float,
    ) -> None:
        """``styles`` are the style pictures [3,H,W] by name; ``held_out`` is a folder of photographs to measure on,
        instead of some of ``content`` that are not trained on.
        """
        self.budget = budget
        self.style_pictures = styles
        self.content = content
        self.vgg = vgg
        self.folder = folder
        self.device = device
        self.checkpoint_seconds = checkpoint_seconds
        self._held_out = held_out
        self._descriptor = calibrated(vgg, LOSS, Photographs(content, 0), device, max(32, budget.size))
        self._losses: dict[str, PerceptualLoss] = {}

    def loss(self, style: str) -> PerceptualLoss:
        """Its row 1 is the style."""
        if style not in self._losses:
            pictures = [[self.style_pictures[style].to(self.device)]]
            self._losses[style] = PerceptualLoss(self._descriptor, LOSS).with_styles(pictures)
        return self._losses[style]

    def held_out_squares(self, size: int) -> Tensor:
        """Photographs that no training saw: [≤budget.photographs,3,size,size]."""
        if self._held_out is None:
            return Photographs(self.content, 0).held_out_squares(self.budget.photographs, size).to(self.device)
        paths = sorted(path for path in self._held_out.iterdir() if path.is_file())[: self.budget.photographs]
        return torch.stack([middle_square(load(path), size) for path in paths]).to(self.device)

    def training_crops(self, count: int) -> Tensor:
        """[count,3,size,size] of the photographs that are trained on."""
        return Photographs(self.content, 0).batch(0, count, self.budget.size).to(self.device)

    def picture(self, name: str) -> Path:
        """Where a measurement keeps a picture for later figures."""
        return self.folder / "kept" / f"{name}.png"

    @cached_property
    def contents(self) -> Tensor:
        """What most is measured on."""
        return self.held_out_squares(self.budget.size)

    # --- Photographs in another light ------------------------------------------------------------------------------

    def altered(self, light: str, pictures: Tensor) -> Tensor:
        """Photographs [B,3,H,W] as a training in this light sees them."""
        if light == "equalised":
            return equalised(pictures)
        if light == "stylised":
            first = self._normaliser
            return stylized_with(first.generator, first.style, pictures.to(self.device)).to(pictures.device)
        return pictures

    @cached_property
    def _normaliser(self) -> Trained:
        return self.trained(normaliser(self.budget))

    # --- Trainings -------------------------------------------------------------------------------------------------

    def train(self, variant: Variant, say: Say) -> None:
        """To its end, from where it was stopped; its generator is kept at each milestone."""
        folder = self.folder / "runs" / variant.name
        last = self.budget.milestones[-1]
        if self._bank(variant, last).is_file():
            return
        run = self._run(variant, folder)
        for milestone in self.budget.milestones:
            run.train(lambda _: None, lambda until=milestone: run.training.iteration >= until)  # type: ignore[misc]
            if run.training.iteration == milestone:
                self._bank(variant, milestone).write_bytes(run.training.checkpoint().to_bytes())
                say(f"{variant.name}: {milestone} of {last} iterations, {run.training.seconds:.0f} s")

    def _run(self, variant: Variant, folder: Path) -> Run:
        photographs: Batches = Photographs(self.content, variant.seed)
        if variant.light != "original":
            photographs = Altered(photographs, lambda pictures: self.altered(variant.light, pictures))
        training = Training(
            variant.config(self.budget, LOSS), (CONTENT_ROW, variant.style), self.device, inputs=self._inputs(variant)
        )
        storage = open_storage(str(folder))
        run = Run(training, photographs, self.loss(variant.style), storage, checkpoint_seconds=self.checkpoint_seconds)
        run.resume()
        return run

    def _inputs(self, variant: Variant) -> str:
        """A hash of the pictures and weights that decide what is learnt."""
        parts = [self.style_pictures[variant.style].numpy().tobytes(), self.vgg.read_bytes()]
        if variant.light == "stylised":
            parts.append(self._bank(normaliser(self.budget), self.budget.milestones[-1]).read_bytes())
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()

    def texture(self, variant: TextureVariant) -> Run:
        budget = self.budget
        return prepare_texture(
            texture_config(
                variant.norm, budget.texture_iterations, budget.batch, budget.size, budget.style_size, seed=0
            ),
            name=variant.style,
            picture=self.style_pictures[variant.style],
            vgg=self.vgg,
            folder=self.folder / "runs" / variant.name,
            checkpoint_seconds=self.checkpoint_seconds,
            device=self.device,
        )

    # --- What was trained ------------------------------------------------------------------------------------------

    def trained(self, variant: Variant, milestone: int | None = None) -> Trained:
        """The generator at a milestone, or at the end. Raises SettingsError when it has not been trained."""
        path = self._bank(variant, milestone or self.budget.milestones[-1])
        if not path.is_file():
            raise SettingsError(f"{variant.name} is not trained to its end yet: run the step `train` first.")
        bank = Checkpoint.from_bytes(path.read_bytes())
        return Trained(bank.generator().to(self.device), bank.styles[0].to(self.device))

    def course(self, variant: Variant) -> tuple[list[float], float, int]:
        """The training loss of each iteration, the seconds of all, and how often it went back with a lower rate."""
        path = self.folder / "runs" / variant.name / STATE
        state = torch.load(path, map_location="cpu", weights_only=True)
        return state["history"][:, 0].tolist(), float(state["seconds"]), int(state["back_offs"])

    def _bank(self, variant: Variant, milestone: int) -> Path:
        return self.folder / "runs" / variant.name / f"bank-{milestone:06}.safetensors"
