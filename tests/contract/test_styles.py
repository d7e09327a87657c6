"""Styles: versions that never change, published whole or not at all, by any number of processes at once."""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from obstore.store import MemoryStore
from pydantic import ValidationError

from contract.errors import (
    InvalidParameterError,
    StoreUnavailableError,
    StyleActiveError,
    StyleBuiltinError,
    StyleNotFoundError,
    StylePictureNotFoundError,
)
from contract.settings import ContractSettings
from contract.storage import open_storage
from contract.styles import (
    Catalogue,
    Evaluation,
    Scores,
    StyleCard,
    StyleDescription,
    StylePicture,
    StyleRef,
    StyleSource,
    StyleStatus,
    StyleStore,
    Training,
)
from tests.conftest import until

HOUR = timedelta(hours=1)
PICTURES = {StylePicture.THUMBNAIL: b"thumbnail", StylePicture.SHEET: b"sheet"}

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


def _description(name: str = "tiny", source: StyleSource = StyleSource.IMPORTED) -> StyleDescription:
    return StyleDescription(
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
    return store.publish(_description(name, source), b"trunk", vector)


def _publish_draft(store: StyleStore, name: str = "tiny", vector: bytes = b"draft") -> StyleCard:
    draft = {"source": StyleSource.TRAINED, "status": StyleStatus.DRAFT, "reason": "no better than the photographs"}
    return store.publish(_description(name).model_copy(update=draft), b"trunk", vector)


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
        _description(name)
    with pytest.raises(ValidationError):
        StyleRef(name=name, version=1)


def test_a_reference_is_written_as_it_is_asked_for(styles: StyleStore) -> None:
    card = _publish(styles)
    assert str(card.ref) == "tiny@1"
    assert styles.get(str(card.ref)).ref == card.ref


def test_a_card_says_how_its_style_was_made_and_what_it_is_worth(
    styles: StyleStore, settings: ContractSettings
) -> None:
    worth = Scores(content=1.5, style=0.25, total=2.0)
    description = _description().model_copy(
        update={
            "has_content_row": True,
            "training": Training(
                method="quick",
                iterations=75,
                seconds=60.5,
                batch=4,
                size=256,
                style_size=512,
                loss="vgg19",
                style_weight=8.0,
                start="wave@1",
            ),
            "evaluation": Evaluation(
                photographs=4,
                size=256,
                stylized=worth,
                untouched=worth,
                optimised=worth,
                optimised_iterations=100,
                optimised_photographs=2,
            ),
        }
    )
    styles.publish(description, b"trunk", b"vector")
    card = _again(settings).get("tiny")
    assert card.model_dump(include=set(StyleDescription.model_fields)) == description.model_dump()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_style_whose_worth_is_no_number_is_refused(number: float) -> None:
    """JSON would make null of it, and the card could not be read again."""
    with pytest.raises(ValidationError, match="finite"):
        Scores(content=1.0, style=number, total=1.0)


# --- Drafts ---


def test_a_draft_does_not_become_active(styles: StyleStore, settings: ContractSettings) -> None:
    card = _publish(styles)
    draft = _publish_draft(styles)
    assert (draft.version, draft.status) == (2, StyleStatus.DRAFT)
    for store in (styles, _again(settings)):
        assert store.get("tiny") == card
        assert store.cards() == [card]
        assert store.versions("tiny") == [1, 2]


def test_a_draft_can_be_used_by_its_version_and_be_made_active(styles: StyleStore) -> None:
    draft = _publish_draft(styles)
    with pytest.raises(StyleNotFoundError, match="there is tiny@1"):
        styles.get("tiny")
    assert styles.get("tiny@1") == draft
    assert styles.vector(draft) == b"draft"
    styles.activate(draft.ref)
    assert styles.get("tiny") == draft
    assert styles.cards() == [draft]


def test_the_latest_version_of_a_style_is_listed_as_a_draft_while_it_is_one_and_not_active(styles: StyleStore) -> None:
    assert styles.catalogue() == Catalogue([], [])
    wave = _publish(styles, "wave")
    better = _publish_draft(styles, "wave")
    _publish_draft(styles, "dusk", b"1")
    dusk, dawn = _publish_draft(styles, "dusk", b"2"), _publish_draft(styles, "dawn")
    assert styles.catalogue() == Catalogue([wave], [dawn, dusk, better])
    styles.activate(dusk.ref)
    styles.delete(dawn.ref)
    assert styles.catalogue() == Catalogue([dusk, wave], [better])
    best = _publish(styles, "wave", b"3")
    assert styles.catalogue() == Catalogue([dusk, best], [])


# --- Pictures ---


def test_the_pictures_of_a_style_are_kept(styles: StyleStore, settings: ContractSettings) -> None:
    card = styles.publish(_description(), b"trunk", b"vector", PICTURES)
    assert card.pictures == (StylePicture.THUMBNAIL, StylePicture.SHEET)
    store = _again(settings)
    assert {picture: store.picture(store.get("tiny"), picture) for picture in StylePicture} == PICTURES


def test_each_version_has_pictures_of_its_own(styles: StyleStore) -> None:
    cards = [
        styles.publish(_description(), b"trunk", vector, {StylePicture.SHEET: b"sheet of " + vector})
        for vector in (b"1", b"2")
    ]
    assert [styles.picture(card, StylePicture.SHEET) for card in cards] == [b"sheet of 1", b"sheet of 2"]


def test_a_picture_that_a_style_does_not_have_is_not_found(styles: StyleStore) -> None:
    card = styles.publish(_description(), b"trunk", b"vector", {StylePicture.SHEET: b"sheet"})
    assert card.pictures == (StylePicture.SHEET,)
    with pytest.raises(StylePictureNotFoundError, match="tiny@1 has no thumbnail"):
        styles.picture(card, StylePicture.THUMBNAIL)


# --- Deleting ---


def test_a_version_that_is_not_active_can_be_deleted(styles: StyleStore, settings: ContractSettings) -> None:
    old = styles.publish(_description(), b"trunk", b"1", PICTURES)
    new = _publish(styles, vector=b"2")
    other = _again(settings)
    assert other.get("tiny@1") == old  # and remembers its card
    styles.delete(old.ref)
    for store in (styles, _again(settings)):
        assert store.versions("tiny") == [2]
        assert store.get("tiny") == new
        with pytest.raises(StyleNotFoundError, match="there is tiny@2"):
            store.get("tiny@1")
        with pytest.raises(StyleNotFoundError):
            store.vector(old)
        with pytest.raises(StylePictureNotFoundError):
            store.picture(old, StylePicture.SHEET)
    assert other.versions("tiny") == [2]


def test_the_active_version_cannot_be_deleted(styles: StyleStore) -> None:
    first, second = _publish(styles, vector=b"1"), _publish(styles, vector=b"2")
    with pytest.raises(StyleActiveError, match="tiny@2"):
        styles.delete(second.ref)
    assert styles.get("tiny") == second
    styles.activate(first.ref)
    styles.delete(second.ref)
    assert styles.versions("tiny") == [1]


@pytest.mark.parametrize("use", [StyleStore.delete, StyleStore.activate])
def test_a_deleted_version_is_there_for_no_process(
    styles: StyleStore, settings: ContractSettings, use: Callable[[StyleStore, StyleRef], None]
) -> None:
    old, new = _publish(styles, vector=b"1"), _publish(styles, vector=b"2")
    other = _again(settings)
    assert other.versions("tiny") == [1, 2]
    styles.delete(old.ref)
    for store in (styles, other):
        with pytest.raises(StyleNotFoundError, match="tiny@1"):
            use(store, old.ref)
    assert other.get("tiny") == new


@pytest.mark.parametrize("ref", [StyleRef(name="tiny", version=9), StyleRef(name="nobody", version=1)], ids=str)
def test_what_is_not_there_cannot_be_deleted(styles: StyleStore, settings: ContractSettings, ref: StyleRef) -> None:
    card = _publish(styles)
    before = sorted(_folder(settings).rglob("*"))
    with pytest.raises(StyleNotFoundError, match=str(ref)):
        styles.delete(ref)
    assert styles.cards() == [card]
    assert sorted(_folder(settings).rglob("*")) == before


def test_the_number_of_a_deleted_version_is_not_used_again(styles: StyleStore, settings: ContractSettings) -> None:
    _publish(styles)
    draft = _publish_draft(styles)
    styles.delete(draft.ref)
    for store in (styles, _again(settings)):
        assert _publish_draft(store).version == draft.version + 1
        store.delete(StyleRef(name="tiny", version=draft.version + 1))
        draft = draft.model_copy(update={"version": draft.version + 1})


def test_a_store_without_folders_remembers_the_numbers_of_deleted_versions() -> None:
    """In S3, a folder of which everything has been deleted is not there."""
    store = StyleStore(MemoryStore())
    _publish(store)
    store.delete(_publish_draft(store).ref)
    assert _publish(store).version == 3
    store.remove("tiny")
    assert _publish(store).version == 4


def test_a_style_is_removed_with_all_its_versions(styles: StyleStore, settings: ContractSettings) -> None:
    wave = _publish(styles, "wave")
    refs = [_publish(styles, vector=b"1").ref, _publish_draft(styles).ref]
    assert styles.remove("tiny") == refs
    for store in (styles, _again(settings)):
        assert store.cards() == [wave]
        assert store.catalogue().drafts == []
        assert store.versions("tiny") == []
        for style in ("tiny", "tiny@1", "tiny@2"):
            with pytest.raises(StyleNotFoundError, match=f"There is no style '{style}'"):
                store.get(style)
        with pytest.raises(StyleNotFoundError):
            store.remove("tiny")


def test_a_removed_name_goes_on_with_new_numbers(styles: StyleStore, settings: ContractSettings) -> None:
    _publish(styles, vector=b"1")
    _publish(styles, vector=b"2")
    styles.remove("tiny")
    card = _publish(_again(settings), vector=b"1")
    assert card.version == 3
    assert styles.get("tiny") == card
    assert styles.versions("tiny") == [3]


def test_what_ships_with_atelier_cannot_be_removed_active_or_not(
    styles: StyleStore, builtin: StyleStore, settings: ContractSettings
) -> None:
    def must_stay(store: StyleStore) -> None:
        with pytest.raises(StyleBuiltinError, match="'wave'"):
            store.remove("wave")
        with pytest.raises(StyleBuiltinError, match="wave@1"):
            store.delete(card.ref)

    (card,) = styles.install(builtin)
    must_stay(styles)
    own = _publish(styles, "wave", b"mine", StyleSource.TRAINED)
    for store in (styles, _again(settings)):
        must_stay(store)
        assert store.get("wave") == own
        assert store.get("wave@1") == card
    styles.activate(card.ref)
    styles.delete(own.ref)
    assert styles.versions("wave") == [1]


def test_a_style_that_is_not_there_cannot_be_removed(styles: StyleStore) -> None:
    with pytest.raises(StyleNotFoundError, match="nobody"):
        styles.remove("nobody")


@pytest.mark.parametrize("cut", ["deleted", "card.json", "vector.safetensors", "thumbnail.jpg"])
def test_a_deletion_that_was_cut_off_leaves_a_whole_version_or_none(
    styles: StyleStore, settings: ContractSettings, cut: str
) -> None:
    """The process died after this step, and what it would have deleted next is there."""
    _publish(styles, vector=b"active")
    styles.activate(StyleRef(name="tiny", version=1))
    card = styles.publish(_description().model_copy(update={"status": StyleStatus.DRAFT}), b"trunk", b"2", PICTURES)
    folder = _folder(settings) / "styles" / "tiny" / "2"
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    styles.delete(card.ref)
    steps = ["deleted", "card.json", "vector.safetensors", "thumbnail.jpg", "sheet.jpg"]
    for name in steps[steps.index(cut) + 1 :]:
        (folder / name).write_bytes(whole[name])

    store = _again(settings)
    if cut == "deleted":
        assert (store.get("tiny@2"), store.vector(card)) == (card, b"2")
        assert {picture: store.picture(card, picture) for picture in StylePicture} == PICTURES
        store.delete(card.ref)
    assert store.versions("tiny") == [1]
    assert _publish(store).version == 3


# --- Sweeping trunks ---


def _trunk(settings: ContractSettings, trunk: bytes) -> Path:
    return _folder(settings) / "trunks" / f"{hashlib.sha256(trunk).hexdigest()}.safetensors"


def _grow_old(path: Path, seconds: float = 7200) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_trunk_that_no_style_has_any_more_is_swept_when_it_is_old(
    styles: StyleStore, settings: ContractSettings
) -> None:
    styles.publish(_description("wave"), b"kept", b"wave")
    old = styles.publish(_description(), b"old", b"1")
    styles.publish(_description(), b"new", b"2")
    for trunk in (b"kept", b"old", b"new"):
        _grow_old(_trunk(settings, trunk))
    assert _again(settings).sweep_trunks(HOUR) == 0, "an older version may be used by its number"
    styles.delete(old.ref)
    assert _again(settings).sweep_trunks(HOUR) == 1
    assert sorted(path.read_bytes() for path in (_folder(settings) / "trunks").iterdir()) == [b"kept", b"new"]
    assert styles.sweep_trunks(HOUR) == 0


def test_a_trunk_that_is_young_is_not_swept(styles: StyleStore, settings: ContractSettings) -> None:
    """It may be the beginning of a style that has no card yet."""
    _publish(styles)
    styles.remove("tiny")
    assert styles.sweep_trunks(HOUR) == 0
    _grow_old(_trunk(settings, b"trunk"))
    assert styles.sweep_trunks(HOUR) == 1


def test_the_trunk_of_a_draft_is_in_use(styles: StyleStore, settings: ContractSettings) -> None:
    draft = _publish_draft(styles)
    _grow_old(_trunk(settings, b"trunk"))
    assert styles.sweep_trunks(HOUR) == 0
    assert styles.read_trunk(draft.trunk) == b"trunk"


def test_a_process_sweeps_what_another_one_has_deleted(styles: StyleStore, settings: ContractSettings) -> None:
    other = _again(settings)
    _publish(other)
    styles.remove("tiny")
    _grow_old(_trunk(settings, b"trunk"))
    assert other.sweep_trunks(HOUR) == 1


def test_sweeps_never_take_the_trunk_of_a_style_that_is_published_meanwhile(
    styles: StyleStore, settings: ContractSettings
) -> None:
    """The trunk lies there, old and unused, whenever the next style that needs it is published."""
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            _again(settings).sweep_trunks(HOUR)

    trunk = _trunk(settings, b"trunk")
    with ThreadPoolExecutor(2) as pool:
        sweepers = [pool.submit(sweep) for _ in range(2)]
        try:
            for _ in range(100):
                _publish(styles)
                until(trunk.exists, 5, "the trunk to be there or to be put back")
                styles.remove("tiny")
                with suppress(FileNotFoundError):  # swept, as it may be now
                    _grow_old(trunk)
        finally:
            stop.set()
        for sweeper in sweepers:
            sweeper.result()


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
        lambda: store.delete(card.ref),
        lambda: store.remove("tiny"),
        lambda: store.catalogue(),
        lambda: store.picture(card, StylePicture.SHEET),
        lambda: store.sweep_trunks(HOUR),
    ):
        with pytest.raises(StoreUnavailableError) as caught:
            use()
        assert "/" not in str(caught.value)


