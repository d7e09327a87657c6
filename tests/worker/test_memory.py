"""The room for decoded pictures."""

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from contract.images import PictureSize
from tests.conftest import until
from worker.memory import DecodedPictures, PixelBudget

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


def test_room_that_is_needed_no_more_is_given_back_before_the_end() -> None:
    budget = PixelBudget(100)
    with ThreadPoolExecutor() as pool, budget.reserved(100, wanted) as room:
        other = pool.submit(enter, budget, 60)
        until(lambda: len(budget._waiting) == 1, SECONDS, "the other to wait")
        room.shrink_to(40)
        other.result(SECONDS)
    assert budget._used == 0


def enter(budget: PixelBudget, pixels: int) -> None:
    with budget.reserved(pixels, wanted):
        pass


# --- Small and large pictures ---

SMALL, LARGE = PictureSize(10, 10), PictureSize(60, 60)


def pictures(whole_pixels: int = 20) -> DecodedPictures:
    """Small ones are of up to 20 pixels, from files of up to 25; large ones have 75 together."""
    return DecodedPictures(100, whole_pixels=whole_pixels)


def test_small_ones_pass_large_ones_that_wait_and_those_that_are_worked_on() -> None:
    memory = pictures()
    with ThreadPoolExecutor() as pool, memory.reserved(PictureSize(1000, 1000), wanted):
        large = pool.submit(stay, memory, LARGE)
        until(lambda: len(memory._large._waiting) == 1, SECONDS, "the large one to wait")
        pool.submit(stay, memory, SMALL).result(SECONDS)
        assert not large.done()


def test_a_large_one_waits_for_no_small_one() -> None:
    memory = pictures()
    with ThreadPoolExecutor() as pool, memory.reserved(SMALL, wanted), memory.reserved(SMALL, wanted):
        pool.submit(stay, memory, PictureSize(1000, 1000)).result(SECONDS)


def test_small_ones_together_have_their_part_of_the_room_and_no_more() -> None:
    memory = pictures()
    with ThreadPoolExecutor() as pool, memory.reserved(SMALL, wanted):
        with memory.reserved(SMALL, wanted):
            third = pool.submit(stay, memory, SMALL)
            until(lambda: len(memory._small._waiting) == 1, SECONDS, "the third to wait")
        third.result(SECONDS)


@pytest.mark.parametrize(
    ("size", "small"),
    [
        (PictureSize(20, 20), True),
        (PictureSize(25, 20), True),
        (PictureSize(10, 21), False),
        (PictureSize(26, 5), False),
    ],
)
def test_a_small_one_has_a_small_result_and_a_file_that_fits_into_the_part_of_small_ones(
    size: PictureSize, small: bool
) -> None:
    assert pictures().is_small(size) == small


def test_a_small_one_that_is_enlarged_fits_into_the_part_of_small_ones_too() -> None:
    assert pictures(whole_pixels=1000).largest_small == PictureSize(25, 25)


def stay(memory: DecodedPictures, size: PictureSize) -> None:
    with memory.reserved(size, wanted):
        pass
