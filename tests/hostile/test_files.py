"""Every hostile file through POST /stylize of a running service: refused in words, or stylized, and no harm is done."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.hostile.conftest import ALLOWED, OWN_SECONDS, Target, send
from tests.hostile.files import GOOD, MADE, progressive_bomb, wholes

CLIENTS = 4
WHOLES = list(wholes())


@pytest.mark.parametrize("name", MADE)
def test_a_hostile_file_is_refused_or_stylized(target: Target, name: str) -> None:
    data = MADE[name]()
    before = target.own_seconds()
    answer = send(target.client, data, size="64")
    assert answer.status_code in ALLOWED, answer.text
    assert (answer.status_code == 200) == (name in GOOD), answer.text[:300]
    assert target.own_seconds() - before < OWN_SECONDS


def test_a_jpeg_of_as_many_scans_as_may_be_is_taken_and_one_more_is_not(target: Target) -> None:
    ten = progressive_bomb(0, 64).count(b"\xff\xda")
    assert send(target.client, progressive_bomb(64 - ten, 64)).status_code == 200
    refused = send(target.client, progressive_bomb(65 - ten, 64))
    assert (refused.status_code, refused.json()["code"]) == (422, "image-too-complex")


def test_a_film_behind_a_photograph_is_not_taken_for_scans(target: Target) -> None:
    film = b"\xff\xda\0\2" * 1000
    assert send(target.client, dict(WHOLES)["JPEG"] + film).status_code == 200


@pytest.mark.parametrize("part", [0.01, 0.3, 0.6, 0.9, 0.99])
def test_a_file_that_is_cut_off_is_refused_or_stylized(target: Target, part: float) -> None:
    for name, data in WHOLES:
        answer = send(target.client, data[: round(part * len(data))])
        assert answer.status_code in ALLOWED, f"{name}: {answer.text}"


@given(whole=some.sampled_from(WHOLES), data=some.data())
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_a_damaged_file_is_refused_or_stylized(target: Target, whole: tuple[str, bytes], data: some.DataObject) -> None:
    """Bytes changed, cut out and doubled, anywhere or in the first 200, where the headers are."""
    damaged = bytearray(whole[1])
    for _ in range(data.draw(some.integers(1, 6))):
        at = data.draw(some.integers(0, min(len(damaged), data.draw(some.sampled_from([200, len(damaged)]))) - 1))
        length = data.draw(some.integers(1, 8))
        match data.draw(some.sampled_from(["change", "cut", "double"])):
            case "change":
                damaged[at : at + length] = data.draw(some.binary(min_size=length, max_size=length))
            case "cut":
                del damaged[at : at + length]
            case "double":
                damaged[at:at] = damaged[at : at + length]
        if not damaged:
            return
    answer = send(target.client, bytes(damaged))
    assert answer.status_code in ALLOWED, answer.text


def test_every_file_of_the_shared_set_is_refused_or_stylized(target: Target, shared: Path) -> None:
    """Bombs, what has crashed or hung Pillow, PngSuite, orientations."""
    paths = [path for path in sorted((shared / "hostile").rglob("*")) if path.is_file()]
    assert len(paths) > 200

    def sent(path: Path) -> httpx.Response:
        return send(target.client, path.read_bytes(), size="64")

    before = target.own_seconds()
    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = dict(zip(paths, clients.map(sent, paths), strict=True))
    wrong = {path.name: answer.text for path, answer in answers.items() if answer.status_code not in ALLOWED}
    assert wrong == {}
    assert target.own_seconds() - before < OWN_SECONDS * len(paths) / 10
    assert {answer.status_code for answer in answers.values()} == ALLOWED
