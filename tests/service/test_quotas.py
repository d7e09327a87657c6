"""How much a client may ask for: requests in a minute, over all gateways, and uploads at once."""

import re
import socket
from contextlib import ExitStack

import pytest
from redis import Redis

from contract.keys import Scope
from tests.conftest import free_port, until
from tests.service.conftest import ALONE, ASYNC, Gateways, Keys, LoneGateway, code, drawn, post, saved, succeed

JOB = {**ASYNC, **ALONE}


def standing(headers: object) -> tuple[str, int, int]:
    """The policy of an answer, what is left, and in how many seconds there is more."""
    told = re.fullmatch(r'"requests";r=(\d+);t=(\d+)', headers["ratelimit"])  # type: ignore[index]
    assert told is not None
    return headers["ratelimit-policy"], int(told[1]), int(told[2])  # type: ignore[index]


def limit(gateway: LoneGateway, name: str, headers: dict[str, str]) -> float | None:
    found = gateway.client.get("/limits", headers=headers).json()["limits"]
    return next((float(each["value"]) for each in found if each["name"] == name), None)


def test_two_gateways_count_together_and_each_client_for_itself(gateways: Gateways, keys: Keys) -> None:
    ann, bob = keys.make("ann", requests_per_minute=3), keys.make("bob", requests_per_minute=3)
    with gateways(api_keys=keys.path) as one, gateways(api_keys=keys.path) as other:
        for gateway, left in ((one, 2), (other, 1), (one, 0)):
            policy, told, seconds = standing(post(gateway.client, saved(drawn()), {**JOB, **ann}).headers)
            assert (policy, told) == ('"requests";q=3;w=60', left)
            assert 0 < seconds <= 60
        for gateway in (one, other):
            refused = post(gateway.client, saved(drawn()), {**JOB, **ann})
            assert (refused.status_code, code(refused)) == (429, "quota-exceeded")
            assert standing(refused.headers)[1] == 0
            assert int(refused.headers["retry-after"]) == standing(refused.headers)[2] > 0
        assert post(other.client, saved(drawn()), {**JOB, **bob}).status_code == 202


def test_there_is_room_again_when_a_minute_is_over(gateways: Gateways, keys: Keys, redis_client: "Redis") -> None:
    ann = keys.make("ann", requests_per_minute=1)
    with gateways(api_keys=keys.path) as gateway:
        assert post(gateway.client, saved(drawn()), {**JOB, **ann}).status_code == 202
        assert post(gateway.client, saved(drawn()), {**JOB, **ann}).status_code == 429
        (key,) = redis_client.scan_iter("atelier:quota:*")
        assert 0 < redis_client.ttl(key) <= 60
        redis_client.delete(key)  # what time does
        assert post(gateway.client, saved(drawn()), {**JOB, **ann}).status_code == 202


def test_only_what_makes_jobs_counts_and_that_whatever_becomes_of_it(gateways: Gateways, keys: Keys) -> None:
    ann = keys.make("ann", requests_per_minute=2)
    with gateways(api_keys=keys.path) as gateway:
        for path in ("/styles", "/limits", "/capacity", "/jobs/x"):
            assert "ratelimit" not in gateway.client.get(path, headers=ann).headers
        broken = post(gateway.client, b"no picture", {**JOB, **ann})
        assert (broken.status_code, standing(broken.headers)[1]) == (415, 1)
        assert standing(gateway.client.post("/styles", headers=ann).headers)[1] == 0
        assert code(gateway.client.post("/styles", headers=ann)) == "quota-exceeded"
        assert code(gateway.client.post("/jobs/x/deliveries/1/redeliver", headers=ann)) == "quota-exceeded"
        assert gateway.client.get("/styles", headers=ann).status_code == 200


def test_a_key_without_a_quota_of_its_own_has_that_of_the_setting(gateways: Gateways, keys: Keys) -> None:
    own, default = keys.make("own", requests_per_minute=5), keys.make("default")
    with gateways(api_keys=keys.path, requests_per_minute=7, max_uploads_per_key=3) as gateway:
        assert standing(post(gateway.client, saved(drawn()), {**JOB, **own}).headers)[0] == '"requests";q=5;w=60'
        assert standing(post(gateway.client, saved(drawn()), {**JOB, **default}).headers)[0] == '"requests";q=7;w=60'
        assert limit(gateway, "requests_per_minute", own) == 5
        assert limit(gateway, "requests_per_minute", default) == 7
        assert limit(gateway, "uploads_per_key", default) == 3


def test_without_keys_nobody_is_counted(gateways: Gateways) -> None:
    with gateways(requests_per_minute=1, max_uploads_per_key=1) as gateway:
        for _ in range(2):
            response = post(gateway.client, saved(drawn()), JOB)
            assert response.status_code == 202
            assert "ratelimit" not in response.headers


def test_while_redis_is_away_a_request_fails_as_it_would_without_a_quota(gateways: Gateways, keys: Keys) -> None:
    ann = keys.make("ann", requests_per_minute=1)
    with gateways(api_keys=keys.path, redis_url=f"redis://127.0.0.1:{free_port()}/0") as gateway:
        for _ in range(2):
            assert code(post(gateway.client, saved(drawn()), {**JOB, **ann})) == "queue-unavailable"


@pytest.mark.parametrize(("own", "setting", "allowed"), [({}, 2, 2), ({"uploads": 1}, 2, 1)])
def test_one_key_may_send_so_many_bodies_at_once_and_leaves_room_for_others(
    gateways: Gateways, keys: Keys, own: dict[str, int], setting: int, allowed: int
) -> None:
    ann, bob = keys.make("ann", Scope.STYLIZE, **own), keys.make("bob")
    with gateways(api_keys=keys.path, max_uploads_per_key=setting) as gateway, ExitStack() as connections:
        port = gateway.client.base_url.port
        head = f"POST /stylize HTTP/1.1\r\nHost: localhost\r\nAuthorization: {ann['Authorization']}\r\n"
        head += "Content-Type: image/png\r\nContent-Length: 99\r\n\r\n"
        for _ in range(allowed):
            connection = connections.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.sendall(head.encode())
        until(lambda: gateway.uploads.taken == allowed, what="the uploads")
        refused = post(gateway.client, saved(drawn()), {**JOB, **ann})
        assert (refused.status_code, code(refused)) == (429, "upload-quota-exceeded")
        assert int(refused.headers["retry-after"]) > 0
        succeed(gateway, post(gateway.client, saved(drawn()), {**JOB, **bob}).json()["id"])
        connections.close()
        until(lambda: gateway.uploads.taken == 0, what="the end of the uploads")
        assert post(gateway.client, saved(drawn()), {**JOB, **ann}).status_code == 202
