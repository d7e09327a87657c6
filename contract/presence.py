"""Who is there: the processes of one kind that say that they are ready for jobs.

A sorted set in Redis: the name of the process, and until when its word counts. Whoever stops saying so is gone.

    python -m contract.presence worker      exits with 0 when a worker of this machine is ready, for health checks
"""

import socket
import sys
from typing import Literal, cast, get_args

from redis import Redis

from contract.errors import AtelierError
from contract.jobbook import PREFIX, connect, queue_errors, redis_time
from contract.settings import ContractSettings, load

Kind = Literal["worker", "trainer"]
PATIENCE_SECONDS = 3


class Presence:
    """The ready processes of one kind."""

    def __init__(self, client: Redis, kind: Kind) -> None:
        self._redis = client
        self._key = f"{PREFIX}{kind}s"

    def announce(self, name: str, seconds: float) -> None:
        """Says that this process is ready, for this long."""
        with queue_errors():
            self._redis.zadd(self._key, {name: redis_time(self._redis) + seconds})

    def dismiss(self, name: str) -> None:
        """Says that this process is not ready any more."""
        with queue_errors():
            self._redis.zrem(self._key, name)

    def names(self) -> list[str]:
        with queue_errors():
            now = redis_time(self._redis)
            self._redis.zremrangebyscore(self._key, "-inf", now)
            return sorted(cast(list[str], self._redis.zrange(self._key, 0, -1)))


def process_name(pid: int) -> str:
    """What a process is called: its host and its number."""
    return f"{socket.gethostname()}-{pid}"


def main() -> None:
    kind = sys.argv[1] if len(sys.argv) > 1 else ""
    if kind not in get_args(Kind):
        sys.exit(f"usage: python -m contract.presence {'|'.join(get_args(Kind))}")
    host = socket.gethostname()
    try:
        settings = load(ContractSettings)
        names = Presence(connect(settings.redis_url, patience_seconds=PATIENCE_SECONDS), cast(Kind, kind)).names()
    except AtelierError as error:
        sys.exit(str(error))
    if not any(name.rpartition("-")[0] == host for name in names):
        sys.exit(f"no {kind} on this machine is ready")


if __name__ == "__main__":
    main()
