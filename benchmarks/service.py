"""The service that a benchmark measures: started for it, on a folder of its own, and ended with it."""

import io
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from skimage import data

START_SECONDS = 300
ALONE = {"Cache-Control": "no-store"}
"""Has a picture made even if it was made before."""


@dataclass(frozen=True)
class Service:
    url: str
    process: "subprocess.Popen[bytes]"
    started_at: float

    def worker(self) -> int:
        """The process id of the worker."""
        return next(child for child in children(self.process.pid) if "worker.app" in command_line(child))

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).is_success
        except httpx.HTTPError:
            return False


@contextmanager
def running_service(folder: Path | None = None, environment: dict[str, str] | None = None) -> Iterator[Service]:
    """``atelier up`` with these settings, ready; in a folder that is there already, or in a new one."""
    with tempfile.TemporaryDirectory() as temporary, (Path(temporary) / "log").open("wb") as log:
        port = free_port()
        settings = {
            "ATELIER_DATA": str(folder or Path(temporary) / "data"),
            "ATELIER_PORT": str(port),
            **(environment or {}),
        }
        command = [sys.executable, "-m", "atelier.cli", "up"]
        started_at = time.perf_counter()
        process = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=log)
        service = Service(f"http://127.0.0.1:{port}", process, started_at)
        try:
            while not service.is_ready():
                if process.poll() is not None or time.perf_counter() - started_at > START_SECONDS:
                    raise SystemExit(f"The service did not start:\n{Path(log.name).read_text()[-3000:]}")
                time.sleep(0.02)
            yield service
        finally:
            process.terminate()
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def command_line(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")


def memory(process: int, what: str) -> float:
    """In MB, as the kernel counts it: ``VmRSS`` now, ``VmHWM`` its peak since ``forget_peak``."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{what}:"))) / 1024


def forget_peak(process: int) -> None:
    Path(f"/proc/{process}/clear_refs").write_text("5")


def jpeg(width: int, height: int, quality: int = 90) -> bytes:
    """scikit-image's astronaut at this size."""
    picture = Image.fromarray(np.asarray(data.astronaut()))  # type: ignore[no-untyped-call]
    out = io.BytesIO()
    picture.resize((width, height), Image.Resampling.BICUBIC).save(out, "JPEG", quality=quality)
    return out.getvalue()
