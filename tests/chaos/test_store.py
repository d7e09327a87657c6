"""The store is full, or the clock is wrong."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.chaos.conftest import PATIENCE_SECONDS, Houses
from tests.conftest import until

pytestmark = pytest.mark.timeout(400)

DISK_MEGABYTES = 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of some megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "tmpfs", str(folder)]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leaves no room."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for block in (2**16, 2**12):
            try:
                while True:
                    file.write(bytes(block))
            except OSError:
                pass
    return ballast


def is_told_that_the_store_is_full(answer: httpx.Response) -> bool:
    return (
        answer.status_code == 503
        and int(answer.headers["Retry-After"]) > 0
        and answer.json()["code"] == "store-unavailable"
    )


def test_a_full_disk_takes_no_upload_and_leaves_nothing_half_written(houses: Houses, small_disk: Path) -> None:
    house = houses(ATELIER_STORE=str(small_disk))
    house.start("worker")
    done = house.accepted()
    house.all_succeed([done])
    ballast = fill(small_disk)
    before = pictures(small_disk)
    for seed in range(1, 4):
        assert is_told_that_the_store_is_full(house.post(seed, side=100))
    assert pictures(small_disk) == before
    assert house.client.get(f"/jobs/{done}/result").status_code == 200
    ballast.unlink()
    house.all_succeed([house.accepted(seed=9)])


def test_a_disk_that_fills_up_during_the_work_is_waited_for(houses: Houses, small_disk: Path) -> None:
    """The result cannot be kept; when there is room again, another attempt keeps it."""
    house = houses(ATELIER_STORE=str(small_disk), ATELIER_ATTEMPTS="20")
    house.start("worker")
    house.ready()
    with house.closed("worker", "before the work"):
        job = house.accepted(seed=5, side=300)
        house.reached("worker", "before the work")
        ballast = fill(small_disk)
    until(lambda: "job put back" in house.log("worker"), PATIENCE_SECONDS, "an attempt in vain")
    ballast.unlink()
    house.all_succeed([job])
    assert house.job(job)["attempt"] > 1
    assert house.ended() == 1


def pictures(store: Path) -> set[tuple[str, int]]:
    """What is in the store, half-written or whole, and how large it is."""
    return {(path.name, path.stat().st_size) for path in store.rglob("*") if path.is_file()}


CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

/* The wall clock, as many seconds off as the file says that CLOCK_FILE names; the others are left alone. */
static long off(void) {
    long seconds = 0;
    FILE *file = fopen(getenv("CLOCK_FILE"), "r");
    if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
    return seconds;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += off();
    return failed;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    (void) zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *at) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (at) *at = exact.tv_sec;
    return exact.tv_sec;
}
"""


@pytest.fixture
def clock(tmp_path: Path) -> dict[str, str]:
    """What makes the wall clock of a program that is started with it as wrong as ``clock`` in its folder says."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    (tmp_path / "clock.c").write_text(CLOCK)
    (tmp_path / "clock").write_text("0")
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", "clock.so", "clock.c", "-ldl"]
    subprocess.run(command, cwd=tmp_path, check=True)
    return {"LD_PRELOAD": str(tmp_path / "clock.so"), "CLOCK_FILE": str(tmp_path / "clock")}


@pytest.mark.chaos
@pytest.mark.parametrize("jump_seconds", [-86_400, 86_400])
def test_clocks_that_jump_by_a_day_lose_no_job(houses: Houses, clock: dict[str, str], jump_seconds: int) -> None:
    """Those of gateway and worker; Redis's is the one that counts, and the store's for the age of pictures."""
    house = houses(afresh=True, **clock)
    house.start("worker")
    house.ready()
    jobs = house.accepted_many(2)
    house.all_succeed(jobs)
    Path(clock["CLOCK_FILE"]).write_text(str(jump_seconds))
    jobs += [house.accepted(seed=9), *house.accepted_many(3)]
    house.all_succeed(jobs)
    old = house.folder / "store/images/00" / ("0" * 64)
    old.parent.mkdir(exist_ok=True)
    old.touch()
    os.utime(old, (0, 0))
    house.kill("gateway")
    house.start("gateway", "service.app")  # and begins with a sweep
    until(lambda: not old.exists(), PATIENCE_SECONDS, "the sweep of the store")
    assert {house.get(f"/jobs/{job}/result") for job in jobs} == {200}
    assert house.ended() == 6
    house.all_succeed([house.accepted()])
