"""A job on the command line: a progress bar until it ends, and then what it has made."""

import contextlib
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from atelier.client import UNFINISHED, Client, ServiceError, UnreachableError, result_of
from atelier.places import complaints, out


def follow(client: Client, job: dict[str, Any], previews: Path | None = None) -> dict[str, Any] | None:
    """Shows the job until it has ended; its last document, or None when Ctrl-C has ended the waiting before.

    Previews of a training go into the folder, as files under the name of the style.
    """
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=complaints) as progress:
        task = progress.add_task("", total=1.0)

        def watch(document: dict[str, Any]) -> None:
            _show(progress, task, document)
            if previews is not None:
                _save_previews(client, document, previews)

        watch(job)
        try:
            ended = client.follow(job, watch)
        except KeyboardInterrupt:
            return None
        watch(ended)
    return ended


def _show(progress: Progress, task: TaskID, job: dict[str, Any]) -> None:
    now = job["progress"]
    if job["state"] not in UNFINISHED:
        progress.update(task, completed=1.0 if job["state"] == "succeeded" else None, description=job["state"])
    elif now:
        losses = "  ".join(f"{loss} {value:.3g}" for loss, value in now["losses"].items())
        progress.update(task, completed=now["fraction"], description=f"{now['stage']}  {now['detail'] or losses}")
    else:
        progress.update(task, description="waiting for its turn" if job["state"] == "queued" else "running")


def _save_previews(client: Client, job: dict[str, Any], folder: Path) -> None:
    for number, url in enumerate((job["progress"] or {}).get("previews", [])):
        with contextlib.suppress(ServiceError, UnreachableError):  # the next round shows newer ones
            (folder / f"{job['style']}-{number}.jpg").write_bytes(client.picture(url))


def say_goes_on(job: dict[str, Any]) -> None:
    """Of a job that is waited for no longer."""
    known = f"`atelier jobs follow {job['id']}` shows how it does, `atelier jobs cancel {job['id']}` ends it."
    out.print(f"The job goes on: {known}", soft_wrap=True)


def say_result(job: dict[str, Any]) -> None:
    """What a job that has ended has made. Raises ServiceError when it failed or was canceled."""
    result = result_of(job)
    if job["kind"] == "train":
        _say_style(result)
    else:
        is_lone = job["kind"] == "stylize"
        made = "The picture is" if is_lone else f"{result['succeeded']} of {len(job['children'])} pictures are"
        fetch = f"atelier jobs follow {job['id']} -o {'out.jpg' if is_lone else 'out.zip'}"
        out.print(f"{made} made; `{fetch}` fetches what there is.", soft_wrap=True)


def _say_style(result: dict[str, Any]) -> None:
    style = result["style"]
    ref = f"{style['name']}@{style['version']}"
    if result["status"] == "draft":
        out.print(f"{ref} is a draft. {result['reason']}", soft_wrap=True)
        out.print(f"It can be used as {ref}; `atelier styles activate {ref}` makes it the style.", soft_wrap=True)
    else:
        out.print(f"{ref} is published: atelier stylize photo.jpg --style {style['name']} -o out.jpg", soft_wrap=True)
