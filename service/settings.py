"""What the gateway reads from its environment (prefix ``ATELIER_``)."""

import base64
import binascii
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from contract.jobs import MAX_ITERATIONS
from contract.settings import ContractSettings


def _split(text: object) -> object:
    return [part.strip() for part in text.split(",") if part.strip()] if isinstance(text, str) else text


def _signing(secret: SecretStr) -> SecretStr:
    """Raises ValueError for what Standard Webhooks does not take as a secret."""
    prefix, _, encoded = secret.get_secret_value().rpartition("_")
    try:
        size = len(base64.b64decode(encoded, validate=True))
    except binascii.Error:
        size = 0
    if prefix != "whsec" or not 24 <= size <= 64:
        raise ValueError("a secret is whsec_ and the base64 of 24 to 64 random bytes")
    return secret


Listed = (NoDecode, BeforeValidator(_split))
"""Several values, with commas between them."""


MOST_PICTURES = 256
"""However many an operator lets one request have."""


class ServiceSettings(ContractSettings):
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """The port to listen on."""
    bind: str = ""
    """The address at which others reach what it listens on, where that is another one: of a container, the address of
    the host on which its port is published. Empty is ``host``."""
    api_keys: Path | None = None
    """The file of the keys that the service may be called with; without one, nobody needs a key."""
    allow_anonymous: bool = False
    """Whether others than this machine may call the service without keys."""
    allowed_hosts: Annotated[tuple[str, ...], *Listed] = ()
    """Further names under which the service is asked for, with commas between them."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Requests that make jobs, for each key whose entry does not say otherwise; None is as many as they like."""
    max_body_megabytes: float = Field(default=32.0, gt=0)
    """The largest request body."""
    max_batch: int = Field(default=16, ge=1, le=MOST_PICTURES)
    """Pictures of one request."""
    max_iterations: int = Field(default=MAX_ITERATIONS, ge=1, le=MAX_ITERATIONS)
    """The most ``iterations`` that a request may have a style trained for."""
    max_uploads: int = Field(default=64, ge=1)
    """Uploads that may come in at once; one more is answered 503. Each may hold ``max_body_megabytes`` of memory."""
    max_upload_megapixels: float = Field(default=50.0, gt=0)
    """The largest picture that is taken, to be decoded."""
    max_megapixels: float = Field(default=50.0, gt=0)
    """The largest result. A larger photograph is scaled down to it."""
    max_side: int = Field(default=16_383, ge=16)
    """The longest side of a picture, in and out, in pixels. WebP ends at 16,383 in any case, JPEG at 65,500."""
    max_uploads_per_key: int = Field(default=8, ge=1)
    """Uploads of one key that may come in at once, unless its entry says otherwise; one more is answered 429."""
    upload_idle_seconds: float = Field(default=15, gt=0)
    """How long an upload may pause, a request's header may take, and a client may read nothing of its answer."""
    upload_total_seconds: float = Field(default=120, gt=0)
    """How long an upload may take."""
    wait_seconds: float = Field(default=30, ge=0)
    """How long POST /stylize waits for the picture when the client does not say."""
    max_wait_seconds: float = Field(default=60, ge=0)
    """The longest that a client may ask to wait."""
    max_waiting: int = Field(default=1000, ge=1)
    """Requests that may wait for a job, or follow its events, at once; of one key a quarter. One more is answered as
    things are, or 503."""
    max_connections: int = Field(default=10_000, ge=1)
    """Open connections. For one more, the one that has waited longest without a request is closed."""
    metrics_public: bool = False
    """Whether anybody may read /metrics; else this machine, and keys with the scope admin."""
    ping_seconds: float = Field(default=15, gt=0)
    """How often a stream of events says that it is still there, when there is nothing to tell."""
    image_urls: bool = False
    """Whether a request may name an address (``image_url``) from which the gateway fetches the picture."""
    webhook_secrets: Annotated[tuple[Annotated[SecretStr, AfterValidator(_signing)], ...], *Listed] = ()
    """The secrets (``whsec_…``) that calls of webhooks are signed with; without one nobody is called."""
    outbound_ports: Annotated[tuple[Annotated[int, Field(ge=1, le=65535)], ...], *Listed] = (80, 443)
    """The ports of the addresses that clients may have called."""
    outbound_allow: Annotated[tuple[IPv4Network | IPv6Network, ...], *Listed] = ()
    """Networks (``10.1.0.0/16``) that may be called although they are not public."""
    outbound_seconds: float = Field(default=10, gt=0)
    """How long a call of such an address may take, with its redirects."""
