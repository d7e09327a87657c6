"""Webhooks: what clients may ask for, and the courier that makes the calls (Standard Webhooks 1.0).

A call is made at least once: again and again until it is answered with 2xx, or 410, or its job is no longer kept. Any
gateway makes the calls of all; whoever takes one and dies loses its hold on it.
"""

import asyncio
import email.utils
import random
import time
from collections import Counter
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import httpx
import prometheus_client
import structlog
from pydantic import SecretStr
from standardwebhooks import Webhook as Signer
from starlette.concurrency import run_in_threadpool

from contract.errors import (
    AtelierError,
    FetchTimeoutError,
    InvalidParameterError,
    OutboundError,
    QueueUnavailableError,
    SwitchedOffError,
    UrlRefusedError,
)
from contract.outbox import Outbox
from contract.webhooks import ENDS, Attempt, Delivery, Webhook, WebhookEvent
from service.gateway import Gateway
from service.options import WebhookOptions
from service.outbound import Outbound
from service.schemas import JobDocument, WebhookPayload

log = structlog.get_logger()

POLL_SECONDS = 0.5
"""How often a gateway looks for calls that are due."""
BACKLOG_SECONDS = 0.02
"""The same, after a look that has found as many as there was room for."""
AT_ONCE = 64
AT_ONCE_FOR_A_HOST = 8
"""So that a receiver that hangs keeps nobody else's calls waiting."""
TURN_SECONDS = 5.0
"""When a call is looked at again whose host has as many as it may."""
RETRY_SECONDS = (5, 30, 120, 600, 1800, 3600, 7200, 14_400)
"""Between one attempt and the next. A job that is kept for an hour sees the first five or six attempts."""
JITTER = (0.9, 1.2)
MAX_RETRY_AFTER_SECONDS = 86_400
MARGIN_SECONDS = 20.0
"""How much longer than a call takes at most a gateway has it."""


async def read_webhook(gateway: Gateway, options: WebhookOptions) -> Webhook | None:
    """Whom a request wants called. Raises InvalidParameterError, SwitchedOffError, UrlRefusedError."""
    if options.webhook_url is None:
        if options.webhook_events is not None:
            raise InvalidParameterError("`webhook_events` goes with a `webhook_url`.", parameter="webhook_events")
        return None
    if gateway.outbound is None or not gateway.settings.webhook_secrets:
        raise SwitchedOffError("Nobody is called from here: ask for the job, or have ATELIER_WEBHOOK_SECRETS set.")
    await gateway.outbound.check(options.webhook_url)
    names = options.webhook_events.split(",") if options.webhook_events else ENDS
    return Webhook(url=options.webhook_url, events=tuple(dict.fromkeys(map(WebhookEvent, names))))


class Courier:
    """Makes the calls that are due, until it is canceled."""

    def __init__(
        self,
        outbox: Outbox,
        outbound: Outbound,
        secrets: tuple[SecretStr, ...],
        call_seconds: float,
        attempts: prometheus_client.Counter,
    ) -> None:
        self._outbox = outbox
        self._outbound = outbound
        self._signers = [Signer(secret.get_secret_value()) for secret in secrets]
        self._hold_seconds = call_seconds + MARGIN_SECONDS
        self._attempts = attempts
        self._under_way: Counter[bytes] = Counter()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as calls:
            while True:
                room = AT_ONCE - self._under_way.total()
                due = await self._due(room)
                for delivery in due:
                    calls.create_task(self._logged(delivery))
                # Those of a host that has too many go back, and others may be due behind them.
                await asyncio.sleep(BACKLOG_SECONDS if due and len(due) == room else POLL_SECONDS)

    async def _due(self, room: int) -> list[Delivery]:
        """Calls to be made now, as many as there is room for. While Redis is away there are none."""
        if room:
            try:
                return await run_in_threadpool(self._outbox.take, room, self._hold_seconds)
            except QueueUnavailableError:
                return []
            except Exception:
                log.exception("webhooks cannot be read")
        return []

    async def _logged(self, delivery: Delivery) -> None:
        """A call that goes wrong in a way that nobody expects is no reason to make no others."""
        try:
            await self._deliver(delivery)
        except QueueUnavailableError as error:
            log.warning("webhook will be called once more", webhook=delivery.id, reason=str(error))
        except Exception:
            log.exception("webhook failed", webhook=delivery.id)

    async def _deliver(self, delivery: Delivery) -> None:
        """Makes one call, and writes down how it went. What cannot be written down is called once more."""
        host = httpx.URL(delivery.url).netloc
        if self._under_way[host] >= AT_ONCE_FOR_A_HOST:
            await run_in_threadpool(self._outbox.put_back, delivery, TURN_SECONDS)
            return
        self._under_way[host] += 1
        try:
            attempt, again_in = await self._attempt(delivery)
        finally:
            self._under_way[host] -= 1
            self._under_way = +self._under_way  # without the hosts that have none
        self._attempts.labels(attempt.outcome).inc()
        log.info("webhook called", job=delivery.job_id, webhook=delivery.id, outcome=attempt.outcome)
        await run_in_threadpool(self._outbox.attempted, delivery, attempt, again_in)

    async def _attempt(self, delivery: Delivery) -> tuple[Attempt, float | None]:
        """Makes the call; how it went, and in how many seconds it is to be made again."""
        at, tried = datetime.now(UTC), len(delivery.attempts)
        again_in = RETRY_SECONDS[tried] * random.uniform(*JITTER) if tried < len(RETRY_SECONDS) else None  # noqa: S311
        body = payload(delivery)
        try:
            response = await self._outbound.post(delivery.url, body, self._headers(delivery, body, at))
        except OutboundError as error:
            return Attempt(at=at, outcome=_outcome(error), detail=str(error)), again_in
        if response.is_success:
            return Attempt(at=at, outcome="delivered", status=response.status_code), None
        if response.status_code == HTTPStatus.GONE:
            again_in = None  # the receiver's word for: never again
        elif again_in is not None:
            again_in = max(again_in, _retry_after(response))
        return Attempt(at=at, outcome="rejected", status=response.status_code), again_in

    def _headers(self, delivery: Delivery, body: bytes, at: datetime) -> dict[str, str]:
        """Signed with every secret, so that receivers know one of them while secrets are changed."""
        return {
            "Content-Type": "application/json",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signer.sign(delivery.id, at, body.decode()) for signer in self._signers),
        }


def payload(delivery: Delivery) -> bytes:
    """What is sent: the same in every attempt."""
    document = JobDocument.of(delivery.record)
    return WebhookPayload(type=delivery.event, timestamp=delivery.at, data=document).model_dump_json().encode()


def _outcome(error: AtelierError) -> Any:
    if isinstance(error, UrlRefusedError):
        return "refused"
    return "timeout" if isinstance(error, FetchTimeoutError) else "unreachable"


def _retry_after(response: httpx.Response) -> float:
    """For how many seconds the receiver wants to be left alone; 0 when it does not say."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return min(float(text), MAX_RETRY_AFTER_SECONDS)
    try:
        until = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError):
        return 0.0
    return min(max(0.0, until - time.time()), MAX_RETRY_AFTER_SECONDS)
