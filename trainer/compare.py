"""Reproduces the paper's claims and measures them: trains, measures, and writes docs/paper.md.

    python -m trainer.compare --style starry_night.jpg --style stained_glass --content photographs/
    python -m trainer.compare --step write

It can be stopped at any time and goes on where it was with the same arguments. ``--out`` then holds the runs, the
pictures and ``results.json``, from which everything is written. More styles and seeds can be added later.
"""

import platform
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from contract.errors import AtelierError
from contract.settings import load as load_settings
from generator.devices import choose_device, reuse_freed_memory
from trainer.drawings import DRAWINGS
from trainer.fetch import descriptor_file, photographs_folder
from trainer.paper import report
from trainer.paper.exhibits import save_exhibits
from trainer.paper.measures import MEASURES
from trainer.paper.plan import EXPERIMENTS, Budget, texture_variants, wanted_variants
from trainer.paper.results import Results
from trainer.paper.workshop import Say, Workshop, style_image
from trainer.settings import TrainerSettings
from trainer.train import needed

STEPS = ("train", "measure", "write")
DRAWN = ("stained_glass", "woodcut")
"""The default styles: everybody has them."""
DEFAULT = Budget(DRAWN)
SMOKE = Budget(
    DRAWN,
    size=64,
    style_size=64,
    batch=2,
    iterations=3,
    texture_iterations=2,
    residual_width=2,
    pyramid_width=2,
    photographs=2,
    yardsticks=1,
    yardstick_iterations=(1, 2),
    resolutions=(96, 128),
)
"""Shows that everything runs, and nothing else."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def compare(
    style: Annotated[
        list[str] | None,
        typer.Option(help=f"A picture, or one that we draw ({', '.join(DRAWINGS)}). Repeat it: two or more."),
    ] = None,
    content: Annotated[Path | None, typer.Option(help="Photographs; default ATELIER_CONTENT.")] = None,
    held_out: Annotated[
        Path | None, typer.Option(help="Photographs to measure on; default: some of --content that no training sees.")
    ] = None,
    vgg: Annotated[Path | None, typer.Option(help="VGG-19 weights; default ATELIER_VGG.")] = None,
    out: Annotated[Path, typer.Option(help="The folder of runs and results.")] = Path("data/paper"),
    docs: Annotated[Path, typer.Option(help="Where paper.md and its figures go.")] = Path("docs"),
    step: Annotated[list[str] | None, typer.Option(help=f"{', '.join(STEPS)}. Default: all.")] = None,
    experiment: Annotated[list[str] | None, typer.Option(help=f"{', '.join(EXPERIMENTS)}. Default: all.")] = None,
    again: Annotated[bool, typer.Option(help="Measure again what has been measured.")] = False,
    smoke: Annotated[bool, typer.Option(help="A tiny budget that shows that everything runs.")] = False,
    size: Annotated[int | None, typer.Option(min=64, help="Side of the crops, in pixels.")] = None,
    style_size: Annotated[int | None, typer.Option(min=32, help="Long side of the style pictures.")] = None,
    batch: Annotated[int | None, typer.Option(min=2)] = None,
    iterations: Annotated[int | None, typer.Option(min=5)] = None,
    texture_iterations: Annotated[int | None, typer.Option(min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="Not that of textures.")] = None,
    residual_width: Annotated[int | None, typer.Option(min=1, max=256)] = None,
    pyramid_width: Annotated[int | None, typer.Option(min=1, max=256)] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Runs of the main experiment.")] = None,
    side_seeds: Annotated[int | None, typer.Option(min=1, help="Runs of `photographs` and `borders`.")] = None,
    photographs: Annotated[int | None, typer.Option(min=2, help="How many are measured on.")] = None,
    yardsticks: Annotated[int | None, typer.Option(min=1, help="How many are optimised, for each style.")] = None,
    yardstick_iterations: Annotated[list[int] | None, typer.Option(min=1)] = None,
    resolution: Annotated[list[int] | None, typer.Option(min=64, help="Sides in pixels.")] = None,
    checkpoint_seconds: Annotated[float, typer.Option(help="How much a crash may lose.")] = 60,
    device: Annotated[str, typer.Option(help="cuda or cpu; default ATELIER_DEVICE, else what there is.")] = "",
) -> None:
    """Trains what the experiments need, measures it, and writes what came out."""
    steps, experiments = _of(step, STEPS, "--step"), _of(experiment, EXPERIMENTS, "--experiment")
    given: dict[str, Any] = {
        "styles": tuple(Path(one).stem for one in style) if style else None,
        "size": size,
        "style_size": style_size,
        "batch": batch,
        "iterations": iterations,
        "texture_iterations": texture_iterations,
        "learning_rate": learning_rate,
        "residual_width": residual_width,
        "pyramid_width": pyramid_width,
        "seeds": seeds,
        "side_seeds": side_seeds,
        "photographs": photographs,
        "yardsticks": yardsticks,
        "yardstick_iterations": tuple(sorted(yardstick_iterations)) if yardstick_iterations else None,
        "resolutions": tuple(sorted(resolution)) if resolution else None,
    }
    budget = replace(SMOKE if smoke else DEFAULT, **{name: value for name, value in given.items() if value is not None})
    if len(set(budget.styles)) < max(2, len(budget.styles)):
        raise typer.BadParameter("two styles or more, of different names, are compared", param_hint="--style")
    if {"train", "measure"} & set(steps):
        settings = load_settings(TrainerSettings)
        shop = Workshop(
            budget,
            styles=_style_pictures(style or list(DRAWN), budget.style_size),
            content=needed(content or photographs_folder(settings), "photographs", "--content", "ATELIER_CONTENT"),
            held_out=held_out,
            vgg=needed(vgg or descriptor_file(settings), "descriptor weights", "--vgg", "ATELIER_VGG"),
            folder=out,
            device=choose_device(device or settings.device),
            checkpoint_seconds=checkpoint_seconds,
        )
        if "train" in steps:
            train(shop, experiments, typer.echo)
        if "measure" in steps:
            measure(shop, experiments, typer.echo, again=again)
    if "write" in steps:
        typer.echo(report.write(Results.read(out / report.RESULTS), out / "pictures", docs))


def train(shop: Workshop, experiments: tuple[str, ...], say: Say) -> None:
    """All generators that these experiments need, each to its end."""
    for variant in wanted_variants(shop.budget, experiments):
        shop.train(variant, say)
    if "texture" in experiments:
        for texture in texture_variants(shop.budget):
            run = shop.texture(texture)
            if not run.training.is_over:
                run.train(lambda _: None, lambda: False)
                say(f"{texture.name}: {run.training.iteration} iterations, {run.training.seconds:.0f} s")


def measure(shop: Workshop, experiments: tuple[str, ...], say: Say, *, again: bool = False) -> None:
    """What is not measured yet, and the pictures of these experiments."""
    results = Results.open(shop.folder / report.RESULTS, shop.budget, device_words(shop.device))
    for name in experiments:
        if again:
            results.forget(name)
        MEASURES[name](shop, results, say)
        save_exhibits(shop, name, shop.folder / "pictures")


def device_words(device: torch.device) -> str:
    """What the measured seconds are of."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU thread{'s' if torch.get_num_threads() > 1 else ''} ({platform.machine()})"


def _style_pictures(given: list[str], long_side: int) -> dict[str, Tensor]:
    return {Path(one).stem: style_image(one, long_side) for one in given}


def _of(given: list[str] | None, known: tuple[str, ...], option: str) -> tuple[str, ...]:
    """Those that are given, in the order in which they are done; all when none is."""
    if unknown := set(given or ()) - set(known):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: not one of {', '.join(known)}", param_hint=option)
    return tuple(name for name in known if not given or name in given)


if __name__ == "__main__":
    reuse_freed_memory()
    try:
        app()
    except AtelierError as error:
        raise SystemExit(f"{error}") from None
    except KeyboardInterrupt:
        raise SystemExit("Stopped. The same command goes on from here.") from None
