"""The built-in set, as one bank to go on with."""

from pathlib import Path

import torch
from typer.testing import CliRunner

from contract.storage import open_storage
from contract.styles import StyleStore
from generator.checkpoint import CONTENT_ROW, Checkpoint, style_vector
from trainer.builtin import BUILTIN, app


def test_the_built_in_styles_are_written_as_one_bank_that_makes_the_same_pictures(tmp_path: Path) -> None:
    out = tmp_path / "bank.safetensors"
    done = CliRunner().invoke(app, ["bank", str(out)])
    assert done.exit_code == 0, done.output
    bank = Checkpoint.from_bytes(out.read_bytes())
    store = StyleStore(open_storage(str(BUILTIN)))
    cards = list(store.cards())
    assert bank.names[0] == CONTENT_ROW
    assert sorted(bank.names[1:]) == sorted(card.name for card in cards)
    for card in cards:
        assert torch.equal(bank.styles[bank.names.index(card.name)], style_vector(store.vector(card)))
    trunk = Checkpoint.from_bytes(store.read_trunk(cards[0].trunk)).trunk
    assert all(torch.equal(bank.trunk[name], trunk[name]) for name in trunk)
