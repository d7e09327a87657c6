"""Connections that say nothing, say it slowly, or do not listen: their places come back."""

import resource
import socket
from collections.abc import Iterator

import pytest

from contract.images import MediaType
from contract.jobs import StylizeResult
from tests.conftest import until
from tests.service.conftest import TIMINGS, Gateways, LoneGateway, accepted, claimed

REQUEST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def hasty(gateways: Gateways) -> Iterator[LoneGateway]:
    """It waits for half a second, and has room for five."""
    with gateways(upload_idle_seconds=0.5, max_connections=5) as gateway:
        yield gateway


def connected(gateway: LoneGateway) -> socket.socket:
    url = gateway.client.base_url
    return socket.create_connection((url.host, url.port), timeout=20)


def answer(connection: socket.socket) -> bytes:
    """All that comes until the gateway closes the connection."""
    parts = []
    while part := connection.recv(2**16):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("said", [b"", b"GET /livez HTTP/1.1\r\nHost: lo", REQUEST + b"GET /livez HT"])
def test_a_connection_that_waits_without_a_whole_request_is_closed(hasty: LoneGateway, said: bytes) -> None:
    with connected(hasty) as connection:
        connection.sendall(said)
        assert answer(connection).count(b"200 OK") == said.count(REQUEST)


def test_a_header_that_comes_in_drops_takes_no_longer(hasty: LoneGateway) -> None:
    with connected(hasty) as connection:
        connection.settimeout(0.1)
        dropped = 0
        while True:
            try:
                connection.sendall(b"G" if not dropped else b"E")
                dropped += 1
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                assert dropped < 100, "it is never closed"
            except ConnectionError:
                break
        assert dropped > 1


def test_for_one_connection_more_than_may_be_the_longest_silent_one_is_closed(gateways: Gateways) -> None:
    with gateways(max_connections=3) as gateway:
        silent = [connected(gateway) for _ in range(3)]
        with connected(gateway) as newcomer:
            newcomer.sendall(REQUEST)
            assert b"200 OK" in newcomer.recv(2**16)
            assert silent[0].recv(1) == b""
            for other in silent[1:]:
                other.setblocking(False)
                with pytest.raises(BlockingIOError):
                    other.recv(1)
        for each in silent:
            each.close()


def test_a_request_under_way_is_not_closed_for_a_newcomer(gateways: Gateways) -> None:
    with gateways(max_connections=1) as gateway:
        job = accepted(gateway)
        gateway.client.close()
        with connected(gateway) as waiting:
            waiting.sendall(
                f"GET /jobs/{job}?wait=30 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            )
            until(lambda: gateway.watcher.listeners == 1, what="a request that waits")
            with connected(gateway) as newcomer:
                assert newcomer.recv(1) == b""
            gateway.book.cancel(job)
            assert b"canceled" in answer(waiting)


def test_a_client_that_does_not_read_its_answer_is_given_up(hasty: LoneGateway) -> None:
    job = accepted(hasty)
    claim = claimed(hasty, job)
    data = bytes(30 * 2**20)
    ref = hasty.images.put(data)
    made = StylizeResult(media_type=MediaType.PNG, width=48, height=32, bytes=len(data), sha256=ref.sha256)
    assert hasty.book.succeed(claim, made, TIMINGS)
    request = f"GET /jobs/{job}/result HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    with connected(hasty) as deaf, connected(hasty) as reader:
        deaf.sendall(request)
        reader.sendall(request)
        assert len(answer(reader)) > len(data)
        until(lambda: len(deaf.recv(1, socket.MSG_PEEK)) == 1, what="the beginning of the answer")
        hasty.client.close()
        until(lambda: not hasty.server.server_state.connections, what="the connection to be given up")


def test_the_limit_of_open_files_is_raised_for_the_connections(gateways: Gateways) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (600, hard))
        with gateways(max_connections=700):
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 956
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
