"""The main job on a whole running service: posted, stylized, never lost, never done twice."""

import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from contract.jobbook import room_for
from contract.jobs import Priority
from contract.styles import StyleDescription, StyleSource
from generator.checkpoint import import_pytorch_examples, trunk_of, vector_of
from generator.pixels import to_pixels, to_tensor
from tests.conftest import Stack, publish_tiny, running_stack, until
from tests.pictures import decoded, encoded, photograph

CLIENTS = 8
JPEG = {"Content-Type": "image/jpeg", "Cache-Control": "no-store"}


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """A service whose worker may be killed, and that notices within seconds."""
    yield from running_stack(tmp_path, ATELIER_HEARTBEAT_SECONDS="0.5", ATELIER_LOST_AFTER_SECONDS="3")


@pytest.fixture
def tiling_stack(tmp_path: Path) -> Iterator[Stack]:
    """A service for which all but small pictures are large, and whose worker says often how far it is."""
    yield from running_stack(tmp_path, ATELIER_TILE_ABOVE_MEGAPIXELS="0.1", ATELIER_HEARTBEAT_SECONDS="0.2")


@pytest.fixture
def short_queue(tmp_path: Path) -> Iterator[Stack]:
    yield from running_stack(tmp_path, ATELIER_QUEUE_LIMIT="50")


def post(client: httpx.Client, seed: int, side: int = 64) -> httpx.Response:
    """One job, not waited for."""
    return client.post(
        "/stylize",
        params={"style": "tiny"},
        content=encoded(photograph(side, side, seed=seed)),
        headers={"Content-Type": "image/jpeg", "Prefer": "respond-async"},
    )


def post_many(stack: Stack, count: int, side: int = 64) -> list[httpx.Response]:
    with httpx.Client(base_url=stack.url, timeout=60) as client, ThreadPoolExecutor(CLIENTS) as clients:
        return list(clients.map(post, repeat(client), range(count), repeat(side)))


def states(stack: Stack, ids: list[str]) -> Counter[str]:
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        return Counter(client.get(f"/jobs/{job_id}").json()["state"] for job_id in ids)


def done(stack: Stack) -> Counter[str]:
    """How often the workers say to have finished each job."""
    lines = [line for line in stack.log("worker").splitlines() if '"event": "job done"' in line]
    return Counter(match[1] for line in lines if (match := re.search(r'"job": "([^"]+)"', line)))


def test_two_hundred_jobs_all_succeed_once(own_stack: Stack) -> None:
    answers = post_many(own_stack, 200)
    assert {answer.status_code for answer in answers} == {202}
    ids = [answer.json()["id"] for answer in answers]
    assert len(set(ids)) == 200
    until(lambda: states(own_stack, ids) == {"succeeded": 200}, 90, "200 jobs")
    assert done(own_stack) == Counter(ids)


def test_a_full_queue_says_when_to_come_back_and_loses_nothing(short_queue: Stack) -> None:
    worker = short_queue.processes["worker"]
    worker.send_signal(signal.SIGSTOP)
    try:
        answers = post_many(short_queue, 70)
    finally:
        worker.send_signal(signal.SIGCONT)
    accepted = [answer for answer in answers if answer.status_code == 202]
    refused = [answer for answer in answers if answer.status_code != 202]
    room = room_for(Priority.NORMAL, 50)
    assert len(accepted) == room == 44
    assert {answer.status_code for answer in refused} == {503}
    assert {answer.json()["code"] for answer in refused} == {"queue-full"}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    ids = [answer.json()["id"] for answer in accepted]
    until(lambda: states(short_queue, ids) == {"succeeded": room}, 60, "the accepted jobs")
    assert done(short_queue) == Counter(ids)


def test_a_worker_killed_in_the_middle_loses_no_job_and_does_none_twice(own_stack: Stack) -> None:
    ids = [answer.json()["id"] for answer in post_many(own_stack, 20, side=700)]
    until(lambda: states(own_stack, ids)["running"] > 0 and len(done(own_stack)) > 0, 60, "a job that runs")
    killed = time.monotonic()
    own_stack.processes["worker"].kill()
    own_stack.processes["worker"].wait()
    assert states(own_stack, ids)["succeeded"] < 20
    own_stack.run("worker", "worker.app")
    until(lambda: states(own_stack, ids) == {"succeeded": 20}, 90, "20 jobs after the kill")
    assert time.monotonic() - killed < 90
    # A job that was done in the very moment of the kill may be done again; none is ended twice.
    assert set(done(own_stack)) == set(ids)
    assert max(done(own_stack).values()) == 1


