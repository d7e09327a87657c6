"""What the service adds to the engine: end-to-end time of one request minus the engine's own time.

    python -m benchmarks.overhead [--url http://127.0.0.1:8000] [--style NAME] [--requests 60]

One client, one request at a time, a 512×512 JPEG in and out, against a running service (``make run``). The engine's
time is what the job document calls ``compute_seconds``; the rest is upload, header check, store, queue, decoding,
encoding, commit and download.
"""

import argparse
import io
import statistics
import time

import httpx
import numpy as np
from PIL import Image
from skimage import data

from benchmarks.machine import describe


def photograph(side: int) -> bytes:
    """A centre crop of scikit-image's astronaut, as JPEG."""
    pixels = np.asarray(data.astronaut())  # type: ignore[no-untyped-call]
    picture = Image.fromarray(pixels).resize((side, side))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=90)
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--style", default="")
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--side", type=int, default=512)
    arguments = parser.parse_args()

    content = photograph(arguments.side)
    with httpx.Client(base_url=arguments.url, timeout=120) as client:
        style = arguments.style or client.get("/styles").json()["styles"][0]["name"]
        stages: dict[str, list[float]] = {}
        for number in range(arguments.requests + 3):
            start = time.perf_counter()
            answer = client.post(
                "/stylize",
                params={"style": style},
                content=content,
                headers={"Content-Type": "image/jpeg", "Cache-Control": "no-store"},
            )
            total = time.perf_counter() - start
            answer.raise_for_status()
            if number < 3:  # the first ones warm caches and connections
                continue
            timings = client.get(f"/jobs/{answer.headers['X-Job-Id']}").json()["timings"]
            stages.setdefault("end to end", []).append(total)
            stages.setdefault("overhead", []).append(total - timings["compute_seconds"])
            for name, seconds in timings.items():
                stages.setdefault(name.removesuffix("_seconds"), []).append(seconds)
    print(describe())
    print(f"{arguments.requests} requests, {arguments.side}×{arguments.side} JPEG, style {style}")
    print(f"{'':12}{'median ms':>12}{'p95 ms':>12}")
    for name, seconds in stages.items():
        p95 = statistics.quantiles(seconds, n=20)[-1]
        print(f"{name:12}{statistics.median(seconds) * 1000:12.1f}{p95 * 1000:12.1f}")


if __name__ == "__main__":
    main()
