"""Styles and their versions: what is published, which version is active, and where the weights are.

In the store: ``trunks/{sha256}.safetensors`` (convolutions, shared by the styles of a bank),
``styles/{name}/{version}/vector.safetensors`` (the style vector), ``styles/{name}/{version}/card.json`` (written last:
a version exists when its card does) and ``styles/{name}/active`` (the number of the version that a bare name means).
Everything but ``active`` is written once and never changed.
"""

import hashlib
import re
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from itertools import chain, count
from typing import Self

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import ObjectStore
from pydantic import BaseModel, ConfigDict, Field

from contract.errors import InvalidParameterError, StyleNotFoundError
from contract.storage import store_errors

NAME_PATTERN = r"^[a-z0-9_-]{1,64}$"
VERSION_PATTERN = r"^[1-9][0-9]{0,8}$"
CARD_CACHE = 4096


class StyleSource(StrEnum):
    """Where a style came from."""

    BUILTIN = "builtin"
    IMPORTED = "imported"
    TRAINED = "trained"


class StyleRef(BaseModel):
    """One version of one style, for ever the same weights. Written ``name@version``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME_PATTERN)
    version: int = Field(ge=1)

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


class StyleDraft(BaseModel):
    """What whoever made a style says of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME_PATTERN)
    title: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=4000)
    source: StyleSource
    architecture: str
    norm: str
    width: int


class StyleCard(StyleDraft):
    """What there is to know about a published version of a style."""

    version: int = Field(ge=1)
    trunk: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the trunk's file: styles that share it blend")
    vector: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the style vector's file")
    created_at: datetime

    @property
    def ref(self) -> StyleRef:
        return StyleRef(name=self.name, version=self.version)

    def same_weights(self, other: Self) -> bool:
        return (self.trunk, self.vector) == (other.trunk, other.vector)


class StyleStore:
    """Published styles. Any number of processes may read and publish at once."""

    def __init__(self, storage: ObjectStore) -> None:
        self._storage = storage
        # Cards never change, so one that has been read need not be read again.
        self._card = lru_cache(maxsize=CARD_CACHE)(self._read_card)

    def names(self) -> list[str]:
        with store_errors():
            prefixes = obstore.list_with_delimiter(self._storage, prefix="styles")["common_prefixes"]
        names = (prefix.rsplit("/", 1)[-1] for prefix in prefixes)
        return sorted(name for name in names if re.fullmatch(NAME_PATTERN, name))

    def versions(self, name: str) -> list[int]:
        """The published versions, oldest first; none for an unknown name."""
        return sorted(version for version in self._numbers(name) if self._exists(StyleRef(name=name, version=version)))

    def cards(self) -> list[StyleCard]:
        """The active card of every style, by name."""
        cards = []
        for name in self.names():
            try:
                cards.append(self.get(name))
            except StyleNotFoundError:
                continue  # being published right now
        return cards

    def get(self, style: str) -> StyleCard:
        """The card of ``name`` (its active version) or ``name@version``.

        Raises InvalidParameterError when the text is neither, StyleNotFoundError when there is no such style.
        """
        name, at, version = style.partition("@")
        if not re.fullmatch(NAME_PATTERN, name) or (at and not re.fullmatch(VERSION_PATTERN, version)):
            raise InvalidParameterError(
                f"{style[:80]!r} is not a style: write a name of a-z, 0-9, _ and -, or name@version.", parameter="style"
            )
        try:
            return self._card(StyleRef(name=name, version=int(version) if at else self._active(name)))
        except FileNotFoundError:
            raise StyleNotFoundError(f"There is no style {style!r}. GET /styles lists them all.") from None

    def read_trunk(self, sha256: str) -> bytes:
        """The checkpoint with the convolutions. Raises StyleNotFoundError when it has been deleted."""
        return self._read_weights(f"trunks/{sha256}.safetensors")

    def vector(self, card: StyleCard) -> bytes:
        """The file with the style vector. Raises StyleNotFoundError when it has been deleted."""
        return self._read_weights(f"{_folder(card.ref)}/vector.safetensors")

    def publish(self, draft: StyleDraft, trunk: bytes, vector: bytes) -> StyleCard:
        """Adds a version and makes it active; the card of what was published.

        ``trunk`` is a checkpoint, ``vector`` the file of one style vector (``generator.checkpoint``). Weights are
        written before the card, and ``active`` is switched last and at once, so no reader ever sees half a style.
        """
        card = self._add(draft, trunk, vector)
        self.activate(card.ref)
        return card

    def activate(self, ref: StyleRef) -> None:
        """Makes a published version the one that the bare name means."""
        if not self._exists(ref):
            raise StyleNotFoundError(f"There is no style {ref}.")
        with store_errors():
            obstore.put(self._storage, f"styles/{ref.name}/active", str(ref.version).encode())

    def install(self, other: "StyleStore") -> list[StyleCard]:
        """Publishes what is active in another store and not here in any version: how built-in styles arrive.

        A style whose active version here did not come with Atelier stays active: it is its owner's.
        """
        installed = []
        for card in other.cards():
            here = [self._card(StyleRef(name=card.name, version=version)) for version in self.versions(card.name)]
            new = next((known for known in here if card.same_weights(known)), None)
            active = self._active_card(card.name)
            if new is None:
                new = self._add(card, other.read_trunk(card.trunk), other.vector(card), once=True)
                installed.append(new)
            elif active is not None:
                continue  # it arrived; without an active version it was cut off on the way
            if active is None or active.source is StyleSource.BUILTIN:
                self.activate(new.ref)
        return installed

    def _add(self, draft: StyleDraft, trunk: bytes, vector: bytes, *, once: bool = False) -> StyleCard:
        """Writes a version that no bare name means yet.

        ``once`` finishes a version that was begun with the same vector, if there is one: several processes may add the
        same style at the same time, or one after another has died over it, and it is there once.
        """
        trunk_hash, vector_hash = _sha256(trunk), _sha256(vector)
        with store_errors():
            self._create(f"trunks/{trunk_hash}.safetensors", trunk)
            begun = sorted(self._numbers(draft.name))
            for version in chain(begun if once else [], count(max(begun, default=0) + 1)):
                folder = _folder(StyleRef(name=draft.name, version=version))
                # Whoever creates the vector owns the version; its card follows. A version that was begun may be a
                # folder in which the vector is only just being created.
                if (once or version not in begun) and self._create(f"{folder}/vector.safetensors", vector):
                    break
                if once and self._holds(f"{folder}/vector.safetensors", vector):
                    break
            card = StyleCard(
                **draft.model_dump(include=set(StyleDraft.model_fields)),
                version=version,
                trunk=trunk_hash,
                vector=vector_hash,
                created_at=datetime.now(UTC),
            )
            self._create(f"{folder}/card.json", card.model_dump_json(indent=2).encode())
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

    def _active_card(self, name: str) -> StyleCard | None:
        """None for an unknown name, and for a style whose publication was cut off before its first activation."""
        try:
            return self.get(name)
        except StyleNotFoundError:
            return None

    def _exists(self, ref: StyleRef) -> bool:
        try:
            self._card(ref)
        except FileNotFoundError:
            return False
        return True

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


def _folder(ref: StyleRef) -> str:
    return f"styles/{ref.name}/{ref.version}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
