"""The budget of decoded pixels."""

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from tests.conftest import until
from worker.memory import PixelBudget

SECONDS = 10


def wanted() -> bool:
    return True


def test_what_fits_goes_together_and_what_does_not_waits() -> None:
    budget = PixelBudget(100)
    inside: list[int] = []
    leave = {size: threading.Event() for size in (60, 40, 30)}

    def work(size: int) -> None:
        with budget.reserved(size, wanted):
            inside.append(size)
            assert leave[size].wait(SECONDS)

    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(work, size) for size in (60, 40)]
        until(lambda: len(inside) == 2, SECONDS, "both that fit")
        futures.append(pool.submit(work, 30))
        leave[40].set()
        until(lambda: 30 in inside, SECONDS, "the third")
        assert not futures[0].done()
        for event in leave.values():
            event.set()
        for future in futures:
            future.result(SECONDS)


def test_one_alone_may_be_larger_than_the_budget() -> None:
    with PixelBudget(10).reserved(1000, wanted):
        pass


def test_small_ones_do_not_overtake_a_large_one_that_waits() -> None:
    budget = PixelBudget(100)
    order: list[int] = []

    def work(size: int) -> None:
        with budget.reserved(size, wanted):
            order.append(size)

    with ThreadPoolExecutor() as pool, budget.reserved(50, wanted):
        large = pool.submit(work, 90)
        until(lambda: len(budget._waiting) == 1, SECONDS, "the large one to wait")
        small = pool.submit(work, 10)
        until(lambda: len(budget._waiting) == 2, SECONDS, "the small one to wait")
        assert order == []
    large.result(SECONDS)
    small.result(SECONDS)
    assert order == [90, 10]


def test_who_is_not_wanted_any_more_stops_waiting_and_makes_way() -> None:
    budget = PixelBudget(100)
    still_wanted = threading.Event()
    still_wanted.set()

    def work(size: int, asked: bool) -> None:
        with budget.reserved(size, still_wanted.is_set if asked else wanted):
            pass

    with ThreadPoolExecutor() as pool, budget.reserved(50, wanted):
        unwanted = pool.submit(work, 90, True)
        until(lambda: len(budget._waiting) == 1, SECONDS, "the large one to wait")
        behind = pool.submit(work, 10, False)
        still_wanted.clear()
        with pytest.raises(CancelledError):
            unwanted.result(SECONDS)
        behind.result(SECONDS)


def test_room_is_given_back_when_the_work_fails() -> None:
    budget = PixelBudget(100)
    with pytest.raises(ValueError, match="broken"), budget.reserved(100, wanted):
        raise ValueError("broken")
    with budget.reserved(100, wanted):
        pass
