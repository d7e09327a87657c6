"""Styles and their versions: what is published, which version is active, and where the weights are.

In the store: ``trunks/{sha256}.safetensors`` (convolutions, shared by the styles of a bank), and in
``styles/{name}/{version}/`` the style vector (``vector.safetensors``), its pictures (``thumbnail.jpg``, ``sheet.jpg``)
and ``card.json``, which is written last: a version exists when its card does. ``styles/{name}/active`` is the number of
the version that a bare name means. Everything but ``active`` is written once and never changed; a deleted version
leaves a mark (``deleted``), so that its number never means anything else.
"""

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import chain, count
from typing import Literal, Self

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import ObjectStore
from pydantic import BaseModel, ConfigDict, Field

from contract.errors import (
    InvalidParameterError,
    StyleActiveError,
    StyleBuiltinError,
    StyleNotFoundError,
    StylePictureNotFoundError,
)
from contract.storage import store_errors, store_time

NAME_PATTERN = r"^[a-z0-9_-]{1,64}$"
VERSION_PATTERN = r"^[1-9][0-9]{0,8}$"
STYLE_PATTERN = rf"{NAME_PATTERN[:-1]}(?:@{VERSION_PATTERN[1:-1]})?$"
"""A name, or a name and a version."""
CARD_PATTERN = rf"styles/(?P<name>{NAME_PATTERN[1:-1]})/(?P<version>{VERSION_PATTERN[1:-1]})/card\.json"
CARD_CACHE = 4096

Pictures = Mapping["StylePicture", bytes]


class StyleSource(StrEnum):
    """Where a style came from."""

    BUILTIN = "builtin"
    IMPORTED = "imported"
    TRAINED = "trained"


class StyleStatus(StrEnum):
    """Whether a version passed its check. A draft can be used and activated, but does not become active by itself."""

    PUBLISHED = "published"
    DRAFT = "draft"


class StylePicture(StrEnum):
    """The pictures of a style, all of them JPEG."""

    THUMBNAIL = "thumbnail"
    """One stylized photograph, square."""
    SHEET = "sheet"
    """Held-out photographs, and what the style makes of them."""


class StyleRef(BaseModel):
    """One version of one style, for ever the same weights. Written ``name@version``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME_PATTERN)
    version: int = Field(ge=1)

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


def parse_style(style: str) -> tuple[str, int | None]:
    """The name and the version of ``name@version``; the bare name has none. Raises InvalidParameterError."""
    name, at, version = style.partition("@")
    if not re.fullmatch(NAME_PATTERN, name) or (at and not re.fullmatch(VERSION_PATTERN, version)):
        raise InvalidParameterError(
            f"{style[:80]!r} is not a style: write a name of a-z, 0-9, _ and -, or name@version.", parameter="style"
        )
    return name, int(version) if at else None


class Scores(BaseModel):
    """Means over the held-out photographs. Content and style are losses, total is what training minimises."""

    # JSON has no NaN: a card with one could be written, and never be read again.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    content: float
    style: float
    total: float


class Evaluation(BaseModel):
    """What a style was worth on held-out photographs, all by one loss."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    photographs: int
    size: int = Field(description="Side of the photographs, in pixels")
    stylized: Scores = Field(description="Of the generator")
    untouched: Scores = Field(description="Of the photographs as they are: no content is lost, no style is gained")
    optimised: Scores | None = Field(
        default=None, description="Of pictures that were optimised one by one with L-BFGS (Gatys et al. 2016)"
    )
    optimised_iterations: int = 0
    optimised_photographs: int = 0


class Training(BaseModel):
    """How a style was trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Literal["bank", "quick", "full"]
    iterations: int
    seconds: float
    batch: int
    size: int = Field(description="Side of the crops, in pixels")
    style_size: int = Field(description="Long side of the style pictures, in pixels: it sets the size of the strokes")
    loss: str = Field(description="The configuration of the perceptual loss, by name")
    style_weight: float
    start: str = Field(default="", description="The style or bank that it started from")


class StyleDescription(BaseModel):
    """What whoever made a style says of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME_PATTERN)
    title: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=4000)
    source: StyleSource
    architecture: str
    norm: str
    width: int
    has_content_row: bool = Field(
        default=False, description="Whether its trunk can reproduce the photograph, so that `strength` can be set"
    )
    status: StyleStatus = StyleStatus.PUBLISHED
    reason: str = Field(default="", description="Why it is a draft")
    training: Training | None = None
    evaluation: Evaluation | None = None