def test_a_worker_told_to_stop_gives_back_a_large_picture_and_another_makes_it(tiling_stack: Stack) -> None:
    stack = tiling_stack
    with httpx.Client(base_url=stack.url, timeout=60) as client:

        def job() -> dict[str, Any]:
            document: dict[str, Any] = client.get(location).json()
            return document

        location = post(client, seed=0, side=2000).headers["Location"]
        until(lambda: (job()["progress"] or {}).get("fraction", 0) > 0, 60, "the first tiles")
        stack.processes["worker"].terminate()
        stack.processes["worker"].wait(60)
        assert job()["state"] == "queued"
        stack.run("worker", "worker.app")
        until(lambda: job()["state"] == "succeeded", 120, "the picture")
        assert job()["attempt"] == 1  # the one that was given back does not count


def test_styles_published_while_the_worker_is_under_load_are_served_without_one_failed_request(stack: Stack) -> None:
    """New styles and new versions; each is asked for the moment that it is published."""
    published: list[str] = []
    stop = threading.Event()

    def ask(number: int) -> list[tuple[int, str, str]]:
        answers = []
        with httpx.Client(base_url=stack.url, timeout=60) as client:
            while not stop.is_set():
                style = published[-1] if published and number % 2 else "tiny"
                answer = client.post(
                    "/stylize", params={"style": style}, headers=JPEG, content=encoded(photograph(seed=number))
                )
                answers.append((answer.status_code, style, answer.headers.get("X-Style", "")))
        return answers

    with ThreadPoolExecutor(CLIENTS // 2) as clients:
        asked = [clients.submit(ask, number) for number in range(CLIENTS // 2)]
        try:
            for seed in range(6):
                card = publish_tiny(stack.styles, f"under_load_{seed // 2}", seed=seed)
                published.append(str(card.ref))
                answer = httpx.post(
                    f"{stack.url}/stylize",
                    params={"style": card.name},
                    headers=JPEG,
                    content=encoded(photograph()),
                    timeout=60,
                )
                assert answer.is_success
                assert answer.headers["X-Style"] == str(card.ref)
        finally:
            stop.set()
    answers = [answer for future in asked for answer in future.result()]
    assert len({style for _, style, _ in answers}) > 2
    assert {status for status, _, _ in answers} == {200}
    assert all(served == style for _, style, served in answers if style != "tiny")


def test_an_older_version_is_still_served_and_a_newer_one_is_taken_up(stack: Stack) -> None:
    content = encoded(photograph(), "PNG")

    def stylized(style: str) -> bytes:
        headers = {"Content-Type": "image/png", "Cache-Control": "no-store"}
        return httpx.post(f"{stack.url}/stylize", params={"style": style}, content=content, headers=headers).content

    publish_tiny(stack.styles, "changing", seed=1)
    first = stylized("changing")
    publish_tiny(stack.styles, "changing", seed=2)
    assert stylized("changing") != first
    assert stylized("changing@1") == first


def test_a_foreign_generator_gives_through_the_service_what_it_gives_by_itself(stack: Stack, shared: Path) -> None:
    """mosaic.pth on a Kodak photograph, in float32; the plain network is checked against theirs in test_checkpoint."""
    bank = import_pytorch_examples(shared / "generators" / "mosaic.pth", "mosaic")
    draft = StyleDescription(
        name="mosaic", source=StyleSource.IMPORTED, architecture="residual", norm="instance", width=32
    )
    stack.styles.publish(draft, trunk_of(bank), vector_of(bank, "mosaic"))
    file = shared / "content" / "heldout" / "05.png"
    answer = httpx.post(
        f"{stack.url}/stylize", files={"image": file.read_bytes()}, data={"style": "mosaic"}, timeout=60
    )
    assert answer.headers["Content-Type"] == "image/png"

    pixels = np.array(decoded(file.read_bytes()).convert("RGB"))
    with torch.inference_mode():
        plain = to_pixels(bank.generator()(to_tensor(pixels)[None], bank.styles)[0])
    served = np.array(decoded(answer.content))
    assert served.shape == pixels.shape
    assert np.abs(served.astype(int) - plain.astype(int)).max() <= 1
