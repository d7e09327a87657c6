"""The HTTP interface, from the outside, of a whole service."""

import hashlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import numpy as np
import pytest

from contract.images import MediaType
from tests.conftest import Stack
from tests.pictures import decoded
from tests.service.conftest import (
    ALONE,
    ASYNC,
    DOCUMENT,
    code,
    drawn,
    post,
    publish_bank,
    saved,
    with_alpha,
)

# --- Pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sides", [(16, 16), (17, 31), (31, 17), (300, 16), (16, 300), (63, 65), (101, 67), (128, 128), (19, 23)]
)
def test_the_result_has_exactly_the_size_of_the_photograph(client: httpx.Client, sides: tuple[int, int]) -> None:
    assert decoded(post(client, saved(drawn(*sides))).content).size == sides


@pytest.mark.parametrize(
    ("sides", "size", "expected"),
    [
        ((200, 100), 64, (64, 32)),
        ((100, 200), 65, (32, 65)),
        ((100, 67), 199, (199, 133)),
        ((333, 250), 77, (77, 58)),
        ((16, 16), 16, (16, 16)),
        ((16, 16), 131, (131, 131)),
        ((300, 16), 300, (300, 16)),
        ((40, 30), 40, (40, 30)),
    ],
)
def test_the_long_side_of_the_result_is_exactly_the_size_asked_for(
    client: httpx.Client, sides: tuple[int, int], size: int, expected: tuple[int, int]
) -> None:
    assert decoded(post(client, saved(drawn(*sides)), size=str(size)).content).size == expected


@pytest.mark.parametrize("own", MediaType)
def test_the_result_has_the_format_of_the_photograph(client: httpx.Client, own: MediaType) -> None:
    response = post(client, saved(drawn(), own.name))
    assert response.headers["content-type"] == own
    assert decoded(response.content).format == own.name


@pytest.mark.parametrize("wished", MediaType)
def test_accept_and_format_choose_the_format_of_the_result(client: httpx.Client, wished: MediaType) -> None:
    data = saved(drawn(), "JPEG")
    by_accept = post(client, data, headers={"Accept": f"text/html, {wished}, */*;q=0.1"})
    by_option = post(client, data, headers={"Accept": "image/jpeg"}, format=wished.value.removeprefix("image/"))
    for response in (by_accept, by_option):
        assert response.headers["content-type"] == wished
        assert decoded(response.content).format == wished.name
    assert by_accept.content == by_option.content


def test_several_lines_of_accept_are_one(client: httpx.Client) -> None:
    lines = [("Content-Type", "image/png"), ("Accept", "text/html"), ("Accept", "image/webp")]
    response = httpx.post(f"{client.base_url}/stylize?style=tiny", content=saved(drawn()), headers=lines, timeout=60)
    assert response.headers["content-type"] == "image/webp"


def test_nothing_acceptable_is_406(client: httpx.Client) -> None:
    response = post(client, saved(drawn()), headers={"Accept": "text/html, image/gif"})
    assert response.status_code == 406
    assert code(response) == "not-acceptable"


@pytest.mark.parametrize("wished", ["jpeg", "webp", "avif"])
def test_quality_trades_bytes_for_closeness(client: httpx.Client, wished: str) -> None:
    data = saved(drawn())
    low, high = (post(client, data, format=wished, quality=quality) for quality in ("1", "100"))
    assert len(low.content) < len(high.content)


def test_alpha_is_kept_where_the_format_has_it_and_white_where_not(client: httpx.Client) -> None:
    data = saved(with_alpha())
    png = decoded(post(client, data).content)
    jpeg = decoded(post(client, data, format="jpeg", quality="100").content)
    assert png.mode == "RGBA"
    assert png.getchannel("A").tobytes() == with_alpha().getchannel("A").tobytes()
    assert jpeg.mode == "RGB"
    assert np.asarray(jpeg)[:, :16].min() > 245


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "I;16"])
def test_every_colour_model_is_stylized(client: httpx.Client, mode: str) -> None:
    image = drawn().convert("L").convert("I;16") if mode == "I;16" else drawn().convert(mode)
    response = post(client, saved(image, "JPEG" if mode == "CMYK" else "PNG"))
    assert response.status_code == 200
    assert decoded(response.content).size == image.size