class StyleCard(StyleDescription):
    """What there is to know about a published version of a style."""

    version: int = Field(ge=1)
    trunk: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the trunk's file: styles that share it blend")
    vector: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the style vector's file")
    pictures: tuple[StylePicture, ...] = ()
    created_at: datetime

    @property
    def ref(self) -> StyleRef:
        return StyleRef(name=self.name, version=self.version)

    def same_weights(self, other: Self) -> bool:
        return (self.trunk, self.vector) == (other.trunk, other.vector)


@dataclass(frozen=True)
class Catalogue:
    """All styles, by name."""

    cards: list[StyleCard]
    """Those that are active."""
    drafts: list[StyleCard]
    """Of every style the latest version, where it is a draft that is not active: beside an older one that is, too."""


class StyleStore:
    """Published styles. Any number of processes may read and publish at once."""

    def __init__(self, storage: ObjectStore) -> None:
        self._storage = storage
        # Cards never change, so one that has been read need not be read again.
        self._card = lru_cache(maxsize=CARD_CACHE)(self._read_card)

    def names(self) -> list[str]:
        """The names of all styles, and of those that have been deleted."""
        with store_errors():
            prefixes = obstore.list_with_delimiter(self._storage, prefix="styles")["common_prefixes"]
        names = (prefix.rsplit("/", 1)[-1] for prefix in prefixes)
        return sorted(name for name in names if re.fullmatch(NAME_PATTERN, name))

    def versions(self, name: str) -> list[int]:
        """The published versions, oldest first; none for an unknown name."""
        return [card.version for card in self._cards_of(name)]

    def cards(self) -> list[StyleCard]:
        """The active card of every style, by name."""
        return self.catalogue().cards

    def catalogue(self) -> Catalogue:
        """All styles: one listing, and a request for each name that has a version."""
        found = Catalogue([], [])
        for name, versions in sorted(self._published().items()):
            with suppress(FileNotFoundError):  # deleted right now
                active = self._active_or_none(name)
                if active is not None:
                    found.cards.append(self._card(StyleRef(name=name, version=active)))
                latest = self._card(StyleRef(name=name, version=max(versions)))
                if latest.version != active and (active is None or latest.status is StyleStatus.DRAFT):
                    found.drafts.append(latest)
        return found

    def get(self, style: str) -> StyleCard:
        """The card of ``name`` (its active version) or ``name@version``.

        Raises InvalidParameterError when the text is neither, StyleNotFoundError when there is no such style.
        """
        name, version = parse_style(style)
        try:
            return self._card(StyleRef(name=name, version=version or self._active(name)))
        except FileNotFoundError:
            raise self._not_found(name, style) from None

    def active_card(self, name: str) -> StyleCard | None:
        """The card that the bare name means; None for an unknown name, and while no version is active."""
        try:
            return self.get(name)
        except StyleNotFoundError:
            return None

    def _not_found(self, name: str, style: str) -> StyleNotFoundError:
        versions = [f"{name}@{version}" for version in self.versions(name)]
        if not versions:
            return StyleNotFoundError(f"There is no style {style!r}. GET /styles lists them all.")
        return StyleNotFoundError(f"There is no style {style!r}, but there is {', '.join(versions)}.")

    def read_trunk(self, sha256: str) -> bytes:
        """The checkpoint with the convolutions. Raises StyleNotFoundError when it has been deleted."""
        return self._read_weights(_trunk_path(sha256))

    def vector(self, card: StyleCard) -> bytes:
        """The file with the style vector. Raises StyleNotFoundError when it has been deleted."""
        return self._read_weights(f"{_folder(card.ref)}/vector.safetensors")

    def picture(self, card: StyleCard, picture: StylePicture) -> bytes:
        """A JPEG. Raises StylePictureNotFoundError when the style has none."""
        try:
            with store_errors():
                return bytes(obstore.get(self._storage, _picture_path(card.ref, picture)).bytes())
        except FileNotFoundError:
            raise StylePictureNotFoundError(f"The style {card.ref} has no {picture}.") from None

    def publish(
        self,
        description: StyleDescription,
        trunk: bytes,
        vector: bytes,
        pictures: Pictures | None = None,
        *,
        once: bool = False,
    ) -> StyleCard:
        """Adds a version and makes it active, unless it is a draft; the card of what was published.

        ``trunk`` is a checkpoint, ``vector`` the file of one style vector (``generator.checkpoint``), ``pictures`` are
        JPEG files. The card is written after everything else, and ``active`` is switched last and at once, so no reader
        ever sees half a style. ``once``: whoever was cut off over the same vector, and comes again, adds no second
        version.
        """
        card = self._add(description, trunk, vector, pictures or {}, once=once)
        if card.status is StyleStatus.PUBLISHED:
            self.activate(card.ref)
        return card

    def activate(self, ref: StyleRef) -> None:
        """Makes a published version the one that the bare name means."""
        if not self._exists(ref):
            raise StyleNotFoundError(f"There is no style {ref}.")
        with store_errors():
            obstore.put(self._storage, f"styles/{ref.name}/active", str(ref.version).encode())

    def delete(self, ref: StyleRef) -> None:
        """Deletes a version that is not active. Its number is not used again.

        Of those that came with Atelier the latest stays: what ships now would be back at the next start.

        Processes that have its card in memory may go on using it. Raises StyleNotFoundError, StyleBuiltinError,
        StyleActiveError.
        """
        if not self._exists(ref):
            raise StyleNotFoundError(f"There is no style {ref}.")
        shipped = [card.version for card in self._cards_of(ref.name) if card.source is StyleSource.BUILTIN]
        if shipped and ref.version == max(shipped):
            raise StyleBuiltinError(f"{ref} ships with Atelier, and would be back under another number: it stays.")
        active = self.active_card(ref.name)
        if active is not None and active.version == ref.version:
            raise StyleActiveError(f"{ref} is the active version: activate another one first, or delete the style.")
        self._delete(ref)

    def remove(self, name: str) -> list[StyleRef]:
        """Deletes a style with all its versions. Raises StyleNotFoundError, StyleBuiltinError."""
        cards = self._cards_of(name)
        if not cards:
            raise StyleNotFoundError(f"There is no style {name!r}. GET /styles lists them all.")
        if any(card.source is StyleSource.BUILTIN for card in cards):
            raise StyleBuiltinError(f"{name!r} ships with Atelier, and would be back at the next start: it stays.")
        with store_errors(), suppress(FileNotFoundError):
            obstore.delete(self._storage, f"styles/{name}/active")
        for card in cards:
            self._delete(card.ref)
        return [card.ref for card in cards]

    def sweep_trunks(self, older_than: timedelta) -> int:
        """Deletes the trunks that no style has any more, if they are older than this; how many."""
        with store_errors():
            deadline = store_time(self._storage) - older_than
            found = [entry for page in obstore.list(self._storage, prefix="trunks") for entry in page]
            used = self._trunks_in_use()
            old = [entry["path"] for entry in found if entry["last_modified"] < deadline]
            return sum(self._delete_trunk(path) for path in old if path not in used)

    def _trunks_in_use(self) -> set[str]:
        return {_trunk_path(card.trunk) for name in self.names() for card in self._cards_of(name)}

    def _delete_trunk(self, path: str) -> bool:
        """Deletes a trunk that no style had; whether it is gone, for a style that needs it may be published just then.

        Publishers write the card, and then the trunk if it is not there. Here the trunk is deleted, and then the cards
        are asked again: whoever comes second sees what the first one did, and puts the trunk back.
        """
        with suppress(FileNotFoundError):  # another process sweeps, too
            trunk = obstore.get(self._storage, path).bytes()
            obstore.delete(self._storage, path)
            if path not in self._trunks_in_use():
                return True
            obstore.put(self._storage, path, trunk)
        return False

    def _delete(self, ref: StyleRef) -> None:
        """The mark comes first and the card goes next: wherever it is cut off, the version is there or it is not."""
        folder = _folder(ref)
        with store_errors():
            obstore.put(self._storage, f"{folder}/deleted", b"")
            files = ("card.json", "vector.safetensors", *(f"{picture}.jpg" for picture in StylePicture))
            for file in files:
                with suppress(FileNotFoundError):
                    obstore.delete(self._storage, f"{folder}/{file}")
        self._card.cache_clear()

    def install(self, other: "StyleStore") -> list[StyleCard]:
        """Publishes what is active in another store and not here in any version: how built-in styles arrive.

        A style whose active version here did not come with Atelier stays active: it is its owner's.
        """
        installed = []
        for card in other.cards():
            new = next((known for known in self._cards_of(card.name) if card.same_weights(known)), None)
            active = self.active_card(card.name)
            if new is None:
                pictures = {picture: other.picture(card, picture) for picture in card.pictures}
                new = self._add(card, other.read_trunk(card.trunk), other.vector(card), pictures, once=True)
                installed.append(new)
            elif active is not None:
                continue  # it arrived; without an active version it was cut off on the way
            if active is None or active.source is StyleSource.BUILTIN:
                self.activate(new.ref)
        return installed

    def _add(
        self, description: StyleDescription, trunk: bytes, vector: bytes, pictures: Pictures, *, once: bool = False
    ) -> StyleCard:
        """Writes a version that no bare name means yet.

        ``once`` finishes a version that was begun with the same vector, if there is one: several processes may add the
        same style at the same time, or one after another has died over it, and it is there once.
        """
        trunk_hash, vector_hash = _sha256(trunk), _sha256(vector)
        with store_errors():
            self._create(_trunk_path(trunk_hash), trunk)
            begun = sorted(self._numbers(description.name))
            to_finish = [number for number in begun if not self._is_deleted(description.name, number)] if once else []
            for version in chain(to_finish, count(max(begun, default=0) + 1)):
                folder = _folder(StyleRef(name=description.name, version=version))
                # Whoever creates the vector owns the version; its card follows. A version that was begun may be a
                # folder in which the vector is only just being created.
                if self._create(f"{folder}/vector.safetensors", vector):
                    break
                if once and self._holds(f"{folder}/vector.safetensors", vector):
                    break
            card = StyleCard(
                **description.model_dump(include=set(StyleDescription.model_fields)),
                version=version,
                trunk=trunk_hash,
                vector=vector_hash,
                pictures=tuple(pictures),
                created_at=datetime.now(UTC),
            )
            for picture, data in pictures.items():
                self._create(_picture_path(card.ref, picture), data)
            self._create(f"{folder}/card.json", card.model_dump_json(indent=2).encode())
            self._create(_trunk_path(trunk_hash), trunk)  # were it swept before there was a card to keep it
        return self._card(card.ref)

    def _holds(self, path: str, data: bytes) -> bool:
        try:
            return bytes(obstore.get(self._storage, path).bytes()) == data
        except FileNotFoundError:
            return False

    def _numbers(self, name: str) -> set[int]:
        """Every version that has been begun, with or without a card."""
        with store_errors():
            prefixes = obstore.list_with_delimiter(self._storage, prefix=f"styles/{name}")["common_prefixes"]
        tails = (prefix.rsplit("/", 1)[-1] for prefix in prefixes)
        return {int(tail) for tail in tails if re.fullmatch(VERSION_PATTERN, tail)}

    def _active(self, name: str) -> int:
        with store_errors():
            return int(bytes(obstore.get(self._storage, f"styles/{name}/active").bytes()))

    def _active_or_none(self, name: str) -> int | None:
        try:
            return self._active(name)
        except FileNotFoundError:
            return None

    def _published(self) -> dict[str, list[int]]:
        """The versions of every style that has one."""
        with store_errors():
            paths = [entry["path"] for page in obstore.list(self._storage, prefix="styles") for entry in page]
        found: dict[str, list[int]] = {}
        for path in paths:
            if known := re.fullmatch(CARD_PATTERN, path):
                found.setdefault(known["name"], []).append(int(known["version"]))
        return found

    def _cards_of(self, name: str) -> list[StyleCard]:
        """The cards of a style's versions, oldest first. What other processes have deleted is not among them."""
        with store_errors():
            paths = [entry["path"] for page in obstore.list(self._storage, prefix=f"styles/{name}") for entry in page]
        folders = [path.split("/")[-2] for path in paths if path.endswith("/card.json")]
        cards = []
        for version in sorted(int(folder) for folder in folders if re.fullmatch(VERSION_PATTERN, folder)):
            with suppress(FileNotFoundError):  # deleted right now
                cards.append(self._card(StyleRef(name=name, version=version)))
        return cards

    def _exists(self, ref: StyleRef) -> bool:
        """Asked of the store, not of the memory: another process may have deleted it."""
        with store_errors(), suppress(FileNotFoundError):
            obstore.head(self._storage, f"{_folder(ref)}/card.json")
            return True
        return False

    def _is_deleted(self, name: str, version: int) -> bool:
        return self._holds(f"{_folder(StyleRef(name=name, version=version))}/deleted", b"")

    def _read_card(self, ref: StyleRef) -> StyleCard:
        with store_errors():
            data = bytes(obstore.get(self._storage, f"{_folder(ref)}/card.json").bytes())
        return StyleCard.model_validate_json(data)

    def _read_weights(self, path: str) -> bytes:
        try:
            with store_errors():
                return bytes(obstore.get(self._storage, path).bytes())
        except FileNotFoundError:
            raise StyleNotFoundError("The weights of this style have been deleted: publish it again.") from None

    def _create(self, path: str, data: bytes) -> bool:
        """Writes a file that must not exist; whether it was written."""
        try:
            obstore.put(self._storage, path, data, mode="create")
        except AlreadyExistsError:
            return False
        return True


def _trunk_path(sha256: str) -> str:
    return f"trunks/{sha256}.safetensors"


def _picture_path(ref: StyleRef, picture: StylePicture) -> str:
    return f"{_folder(ref)}/{picture}.jpg"


def _folder(ref: StyleRef) -> str:
    return f"styles/{ref.name}/{ref.version}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
