"""Celery's connections ask as much of a Redis behind TLS as our own do: a certificate of an authority that is known."""

import select
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis

from contract.errors import QueueUnavailableError
from contract.jobbook import JobBook, connect, queue_errors
from contract.queue import STYLIZE_QUEUE, JobQueue, celery_app
from contract.settings import ContractSettings
from tests.contract.conftest import a_job

TICKETS = "atelier:stylize"

CERTIFICATE = """
[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
commonName = a Redis
[extensions]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {name}
"""


@dataclass(frozen=True)
class Certificate:
    """Its own authority."""

    certificate: Path
    key: Path


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Certificate]:
    """A new certificate for a name, by the openssl command."""
    if not shutil.which("openssl"):
        pytest.skip("needs the openssl command")

    def make(name: str) -> Certificate:
        folder = tmp_path_factory.mktemp("certificate")
        made = Certificate(folder / "certificate.pem", folder / "key.pem")
        (folder / "wanted").write_text(CERTIFICATE.format(name=name))
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        files = {"-config": folder / "wanted", "-out": made.certificate, "-keyout": made.key}
        options = [word for option, file in files.items() for word in (option, str(file))]
        subprocess.run([*command, *options], check=True, capture_output=True)
        return made

    return make


@dataclass
class Front:
    """TLS before a Redis, and all that came through it."""

    port: int
    heard: bytearray = field(default_factory=bytearray)

    def url(self, query: str = "") -> str:
        return f"rediss://127.0.0.1:{self.port}/0{query}"


@contextmanager
def tls_before(redis_url: str, shown: Certificate) -> Iterator[Front]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown.certificate, shown.key)
    redis = urlsplit(redis_url)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                with (
                    context.wrap_socket(self.request, server_side=True) as client,
                    socket.create_connection((redis.hostname, redis.port)) as server,
                ):
                    pass_on(client, server, front.heard)
            except OSError:
                """The client has refused the certificate, or is gone."""

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as listening:
        front = Front(listening.server_address[1])
        threading.Thread(target=listening.serve_forever).start()
        try:
            yield front
        finally:
            listening.shutdown()


def pass_on(client: ssl.SSLSocket, server: socket.socket, heard: bytearray) -> None:
    """What each says to the other, until one of them has gone."""
    while True:
        ready = [client] if client.pending() else select.select([client, server], [], [])[0]
        for speaker in ready:
            if not (said := speaker.recv(65536)):
                return
            if speaker is client:
                heard += said
                server.sendall(said)
            else:
                client.sendall(said)


@contextmanager
def celery_of(settings: ContractSettings, redis_url: str) -> Iterator[Celery]:
    with celery_app(settings.model_copy(update={"redis_url": redis_url})) as app:
        yield app


def consume(app: Celery) -> None:
    """Takes a ticket, as a worker does."""
    with app.connection_for_read() as connection, connection.SimpleQueue(STYLIZE_QUEUE) as queue:
        queue.get(timeout=10).ack()


def test_a_certificate_of_a_known_authority_is_accepted(
    settings: ContractSettings,
    book: JobBook,
    redis_client: "Redis",
    redis_url: str,
    certificate: Callable[[str], Certificate],
) -> None:
    shown = certificate("IP:127.0.0.1")
    known = f"?ssl_ca_certs={shown.certificate}"
    with tls_before(redis_url, shown) as front, celery_of(settings, front.url(known)) as app:
        JobQueue(app, book, redis_client).submit(a_job())
        assert redis_client.llen(TICKETS) == 1
        consume(app)
        assert redis_client.llen(TICKETS) == 0
    assert b"LPUSH" in front.heard


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("IP:127.0.0.1", ""),
        ("IP:127.0.0.1", "?ssl_ca_certs={other}"),
        ("IP:127.0.0.1", "?ssl_check_hostname=false"),
        ("DNS:elsewhere.example", "?ssl_ca_certs={shown}"),
    ],
    ids=["no authority", "another authority", "no authority, any name", "another name"],
)
def test_a_certificate_that_our_own_connections_refuse_is_refused_by_celery_before_anything_is_said(
    settings: ContractSettings,
    book: JobBook,
    redis_client: "Redis",
    redis_url: str,
    certificate: Callable[[str], Certificate],
    name: str,
    query: str,
) -> None:
    shown, other = certificate(name), certificate("IP:127.0.0.1")
    with tls_before(redis_url, shown) as front:
        url = front.url(query.format(shown=shown.certificate, other=other.certificate)).replace("//", "//:secret@")
        with connect(url, patience_seconds=1) as client, pytest.raises(QueueUnavailableError), queue_errors():
            client.ping()
        with celery_of(settings, url) as app:
            with pytest.raises(QueueUnavailableError):
                JobQueue(app, book, redis_client).submit(a_job())
            with pytest.raises(OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
                consume(app)
    assert front.heard == b""


def test_the_url_may_ask_less_of_a_certificate_of_celery_as_well(
    settings: ContractSettings,
    book: JobBook,
    redis_client: "Redis",
    redis_url: str,
    certificate: Callable[[str], Certificate],
) -> None:
    shown = certificate("DNS:elsewhere.example")
    for query in (f"?ssl_ca_certs={shown.certificate}&ssl_check_hostname=no", "?ssl_cert_reqs=none"):
        with tls_before(redis_url, shown) as front, connect(front.url(query), patience_seconds=1) as client:
            assert client.ping()
            with celery_of(settings, front.url(query)) as app:
                JobQueue(app, book, redis_client).submit(a_job())
                consume(app)


def test_without_tls_nothing_is_asked_of_a_certificate(settings: ContractSettings) -> None:
    with celery_app(settings) as app:
        assert app.connection_for_write().ssl is False
