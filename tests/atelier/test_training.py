"""``atelier train`` and ``atelier content``, against a real gateway; the trainer's part is played by the tests."""

import re
from pathlib import Path

import pytest

from atelier.client import Client, ServiceError, result_of
from contract.errors import TrainingDivergedError
from contract.styles import StyleStatus
from tests.atelier.conftest import CommandLine, trainer
from tests.conftest import Stack
from tests.pictures import encoded, photograph


def test_a_painting_becomes_a_style_and_previews_become_files(
    stack: Stack, tmp_path: Path, atelier: CommandLine, painting: Path
) -> None:
    folder = tmp_path / "previews"
    options = (
        "--quality",
        "full",
        "--iterations",
        "7",
        "--style-weight",
        "2",
        "--stroke-size",
        "0.5",
        "--title",
        "Mine",
    )
    with trainer(stack) as asked:
        said = atelier.output(
            "train", str(painting), "--name", "cli_mine", *options, "--previews", str(folder), ATELIER_URL=stack.url
        )
    assert "cli_mine@1 is published" in said
    (job,) = asked
    assert (job.quality, job.iterations, job.style_weight, job.stroke_size, job.title) == ("full", 7, 2, 0.5, "Mine")
    assert (folder / "cli_mine-0.jpg").read_bytes() == encoded(photograph(seed=5))


def test_several_pictures_are_one_style(stack: Stack, tmp_path: Path, painting: Path) -> None:
    other = tmp_path / "other.jpg"
    other.write_bytes(encoded(photograph(seed=4)))
    seen: list[str] = []
    with trainer(stack) as asked, Client(stack.url) as client:
        result = client.train([painting, other], "cli_two", watch=lambda job: seen.append(job["state"]))
    assert result["style"] == {"name": "cli_two", "version": 1}
    assert len(asked[0].images) == 2
    assert seen[-1] == "succeeded"


def test_a_draft_is_called_a_draft(stack: Stack, atelier: CommandLine, painting: Path) -> None:
    with trainer(stack, StyleStatus.DRAFT):
        said = atelier.output("train", str(painting), "--name", "cli_draft", ATELIER_URL=stack.url)
    assert "cli_draft@1 is a draft. It is grey." in said
    assert "atelier styles activate cli_draft@1" in said


def test_a_training_that_fails_says_why(stack: Stack, atelier: CommandLine, painting: Path) -> None:
    with trainer(stack, error=TrainingDivergedError("The loss would not fall.")):
        said = atelier.refusal("train", str(painting), "--name", "cli_failed", ATELIER_URL=stack.url)
    assert "The loss would not fall." in said


def test_a_detached_training_can_be_canceled(stack: Stack, atelier: CommandLine, painting: Path) -> None:
    said = atelier.output("train", str(painting), "--name", "cli_away", "--detach", ATELIER_URL=stack.url)
    (job_id,) = re.findall("atelier jobs cancel ([0-9a-f-]+)", said)
    with Client(stack.url) as client:
        job = client.job(f"/jobs/{job_id}")
        assert job["state"] == "queued"
        assert "canceled" in atelier.output("jobs", "cancel", job_id, ATELIER_URL=stack.url)
        with pytest.raises(ServiceError, match="canceled"):
            result_of(client.follow(job, lambda _: None))
    assert "canceled" in atelier.refusal("jobs", "follow", job_id, ATELIER_URL=stack.url)


def test_a_name_that_is_taken_is_refused_in_a_sentence(stack: Stack, atelier: CommandLine, painting: Path) -> None:
    said = atelier.refusal("train", str(painting), "--name", "tiny", ATELIER_URL=stack.url)
    assert "replace" in said


def test_what_is_named_is_not_fetched(tmp_path: Path, atelier: CommandLine) -> None:
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "one.jpg").write_bytes(encoded(photograph()))
    (tmp_path / "vgg.safetensors").write_bytes(b"weights")
    said = atelier.output(
        "content",
        "fetch",
        ATELIER_CONTENT=str(tmp_path / "photographs"),
        ATELIER_VGG=str(tmp_path / "vgg.safetensors"),
        ATELIER_MIRROR="http://127.0.0.1:1",
    )
    assert "vgg.safetensors" in said
    assert "photographs" in said
