"""What has been asked for in the same words is not done again, for as long as its picture is kept."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis

from contract.errors import BrokenImageError
from service.negotiation import Caching
from tests.conftest import publish_tiny, until
from tests.service.conftest import (
    ASYNC,
    DOCUMENT,
    TIMINGS,
    Gateways,
    LoneGateway,
    claimed,
    code,
    drawn,
    post,
    saved,
    succeed,
    the_one_that_waits,
)


def begun(gateway: LoneGateway, **headers: str) -> str:
    response = post(gateway.client, saved(drawn()), headers={**ASYNC, **headers})
    assert (response.status_code, response.headers["x-cache"]) == (202, "miss")
    return str(response.json()["id"])


def test_a_picture_that_was_made_is_answered_from_the_store(gateway: LoneGateway) -> None:
    job_id = begun(gateway)
    data = succeed(gateway, job_id)
    response = post(gateway.client, saved(drawn()), headers=ASYNC)
    assert (response.status_code, response.content) == (200, data)
    assert (response.headers["x-cache"], response.headers["x-job-id"]) == ("hit", job_id)
    told = post(gateway.client, saved(drawn()), headers=DOCUMENT)
    assert (told.headers["x-cache"], told.json()["id"]) == ("hit", job_id)


def test_the_words_may_differ_if_the_meaning_does_not(gateway: LoneGateway) -> None:
    succeed(gateway, begun(gateway))
    same = post(gateway.client, saved(drawn()), style="tiny@1", format="png", quality=100, strength=1)
    assert same.headers["x-cache"] == "hit"


def test_another_version_of_the_style_is_another_picture(gateway: LoneGateway) -> None:
    succeed(gateway, begun(gateway))
    publish_tiny(gateway.styles, "tiny", seed=9)
    begun(gateway)


@pytest.mark.parametrize("options", [{"quality": 50}, {"size": 40}, {"format": "webp"}, {"preserve_color": True}])
def test_other_options_are_another_picture(gateway: LoneGateway, options: dict[str, Any]) -> None:
    succeed(gateway, begun(gateway))
    assert post(gateway.client, saved(drawn()), headers=ASYNC, **options).headers["x-cache"] == "miss"


def test_equal_requests_wait_for_one_job(gateway: LoneGateway, redis_client: "Redis", pool: ThreadPoolExecutor) -> None:
    asked = [pool.submit(post, gateway.client, saved(drawn())) for _ in range(4)]
    until(lambda: gateway.watcher.listeners == 4, what="all of them to wait")
    data = succeed(gateway, the_one_that_waits(redis_client))
    answers = [one.result() for one in asked]
    assert [answer.content for answer in answers] == [data] * 4
    assert {answer.headers["x-cache"] for answer in answers} == {"miss"}


@pytest.mark.parametrize("directive", ["no-store", "no-cache", "max-age=0, No-Store"])
def test_who_wants_a_picture_done_anew_gets_it_done_anew(gateway: LoneGateway, directive: str) -> None:
    first = begun(gateway)
    second = begun(gateway, **{"Cache-Control": directive})
    succeed(gateway, first)
    third = begun(gateway, **{"Cache-Control": directive})
    assert len({first, second, third}) == 3


def test_what_is_not_to_be_stored_is_given_to_nobody_else(gateway: LoneGateway) -> None:
    succeed(gateway, begun(gateway, **{"Cache-Control": "no-store"}))
    begun(gateway)


def test_what_was_done_anew_is_given_to_others(gateway: LoneGateway) -> None:
    succeed(gateway, begun(gateway))
    anew = begun(gateway, **{"Cache-Control": "no-cache"})
    succeed(gateway, anew)
    assert post(gateway.client, saved(drawn())).headers["x-job-id"] == anew


def test_a_picture_that_has_left_the_store_is_made_again(gateway: LoneGateway) -> None:
    asked = [post(gateway.client, saved(drawn()), headers=ASYNC, format="webp") for _ in range(1)]
    succeed(gateway, asked[0].json()["id"])
    gateway.images.sweep(timedelta(seconds=-60), in_use=())
    asked += [post(gateway.client, saved(drawn()), headers=ASYNC, format="webp") for _ in range(2)]
    first, second, third = [response.json()["id"] for response in asked]
    assert first != second == third
    assert {response.headers["x-cache"] for response in asked} == {"miss"}
    succeed(gateway, second)
    assert post(gateway.client, saved(drawn()), format="webp").headers["x-cache"] == "hit"


def test_a_picture_is_found_no_longer_than_it_is_kept(gateways: Gateways) -> None:
    with gateways(result_seconds=1) as gateway:
        first = begun(gateway)
        succeed(gateway, first)
        until(lambda: gateway.client.get(f"/jobs/{first}").status_code == 410, 10, "the job to expire")
        begun(gateway)


def test_a_failure_is_not_kept_for_others(gateway: LoneGateway) -> None:
    first = begun(gateway)
    assert gateway.book.fail(claimed(gateway, first), BrokenImageError("It is cut off."), TIMINGS)
    assert begun(gateway) != first


def test_a_job_that_others_were_given_cannot_be_canceled(gateway: LoneGateway) -> None:
    job_id = begun(gateway)
    assert begun(gateway) == job_id
    response = gateway.client.delete(f"/jobs/{job_id}")
    assert response.status_code == 409
    assert code(response) == "job-shared"
    assert gateway.client.get(f"/jobs/{job_id}").json()["state"] == "queued"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], (True, True)),
        (["max-age=0"], (True, True)),
        (["no-cache"], (False, True)),
        (["no-store"], (False, False)),
        (["no-cache", "no-store"], (False, False)),
        ([" NO-STORE , x"], (False, False)),
        (["no-cache=field"], (False, True)),
        (["nonsense;;=,"], (True, True)),
    ],
)
def test_cache_control_is_read(headers: list[str], expected: tuple[bool, bool]) -> None:
    caching = Caching.parse(headers)
    assert (caching.may_find, caching.may_be_found) == expected
