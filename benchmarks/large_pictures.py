"""Pictures of any size: seconds for each megapixel and the worker's memory, through the service.

    python -m benchmarks.large_pictures [--megapixels 1 2 4 8 12 25 50 100 200]

A service is started with its limits raised, and one JPEG after the other is sent to it. "tiles" says whether the worker
made tiles (``ATELIER_TILE_ABOVE_MEGAPIXELS``). Memory is the worker's resident set, its peak during the job. "/ whole"
compares seconds for a megapixel with those of the largest picture that was made whole.
"""

import argparse
import math
import time

import httpx

from benchmarks.machine import describe
from benchmarks.service import ALONE, Service, forget_peak, jpeg, memory, running_service
from worker.settings import WorkerSettings

RATIO = 4 / 3
STYLE = "starry_night"


def stylize(service: Service, content: bytes) -> dict[str, float]:
    """The timings of the job."""
    headers = {"Content-Type": "image/jpeg", "Prefer": "respond-async", **ALONE}
    with httpx.Client(base_url=service.url, timeout=120) as client:
        answer = client.post("/stylize", params={"style": STYLE}, content=content, headers=headers)
        answer.raise_for_status()
        while True:
            job = client.get(f"/jobs/{answer.json()['id']}").json()
            if job["state"] not in ("queued", "running"):
                break
            time.sleep(0.2)
    if job["state"] != "succeeded":
        raise SystemExit(f"The job {job['state']}: {job['error']}")
    timings: dict[str, float] = job["timings"]
    return timings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megapixels", nargs="+", type=float, default=[1, 2, 4, 8, 12, 25, 50, 100, 200])
    arguments = parser.parse_args()
    most = str(1.1 * max(arguments.megapixels))
    limits = {
        "ATELIER_MAX_UPLOAD_MEGAPIXELS": most,
        "ATELIER_MAX_MEGAPIXELS": most,
        "ATELIER_MAX_SIDE": "65000",
        "ATELIER_MAX_BODY_MEGABYTES": "500",
    }
    threshold = WorkerSettings().tile_above_megapixels
    with running_service(environment=limits) as service:
        worker = service.worker()
        stylize(service, jpeg(512, 512))
        print(describe())
        print(f"worker at rest: {memory(worker, 'VmRSS'):.0f} MB; tiles above {threshold:g} megapixels")
        print("     MP  tiles  decode s  compute s  encode s    s/MP  / whole  peak MB")
        whole = math.nan
        for megapixels in arguments.megapixels:
            width = 4 * round(math.sqrt(megapixels * 1e6 * RATIO) / 4)
            height = 4 * math.floor(megapixels * 1e6 / width / 4)
            content = jpeg(width, height)
            forget_peak(worker)
            timings = stylize(service, content)
            size = width * height / 1e6
            each = timings["compute_seconds"] / size
            tiles = size > threshold
            whole = whole if tiles else each
            print(
                f"{size:7.1f}{'yes' if tiles else 'no':>7}{timings['decode_seconds']:10.2f}"
                f"{timings['compute_seconds']:11.1f}{timings['encode_seconds']:10.2f}{each:8.2f}{each / whole:9.2f}"
                f"{memory(worker, 'VmHWM'):9.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
