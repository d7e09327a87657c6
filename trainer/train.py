"""Trains a style bank: one generator and a style vector for each of several styles; or a texture, from noise.

    python -m trainer.train bank --style starry_night.jpg --style great_wave.jpg --content photographs/ --out run/
    python -m trainer.train texture --style starry_night.jpg --out run/

The run can be stopped (Ctrl-C, SIGTERM, SIGKILL) and started again with the same arguments: it goes on from its last
state, with the same pictures, weights, optimiser and schedule as if it had never stopped. The exit status of a run that
was stopped is not 0. ``--out`` holds ``bank.safetensors`` (the checkpoint, for ``atelier styles import``), the state,
``losses.jsonl`` and a preview.
"""

import hashlib
import signal
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from contract.errors import AtelierError, CheckpointError, SettingsError
from contract.settings import load as load_settings
from contract.storage import open_storage
from generator.checkpoint import CONTENT_ROW, Checkpoint
from generator.devices import choose_device, reuse_freed_memory
from generator.network import Architecture, GeneratorConfig, Norm
from generator.pixels import to_tensor
from trainer.content import Photographs, load, longer_side
from trainer.evaluation import stylized_with
from trainer.fetch import descriptor_file, photographs_folder
from trainer.optimizers import OPTIMIZERS, OptimizerName
from trainer.perceptual import PRESETS, PerceptualLoss
from trainer.precision import choose_precision
from trainer.rows import CALIBRATION_SIZE, best_row, calibrated, trial
from trainer.runs import Run
from trainer.settings import TrainerSettings
from trainer.sheets import jpeg, sheet
from trainer.texture import prepare_texture, texture_config
from trainer.training import TrainConfig, Training
from trainer.widening import widened

