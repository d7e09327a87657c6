"""Everything that goes out from the gateway to addresses that clients name, and what it must not reach.

A name is resolved once for each connection, every address that it has is held against the rules, and the connection is
made to one of those very addresses: between the check and the connection nothing can change what the name means. TLS
still checks the certificate against the name. Proxies that the environment names are not used, for behind one it would
be the proxy that resolves.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import httpx

from contract.errors import BodyTooLargeError, FetchFailedError, FetchTimeoutError, UrlRefusedError

MAX_URL_LENGTH = 2048
MAX_REDIRECTS = 3
MAX_CONNECT_SECONDS = 5.0
DEFAULT_PORTS = {"http": 80, "https": 443}
USER_AGENT = f"Atelier/{version('atelier')}"

REFUSED = "This address cannot be used: its host must have a public address, and no other."
"""The same for a host that does not exist and one that lies inside: who asks learns nothing of the inside."""

NAT64 = ip_network("64:ff9b::/96")
GLOBAL_UNICAST = ip_network("2000::/3")
NOT_PUBLIC = tuple(
    map(
        ip_network,
        (
            "192.0.0.0/24",  # protocol assignments; a cloud's metadata are at 192.0.0.192
            "192.88.99.0/24",  # relays of 6to4
            "168.63.129.16/32",  # a cloud's own service beside each of its machines
            "2001::/23",  # protocol assignments, Teredo among them
            "3fff::/20",  # documentation
        ),
    )
)
"""What is not for everybody, beyond what every ``ipaddress`` that we run on knows."""

RESOLVERS = ThreadPoolExecutor(64, thread_name_prefix="resolve")
"""A look-up that is given up goes on in its thread; names that nobody answers for must not keep others waiting."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host."""


@dataclass(frozen=True)
class OutboundRules:
    """Which addresses may be called, and how long that may take."""

    ports: tuple[int, ...] = (80, 443)
    allow: tuple[Network, ...] = ()
    """Networks that may be called although they are not public."""
    total_seconds: float = 10.0


def is_public(address: Address) -> bool:
    """Whether everybody may reach it; of an IPv6 address that wraps an IPv4 one, whether that is true of both."""
    if isinstance(address, IPv6Address):
        if inner := address.ipv4_mapped or _nat64(address):
            return is_public(inner)
        if address.scope_id or address not in GLOBAL_UNICAST or not all(map(is_public, _tunnelled(address))):
            return False
    known = any(address in network for network in NOT_PUBLIC)
    return address.is_global and not (address.is_multicast or address.is_reserved or known)


def _nat64(address: IPv6Address) -> IPv4Address | None:
    """What a translator between the families connects to; where there is one, names of IPv4 resolve to these."""
    return IPv4Address(int(address) & 0xFFFF_FFFF) if address in NAT64 else None


def _tunnelled(address: IPv6Address) -> list[IPv4Address]:
    """The ends of a tunnel that an address names: 6to4, Teredo, ISATAP (RFC 5214: …:0:5efe:a.b.c.d)."""
    found = [*(address.teredo or ()), *([address.sixtofour] if address.sixtofour else [])]
    if int(address) >> 32 & 0xFDFF_FFFF == 0x0000_5EFE:
        found.append(IPv4Address(int(address) & 0xFFFF_FFFF))
    return found


async def resolve(host: str, port: int) -> list[str]:
    """As the socket layer does, which also knows odd spellings of an address: octal, hexadecimal, short."""
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(RESOLVERS, look_up)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