@pytest.mark.parametrize("cut", ["active", "card.json", "thumbnail.jpg"])
def test_a_publication_that_was_cut_off_is_finished_by_whoever_comes_again(
    styles: StyleStore, settings: ContractSettings, cut: str
) -> None:
    _publish(styles, vector=b"1")
    card = styles.publish(_description(), b"trunk", b"2", PICTURES, once=True)
    styles.activate(StyleRef(name="tiny", version=1))
    folder = _folder(settings) / "styles" / "tiny" / "2"
    steps = ["thumbnail.jpg", "sheet.jpg", "card.json"]
    for missing in steps[steps.index(cut) if cut in steps else len(steps) :]:
        (folder / missing).unlink()

    store = _again(settings)
    again = store.publish(_description(), b"trunk", b"2", PICTURES, once=True)
    assert again.model_copy(update={"created_at": card.created_at}) == card
    assert store.get("tiny") == again
    assert {picture: store.picture(again, picture) for picture in StylePicture} == PICTURES
    assert store.versions("tiny") == [1, 2]


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


def test_built_in_styles_arrive_with_their_pictures(styles: StyleStore, builtin: StyleStore) -> None:
    builtin.publish(_description("night", StyleSource.BUILTIN), b"trunk", b"night", PICTURES)
    night, wave = styles.install(builtin)
    assert (night.name, night.pictures, wave.pictures) == ("night", tuple(PICTURES), ())
    assert {picture: styles.picture(night, picture) for picture in StylePicture} == PICTURES