PREVIEW_PHOTOGRAPHS = 3
PREVIEW = "preview.jpg"
LEARNING_RATES: dict[OptimizerName, float] = {"adam": TrainConfig.learning_rate, "muon": 2.5e-3}
"""Those that are taken for a bank when none is given: those with which banks were trained (docs/decisions/0008)."""
THREADS = 8
"""How many batches are made ahead for a GPU."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def commands() -> None:
    """Trains generators."""


@app.command()
def bank(
    style: Annotated[
        list[Path], typer.Option(help="A picture of a style, whose file name names the row, or a folder. Repeat it.")
    ],
    out: Annotated[Path, typer.Option(help="The folder of the run.")],
    content: Annotated[Path | None, typer.Option(help="Photographs; default ATELIER_CONTENT.")] = None,
    vgg: Annotated[Path | None, typer.Option(help="Descriptor weights; default ATELIER_VGG.")] = None,
    start: Annotated[
        Path | None, typer.Option(help="A bank to begin with: its trunk, and its rows where names are the same.")
    ] = None,
    architecture: Annotated[str, typer.Option(help="residual or pyramid.")] = "residual",
    norm: Annotated[str, typer.Option(help="instance or batch.")] = "instance",
    width: Annotated[int, typer.Option(min=1, max=256, help="Channels of the first layer.")] = 32,
    iterations: Annotated[int, typer.Option(min=1)] = 40_000,
    batch: Annotated[int, typer.Option(min=1)] = 4,
    size: Annotated[int, typer.Option(min=32, help="Side of the crops, in pixels.")] = 256,
    style_size: Annotated[int, typer.Option(min=32, help="Long side of the style pictures: the stroke size.")] = 512,
    loss: Annotated[str, typer.Option(help=f"One of {', '.join(PRESETS)}.")] = "atelier",
    style_weight: Annotated[float | None, typer.Option(min=0, help="Instead of the loss's own.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Default: 0.0025 with muon, 0.001 with adam.")
    ] = None,
    style_learning_rate: Annotated[float, typer.Option(min=0)] = TrainConfig.style_learning_rate,
    optimizer: Annotated[
        str,
        typer.Option(help=f"That of the trunk: {' or '.join(OPTIMIZERS)}; adam for runs begun before there was muon."),
    ] = "muon",
    warm_up: Annotated[int, typer.Option(min=0, help="Iterations in which learning rates rise.")] = TrainConfig.warm_up,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    checkpoint_seconds: Annotated[float, typer.Option(help="How much a crash may lose.")] = 60,
    device: Annotated[str, typer.Option(help="cuda or cpu; default ATELIER_DEVICE, else what there is.")] = "",
) -> None:
    """Trains one generator for several styles at once."""
    settings = load_settings(TrainerSettings)
    if loss not in PRESETS:
        raise typer.BadParameter(f"{loss!r} is not one of {', '.join(PRESETS)}", param_hint="--loss")
    preset = PRESETS[loss]
    moved_by = _one_of(optimizer, OptimizerName)
    config = TrainConfig(
        GeneratorConfig(_one_of(architecture, Architecture), _one_of(norm, Norm), width),
        replace(preset, style_weight=preset.style_weight if style_weight is None else style_weight),
        iterations=iterations,
        batch=batch,
        size=size,
        style_size=style_size,
        learning_rate=LEARNING_RATES[moved_by] if learning_rate is None else learning_rate,
        style_learning_rate=style_learning_rate,
        optimizer=moved_by,
        warm_up=warm_up,
        seed=seed,
    )
    run = prepare(
        config,
        styles=[path for given in style for path in _pictures(given)],
        content=needed(content or photographs_folder(settings), "photographs", "--content", "ATELIER_CONTENT"),
        vgg=needed(vgg or descriptor_file(settings, config.loss.network), "descriptor weights", "--vgg", "ATELIER_VGG"),
        start=start,
        folder=out,
        checkpoint_seconds=checkpoint_seconds,
        device=choose_device(device or settings.device),
        looking_size=settings.training_size,
    )
    _train(run)


@app.command()
def texture(
    style: Annotated[Path, typer.Option(help="The picture of the texture.")],
    out: Annotated[Path, typer.Option(help="The folder of the run.")],
    vgg: Annotated[Path | None, typer.Option(help="Descriptor weights; default ATELIER_VGG.")] = None,
    norm: Annotated[str, typer.Option(help="instance or batch.")] = "instance",
    iterations: Annotated[int, typer.Option(min=1)] = 2000,
    batch: Annotated[int, typer.Option(min=1)] = 8,
    size: Annotated[int, typer.Option(min=32, help="Side of the textures, in pixels.")] = 256,
    style_size: Annotated[int, typer.Option(min=32, help="Long side of the picture: how large its marks are.")] = 256,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    checkpoint_seconds: Annotated[float, typer.Option(help="How much a crash may lose.")] = 60,
    device: Annotated[str, typer.Option(help="cuda or cpu; default ATELIER_DEVICE, else what there is.")] = "",
) -> None:
    """Trains a generator that makes a texture from noise: Ulyanov's pyramid, with Gram matrices as its only loss."""
    settings = load_settings(TrainerSettings)
    run = prepare_texture(
        texture_config(_one_of(norm, Norm), iterations, batch, size, style_size, seed),
        name=style.stem,
        picture=style_picture(style, style_size),
        vgg=needed(vgg or descriptor_file(settings, "vgg19"), "descriptor weights", "--vgg", "ATELIER_VGG"),
        folder=out,
        checkpoint_seconds=checkpoint_seconds,
        device=choose_device(device or settings.device),
    )
    _train(run)


