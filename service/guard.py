"""The bytes and the time of a request's body are bounded while it streams in."""

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.errors import BodyTooLargeError, UploadTimeoutError
from service.settings import ServiceSettings

DRAIN_SECONDS = 5
"""How long the rest of a body that is too large is read, so that its sender gets to see the answer."""


def max_body_bytes(settings: ServiceSettings) -> int:
    return round(settings.max_body_megabytes * 2**20)


class BodyGuard:
    """Bounds the bytes and the time of every request body while it streams in, before any parser sees it."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self._app = app
        self._max_bytes = max_body_bytes(settings)
        self._idle_seconds = settings.upload_idle_seconds
        self._total_seconds = settings.upload_total_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        asks_first = b"expect" in headers  # and sends nothing before it is told to go on
        received, started, complete = 0, time.monotonic(), False

        async def guarded() -> Message:
            nonlocal received, complete
            if complete:  # what comes after the body is the client's leaving, and may take as long as it likes
                return await receive()
            if int(declared) > self._max_bytes:
                if not asks_first:
                    await self._drain(receive)
                raise self._too_large()
            message = await self._in_time(receive, started)
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > self._max_bytes:
                await self._drain(receive)
                raise self._too_large()
            return message

        await self._app(scope, guarded, send)

    async def _in_time(self, receive: Receive, started: float) -> Message:
        left = self._total_seconds - (time.monotonic() - started)
        try:
            async with asyncio.timeout(max(0.0, min(self._idle_seconds, left))):
                return await receive()
        except TimeoutError:
            raise UploadTimeoutError(
                f"The body must come within {self._total_seconds:g} seconds, with no pause of more than "
                f"{self._idle_seconds:g}: send it again."
            ) from None

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(f"The body may have {self._max_bytes} bytes: send a smaller file.")

    async def _drain(self, receive: Receive) -> None:
        """Reads on for a little while: a client that is cut off in the middle of sending never reads the answer."""
        drained = 0
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while drained <= self._max_bytes:
                    message = await receive()
                    drained += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            return
