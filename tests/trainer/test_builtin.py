"""The built-in set: its pictures, how a bank becomes the set, and how the set becomes one bank to go on with."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from contract.errors import SettingsError
from contract.storage import open_storage
from contract.styles import StylePicture, StyleSource, StyleStatus, StyleStore
from generator.checkpoint import CONTENT_ROW, Checkpoint, style_vector
from generator.network import GeneratorConfig
from tests.trainer.conftest import SHALLOW
from trainer.builtin import BUILTIN, CATALOGUE, app
from trainer.runs import BANK
from trainer.train import prepare
from trainer.training import TrainConfig

Publish = Callable[..., None]

# --- Pictures ------------------------------------------------------------------------------------------------------


def test_drawn_styles_are_drawn_and_paintings_are_put_beside_them(
    builtin: Path, paintings: list[Path], tmp_path: Path
) -> None:
    (builtin / CATALOGUE).write_text("[ink_wash]\n[stripes]\n")
    out = tmp_path / "pictures"
    done = CliRunner().invoke(app, ["pictures", "--paintings", str(paintings[0].parent), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in out.iterdir()) == ["ink_wash.png", "stripes.png"]
    assert (out / "stripes.png").read_bytes() == paintings[0].read_bytes()


def test_a_style_without_a_picture_is_named(builtin: Path, paintings: list[Path], tmp_path: Path) -> None:
    (builtin / CATALOGUE).write_text("[ink_wash]\n[sunflowers]\n")
    arguments = ["pictures", "--paintings", str(paintings[0].parent), "--out", str(tmp_path)]
    with pytest.raises(SettingsError, match="lacks pictures of sunflowers"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)


# --- From a bank to the set ----------------------------------------------------------------------------------------


@pytest.fixture
def builtin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set of other styles, with an older version of one of them."""
    folder = tmp_path / "styles"
    folder.mkdir()
    (folder / CATALOGUE).write_text(
        '[checks]\ntitle = "Checks"\ndescription = "A board."\n[stripes]\ntitle = "Stripes"\ndescription = ""\n'
    )
    (folder / "styles" / "checks" / "1").mkdir(parents=True)
    (folder / "styles" / "checks" / "1" / "old").touch()
    monkeypatch.setattr("trainer.builtin.BUILTIN", folder)
    return folder


def is_as_it_was(builtin: Path) -> bool:
    return [path.name for path in builtin.rglob("*") if path.is_file()] == [CATALOGUE, "old"]


@pytest.fixture
def publish(vgg: Path, photographs: Path, paintings: list[Path], tmp_path: Path) -> Publish:
    """Publishes a run of two iterations: (iterations that it has done, *options)."""

    def publish_run(done: int, *options: str) -> None:
        config = TrainConfig(GeneratorConfig(width=2), SHALLOW, iterations=2, batch=2, size=32, style_size=32)
        run = prepare(
            config,
            styles=paintings,
            content=photographs,
            vgg=vgg,
            folder=tmp_path / "run",
            checkpoint_seconds=1000,
            device=torch.device("cpu"),
            looking_size=32,
        )
        run.train(lambda _: None, lambda: run.training.iteration >= done)
        given = {"--style": paintings[0].parent, "--photographs": photographs, "--content": photographs, "--vgg": vgg}
        arguments = [str(word) for pair in given.items() for word in pair]
        CliRunner().invoke(app, ["publish", str(tmp_path / "run"), *arguments, *options], catch_exceptions=False)

    return publish_run


def test_a_bank_that_passes_the_check_takes_the_place_of_the_set(
    builtin: Path, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.builtin.shortcoming", lambda *_: "")
    publish(2, "--start", "nothing", "--yardsticks", "1", "--yardstick-iterations", "2")
    store = StyleStore(open_storage(str(builtin)))
    bank = Checkpoint.from_bytes((tmp_path / "run" / BANK).read_bytes())
    checks, stripes = store.cards()
    assert (checks.name, checks.title, checks.description) == ("checks", "Checks", "A board.")
    assert (stripes.source, stripes.status, stripes.has_content_row) == (
        StyleSource.BUILTIN,
        StyleStatus.PUBLISHED,
        True,
    )
    assert checks.trunk == stripes.trunk
    assert torch.equal(style_vector(store.vector(stripes)), bank.styles[bank.names.index("stripes")])
    assert set(checks.pictures) == set(StylePicture)
    assert checks.training is not None
    assert (checks.training.method, checks.training.iterations, checks.training.start) == ("bank", 2, "nothing")
    assert checks.evaluation is not None
    assert checks.evaluation.optimised is not None
    assert checks.evaluation.optimised_iterations == 2
    assert not (builtin / "styles" / "checks" / "1" / "old").exists()


def test_a_bank_with_a_style_that_fails_the_check_replaces_nothing(builtin: Path, publish: Publish) -> None:
    with pytest.raises(SettingsError, match=r"Nothing has been replaced\. checks: .*stripes: "):
        publish(2)
    assert is_as_it_was(builtin)


def test_a_run_that_is_not_at_its_end_is_published_only_if_that_is_wanted(builtin: Path, publish: Publish) -> None:
    with pytest.raises(SettingsError, match="at iteration 1 of 2: go on with it"):
        publish(1)
    with pytest.raises(SettingsError, match="Nothing has been replaced"):
        publish(1, "--unfinished")
    assert is_as_it_was(builtin)


# --- From the set to a bank ----------------------------------------------------------------------------------------


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
