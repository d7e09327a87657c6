"""``atelier up``: one command that starts everything, and leaves nothing behind."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from atelier.up import url_to_try, what_is_missing
from contract.storage import open_storage
from contract.styles import StyleStore
from tests.conftest import free_port, publish_tiny, until
from tests.pictures import decoded, encoded, photograph

PARTS = {"redis-server", "worker.app", "trainer.app", "service.app"}


def command(folder: Path, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "atelier.cli", "up"],
        env={
            **os.environ,
            "ATELIER_DATA": str(folder),
            "ATELIER_PORT": "0",
            "ATELIER_BUILTIN_STYLES": str(folder / "no-builtin-styles"),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def refusal(folder: Path, **environment: str) -> str:
    """What it says when it cannot start, in one line."""
    process = command(folder, **environment)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert "Traceback" not in output
    return " ".join(output.split())


@contextmanager
def running(folder: Path, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """A service that is ready."""
    publish_tiny(StyleStore(open_storage(str(folder / "store"))), "tiny")
    process = command(folder, **environment)
    try:
        until(lambda: process.poll() is not None or (folder / "service.json").exists(), 90, "the service")
        assert process.poll() is None, process.communicate()[0]
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def url(folder: Path) -> str:
    found = re.search(r'"url": "(.*)"', (folder / "service.json").read_text())
    assert found is not None
    return found[1]


def post(folder: Path, **headers: str) -> httpx.Response:
    picture = encoded(photograph(90, 50))
    return httpx.post(
        f"{url(folder)}/stylize", files={"image": picture}, data={"style": "tiny"}, headers=headers, timeout=60
    )


def children(pid: int) -> dict[str, int]:
    """The child processes by a word of their command line."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(OSError):  # it has ended meanwhile
            line = Path(f"/proc/{child}/cmdline").read_text()
            found.update({name: int(child) for name in PARTS if name in line})
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


