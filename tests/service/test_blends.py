"""Blends, as they are written and as they are understood."""

import pytest

from contract.errors import BlendError, InvalidParameterError, StyleNotFoundError
from contract.images import ImageRef, MediaType
from contract.jobs import MAX_BLEND, StylizeJob
from contract.styles import StyleStore
from service.blends import read_blend
from tests.conftest import publish_tiny
from tests.service.conftest import publish_bank

NAMES = [f"s{number}" for number in range(MAX_BLEND + 1)]


@pytest.fixture
def bank(styles: StyleStore) -> StyleStore:
    """The styles a, b, c and more of one network, and the style lone of another, without a content row."""
    publish_bank(styles, "a", "b", "c", *NAMES)
    publish_tiny(styles, "lone")
    return styles


def understood(text: str, styles: StyleStore, strength: float = 1.0) -> str:
    """The blend as a job says it."""
    job = StylizeJob(
        content=ImageRef(sha256="0" * 64, bytes=0),
        styles=read_blend(text, strength, styles),
        media_type=MediaType.PNG,
        quality=90,
    )
    return job.style


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("a", "a@1"),
        ("a@1", "a@1"),
        ("a:0.3", "a@1"),
        ("a:0.6,b:0.4", "a@1:0.6,b@1:0.4"),
        ("b:0.4,a:0.6", "b@1:0.4,a@1:0.6"),
        ("a,b", "a@1:0.5,b@1:0.5"),
        (" a:3 , b@1 ", "a@1:0.75,b@1:0.25"),
        ("a:.5,b:1.50", "a@1:0.25,b@1:0.75"),
        ("a,b,c", "a@1:0.333333,b@1:0.333333,c@1:0.333333"),
        ("a:999,b:1", "a@1:0.999,b@1:0.001"),
        ("lone:2", "lone@1"),
    ],
)
def test_a_blend_is_understood_and_adds_up_to_1(bank: StyleStore, text: str, canonical: str) -> None:
    assert understood(text, bank) == canonical
    assert sum(share.weight for share in read_blend(text, 1.0, bank)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("text", ["a", "a:1,b:2,c:4", ",".join(NAMES[:MAX_BLEND]), "a:50,b:0.1"])
def test_what_a_job_says_of_a_blend_is_understood_as_the_same_blend(bank: StyleStore, text: str) -> None:
    assert understood(understood(text, bank), bank) == understood(text, bank)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a style"),
        ("a,", "is not a style"),
        ("a,,b", "is not a style"),
        ("a b", "is not a style"),
        ("a@0,b", "is not a style"),
        ("a:,b", "'' is not a weight"),
        ("a:0,b", "'0' is not a weight"),
        ("a:0.000,b", "is not a weight"),
        ("a:-1,b", "'-1' is not a weight"),
        ("a:nan,b", "is not a weight"),
        ("a:inf,b", "is not a weight"),
        ("a:1e3,b", "is not a weight"),
        ("a:1_0,b", "is not a weight"),
        ("a:١,b", "is not a weight"),
        ("a:0.5:2,b", "is not a weight"),
        ("a:60%,b:40%", "write a plain number above 0, as in style=starry_night:0.6,great_wave:0.4"),
        ("a:" + "9" * 400 + ",b", "is not a weight"),
        ("a,b,a", "a@1 is named twice"),
        ("a,a@1", "a@1 is named twice"),
        ("a:1000,b:0.5", "b@1 has less than a thousandth"),
        (",".join(NAMES), f"blend at most {MAX_BLEND}"),
        ("," * 10_000, f"blend at most {MAX_BLEND}"),
    ],
)
def test_a_blend_that_makes_no_sense_is_explained(bank: StyleStore, text: str, said: str) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        read_blend(text, 1.0, bank)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 250
    assert caught.value.parameter == "style"


def test_a_style_of_a_blend_that_is_not_there_is_named(bank: StyleStore) -> None:
    with pytest.raises(StyleNotFoundError, match="'nobody'"):
        read_blend("a,nobody", 1.0, bank)
    with pytest.raises(StyleNotFoundError, match="'b@2', but there is b@1"):
        read_blend("a,b@2", 1.0, bank)


def test_two_versions_of_a_style_blend_if_they_share_a_network(bank: StyleStore) -> None:
    publish_bank(bank, "a", "b", "c", *NAMES)
    assert understood("a@1,a", bank) == "a@1:0.5,a@2:0.5"


def test_styles_of_several_networks_are_told_which_of_them_share_one(bank: StyleStore) -> None:
    with pytest.raises(BlendError, match=r"a@1 and b@1 share one; lone@1 has one of its own\."):
        read_blend("a,lone,b", 1.0, bank)


def test_strength_wants_styles_that_can_reproduce_the_photograph(bank: StyleStore) -> None:
    assert understood("a,b", bank, strength=0.3) == understood("a,b", bank)
    assert understood("lone", bank, strength=1) == "lone@1"
    with pytest.raises(BlendError, match=r"lone@1 cannot reproduce the photograph.*`has_content_row`"):
        read_blend("lone", 0.5, bank)
