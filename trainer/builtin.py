"""Makes the styles that ship with Atelier: draws and gathers their pictures, and publishes the bank that was trained.

    python -m trainer.builtin pictures --paintings paintings/ --out pictures/
    python -m trainer.train bank --style pictures/ --content photographs/ --vgg vgg19.safetensors --out run/
    python -m trainer.builtin publish run/ --style pictures/ --photographs shown/ --content photographs/ \\
        --vgg vgg19.safetensors

``python -m trainer.builtin bank`` writes the set that is there as one bank, for ``trainer.train bank --start``.
docs/styles.md has the options of the set that is there, and its budget.
"""

import json
import shutil
import tomllib
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from PIL import Image
from torch import Tensor

from contract.errors import AtelierError, SettingsError
from contract.settings import ContractSettings
from contract.storage import open_storage
from contract.styles import Evaluation, StyleDescription, StylePicture, StyleSource, StyleStore
from contract.styles import Training as TrainingCard
from generator.checkpoint import CONTENT_ROW, Checkpoint, style_vector, trunk_of, vector_of
from trainer.content import Photographs, load, middle_square
from trainer.drawings import DRAWINGS
from trainer.evaluation import evaluate, shortcoming, stylized_with
from trainer.perceptual import LossConfig, PerceptualLoss
from trainer.rows import calibrated
from trainer.runs import BANK, STATE
from trainer.sheets import jpeg, wide_sheet
from trainer.train import style_picture

CATALOGUE = "catalogue.toml"
SHEET_SIZE = 256
EVALUATED, EVALUATION_SIZE = 8, 256

BUILTIN = ContractSettings().builtin_styles

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def commands() -> None:
    """Makes the styles that ship with Atelier."""


@app.command()
def pictures(
    paintings: Annotated[Path, typer.Option(exists=True, file_okay=False, help="The paintings, by name.")],
    out: Annotated[Path, typer.Option(help="The folder for all style pictures.")],
) -> None:
    """Draws the drawn styles and puts the paintings beside them: what ``trainer.train bank --style`` takes."""
    found = {path.stem: path for path in paintings.iterdir() if path.is_file()}
    names = _catalogue().keys()
    if lacking := sorted(names - found.keys() - DRAWINGS.keys()):
        raise SettingsError(f"{paintings} lacks pictures of {', '.join(lacking)}.")
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name in DRAWINGS:
            Image.fromarray(DRAWINGS[name]()).save(out / f"{name}.png")
        else:
            shutil.copy(found[name], out / found[name].name)
        typer.echo(name)


@app.command()
def publish(
    run: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="The folder of the run.")],
    style: Annotated[Path, typer.Option(exists=True, file_okay=False, help="The style pictures.")],
    photographs: Annotated[Path, typer.Option(exists=True, file_okay=False, help="What contact sheets show.")],
    content: Annotated[Path, typer.Option(exists=True, file_okay=False, help="The photographs of the run.")],
    vgg: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The descriptor's weights.")],
    start: Annotated[str, typer.Option(help="What the run began with, for the cards.")] = "",
    yardsticks: Annotated[int, typer.Option(min=0, help="Photographs to optimise, for each style.")] = 0,
    yardstick_iterations: Annotated[int, typer.Option(min=1)] = 100,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Although the run is not at its end.")] = False,
) -> None:
    """Replaces the styles that ship with Atelier by those of a bank, evaluated, with thumbnails and contact sheets.

    When one of them fails the check that each new style has to pass, nothing is replaced.
    """
    bank = Checkpoint.from_bytes((run / BANK).read_bytes())
    state: dict[str, Any] = torch.load(run / STATE, map_location="cpu", weights_only=True)
    config = json.loads(state["identity"])
    if state["iteration"] < config["iterations"] and not unfinished:
        raise SettingsError(
            f"The run is at iteration {state['iteration']:,} of {config['iterations']:,}: go on with it, or publish it "
            "with --unfinished."
        )
    shown = _shown(photographs)
    loss, contents = _loss(config, content, vgg)
    generator, trunk = bank.generator(), trunk_of(bank)
    made: list[tuple[StyleDescription, dict[StylePicture, bytes]]] = []
    failed: list[str] = []
    for name, about in _catalogue().items():
        vector = bank.styles[bank.names.index(name)]
        target = loss.with_styles([[style_picture(_picture_of(style, name), config["style_size"])]])
        evaluated = stylized_with(generator, vector, contents)
        evaluation = evaluate(
            target,
            1,
            contents,
            evaluated,
            yardsticks=min(yardsticks, len(contents)),
            iterations=yardstick_iterations,
        )
        if reason := shortcoming(evaluation, evaluated):
            failed.append(f"{name}: {reason}")
        stylized = stylized_with(generator, vector, shown)
        sheets = {StylePicture.THUMBNAIL: jpeg(stylized[0]), StylePicture.SHEET: jpeg(wide_sheet(shown, stylized))}
        made.append((_description(name, about, config, state, start, evaluation), sheets))
        typer.echo(f"{name}: style loss {evaluation.stylized.style:.3f}, content {evaluation.stylized.content:.2f}")
    if failed:
        raise SettingsError("Nothing has been replaced. " + " ".join(failed))
    for kept in ("styles", "trunks"):
        shutil.rmtree(BUILTIN / kept, ignore_errors=True)
    store = StyleStore(open_storage(str(BUILTIN)))
    for description, sheets in made:
        store.publish(description, trunk, vector_of(bank, description.name), sheets)


