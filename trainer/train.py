"""Trains a style bank: one generator and a style vector for each of several paintings.

    python -m trainer.train bank --style starry_night.jpg --style great_wave.jpg --content photographs/ --out run/

The run can be stopped (Ctrl-C, SIGTERM, SIGKILL) and started again with the same arguments: it goes on from its last
state, with the same pictures, weights, optimiser and schedule as if it had never stopped. ``--out`` then holds
``bank.safetensors`` (the checkpoint, for ``atelier styles import``), ``state.pt``, ``losses.jsonl`` and previews.
"""

import json
import math
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torchvision.utils import save_image

from contract.errors import AtelierError, SettingsError
from contract.settings import load as load_settings
from generator.checkpoint import CONTENT_ROW, of_generator
from generator.network import Architecture, Generator, GeneratorConfig, Norm
from generator.pixels import to_tensor
from trainer.content import Photographs, load, scaled
from trainer.perceptual import Descriptor, LossConfig, Losses, PerceptualLoss
from trainer.settings import TrainerSettings

CALIBRATION_PHOTOGRAPHS = 16
CALIBRATION_BATCH = 2**32 - 1
"""The number of a batch that no run trains on."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a run learns, besides its pictures."""

    generator: GeneratorConfig
    loss: LossConfig
    iterations: int = 3000
    batch: int = 4
    size: int = 256
    style_size: int = 384
    learning_rate: float = 1e-3
    style_learning_rate: float = 1e-2
    """That of the style vectors: few numbers, each of which steers a whole channel, can and must move faster."""
    seed: int = 0