def test_styles_differ_and_a_version_may_be_named(client: httpx.Client) -> None:
    data = saved(drawn())
    tiny, version_1, other = (post(client, data, style=style).content for style in ("tiny", "tiny@1", "other"))
    assert tiny == version_1
    assert tiny != other


@pytest.mark.parametrize("style", ["nobody", "tiny@9"])
def test_an_unknown_style_is_404(client: httpx.Client, style: str) -> None:
    response = post(client, saved(drawn()), style=style)
    assert response.status_code == 404
    assert code(response) == "style-not-found"


@pytest.fixture
def bank(stack: Stack) -> list[str]:
    """Two styles that can be blended."""
    if "hatched" not in stack.styles.names():
        publish_bank(stack.styles, "hatched", "dotted")
    return ["hatched", "dotted"]


def test_a_blend_is_neither_of_its_styles_and_says_what_it_is(client: httpx.Client, bank: list[str]) -> None:
    data = saved(drawn())
    blend = post(client, data, style="hatched:3, dotted@1")
    assert blend.status_code == 200
    assert blend.headers["x-style"] == "hatched@1:0.75,dotted@1:0.25"
    assert blend.headers["content-disposition"] == 'inline; filename="hatched-dotted.png"'
    assert post(client, data, style=blend.headers["x-style"]).content == blend.content
    assert blend.content not in [post(client, data, style=style).content for style in bank]
    job = client.get(f"/jobs/{blend.headers['x-job-id']}").json()
    assert job["style"] == blend.headers["x-style"]


def test_styles_of_two_networks_do_not_blend(client: httpx.Client, bank: list[str]) -> None:
    response = post(client, saved(drawn()), style="hatched,tiny,dotted")
    assert response.status_code == 422
    assert code(response) == "styles-do-not-blend"
    assert "hatched@1 and dotted@1 share one" in response.json()["detail"]


def test_the_strength_of_a_style_can_be_set_if_it_has_one(client: httpx.Client, bank: list[str]) -> None:
    data = saved(drawn())
    plain = post(client, data, style="dotted")
    none, much = (post(client, data, style="dotted", strength=strength) for strength in ("0", "1.5"))
    assert post(client, data, style="dotted", strength="1").content == plain.content
    assert post(client, data, style="hatched", strength="0").content == none.content
    assert len({none.content, plain.content, much.content}) == 3
    refused = post(client, data, strength="0.5")
    assert refused.status_code == 422
    assert code(refused) == "styles-do-not-blend"
    assert post(client, data, strength="1").status_code == 200


def test_the_colours_of_the_photograph_can_be_kept(client: httpx.Client) -> None:
    data = saved(drawn())
    photograph, kept, plain = (
        np.asarray(decoded(picture).convert("YCbCr")).astype(int)[..., 1:]
        for picture in (data, post(client, data, preserve_color="true").content, post(client, data).content)
    )
    assert np.abs(kept - photograph).mean() < np.abs(plain - photograph).mean()


def test_the_answer_says_what_it_is(client: httpx.Client) -> None:
    response = post(client, saved(drawn()), headers=ALONE)
    headers = response.headers
    assert response.status_code == 200
    assert headers["etag"] == f'"{hashlib.sha256(response.content).hexdigest()}"'
    assert headers["cache-control"] == "private, max-age=3600"
    assert headers["x-style"] == "tiny@1"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"] == 'inline; filename="tiny.png"'
    assert "Accept" in headers["vary"].split(", ")
    assert "preference-applied" not in headers
    assert client.get(f"/jobs/{headers['x-job-id']}/result").content == response.content


def test_requests_at_once_get_each_their_own_picture(client: httpx.Client, pool: ThreadPoolExecutor) -> None:
    requests = [(saved(drawn(32, 24 if i % 4 else 32)), "tiny" if i % 2 else "other") for i in range(8)]

    def stylized(request: tuple[bytes, str]) -> Any:
        return np.asarray(decoded(post(client, request[0], style=request[1]).content)).astype(int)

    together = list(pool.map(stylized, requests))
    for request, picture in zip(requests, together, strict=True):
        # Sums may be taken in another order in a batch, which rounding may make one level of.
        assert np.abs(stylized(request) - picture).max() <= 1


