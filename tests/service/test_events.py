"""The events of a job as a stream: all of them, once each, for as long as somebody listens."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from redis import Redis

from contract.errors import BrokenImageError
from contract.jobs import Progress, Stage
from tests.conftest import until
from tests.service.conftest import (
    PATIENCE_SECONDS,
    TIMINGS,
    Gateways,
    Keys,
    LoneGateway,
    accepted,
    claimed,
    code,
    drawn,
    openapi,
    saved,
    succeed,
    train,
    waits,
)


@dataclass(frozen=True)
class Event:
    name: str
    id: str
    data: Any


def parsed(text: str) -> list[Event]:
    """The events of a stream, without its comments."""
    events = []
    for block in text.split("\n\n"):
        lines = [line.partition(": ") for line in block.splitlines() if not line.startswith(":")]
        fields = {name: value for name, _, value in lines}
        if fields:
            events.append(Event(fields["event"], fields["id"], json.loads(fields["data"])))
    return events


def follow(gateway: LoneGateway, job_id: str, heard: str = "") -> list[Event]:
    """All that is told until the stream closes."""
    response = gateway.client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": heard} if heard else {})
    assert response.status_code == 200, response.text
    return parsed(response.text)


def states(events: list[Event]) -> list[str]:
    return [event.data["state"] for event in events if event.name in ("snapshot", "state")]


@contextmanager
def listening(gateway: LoneGateway, job_id: str) -> Iterator[httpx.Response]:
    with gateway.client.stream("GET", f"/jobs/{job_id}/events") as response:
        assert response.status_code == 200
        waits(gateway)
        yield response


def followed(gateway: LoneGateway, pool: ThreadPoolExecutor, job_id: str) -> "Future[list[Event]]":
    """What is told from now on, to somebody who listens already."""
    before = gateway.watcher.listeners
    told = pool.submit(follow, gateway, job_id)
    until(lambda: gateway.watcher.listeners > before, what="somebody who listens")
    return told


def test_the_job_is_told_first_and_then_what_becomes_of_it(gateway: LoneGateway, pool: ThreadPoolExecutor) -> None:
    job_id = accepted(gateway)
    told = followed(gateway, pool, job_id)
    succeed(gateway, job_id)
    events = told.result()
    assert [event.name for event in events] == ["snapshot", "state", "state"]
    assert states(events) == ["queued", "running", "succeeded"]
    assert events[0].data["urls"]["events"] == f"/jobs/{job_id}/events"
    assert (events[1].data["attempt"], events[1].data["job"]) == (1, None)
    assert events[2].data["job"] == gateway.client.get(f"/jobs/{job_id}").json()


def test_a_training_tells_its_progress_and_its_previews(gateway: LoneGateway, pool: ThreadPoolExecutor) -> None:
    job_id = train(gateway.client, saved(drawn()), name="new").json()["id"]
    claim = claimed(gateway, job_id)
    told = followed(gateway, pool, job_id)
    preview = gateway.images.put(b"a preview")
    progress = Progress(fraction=0.5, stage=Stage.TRAINING, iteration=5, iterations=10, previews=(preview,))
    assert gateway.book.progress(claim, progress)
    assert gateway.book.progress(claim, progress.model_copy(update={"fraction": 0.6}))
    assert gateway.book.fail(claim, BrokenImageError("It is cut off."), TIMINGS)
    snapshot, first, shown, second, end = told.result()
    assert (snapshot.name, snapshot.data["progress"]) == ("snapshot", None)
    assert (first.name, first.data["fraction"], second.data["fraction"]) == ("progress", 0.5, 0.6)
    assert first.data["previews"] == [f"/jobs/{job_id}/previews/0"]
    assert (shown.name, shown.data) == (
        "preview",
        {"previews": [{"url": f"/jobs/{job_id}/previews/0", "sha256": preview.sha256}]},
    )
    assert end.data["job"]["error"]["code"] == "broken-image"


def test_the_ids_are_those_of_the_stream_in_redis(gateway: LoneGateway, redis_client: "Redis") -> None:
    job_id = accepted(gateway)
    entries = [entry_id for entry_id, _ in redis_client.xrange(f"atelier:events:{job_id}") or []]
    with listening(gateway, job_id) as response:
        succeed(gateway, job_id)
        ids = [event.id for event in parsed(response.read().decode())]
    assert ids[0] == entries[0]
    assert ids == [entry_id for entry_id, _ in redis_client.xrange(f"atelier:events:{job_id}") or []]


def test_of_a_job_that_has_ended_there_is_one_event(gateway: LoneGateway) -> None:
    job_id = accepted(gateway)
    succeed(gateway, job_id)
    (event,) = follow(gateway, job_id)
    assert (event.name, event.data["state"]) == ("snapshot", "succeeded")


def test_who_comes_back_hears_what_was_missed_and_nothing_twice(gateway: LoneGateway, pool: ThreadPoolExecutor) -> None:
    job_id = accepted(gateway)
    with listening(gateway, job_id) as response:
        heard = parsed(next(response.iter_text()))[0].id
    until(lambda: gateway.watcher.listeners == 0, what="the listener to have gone")
    claimed(gateway, job_id)
    told = pool.submit(follow, gateway, job_id, heard)
    waits(gateway)
    gateway.client.delete(f"/jobs/{job_id}")
    assert [(event.name, event.data["state"]) for event in told.result()] == [
        ("state", "running"),
        ("state", "canceled"),
    ]


def test_who_has_heard_the_end_is_told_not_to_come_back(gateway: LoneGateway) -> None:
    job_id = accepted(gateway)
    succeed(gateway, job_id)
    (event,) = follow(gateway, job_id)
    response = gateway.client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": event.id})
    assert (response.status_code, response.content) == (204, b"")


@pytest.mark.parametrize("heard", ["1-1", "x", "99999999999999-0", "1" * 500, "-", "+", "(0-0"])
def test_who_has_heard_what_is_not_kept_is_told_of_the_job_as_it_is(gateway: LoneGateway, heard: str) -> None:
    job_id = accepted(gateway)
    succeed(gateway, job_id)
    (event,) = follow(gateway, job_id, heard)
    assert event.name == "snapshot"


def test_a_stream_that_has_nothing_to_tell_says_that_it_is_there(gateways: Gateways) -> None:
    with gateways(ping_seconds=0.1) as gateway:
        job_id = accepted(gateway)
        with listening(gateway, job_id) as response:
            lines = response.iter_lines()
            assert any(line == ": ping" for line in lines)
            succeed(gateway, job_id)
            assert any("succeeded" in line for line in lines)


def test_proxies_are_asked_to_keep_nothing_back(gateway: LoneGateway) -> None:
    job_id = accepted(gateway)
    with listening(gateway, job_id) as response:
        headers = response.headers
    assert headers["content-type"].startswith("text/event-stream")
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-cache", "no")
    assert headers["x-job-id"] == job_id


def test_a_listener_that_goes_away_leaves_nothing_behind(gateway: LoneGateway, redis_client: "Redis") -> None:
    job_id = accepted(gateway)
    before = threading.active_count()
    for _ in range(5):
        with listening(gateway, job_id):
            pass
        until(lambda: gateway.watcher.listeners == 0, what="the listener to have gone")
    until(lambda: redis_client.info("clients")["blocked_clients"] == 0, what="the watcher to leave Redis alone")
    assert threading.active_count() <= before + 1  # the framework's pool may have grown by one


def test_one_listener_more_than_may_is_refused(gateways: Gateways) -> None:
    with gateways(max_waiting=1) as gateway:
        job_id = accepted(gateway)
        with listening(gateway, job_id):
            response = gateway.client.get(f"/jobs/{job_id}/events")
            assert response.status_code == 503
            assert code(response) == "too-many-listeners"
            assert int(response.headers["retry-after"]) > 0
            # Who waits is told how things are instead.
            asked = gateway.client.get(f"/jobs/{job_id}", params={"wait": 50})
            assert asked.json()["state"] == "queued"
            assert asked.elapsed.total_seconds() < 20


def test_one_key_takes_its_share_of_the_streams_and_leaves_the_others(gateways: Gateways, keys: Keys) -> None:
    ann, bob = keys.make("ann"), keys.make("bob")
    with gateways(api_keys=keys.path, max_waiting=8) as gateway:
        anns, bobs = accepted(gateway, **ann), accepted(gateway, **bob)
        with ExitStack() as streams:
            for headers, job_id in ((ann, anns), (ann, anns), (bob, bobs)):
                stream = gateway.client.stream("GET", f"/jobs/{job_id}/events", headers=headers)
                assert streams.enter_context(stream).status_code == 200
            with gateway.client.stream("GET", f"/jobs/{anns}/events", headers=ann) as refused:
                assert refused.status_code == 503
                refused.read()
                assert code(refused) == "too-many-listeners"
                assert "with your key" in refused.json()["detail"]
            asked = gateway.client.get(f"/jobs/{anns}", params={"wait": 50}, headers=ann)
            assert asked.json()["state"] == "queued"
            assert asked.elapsed.total_seconds() < 20
        until(lambda: gateway.watcher.listeners == 0, what="the streams to end")
        with gateway.client.stream("GET", f"/jobs/{anns}/events", headers=ann) as again:
            assert again.status_code == 200
        limits = gateway.client.get("/limits", headers=ann).json()["limits"]
        assert [limit["value"] for limit in limits if limit["name"] == "waiting_per_key"] == [2]


def test_of_a_crowd_that_comes_at_once_no_more_are_let_in_than_may(gateways: Gateways) -> None:
    with gateways(max_waiting=3) as gateway, ExitStack() as streams, ThreadPoolExecutor(24) as crowd:
        path = f"/jobs/{accepted(gateway)}/events"
        gate = threading.Barrier(24)

        def ask() -> int:
            gate.wait(PATIENCE_SECONDS)
            return streams.enter_context(gateway.client.stream("GET", path)).status_code

        assert sorted(crowd.map(lambda _: ask(), range(24))) == [200] * 3 + [503] * 21


def test_a_gateway_that_stops_closes_its_streams(gateway: LoneGateway, pool: ThreadPoolExecutor) -> None:
    told = followed(gateway, pool, accepted(gateway))
    gateway.server.handle_exit(signal.SIGTERM, None)
    assert states(told.result(10)) == ["queued"]


LOSES: dict[str, Callable[["Redis", str], object]] = {
    "flushed": lambda client, _: client.flushall(),
    "evicted": lambda client, job_id: client.delete(f"atelier:job:{job_id}"),
}


@pytest.mark.parametrize("lose", LOSES.values(), ids=LOSES)
def test_the_stream_of_a_job_that_redis_has_lost_closes(
    gateways: Gateways, redis_client: "Redis", pool: ThreadPoolExecutor, lose: Callable[["Redis", str], object]
) -> None:
    with gateways(ping_seconds=0.2) as gateway:
        job_id = accepted(gateway)
        told = followed(gateway, pool, job_id)
        lose(redis_client, job_id)
        assert states(told.result(PATIENCE_SECONDS)) == ["queued"]


def test_the_description_of_the_stream_tells_its_events() -> None:
    operation = openapi()["paths"]["/jobs/{job_id}/events"]["get"]
    assert {parameter["name"] for parameter in operation["parameters"]} >= {"job_id", "Last-Event-ID"}
    content = operation["responses"]["200"]["content"]
    assert set(content) == {"text/event-stream"}
    event = content["text/event-stream"]["schema"]["properties"]
    assert event["event"]["enum"] == ["snapshot", "state", "progress", "preview"]
    assert {schema["$ref"].rpartition("/")[2] for schema in event["data"]["contentSchema"]["oneOf"]} == {
        "JobDocument",
        "ProgressDocument",
        "StateEvent",
        "PreviewEvent",
    }
    assert parsed_example(content["text/event-stream"]["example"]) == ["snapshot", "state", "progress"]


def parsed_example(text: str) -> list[str]:
    return [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
