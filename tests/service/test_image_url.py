"""A picture that is fetched from where it is."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from contract.jobs import StylizeJob
from tests.service.conftest import (
    ALONE,
    ASYNC,
    Gateways,
    LoneGateway,
    code,
    data_url,
    drawn,
    form,
    parameters,
    picture_field,
    png_that_says_it_has,
    saved,
    text_field,
)
from tests.service.remote import Answer, Remote, remote

PHOTO = saved(drawn())
LOOPBACK = ("127.0.0.0/8",)


def fetching(gateways: Gateways, *servers: Remote, **changes: Any) -> AbstractContextManager[LoneGateway]:
    """A gateway that may call these servers, and fetches pictures."""
    ports = (80, *(server.port for server in servers))
    return gateways(**{"image_urls": True, "outbound_allow": LOOPBACK, "outbound_ports": ports, **changes})


@pytest.fixture
def site() -> Iterator[Remote]:
    """It has the photograph."""
    with remote(Answer(body=PHOTO)) as site:
        yield site


def address(site: Remote, path: str = "/photo.png") -> str:
    return f"http://127.0.0.1:{site.port}{path}"


def ask(gateway: LoneGateway, url: str, headers: dict[str, str] | None = None, **options: str) -> httpx.Response:
    """POST /stylize in the shortest form: everything in the query, and no body."""
    query = {"style": "tiny", "image_url": url, **options}
    return gateway.client.post("/stylize", params=query, headers={**ASYNC, **(headers or {})})


def content_of(gateway: LoneGateway, response: httpx.Response) -> bytes:
    assert response.status_code == 202, response.text
    request = gateway.book.get(response.json()["id"]).request
    assert isinstance(request, StylizeJob)
    return gateway.images.open(request.content)


def test_a_picture_is_fetched_in_every_form(gateways: Gateways, site: Remote) -> None:
    with fetching(gateways, site) as gateway:
        named, more = {"image_url": address(site), "style": "tiny"}, {**ASYNC, **ALONE}
        asked = [
            ask(gateway, address(site), ALONE),
            gateway.client.post("/stylize", files=[text_field(*each) for each in named.items()], headers=more),
            gateway.client.post("/stylize", json=named, headers=more),
        ]
        assert [content_of(gateway, response) for response in asked] == [PHOTO] * 3
        assert [call.path for call in site.calls] == ["/photo.png"] * 3


def test_what_is_fetched_is_a_picture_like_any_other(gateways: Gateways, site: Remote) -> None:
    with fetching(gateways, site) as gateway:
        sent = gateway.client.post(
            "/stylize", params={"style": "tiny"}, content=PHOTO, headers={**ASYNC, "Content-Type": "image/png"}
        )
        assert ask(gateway, address(site)).json()["id"] == sent.json()["id"]  # the bytes are the same, so the job is


def test_off_it_says_which_setting_turns_it_on(gateway: LoneGateway, site: Remote) -> None:
    response = ask(gateway, address(site))
    assert (response.status_code, code(response)) == (403, "switched-off")
    assert "ATELIER_IMAGE_URLS" in response.json()["detail"]
    assert site.connections == 0


def test_a_picture_and_an_address_are_one_too_many(gateways: Gateways, site: Remote) -> None:
    with fetching(gateways, site) as gateway:
        image, url = picture_field(PHOTO), text_field("image_url", address(site))
        answers = [
            form(gateway.client, image, url, style="tiny"),
            form(gateway.client, image, style="tiny", image_url=address(site)),
            form(gateway.client, url, style="tiny", image_url=address(site)),
            gateway.client.post("/stylize", json={"image": data_url(PHOTO), "image_url": address(site)}),
            gateway.client.post(
                "/stylize", params={"image_url": address(site)}, content=PHOTO, headers={"Content-Type": "image/png"}
            ),
        ]
        assert [parameters(answer) for answer in answers] == [["image_url"]] * 5
        assert code(gateway.client.post("/stylize", json={"style": "tiny"})) == "no-image"
        assert parameters(ask(gateway, "http://127.0.0.1/" + "x" * 2048)) == ["image_url"]
        assert parameters(ask(gateway, "")) == ["image_url"]
        assert site.connections == 0


def test_a_request_that_is_sent_again_fetches_nothing(gateways: Gateways, site: Remote) -> None:
    site.answers = [Answer(body=PHOTO), Answer(404)]
    with fetching(gateways, site) as gateway:
        key = {"Idempotency-Key": "fetched-once", **ALONE}
        first, again = (ask(gateway, address(site), key) for _ in range(2))
        assert again.headers["idempotency-replayed"] == "true"
        assert again.json()["id"] == first.json()["id"]
        assert len(site.calls) == 1
        assert code(ask(gateway, address(site, "/other.png"), key)) == "idempotency-key-reused"
        assert len(site.calls) == 1


@pytest.mark.parametrize(
    ("answer", "status", "expected"),
    [
        (Answer(404), 422, "fetch-failed"),
        (Answer(500), 422, "fetch-failed"),
        (Answer(302, headers={"Location": "http://169.254.169.254/"}), 403, "url-refused"),
        (Answer(body=b"<html>"), 415, "unsupported-image"),
        (Answer(), 415, "unsupported-image"),
        (Answer(body=PHOTO[:20]), 422, "broken-image"),
        (Answer(body=png_that_says_it_has(9000, 9000)), 413, "image-too-large"),
        (Answer(body=b"x" * 20_000), 413, "body-too-large"),
        (Answer(body=b"x" * 20_000, headers={"Content-Length": ""}), 413, "body-too-large"),
        (Answer(headers={"Content-Length": "10000000000"}), 413, "body-too-large"),
    ],
)
def test_what_cannot_be_fetched_or_used_is_the_clients_fault(
    gateways: Gateways, site: Remote, answer: Answer, status: int, expected: str
) -> None:
    site.answers = [answer]
    with fetching(gateways, site, max_body_megabytes=0.01) as gateway:
        response = ask(gateway, address(site))
        assert (response.status_code, code(response)) == (status, expected)
        assert gateway.book.depth().queued == 0


def test_a_site_that_hangs_is_given_up_and_holds_no_room(gateways: Gateways, site: Remote) -> None:
    site.answers = [Answer(body=PHOTO, before_the_body=site.hang)]
    with fetching(gateways, site, outbound_seconds=0.3) as gateway:
        assert code(ask(gateway, address(site))) == "fetch-timeout"
        assert gateway.uploads.taken == 0


def test_every_address_inside_is_refused_in_the_same_words(gateways: Gateways, site: Remote) -> None:
    with fetching(gateways, site, outbound_allow=()) as gateway:
        asked = [
            ask(gateway, url)
            for url in (
                address(site),
                f"http://localhost:{site.port}/",
                "http://10.1.2.3/",
                "http://169.254.169.254/latest/meta-data/",
                "http://there-is-none.invalid/",
            )
        ]
        assert {(answer.status_code, code(answer)) for answer in asked} == {(403, "url-refused")}
        assert len({answer.json()["detail"] for answer in asked}) == 1
        assert site.connections == 0
