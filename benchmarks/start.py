"""From nothing to the first picture, and what one more style costs in memory.

    python -m benchmarks.start [--rounds 3] [--styles 200]

"cold" is the first start on a machine (engines are measured, networks are compiled), "warm" every later one on the same
data folder. Both are the whole of ``atelier up``: Redis, gateway, worker. Memory for a style is the growth of the
worker's resident set while as many styles of one network are used for the first time.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import httpx
import torch

from benchmarks.machine import describe
from benchmarks.service import ALONE, jpeg, memory, running_service
from contract.storage import open_storage
from contract.styles import StyleDescription, StyleSource, StyleStore
from generator.checkpoint import style_vector, vector_file

STYLE = "starry_night"


def post(url: str, style: str, content: bytes) -> None:
    httpx.post(
        f"{url}/stylize",
        params={"style": style},
        content=content,
        headers={"Content-Type": "image/jpeg", **ALONE},
        timeout=120,
    ).raise_for_status()


def first_picture(folder: Path) -> tuple[float, float]:
    """Seconds until the service is ready, and until it has answered with a picture."""
    content = jpeg(512, 512)
    with running_service(folder) as service:
        ready = time.perf_counter() - service.started_at
        post(service.url, STYLE, content)
        return ready, time.perf_counter() - service.started_at


def bytes_per_style(folder: Path, count: int) -> float:
    content = jpeg(64, 64)
    with running_service(folder) as service:
        store = StyleStore(open_storage(str(folder / "store")))
        card = store.get(STYLE)
        vector = style_vector(store.vector(card))
        trunk = store.read_trunk(card.trunk)
        for number in range(count):
            description = StyleDescription(
                name=f"style-{number}", source=StyleSource.IMPORTED, architecture="residual", norm="instance", width=32
            )
            store.publish(description, trunk, vector_file(vector + 0.01 * torch.randn_like(vector)))
        for number in range(count // 2):  # whatever grows with requests and not with styles has grown by then
            post(service.url, f"style-{number % 10}", content)
        worker = service.worker()
        before = memory(worker, "VmRSS")
        for number in range(10, count):
            post(service.url, f"style-{number}", content)
        return (memory(worker, "VmRSS") - before) * 2**20 / (count - 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--styles", type=int, default=200)
    arguments = parser.parse_args()
    times: dict[str, list[tuple[float, float]]] = {"cold": [], "warm": []}
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for name in times:
                times[name].append(first_picture(Path(folder)))
    print(describe())
    for name, found in times.items():
        ready, picture = (statistics.median(values) for values in zip(*found, strict=True))
        print(f"{name}: ready after {ready:.1f} s, first picture after {picture:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        print(f"one more style: {bytes_per_style(Path(folder), arguments.styles) / 1024:.0f} kB")


if __name__ == "__main__":
    main()
