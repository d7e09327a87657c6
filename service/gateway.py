"""What the routes work with."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from contract.errors import TooManyUploadsError
from contract.images import ImageStore
from contract.jobbook import JobBook
from contract.presence import Presence
from contract.queue import JobQueue
from contract.styles import StyleStore
from contract.watch import wait_for_end
from service.settings import ServiceSettings

UPLOADS_HINT_SECONDS = 5


@dataclass(frozen=True)
class Gateway:
    """The parts of one gateway process, wired by ``service.app``."""

    settings: ServiceSettings
    redis: Redis
    waiting: AsyncRedis
    queue: JobQueue
    book: JobBook
    workers: Presence
    trainers: Presence
    images: ImageStore
    styles: StyleStore
    uploads: asyncio.Semaphore
    """Held by every request whose body is in memory, or on its way there."""
    stopping: asyncio.Event

    @asynccontextmanager
    async def uploading(self) -> AsyncIterator[None]:
        """Room for one more body, to be read in here. Raises TooManyUploadsError when as many come in as may."""
        if self.uploads.locked():
            raise TooManyUploadsError(
                f"{self.settings.max_uploads} uploads are coming in, and no more are taken: try again in a moment.",
                retry_after_seconds=UPLOADS_HINT_SECONDS,
            )
        async with self.uploads:
            yield

    async def wait(self, job_id: str, seconds: float) -> None:
        """Returns when the job has ended or the time is over; at once in a gateway that is stopping."""
        watching = asyncio.ensure_future(wait_for_end(self.waiting, job_id, seconds))
        stopping = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()  # raises what went wrong
        finally:
            watching.cancel()
            stopping.cancel()
            await asyncio.wait({watching, stopping})  # the connection goes back before anybody closes them all


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


GatewayDep = Annotated[Gateway, Depends(_gateway)]
