"""Processes of the service that a test may hold, stop and kill: the real ones, forked from a server that has imported
them, since a worker that begins with Python takes seconds, and here hundreds of them die."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import wraps
from pathlib import Path
from typing import Any

POISON_SIDE = 66
"""A job whose result is to have this side kills its worker."""
MEMORY_SIDE = 77
"""The end of such a job cannot be written down: a MemoryError, outside of what guards a job's work."""

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["service.app", "worker.app", "tests.chaos.processes"])


def started(module: str, environment: dict[str, str], folder: Path, name: str) -> Any:
    """A running process; its log is in ``folder/name.log``."""
    process = FORKSERVER.Process(target=_run, args=(module, environment, folder, name), daemon=True)
    process.start()
    return process


def begun_afresh(module: str, environment: dict[str, str], folder: Path, name: str) -> "subprocess.Popen[bytes]":
    """The same without gates, by itself."""
    with (folder / f"{name}.log").open("ab") as log:
        command = [sys.executable, "-m", module]
        return subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log)


def _run(module: str, environment: dict[str, str], folder: Path, name: str) -> None:
    log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.environ.update(environment)
    if module == "service.app":
        from service.app import main
    else:
        import torch

        from worker.app import main

        torch.set_num_threads(1)
        _install_gates(folder / f"{name}.gates")
    main()


def _install_gates(gates: Path) -> None:
    """Between the steps of the real code: a worker waits at a gate for as long as the test keeps it closed."""
    from contract.jobbook import JobBook
    from worker.stylizer import Stylizer

    gates.mkdir(exist_ok=True)
    stylize, succeed = Stylizer.stylize, JobBook.succeed

    def pass_through(gate: str) -> None:
        (gates / f"{gate} reached").touch()
        while (gates / f"{gate} closed").exists():
            time.sleep(0.01)

    @wraps(stylize)
    def gated_stylize(self: Stylizer, job: Any, *arguments: Any) -> Any:
        if job.size == POISON_SIDE:
            os.kill(os.getpid(), signal.SIGKILL)
        pass_through("before the work")
        result = stylize(self, job, *arguments)
        pass_through("after the work")
        return result

    @wraps(succeed)
    def gated_succeed(self: JobBook, claim: Any, *arguments: Any) -> bool:
        if claim.record.request.size == MEMORY_SIDE:
            raise MemoryError
        committed = succeed(self, claim, *arguments)
        pass_through("after the commit")
        return committed

    Stylizer.stylize = gated_stylize  # type: ignore[assignment, method-assign]
    JobBook.succeed = gated_succeed  # type: ignore[assignment, method-assign]
