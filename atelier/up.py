"""All of Atelier on one machine: Redis, worker, trainer and gateway as child processes of one command."""

import contextlib
import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import IO

import httpx
import structlog

from atelier.folder import locked, written
from atelier.redis_server import answers, configuration, redis_binary
from atelier.settings import LauncherSettings
from contract.errors import SettingsError

log = structlog.get_logger()

LIBC = ctypes.CDLL(None)
"""Loaded here, because a child between fork and exec should load nothing."""

START_SECONDS = 180
REDIS_START_SECONDS = 30
POLL_SECONDS = 0.2
PROBE_SECONDS = 2
GATEWAY_STOP_SECONDS = 20
REDIS_STOP_SECONDS = 15
REPLACED = ("worker", "trainer")
RESTARTS = 5
"""A worker or trainer that ends this often within RESTART_WINDOW_SECONDS is not started again."""
RESTART_WINDOW_SECONDS = 60


@dataclass
class Child:
    """One of our processes."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes]
    log: str
    """Where its log is, for people."""

    def died(self) -> bool:
        return self.process.poll() is not None

    def how_it_ended(self) -> str:
        code = self.process.returncode
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def run(settings: LauncherSettings, announce: Callable[[str], None]) -> None:
    """Starts everything, says where it is, and stops everything on SIGINT, SIGTERM or SIGHUP.

    Raises SettingsError with a sentence for people when it cannot start, or when a part of it dies.
    """
    with locked(settings.data) as lock:
        launcher = Launcher(settings, lock)
        try:
            with contextlib.suppress(KeyboardInterrupt):
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
        self._stopping = False
        self._hurry = False
        self._not_ready = ""
        self._deaths = {name: deque[float](maxlen=RESTARTS) for name in REPLACED}
        self._address_file = settings.data / "service.json"
        port = settings.port or _free_port()
        _check_port(settings.host, port)
        self.url = url_to_try(settings.host, port)
        self._environment = {
            **os.environ,
            "ATELIER_DATA": str(settings.data.resolve()),
            "ATELIER_HOST": settings.host,
            "ATELIER_PORT": str(port),
        }
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def start(self) -> None:
        """Returns when the service is ready. Raises KeyboardInterrupt when somebody wants to stop before."""
        with written(self._settings.data):
            self._address_file.unlink(missing_ok=True)  # of a launcher that was killed
        self._environment["ATELIER_REDIS_URL"] = self._given_redis() or self._start_redis()
        self._spawn("worker", [sys.executable, "-m", "worker.app"])
        self._spawn("trainer", [sys.executable, "-m", "trainer.app"])
        self._spawn("gateway", [sys.executable, "-m", "service.app"])
        self._until(self._is_ready, START_SECONDS, lambda: f"The service did not become ready: {self._not_ready}.")
        with written(self._settings.data):
            self._address_file.write_text(json.dumps({"url": self.url}))

    def watch(self) -> None:
        """Returns when somebody wants to stop. A worker or trainer that dies is replaced: its jobs go on."""
        while not self._stopping:
            for child in self._children:
                if child.died():
                    self._replace(child)
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Gateway first, so that nothing new comes in; Redis last, so that nothing is lost."""
        self._stopping = True  # from now on, a signal says: faster
        self._hurry |= any(child.died() for child in self._children if child.name == "redis")  # nothing can be finished
        with contextlib.suppress(OSError):
            self._address_file.unlink(missing_ok=True)
        order = ("gateway", "trainer", "worker", "redis")
        for child in sorted(self._children, key=lambda child: order.index(child.name)):
            if not child.died():
                child.process.terminate()
            self._wait_for_end(child)

    def _wait_for_end(self, child: Child) -> None:
        """A worker may finish its jobs. Whoever is in a hurry leaves them in the queue, which Redis always saves."""
        patience = {"gateway": GATEWAY_STOP_SECONDS, "redis": REDIS_STOP_SECONDS}.get(
            child.name, self._settings.job_seconds
        )
        deadline = time.monotonic() + patience
        while not child.died():
            if time.monotonic() > deadline or (self._hurry and child.name != "redis"):
                child.process.kill()
            time.sleep(POLL_SECONDS / 4)

    def _on_signal(self, *_: object) -> None:
        """Sets flags and no threading.Event: that has a lock, which the interrupted code may hold."""
        self._hurry = self._stopping
        self._stopping = True

    def _replace(self, child: Child) -> None:
        """Starts a worker or trainer again. Raises SettingsError for other children, and for one that keeps dying."""
        ending = child.how_it_ended()
        if child.name not in REPLACED:
            raise SettingsError(f"The {child.name} {ending}: everything else is stopped, too.")
        if self._dies_too_often(child.name):
            raise SettingsError(
                f"The {child.name} {ending}, and this was the {RESTARTS}th time within a minute: everything else is "
                "stopped, too."
            )
        log.warning(f"the {child.name} {ending}: a new one starts")
        child.process = self._popen(child.name, child.command)

    def _dies_too_often(self, name: str) -> bool:
        now, deaths = time.monotonic(), self._deaths[name]
        deaths.append(now)
        return len(deaths) == RESTARTS and now - deaths[0] < RESTART_WINDOW_SECONDS

    def _given_redis(self) -> str:
        """The Redis of ATELIER_REDIS_URL, if that is set."""
        url = self._settings.redis_url
        if url and not answers(url):
            raise SettingsError(
                "No Redis answers at ATELIER_REDIS_URL: start it, or unset the variable to get one here."
            )
        return url

    def _start_redis(self) -> str:
        """Starts a Redis that keeps its data in the data folder; its URL."""
        folder = self._settings.data / "redis"
        with written(self._settings.data):
            folder.mkdir(exist_ok=True)
        port, password = _free_port(), secrets.token_hex(16)
        where = f"above, or in {folder / 'redis.log'}"
        child = self._spawn("redis", [redis_binary(), "-"], subprocess.PIPE, where)
        assert child.process.stdin is not None
        with contextlib.suppress(BrokenPipeError), child.process.stdin as stdin:  # it died: that is noticed below
            # By standard input, so that the password is not on the command line for everybody to read.
            stdin.write(configuration(folder, port, password))
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        self._until(lambda: answers(url), REDIS_START_SECONDS, lambda: f"Redis did not start; its log is {where}.")
        return url

    def _is_ready(self) -> bool:
        try:
            answer = httpx.get(f"{self.url}/readyz", timeout=PROBE_SECONDS, trust_env=False)
        except httpx.HTTPError as error:
            self._not_ready = str(error)
            return False
        self._not_ready = what_is_missing(answer)
        return answer.is_success

    def _until(self, condition: Callable[[], bool], seconds: float, complaint: Callable[[], str]) -> None:
        """Waits. SettingsError: a child died or time is up. KeyboardInterrupt: somebody wants to stop."""
        deadline = time.monotonic() + seconds
        while not self._stopping and not condition():
            for child in self._children:
                if child.died():
                    raise SettingsError(
                        f"The {child.name} {child.how_it_ended()} while starting; its log is {child.log}."
                    )
            if time.monotonic() > deadline:
                raise SettingsError(complaint())
            time.sleep(POLL_SECONDS)
        if self._stopping:
            raise KeyboardInterrupt

    def _spawn(self, name: str, command: list[str], stdin: int = subprocess.DEVNULL, log_place: str = "above") -> Child:
        child = Child(name, command, self._popen(name, command, stdin), log_place)
        self._children.append(child)
        return child

    def _popen(self, name: str, command: list[str], stdin: int = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
        # Redis saves what it has; without it, the others can finish nothing, and their jobs are in the queue.
        last = signal.SIGTERM if name == "redis" else signal.SIGKILL
        try:
            return subprocess.Popen(  # noqa: S603 - our own programs
                command,
                env=self._environment_of(name),
                stdin=stdin,
                start_new_session=True,  # Ctrl-C is for us; we stop them in order
                pass_fds=[self._lock.fileno()],  # the data folder is in use as long as one of them lives
                preexec_fn=partial(_end_with_parent, last) if sys.platform == "linux" else None,
            )
        except OSError as error:
            raise SettingsError(f"{command[0]} cannot be started ({error.strerror}).") from error

    def _environment_of(self, name: str) -> dict[str, str]:
        """Worker and trainer share this machine, so their figures cannot have the same port."""
        port = self._settings.metrics_port
        return self._environment | ({"ATELIER_METRICS_PORT": str(port + 1)} if port and name == "trainer" else {})


def _end_with_parent(last: signal.Signals) -> None:
    """Asks Linux to end this child when the launcher is killed without a chance to stop it (PR_SET_PDEATHSIG)."""
    LIBC.prctl(1, last)


def url_to_try(host: str, port: int) -> str:
    """The address to try: a wildcard is for listening only, so this machine's own address stands for it."""
    with contextlib.suppress(ValueError):  # a name
        if (address := ip_address(host)).is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def what_is_missing(readiness: httpx.Response) -> str:
    """The checks of GET /readyz that failed, in words."""
    try:
        checks = readiness.json()["checks"]
    except (ValueError, KeyError, TypeError):
        return f"it answers {readiness.status_code}"
    return ", ".join(f"{state} ({name})" for name, state in checks.items() if state != "ok")


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise SettingsError(
            f"Port {port} of {host} cannot be used ({error.strerror}): stop what listens there, or choose another port "
            "with ATELIER_PORT."
        ) from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
