"""``atelier styles``: the model store from the command line."""

import io
from pathlib import Path

import pytest
import torch

from contract.storage import open_storage
from contract.styles import StyleDescription, StyleSource, StyleStatus, StyleStore
from generator.checkpoint import CONTENT_ROW, Checkpoint, trunk_of, vector_of
from tests.atelier.conftest import CommandLine
from tests.conftest import tiny_bank


@pytest.fixture
def store(tmp_path: Path) -> StyleStore:
    return StyleStore(open_storage(str(tmp_path / "store")))


def imported(atelier: CommandLine, folder: Path, *names: str, seed: int = 0) -> Checkpoint:
    """A bank in a file, and in the store."""
    bank = tiny_bank(*names, seed=seed)
    (folder / "bank.safetensors").write_bytes(bank.to_bytes())
    atelier.output("styles", "import", str(folder / "bank.safetensors"))
    return bank


def test_a_bank_brings_its_styles_but_not_its_content_row(tmp_path: Path, atelier: CommandLine) -> None:
    (tmp_path / "bank.safetensors").write_bytes(tiny_bank(CONTENT_ROW, "dawn", "dusk").to_bytes())
    atelier.output("styles", "import", str(tmp_path / "bank.safetensors"))
    cards = StyleStore(open_storage(str(tmp_path / "store"))).cards()
    assert [card.name for card in cards] == ["dawn", "dusk"]
    assert {card.source for card in cards} == {StyleSource.IMPORTED}
    assert cards[0].trunk == cards[1].trunk
    assert all(card.has_content_row for card in cards)
    listed = atelier.output("styles", "list")
    assert "dawn" in listed
    assert "dusk" in listed


def test_one_row_of_a_bank_can_be_chosen(tmp_path: Path, atelier: CommandLine) -> None:
    (tmp_path / "bank.safetensors").write_bytes(tiny_bank("dawn", "dusk").to_bytes())
    atelier.output("styles", "import", str(tmp_path / "bank.safetensors"), "--name", "dusk")
    assert StyleStore(open_storage(str(tmp_path / "store"))).names() == ["dusk"]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip"])
def test_a_file_that_is_no_checkpoint_is_refused_in_a_sentence(
    tmp_path: Path, atelier: CommandLine, content: bytes
) -> None:
    (tmp_path / "weights").write_bytes(content)
    atelier.refusal("styles", "import", str(tmp_path / "weights"), "--name", "mine")


def test_a_bad_name_is_refused_in_a_sentence(tmp_path: Path, atelier: CommandLine) -> None:
    (tmp_path / "bank.safetensors").write_bytes(tiny_bank("../escape").to_bytes())
    atelier.refusal("styles", "import", str(tmp_path / "bank.safetensors"))


def test_a_bank_without_a_content_row_cannot_set_its_strength(
    tmp_path: Path, atelier: CommandLine, store: StyleStore
) -> None:
    imported(atelier, tmp_path, "dawn")
    assert not store.get("dawn").has_content_row


def test_drafts_are_listed_and_can_be_activated(tmp_path: Path, atelier: CommandLine, store: StyleStore) -> None:
    imported(atelier, tmp_path, "dawn")
    bank = tiny_bank("mine", seed=1)
    about = StyleDescription(
        name="mine",
        source=StyleSource.TRAINED,
        architecture="residual",
        norm="instance",
        width=4,
        status=StyleStatus.DRAFT,
        reason="It turns photographs into a single colour.",
    )
    store.publish(about, trunk_of(bank), vector_of(bank, "mine"))
    listed = atelier.output("styles", "list")
    assert "draft" in listed
    assert "single colour" in atelier.output("styles", "show", "mine@1")
    assert "mine@1" in atelier.refusal("styles", "show", "mine")
    assert "mine@1 is active" in atelier.output("styles", "activate", "mine@1")
    assert store.get("mine").version == 1


def test_a_style_that_was_exported_is_the_same_on_another_machine(
    tmp_path: Path, atelier: CommandLine, store: StyleStore
) -> None:
    bank = imported(atelier, tmp_path, CONTENT_ROW, "dawn", "dusk")
    output = tmp_path / "dusk.safetensors"
    atelier.output("styles", "export", "dusk", "-o", str(output))
    elsewhere = str(tmp_path / "elsewhere")
    atelier.output("styles", "import", str(output), ATELIER_STORE=elsewhere)
    there = StyleStore(open_storage(elsewhere))
    assert there.names() == ["dusk"]
    assert there.get("dusk").same_weights(store.get("dusk"))
    assert torch.equal(Checkpoint.from_bytes(output.read_bytes()).styles, bank.styles[[0, 2]])


def test_an_older_version_can_be_activated_again_and_the_newer_one_deleted(
    tmp_path: Path, atelier: CommandLine, store: StyleStore
) -> None:
    for seed in (0, 1):
        imported(atelier, tmp_path, "dawn", seed=seed)
    assert "dawn@2 is the active version" in atelier.refusal("styles", "delete", "dawn@2", "--yes")
    atelier.output("styles", "activate", "dawn@1")
    atelier.output("styles", "delete", "dawn@2", "--yes")
    assert store.versions("dawn") == [1]
    atelier.output("styles", "delete", "dawn", "--yes")
    assert store.versions("dawn") == []
    assert "There is no style" in atelier.refusal("styles", "show", "dawn")


def test_nothing_is_deleted_without_a_yes(
    tmp_path: Path, atelier: CommandLine, store: StyleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported(atelier, tmp_path, "dawn")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    atelier.aborted("styles", "delete", "dawn")
    assert store.versions("dawn") == [1]


def test_the_store_is_worked_on_wherever_the_service_is_and_the_help_says_so(
    tmp_path: Path, atelier: CommandLine, store: StyleStore
) -> None:
    (tmp_path / "bank.safetensors").write_bytes(tiny_bank("dawn").to_bytes())
    atelier.output("styles", "import", str(tmp_path / "bank.safetensors"), ATELIER_URL="http://127.0.0.1:1")
    assert store.get("dawn").version == 1
    said = atelier.output("styles", "--help")
    assert "ATELIER_STORE" in said
    assert "ATELIER_URL is not asked" in said
