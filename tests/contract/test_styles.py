"""Styles: versions that never change, published whole or not at all, by any number of processes at once."""

import hashlib
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import ValidationError

from contract.errors import InvalidParameterError, StoreUnavailableError, StyleNotFoundError
from contract.settings import ContractSettings
from contract.storage import open_storage
from contract.styles import StyleCard, StyleDraft, StyleRef, StyleSource, StyleStore

WRONG_NAMES = [
    "",
    "A",
    "Wave",
    "../x",
    "a/b",
    "a/../b",
    "a.b",
    "..",
    ".",
    "a b",
    "ä",
    "a\n",
    "\na",
    "a\0",
    "%2e",
    "a" * 65,
]
WRONG_VERSIONS = ["tiny@", "tiny@0", "tiny@01", "tiny@-1", "tiny@1.0", "tiny@1\n", "tiny@x", "tiny@1@2", "tiny@../1"]


def _draft(name: str = "tiny", source: StyleSource = StyleSource.IMPORTED) -> StyleDraft:
    return StyleDraft(
        name=name,
        title="Tiny",
        description="A test",
        source=source,
        architecture="residual",
        norm="instance",
        width=4,
    )


def _publish(
    store: StyleStore, name: str = "tiny", vector: bytes = b"vector", source: StyleSource = StyleSource.IMPORTED
) -> StyleCard:
    return store.publish(_draft(name, source), b"trunk", vector)


def _folder(settings: ContractSettings) -> Path:
    return Path(settings.store_url)


@pytest.fixture
def builtin(tmp_path: Path) -> StyleStore:
    """What ships with Atelier: one style."""
    store = StyleStore(open_storage(str(tmp_path / "builtin")))
    _publish(store, "wave", b"wave 1", StyleSource.BUILTIN)
    return store


def _again(settings: ContractSettings) -> StyleStore:
    """The same store in another process: nothing is remembered."""
    return StyleStore(open_storage(settings.store_url))


# --- Publishing and reading ---


def test_a_published_style_is_read_back(styles: StyleStore, settings: ContractSettings) -> None:
    card = _publish(styles)
    assert card.ref == StyleRef(name="tiny", version=1)
    assert card.trunk == hashlib.sha256(b"trunk").hexdigest()
    assert card.vector == hashlib.sha256(b"vector").hexdigest()
    other = _again(settings)
    assert other.get("tiny") == card
    assert other.get("tiny@1") == card
    assert (other.read_trunk(card.trunk), other.vector(card)) == (b"trunk", b"vector")


def test_a_style_published_again_is_a_new_version_and_active(styles: StyleStore, settings: ContractSettings) -> None:
    first, second = _publish(styles, vector=b"1"), _publish(styles, vector=b"2")
    assert (first.version, second.version) == (1, 2)
    assert styles.versions("tiny") == [1, 2]
    for store in (styles, _again(settings)):
        assert store.get("tiny") == second
        assert store.get("tiny@1") == first
        assert (store.vector(first), store.vector(second)) == (b"1", b"2")


def test_versions_come_in_the_order_of_numbers(styles: StyleStore) -> None:
    for number in range(11):
        _publish(styles, vector=bytes([number]))
    assert styles.versions("tiny") == list(range(1, 12))


def test_an_older_version_can_be_made_active_again(styles: StyleStore, settings: ContractSettings) -> None:
    first, second = _publish(styles, vector=b"1"), _publish(styles, vector=b"2")
    styles.activate(first.ref)
    assert _again(settings).get("tiny") == first
    assert styles.versions("tiny") == [1, 2]
    styles.activate(second.ref)
    assert styles.get("tiny") == second


def test_a_version_that_is_not_there_cannot_be_made_active(styles: StyleStore) -> None:
    card = _publish(styles)
    for ref in (StyleRef(name="tiny", version=2), StyleRef(name="other", version=1)):
        with pytest.raises(StyleNotFoundError):
            styles.activate(ref)
    assert styles.get("tiny") == card
    assert styles.names() == ["tiny"]


def test_the_styles_of_a_bank_share_their_trunk(styles: StyleStore, settings: ContractSettings) -> None:
    one, other = _publish(styles, "one", b"1"), _publish(styles, "other", b"2")
    assert one.trunk == other.trunk
    assert len(list((_folder(settings) / "trunks").iterdir())) == 1
    assert not one.same_weights(other)


def test_styles_are_listed_by_name_with_their_active_version(styles: StyleStore) -> None:
    assert (styles.names(), styles.cards()) == ([], [])
    for name in ("wave", "delaunay", "wave"):
        _publish(styles, name, name.encode())
    assert styles.names() == ["delaunay", "wave"]
    assert [str(card.ref) for card in styles.cards()] == ["delaunay@1", "wave@2"]