def test_it_serves_from_a_strange_folder_on_all_addresses_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s my "data" [bold] é'
    with running(folder, ATELIER_HOST="0.0.0.0", ATELIER_ALLOW_ANONYMOUS="true") as process:
        family = children(process.pid)
        assert set(family) == PARTS
        address = url(folder)
        assert address.startswith("http://127.0.0.1:")
        assert decoded(post(folder).content).size == (90, 50)
        assert f"runs on the data folder {folder} already, as process {process.pid}:" in refusal(folder)

        cli = subprocess.run(
            [sys.executable, "-m", "atelier.cli", "stylize", "photo.jpg", "--style", "tiny", "-o", "[b]out.webp"],
            cwd=_with_photograph(tmp_path),
            env={**os.environ, "ATELIER_DATA": str(folder)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert cli.stdout.startswith("[b]out.webp: ")
        assert decoded((tmp_path / "pictures" / "[b]out.webp").read_bytes()).format == "WEBP"

        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
        assert f"Atelier is ready at {address} " in output
        assert f"curl -F image=@photo.jpg -F style=tiny {address}/stylize -o out.jpg" in output
    assert not any(map(is_alive, family.values()))
    assert not (folder / "service.json").exists()


def _with_photograph(folder: Path) -> Path:
    pictures = folder / "pictures"
    pictures.mkdir()
    (pictures / "photo.jpg").write_bytes(encoded(photograph()))
    return pictures


def test_a_second_signal_ends_patience_and_what_waits_is_done_after_the_next_start(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        family = children(process.pid)
        os.kill(family["worker.app"], signal.SIGSTOP)  # it cannot finish
        ids = [post(tmp_path, Prefer="respond-async").json()["id"] for _ in range(5)]
        process.send_signal(signal.SIGINT)
        until(lambda: not is_alive(family["trainer.app"]), what="the gateway and the trainer to stop")
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
        assert process.returncode == 0, output
    assert not any(map(is_alive, family.values()))
    with running(tmp_path) as process:
        for job_id in ids:
            job = httpx.get(f"{url(tmp_path)}/jobs/{job_id}", params={"wait": 45}, timeout=60)
            assert job.json()["state"] == "succeeded"
        family = children(process.pid)
        process.kill()
        until(lambda: not any(map(is_alive, family.values())), 60, "the children of a killed launcher to end")


def test_a_worker_that_dies_is_replaced_unless_it_does_so_again_and_again(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        worker = children(process.pid)["worker.app"]
        os.kill(worker, signal.SIGKILL)
        worker = _next_worker(process.pid, worker)
        assert post(tmp_path).is_success
        for _ in range(3):
            os.kill(worker, signal.SIGKILL)
            worker = _next_worker(process.pid, worker)
        os.kill(worker, signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "this was the 5th time within a minute" in " ".join(output.split())


def _next_worker(launcher: int, last: int) -> int:
    until(lambda: children(launcher).get("worker.app", last) != last, what="a new worker")
    return children(launcher)["worker.app"]


def test_a_gateway_that_dies_ends_everything_and_the_first_signal_ends_patience(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        family = children(process.pid)
        os.kill(family["worker.app"], signal.SIGSTOP)
        os.kill(family["service.app"], signal.SIGKILL)
        until(lambda: not is_alive(family["trainer.app"]), what="the trainer to stop")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "The gateway was killed by SIGKILL: everything else is stopped, too." in " ".join(output.split())
    assert not any(map(is_alive, family.values()))


def test_a_redis_that_dies_ends_everything_at_once(tmp_path: Path) -> None:
    process = command(tmp_path)
    until(lambda: "service.app" in children(process.pid), what="the gateway")
    family = children(process.pid)
    os.kill(family["redis-server"], signal.SIGKILL)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 1, output
    assert "The redis was killed by SIGKILL" in " ".join(output.split())
    assert not any(map(is_alive, family.values()))


def test_a_signal_during_the_start_ends_it_without_an_announcement(tmp_path: Path) -> None:
    process = command(tmp_path)
    until(lambda: "worker.app" in children(process.pid), what="the worker")
    family = children(process.pid)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "Atelier is ready" not in output
    assert not any(map(is_alive, family.values()))


def test_a_signal_while_redis_starts_starts_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    silent = tmp_path / "bin" / "redis-server"
    silent.write_text(f"#!/bin/sh\necho started > {tmp_path}/started\nexec sleep 60\n")
    silent.chmod(0o755)
    process = command(tmp_path / "data", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    until((tmp_path / "started").exists)
    process.terminate()
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0, output
    assert output == ""


def test_a_redis_that_ends_at_once_is_said_with_the_place_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    broken = tmp_path / "bin" / "redis-server"
    broken.write_text("#!/bin/sh\nexec <&-\nexit 3\n")
    broken.chmod(0o755)
    said = refusal(tmp_path / "data", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert "The redis ended with exit code 3 while starting" in said
    assert f"{tmp_path / 'data' / 'redis' / 'redis.log'}" in said


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal(tmp_path, ATELIER_PORT=str(port))
    assert f"Port {port}" in said
    assert "ATELIER_PORT" in said


def test_a_port_out_of_range_is_named(tmp_path: Path) -> None:
    assert "ATELIER_PORT: " in refusal(tmp_path, ATELIER_PORT="70000")


@pytest.mark.parametrize("name", ["atelier.lock/", "redis", "service.json/"])
def test_a_data_folder_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    """Permissions do not stop root, but a folder in the place of a file does, and a file in that of a folder."""
    if name.endswith("/"):
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text("not a folder")
    said = refusal(tmp_path)
    assert f"The data folder {tmp_path} cannot be written to" in said
    assert "ATELIER_DATA" in said


def test_a_redis_that_is_not_there_is_said(tmp_path: Path) -> None:
    assert "ATELIER_REDIS_URL" in refusal(tmp_path, ATELIER_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("192.168.0.7", "http://192.168.0.7:8000"),
        ("localhost", "http://localhost:8000"),
    ],
)
def test_the_address_to_try_is_one_that_can_be_asked(host: str, address: str) -> None:
    assert url_to_try(host, 8000) == address


def test_what_is_missing_is_said_in_words() -> None:
    checks = {"workers": "no worker is ready", "styles": "ok", "redis": "it does not answer"}
    answer = httpx.Response(503, json={"ready": False, "checks": checks})
    assert what_is_missing(answer) == "no worker is ready (workers), it does not answer (redis)"
    assert what_is_missing(httpx.Response(502, text="Bad Gateway")) == "it answers 502"
