"""Hearing of what becomes of jobs, without asking again and again: one blocking read for all who listen in a process.

What happens to a job stands in the job's own stream. That something has happened is announced in one stream for all
jobs, which a watcher reads for as long as anybody listens. It wakes those whose job is named, and they read what is new
to them: so a thousand listeners hold no connection to Redis while nothing happens.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from contract.errors import TooManyListenersError
from contract.jobbook import ANNOUNCEMENTS, ANNOUNCEMENTS_KEPT, events_key
from contract.jobs import JobState

CONNECTIONS = 16
BLOCK_MILLISECONDS = 2000
RECONNECT_SECONDS = 0.5
ROOM_HINT_SECONDS = 5
CLIENT_SHARE = 1 / 4
"""Of all places, for one client: others wait, too."""
BEGINNING = "0-0"
"""Before every event."""


@dataclass(frozen=True)
class JobEvent:
    """One entry of a job's stream. Its id grows with every event."""

    id: str
    fields: dict[str, str]

    @property
    def ends(self) -> bool:
        """Whether the job has ended with it."""
        return "state" in self.fields and JobState(self.fields["state"]).is_terminal


def places_of_a_client(max_listeners: int) -> int:
    """How many of so many places one client may take."""
    return max(1, int(max_listeners * CLIENT_SHARE))


def connect_async(url: str) -> Redis:
    """The client for watching: few connections, for all commands but one are over at once."""
    pool = BlockingConnectionPool.from_url(
        url,
        decode_responses=True,
        max_connections=CONNECTIONS,
        timeout=None,
        socket_connect_timeout=2.0,
        socket_timeout=BLOCK_MILLISECONDS / 1000 + 2,
    )
    return Redis.from_pool(pool)


class Watcher:
    """Tells the listeners of one event loop of their jobs. A Redis that is away for a moment is waited for."""

    def __init__(self, client: Redis, *, max_listeners: int) -> None:
        self._redis = client
        self._max_listeners = max_listeners
        self._places = Counter[str]()
        self._listening: dict[str, set[asyncio.Event]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._released = False

    @property
    def listeners(self) -> int:
        return sum(map(len, self._listening.values()))

    @contextmanager
    def place(self, client: str = "") -> Iterator[None]:
        """A place to listen from, for this client; empty where clients are not told apart.

        Raises TooManyListenersError when as many are taken as may, or as many by this client as its share.
        """
        if self._places.total() >= self._max_listeners:
            raise TooManyListenersError(
                f"{self._max_listeners} requests wait for jobs, and no more may: try again in a moment.",
                retry_after_seconds=ROOM_HINT_SECONDS,
            )
        share = places_of_a_client(self._max_listeners)
        if client and self._places[client] >= share:
            raise TooManyListenersError(
                f"{share} requests with your key wait for jobs, and no more may at once: wait for one of them.",
                retry_after_seconds=ROOM_HINT_SECONDS,
            )
        self._places[client] += 1
        try:
            yield
        finally:
            self._places[client] -= 1

    async def wait_for_end(self, job_id: str, seconds: float, client: str = "") -> bool:
        """Whether the job ends within this long. Takes a place for it, and raises TooManyListenersError."""
        deadline = time.monotonic() + seconds
        with self.place(client), self._listener(job_id) as changed:
            while not self._released:
                changed.clear()
                try:
                    if await _in_time(self._has_ended(job_id), deadline):
                        return True
                    await _in_time(changed.wait(), deadline)
                except TimeoutError:
                    return False
        return False

    async def follow(self, job_id: str, after: str, *, idle_seconds: float) -> AsyncGenerator[JobEvent | None]:
        """The events of a job after this one, until it has ended; None whenever there was none for so long, and while
        Redis is away.

        Take a place for it, and close it (``contextlib.aclosing``) when you leave it early.
        """
        with self._listener(job_id) as changed:
            while not self._released:
                changed.clear()
                try:
                    entries = await self._redis.xrange(events_key(job_id), min=f"({after}")
                except RedisError:
                    await asyncio.sleep(RECONNECT_SECONDS)
                    yield None
                    continue
                for event in _events(entries):
                    after = event.id
                    yield event
                    if event.ends:
                        return
                if not await _is_set(changed, idle_seconds):
                    yield None

    def release(self) -> None:
        """Lets go of all who listen: the process is about to stop."""
        self._released = True
        self._wake(self._listening)

    async def aclose(self) -> None:
        self.release()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait({self._reader})
        await self._redis.aclose()

    @contextmanager
    def _listener(self, job_id: str) -> Iterator[asyncio.Event]:
        """What is set whenever the job may have changed."""
        changed = asyncio.Event()
        self._listening.setdefault(job_id, set()).add(changed)
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        try:
            yield changed
        finally:
            self._listening[job_id].discard(changed)
            if not self._listening[job_id]:
                del self._listening[job_id]

    async def _has_ended(self, job_id: str) -> bool:
        """Asked until Redis answers, or nobody waits any more."""
        while not self._released:
            try:
                latest = await self._redis.xrevrange(events_key(job_id), count=1)
            except RedisError:
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            return any(event.ends for event in _events(latest))
        return False

    async def _read(self) -> None:
        """Reads the announcements for as long as anybody listens."""
        while self._listening:
            try:
                await self._read_on(await self._latest())
            except RedisError:
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _latest(self) -> str:
        entries = _events(await self._redis.xrevrange(ANNOUNCEMENTS, count=1))
        return entries[0].id if entries else BEGINNING

    async def _read_on(self, last: str) -> None:
        """Wakes those who listen: all of them at first, since much may have happened before."""
        self._wake(self._listening)
        while self._listening:
            answer = cast(Any, await self._redis.xread({ANNOUNCEMENTS: last}, block=BLOCK_MILLISECONDS))
            entries = [entry for _, entries in answer or [] for entry in _events(entries)]
            if entries:
                last = entries[-1].id
                # Of so many at once some may have been dropped from the stream before they were read.
                missed = len(entries) >= ANNOUNCEMENTS_KEPT
                self._wake(self._listening if missed else {entry.fields["job"] for entry in entries})

    def _wake(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            for changed in self._listening.get(job_id, ()):
                changed.set()


async def _in_time(answer: Coroutine[Any, Any, bool], deadline: float) -> bool:
    """The answer, unless it comes too late: then it is waited for no longer, and cancelled. Raises TimeoutError.

    It is not awaited that it is. Redis's client may take a cancellation for a lost connection, and ask again.
    """
    task = asyncio.create_task(answer)
    try:
        done, _ = await asyncio.wait({task}, timeout=max(0.0, deadline - time.monotonic()))
    finally:
        task.cancel()
    if not done:
        raise TimeoutError
    return task.result()


async def _is_set(event: asyncio.Event, seconds: float) -> bool:
    """Whether it is set within this long."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


def _events(entries: Any) -> list[JobEvent]:
    return [JobEvent(entry_id, fields) for entry_id, fields in entries or []]
