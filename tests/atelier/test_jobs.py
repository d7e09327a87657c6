"""``atelier jobs``, against a real gateway; the trainer's part is played by the tests."""

from pathlib import Path

import httpx

from atelier.client import Client
from contract.styles import StyleStatus
from tests.atelier.conftest import CommandLine, trainer
from tests.conftest import Stack
from tests.pictures import encoded, photograph


def test_what_waits_is_listed_until_it_is_canceled(stack: Stack, atelier: CommandLine, painting: Path) -> None:
    with Client(stack.url) as client:
        one, two = (client.begin_training([painting], name)["id"] for name in ("cli_one", "cli_other"))
    said = atelier.output("jobs", "list", ATELIER_URL=stack.url)
    (row,) = [line for line in said.splitlines() if one in line]
    assert [cell.strip() for cell in row.split("│")[1:6]] == [one, "train", "queued", "cli_one", "normal"]
    assert said.index(one) < said.index(two)
    shortened = atelier.output("jobs", "list", "--limit", "1", ATELIER_URL=stack.url)
    assert two not in shortened
    assert "and 1 more" in shortened
    assert "canceled" in atelier.output("jobs", "cancel", one, ATELIER_URL=stack.url)
    assert "canceled" in atelier.output("jobs", "cancel", f"/jobs/{two}", ATELIER_URL=stack.url)
    assert two not in atelier.output("jobs", "list", ATELIER_URL=stack.url)


def test_a_training_is_followed_to_its_end(stack: Stack, atelier: CommandLine, painting: Path) -> None:
    with Client(stack.url) as client:
        job_id = client.begin_training([painting], "cli_followed")["id"]
    with trainer(stack, StyleStatus.DRAFT):
        said = atelier.output("jobs", "follow", job_id, ATELIER_URL=stack.url)
    assert "cli_followed@1 is a draft. It is grey." in said


def test_of_pictures_it_is_said_where_they_are(stack: Stack, atelier: CommandLine) -> None:
    pictures = [("image", (f"{seed}.jpg", encoded(photograph(seed=seed)))) for seed in (41, 42)]
    for files, made in ((pictures[:1], "the picture"), (pictures, "2 of 2 pictures")):
        job_id = httpx.post(
            f"{stack.url}/stylize", params={"style": "tiny"}, files=files, headers={"Prefer": "respond-async"}
        ).json()["id"]
        said = atelier.output("jobs", "follow", job_id, ATELIER_URL=stack.url)
        assert said.strip() == f"{job_id}: {made}, at {stack.url}/jobs/{job_id}/result"
        assert httpx.get(said.split()[-1]).is_success


def test_a_job_that_there_is_not_is_refused_in_a_sentence(stack: Stack, atelier: CommandLine) -> None:
    for command in ("follow", "cancel"):
        assert "no job with this id" in atelier.refusal("jobs", command, "unheard-of", ATELIER_URL=stack.url)
        atelier.refusal("jobs", command, "../styles/tiny", ATELIER_URL=stack.url)
    assert httpx.get(f"{stack.url}/styles/tiny").is_success