def test_a_built_in_style_that_was_deleted_comes_back_under_a_new_number(
    styles: StyleStore, builtin: StyleStore, settings: ContractSettings
) -> None:
    """An earlier Atelier did delete them."""
    (installed,) = styles.install(builtin)
    own = _publish(styles, "wave", b"mine", StyleSource.TRAINED)
    folder = _folder(settings) / "styles" / "wave" / "1"
    for file in folder.iterdir():
        file.unlink()
    (folder / "deleted").touch()
    styles = _again(settings)
    (again,) = _again(settings).install(builtin)
    assert (installed.version, own.version, again.version) == (1, 2, 3)
    assert again.same_weights(installed)
    assert styles.get("wave") == own
    with pytest.raises(StyleNotFoundError):
        styles.get("wave@1")


def test_a_newer_built_in_style_replaces_the_older_one(styles: StyleStore, builtin: StyleStore) -> None:
    (old,) = styles.install(builtin)
    _publish(builtin, "wave", b"wave 2", StyleSource.BUILTIN)
    (new,) = styles.install(builtin)
    assert styles.get("wave") == new
    assert styles.vector(new) == b"wave 2"
    assert styles.get("wave@1") == old
    assert styles.install(builtin) == []
    with pytest.raises(StyleBuiltinError, match="wave@2"):
        styles.delete(new.ref)
    styles.delete(old.ref)
    assert styles.install(builtin) == []
    assert styles.versions("wave") == [2]


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
