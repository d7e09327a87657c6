"""Bodies that are too large, too slow or too many."""

import base64
import http.client
import json
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from redis import Redis

from tests.conftest import until
from tests.service.conftest import (
    Gateways,
    LoneGateway,
    accepted,
    code,
    data_url,
    document,
    drawn,
    form,
    picture_field,
    post,
    saved,
    succeed,
    text_field,
    the_one_that_waits,
    train,
    waits,
)


@pytest.fixture
def small(gateways: Gateways) -> Iterator[LoneGateway]:
    """A gateway that takes a tenth of a megabyte."""
    with gateways(max_body_megabytes=0.1, upload_idle_seconds=0.3) as gateway:
        yield gateway


def in_pieces(megabytes: int) -> Iterator[bytes]:
    for _ in range(16 * megabytes):
        yield bytes(2**16)


def test_a_body_that_says_it_is_too_large_is_refused_quickly(small: LoneGateway) -> None:
    start = time.monotonic()
    response = post(small.client, bytes(5 * 2**20))
    assert response.status_code == 413
    assert code(response) == "body-too-large"
    assert time.monotonic() - start < 4


def test_a_body_that_turns_out_too_large_is_refused_quickly(small: LoneGateway) -> None:
    start = time.monotonic()
    response = small.client.post(
        "/stylize?style=tiny", content=in_pieces(megabytes=5), headers={"Content-Type": "image/png"}
    )
    assert "content-length" not in response.request.headers
    assert response.status_code == 413
    assert code(response) == "body-too-large"
    assert time.monotonic() - start < 4


def test_forms_and_documents_are_bounded_too(small: LoneGateway) -> None:
    data = bytes(2**20)
    assert code(form(small.client, picture_field(data), text_field("style", "tiny"))) == "body-too-large"
    assert code(document(small.client, image=data_url(data), style="tiny")) == "body-too-large"
    assert code(train(small.client, data, name="new")) == "body-too-large"
    assert code(small.client.put("/styles/tiny/active", json={"version": "1" * 2**20})) == "body-too-large"


def test_a_body_at_the_limit_is_read(small: LoneGateway) -> None:
    limit = round(0.1 * 2**20)
    assert code(post(small.client, bytes(limit))) == "unsupported-image"
    assert code(post(small.client, bytes(limit + 1))) == "body-too-large"


def begun(client: httpx.Client, body: bytes, length: int = 1000) -> http.client.HTTPConnection:
    """An upload of which only the first bytes have come."""
    connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port, timeout=30)
    connection.putrequest("POST", "/stylize?style=tiny")
    connection.putheader("Content-Type", "image/png")
    connection.putheader("Content-Length", str(length))
    connection.putheader("Prefer", "respond-async")
    connection.endheaders()
    connection.send(body)
    return connection


@pytest.mark.parametrize("body", [b"", b"\x89PNG"])
def test_an_upload_that_pauses_is_given_up(small: LoneGateway, body: bytes) -> None:
    connection = begun(small.client, body)
    response = connection.getresponse()
    assert response.status == 408
    assert response.getheader("Content-Type") == "application/problem+json"
    assert json.loads(response.read())["code"] == "upload-timeout"
    connection.close()


def test_an_upload_that_takes_too_long_in_all_is_given_up(gateways: Gateways) -> None:
    with gateways(upload_total_seconds=0.5) as gateway:
        connection = begun(gateway.client, b"\x89PNG")
        assert connection.getresponse().status == 408
        connection.close()


def test_a_client_that_leaves_in_the_middle_is_no_trouble(small: LoneGateway) -> None:
    begun(small.client, b"\x89PNG").close()
    assert post(small.client, b"nothing").status_code == 415


def under_way(gateway: LoneGateway, data: bytes) -> http.client.HTTPConnection:
    """An upload that the gateway reads, and whose end has not come."""
    connection = begun(gateway.client, data[:10], len(data))
    until(gateway.uploads.locked, what="the upload to begin")
    return connection


def test_one_upload_more_than_may_come_in_is_refused_before_its_body_is_read(gateways: Gateways) -> None:
    data = saved(drawn())
    with gateways(max_uploads=1) as gateway:
        first = under_way(gateway, data)
        second = begun(gateway.client, b"")
        response = second.getresponse()
        assert response.status == 503
        assert response.getheader("Retry-After") == "5"
        assert json.loads(response.read())["code"] == "too-many-uploads"
        second.close()
        first.send(data[10:])
        assert first.getresponse().status == 202
        first.close()


def test_every_address_that_reads_a_body_needs_room_for_it(gateways: Gateways) -> None:
    with gateways(max_uploads=1) as gateway:
        first = under_way(gateway, bytes(1000))
        style = train(gateway.client, saved(drawn()), name="new")
        active = gateway.client.put("/styles/tiny/active", json={"version": 1})
        for response in (style, active):
            assert response.status_code == 503
            assert code(response) == "too-many-uploads"
            assert response.headers["retry-after"] == "5"
        first.close()
        until(lambda: not gateway.uploads.locked(), what="the upload to be given up")
        assert train(gateway.client, saved(drawn()), name="new").status_code == 202


def test_a_large_body_that_is_refused_unread_still_gets_its_answer(gateways: Gateways) -> None:
    with gateways(max_uploads=1) as gateway:
        first = under_way(gateway, bytes(1000))
        response = post(gateway.client, bytes(8 * 2**20))
        assert response.status_code == 503
        assert code(response) == "too-many-uploads"
        first.close()


def test_an_upload_that_ends_makes_room_and_a_request_that_waits_takes_none(
    gateways: Gateways, redis_client: "Redis", pool: ThreadPoolExecutor
) -> None:
    with gateways(max_uploads=1) as gateway:
        under_way(gateway, bytes(1000)).close()
        until(lambda: not gateway.uploads.locked(), what="the upload to be given up")
        waiting = pool.submit(post, gateway.client, saved(drawn()))
        waits(gateway)
        job_id = the_one_that_waits(redis_client)
        accepted(gateway)
        succeed(gateway, job_id)
        assert waiting.result().status_code == 200


@pytest.mark.parametrize("form", ["raw", "form", "document"])
def test_a_request_that_waits_holds_no_bytes_of_its_upload(
    gateway: LoneGateway, redis_client: "Redis", pool: ThreadPoolExecutor, form: str
) -> None:
    request = upload_of(gateway.client, form, saved(drawn()) + bytes(10 * 2**20))
    tracemalloc.start()
    try:
        waiting = pool.submit(gateway.client.send, request)
        waits(gateway)
        until(lambda: tracemalloc.get_traced_memory()[0] < 2**20, 5, "the memory to be given back")
    finally:
        tracemalloc.stop()
    succeed(gateway, the_one_that_waits(redis_client))
    assert waiting.result().status_code == 200


def upload_of(client: httpx.Client, form: str, data: bytes) -> httpx.Request:
    """The same upload in each of the three forms, ready to be sent."""
    match form:
        case "raw":
            body: dict[str, Any] = {"content": data, "headers": {"Content-Type": "image/png"}}
        case "form":
            body = {"files": {"image": data}}
        case _:
            body = {"json": {"image": f"data:image/png;base64,{base64.b64encode(data).decode()}"}}
    request = client.build_request("POST", "/stylize?style=tiny", **body)
    request.read()
    return request
