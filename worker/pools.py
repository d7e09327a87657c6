"""Pools of threads that are there before there is work."""

import threading
from concurrent.futures import Executor


def start_threads(executor: Executor, count: int) -> None:
    """All threads of the pool, before there is work.

    To start one while memory is short hangs for ever in CPython, and with it whoever waits for it.
    """
    together = threading.Barrier(count + 1)
    for _ in range(count):
        executor.submit(together.wait)
    together.wait()