class GuardedTransport(httpx.AsyncBaseTransport):
    """Sends requests to addresses that the rules let through. Raises UrlRefusedError for others."""

    def __init__(self, rules: OutboundRules, resolve: Resolve = resolve) -> None:
        self._rules = rules
        self._resolve = resolve
        # Each request has a connection of its own: in a pool, one would be known by its address, and not by its name.
        self._inner = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        failure: Exception | None = None
        for address in await self.addresses(request.url):
            try:
                return await self._inner.handle_async_request(_pinned(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
        assert failure is not None
        raise failure

    async def addresses(self, url: httpx.URL) -> list[Address]:
        """Those that the host of this address has by now, one or more. Raises UrlRefusedError."""
        check_form(url, self._rules.ports)
        try:
            async with asyncio.timeout(MAX_CONNECT_SECONDS):
                found = await self._resolve(_host(url), _port(url))
        except (OSError, UnicodeError):  # TimeoutError is an OSError, too
            raise UrlRefusedError(REFUSED) from None
        addresses = list(map(ip_address, found))
        if not addresses or not all(map(self._lets_through, addresses)):
            raise UrlRefusedError(REFUSED)
        return addresses

    def _lets_through(self, address: Address) -> bool:
        meant = (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
        return is_public(address) or any(meant in network for network in self._rules.allow)

    async def aclose(self) -> None:
        await self._inner.aclose()


def check_form(url: httpx.URL, ports: tuple[int, ...]) -> None:
    """Refuses what is wrong with an address by itself. Raises UrlRefusedError."""
    if url.scheme not in DEFAULT_PORTS or not url.host:
        raise UrlRefusedError("Only addresses that begin with https:// or http:// and name a host can be used.")
    if url.userinfo:
        raise UrlRefusedError("An address with a user name or a password cannot be used.")
    if _port(url) not in ports:
        raise UrlRefusedError(f"Only addresses with the ports {', '.join(map(str, ports))} can be used.")


def _host(url: httpx.URL) -> str:
    """As it goes over the wire; ``url.host`` shows a name with other letters as people write it."""
    return url.raw_host.decode("ascii")


def _port(url: httpx.URL) -> int:
    return DEFAULT_PORTS[url.scheme] if url.port is None else url.port


def _pinned(request: httpx.Request, address: Address) -> httpx.Request:
    """The request to this very address. Its Host header stays, and TLS asks for, and checks, the name."""
    extensions = {**request.extensions, "sni_hostname": _host(request.url)}
    url = request.url.copy_with(host=str(address))
    return httpx.Request(request.method, url, headers=request.headers, stream=request.stream, extensions=extensions)


class Outbound:
    """The one way out. Belongs to one event loop."""

    def __init__(self, rules: OutboundRules, resolve: Resolve = resolve) -> None:
        self._rules = rules
        self._transport = GuardedTransport(rules, resolve)
        self._client = httpx.AsyncClient(
            transport=self._transport,
            trust_env=False,
            cookies=CookieJar(
                DefaultCookiePolicy(allowed_domains=[])
            ),  # none: what one client is told is not another's
            timeout=httpx.Timeout(rules.total_seconds, connect=min(MAX_CONNECT_SECONDS, rules.total_seconds)),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        )

    async def check(self, text: str) -> None:
        """Whether an address may be called, as far as can be told now. Raises UrlRefusedError."""
        await self._transport.addresses(parse(text))

    async def fetch(self, text: str, max_bytes: int) -> bytes:
        """What is at an address, three redirects away at most.

        Raises UrlRefusedError, FetchFailedError, FetchTimeoutError, BodyTooLargeError.
        """
        with_errors = _fetch_errors(self._rules.total_seconds)
        async with with_errors, self._following(self._client.build_request("GET", parse(text))) as response:
            if response.status_code != httpx.codes.OK:
                raise FetchFailedError(f"The address answers {response.status_code}, and not 200 with the picture.")
            return await _bounded(response, max_bytes)

    async def post(self, text: str, content: bytes, headers: dict[str, str]) -> httpx.Response:
        """The answer, without its body. Redirects are not followed.

        Raises UrlRefusedError, FetchFailedError, FetchTimeoutError.
        """
        request = self._client.build_request("POST", parse(text), content=content, headers=headers)
        async with _fetch_errors(self._rules.total_seconds):
            response = await self._client.send(request, stream=True)
            await response.aclose()
        return response

    async def aclose(self) -> None:
        await self._client.aclose()

    @asynccontextmanager
    async def _following(self, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        """The answer at the end of the redirects, whose body is still to come."""
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._client.send(request, stream=True)
            try:
                if response.next_request is None:
                    yield response
                    return
                if request.url.scheme == "https" and response.next_request.url.scheme != "https":
                    raise FetchFailedError(
                        "The address leads on from https to http: send the address that it leads to."
                    )
                request = response.next_request
            finally:
                await response.aclose()
        raise FetchFailedError(f"The address leads on more than {MAX_REDIRECTS} times.")


def parse(text: str) -> httpx.URL:
    """Raises UrlRefusedError."""
    try:
        url = httpx.URL(text)
        url.host  # noqa: B018 - read for the first time, and so that a name that cannot be one is found here
        return url
    except (httpx.InvalidURL, UnicodeError):
        raise UrlRefusedError("This is not an address: write https://host/path.") from None


async def _bounded(response: httpx.Response, max_bytes: int) -> bytes:
    """The body as it is sent. Nothing is unpacked, so what comes is what it takes in memory."""
    too_large = BodyTooLargeError(f"The picture at the address has more than the {max_bytes} bytes that it may have.")
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)


@asynccontextmanager
async def _fetch_errors(total_seconds: float) -> AsyncIterator[None]:
    """Bounds the time of it all, and turns the library's failures into those that clients may read."""
    try:
        async with asyncio.timeout(total_seconds):
            yield
    except (TimeoutError, httpx.TimeoutException):
        raise FetchTimeoutError(f"The address did not answer within {total_seconds:g} seconds.") from None
    except (httpx.HTTPError, UnicodeError) as error:  # the latter of a name that the address leads on to
        raise FetchFailedError("The address cannot be reached, or broke off in the middle of its answer.") from error