@app.command()
def bank(out: Annotated[Path, typer.Argument(dir_okay=False, help="The file to write.")]) -> None:
    """Writes the styles that ship with Atelier as one bank, for a training that goes on with them."""
    store = StyleStore(open_storage(str(BUILTIN)))
    cards = [store.get(name) for name in _catalogue()]
    if len(trunks := {card.trunk for card in cards}) != 1:
        raise SettingsError(f"The styles have {len(trunks)} trunks, and a bank has one.")
    trunk = Checkpoint.from_bytes(store.read_trunk(trunks.pop()))
    names = (*trunk.names, *(card.name for card in cards))
    rows = torch.stack([*trunk.styles, *(style_vector(store.vector(card)) for card in cards)])
    out.write_bytes(Checkpoint(trunk.config, trunk.trunk, names, rows).to_bytes())


def _catalogue() -> dict[str, dict[str, str]]:
    """What the styles are called, by name."""
    return tomllib.loads((BUILTIN / CATALOGUE).read_text())


def _shown(folder: Path) -> Tensor:
    return torch.stack([middle_square(load(path), SHEET_SIZE) for path in sorted(folder.iterdir()) if path.is_file()])


def _loss(config: dict[str, Any], content: Path, vgg: Path) -> tuple[PerceptualLoss, Tensor]:
    """The loss of the run, and photographs that it did not see."""
    values = {**config["loss"], "style_layers": tuple(config["loss"]["style_layers"])}
    photographs = Photographs(content, config["seed"])
    loss_config = LossConfig(**values)
    descriptor = calibrated(vgg, loss_config, photographs, torch.device("cpu"))
    return PerceptualLoss(descriptor, loss_config), photographs.held_out_squares(EVALUATED, EVALUATION_SIZE)


def _picture_of(folder: Path, name: str) -> Path:
    for path in folder.iterdir():
        if path.stem == name:
            return path
    raise SettingsError(f"{folder} has no picture of {name!r}.")


def _description(
    name: str, about: dict[str, str], config: dict[str, Any], state: dict[str, Any], start: str, evaluation: Evaluation
) -> StyleDescription:
    generator = config["generator"]
    return StyleDescription(
        name=name,
        title=about["title"],
        description=about["description"],
        source=StyleSource.BUILTIN,
        architecture=generator["architecture"],
        norm=generator["norm"],
        width=generator["width"],
        has_content_row=CONTENT_ROW in config["names"],
        training=TrainingCard(
            method="bank",
            iterations=state["iteration"],
            seconds=round(state["seconds"], 1),
            batch=config["batch"],
            size=config["size"],
            style_size=config["style_size"],
            loss="atelier",
            style_weight=config["loss"]["style_weight"],
            start=start,
        ),
        evaluation=evaluation,
    )


if __name__ == "__main__":
    try:
        app()
    except AtelierError as error:
        raise SystemExit(f"{error}") from None
