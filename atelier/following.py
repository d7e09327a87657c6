"""A job on the command line: a progress bar until it ends, and then what it has made."""

import contextlib
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from atelier.client import Client, ServiceError, UnreachableError, result_of
from atelier.places import complaints, out, service_url


def follow(client: Client, job: dict[str, Any], previews: Path | None = None) -> dict[str, Any]:
    """Shows the job until it has ended; its last document. Previews of a training go into the folder, as files under
    the name of the style."""
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=complaints) as progress:
        task = progress.add_task("waiting for its turn", total=1.0)

        def watch(document: dict[str, Any]) -> None:
            _show(progress, task, document)
            if previews is not None:
                _save_previews(client, document, previews)

        return client.follow(job, watch)


def _show(progress: Progress, task: TaskID, job: dict[str, Any]) -> None:
    if now := job["progress"]:
        losses = "  ".join(f"{loss} {value:.3g}" for loss, value in now["losses"].items())
        text = f"{now['stage']}  {now['detail'] or losses}"
        progress.update(task, completed=now["fraction"], description=text)
    elif job["state"] == "running":
        progress.update(task, description="running")


def _save_previews(client: Client, job: dict[str, Any], folder: Path) -> None:
    for number, url in enumerate((job["progress"] or {}).get("previews", [])):
        with contextlib.suppress(ServiceError, UnreachableError):  # the next round shows newer ones
            (folder / f"{job['style']}-{number}.jpg").write_bytes(client.picture(url))


def say_result(job: dict[str, Any]) -> None:
    """What a job that has ended has made. Raises ServiceError when it failed or was canceled."""
    result = result_of(job)
    if job["kind"] == "train":
        _say_style(result)
    else:
        made = (
            "the picture" if job["kind"] == "stylize" else f"{result['succeeded']} of {len(job['children'])} pictures"
        )
        out.print(f"{job['id']}: {made}, at {service_url()}{job['urls']['result']}", soft_wrap=True)


def _say_style(result: dict[str, Any]) -> None:
    style = result["style"]
    ref = f"{style['name']}@{style['version']}"
    if result["status"] == "draft":
        out.print(f"{ref} is a draft. {result['reason']}", soft_wrap=True)
        out.print(f"It can be used as {ref}; `atelier styles activate {ref}` makes it the style.", soft_wrap=True)
    else:
        out.print(f"{ref} is published: atelier stylize photo.jpg --style {style['name']} -o out.jpg", soft_wrap=True)
