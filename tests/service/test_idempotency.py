"""A request that is sent again is not done again."""

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from redis import Redis

from contract.errors import BrokenImageError
from service.idempotency import HEADER
from tests.conftest import until
from tests.service.conftest import (
    ALONE,
    ASYNC,
    TIMINGS,
    Gateways,
    LoneGateway,
    claimed,
    code,
    data_url,
    drawn,
    parameters,
    picture_field,
    post,
    saved,
    succeed,
    text_field,
    the_one_that_waits,
    waits,
)

KEY = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}

HEAD = "POST /stylize?style=tiny HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 9999\r\n"
"""Of an upload that does not come to its end."""


def again(gateway: LoneGateway, data: bytes | None = None, **options: Any) -> httpx.Response:
    """A request with the key, that neither waits nor shares."""
    return post(gateway.client, data or saved(drawn()), headers={**KEY, **ASYNC, **ALONE}, **options)


def jobs(redis_client: "Redis") -> int:
    return len(list(redis_client.scan_iter("atelier:job:*")))


def test_the_same_request_is_the_same_job(gateway: LoneGateway, redis_client: "Redis") -> None:
    first, second = again(gateway), again(gateway)
    assert (first.status_code, second.status_code) == (202, 202)
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["location"] == first.headers["location"]
    assert jobs(redis_client) == 1


def test_what_is_finished_is_answered_again_and_who_waits_waits_again(
    gateway: LoneGateway, redis_client: "Redis", pool: ThreadPoolExecutor
) -> None:
    asked = [pool.submit(post, gateway.client, saved(drawn()), KEY) for _ in range(1)]
    waits(gateway)
    asked.append(pool.submit(post, gateway.client, saved(drawn()), KEY))
    until(lambda: gateway.watcher.listeners == 2, what="both to wait")
    data = succeed(gateway, the_one_that_waits(redis_client))
    answers = [*(one.result() for one in asked), post(gateway.client, saved(drawn()), KEY)]
    assert [answer.content for answer in answers] == [data] * 3
    assert [answer.headers.get("idempotency-replayed") for answer in answers] == [None, "true", "true"]


def test_a_failure_is_answered_again(gateway: LoneGateway) -> None:
    job_id = again(gateway).json()["id"]
    assert gateway.book.fail(claimed(gateway, job_id), BrokenImageError("It is cut off."), TIMINGS)
    answer = post(gateway.client, saved(drawn()), KEY)
    assert code(answer) == "broken-image"
    assert answer.headers["idempotency-replayed"] == "true"


def test_the_form_of_a_request_does_not_matter(gateway: LoneGateway) -> None:
    data = saved(drawn())
    headers = {**KEY, **ASYNC}
    raw = post(gateway.client, data, headers)
    files = [picture_field(data), text_field("style", "tiny")]
    multipart = gateway.client.post("/stylize", files=files, headers=headers)
    body = {"image": data_url(data, "image/png"), "style": "tiny"}
    written = gateway.client.post("/stylize", json=body, headers=headers)
    assert raw.json()["id"] == multipart.json()["id"] == written.json()["id"]


@pytest.mark.parametrize("options", [{"style": "tiny@1"}, {"size": 40}, {"quality": 3}, {"format": "webp"}])
def test_another_payload_with_the_same_key_is_refused(gateway: LoneGateway, options: dict[str, Any]) -> None:
    again(gateway)
    for response in (again(gateway, **options), again(gateway, saved(drawn(64, 64)))):
        assert response.status_code == 422
        assert code(response) == "idempotency-key-reused"


def test_a_replay_means_the_version_that_it_meant_at_first(gateway: LoneGateway) -> None:
    first = again(gateway)
    gateway.styles.remove("tiny")
    assert again(gateway).headers["location"] == first.headers["location"]


def test_a_key_belongs_to_an_address(gateway: LoneGateway) -> None:
    again(gateway)
    files = [picture_field(saved(drawn())), text_field("name", "new")]
    answers = [gateway.client.post("/styles", files=files, headers=KEY) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert answers[1].headers["idempotency-replayed"] == "true"
    other = gateway.client.post("/styles", files=[*files, text_field("title", "T")], headers=KEY)
    assert code(other) == "idempotency-key-reused"


def test_a_request_that_makes_no_job_leaves_its_key_free(gateway: LoneGateway) -> None:
    assert post(gateway.client, b"no picture", headers=KEY).status_code == 415
    assert again(gateway, style="unknown").status_code == 404
    assert again(gateway).status_code == 202


def test_a_full_queue_leaves_the_key_free(gateways: Gateways) -> None:
    with gateways(queue_limit=1) as gateway:
        first = post(gateway.client, saved(drawn(64, 64)), headers=ASYNC)
        assert code(again(gateway)) == "queue-full"
        gateway.client.delete(first.headers["location"])
        assert again(gateway).status_code == 202


def test_while_the_first_upload_comes_in_the_second_is_told_to_wait(
    gateway: LoneGateway, redis_client: "Redis"
) -> None:
    address = gateway.client.base_url
    with socket.create_connection((address.host, address.port or 80)) as first:
        first.sendall(f"{HEAD}Idempotency-Key: {KEY['Idempotency-Key']}\r\n\r\n".encode() + b"half")
        until(lambda: bool(list(redis_client.scan_iter("atelier:idempotency:*"))), what="the first request")
        response = again(gateway)
        assert response.status_code == 409
        assert code(response) == "request-in-flight"
        assert int(response.headers["retry-after"]) > 0
    until(lambda: again(gateway).status_code == 202, what="the first request to be given up")


def test_the_key_of_a_slow_upload_stays_reserved(gateway: LoneGateway, redis_client: "Redis") -> None:
    address = gateway.client.base_url
    with socket.create_connection((address.host, address.port or 80)) as first:
        first.sendall(f"{HEAD}{HEADER}: slow\r\n\r\n".encode())
        until(lambda: bool(list(redis_client.scan_iter("atelier:idempotency:*"))), what="the first request")
        (key,) = redis_client.scan_iter("atelier:idempotency:*")
        redis_client.expire(key, 9)
        until(lambda: redis_client.ttl(key) > 9, what="the key to be reserved for longer")
    until(lambda: not redis_client.exists(key), what="the upload to be given up")


@pytest.mark.parametrize("key", ["", '""', "two words", "x" * 256, "café"])
def test_a_key_that_is_none_is_refused(gateway: LoneGateway, key: str) -> None:
    response = post(gateway.client, saved(drawn()), headers={"Idempotency-Key": key.encode()})  # type: ignore[dict-item]
    assert parameters(response) == ["Idempotency-Key"]


def test_two_keys_are_refused(gateway: LoneGateway) -> None:
    headers = [("Idempotency-Key", "one"), ("Idempotency-Key", "two"), ("Content-Type", "image/png")]
    response = gateway.client.post("/stylize", params={"style": "tiny"}, content=saved(drawn()), headers=headers)
    assert parameters(response) == ["Idempotency-Key"]


def test_the_quotes_of_a_key_may_be_missing(gateway: LoneGateway) -> None:
    bare = {"Idempotency-Key": KEY["Idempotency-Key"].strip('"')}
    assert post(gateway.client, saved(drawn()), {**bare, **ASYNC}).json()["id"] == again(gateway).json()["id"]


def test_a_longest_key_is_taken(gateway: LoneGateway) -> None:
    assert post(gateway.client, saved(drawn()), {"Idempotency-Key": "x" * 255, **ASYNC}).status_code == 202
