"""What the routes work with."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from redis import Redis

from contract.errors import SwitchedOffError, TooManyListenersError, TooManyUploadsError, UploadQuotaError
from contract.images import ImageStore
from contract.jobbook import JobBook
from contract.outbox import Outbox
from contract.presence import Presence
from contract.queue import JobQueue
from contract.styles import StyleStore
from contract.watch import Watcher
from service.clients import Client, KeyRing
from service.guard import max_body_bytes
from service.outbound import Outbound
from service.quotas import Quotas
from service.settings import ServiceSettings

UPLOADS_HINT_SECONDS = 5


class UploadRoom(asyncio.Semaphore):
    """Room for so many bodies at once."""

    def __init__(self, places: int) -> None:
        super().__init__(places)
        self._places = places
        self._clients = Counter[str]()

    @property
    def taken(self) -> int:
        return self._places - self._value

    def taken_by(self, client: str) -> int:
        return self._clients[client]

    @asynccontextmanager
    async def place(self, client: str) -> AsyncIterator[None]:
        """A place for a body of this client's."""
        async with self:
            self._clients[client] += 1
            try:
                yield
            finally:
                self._clients[client] -= 1


@dataclass(frozen=True)
class Gateway:
    """The parts of one gateway process, wired by ``service.app``."""

    settings: ServiceSettings
    redis: Redis
    watcher: Watcher
    queue: JobQueue
    book: JobBook
    workers: Presence
    trainers: Presence
    images: ImageStore
    styles: StyleStore
    keys: KeyRing
    quotas: Quotas
    uploads: UploadRoom
    """Held by every request whose body is in memory, or on its way there."""
    outbound: Outbound | None
    """None where nothing that goes out is switched on."""
    outbox: Outbox

    @asynccontextmanager
    async def uploading(self, client: Client) -> AsyncIterator[None]:
        """Room for one more body, to be read in here.

        Raises TooManyUploadsError when as many come in as may, UploadQuotaError when as many of this client's do.
        """
        if client.uploads is not None and self.uploads.taken_by(client.name) >= client.uploads:
            raise UploadQuotaError(
                f"{client.uploads} uploads with your key are coming in, and no more may at once: wait for one of them.",
                retry_after_seconds=UPLOADS_HINT_SECONDS,
            )
        if self.uploads.locked():
            raise TooManyUploadsError(
                f"{self.settings.max_uploads} uploads are coming in, and no more are taken: try again in a moment.",
                retry_after_seconds=UPLOADS_HINT_SECONDS,
            )
        async with self.uploads.place(client.name):
            yield

    async def fetch(self, url: str) -> bytes:
        """The picture at an address. Raises SwitchedOffError, and as ``Outbound.fetch`` does."""
        if self.outbound is None or not self.settings.image_urls:
            raise SwitchedOffError("Pictures are not fetched here: send the picture, or have ATELIER_IMAGE_URLS set.")
        return await self.outbound.fetch(url, max_body_bytes(self.settings))

    async def wait(self, client: Client, job_id: str, seconds: float) -> None:
        """Returns when the job has ended or the time is over; at once in a gateway that stops, or has too many wait,
        be they of this client's.
        """
        with suppress(TooManyListenersError):
            await self.watcher.wait_for_end(job_id, seconds, client.name)


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


GatewayDep = Annotated[Gateway, Depends(_gateway)]
