"""Isolation: many share, one is alone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import until
from worker.isolation import Isolation


def test_many_share() -> None:
    isolation, together = Isolation(), threading.Barrier(3)

    def share() -> None:
        with isolation.shared():
            together.wait(10)

    with ThreadPoolExecutor(3) as pool:
        for shared in [pool.submit(share) for _ in range(3)]:
            shared.result(10)


def test_whoever_is_alone_waits_for_the_others_and_keeps_later_ones_out() -> None:
    isolation = Isolation()
    order: list[str] = []
    leave = threading.Event()

    def stay() -> None:
        with isolation.shared():
            order.append("first in")
            leave.wait(10)
            order.append("first out")

    def be_alone() -> None:
        with isolation.alone():
            order.append("alone")

    def come_later() -> None:
        with isolation.shared():
            order.append("later")

    with ThreadPoolExecutor(3) as pool:
        staying = pool.submit(stay)
        until(lambda: order == ["first in"])
        lonely = pool.submit(be_alone)
        until(lambda: isolation.waiting_alone == 1)
        later = pool.submit(come_later)
        leave.set()
        for each in (staying, lonely, later):
            each.result(10)
    assert order == ["first in", "first out", "alone", "later"]


def test_a_failure_gives_the_place_back() -> None:
    isolation = Isolation()
    for place in (isolation.shared, isolation.alone):
        with pytest.raises(ValueError, match="inside"), place():
            raise ValueError("failed inside")
    with isolation.alone():
        pass
