"""Clients that open, drip, lie and leave: there is room for the others, and all of it comes back."""

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.chaos.conftest import House, Houses, houses
from tests.conftest import until
from tests.pictures import encoded, photograph

__all__ = ["houses"]
pytestmark = pytest.mark.timeout(400)

IDLE_SECONDS = 2
SPARE_FILES = 30
"""To Redis and to the store, of which there may be some more by now."""
PARTS = (b"", b"POST /stylize HT", b"POST /stylize?style=tiny HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le")
"""What somebody has said who says no more."""
HEAD = b"POST /stylize?style=tiny HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
DRIPPING = HEAD + b"Content-Length: 100000\r\n\r\n\x89PNG"


@pytest.fixture
def open_house(houses: Houses) -> House:
    """A whole service that waits for two seconds."""
    house = houses(
        ATELIER_UPLOAD_IDLE_SECONDS=str(IDLE_SECONDS), ATELIER_UPLOAD_TOTAL_SECONDS="6", ATELIER_MAX_UPLOADS="8"
    )
    house.start("worker")
    house.ready()
    return house


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connections(house: House) -> int:
    """Files that the gateway has open."""
    return len(list(Path(f"/proc/{house.processes['gateway'].pid}/fd").iterdir()))


def connected(house: House, said: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", house.port), timeout=60)
    connection.sendall(said)
    return connection


def is_served(house: House) -> bool:
    answer = httpx.post(
        f"http://127.0.0.1:{house.port}/stylize",
        params={"style": "tiny"},
        content=encoded(photograph(seed=time.monotonic_ns() % 1000)),
        headers={"Content-Type": "image/jpeg", "Prefer": "wait=60"},
        timeout=90,
    )
    return answer.status_code == 200


@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=pytest.mark.chaos)])
def test_connections_that_are_opened_and_left_are_closed_and_keep_nobody_out(open_house: House, count: int) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < count + 500:
        pytest.skip("this machine lets nobody have so many files")
    assert is_served(open_house)  # which opens what it keeps open, to Redis
    before = connections(open_house)
    with ExitStack() as left:
        for number in range(count):
            left.enter_context(connected(open_house, PARTS[number % len(PARTS)]))
        assert is_served(open_house)
        until(lambda: connections(open_house) <= before + SPARE_FILES, 60, "the connections to be closed")
    assert is_served(open_house)


def test_uploads_that_drip_end_and_give_their_places_back(open_house: House) -> None:
    """Twelve of them for eight places, each of which sends a byte before it would be given up."""
    with ExitStack() as left:
        dripping = [left.enter_context(connected(open_house, DRIPPING)) for _ in range(12)]
        started, answered = time.monotonic(), dict[socket.socket, bytes]()
        while len(answered) < len(dripping):
            assert time.monotonic() - started < 60, "they go on for ever"
            for each in set(dripping) - set(answered):
                each.settimeout(0.05)
                try:
                    answered[each] = each.recv(2**16)
                except TimeoutError:
                    each.sendall(b"\0")
                except ConnectionError:
                    answered[each] = b""
        statuses = [answer.split(b" ", 2)[1] for answer in answered.values() if answer]
        assert set(statuses) <= {b"408", b"503"}
        assert statuses.count(b"408") >= 8
    until(lambda: is_served(open_house), 30, "a place")


def test_a_body_whose_length_is_a_lie_is_answered(open_house: House) -> None:
    lies = {
        b"Content-Length: 0": {400},
        b"Content-Length: 1": {415, 422},
        b"Content-Length: 99999999999999999999": {400, 413},
        b"Content-Length: 33554433": {413},
        b"Content-Length: -1": {400},
        b"Content-Length: 1e3": {400},
        b"Content-Length: 10, 20": {400},
        b"Content-Length: 100000": {408},
        b"Transfer-Encoding: chunked": {400, 408},
    }
    for lie, statuses in lies.items():
        with connected(open_house, HEAD + lie + b"\r\n\r\n" + b"\x89PNG" * 10) as connection:
            assert int(connection.recv(2**16).split(b" ", 2)[1]) in statuses, lie
    assert is_served(open_house)
