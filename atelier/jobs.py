"""``atelier jobs``: what waits and runs at the service, how it gets on, and its end."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.table import Column, Table

from atelier.client import Client, result_of
from atelier.following import follow, say_goes_on, say_result
from atelier.places import make_folder, out, save, service_url
from contract.errors import InvalidParameterError

app = typer.Typer(no_args_is_help=True, help="What waits and runs at the service.")

WHOLE = {"job": 36, "kind": 8, "state": 7, "done": 4, "age": 7}
"""Columns that no terminal is too narrow for, and their characters."""

Job = Annotated[str, typer.Argument(help="The id of a job.")]


@app.command("list")
def list_jobs(
    kind: Annotated[str | None, typer.Option(help="stylize, train or batch; else all.")] = None,
    state: Annotated[str | None, typer.Option(help="queued or running; else both.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many are listed at most.")] = 100,
) -> None:
    """Lists the jobs that wait or run, in the order in which they came: your own, or with the key of an admin
    everybody's."""
    with Client(service_url()) as client:
        found = client.jobs(kind=kind, state=state, limit=limit)
    out.print(_table(found["jobs"]))
    if (more := found["total"] - len(found["jobs"])) > 0:
        out.print(f"and {more} more")


def _table(jobs: list[dict[str, Any]]) -> Table:
    """A job a line, on a narrow terminal, too."""
    names = [*WHOLE, *(["client"] if any(job["client"] for job in jobs) else []), "style"]
    columns = (Column(name, no_wrap=True, min_width=WHOLE.get(name)) for name in names)
    table = Table(*columns, box=None, padding=(0, 1, 0, 0))
    for job in jobs:
        done = f"{job['progress']['fraction']:.0%}" if job["progress"] else ""
        row = {"job": job["id"], **job, "done": done, "age": _age(job), "client": job["client"] or ""}
        table.add_row(*(row[name] for name in names))
    return table


@app.command("follow")
def follow_job(
    job: Job,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file for the picture; of a batch, for the ZIP archive.")
    ] = None,
    previews: Annotated[Path | None, typer.Option(help="A folder for the previews of a training.")] = None,
) -> None:
    """Waits for the end of a job, and says what it has made, or saves it. Ctrl-C stops waiting; the job goes on."""
    address = _address(job)
    if previews is not None:
        make_folder(previews, "previews")
    with Client(service_url()) as client:
        document = client.job(address)
        if output is not None and document["kind"] == "train":
            raise InvalidParameterError("What a training makes is a style, and no file.", parameter="output")
        ended = follow(client, document, previews)
        if ended is None:
            say_goes_on(document)
        elif output is None:
            say_result(ended)
        else:
            result_of(ended)
            save(output, client.picture(ended["urls"]["result"]))


@app.command()
def cancel(job: Job) -> None:
    """Ends a job that waits or runs."""
    with Client(service_url()) as client:
        client.cancel(_address(job))
    out.print(f"{job} is canceled.", soft_wrap=True)


def _address(job: str) -> str:
    """Of a job by its id, or as documents have it."""
    try:
        return f"/jobs/{UUID(job.removeprefix('/jobs/'))}"
    except ValueError:
        raise InvalidParameterError(f"{job[:80]!r} is no id of a job.", parameter="job") from None


def _age(job: dict[str, Any]) -> str:
    """Since it was asked for, by this machine's clock: hours, minutes and seconds."""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(job["created_at"])).total_seconds()
    return str(timedelta(seconds=max(0, round(seconds))))
