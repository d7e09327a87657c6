"""``atelier jobs``, against a real gateway; the trainer's part is played by the tests."""

import io
import os
import signal
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from atelier.client import Client
from contract.styles import StyleStatus
from tests.atelier.conftest import CommandLine, trainer
from tests.conftest import Stack
from tests.pictures import encoded, photograph


@contextmanager
def waiting(stack: Stack, painting: Path, *names: str) -> Iterator[list[str]]:
    """The ids of trainings that wait, and are gone afterwards."""
    with Client(stack.url) as client:
        ids = [client.begin_training([painting], name)["id"] for name in names]
        try:
            yield ids
        finally:
            for job_id in ids:
                client.cancel(f"/jobs/{job_id}")


def stylized(stack: Stack, *seeds: int) -> str:
    """The id of a job, or of a batch."""
    files = [("image", (f"{seed}.jpg", encoded(photograph(seed=seed)))) for seed in seeds]
    asked = httpx.post(
        f"{stack.url}/stylize", params={"style": "tiny"}, files=files, headers={"Prefer": "respond-async"}
    )
    return str(asked.json()["id"])


def test_what_waits_is_listed_with_its_whole_id_on_a_narrow_terminal(
    stack: Stack, atelier: CommandLine, painting: Path
) -> None:
    with waiting(stack, painting, "cli_one", "cli_other") as (one, two), Client(stack.url) as client:
        total = client.jobs()["total"]
        said = atelier.output("jobs", "list", ATELIER_URL=stack.url, COLUMNS="80")
        (row,) = [line for line in said.splitlines() if one in line]
        assert row.split()[:3] == [one, "train", "queued"]
        assert row.split()[-1] == "cli_one"
        assert said.index(one) < said.index(two)
        chosen = atelier.output("jobs", "list", "--kind", "train", "--state", "queued", ATELIER_URL=stack.url)
        assert one in chosen
        assert one not in atelier.output("jobs", "list", "--state", "running", ATELIER_URL=stack.url)
        shortened = atelier.output("jobs", "list", "--limit", "1", ATELIER_URL=stack.url)
        assert two not in shortened
        assert f"and {total - 1} more" in shortened
        refusal = atelier.refusal("jobs", "list", "--state", "failed", ATELIER_URL=stack.url)
        assert "'queued' or 'running'" in refusal


def test_a_job_is_canceled_by_its_id_or_its_address(stack: Stack, atelier: CommandLine, painting: Path) -> None:
    with waiting(stack, painting, "cli_gone", "cli_gone_too") as (one, two):
        for job in (one, f"/jobs/{two}"):
            assert "is canceled" in atelier.output("jobs", "cancel", job, ATELIER_URL=stack.url)
        said = atelier.output("jobs", "list", ATELIER_URL=stack.url)
        assert one not in said
        assert two not in said


def test_a_training_is_followed_to_its_end(stack: Stack, tmp_path: Path, atelier: CommandLine, painting: Path) -> None:
    with Client(stack.url) as client:
        job_id = client.begin_training([painting], "cli_followed")["id"]
    assert "no file" in atelier.refusal("jobs", "follow", job_id, "-o", "style.jpg", ATELIER_URL=stack.url)
    with trainer(stack, StyleStatus.DRAFT):
        previews = str(tmp_path / "previews")
        said = atelier.output("jobs", "follow", job_id, "--previews", previews, ATELIER_URL=stack.url)
    assert "cli_followed@1 is a draft. It is grey." in said
    assert (tmp_path / "previews" / "cli_followed-0.jpg").read_bytes() == encoded(photograph(seed=5))


def test_pictures_are_fetched_when_they_are_made(stack: Stack, tmp_path: Path, atelier: CommandLine) -> None:
    lone, batch = stylized(stack, 41), stylized(stack, 41, 42)
    assert "The picture is made" in atelier.output("jobs", "follow", lone, ATELIER_URL=stack.url)
    assert "2 of 2 pictures are made" in atelier.output("jobs", "follow", batch, ATELIER_URL=stack.url)
    picture, archive = tmp_path / "one.jpg", tmp_path / "both.zip"
    atelier.output("jobs", "follow", lone, "-o", str(picture), ATELIER_URL=stack.url)
    assert picture.read_bytes() == httpx.get(f"{stack.url}/jobs/{lone}/result").content
    atelier.output("jobs", "follow", batch, "-o", str(archive), ATELIER_URL=stack.url)
    assert len(zipfile.ZipFile(io.BytesIO(archive.read_bytes())).namelist()) == 2


def test_who_stops_waiting_is_told_that_the_job_goes_on(stack: Stack, atelier: CommandLine, painting: Path) -> None:
    with waiting(stack, painting, "cli_patient") as (job_id,):
        interrupts = threading.Timer(3, os.kill, (os.getpid(), signal.SIGINT))
        interrupts.start()
        said = atelier.output("jobs", "follow", job_id, ATELIER_URL=stack.url)
        interrupts.join()
        assert f"The job goes on: `atelier jobs follow {job_id}`" in said
        with Client(stack.url) as client:
            assert client.job(f"/jobs/{job_id}")["state"] == "queued"


def test_a_job_that_there_is_not_is_refused_in_a_sentence(stack: Stack, atelier: CommandLine) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    for command in ("follow", "cancel"):
        assert "no job with this id" in atelier.refusal("jobs", command, unknown, ATELIER_URL=stack.url)


@pytest.mark.parametrize("job", ["..", ".", "", "/jobs/", "../styles/tiny", "mine"])
def test_what_is_no_id_is_never_sent(atelier: CommandLine, job: str) -> None:
    for command in ("follow", "cancel"):
        said = atelier.refusal("jobs", command, job, ATELIER_URL="http://127.0.0.1:1")
        assert f"{job!r} is no id of a job" in said
