"""Mixed load for a long time, while a worker is killed every minute: is anything lost, done twice, or growing?

    python -m benchmarks.soak [--minutes 30] [--kill-every 60] [--clients 6]

Clients send pictures of several sizes, styles and formats, some broken, some sent twice under one idempotency key, some
canceled, and wait for each before they send the next: as many of them as keep the worker busy, and the queue short. A
further one asks cheap things all the time. The worker is killed with SIGKILL; the launcher starts another one. In the
end every job that was accepted is asked for, and what is counted is held against what the service has counted.
"""

import argparse
import json
import random
import re
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from os import kill
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.machine import describe
from benchmarks.service import ALONE, Service, children, command_line, jpeg, memory, running_service

RESULTS = Path(__file__).parent / "results" / "soak.json"
STYLES = ("starry_night", "great_wave", "udnie", "starry_night:0.5,great_wave:0.5")
FORMATS = ("image/jpeg", "image/png", "image/webp")
SIDES = (128, 256, 256, 384, 512)
TERMINAL = ("succeeded", "failed", "canceled")
LOOK_SECONDS = 5
ASK_SECONDS = 0.1
END_SECONDS = 300
"""How long the last jobs may take to end."""
Summary = dict[str, Any]


@dataclass
class Seen:
    """What all clients have seen together."""

    accepted: set[str] = field(default_factory=set)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    admission_seconds: list[float] = field(default_factory=list)
    cheap_seconds: list[float] = field(default_factory=list)
    kills: int = 0
    gateway_megabytes: list[float] = field(default_factory=list)
    worker_megabytes: list[list[float]] = field(default_factory=list)
    """Of each worker that lived."""

    def note(self, answer: httpx.Response, *expected: int) -> None:
        told_to_come_back = answer.status_code == 503 and "Retry-After" in answer.headers
        self.statuses[f"{answer.request.method} {answer.status_code}"] += 1
        if answer.status_code not in expected and not told_to_come_back:
            self.wrong.append(f"{answer.request.method} {answer.url.path}: {answer.status_code} {answer.text[:200]}")


