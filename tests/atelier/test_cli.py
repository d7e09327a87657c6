"""``atelier stylize`` and the client: what they do, and what they say when they cannot."""

from pathlib import Path

import numpy as np
import pytest

from atelier.client import Client, ServiceError, UnreachableError, sliced
from tests.atelier.conftest import CommandLine
from tests.conftest import Stack, free_port, tiny_bank
from tests.pictures import decoded, encoded, photograph


@pytest.fixture
def photo(tmp_path: Path) -> str:
    (tmp_path / "photo.jpg").write_bytes(encoded(photograph(50, 60)))
    return str(tmp_path / "photo.jpg")


def test_titles_and_paths_may_hold_brackets_and_colons(tmp_path: Path, atelier: CommandLine) -> None:
    (tmp_path / "[b].safetensors").write_bytes(tiny_bank("dawn").to_bytes())
    title = "Dawn [/red] [bold] :art:"
    atelier.output("styles", "import", str(tmp_path / "[b].safetensors"), "--title", title)
    assert title in atelier.output("styles", "list")
    said = atelier.refusal("stylize", str(tmp_path / "[b].safetensors"), "--style", "dawn", "-o", "[/red]/:art:.jpg")
    assert "There is no folder [/red]:" in said


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


@pytest.mark.parametrize("output", ["there", "there.jpg", "there/", "new/"])
def test_a_photograph_alone_goes_into_a_folder_as_well(
    stack: Stack, tmp_path: Path, atelier: CommandLine, photo: str, output: str
) -> None:
    """A pattern may find one photograph only."""
    for folder in ("there", "there.jpg"):
        (tmp_path / folder).mkdir()
    atelier.output("stylize", photo, "--style", "tiny", "-o", f"{tmp_path}/{output}", ATELIER_URL=stack.url)
    picture = decoded((tmp_path / output / "photo.jpg").read_bytes())
    assert (picture.format, picture.size) == ("JPEG", (50, 60))


def test_a_photograph_alone_is_not_written_over(tmp_path: Path, atelier: CommandLine, photo: str) -> None:
    nowhere = "http://127.0.0.1:1"
    into = ("stylize", photo, "--style", "tiny", "-o", f"{tmp_path}/")
    assert "name another folder" in atelier.refusal(*into, ATELIER_URL=nowhere)
    unset = ("stylize", photo, "--style", "tiny", "-o", "")
    assert "the name of no format" in atelier.refusal(*unset, ATELIER_URL=nowhere)


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


def test_the_command_line_blends_and_keeps_colours(
    stack: Stack, tmp_path: Path, atelier: CommandLine, photo: str
) -> None:
    """The two tiny styles have trunks of their own, which the service says."""
    out = tmp_path / "out.png"
    content = np.asarray(decoded(Path(photo).read_bytes()).convert("YCbCr"), float)
    strayed = []
    for options in ((), ("--preserve-color",)):
        atelier.output("stylize", photo, "--style", "tiny", "-o", str(out), *options, ATELIER_URL=stack.url)
        strayed.append(np.abs(np.asarray(decoded(out.read_bytes()).convert("YCbCr"), float) - content)[:, :, 1:].mean())
    assert strayed[1] < 0.6 * strayed[0]
    blend = ("stylize", photo, "--style", "tiny:0.6,other:0.4", "-o", str(out))
    assert "trunk" in atelier.refusal(*blend, ATELIER_URL=stack.url)
    strong = ("stylize", photo, "--style", "tiny", "--strength", "0.5", "-o", str(out))
    assert "strength" in atelier.refusal(*strong, ATELIER_URL=stack.url)


def test_several_photographs_go_as_batches_into_a_folder(stack: Stack, tmp_path: Path, atelier: CommandLine) -> None:
    """More than one batch takes, so that there are two, of 16 and of 3."""
    sides = range(20, 39)
    for side in sides:
        (tmp_path / f"{side}.png").write_bytes(encoded(photograph(side, 20), "PNG"))
    names = [str(tmp_path / f"{side}.png") for side in sides]
    out = tmp_path / "new" / "out"
    said = atelier.output("stylize", *names, "--style", "tiny", "-o", str(out), ATELIER_URL=stack.url)
    assert len(said.splitlines()) == len(sides)
    assert [decoded((out / f"{side}.png").read_bytes()).size for side in sides] == [(side, 20) for side in sides]


def test_photographs_are_not_written_over(stack: Stack, tmp_path: Path, atelier: CommandLine, photo: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "photo.jpg").write_bytes(Path(photo).read_bytes())
    (tmp_path / "b.jpg").write_bytes(Path(photo).read_bytes())
    twice = ("stylize", photo, str(tmp_path / "a" / "photo.jpg"), "--style", "tiny", "-o", str(tmp_path / "out"))
    assert "Two photographs are called photo.jpg" in atelier.refusal(*twice, ATELIER_URL=stack.url)
    into = ("stylize", photo, str(tmp_path / "b.jpg"), "--style", "tiny", "-o", str(tmp_path))
    assert "name another folder" in atelier.refusal(*into, ATELIER_URL=stack.url)
    file = ("stylize", photo, str(tmp_path / "b.jpg"), "--style", "tiny", "-o", photo)
    assert "is no folder" in atelier.refusal(*file, ATELIER_URL=stack.url)


def test_slices_are_as_large_as_the_service_takes(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(6)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes(1000 if number < 4 else 5000))
    assert [len(each) for each in sliced(paths, 3, 100_000)] == [3, 3]
    assert [len(each) for each in sliced(paths, 16, 4000)] == [2, 2, 1, 1]
    assert list(sliced([], 3, 100)) == []
