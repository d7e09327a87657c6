"""Blends: the styles of a request and how much of each, written ``starry_night:0.6,great_wave@2:0.4``."""

import re
from collections.abc import Iterable

from contract.errors import BlendError, InvalidParameterError
from contract.jobs import MAX_BLEND, StyleShare
from contract.styles import StyleCard, StyleStore

EXAMPLE = "style=starry_night:0.6,great_wave:0.4"
WEIGHT_PATTERN = r"[0-9]*\.?[0-9]+"
WEIGHT_LENGTH = 20
MIN_SHARE = 0.001
"""The least that a style may have of a blend: it can still be written as a plain number, and hardly be seen."""


def read_blend(text: str, strength: float, styles: StyleStore) -> tuple[StyleShare, ...]:
    """The styles that a request names, their weights adding up to 1.

    Raises InvalidParameterError for a text that makes no sense, StyleNotFoundError for an unknown style, and BlendError
    for styles that cannot be blended with one another, or have no strength to set.
    """
    weights = _weights(text)
    cards = [styles.get(style) for style, _ in weights]
    _refuse_doubled(cards)
    _check_trunks(cards)
    _check_strength(cards, strength)
    total = sum(weight for _, weight in weights)
    shares = [(card, weight / total) for card, (_, weight) in zip(cards, weights, strict=True)]
    for card, share in shares:
        if share < MIN_SHARE:
            raise _wrong(f"{card.ref} has less than a thousandth of the blend: leave it out, or give it more weight.")
    return tuple(StyleShare(style=card.ref, weight=share) for card, share in shares)


def _weights(text: str) -> list[tuple[str, float]]:
    """Every style as it is named, and its weight as it is given."""
    members = text.split(",")
    if len(members) > MAX_BLEND:
        raise _wrong(f"{len(members)} styles are named: blend at most {MAX_BLEND}.")
    return [_weight(member.strip()) for member in members]


def _weight(member: str) -> tuple[str, float]:
    style, colon, number = member.partition(":")
    if not colon:
        return style, 1.0
    if len(number) > WEIGHT_LENGTH or not re.fullmatch(WEIGHT_PATTERN, number) or float(number) <= 0:
        raise _wrong(f"{number[:80]!r} is not a weight: write a plain number above 0, as in {EXAMPLE}.")
    return style, float(number)


def _refuse_doubled(cards: list[StyleCard]) -> None:
    refs = [card.ref for card in cards]
    for ref in refs:
        if refs.count(ref) > 1:
            raise _wrong(f"{ref} is named twice: name it once, with the sum of its weights.")


def _check_trunks(cards: list[StyleCard]) -> None:
    by_trunk: dict[str, list[StyleCard]] = {}
    for card in cards:
        by_trunk.setdefault(card.trunk, []).append(card)
    if len(by_trunk) > 1:
        families = sorted(by_trunk.values(), key=len, reverse=True)
        raise BlendError(
            f"Only styles of one network can be blended: {'; '.join(map(_family, families))}. "
            "GET /styles tells the `trunk` of each."
        )


def _family(cards: list[StyleCard]) -> str:
    return f"{_listed(cards)} share one" if len(cards) > 1 else f"{cards[0].ref} has one of its own"


def _check_strength(cards: list[StyleCard], strength: float) -> None:
    without = [card for card in cards if not card.has_content_row]
    if strength != 1 and without:
        raise BlendError(
            f"The network of {_listed(without)} cannot reproduce the photograph, so there is no `strength` to set: "
            "leave it out, or take a style whose `has_content_row` is true."
        )


def _listed(cards: Iterable[StyleCard]) -> str:
    return " and ".join(str(card.ref) for card in cards)


def _wrong(message: str) -> InvalidParameterError:
    return InvalidParameterError(message, parameter="style")