def prepare(
    config: TrainConfig,
    *,
    styles: list[Path],
    content: Path,
    vgg: Path,
    folder: Path,
    checkpoint_seconds: float,
    device: torch.device,
    start: Path | None = None,
    looking_size: int = CALIBRATION_SIZE,
) -> Run:
    """Reads what a run needs, calibrates the descriptor and goes to where the run stopped, if it ever ran.

    ``looking_size`` is the side of the crops for the calibration and of previews.
    """
    names = [path.stem for path in styles]
    if len({CONTENT_ROW, *names}) <= len(names):
        raise SettingsError(f"Every style picture needs a file name of its own, other than {CONTENT_ROW!r}.")
    photographs = Photographs(content, config.seed)
    descriptor = calibrated(vgg, config.loss, photographs, device, looking_size)
    loss = PerceptualLoss(descriptor, config.loss).with_styles(
        [[style_picture(path, config.style_size).to(device)] for path in styles]
    )
    begin = _begin(start, names, config, loss, trial(photographs, config.size).to(device)) if start else None
    training = Training(
        config, (CONTENT_ROW, *names), device, begin, choose_precision(device), _inputs(styles, vgg, start)
    )
    threads = THREADS if device.type == "cuda" else 1
    run = Run(
        training,
        photographs,
        loss,
        open_storage(str(folder)),
        checkpoint_seconds=checkpoint_seconds,
        threads=threads,
        saved=lambda _: _save_preview(training, photographs, folder, looking_size),
    )
    run.resume()
    return run


def _begin(start: Path, names: list[str], config: TrainConfig, loss: PerceptualLoss, contents: Tensor) -> Checkpoint:
    """The trunk of a bank, its rows of these names, and for a new name the row that comes nearest to it."""
    bank = Checkpoint.from_bytes(start.read_bytes())
    if bank.config.width < config.generator.width:
        bank = widened(bank, config.generator.width)
    if bank.config != config.generator:
        raise CheckpointError(f"{start.name} holds a generator of {bank.config}, and {config.generator} is asked for.")
    known = dict(zip(bank.names, bank.styles, strict=True))
    rows = [known[CONTENT_ROW] if CONTENT_ROW in known else bank.styles[0]]
    for row, name in enumerate(names, start=1):
        rows.append(known[name] if name in known else best_row(bank, loss, contents, row))
    return Checkpoint(bank.config, bank.trunk, (CONTENT_ROW, *names), torch.stack(rows))


def _inputs(styles: list[Path], vgg: Path, start: Path | None) -> str:
    """A hash of the files that decide what is learnt; photographs are too many, and a few more do no harm."""
    files = [*styles, vgg, *([start] if start else [])]
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()


def _train(run: Run) -> None:
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: stopped.append(received))
    training = run.training
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    ) as progress:
        task = progress.add_task("starting", total=training.config.iterations, completed=training.iteration)

        def show(figures: dict[str, float]) -> None:
            text = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
            progress.update(task, completed=training.iteration, description=text)

        is_over = run.train(show, lambda: bool(stopped))
    if not is_over:
        done = f"iteration {training.iteration:,} of {training.config.iterations:,}"
        typer.echo(f"Stopped at {done}, and saved: the same command goes on from there.", err=True)
        raise typer.Exit(128 + stopped[0])  # as a shell has it of a process that died of the signal


def _save_preview(training: Training, photographs: Photographs, folder: Path, size: int) -> None:
    """A row for each photograph: as it is, then as each row of the bank has it."""
    contents = photographs.held_out_squares(PREVIEW_PHOTOGRAPHS, size).to(training.device)
    columns = [stylized_with(training.generator, style, contents) for style in training.styles]
    (folder / PREVIEW).write_bytes(jpeg(sheet(contents, columns)))


def _pictures(given: Path) -> list[Path]:
    if not given.exists():
        raise SettingsError(f"There is nothing at {given}, where a style picture should be.")
    return sorted(path for path in given.iterdir() if path.is_file()) if given.is_dir() else [given]


def style_picture(path: Path, long_side: int) -> Tensor:
    """A style picture [3,H,W] of this size."""
    return to_tensor(np.array(longer_side(load(path), long_side)))


def _one_of(value: str, choices: Any) -> Any:
    if value not in choices.__args__:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(choices.__args__)}")
    return value


def needed(path: Path | None, what: str, option: str, variable: str) -> Path:
    if path is None:
        raise SettingsError(
            f"Where are the {what}? Name them with {option} or {variable}, or run `atelier content fetch` (with "
            "--vgg16 for the losses of johnson and pytorch_examples)."
        )
    return path


if __name__ == "__main__":
    reuse_freed_memory()
    try:
        app()
    except AtelierError as error:
        raise SystemExit(f"{error}") from None
