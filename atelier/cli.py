"""The command line: ``atelier up``, ``stylize``, ``train``, ``jobs``, ``styles``, ``content`` and ``keys``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from atelier import content, jobs, keys, styles, training
from atelier import up as launcher
from atelier.client import PATIENCE_SECONDS, Client, Option, ServiceError
from atelier.places import complaints, out, save, service_url, style_store
from atelier.settings import LauncherSettings
from contract.errors import AtelierError, InvalidParameterError
from contract.jobs import MAX_STRENGTH
from contract.logs import configure_logs
from contract.settings import load

FORMATS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp", ".avif": "avif"}

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(jobs.app, name="jobs")
app.add_typer(styles.app, name="styles")
app.add_typer(content.app, name="content")
app.add_typer(keys.app, name="keys")
app.command("train")(training.train)


@app.command()
def up() -> None:
    """Runs all of Atelier on this machine: gateway, worker, trainer and Redis."""
    configure_logs("atelier")
    launcher.run(load(LauncherSettings), _announce)


def _announce(url: str) -> None:
    style = next((card.name for card in style_store().cards()), "STYLE")
    out.print(f"\nAtelier is ready at {url}   (interface: {url}/docs, stop: Ctrl-C)\n", style="bold", soft_wrap=True)
    key = '-H "Authorization: Bearer KEY" ' if load(LauncherSettings).api_keys else ""
    curl = f"curl {key}-F image=@photo.jpg -F style={style} {url}/stylize -o out.jpg"
    out.print("Try it:", f"  {curl}\n", sep="\n", soft_wrap=True)


@app.command()
def stylize(
    photographs: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="JPEG, PNG, WebP or AVIF.")],
    style: Annotated[str, typer.Option(help="A style's name, name@version, or a blend: a:0.6,b:0.4.")],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="A file, or a folder: one that is there, or ends in /, or is for several photographs.",
        ),
    ],
    strength: Annotated[
        float | None, typer.Option(min=0, max=MAX_STRENGTH, help="0 is the photograph, 1 the style.")
    ] = None,
    preserve_color: Annotated[bool, typer.Option("--preserve-color", help="Keep the photograph's colours.")] = False,
    size: Annotated[int | None, typer.Option(help="The long side of the result in pixels.")] = None,
    quality: Annotated[int | None, typer.Option(help="1 to 100.")] = None,
) -> None:
    """Stylizes a photograph into a file, whose suffix says its format; or any number of them into a folder, each under
    its own name and in its own format."""
    options: dict[str, Option] = {
        "strength": strength,
        "preserve_color": preserve_color or None,
        "size": size,
        "quality": quality,
    }
    if len(photographs) == 1 and not _is_folder(output):
        image_format = _format_of(Path(output))
        with Client(service_url(), busy=_say_busy) as client:
            save(Path(output), client.stylize(photographs[0], style, format=image_format, **options))
    elif not _stylize_all(photographs, style, Path(output), options):
        raise typer.Exit(1)


def _say_busy(error: ServiceError) -> None:
    patience = f"Waiting, for up to {PATIENCE_SECONDS // 60} minutes."
    complaints.print(Text("atelier:", "yellow"), f"{error} {patience}", soft_wrap=True)


def _is_folder(output: str) -> bool:
    """Whether it can only be one, however many photographs a pattern has found."""
    return output.endswith("/") or (output != "" and Path(output).is_dir())


def _stylize_all(photographs: list[Path], style: str, folder: Path, options: dict[str, Option]) -> bool:
    """Whether all of them could be."""
    _check_folder(photographs, folder)
    done = True
    with Client(service_url(), busy=_say_busy) as client:
        for photograph, picture in client.stylize_all(photographs, style, **options):
            if isinstance(picture, bytes):
                save(folder / photograph.name, picture)
            else:
                done = False
                complaints.print(Text("atelier:", "red"), f"{photograph}: {picture}", soft_wrap=True)
    return done


def _check_folder(photographs: list[Path], folder: Path) -> None:
    """Makes the folder. What could not be written, or would be written over, is refused before anything is sent."""
    names = [photograph.name for photograph in photographs]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise InvalidParameterError(f"Two photographs are called {doubled}: rename one.", parameter="photographs")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidParameterError(f"{folder} is no folder ({error.strerror}).", parameter="output") from error
    if any(photograph.resolve().parent == folder.resolve() for photograph in photographs):
        raise InvalidParameterError(
            f"The photographs are in {folder} themselves: name another folder.", parameter="output"
        )


def _format_of(output: Path) -> str:
    """The format that the suffix names. What could not be written is refused here, before anything is sent."""
    if output.suffix.lower() not in FORMATS:
        raise InvalidParameterError(
            f"The suffix of {output} is the name of no format: it can be {', '.join(FORMATS)}.", parameter="output"
        )
    if not output.parent.is_dir():
        raise InvalidParameterError(f"There is no folder {output.parent}: make it first.", parameter="output")
    return FORMATS[output.suffix.lower()]


def main() -> None:
    try:
        app()
    except AtelierError as error:
        complaints.print(Text("atelier:", "red"), str(error), soft_wrap=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
