"""What goes out, and what it cannot reach."""

import asyncio
import gzip
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from threading import Event

import pytest

from contract.errors import BodyTooLargeError, FetchFailedError, FetchTimeoutError, UrlRefusedError
from service.outbound import REFUSED, RESOLVERS, Outbound, OutboundRules, Resolve, is_public, resolve
from tests.service.remote import Answer, Listener, listener, remote

INSIDE = "127.0.0.1"
OUTSIDE = "127.0.0.2"
"""An address of this machine that stands for one that everybody may reach."""
METADATA = "http://169.254.169.254/latest/meta-data/"
PUBLIC = ip_network(f"{OUTSIDE}/32")


def rules(*ports: int, seconds: float = 5.0) -> OutboundRules:
    return OutboundRules(ports=(80, 443, *ports), allow=(PUBLIC,), total_seconds=seconds)


def fetched(url: str, held: OutboundRules, resolve: Resolve = resolve, max_bytes: int = 1000) -> bytes:
    async def fetch() -> bytes:
        outbound = Outbound(held, resolve)
        try:
            return await outbound.fetch(url, max_bytes)
        finally:
            await outbound.aclose()

    return asyncio.run(fetch())


def answers(*found: str) -> tuple[Resolve, list[str]]:
    """A name server that gives these answers, each once; and what it was asked."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return found[len(asked) - 1].split()

    return resolve, asked


@pytest.fixture
def nobody() -> Iterator[Listener]:
    """A listener inside, which nothing may reach."""
    with listener() as inside:
        yield inside
        assert inside.accepted == []


# --- Addresses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",  # carrier-grade NAT
        "100.100.100.200",  # metadata of a cloud
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",  # IPv4-compatible
        "::808:808",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:100.64.0.1",
        "::ffff:0:127.0.0.1",  # IPv4-translated
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::8.8.8.8",  # NAT64 of one's own
        "100::1",
        "2001:0:7f00:1::",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo
        "2001:2::1",
        "2001:10::1",
        "2001:db8::1",
        "2002:7f00:1::",  # 6to4
        "2002:a00:1::1",
        "2002:a9fe:a9fe::",
        "2606:4700::5efe:127.0.0.1",  # ISATAP
        "2606:4700::200:5efe:10.0.0.1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%1",
        "fec0::1",
        "ff02::1",
        "2606:4700::1111%1",
    ],
)
def test_what_is_not_for_everybody_is_refused(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        # The neighbours of what is refused.
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.1",
        "168.63.129.15",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2002:808:808::1",
        "2606:4700::5efe:8.8.8.8",
        "2606:4700:4700::1111",
        "2a00:1450:4001:81b::200e",
    ],
)
def test_what_is_for_everybody_is_not(address: str) -> None:
    assert is_public(ip_address(address))


HOSTS_INSIDE = (
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "0",
    "0.0.0.0",
    "0x7f000001",
    "0x7f.0x0.0x0.0x1",
    "0X7F.1",
    "2130706433",
    "017700000001",
    "0177.1",
    "localhost",
    "LOCALHOST",
    "127.0.0.3",
    "127。0。0。1",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
)
"""Names of this machine, as the socket layer knows them."""


@pytest.mark.parametrize("host", HOSTS_INSIDE)
def test_no_spelling_of_this_machine_reaches_it(nobody: Listener, host: str) -> None:
    with pytest.raises(UrlRefusedError) as refused:
        fetched(f"http://{host}:{nobody.port}/", rules(nobody.port))
    assert str(refused.value) == REFUSED


@pytest.mark.parametrize(
    "url",
    [
        METADATA,
        "http://[fe80::1%25lo]/",
        "http://[fe80::1%lo]/",
        "http://0177.0.0.1/",
        "http://%31%32%37.0.0.1/",
        "http://127.0.0.1./",
        "http://①②⑦.0.0.1/",
        "http://" + "a" * 70 + ".example/",
        "http://user:secret@127.0.0.2/",
        "http://127.0.0.2\\@127.0.0.1/",
        "http://127.0.0.2:0/",
        "http://127.0.0.2:22/",
        "http://127.0.0.2:6379/",
        "http://127.0.0.2:99999/",
        "https://127.0.0.2:8443/",
        "ftp://127.0.0.2/",
        "file:///etc/passwd",
        "gopher://127.0.0.2/_",
        "redis://127.0.0.2/",
        "unix:///run/docker.sock",
        "data:image/png;base64,AAAA",
        "//127.0.0.2/",
        "/etc/passwd",
        "127.0.0.2/photo",
        "http://",
        "http:///photo",
        "http://[::1",
        "http://host:80:80/",
        "http://nobody.invalid/",
        "http://xn--/",
        "",
        " ",
        "http://127.0.0.2/\r\nX: y",
    ],
)
def test_what_is_no_plain_public_address_is_refused(url: str) -> None:
    with pytest.raises(UrlRefusedError):
        fetched(url, rules())


@pytest.mark.parametrize("found", ["127.0.0.1", "127.0.0.2 127.0.0.1", "127.0.0.2 ::1", "127.0.0.2 10.0.0.1", ""])
def test_a_name_with_any_address_inside_is_refused(nobody: Listener, found: str) -> None:
    name_server, _ = answers(found)
    with remote(host=OUTSIDE) as outside:
        with pytest.raises(UrlRefusedError, match=REFUSED):
            fetched(f"http://pictures.test:{outside.port}/", rules(outside.port), name_server)
        assert outside.connections == 0


def test_names_that_nobody_answers_for_keep_no_other_waiting() -> None:
    """Look-ups hang where a name server says nothing: not in the threads of asyncio, of which there are few and on
    which all else waits, and there are many more of ours.
    """
    let_go = Event()

    async def looked_up() -> list[str]:
        others = [asyncio.get_running_loop().run_in_executor(None, let_go.wait) for _ in range(64)]
        hanging = [RESOLVERS.submit(let_go.wait) for _ in range(48)]
        try:
            async with asyncio.timeout(5):
                return await resolve("localhost", 80)
        finally:
            let_go.set()
            assert all(await asyncio.gather(*others))
            assert all(look_up.result(timeout=5) for look_up in hanging)

    assert asyncio.run(looked_up())


def test_a_name_server_that_says_nothing_is_given_up() -> None:
    async def silent(host: str, port: int) -> list[str]:
        await asyncio.sleep(60)
        return [OUTSIDE]

    began = time.monotonic()
    with pytest.raises(FetchTimeoutError):
        fetched("http://silent.test/", rules(seconds=0.2), silent)
    assert time.monotonic() - began < 5


def test_a_name_that_means_another_address_after_the_check_does_not_get_there() -> None:
    """DNS rebinding: a public address for the check, one inside for the connection."""
    with remote(Answer(body=b"outside"), host=OUTSIDE) as outside, remote(host=INSIDE, port=outside.port) as inside:
        name_server, asked = answers(OUTSIDE, INSIDE)
        assert fetched(f"http://rebind.test:{outside.port}/", rules(outside.port), name_server) == b"outside"
        assert asked == ["rebind.test"]  # what was checked is what was called
        assert outside.calls[0].headers["host"] == f"rebind.test:{outside.port}"
        assert inside.connections == 0


def test_a_name_that_means_another_address_after_a_redirect_does_not_get_there() -> None:
    with remote(host=OUTSIDE) as outside, remote(host=INSIDE, port=outside.port) as inside:
        outside.answers = [Answer(302, headers={"Location": f"http://rebind.test:{outside.port}/again"})]
        name_server, asked = answers(OUTSIDE, INSIDE)
        with pytest.raises(UrlRefusedError, match=REFUSED):
            fetched(f"http://rebind.test:{outside.port}/", rules(outside.port), name_server)
        assert asked == ["rebind.test", "rebind.test"]
        assert (outside.connections, inside.connections) == (1, 0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "target", [METADATA, "http://127.0.0.1:{port}/", "http://[::ffff:7f00:1]:{port}/", "//0:{port}"]
)
def test_a_redirect_does_not_get_inside(nobody: Listener, status: int, target: str) -> None:
    location = target.format(port=nobody.port)
    with remote(Answer(status, headers={"Location": location}), host=OUTSIDE) as outside:
        with pytest.raises(UrlRefusedError, match=REFUSED):
            fetched(f"http://{OUTSIDE}:{outside.port}/", rules(outside.port, nobody.port))
        assert outside.connections == 1


@pytest.mark.parametrize(
    "location", ["ftp://127.0.0.2/", "http://u:p@127.0.0.2/", "file:///etc/passwd", "http://xn--/"]
)
def test_a_redirect_to_what_is_no_plain_address_is_refused(location: str) -> None:
    with (
        remote(Answer(302, headers={"Location": location}), host=OUTSIDE) as outside,
        pytest.raises((UrlRefusedError, FetchFailedError)),
    ):
        fetched(f"http://{OUTSIDE}:{outside.port}/", rules(outside.port))


def test_the_proxies_of_the_environment_are_not_used(nobody: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{nobody.port}")
    with remote(Answer(body=b"itself"), host=OUTSIDE) as outside:
        assert fetched(f"http://{OUTSIDE}:{outside.port}/", rules(outside.port)) == b"itself"


def test_a_webhook_goes_nowhere_else_either(nobody: Listener) -> None:
    async def post(url: str, *ports: int) -> int:
        outbound = Outbound(rules(*ports))
        try:
            return (await outbound.post(url, b"{}", {"X": "y"})).status_code
        finally:
            await outbound.aclose()

    with pytest.raises(UrlRefusedError, match=REFUSED):
        asyncio.run(post(f"http://localhost:{nobody.port}/", nobody.port))
    elsewhere = Answer(307, headers={"Location": f"http://127.0.0.1:{nobody.port}/"})
    with remote(elsewhere, host=OUTSIDE) as outside:
        assert asyncio.run(post(f"http://{OUTSIDE}:{outside.port}/", outside.port, nobody.port)) == 307
        assert [(call.method, call.body, call.headers["x"]) for call in outside.calls] == [("POST", b"{}", "y")]


# --- What comes back -----------------------------------------------------------------------------------------------


def test_three_redirects_are_followed_and_a_fourth_is_not() -> None:
    onward = Answer(302, headers={"Location": "/next"})
    with remote(onward, onward, onward, Answer(body=b"there"), host=OUTSIDE) as outside:
        assert fetched(f"http://{OUTSIDE}:{outside.port}/", rules(outside.port)) == b"there"
    with remote(onward, host=OUTSIDE) as outside:
        with pytest.raises(FetchFailedError, match="more than 3 times"):
            fetched(f"http://{OUTSIDE}:{outside.port}/", rules(outside.port))
        assert len(outside.calls) == 4


def test_nothing_is_remembered_from_one_call_to_the_next() -> None:
    async def twice(url: str, port: int) -> None:
        outbound = Outbound(rules(port))
        await outbound.fetch(url, 10)
        await outbound.fetch(url, 10)
        await outbound.aclose()

    with remote(Answer(headers={"Set-Cookie": "client=one; Path=/"}), host=OUTSIDE) as outside:
        asyncio.run(twice(f"http://{OUTSIDE}:{outside.port}/", outside.port))
        assert [call.headers.get("cookie") for call in outside.calls] == [None, None]
        assert outside.connections == 2


@pytest.mark.parametrize("declared", [True, False])
def test_no_more_is_read_than_may_come(declared: bool) -> None:
    headers = {} if declared else {"Content-Length": "", "Connection": "close"}
    with remote(Answer(body=b"x" * 1001, headers=headers), host=OUTSIDE) as outside:
        url = f"http://{OUTSIDE}:{outside.port}/"
        with pytest.raises(BodyTooLargeError, match="1000 bytes"):
            fetched(url, rules(outside.port))
        assert fetched(url, rules(outside.port), max_bytes=1001) == b"x" * 1001


def test_what_is_packed_is_not_unpacked() -> None:
    packed = gzip.compress(b"0" * 1_000_000)
    answer = Answer(body=packed, headers={"Content-Encoding": "gzip"})
    with remote(answer, host=OUTSIDE) as outside:
        assert fetched(f"http://{OUTSIDE}:{outside.port}/", rules(outside.port), max_bytes=len(packed)) == packed
        assert outside.calls[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [204, 304, 401, 404, 500])
def test_only_200_is_an_answer(status: int) -> None:
    with (
        remote(Answer(status), host=OUTSIDE) as outside,
        pytest.raises(FetchFailedError, match=str(status)),
    ):
        fetched(f"http://{OUTSIDE}:{outside.port}/", rules(outside.port))


def test_a_server_that_hangs_is_given_up() -> None:
    with remote(host=OUTSIDE) as outside:
        outside.answers = [Answer(body=b"late", before_the_body=outside.hang)]
        with pytest.raises(FetchTimeoutError, match=r"0\.3 seconds"):
            fetched(f"http://{OUTSIDE}:{outside.port}/", rules(outside.port, seconds=0.3))


def test_a_server_that_breaks_off_or_is_not_there_has_failed() -> None:
    with remote(Answer(body=b"short", headers={"Content-Length": "100"}), host=OUTSIDE) as outside:
        url, port = f"http://{OUTSIDE}:{outside.port}/", outside.port
        with pytest.raises(FetchFailedError):
            fetched(url, rules(port))
    with pytest.raises(FetchFailedError) as gone:
        fetched(url, rules(port))
    assert OUTSIDE not in str(gone.value)


# --- TLS -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's, for the name pictures.test, which the gateway trusts."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl to make a certificate")
    key, pem = tmp_path / "key.pem", tmp_path / "certificate.pem"
    new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=pictures.test"
    names = ["-addext", "subjectAltName=DNS:pictures.test"]
    subprocess.run([openssl, *new.split(), *names, "-keyout", key, "-out", pem], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    return context


def test_tls_asks_for_the_name_and_checks_the_certificate_against_it(certificate: ssl.SSLContext) -> None:
    with remote(Answer(body=b"safe"), host=OUTSIDE, tls=certificate) as outside:
        name_server, _ = answers(*[OUTSIDE] * 2)
        assert fetched(f"https://pictures.test:{outside.port}/", rules(outside.port), name_server) == b"safe"
        with pytest.raises(FetchFailedError):
            fetched(f"https://other.test:{outside.port}/", rules(outside.port), name_server)
        assert outside.names == ["pictures.test", "other.test"]
        assert [call.headers["host"] for call in outside.calls] == [f"pictures.test:{outside.port}"]


def test_https_does_not_lead_to_http(certificate: ssl.SSLContext) -> None:
    with remote(host=OUTSIDE) as plain, remote(host=OUTSIDE, tls=certificate) as outside:
        outside.answers = [Answer(302, headers={"Location": f"http://{OUTSIDE}:{plain.port}/"})]
        name_server, _ = answers(OUTSIDE, OUTSIDE)
        with pytest.raises(FetchFailedError, match="https to http"):
            fetched(f"https://pictures.test:{outside.port}/", rules(outside.port, plain.port), name_server)
        assert plain.connections == 0
