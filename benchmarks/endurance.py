"""The worker's memory over many mixed jobs: does it grow?

    python -m benchmarks.endurance [--jobs 2000] [--clients 8]

Clients send pictures of many sizes, styles, blends and formats, some of which are broken, and cancel some jobs. The
worker's resident set is looked at after every hundredth of the jobs. The slope is that of a line through the second
half of them (least squares).
"""

import argparse
import random
import threading

import httpx
import numpy as np

from benchmarks.machine import describe
from benchmarks.service import ALONE, Service, jpeg, memory, running_service

STYLES = ("starry_night", "great_wave", "udnie", "starry_night:0.5,great_wave:0.5")
FORMATS = ("image/jpeg", "image/png", "image/webp")


def one_job(client: httpx.Client, chance: random.Random) -> int:
    """Sends one job; the status of the answer."""
    width, height = chance.randrange(16, 400), chance.randrange(16, 400)
    content = jpeg(width, height)
    if chance.random() < 0.05:
        content = content[: len(content) // 2]
    parameters: dict[str, str | float] = {"style": chance.choice(STYLES), "strength": chance.choice([1.0, 0.5, 1.2])}
    headers = {"Content-Type": "image/jpeg", "Accept": chance.choice(FORMATS), **ALONE}
    cancels = chance.random() < 0.05
    if cancels:
        headers["Prefer"] = "respond-async"
    answer = client.post("/stylize", params=parameters, content=content, headers=headers)
    if cancels and answer.status_code == 202:
        client.delete(answer.headers["Location"])
    return answer.status_code


def run(service: Service, jobs: int, clients: int) -> tuple[list[float], dict[int, int]]:
    """(the worker's memory in MB at equal distances, how many answers of each status there were)"""
    worker, lock, done = service.worker(), threading.Lock(), 0
    looks, statuses = list[float](), dict[int, int]()

    def work(seed: int) -> None:
        nonlocal done
        chance = random.Random(seed)
        with httpx.Client(base_url=service.url, timeout=300) as client:
            while done < jobs:
                status = one_job(client, chance)
                with lock:
                    done += 1
                    statuses[status] = statuses.get(status, 0) + 1
                    if done % (jobs // 100) == 0:
                        looks.append(memory(worker, "VmRSS"))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return looks, statuses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=8)
    arguments = parser.parse_args()
    with running_service() as service:
        looks, statuses = run(service, arguments.jobs, arguments.clients)
    later = looks[len(looks) // 2 :]
    slope = np.polyfit(np.arange(len(later)), later, 1)[0] * 100 / arguments.jobs
    print(describe())
    print(f"answers: {dict(sorted(statuses.items()))}")
    print(f"worker after 1 %, 10 %, 50 %, 100 % of {arguments.jobs} jobs, in MB: ", end="")
    print(", ".join(f"{looks[round(part * (len(looks) - 1))]:.0f}" for part in (0, 0.1, 0.5, 1)))
    print(f"slope over the second half: {slope * 1000:.1f} MB for 1,000 jobs")


if __name__ == "__main__":
    main()
