"""``atelier train``: a painting in, a style out, with a progress bar and previews."""

from pathlib import Path
from typing import Annotated, Any

import typer

from atelier.client import Client
from atelier.following import follow, say_goes_on, say_result
from atelier.places import make_folder, service_url
from contract.jobs import MAX_ITERATIONS, MAX_STROKE_SIZE, MAX_STYLE_PICTURES, MAX_STYLE_WEIGHT, MIN_STROKE_SIZE


def train(
    pictures: Annotated[
        list[Path],
        typer.Argument(exists=True, dir_okay=False, help=f"1 to {MAX_STYLE_PICTURES} pictures of one style."),
    ],
    name: Annotated[str, typer.Option(help="What the style is called: a-z, 0-9, _ and -.")],
    title: Annotated[str | None, typer.Option(help="A title for people.")] = None,
    quality: Annotated[str | None, typer.Option(help="quick (minutes) or full (a network of its own).")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, max=MAX_ITERATIONS)] = None,
    style_weight: Annotated[
        float | None,
        typer.Option(min=0, max=MAX_STYLE_WEIGHT, help="How much style counts: a multiple of the default."),
    ] = None,
    stroke_size: Annotated[
        float | None, typer.Option(min=MIN_STROKE_SIZE, max=MAX_STROKE_SIZE, help="How large strokes are: a multiple.")
    ] = None,
    content: Annotated[str | None, typer.Option(help="A folder in the trainer's photographs.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Another version of a style that there is.")] = False,
    previews: Annotated[Path | None, typer.Option(help="A folder for the previews.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
) -> None:
    """Learns a style from pictures of it. Ctrl-C stops waiting; the training goes on."""
    if previews is not None:
        make_folder(previews, "previews")
    options: dict[str, Any] = {
        "title": title,
        "quality": quality,
        "iterations": iterations,
        "style_weight": style_weight,
        "stroke_size": stroke_size,
        "content": content,
        "replace": replace or None,
    }
    with Client(service_url()) as client:
        job = client.begin_training(pictures, name, **options)
        ended = None if detach else follow(client, job, previews)
    if ended:
        say_result(ended)
    else:
        say_goes_on(job)
