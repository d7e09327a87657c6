"""A running service that is sent what is meant to do it harm, and what that may cost it."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.conftest import Stack

ALLOWED = {200, 413, 415, 422}
OWN_SECONDS = 5
"""How long the gateway may work on one request, in seconds of its processor time."""
GROWTH_MEGABYTES = {"gateway": 300, "worker": 900}
"""How much more memory than before a process may take while it is attacked."""
PATIENCE_SECONDS = 100


def send(client: httpx.Client, data: bytes, **options: str) -> httpx.Response:
    """What becomes of a picture in the end, however long it takes."""
    headers = {"Content-Type": "application/octet-stream", "Prefer": "respond-async", "Cache-Control": "no-store"}
    answer = client.post("/stylize", params={"style": "tiny", **options}, content=data, headers=headers)
    if answer.status_code != 202:
        return answer
    job, deadline = answer.headers["Location"], time.monotonic() + PATIENCE_SECONDS
    while client.get(job, params={"wait": 30}).json()["state"] in ("queued", "running"):
        assert time.monotonic() < deadline, "the job does not end"
    return client.get(f"{job}/result")


def memory_megabytes(process: int, what: str) -> float:
    """``VmRSS`` now, ``VmHWM`` its peak since it was forgotten."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{what}:"))) / 1024


def processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Target:
    """The service under attack."""

    stack: Stack
    client: httpx.Client

    def own_seconds(self) -> float:
        """Of the gateway's processor time, by now."""
        return processor_seconds(self.stack.processes["gateway"].pid)


@pytest.fixture
def target(stack: Stack) -> Iterator[Target]:
    """It must be unharmed afterwards: the same processes, in bounded memory, ready."""
    before = {}
    for name in GROWTH_MEGABYTES:
        number = stack.processes[name].pid
        Path(f"/proc/{number}/clear_refs").write_text("5")
        before[name] = memory_megabytes(number, "VmRSS")
    with httpx.Client(base_url=stack.url, timeout=PATIENCE_SECONDS) as client:
        yield Target(stack, client)
    for name, growth in GROWTH_MEGABYTES.items():
        process = stack.processes[name]
        assert process.poll() is None, f"the {name} has died"
        assert memory_megabytes(process.pid, "VmHWM") - before[name] < growth, name
    assert stack.ready()
