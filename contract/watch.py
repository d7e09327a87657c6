"""Waiting for a job to end, without asking again and again: a blocking read of its event stream."""

import asyncio
import time
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from contract.jobbook import events_key
from contract.jobs import JobState

BLOCK_MILLISECONDS = 5000
RECONNECT_SECONDS = 0.5
GRACE_SECONDS = 0.5
"""How much later than asked for a wait may end, so that a read that is about to return is not cut off."""


def connect_async(url: str, *, max_connections: int) -> Redis:
    """The client for waiting: one connection for each request that waits."""
    pool = BlockingConnectionPool.from_url(
        url,
        decode_responses=True,
        max_connections=max_connections,
        timeout=None,
        socket_connect_timeout=2.0,
        socket_timeout=BLOCK_MILLISECONDS / 1000 + 5,
    )
    return Redis.from_pool(pool)


async def wait_for_end(client: Redis, job_id: str, seconds: float) -> bool:
    """Whether the job ends within this long. A Redis that is away for a moment is waited for."""
    try:
        # A Redis that hangs, or a pool without a free connection, would keep a read longer than its own time.
        async with asyncio.timeout(seconds + GRACE_SECONDS):
            return await _read_until_end(client, job_id, time.monotonic() + seconds)
    except TimeoutError:
        return False


async def _read_until_end(client: Redis, job_id: str, deadline: float) -> bool:
    last = "0-0"
    while (left := deadline - time.monotonic()) > 0:
        block = max(1, min(BLOCK_MILLISECONDS, round(left * 1000)))
        try:
            answer = await client.xread({events_key(job_id): last}, block=block)
        except RedisError:
            await asyncio.sleep(min(RECONNECT_SECONDS, left))
            continue
        for entry_id, fields in _entries(answer):
            last = entry_id
            if "state" in fields and JobState(fields["state"]).is_terminal:
                return True
    return False


def _entries(answer: Any) -> list[tuple[str, dict[str, str]]]:
    """The (id, fields) of a read from one stream; none when it ran out of time."""
    return [(entry_id, fields) for _, entries in answer or [] for entry_id, fields in entries]
