"""The command line: ``atelier up``, ``atelier stylize``, ``atelier styles``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from atelier import up as launcher
from atelier.client import Client
from atelier.settings import LauncherSettings
from contract.errors import AtelierError, InvalidParameterError, SettingsError
from contract.logs import configure_logs
from contract.settings import load
from contract.storage import open_storage
from contract.styles import StyleDraft, StyleSource, StyleStore

if TYPE_CHECKING:
    from generator.network import GeneratorConfig

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
styles_app = typer.Typer(no_args_is_help=True, help="The styles of the model store.")
app.add_typer(styles_app, name="styles")

FORMATS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp", ".avif": "avif"}

out = Console(markup=False, emoji=False)


@app.command()
def up() -> None:
    """Runs all of Atelier on this machine: gateway, worker, trainer and Redis."""
    configure_logs("atelier")
    launcher.run(load(LauncherSettings), _announce)


def _announce(url: str) -> None:
    style = next((card.name for card in _store().cards()), "STYLE")
    out.print(f"\nAtelier is ready at {url}   (interface: {url}/docs, stop: Ctrl-C)\n", style="bold", soft_wrap=True)
    out.print(
        "Try it:", f"  curl -F image=@photo.jpg -F style={style} {url}/stylize -o out.jpg\n", sep="\n", soft_wrap=True
    )


@app.command()
def stylize(
    photograph: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JPEG, PNG, WebP or AVIF.")],
    style: Annotated[str, typer.Option(help="A style's name, or name@version.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the picture goes.")],
    size: Annotated[int | None, typer.Option(help="The long side of the result in pixels.")] = None,
    quality: Annotated[int | None, typer.Option(help="1 to 100.")] = None,
) -> None:
    """Stylizes a photograph; the suffix of the output says its format."""
    image_format = _format_of(output)
    with Client(_service_url()) as client:
        picture = client.stylize(photograph, style, size=size, quality=quality, format=image_format)
    try:
        output.write_bytes(picture)
    except OSError as error:
        raise InvalidParameterError(f"{output} cannot be written ({error.strerror}).", parameter="output") from error
    out.print(f"{output}: {len(picture):,} bytes", soft_wrap=True)


def _format_of(output: Path) -> str:
    """The format that the suffix names. What could not be written is refused here, before anything is sent."""
    if output.suffix.lower() not in FORMATS:
        raise InvalidParameterError(
            f"The suffix of {output} is the name of no format: it can be {', '.join(FORMATS)}.", parameter="output"
        )
    if not output.parent.is_dir():
        raise InvalidParameterError(f"There is no folder {output.parent}: make it first.", parameter="output")
    return FORMATS[output.suffix.lower()]


@styles_app.command("list")
def list_styles() -> None:
    """Lists the styles in the store, and their active versions."""
    table = Table("style", "version", "source", "network", "title")
    for card in _store().cards():
        network = f"{card.architecture}, {card.norm} norm, width {card.width}"
        table.add_row(card.name, str(card.version), card.source, network, card.title)
    out.print(table)


@styles_app.command("import")
def import_styles(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A checkpoint.")],
    name: Annotated[str, typer.Option(help="The style's name; a bank of several styles brings its own.")] = "",
    title: Annotated[str, typer.Option(help="A title for people.")] = "",
    description: Annotated[str, typer.Option(help="A sentence or two.")] = "",
    store: Annotated[Path | None, typer.Option(help="Another store than the service's.")] = None,
    builtin: Annotated[bool, typer.Option(help="Mark it as one that ships with Atelier.")] = False,
) -> None:
    """Publishes the styles of a checkpoint: a bank of ours, or a generator of pytorch/examples (any file suffix)."""
    from generator import checkpoint as checkpoints

    bank = checkpoints.read(file, name)
    rows = [row for row in bank.names if row != checkpoints.CONTENT_ROW and name in ("", row)]
    source = StyleSource.BUILTIN if builtin else StyleSource.IMPORTED
    target = StyleStore(open_storage(str(store))) if store else _store()
    trunk = checkpoints.trunk_of(bank)
    drafts = [_draft(row, title, description, source, bank.config) for row in rows]
    for draft in drafts:
        published = target.publish(draft, trunk, checkpoints.vector_of(bank, draft.name))
        out.print(f"{published.ref} is published and active.", soft_wrap=True)


def _draft(name: str, title: str, description: str, source: StyleSource, config: "GeneratorConfig") -> StyleDraft:
    try:
        return StyleDraft(
            name=name,
            title=title or name.replace("_", " ").capitalize(),
            description=description,
            source=source,
            architecture=config.architecture,
            norm=config.norm,
            width=config.width,
        )
    except ValidationError:
        raise InvalidParameterError(
            f"{name!r} cannot be the name of a style: use a-z, 0-9, _ and -, at most 64 of them.", parameter="name"
        ) from None


def _store() -> StyleStore:
    return StyleStore(open_storage(load(LauncherSettings).store_url))


def _service_url() -> str:
    """Where the service is: ATELIER_URL, or what the launcher wrote into the data folder."""
    settings = load(LauncherSettings)
    if settings.url:
        return settings.url
    try:
        return str(json.loads((settings.data / "service.json").read_text())["url"])
    except (OSError, ValueError, KeyError, TypeError):
        raise SettingsError(
            f"No service runs on the data folder {settings.data}: start one with `make run`, or say where it is with "
            "ATELIER_URL."
        ) from None


def main() -> None:
    try:
        app()
    except AtelierError as error:
        Console(stderr=True, markup=False, emoji=False).print(Text("atelier:", "red"), str(error), soft_wrap=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
