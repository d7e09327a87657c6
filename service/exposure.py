"""Who reaches the gateway: this machine only, or others, and whether web pages in its browsers do.

A service on a loopback address asks nobody for a key, and yet whatever page a browser on this machine shows can send
requests to it. Two checks keep pages out. The name that was asked for must be one of ours: a page whose own name has
been made to lead to 127.0.0.1 (DNS rebinding) would else be the same site as the service, and could read its answers.
And what changes something must not come from another site.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from contract.errors import AtelierError, CrossSiteError, HostError, SettingsError
from service.problems import problem_of
from service.settings import ServiceSettings

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
PROBES = ("/livez", "/readyz")
"""Asked by whatever name a supervisor has for the gateway; they tell nothing that a page could use."""


def reached_at(settings: ServiceSettings) -> str:
    """The address, or the name, at which the gateway is reached."""
    return (settings.bind or settings.host).strip("[]")


def is_only_this_machine(host: str) -> bool:
    """Whether all that this address or name leads to is this machine."""
    try:
        found = socket.getaddrinfo(host, None) if host else []
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(ipaddress.ip_address(str(address[0])).is_loopback for *_, address in found)


def is_loopback(host: str) -> bool:
    """Whether a peer is this machine; a unix socket has no host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return not host


def check_exposure(settings: ServiceSettings) -> None:
    """Raises SettingsError for a service that anybody could call who reaches it."""
    host = reached_at(settings)
    if settings.api_keys is None and not settings.allow_anonymous and not is_only_this_machine(host):
        raise SettingsError(
            f"Others than this machine may reach {host}, and nobody would need a key: make keys (`atelier keys create "
            "NAME --scope stylize`) and name their file with ATELIER_API_KEYS; or set ATELIER_ALLOW_ANONYMOUS=true if "
            "everybody may do everything. Where a container's port is published on this machine only, say so with "
            "ATELIER_BIND=127.0.0.1."
        )


def allowed_hosts(settings: ServiceSettings) -> frozenset[str] | None:
    """The names under which the service may be asked for; None is any, where it is public."""
    if not settings.allowed_hosts and not is_only_this_machine(reached_at(settings)):
        return None
    return LOOPBACK_NAMES.union([reached_at(settings).lower()], map(_name_of, settings.allowed_hosts)) - {""}


class SiteGuard:
    """Keeps web pages of other sites out, before anything else is done."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self._app = app
        self._hosts = allowed_hosts(settings)
        # Prometheus asks for an address, and public figures tell a page nothing that it could not ask for itself.
        self._under_any_name = (*PROBES, "/metrics") if settings.metrics_public else PROBES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            try:
                if scope["path"] not in self._under_any_name:
                    self._check_host(headers)
                if scope["method"] not in SAFE_METHODS:
                    _check_site(headers)
            except AtelierError as error:
                await problem_of(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        """Starlette's TrustedHostMiddleware knows no IPv6, and answers with no problem."""
        if self._hosts is None:
            return
        sent = headers.getlist("host")
        if len(sent) != 1 or _name_of(sent[0]) not in self._hosts:
            raise HostError(
                "The service is not asked for by this name: use localhost or 127.0.0.1, or add the name to "
                "ATELIER_ALLOWED_HOSTS."
            )


def _check_site(headers: Headers) -> None:
    """Browsers say where a request comes from; what is no browser says nothing, and may pass.

    ``Sec-Fetch-Site`` is what the browser itself has found out. Older ones, and pages without TLS on other addresses
    than this machine's, have ``Origin`` alone, which must be the host that was asked.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site in ("same-origin", "none"):
        return
    if site is not None or (origin is not None and origin.partition("://")[2] != headers.get("host")):
        raise CrossSiteError("Web pages of other sites may not change anything here: call the service from a program.")


def _name_of(host: str) -> str:
    """Of a ``Host``, without its port; "" when there is none in it."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""
