"""``atelier styles`` and ``atelier stylize``: what the command line does, and what it says when it cannot."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from atelier import cli
from atelier.client import Client, ServiceError, UnreachableError
from contract.storage import open_storage
from contract.styles import StyleSource, StyleStore
from generator.checkpoint import CONTENT_ROW
from tests.conftest import Stack, free_port, tiny_bank
from tests.pictures import decoded, encoded, photograph


@dataclass
class CommandLine:
    """The command line in this process, which has loaded PyTorch already."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def output(self, *arguments: str, **environment: str) -> str:
        """What it says when it does what it was asked to."""
        return self._run(0, arguments, environment)[0]

    def refusal(self, *arguments: str, **environment: str) -> str:
        """The sentence that it refuses with."""
        _, said = self._run(1, arguments, environment)
        assert said.startswith("atelier: ")
        return said

    def _run(self, code: int, arguments: tuple[str, ...], environment: dict[str, str]) -> tuple[str, str]:
        self.monkeypatch.setattr(sys, "argv", ["atelier", *arguments])
        for name, value in {"ATELIER_DATA": str(self.folder), "COLUMNS": "200", **environment}.items():
            self.monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ending:
            cli.main()
        said, complaint = self.capsys.readouterr()
        assert ending.value.code == code, complaint
        return said, complaint


@pytest.fixture
def atelier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


@pytest.fixture
def photo(tmp_path: Path) -> str:
    (tmp_path / "photo.jpg").write_bytes(encoded(photograph(50, 60)))
    return str(tmp_path / "photo.jpg")


def test_a_bank_brings_its_styles_but_not_its_content_row(tmp_path: Path, atelier: CommandLine) -> None:
    (tmp_path / "bank.safetensors").write_bytes(tiny_bank(CONTENT_ROW, "dawn", "dusk").to_bytes())
    atelier.output("styles", "import", str(tmp_path / "bank.safetensors"), "--builtin")
    cards = StyleStore(open_storage(str(tmp_path / "store"))).cards()
    assert [card.name for card in cards] == ["dawn", "dusk"]
    assert {card.source for card in cards} == {StyleSource.BUILTIN}
    assert cards[0].trunk == cards[1].trunk
    listed = atelier.output("styles", "list")
    assert "dawn" in listed
    assert "dusk" in listed


def test_one_row_of_a_bank_can_be_chosen(tmp_path: Path, atelier: CommandLine) -> None:
    (tmp_path / "bank.safetensors").write_bytes(tiny_bank("dawn", "dusk").to_bytes())
    atelier.output("styles", "import", str(tmp_path / "bank.safetensors"), "--name", "dusk")
    assert StyleStore(open_storage(str(tmp_path / "store"))).names() == ["dusk"]


def test_titles_and_paths_may_hold_brackets_and_colons(tmp_path: Path, atelier: CommandLine) -> None:
    (tmp_path / "[b].safetensors").write_bytes(tiny_bank("dawn").to_bytes())
    title = "Dawn [/red] [bold] :art:"
    atelier.output("styles", "import", str(tmp_path / "[b].safetensors"), "--title", title)
    assert title in atelier.output("styles", "list")
    said = atelier.refusal("stylize", str(tmp_path / "[b].safetensors"), "--style", "dawn", "-o", "[/red]/:art:.jpg")
    assert "There is no folder [/red]:" in said


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip"])
def test_a_file_that_is_no_checkpoint_is_refused_in_a_sentence(
    tmp_path: Path, atelier: CommandLine, content: bytes
) -> None:
    (tmp_path / "weights").write_bytes(content)
    atelier.refusal("styles", "import", str(tmp_path / "weights"), "--name", "mine")


def test_a_bad_name_is_refused_in_a_sentence(tmp_path: Path, atelier: CommandLine) -> None:
    (tmp_path / "bank.safetensors").write_bytes(tiny_bank("../escape").to_bytes())
    atelier.refusal("styles", "import", str(tmp_path / "bank.safetensors"))


def test_without_a_service_the_command_line_says_how_to_start_one(
    tmp_path: Path, atelier: CommandLine, photo: str
) -> None:
    output = str(tmp_path / "out.jpg")
    assert "make run" in atelier.refusal("stylize", photo, "--style", "tiny", "-o", output)
    for address in ("[]", "{}", "half a docu"):
        (tmp_path / "service.json").write_text(address)
        assert "make run" in atelier.refusal("stylize", photo, "--style", "tiny", "-o", output)


def test_a_service_that_is_gone_is_named(tmp_path: Path, atelier: CommandLine, photo: str) -> None:
    """A launcher that was killed leaves the address behind."""
    (tmp_path / "service.json").write_text(f'{{"url": "http://127.0.0.1:{free_port()}"}}')
    said = atelier.refusal("stylize", photo, "--style", "tiny", "-o", str(tmp_path / "out.jpg"))
    assert "No service answers at http://127.0.0.1:" in said
    assert "ATELIER_URL" in said


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "localhost:8000", "http://[::1", "http://a b/"])
def test_an_address_that_is_wrong_is_named(tmp_path: Path, atelier: CommandLine, photo: str, url: str) -> None:
    said = atelier.refusal("stylize", photo, "--style", "tiny", "-o", str(tmp_path / "out.jpg"), ATELIER_URL=url)
    assert f"No service answers at {url}" in said


@pytest.mark.parametrize(
    ("output", "reason"),
    [("out.tiff", ".webp"), ("out", ".webp"), ("nowhere/out.jpg", "There is no folder"), (".jpg", ".webp")],
)
def test_an_output_that_could_not_be_written_is_refused_before_anything_is_sent(
    tmp_path: Path, atelier: CommandLine, photo: str, output: str, reason: str
) -> None:
    said = atelier.refusal(
        "stylize", photo, "--style", "tiny", "-o", str(tmp_path / output), ATELIER_URL="http://127.0.0.1:1"
    )
    assert reason in said
    assert "No service answers" not in said


def test_an_output_that_is_a_folder_is_refused(stack: Stack, tmp_path: Path, atelier: CommandLine, photo: str) -> None:
    (tmp_path / "out.jpg").mkdir()
    said = atelier.refusal("stylize", photo, "--style", "tiny", "-o", str(tmp_path / "out.jpg"), ATELIER_URL=stack.url)
    assert "out.jpg cannot be written (Is a directory)" in said


def test_the_client_says_that_nothing_answers() -> None:
    with Client(f"http://127.0.0.1:{free_port()}") as client, pytest.raises(UnreachableError):
        client.styles()


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


def test_the_command_line_finds_a_service_by_its_url(
    stack: Stack, tmp_path: Path, atelier: CommandLine, photo: str
) -> None:
    out = tmp_path / "out.avif"
    atelier.output("stylize", photo, "--style", "tiny", "-o", str(out), ATELIER_URL=stack.url)
    assert decoded(out.read_bytes()).size == (50, 60)