class Client:
    """One that sends a job, waits for its end, and sends the next."""

    def __init__(self, url: str, seen: Seen, seed: int) -> None:
        self._http = httpx.Client(base_url=url, timeout=300)
        self._seen = seen
        self._chance = random.Random(seed)

    def run(self, is_over: threading.Event) -> None:
        while not is_over.is_set():
            if job := self._one_job():
                self._wait_for_end(job, is_over)

    def _one_job(self) -> str | None:
        chance = self._chance
        kind = chance.choices(("plain", "broken", "canceled", "twice", "waited for"), (75, 5, 5, 10, 5))[0]
        content = jpeg(chance.choice(SIDES), chance.choice(SIDES))
        style, media_type, key = chance.choice(STYLES), chance.choice(FORMATS), str(uuid.uuid4())
        if kind == "broken":
            return self._post(content[: len(content) // chance.choice((2, 100))], style, media_type, key, 202, 415, 422)
        if kind == "waited for":
            return self._post(content, style, media_type, key, 200, 202, wait="wait=60")
        job = self._post(content, style, media_type, key, 202)
        if job and kind == "canceled":
            self._seen.note(self._http.delete(f"/jobs/{job}"), 200, 409)
        if job and kind == "twice" and self._post(content, style, media_type, key, 200, 202) not in (job, None):
            self._seen.wrong.append("a request that was sent again became another job")
        return job

    def _post(
        self, content: bytes, style: str, media_type: str, key: str, *expected: int, wait: str = "respond-async"
    ) -> str | None:
        """The job that it became."""
        headers = {**ALONE, "Content-Type": "image/jpeg", "Accept": media_type, "Idempotency-Key": key, "Prefer": wait}
        begun = time.perf_counter()
        answer = self._http.post("/stylize", params={"style": style}, content=content, headers=headers)
        if wait == "respond-async":
            self._seen.admission_seconds.append(time.perf_counter() - begun)
        self._seen.note(answer, *expected)
        job: str | None = answer.headers.get("X-Job-Id")
        if job:
            self._seen.accepted.add(job)
        return job

    def _wait_for_end(self, job: str, is_over: threading.Event) -> None:
        while not is_over.is_set():
            answer = self._http.get(f"/jobs/{job}", params={"wait": 30})
            self._seen.note(answer, 200)
            if answer.status_code == 200 and answer.json()["state"] in TERMINAL:
                return


def ask_cheap_things(service: Service, seen: Seen, is_over: threading.Event) -> None:
    """What the gateway answers by itself or with one question to Redis."""
    with httpx.Client(base_url=service.url, timeout=60) as client:
        while not is_over.wait(ASK_SECONDS):
            for path in ("/livez", "/styles", "/capacity"):
                begun = time.perf_counter()
                seen.note(client.get(path), 200)
                seen.cheap_seconds.append(time.perf_counter() - begun)


def kill_workers(service: Service, seen: Seen, every_seconds: float, is_over: threading.Event) -> None:
    while not is_over.wait(every_seconds):
        with suppress(StopIteration, ProcessLookupError, FileNotFoundError):
            kill(service.worker(), signal.SIGKILL)
            seen.kills += 1


def look_at_memory(service: Service, seen: Seen, is_over: threading.Event) -> None:
    gateway = next(child for child in children(service.process.pid) if "service.app" in command_line(child))
    last = 0
    while not is_over.wait(LOOK_SECONDS):
        seen.gateway_megabytes.append(memory(gateway, "VmRSS"))
        with suppress(StopIteration, ProcessLookupError, FileNotFoundError):  # it is being replaced
            worker = service.worker()
            if worker != last:
                seen.worker_megabytes.append([])
            last = worker
            seen.worker_megabytes[-1].append(memory(worker, "VmRSS"))


def load(service: Service, minutes: float, kill_seconds: float, clients: int) -> Seen:
    """Has all of them at it for so long."""
    seen, is_over = Seen(), threading.Event()
    works: list[Callable[[], None]] = [
        partial(ask_cheap_things, service, seen, is_over),
        partial(kill_workers, service, seen, kill_seconds, is_over),
        partial(look_at_memory, service, seen, is_over),
        *(partial(Client(service.url, seen, seed).run, is_over) for seed in range(clients)),
    ]
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    time.sleep(60 * minutes)
    is_over.set()
    for thread in threads:
        thread.join()
    return seen


def ends(service: Service, seen: Seen) -> dict[str, dict[str, Any]]:
    """The document of each accepted job, once none goes on, or after END_SECONDS."""
    deadline, documents = time.monotonic() + END_SECONDS, dict[str, dict[str, Any]]()
    with httpx.Client(base_url=service.url, timeout=60) as client:
        for job in sorted(seen.accepted):
            while True:
                answer = client.get(f"/jobs/{job}", params={"wait": 30})
                documents[job] = answer.json()
                if documents[job].get("state") in TERMINAL or time.monotonic() > deadline:
                    break
    return documents


def counted(service: Service) -> dict[str, int]:
    """How many jobs have ended how, as the script has counted that ends them."""
    metrics = httpx.get(f"{service.url}/metrics", timeout=60).text
    found = re.findall(r'^atelier_jobs_finished_total\{kind="stylize",state="(\w+)"\} (\S+)$', metrics, re.M)
    return {state: round(float(count)) for state, count in found}


def slope(looks: list[float]) -> float:
    """Of the second half, in MB an hour (least squares); 0 for too few looks."""
    later = looks[len(looks) // 2 :]
    return float(np.polyfit(np.arange(len(later)), later, 1)[0] * 3600 / LOOK_SECONDS) if len(later) > 2 else 0.0


def summary(seen: Seen, documents: dict[str, dict[str, Any]], finished: dict[str, int], minutes: float) -> Summary:
    states = Counter(str(document.get("state")) for document in documents.values())
    admission, cheap = (np.array(each) * 1000 for each in (seen.admission_seconds, seen.cheap_seconds))
    peaks = [max(looks) for looks in seen.worker_megabytes if looks]
    return {
        "minutes": minutes,
        "worker kills": seen.kills,
        "jobs accepted": len(seen.accepted),
        "jobs that ended": sum(states[state] for state in TERMINAL),
        "jobs lost": len(seen.accepted) - sum(states[state] for state in TERMINAL),
        "ends by state": dict(states),
        "ends counted by the service": finished,
        "ends more than once": sum(finished.get(state, 0) for state in TERMINAL) - sum(states[s] for s in TERMINAL),
        "jobs tried more than once": sum(document.get("attempt", 0) > 1 for document in documents.values()),
        "most attempts at one job": max((document.get("attempt", 0) for document in documents.values()), default=0),
        "reasons of failure": dict(
            Counter(document["error"]["code"] for document in documents.values() if document.get("error"))
        ),
        "answers": dict(sorted(seen.statuses.items())),
        "answers that were wrong": len(seen.wrong),
        "5xx but for 503 with Retry-After": sum(": 5" in line for line in seen.wrong),
        "cheap answers p50, p99 in ms": [round(float(np.percentile(cheap, part)), 1) for part in (50, 99)],
        "admission p50, p99 in ms": [round(float(np.percentile(admission, part)), 1) for part in (50, 99)],
        "gateway MB first, last, slope an hour": [
            round(each, 1)
            for each in (seen.gateway_megabytes[0], seen.gateway_megabytes[-1], slope(seen.gateway_megabytes))
        ],
        "worker MB, highest of its first and of its last life": [round(each) for each in (peaks[0], peaks[-1])],
        "measured on": describe(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--kill-every", type=float, default=60, metavar="SECONDS")
    parser.add_argument("--clients", type=int, default=6)
    arguments = parser.parse_args()
    with running_service() as service:
        seen = load(service, arguments.minutes, arguments.kill_every, arguments.clients)
        result = summary(seen, ends(service, seen), counted(service), arguments.minutes)
    for name, value in result.items():
        print(f"| {name} | {value} |")
    for line in seen.wrong[:20]:
        print(f"wrong: {line}")
    RESULTS.write_text(json.dumps({"clients": arguments.clients, **result}, indent=2, ensure_ascii=False) + "\n")
    raise SystemExit(1 if seen.wrong or result["jobs lost"] or result["ends more than once"] else 0)


if __name__ == "__main__":
    main()
