"""Writes the style pictures that our own code draws.

python -m trainer.drawings FOLDER
"""

from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from trainer.drawings import DRAWINGS

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def write(folder: Annotated[Path, typer.Argument(help="Where NAME.png goes, for every drawing.")]) -> None:
    """Draws every style picture: eight files of 768×768 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in DRAWINGS.items():
        Image.fromarray(picture()).save(folder / f"{name}.png")
        typer.echo(folder / f"{name}.png")


if __name__ == "__main__":
    app()