def test_a_style_published_elsewhere_is_found_at_once(styles: StyleStore, settings: ContractSettings) -> None:
    first = _publish(styles)
    assert styles.get("tiny") == first
    second = _publish(_again(settings), vector=b"2")
    assert styles.get("tiny") == second
    assert styles.versions("tiny") == [1, 2]


@pytest.mark.parametrize("style", ["nobody", "nobody@1", "tiny@2", "tiny@999999999"])
def test_a_style_that_is_not_there_is_not_found(styles: StyleStore, style: str) -> None:
    _publish(styles)
    with pytest.raises(StyleNotFoundError, match=style):
        styles.get(style)
    assert styles.versions("nobody") == []


@pytest.mark.parametrize("style", [*WRONG_NAMES, *WRONG_VERSIONS], ids=repr)
def test_what_is_no_name_is_refused(styles: StyleStore, style: str) -> None:
    _publish(styles)
    with pytest.raises(InvalidParameterError) as caught:
        styles.get(style)
    assert caught.value.parameter == "style"


@pytest.mark.parametrize("name", WRONG_NAMES, ids=repr)
def test_nothing_is_published_under_what_is_no_name(name: str) -> None:
    with pytest.raises(ValidationError):
        _draft(name)
    with pytest.raises(ValidationError):
        StyleRef(name=name, version=1)


def test_a_reference_is_written_as_it_is_asked_for(styles: StyleStore) -> None:
    card = _publish(styles)
    assert str(card.ref) == "tiny@1"
    assert styles.get(str(card.ref)).ref == card.ref


# --- Accidents ---


def test_half_a_style_is_never_seen(styles: StyleStore, settings: ContractSettings) -> None:
    """A publisher died between the vector and the card."""
    orphan = _folder(settings) / "styles" / "tiny" / "1" / "vector.safetensors"
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"half")
    assert styles.versions("tiny") == []
    assert styles.cards() == []
    for style in ("tiny", "tiny@1"):
        with pytest.raises(StyleNotFoundError):
            styles.get(style)

    card = _publish(styles)
    assert card.version == 2
    assert styles.versions("tiny") == [2]
    assert [listed.ref for listed in styles.cards()] == [card.ref]
    assert styles.vector(card) == b"vector"


def test_an_active_version_that_was_deleted_is_not_found(styles: StyleStore, settings: ContractSettings) -> None:
    card = _publish(styles)
    shutil.rmtree(_folder(settings) / "styles" / "tiny" / "1")
    store = _again(settings)
    with pytest.raises(StyleNotFoundError):
        store.get("tiny")
    assert store.cards() == []
    with pytest.raises(StyleNotFoundError, match="publish it again"):
        store.vector(card)


def test_deleted_weights_are_reported_without_their_path(styles: StyleStore, settings: ContractSettings) -> None:
    card = _publish(styles)
    shutil.rmtree(_folder(settings) / "trunks")
    with pytest.raises(StyleNotFoundError) as caught:
        styles.read_trunk(card.trunk)
    assert "/" not in str(caught.value)


def test_strange_files_in_the_store_are_passed_over(styles: StyleStore, settings: ContractSettings) -> None:
    card = _publish(styles)
    folder = _folder(settings) / "styles"
    for strange in ("My Style/1", "tiny/0", "tiny/01", "tiny/new", "tiny/٣"):
        (folder / strange).mkdir(parents=True)
        (folder / strange / "card.json").write_text("{}")
    (folder / "README").write_text("not a style")
    assert styles.names() == ["tiny"]
    assert styles.cards() == [card]
    assert styles.versions("tiny") == [1]
    assert _publish(styles).version == 2


def test_a_store_out_of_reach_says_so_and_names_no_path(styles: StyleStore, settings: ContractSettings) -> None:
    card = _publish(styles)
    store = _again(settings)
    folder = _folder(settings)
    shutil.rmtree(folder)
    folder.write_text("a file where the store was")
    for use in (
        lambda: store.get("tiny"),
        lambda: store.get("tiny@1"),
        lambda: store.vector(card),
        lambda: store.read_trunk(card.trunk),
        lambda: _publish(store),
        lambda: store.activate(card.ref),
    ):
        with pytest.raises(StoreUnavailableError) as caught:
            use()
        assert "/" not in str(caught.value)


# --- Many at once ---


def test_many_publish_the_same_name_and_none_is_lost(styles: StyleStore, settings: ContractSettings) -> None:
    together = threading.Barrier(8)

    def publish(number: int) -> StyleCard:
        store = _again(settings)
        together.wait(30)
        return _publish(store, vector=b"vector %d" % number)

    with ThreadPoolExecutor(8) as pool:
        cards = list(pool.map(publish, range(8)))
    assert sorted(card.version for card in cards) == list(range(1, 9))
    assert styles.versions("tiny") == list(range(1, 9))
    assert styles.get("tiny") in cards
    for number, card in enumerate(cards):
        assert styles.get(str(card.ref)) == card
        assert styles.vector(card) == b"vector %d" % number


