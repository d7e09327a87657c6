"""Pictures a second through HTTP, as a part of what the engine alone makes, and how long requests take.

    python -m benchmarks.throughput [--clients 1 4 16 64] [--requests 48] [--mixed]

A service is started; every client sends one 512×512 JPEG after the other and waits for its picture. The bare engine is
run in this process before and after, one picture at a time and with no service there, and the mean of both is what
100 % stands for. ``--mixed`` takes turns with five styles and three sizes (384, 512, 640), 4 % more pixels on average.
``ATELIER_ENGINE`` and ``ATELIER_PRECISION`` count for both.
"""

import argparse
import itertools
import statistics
import tempfile
import threading
import time
from pathlib import Path

import httpx
import torch

from benchmarks.engines import photograph, probe
from benchmarks.machine import describe
from benchmarks.service import ALONE, jpeg, running_service
from generator.pixels import to_pixels, to_tensor
from worker.choice import choose
from worker.settings import WorkerSettings

SIDES = (384, 512, 640)
STYLES = ("starry_night", "great_wave", "udnie", "mondrian", "woodcut")


def bare(runs: int) -> float:
    """Seconds for a picture of 512×512, of the worker's choice of engine, from pixels to pixels."""
    found = probe(32, STYLES[0])
    with tempfile.TemporaryDirectory() as cache:
        settings = WorkerSettings()
        build = choose(torch.device("cpu"), settings.engine, settings.precision, Path(cache), lambda: found)
        network = build(found.generator)
        content = photograph(512, 512, None)
        seconds = []
        for _ in range(runs + 1):
            start = time.perf_counter()
            to_pixels(network.stylize(to_tensor(content)[None], found.style[None])[0])
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def load(url: str, clients: int, requests: int, mixed: bool) -> tuple[float, list[float]]:
    """(pictures a second, seconds of each request)"""
    bodies = {side: jpeg(side, side) for side in SIDES}
    turns = itertools.cycle([(style, side) for side in SIDES for style in STYLES] if mixed else [(STYLES[0], 512)])
    todo, lock, taken = iter(range(requests)), threading.Lock(), list[float]()

    def work() -> None:
        with httpx.Client(base_url=url, timeout=300) as client:
            while True:
                with lock:
                    if next(todo, None) is None:
                        return
                    style, side = next(turns)
                start = time.perf_counter()
                parameters = {"style": style}
                headers = {"Content-Type": "image/jpeg", "Prefer": "wait=60", **ALONE}
                answer = client.post("/stylize", params=parameters, content=bodies[side], headers=headers)
                assert answer.status_code == 200, answer.text
                with lock:
                    taken.append(time.perf_counter() - start)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return requests / (time.perf_counter() - start), taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--mixed", action="store_true")
    arguments = parser.parse_args()
    print(describe())
    before = bare(9)
    with running_service() as service:
        load(service.url, 2, 4, arguments.mixed)
        results = {
            clients: load(service.url, clients, max(arguments.requests, 2 * clients), arguments.mixed)
            for clients in arguments.clients
        }
    alone = statistics.mean([before, bare(9)])
    print(f"the engine alone: {alone * 1000:.0f} ms, {1 / alone:.2f} pictures/s")
    print(f"{'clients':>8}{'pictures/s':>12}{'of engine':>11}{'p50 ms':>9}{'p99 ms':>9}")
    for clients, (rate, seconds) in results.items():
        p99 = sorted(seconds)[min(len(seconds) - 1, round(0.99 * len(seconds)))]
        print(f"{clients:8}{rate:12.2f}{rate * alone:11.0%}{statistics.median(seconds) * 1000:9.0f}{p99 * 1000:9.0f}")


if __name__ == "__main__":
    main()
