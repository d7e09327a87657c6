"""Servers that are not ours: what the gateway calls in the tests."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Headers = dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What a server says to a request, and what it does first. A header that is empty is not sent."""

    status: int = 200
    body: bytes = b""
    headers: Headers = field(default_factory=dict)
    before_the_head: Callable[[], object] = lambda: None
    before_the_body: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Call:
    """A request as it came."""

    method: str
    path: str
    headers: Headers
    """By their names in small letters."""
    body: bytes
    at: float = field(default_factory=time.time)


@dataclass
class Remote:
    """A server, and who called it. Its answers are given one after the other, the last one for ever."""

    port: int
    answers: list[Answer]
    calls: list[Call] = field(default_factory=list)
    connections: int = 0
    names: list[str] = field(default_factory=list)
    """By which it was asked for in TLS."""
    stopped: threading.Event = field(default_factory=threading.Event)

    def hang(self) -> None:
        """Says nothing before the test is over."""
        self.stopped.wait(60)


@contextmanager
def remote(
    *answers: Answer, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Remote]:
    """A server on this address."""
    told: Remote

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = told.answers.pop(0) if len(told.answers) > 1 else told.answers[0]
            told.calls.append(Call(self.command, self.path, headers, self.rfile.read(length)))
            answer.before_the_head()
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.flush()
            answer.before_the_body()
            self.wfile.write(answer.body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def verify_request(self, *_: object) -> bool:
            told.connections += 1
            return True

        def handle_error(self, *_: object) -> None:
            """Whoever calls may hang up."""

    server = Server((host, port), Handler)
    told = Remote(server.server_address[1], list(answers) or [Answer()])
    if tls:
        tls.sni_callback = lambda _, name, __: told.names.append(str(name))
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield told
    finally:
        told.stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Listener:
    """Takes connections on every address of this machine, and counts them."""

    port: int
    accepted: list[str] = field(default_factory=list)


@contextmanager
def listener() -> Iterator[Listener]:
    """Nobody may get here."""
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    dual = family is socket.AF_INET6
    with socket.create_server(("", 0), family=family, dualstack_ipv6=dual) as server:
        told = Listener(server.getsockname()[1])

        def accept() -> None:
            while True:
                try:
                    connection, peer = server.accept()
                except OSError:
                    return
                told.accepted.append(str(peer[0]))
                connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield told
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
