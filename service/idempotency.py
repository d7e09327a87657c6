"""``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header): a request that is sent again is not done again.

A key is reserved while its request comes in, and becomes the job's in the very step that makes the job. What makes no
job leaves its key free. A gateway that dies meanwhile says no longer that it has the key, which is free a moment later.
"""

import asyncio
import hashlib
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from fastapi import Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from contract.admission import Admission, Idempotency, KnownKey
from contract.errors import AtelierError, InvalidParameterError, QueueUnavailableError
from contract.jobbook import RESERVATION_SECONDS, JobBook, key_reused
from service.clients import Client

HEADER = "Idempotency-Key"
MAX_KEY_LENGTH = 255
KEY_PATTERN = rf"[!#-~]{{1,{MAX_KEY_LENGTH}}}"
"""Visible characters of ASCII but quotes, in which it may stand."""


@dataclass(frozen=True)
class Reservation:
    """A request's hold on its key, or the job that the key means already."""

    key: str
    token: str
    known: KnownKey | None

    def replay(self, book: JobBook, fingerprint: str) -> Admission | None:
        """The job of the first request with this key, if there was one. Raises KeyReusedError for another payload."""
        if self.known is None:
            return None
        if self.known.fingerprint != fingerprint:
            raise key_reused()
        return Admission(book.get(self.known.job_id), "replayed")

    def idempotency(self, fingerprint: str) -> Idempotency:
        return Idempotency(self.key, self.token, fingerprint)


@asynccontextmanager
async def reserved(request: Request, book: JobBook, client: Client) -> AsyncIterator[Reservation | None]:
    """Keeps the key of a request, if it has one, until it has become a job or nothing.

    A key belongs to a client and an address: others may send the same one, and hear nothing of it.
    Raises InvalidParameterError, RequestInFlightError.
    """
    sent = read_key(request.headers.getlist(HEADER))
    if sent is None:
        yield None
        return
    key, token = _digest(client.name, request.url.path, sent), secrets.token_hex(8)
    known = await run_in_threadpool(book.reserve, key, token)
    if known:
        yield Reservation(key, token, known)
        return
    renewing = asyncio.create_task(_renew(book, key, token))
    try:
        yield Reservation(key, token, None)
    finally:
        renewing.cancel()
        await asyncio.wait({renewing})  # else what it has begun might reserve the key again
        with suppress(QueueUnavailableError):
            await run_in_threadpool(book.unreserve, key, token)


def read_key(headers: list[str]) -> str | None:
    """The key; the quotes that the standard asks for may be missing. Raises InvalidParameterError."""
    if not headers:
        return None
    key = headers[0].strip()
    if len(key) > 1 and key.startswith('"') and key.endswith('"'):
        key = key[1:-1]
    if len(headers) > 1 or not re.fullmatch(KEY_PATTERN, key):
        raise InvalidParameterError(
            f"Send one {HEADER} of 1 to {MAX_KEY_LENGTH} characters without spaces, such as a UUID.", parameter=HEADER
        )
    return key


def payload_fingerprint(pictures: tuple[bytes, ...], options: BaseModel) -> str:
    """The same for the same pictures and options, in whatever form they are sent."""
    return _digest(options.model_dump_json(), *(hashlib.sha256(picture).hexdigest() for picture in pictures))


async def _renew(book: JobBook, key: str, token: str) -> None:
    """Says again and again that the request is still coming in."""
    while True:
        await asyncio.sleep(RESERVATION_SECONDS / 3)
        with suppress(AtelierError):
            await run_in_threadpool(book.reserve, key, token)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
