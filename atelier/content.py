"""``atelier content``: what training needs and a fresh machine lacks."""

from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from atelier.places import complaints, out
from contract.settings import load

app = typer.Typer(no_args_is_help=True, help="The photographs and the descriptor weights that training needs.")


@app.callback()
def commands() -> None:
    """The photographs and the descriptor weights that training needs."""


@app.command()
def fetch(
    vgg16: Annotated[bool, typer.Option("--vgg16", help="VGG-16, too: the losses of others look through it.")] = False,
) -> None:
    """Downloads what is missing: VGG-19 of torchvision and the photographs of COCO val2017 (1.4 GB in all).

    It can be stopped and goes on where it was. Nothing is fetched of what ATELIER_VGG and ATELIER_CONTENT name.
    """
    from trainer.fetch import descriptor_file, fetch_missing, photographs_folder
    from trainer.settings import TrainerSettings

    settings = load(TrainerSettings).model_copy(update={"fetch": "auto"})  # whoever says `fetch` means it
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=complaints) as progress:
        task = progress.add_task("looking", total=1.0)

        def report(line: str, fraction: float) -> None:
            progress.update(task, completed=fraction, description=line)

        fetch_missing(settings, report, lambda: False, networks=("vgg19", "vgg16") if vgg16 else ("vgg19",))
    out.print(f"Descriptor weights: {descriptor_file(settings)}", soft_wrap=True)
    out.print(f"Photographs: {photographs_folder(settings)}", soft_wrap=True)
