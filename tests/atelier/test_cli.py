"""``atelier styles`` and ``atelier stylize``: what the command line does, and what it says when it cannot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from atelier.client import Client, ServiceError
from contract.storage import open_storage
from contract.styles import StyleSource, StyleStore
from generator.checkpoint import CONTENT_ROW
from tests.conftest import Stack, tiny_bank
from tests.pictures import decoded, encoded, photograph


def atelier(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "atelier.cli", *arguments],
        env={**os.environ, "ATELIER_DATA": str(folder), "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_bank_brings_its_styles_but_not_its_content_row(tmp_path: Path) -> None:
    (tmp_path / "bank.safetensors").write_bytes(tiny_bank(CONTENT_ROW, "dawn", "dusk").to_bytes())
    run = atelier(tmp_path, "styles", "import", str(tmp_path / "bank.safetensors"), "--builtin")
    assert run.returncode == 0, run.stderr
    cards = StyleStore(open_storage(str(tmp_path / "store"))).cards()
    assert [card.name for card in cards] == ["dawn", "dusk"]
    assert {card.source for card in cards} == {StyleSource.BUILTIN}
    assert cards[0].trunk == cards[1].trunk
    listed = atelier(tmp_path, "styles", "list")
    assert "dawn" in listed.stdout
    assert "dusk" in listed.stdout


def test_one_row_of_a_bank_can_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "bank.safetensors").write_bytes(tiny_bank("dawn", "dusk").to_bytes())
    atelier(tmp_path, "styles", "import", str(tmp_path / "bank.safetensors"), "--name", "dusk")
    assert StyleStore(open_storage(str(tmp_path / "store"))).names() == ["dusk"]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip"])
def test_a_file_that_is_no_checkpoint_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights").write_bytes(content)
    run = atelier(tmp_path, "styles", "import", str(tmp_path / "weights"), "--name", "mine")
    assert run.returncode == 1
    assert run.stderr.startswith("atelier: ")
    assert "Traceback" not in run.stderr


def test_a_bad_name_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "bank.safetensors").write_bytes(tiny_bank("../escape").to_bytes())
    run = atelier(tmp_path, "styles", "import", str(tmp_path / "bank.safetensors"))
    assert run.returncode == 1
    assert "Traceback" not in run.stderr


def test_without_a_service_the_command_line_says_how_to_start_one(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(photograph()))
    run = atelier(tmp_path, "stylize", str(tmp_path / "photo.jpg"), "--style", "tiny", "-o", str(tmp_path / "out.jpg"))
    assert run.returncode == 1
    assert "make run" in run.stderr


def test_the_client_stylizes_and_lists(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(encoded(photograph(70, 40), "PNG"))
    with Client(stack.url) as client:
        assert {"tiny", "other"} <= {style["name"] for style in client.styles()}
        picture = decoded(client.stylize(tmp_path / "photo.png", "tiny", size=35, format="jpeg"))
    assert (picture.format, picture.size) == ("JPEG", (35, 20))


def test_the_client_says_what_the_service_said(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(encoded(photograph(), "PNG"))
    with Client(stack.url) as client, pytest.raises(ServiceError, match="There is no style") as error:
        client.stylize(tmp_path / "photo.png", "unheard_of")
    assert error.value.problem["code"] == "style-not-found"


def test_the_command_line_finds_a_service_by_its_url(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(photograph(50, 60)))
    out = tmp_path / "out.avif"
    run = atelier(
        tmp_path, "stylize", str(tmp_path / "photo.jpg"), "--style", "tiny", "-o", str(out), ATELIER_URL=stack.url
    )
    assert run.returncode == 0, run.stderr
    assert decoded(out.read_bytes()).size == (50, 60)
