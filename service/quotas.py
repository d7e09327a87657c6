"""Quotas: how many requests a client may make, counted in Redis for all gateways together.

Only requests that make jobs count, each of them, whatever becomes of it: a picture that is broken costs an upload, too.
The window moves: it is always the last minute.
"""

import math
import time
from dataclasses import dataclass

import structlog
from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter
from redis import Redis, RedisError
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.errors import QuotaExceededError
from contract.jobbook import PREFIX
from service.settings import ServiceSettings

log = structlog.get_logger()

POLICY = "requests"
WINDOW_SECONDS = 60


@dataclass(frozen=True)
class Standing:
    """How a client stands with its quota after a request."""

    quota: int
    left: int
    seconds: int
    """Until more is left."""
    exceeded: bool

    def check(self) -> None:
        """Raises QuotaExceededError."""
        if self.exceeded:
            raise QuotaExceededError(
                f"Your key may make {self.quota} requests a minute: go on in {self.seconds} seconds.",
                retry_after_seconds=self.seconds,
            )

    def headers(self) -> dict[str, str]:
        """``RateLimit`` and ``RateLimit-Policy`` (draft-ietf-httpapi-ratelimit-headers)."""
        return {
            "RateLimit-Policy": f'"{POLICY}";q={self.quota};w={WINDOW_SECONDS}',
            "RateLimit": f'"{POLICY}";r={self.left};t={self.seconds}',
        }


class Quotas:
    """Counts the requests of clients."""

    def __init__(self, client: Redis, settings: ServiceSettings) -> None:
        storage = RedisStorage(settings.redis_url, client.connection_pool, key_prefix=f"{PREFIX}quota")
        self._limiter = MovingWindowRateLimiter(storage)

    def take(self, client: str, quota: int) -> Standing:
        """One more request, if it may be made; one that may not is not counted.

        While Redis is away nothing is counted: a request that makes a job fails by itself then.
        """
        limit = RateLimitItemPerMinute(quota, namespace=POLICY)
        try:
            exceeded = not self._limiter.hit(limit, client)
            reset, left = self._limiter.get_window_stats(limit, client)
        except RedisError as error:
            log.warning("a request is not counted", client=client, reason=type(error).__name__)
            return Standing(quota, quota, WINDOW_SECONDS, exceeded=False)
        return Standing(quota, max(0, left), max(1, math.ceil(reset - time.time())), exceeded)


class QuotaHeaders:
    """Says in the answer to every request that was counted how its client stands."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            standing: Standing | None = scope.get("state", {}).get("standing")
            if standing and message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(standing.headers())
            await send(message)

        await self._app(scope, receive, told)
