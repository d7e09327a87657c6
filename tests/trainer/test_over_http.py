"""A style over HTTP, from a painting to a stylized photograph, with gateway, worker and trainer as processes."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract.styles import StyleDescription, StyleSource
from generator.checkpoint import trunk_of, vector_of
from tests.conftest import Stack, running_stack, until
from tests.pictures import decoded, encoded, photograph
from tests.trainer.service import base_bank, easy_painting

WAITING = {"Content-Type": "image/jpeg", "Prefer": "wait=30", "Cache-Control": "no-store"}


@pytest.fixture
def school(tmp_path: Path, vgg: Path, photographs: Path) -> Iterator[Stack]:
    """A service with a trainer, and with the style ``base`` to begin with."""
    for stack in running_stack(
        tmp_path,
        ATELIER_VGG=str(vgg),
        ATELIER_CONTENT=str(photographs),
        ATELIER_FETCH="never",
        ATELIER_TRAINING_SIZE="32",
        ATELIER_PREVIEW_SECONDS="0.1",
        ATELIER_BASE_STYLE="base",
        ATELIER_DEVICE="cpu",
    ):
        bank = base_bank()
        about = StyleDescription(
            name="base", source=StyleSource.IMPORTED, architecture="residual", norm="instance", width=4,
            has_content_row=True,
        )  # fmt: skip
        stack.styles.publish(about, trunk_of(bank), vector_of(bank, "base"))
        stack.run("trainer", "trainer.app")
        yield stack


def stylize(client: httpx.Client, style: str) -> httpx.Response:
    picture = encoded(photograph(64, 48, seed=3))
    return client.post("/stylize", params={"style": style}, content=picture, headers=WAITING)


def test_a_painting_becomes_a_style_that_is_used_while_the_service_goes_on(school: Stack) -> None:
    with httpx.Client(base_url=school.url, timeout=60) as client:
        over = threading.Event()
        others: list[int] = []

        def go_on() -> None:
            with httpx.Client(base_url=school.url, timeout=60) as another:
                while not over.is_set():
                    others.append(stylize(another, "tiny").status_code)

        with ThreadPoolExecutor(1) as pool:
            load = pool.submit(go_on)
            try:
                sent = {"image": ("painting.png", easy_painting(), "image/png")}
                asked = {"name": "mine", "iterations": "40", "stroke_size": "0.25"}
                accepted = client.post("/styles", files=sent, data=asked)
                assert accepted.status_code == 202, accepted.text
                job, seen = followed(client, accepted.headers["Location"])
                assert job["state"] == "succeeded", school.log("trainer")
                assert job["result"]["style"] == {"name": "mine", "version": 1}
                stylized = stylize(client, "mine")
            finally:
                over.set()
            load.result()
        assert any(progress["stage"] == "training" and progress["iteration"] > 0 for progress in seen)
        for preview in job["progress"]["previews"]:
            assert decoded(client.get(preview).content).size == (32, 32)
        assert len(job["progress"]["previews"]) > 0

        assert stylized.status_code == 200, stylized.text
        assert decoded(stylized.content).size == (64, 48)
        assert stylized.content != stylize(client, "base").content
        blend = stylize(client, "mine:0.5,base:0.5")
        assert blend.status_code == 200, "they share a trunk"
        card = client.get("/styles/mine").json()
        assert card["evaluation"]["optimised"] is not None
        for picture in ("thumbnail", "sheet"):
            assert client.get(card["urls"][picture]).headers["content-type"] == "image/jpeg"
    assert set(others) == {200}, "nothing else noticed"
    assert len(others) > 3


def followed(client: httpx.Client, job: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The job at its end, and what it told on the way."""
    seen: list[dict[str, Any]] = []

    def has_ended() -> bool:
        document = client.get(job).json()
        if document["progress"]:
            seen.append(document["progress"])
        return document["state"] in ("succeeded", "failed")

    until(has_ended, 120, "the end of the training")
    return client.get(job).json(), seen