# --- Jobs, with a worker -------------------------------------------------------------------------------------------


def test_the_document_of_an_ended_job_tells_everything(client: httpx.Client) -> None:
    before = datetime.now(UTC)
    response = post(client, saved(drawn(64, 48)), headers=DOCUMENT, format="webp", size="32")
    job = response.json()
    assert response.status_code == 200
    assert response.headers["x-job-id"] == job["id"]
    assert (job["kind"], job["state"], job["style"], job["attempt"]) == ("stylize", "succeeded", "tiny@1", 1)
    assert (job["progress"], job["error"]) == (None, None)
    texts = [job[name] for name in ("created_at", "started_at", "finished_at", "expires_at")]
    times = [datetime.fromisoformat(text) for text in texts]
    assert all(text.endswith("Z") for text in texts)
    assert times == sorted(times)
    assert before - timedelta(minutes=1) < times[0] <= datetime.now(UTC) + timedelta(minutes=1)
    assert (times[3] - times[2]).total_seconds() == pytest.approx(3600, abs=1)
    assert set(job["timings"]) == {"queue_seconds", "decode_seconds", "compute_seconds", "encode_seconds"}
    assert all(0 <= seconds < 60 for seconds in job["timings"].values())
    picture = client.get(job["urls"]["result"])
    assert job["result"] == {
        "media_type": "image/webp",
        "width": 32,
        "height": 24,
        "bytes": len(picture.content),
        "sha256": hashlib.sha256(picture.content).hexdigest(),
    }
    assert decoded(picture.content).format == "WEBP"
    assert client.get(job["urls"]["self"]).json() == job


def test_respond_async_answers_at_once_and_the_picture_follows(client: httpx.Client) -> None:
    data = saved(drawn())
    response = post(client, data, headers={**ASYNC, **ALONE})
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "respond-async"
    assert int(response.headers["retry-after"]) > 0
    location = response.headers["location"]
    assert location == f"/jobs/{response.headers['x-job-id']}" == response.json()["urls"]["self"]
    job = client.get(location, params={"wait": 30}).json()
    assert job["state"] == "succeeded"
    assert client.get(job["urls"]["result"]).content == post(client, data).content


def test_when_the_wait_runs_out_the_job_goes_on(client: httpx.Client, stack: Stack) -> None:
    worker = stack.processes["worker"]
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        response = post(client, saved(drawn()), headers={"Prefer": "wait=1", **ALONE})
        assert response.status_code == 202
        assert response.headers["preference-applied"] == "wait=1"
        assert response.elapsed.total_seconds() >= 0.9
        assert response.json()["state"] == "queued"
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    job = client.get(response.headers["location"], params={"wait": 30}).json()
    assert job["state"] == "succeeded"
    assert job["timings"]["queue_seconds"] >= 0.5


def test_the_result_is_not_sent_again_to_who_has_it(client: httpx.Client) -> None:
    first = post(client, saved(drawn()))
    url = f"/jobs/{first.headers['x-job-id']}/result"
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        response = client.get(url, headers={"If-None-Match": known})
        assert response.status_code == 304
        assert response.content == b""
        assert response.headers["etag"] == tag
        assert response.headers["cache-control"] == first.headers["cache-control"]
    response = client.get(url, headers={"If-None-Match": '"other"'})
    assert response.status_code == 200
    assert response.headers["etag"] == tag


def test_the_same_request_makes_the_same_picture(client: httpx.Client) -> None:
    data = saved(drawn(99, 101))
    assert post(client, data).headers["etag"] == post(client, data).headers["etag"]


# --- Styles and the rest -------------------------------------------------------------------------------------------


def test_the_root_says_where_things_are(client: httpx.Client) -> None:
    index = client.get("/").json()
    for name in ("documentation", "openapi", "styles", "problems"):
        assert client.get(index[name]).status_code == 200
    assert client.get(index["stylize"]).status_code == 405


def test_the_gateway_does_not_say_what_it_is_made_of(client: httpx.Client) -> None:
    headers = client.get("/livez").headers
    assert "server" not in headers
    assert parsedate_to_datetime(headers["date"])
