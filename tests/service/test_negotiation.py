"""Accept and Prefer, by tables."""

import pytest

from contract.errors import NotAcceptableError
from contract.images import MediaType
from service.negotiation import Accept, Prefer

JPEG, PNG, WEBP, AVIF = MediaType.JPEG, MediaType.PNG, MediaType.WEBP, MediaType.AVIF

CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
CHROME_IMG = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
FIREFOX_IMG = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"
SAFARI = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
AXIOS = "application/json, text/plain, */*"


@pytest.mark.parametrize(
    ("header", "own", "expected"),
    [
        ("*/*", PNG, PNG),
        ("image/*", AVIF, AVIF),
        ("image/webp", JPEG, WEBP),
        ("image/webp, image/jpeg", JPEG, JPEG),
        ("image/webp, image/png", JPEG, PNG),
        ("image/webp;q=0.9, image/png;q=0.5", PNG, WEBP),
        ("image/webp;q=0.9, image/*", WEBP, JPEG),
        ("image/png;q=0, */*", PNG, JPEG),
        ("image/*;q=0.5, */*;q=0.1, image/avif;q=0.6", JPEG, AVIF),
        ("IMAGE/WebP ; Q=1.0", JPEG, WEBP),
        ("image/webp;level=1;q=0.2, image/png;q=0.3", JPEG, PNG),
        ("text/html, image/png", JPEG, PNG),
        ("application/json;q=0.1, image/webp", PNG, WEBP),
        (CHROME, JPEG, WEBP),
        (CHROME, AVIF, AVIF),
        (CHROME_IMG, PNG, PNG),
        (FIREFOX_IMG, JPEG, PNG),
        (FIREFOX_IMG, AVIF, AVIF),
        (SAFARI, JPEG, JPEG),
        ("", WEBP, WEBP),
        ("nonsense", WEBP, WEBP),
        (";q=1, /, image/, /png, ,", WEBP, WEBP),
        ("image/png;q=much", WEBP, WEBP),
        ("nonsense, image/png", WEBP, PNG),
        ("image/png;q=7, image/webp;q=-3", WEBP, PNG),
    ],
)
def test_accept_chooses_the_format(header: str, own: MediaType, expected: MediaType) -> None:
    assert Accept([header]).best_format(own) is expected


def test_without_accept_the_format_is_that_of_the_photograph() -> None:
    assert [Accept([]).best_format(own) for own in MediaType] == list(MediaType)


def test_accept_may_stand_in_several_lines() -> None:
    assert Accept(["text/html, image/png;q=0.3", "image/webp;q=0.5"]).best_format(JPEG) is WEBP


@pytest.mark.parametrize("header", ["text/html", "image/gif", "image/*;q=0", "*/*;q=0", "application/json", "video/*"])
def test_nothing_acceptable_is_an_error(header: str) -> None:
    with pytest.raises(NotAcceptableError, match="image/jpeg"):
        Accept([header]).best_format(JPEG)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("application/json", True),
        (AXIOS, True),
        ("application/json, image/*;q=0.5", True),
        ("application/json;q=0.9, */*;q=0.1", True),
        ("application/json, image/png", False),
        ("application/json;q=0.5, image/png", False),
        ("application/json;q=0", False),
        ("application/*", False),
        ("*/*", False),
        ("", False),
        (CHROME, False),
        ("nonsense", False),
    ],
)
def test_the_document_is_wanted_when_json_is_named_and_liked_best(header: str, expected: bool) -> None:
    assert Accept([header]).wants_document() is expected


@pytest.mark.parametrize(
    ("headers", "seconds", "applied"),
    [
        ([], 30, None),
        (["wait=5"], 5, "wait=5"),
        (["wait=0"], 0, "wait=0"),
        (["wait=600"], 60, "wait=60"),
        (['wait="7"'], 7, "wait=7"),
        (["WAIT = 7"], 7, "wait=7"),
        (["respond-async"], 0, "respond-async"),
        (["Respond-Async"], 0, "respond-async"),
        (["respond-async, wait=10"], 10, "respond-async, wait=10"),
        (["wait=10", "respond-async"], 10, "respond-async, wait=10"),
        (["respond-async; foo=bar"], 0, "respond-async"),
        (["wait=3, wait=9"], 3, "wait=3"),
        (["return=minimal, handling=lenient"], 30, None),
        (["handling=lenient, wait=2"], 2, "wait=2"),
        (["wait"], 30, None),
        (["wait="], 30, None),
        (["wait=soon"], 30, None),
        (["wait=-1"], 30, None),
        (["wait=1.5"], 30, None),
        (["wait=inf"], 30, None),
        (["wait=" + "9" * 400], 30, None),
        ([",;=,"], 30, None),
        ([""], 30, None),
    ],
)
def test_prefer_says_how_long_to_wait(headers: list[str], seconds: float, applied: str | None) -> None:
    prefer = Prefer.parse(headers, default_seconds=30, max_seconds=60)
    assert prefer.wait_seconds == seconds
    assert prefer.applied(accepted=True) == applied


@pytest.mark.parametrize(
    ("header", "applied"),
    [("respond-async", None), ("respond-async, wait=10", "wait=10"), ("wait=10", "wait=10"), ("", None)],
)
def test_respond_async_has_not_been_applied_when_the_answer_is_the_picture(header: str, applied: str | None) -> None:
    assert Prefer.parse([header], default_seconds=30, max_seconds=60).applied(accepted=False) == applied
