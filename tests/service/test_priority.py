"""How urgent a picture is: what clients say, and what is meant when they say nothing."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import until
from tests.service.conftest import (
    ALONE,
    ASYNC,
    Gateways,
    LoneGateway,
    accepted,
    code,
    data_url,
    drawn,
    parameters,
    picture_field,
    post,
    saved,
    succeed,
    text_field,
)


def priority_of(gateway: LoneGateway, job_id: str) -> str:
    return str(gateway.client.get(f"/jobs/{job_id}").json()["priority"])


@pytest.mark.parametrize(
    ("prefer", "expected"), [("respond-async", "normal"), ("wait=0", "normal"), ("wait=1", "interactive")]
)
def test_a_picture_that_is_waited_for_is_interactive(gateway: LoneGateway, prefer: str, expected: str) -> None:
    response = post(gateway.client, saved(drawn()), {**ALONE, "Prefer": prefer})
    assert (response.status_code, response.json()["priority"]) == (202, expected)


def test_the_priority_is_an_option_in_every_form(gateway: LoneGateway) -> None:
    data, headers = saved(drawn()), {**ALONE, **ASYNC}
    asked = (("style", "tiny"), ("priority", "batch"))
    answers = [
        post(gateway.client, data, headers, priority="batch"),
        gateway.client.post(
            "/stylize", files=[picture_field(data), *(text_field(*each) for each in asked)], headers=headers
        ),
        gateway.client.post("/stylize", json={**dict(asked), "image": data_url(data)}, headers=headers),
    ]
    assert [answer.json()["priority"] for answer in answers] == ["batch"] * 3


def test_a_priority_that_there_is_not_is_refused(gateway: LoneGateway) -> None:
    assert parameters(post(gateway.client, saved(drawn()), ASYNC, priority="urgent")) == ["priority"]


def test_an_urgent_request_finds_the_job_of_a_lazy_one_and_hurries_it(
    gateway: LoneGateway, pool: ThreadPoolExecutor
) -> None:
    accepted(gateway)
    lazy = post(gateway.client, saved(drawn(60, 40)), ASYNC, priority="batch").json()["id"]
    urgent = pool.submit(post, gateway.client, saved(drawn(60, 40)))
    until(lambda: priority_of(gateway, lazy) == "interactive", what="the second request")
    pick = gateway.book.pick()
    assert pick.claim is not None
    assert pick.claim.job_id == lazy
    assert gateway.book.release(pick.claim, counts=False)
    succeed(gateway, lazy)
    assert urgent.result().headers["X-Job-Id"] == lazy


def test_a_queue_that_is_full_of_lazy_jobs_takes_urgent_ones(gateways: Gateways) -> None:
    with gateways(queue_limit=4) as gateway:
        jobs = [post(gateway.client, saved(drawn()), {**ASYNC, **ALONE}, priority="batch") for _ in range(4)]
        assert [job.status_code for job in jobs] == [202, 202, 202, 503]
        assert code(jobs[3]) == "queue-full"
        assert post(gateway.client, saved(drawn()), {**ASYNC, **ALONE}, priority="interactive").status_code == 202