class BankTraining:
    """The state of one run: generator, style vectors, optimiser, and how far it has come."""

    def __init__(self, config: TrainConfig, names: Sequence[str], device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.names = (CONTENT_ROW, *names)
        self.device = device
        self.generator = Generator(config.generator).to(device).to(memory_format=torch.channels_last)
        self.styles = nn.Parameter(self.generator.neutral_style().repeat(len(self.names), 1).to(device))
        self.optimizer = torch.optim.Adam(
            [
                {"params": list(self.generator.parameters()), "peak": config.learning_rate},
                {"params": [self.styles], "peak": config.style_learning_rate},
            ]
        )
        self.iteration = 0

    def _set_learning_rates(self) -> None:
        """Half a cosine from the configured rates to a hundredth of them."""
        progress = min(1.0, self.iteration / max(1, self.config.iterations))
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))

    def rows(self) -> Tensor:
        """The rows of this batch: every row of the bank in turn, in a new order each round. [batch]"""
        first = self.iteration * self.config.batch
        rounds = range(first // len(self.names), (first + self.config.batch) // len(self.names) + 1)
        order = np.concatenate(
            [np.random.default_rng((self.config.seed, 1, number)).permutation(len(self.names)) for number in rounds]
        )
        start = first % len(self.names)
        return torch.from_numpy(order[start : start + self.config.batch]).to(self.device)

    def step(self, content: Tensor, loss: PerceptualLoss) -> dict[str, float]:
        """One iteration over a batch [B,3,H,W]; the means of its losses. Raises AtelierError when they diverge."""
        rows = self.rows()
        self._set_learning_rates()
        content = content.to(self.device, memory_format=torch.channels_last)
        self.generator.train()
        with torch.autocast(self.device.type, torch.bfloat16):
            stylized = self.generator(content, self.styles[rows])
            losses = loss(stylized, content, rows)
        total = losses.total.mean()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        figures = {"total": total.item(), **_means_over_rows(losses, rows)}
        if not (math.isfinite(figures["total"]) and self._gradients_are_finite()):
            # Before the weights are touched, so that what is saved can be gone on from.
            raise AtelierError(
                f"The losses are no longer numbers after iteration {self.iteration}: lower --learning-rate."
            )
        self.optimizer.step()
        self.iteration += 1
        return figures

    def _gradients_are_finite(self) -> bool:
        gradients = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        return bool(torch.isfinite(nn.utils.get_total_norm(gradients)))

    def state(self) -> dict[str, Any]:
        return {
            "config": json.dumps(asdict(self.config)),
            "names": list(self.names),
            "generator": self.generator.state_dict(),
            "styles": self.styles.data,
            "optimizer": self.optimizer.state_dict(),
            "iteration": self.iteration,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Raises SettingsError when the state is that of a run with another configuration."""
        if state["config"] != json.dumps(asdict(self.config)) or state["names"] != list(self.names):
            raise SettingsError("The folder holds a run with other arguments: use them again, or another --out.")
        self.generator.load_state_dict(state["generator"])
        self.styles.data.copy_(state["styles"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.iteration = state["iteration"]

    def checkpoint(self) -> bytes:
        return of_generator(self.generator, self.names, self.styles).half().to_bytes()


def _means_over_rows(losses: Losses, rows: Tensor) -> dict[str, float]:
    """Content and style loss of the styled pictures, and the identity loss of the others."""
    styled = rows > 0
    figures: dict[str, float] = {}
    if bool(styled.any()):
        figures |= {"content": losses.content[styled].mean().item(), "style": losses.style[styled].mean().item()}
    if not bool(styled.all()):
        figures["identity"] = losses.total[~styled].mean().item()
    return figures


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Writes beside, then renames: a run that is killed leaves the old file or the new one."""
    beside = path.with_name(path.name + ".part")
    write(beside)
    beside.replace(path)


@dataclass
class Run:
    """A training with its folder: resumes, saves, logs, previews and stops when asked."""

    training: BankTraining
    photographs: Photographs
    loss: PerceptualLoss
    folder: Path
    previews: list[Tensor]
    checkpoint_seconds: float
    stop_requested: bool = False

    def resume(self) -> None:
        state = self.folder / "state.pt"
        if state.exists():
            self.training.restore(torch.load(state, map_location=self.training.device, weights_only=True))
        self._trim_log()

    def _trim_log(self) -> None:
        """Takes out what was logged after the state that the run goes on from: it will be logged again."""
        log = self.folder / "losses.jsonl"
        if log.exists():
            lines = log.read_text().splitlines(keepends=True)[: self.training.iteration]
            write_atomically(log, lambda path: path.write_text("".join(lines)))

    def train(self, progress: Callable[[int, dict[str, float]], None]) -> None:
        """Trains to the end or until ``stop_requested``; the last state is saved either way."""
        config = self.training.config
        saved = time.monotonic()
        with (self.folder / "losses.jsonl").open("a") as log:
            while self.training.iteration < config.iterations and not self.stop_requested:
                batch = self.photographs.batch(self.training.iteration, config.batch, config.size)
                figures = self.training.step(batch, self.loss)
                log.write(json.dumps({"iteration": self.training.iteration, **figures}) + "\n")
                progress(self.training.iteration, figures)
                if time.monotonic() - saved > self.checkpoint_seconds:
                    log.flush()
                    self.save()
                    saved = time.monotonic()
        self.save()

    def save(self) -> None:
        write_atomically(self.folder / "state.pt", lambda path: torch.save(self.training.state(), path))
        write_atomically(self.folder / "bank.safetensors", lambda path: path.write_bytes(self.training.checkpoint()))
        self.save_preview()

    @torch.no_grad()
    def save_preview(self) -> None:
        """A grid: one row per photograph; the photograph, then each row of the bank."""
        generator = self.training.generator.eval()
        cells = []
        for picture in self.previews:
            styles = self.training.styles
            content = picture[None].to(self.training.device).expand(len(styles), -1, -1, -1)
            cells += [picture[None], generator(content, styles).cpu().clamp(0, 1)]
        if cells:
            save_image(torch.cat(cells), self.folder / "preview.png", nrow=1 + len(self.training.names))


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def commands() -> None:
    """Trains generators."""


@app.command()
def bank(
    style: Annotated[list[Path], typer.Option(help="A picture of a style; its file name names the row. Repeat it.")],
    out: Annotated[Path, typer.Option(help="The folder of the run.")],
    content: Annotated[Path | None, typer.Option(help="Photographs; default ATELIER_CONTENT.")] = None,
    vgg: Annotated[Path | None, typer.Option(help="VGG-19 weights (safetensors); default ATELIER_VGG.")] = None,
    preview: Annotated[list[Path] | None, typer.Option(help="A photograph for previews. Repeat it.")] = None,
    architecture: Annotated[str, typer.Option(help="residual or pyramid.")] = "residual",
    norm: Annotated[str, typer.Option(help="instance or batch.")] = "instance",
    width: Annotated[int, typer.Option(min=1, max=256, help="Channels of the first layer.")] = 16,
    iterations: Annotated[int, typer.Option(min=1)] = 3000,
    batch: Annotated[int, typer.Option(min=1)] = 4,
    size: Annotated[int, typer.Option(min=32, help="Side of the crops, in pixels.")] = 256,
    style_size: Annotated[int, typer.Option(min=32, help="Long side of the style pictures: the stroke size.")] = 384,
    style_weight: Annotated[float, typer.Option(min=0)] = LossConfig.style_weight,
    total_variation_weight: Annotated[float, typer.Option(min=0)] = LossConfig.total_variation_weight,
    learning_rate: Annotated[float, typer.Option(min=0)] = 1e-3,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    checkpoint_seconds: Annotated[float, typer.Option(help="How much a crash may lose.")] = 60,
    device: Annotated[str, typer.Option(help="cuda or cpu; default what there is.")] = "",
) -> None:
    """Trains one generator for several styles at once."""
    settings = load_settings(TrainerSettings)
    config = TrainConfig(
        GeneratorConfig(_one_of(architecture, Architecture), _one_of(norm, Norm), width),
        LossConfig(style_weight=style_weight, total_variation_weight=total_variation_weight),
        iterations=iterations,
        batch=batch,
        size=size,
        style_size=style_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    run = prepare(
        config,
        styles=style,
        content=_needed(content or settings.content, "photographs", "--content", "ATELIER_CONTENT"),
        vgg=_needed(vgg or settings.vgg, "VGG-19 weights", "--vgg", "ATELIER_VGG"),
        previews=preview or [],
        folder=out,
        checkpoint_seconds=checkpoint_seconds,
        device=torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")),
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: setattr(run, "stop_requested", True))
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    ) as progress:
        task = progress.add_task("starting", total=iterations, completed=run.training.iteration)

        def show(iteration: int, figures: dict[str, float]) -> None:
            text = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
            progress.update(task, completed=iteration, description=text)

        run.train(show)


def prepare(
    config: TrainConfig,
    *,
    styles: list[Path],
    content: Path,
    vgg: Path,
    previews: list[Path],
    folder: Path,
    checkpoint_seconds: float,
    device: torch.device,
) -> Run:
    """Reads what a run needs, calibrates the descriptor and goes to where the run stopped, if it ever ran."""
    names = [path.stem for path in styles]
    if len({CONTENT_ROW, *names}) <= len(names):
        raise SettingsError(f"Every style picture needs a file name of its own, other than {CONTENT_ROW!r}.")
    folder.mkdir(parents=True, exist_ok=True)
    photographs = Photographs(content, config.seed)
    descriptor = Descriptor(vgg, config.loss.layers).to(device).to(memory_format=torch.channels_last)
    descriptor.calibrate(photographs.batch(CALIBRATION_BATCH, CALIBRATION_PHOTOGRAPHS, config.size).to(device))
    loss = PerceptualLoss(descriptor, config.loss).with_styles(
        [_long_side(load(path), config.style_size).to(device) for path in styles]
    )
    training = BankTraining(config, names, device)
    run = Run(training, photographs, loss, folder, [_square(path) for path in previews], checkpoint_seconds)
    run.resume()
    return run


def _long_side(picture: Image.Image, pixels: int) -> Tensor:
    return to_tensor(np.array(scaled(picture, pixels / max(picture.size))))


def _square(path: Path, side: int = 384) -> Tensor:
    picture = load(path)
    picture = scaled(picture, side / min(picture.size))
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return to_tensor(np.array(picture.crop((left, top, left + side, top + side))))


def _one_of(value: str, choices: Any) -> Any:
    if value not in choices.__args__:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(choices.__args__)}")
    return value


def _needed(path: Path | None, what: str, option: str, variable: str) -> Path:
    if path is None:
        raise SettingsError(f"Where are the {what}? Name them with {option} or {variable}.")
    if not path.exists():
        raise SettingsError(f"There is nothing at {path}, where the {what} should be ({option} or {variable}).")
    return path


if __name__ == "__main__":
    try:
        app()
    except AtelierError as error:
        raise SystemExit(f"{error}") from None
