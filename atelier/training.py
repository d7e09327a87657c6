"""``atelier train``: a painting in, a style out, with a progress bar and previews."""

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from atelier.client import Client, ServiceError, UnreachableError, result_of
from atelier.places import complaints, out, service_url
from contract.errors import InvalidParameterError
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
        _make(previews)
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
        address = job["urls"]["self"]
        if not detach:
            try:
                job = _follow(client, job, name, previews)
            except KeyboardInterrupt:
                detach = True
    if detach:
        out.print(f"The training goes on as {address}: DELETE {service_url()}{address} ends it.", soft_wrap=True)
    else:
        _say_result(job)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidParameterError(f"{folder} cannot be made ({error.strerror}).", parameter="previews") from error


def _follow(client: Client, job: dict[str, Any], name: str, folder: Path | None) -> dict[str, Any]:
    """Shows the job until it has ended; its last document."""
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=complaints) as progress:
        task = progress.add_task("waiting for the trainer", total=1.0)

        def watch(document: dict[str, Any]) -> None:
            _show(progress, task, document)
            if folder is not None:
                _save_previews(client, document, name, folder)

        return client.follow(job, watch)


def _show(progress: Progress, task: TaskID, job: dict[str, Any]) -> None:
    if now := job["progress"]:
        losses = "  ".join(f"{loss} {value:.3g}" for loss, value in now["losses"].items())
        text = f"{now['stage']}  {now['detail'] or losses}"
        progress.update(task, completed=now["fraction"], description=text)


def _save_previews(client: Client, job: dict[str, Any], name: str, folder: Path) -> None:
    for number, url in enumerate((job["progress"] or {}).get("previews", [])):
        with contextlib.suppress(ServiceError, UnreachableError):  # the next round shows newer ones
            (folder / f"{name}-{number}.jpg").write_bytes(client.picture(url))


def _say_result(job: dict[str, Any]) -> None:
    result = result_of(job)
    style = result["style"]
    ref = f"{style['name']}@{style['version']}"
    if result["status"] == "draft":
        out.print(f"{ref} is a draft. {result['reason']}", soft_wrap=True)
        out.print(f"It can be used as {ref}; `atelier styles activate {ref}` makes it the style.", soft_wrap=True)
    else:
        out.print(f"{ref} is published: atelier stylize photo.jpg --style {style['name']} -o out.jpg", soft_wrap=True)
