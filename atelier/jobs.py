"""``atelier jobs``: what waits and runs at the service, how it gets on, and its end."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.table import Table

from atelier.client import Client
from atelier.following import follow, say_result
from atelier.places import out, service_url

app = typer.Typer(no_args_is_help=True, help="What waits and runs at the service.")

Job = Annotated[str, typer.Argument(help="The id of a job.")]


@app.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many are listed at most.")] = 100,
) -> None:
    """Lists the jobs that wait or run, the oldest first: your own, or with the key of an admin everybody's."""
    with Client(service_url()) as client:
        found = client.jobs(limit)
    table = Table("job", "kind", "state", "style", "priority", "client", "age", "done")
    for job in found["jobs"]:
        done = f"{job['progress']['fraction']:.0%}" if job["progress"] else ""
        row = job["id"], job["kind"], job["state"], job["style"], job["priority"], job["client"] or "", _age(job), done
        table.add_row(*row)
    out.print(table)
    if (more := found["total"] - len(found["jobs"])) > 0:
        out.print(f"and {more} more")


@app.command("follow")
def follow_job(job: Job) -> None:
    """Waits for the end of a job, and says what it has made. Ctrl-C stops waiting; the job goes on."""
    with Client(service_url()) as client:
        ended = follow(client, client.job(_address(job)))
    say_result(ended)


@app.command()
def cancel(job: Job) -> None:
    """Ends a job that waits or runs."""
    with Client(service_url()) as client:
        client.cancel(_address(job))
    out.print(f"{job}: canceled.", soft_wrap=True)


def _address(job: str) -> str:
    return f"/jobs/{quote(job.removeprefix('/jobs/'), safe='')}"


def _age(job: dict[str, Any]) -> str:
    """Since it was asked for, by this machine's clock: hours, minutes and seconds."""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(job["created_at"])).total_seconds()
    return str(timedelta(seconds=max(0, round(seconds))))