def test_readers_never_see_half_a_style(settings: ContractSettings) -> None:
    published = threading.Event()
    store = _again(settings)

    def publish() -> None:
        for number in range(25):
            _publish(store, vector=b"%d" % number * 1000)
        published.set()

    def read() -> int:
        seen = 0
        while not published.is_set():
            for card in (reader := _again(settings)).cards():
                assert hashlib.sha256(reader.vector(card)).hexdigest() == card.vector
                assert hashlib.sha256(reader.read_trunk(card.trunk)).hexdigest() == card.trunk
                seen = max(seen, card.version)
        return seen

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        publisher = pool.submit(publish)
        publisher.result()
        assert max(reader.result() for reader in readers) > 0
    assert _again(settings).get("tiny").version == 25


# --- Installing the built-in styles ---


def test_built_in_styles_arrive_once(styles: StyleStore, builtin: StyleStore, settings: ContractSettings) -> None:
    (installed,) = styles.install(builtin)
    assert installed.same_weights(builtin.get("wave"))
    assert installed.source is StyleSource.BUILTIN
    assert installed.title == "Tiny"
    assert styles.get("wave") == installed
    assert (styles.read_trunk(installed.trunk), styles.vector(installed)) == (b"trunk", b"wave 1")
    for store in (styles, _again(settings)):
        assert store.install(builtin) == []
    assert styles.versions("wave") == [1]


def test_a_newer_built_in_style_replaces_the_older_one(styles: StyleStore, builtin: StyleStore) -> None:
    (old,) = styles.install(builtin)
    _publish(builtin, "wave", b"wave 2", StyleSource.BUILTIN)
    (new,) = styles.install(builtin)
    assert styles.get("wave") == new
    assert styles.vector(new) == b"wave 2"
    assert styles.get("wave@1") == old
    assert styles.install(builtin) == []


def test_a_style_of_the_users_own_stays_active(styles: StyleStore, builtin: StyleStore) -> None:
    own = _publish(styles, "wave", b"mine", StyleSource.TRAINED)
    (installed,) = styles.install(builtin)
    assert styles.get("wave") == own
    assert styles.versions("wave") == [own.version, installed.version]
    assert styles.install(builtin) == []


def test_a_user_may_go_back_to_an_older_built_in_style(styles: StyleStore, builtin: StyleStore) -> None:
    (old,) = styles.install(builtin)
    _publish(builtin, "wave", b"wave 2", StyleSource.BUILTIN)
    styles.install(builtin)
    styles.activate(old.ref)
    assert styles.install(builtin) == []
    assert styles.get("wave") == old


def test_only_what_is_active_elsewhere_arrives(styles: StyleStore, builtin: StyleStore) -> None:
    _publish(builtin, "wave", b"wave 2", StyleSource.BUILTIN)
    (installed,) = styles.install(builtin)
    assert styles.vector(installed) == b"wave 2"
    assert styles.versions("wave") == [1]


@pytest.mark.parametrize("cut", ["active", "1/card.json"])
def test_an_installation_that_was_cut_off_is_finished(
    styles: StyleStore, builtin: StyleStore, settings: ContractSettings, cut: str
) -> None:
    """A process died while it installed: what it would have written next is not there."""
    styles.install(builtin)
    order = ["1/vector.safetensors", "1/card.json", "active"]
    for missing in order[order.index(cut) :]:
        (_folder(settings) / "styles" / "wave" / missing).unlink()
    store = _again(settings)
    assert store.cards() == []
    store.install(builtin)
    (card,) = store.cards()
    assert card.same_weights(builtin.get("wave"))
    assert (card.version, store.vector(card)) == (1, b"wave 1")


def test_there_need_be_no_built_in_styles(styles: StyleStore, settings: ContractSettings) -> None:
    assert styles.install(StyleStore(open_storage(str(settings.builtin_styles)))) == []


def test_many_install_at_once_and_every_style_arrives_once(
    styles: StyleStore, builtin: StyleStore, settings: ContractSettings
) -> None:
    names = [f"style-{number}" for number in range(20)]
    for name in names:
        _publish(builtin, name, name.encode(), StyleSource.BUILTIN)
    together = threading.Barrier(4)

    def install(_: int) -> None:
        store = _again(settings)
        together.wait(30)
        store.install(builtin)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(install, range(4)))
    assert {str(card.ref) for card in styles.cards()} == {f"{name}@1" for name in [*names, "wave"]}
    assert all(styles.versions(name) == [1] for name in names)
    assert styles.install(builtin) == []
