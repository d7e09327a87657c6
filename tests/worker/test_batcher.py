"""The batcher, with an engine that does as the test says."""

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Generator as Steps
from concurrent.futures import CancelledError, Future

import numpy as np
import pytest
import torch
from torch import Tensor

from contract.errors import CheckpointError, OutOfMemoryError
from generator.pixels import Pixels
from tests.conftest import until
from worker.batcher import Batcher, Stylized

SECONDS = 10
STYLE = torch.zeros(1)
LARGE = 100
TILES = 5


class Fake:
    """Adds the style to the content. Notes its passes; while ``gate`` is closed, a pass does not come to its end."""

    def __init__(self) -> None:
        self.passes: list[tuple[str, int]] = []
        self.closed: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.fail: Callable[[int], None] = lambda _: None
        self.fail_tile: Callable[[int], None] = lambda _: None

    def stylize(self, trunk: str, contents: Sequence[Pixels], styles: Sequence[Tensor]) -> list[Pixels]:
        self.passes.append((trunk, len(contents)))
        assert self.gate.wait(SECONDS)
        self.fail(len(contents))
        return [content + np.uint8(style.item()) for content, style in zip(contents, styles, strict=True)]

    def is_large(self, content: Pixels) -> bool:
        return len(content) >= LARGE

    def stylize_in_tiles(self, trunk: str, content: Pixels, style: Tensor) -> Steps[float, None, Pixels]:
        """As ``stylize``; every tile is noted as a pass over no picture."""
        try:
            for tile in range(1, TILES + 1):
                self.passes.append((trunk, 0))
                assert self.gate.wait(SECONDS)
                self.fail_tile(tile)
                yield tile / TILES
            return content + np.uint8(style.item())
        finally:
            self.closed.append(trunk)


@pytest.fixture
def engine() -> Fake:
    return Fake()


@pytest.fixture
def batcher(engine: Fake) -> Iterator[Batcher]:
    batcher = Batcher(engine, batch_pixels=4 * 16 * 16)
    yield batcher
    engine.gate.set()
    batcher.close()


def picture(level: int = 0, height: int = 16, width: int = 16) -> Pixels:
    return np.full((height, width, 3), level, np.uint8)


def held(batcher: Batcher, engine: Fake, count: int) -> "list[Future[Stylized]]":
    """Requests that wait together, behind one of another trunk at which the engine is held."""
    engine.gate.clear()
    first = batcher.submit("the one before", picture(), STYLE)
    until(lambda: len(engine.passes) == 1, SECONDS, "the first pass")
    return [first, *(batcher.submit("trunk", picture(level), STYLE) for level in range(count))]


def released(engine: Fake, answers: "list[Future[Stylized]]") -> list[Stylized]:
    engine.gate.set()
    return [answer.result(SECONDS) for answer in answers]


def test_a_lone_request_is_run_at_once(batcher: Batcher, engine: Fake) -> None:
    answer = batcher.submit("trunk", picture(7), STYLE).result(SECONDS)
    assert (answer.pixels == 7).all()
    assert answer.compute_seconds >= 0
    assert engine.passes == [("trunk", 1)]


def test_what_waits_with_the_same_trunk_and_size_goes_together(batcher: Batcher, engine: Fake) -> None:
    answers = released(engine, held(batcher, engine, 3))
    assert engine.passes[1:] == [("trunk", 3)]
    assert [int(answer.pixels[0, 0, 0]) for answer in answers[1:]] == [0, 1, 2]
    assert len({answer.compute_seconds for answer in answers[1:]}) == 1


def test_one_pass_mixes_styles_and_each_picture_gets_its_own(batcher: Batcher, engine: Fake) -> None:
    answers = held(batcher, engine, 0)
    answers += [batcher.submit("trunk", picture(100), torch.tensor([float(style)])) for style in (1, 2, 3)]
    levels = [int(answer.pixels[0, 0, 0]) for answer in released(engine, answers)[1:]]
    assert levels == [101, 102, 103]
    assert engine.passes[1:] == [("trunk", 3)]


def test_different_sizes_are_not_mixed(batcher: Batcher, engine: Fake) -> None:
    answers = held(batcher, engine, 0)
    sizes = [(16, 16), (8, 32), (32, 8), (16, 16)]
    answers += [batcher.submit("trunk", picture(0, *size), STYLE) for size in sizes]
    shapes = [answer.pixels.shape[:2] for answer in released(engine, answers)[1:]]
    assert shapes == sizes
    assert sorted(count for _, count in engine.passes[1:]) == [1, 1, 2]


def test_different_trunks_are_not_mixed(batcher: Batcher, engine: Fake) -> None:
    answers = held(batcher, engine, 0)
    answers += [batcher.submit(trunk, picture(), STYLE) for trunk in ("a", "b", "a")]
    released(engine, answers)
    assert engine.passes[1:] == [("a", 2), ("b", 1)]


def test_a_pass_has_no_more_pixels_than_the_cap(batcher: Batcher, engine: Fake) -> None:
    released(engine, held(batcher, engine, 10))
    assert [count for _, count in engine.passes[1:]] == [4, 4, 2]


def test_a_picture_above_the_cap_goes_alone(batcher: Batcher, engine: Fake) -> None:
    answers = held(batcher, engine, 0)
    answers += [batcher.submit("trunk", picture(0, 64, 64), STYLE) for _ in range(2)]
    released(engine, answers)
    assert [count for _, count in engine.passes[1:]] == [1, 1]


def test_the_oldest_request_goes_first(batcher: Batcher, engine: Fake) -> None:
    answers = held(batcher, engine, 0)
    answers += [batcher.submit(trunk, picture(), STYLE) for trunk in ("old", "new", "new", "new")]
    released(engine, answers)
    assert engine.passes[1:] == [("old", 1), ("new", 3)]


def test_out_of_memory_halves_the_batch_until_it_fits(batcher: Batcher, engine: Fake) -> None:
    def at_most_one(count: int) -> None:
        if count > 1:
            raise OutOfMemoryError("too many")

    engine.fail = at_most_one
    answers = released(engine, held(batcher, engine, 4))
    assert [int(answer.pixels[0, 0, 0]) for answer in answers[1:]] == [0, 1, 2, 3]
    assert [count for _, count in engine.passes[1:]] == [4, 2, 1, 1, 2, 1, 1]


def test_a_picture_that_does_not_fit_alone_is_made_in_tiles(batcher: Batcher, engine: Fake) -> None:
    def never(count: int) -> None:
        raise OutOfMemoryError("too large")

    answers = held(batcher, engine, 2)
    engine.fail = never
    levels = [int(answer.pixels[0, 0, 0]) for answer in released(engine, answers)[1:]]
    assert levels == [0, 1]
    assert engine.passes.count(("trunk", 0)) == 2 * TILES


def test_a_picture_that_does_not_fit_in_tiles_fails_alone(batcher: Batcher, engine: Fake) -> None:
    def never(count: int) -> None:
        raise OutOfMemoryError("too large")

    answers = held(batcher, engine, 2)
    engine.fail = engine.fail_tile = never
    engine.gate.set()
    for answer in answers:
        with pytest.raises(OutOfMemoryError):
            answer.result(SECONDS)


def test_the_halves_run_when_the_memory_of_the_whole_is_free_again(batcher: Batcher, engine: Fake) -> None:
    class Activations:
        """What a pass keeps in its local variables, which the traceback of its failure holds."""

    kept: list[weakref.ref[Activations]] = []
    alive: list[bool] = []

    def fail(count: int) -> None:
        if count > 1:
            activations = Activations()
            kept.append(weakref.ref(activations))
            raise OutOfMemoryError("too many")
        alive.extend(reference() is not None for reference in kept)

    engine.fail = fail
    released(engine, held(batcher, engine, 2))
    assert alive == [False, False]


def test_a_failing_engine_answers_all_its_requests_and_the_thread_goes_on(batcher: Batcher, engine: Fake) -> None:
    answers = held(batcher, engine, 3)

    def fail(_: int) -> None:
        raise CheckpointError("damaged")

    engine.fail = fail
    engine.gate.set()
    for answer in answers[1:]:
        with pytest.raises(CheckpointError, match="damaged"):
            answer.result(SECONDS)
    engine.fail = lambda _: None
    assert (batcher.submit("trunk", picture(9), STYLE).result(SECONDS).pixels == 9).all()


def test_what_fails_together_is_tried_apart(batcher: Batcher, engine: Fake) -> None:
    """One style vector of the wrong length must not cost its neighbours their pictures."""
    answers = held(batcher, engine, 4)

    def fail(count: int) -> None:
        if count > 1:
            raise RuntimeError("shapes differ")

    engine.fail = fail
    engine.gate.set()
    for level, answer in enumerate(answers[1:]):
        assert (answer.result(SECONDS).pixels == level).all()


def test_a_request_that_nobody_wants_any_more_is_cancelled(batcher: Batcher, engine: Fake) -> None:
    answers = held(batcher, engine, 0)
    unwanted = batcher.submit("trunk", picture(), STYLE, wanted=lambda: False)
    wanted = batcher.submit("trunk", picture(), STYLE)
    released(engine, [*answers, wanted])
    with pytest.raises(CancelledError):
        unwanted.result(SECONDS)
    assert engine.passes[1:] == [("trunk", 1)]


def test_closing_finishes_the_pass_that_runs_and_cancels_what_waits(batcher: Batcher, engine: Fake) -> None:
    running, *waiting = held(batcher, engine, 2)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    # Refused from the moment on at which it closes.
    until(lambda: batcher.submit("late", picture(), STYLE).cancelled(), SECONDS, "the batcher to close")
    engine.gate.set()
    closing.join(SECONDS)
    assert running.result(SECONDS).pixels.shape == (16, 16, 3)
    assert all(answer.cancelled() for answer in waiting)
    assert [trunk for trunk, _ in engine.passes] == ["the one before"]


def test_after_closing_requests_are_cancelled(batcher: Batcher) -> None:
    batcher.close()
    assert batcher.submit("trunk", picture(), STYLE).cancelled()


def large(level: int = 0) -> Pixels:
    return picture(level, height=LARGE)


def test_a_large_picture_is_made_in_tiles_and_says_how_far_it_is(batcher: Batcher, engine: Fake) -> None:
    heard: list[float] = []
    answer = batcher.submit("trunk", large(7), STYLE, progressed=heard.append).result(SECONDS)
    assert (answer.pixels == 7).all()
    assert engine.passes == [("trunk", 0)] * TILES
    assert heard == [tile / TILES for tile in range(1, TILES + 1)]


def test_others_have_their_turn_between_the_tiles_of_a_large_picture(batcher: Batcher, engine: Fake) -> None:
    engine.gate.clear()
    answers = [batcher.submit("large", large(), STYLE)]
    until(lambda: len(engine.passes) == 1, SECONDS, "the first tile")
    answers += [batcher.submit(trunk, picture(), STYLE) for trunk in ("a", "b")]
    released(engine, answers)
    assert engine.passes == [("large", 0), ("a", 1), ("large", 0), ("b", 1), *[("large", 0)] * (TILES - 2)]


def test_large_pictures_are_made_one_after_the_other(batcher: Batcher, engine: Fake) -> None:
    engine.gate.clear()
    released(engine, [batcher.submit(trunk, large(), STYLE) for trunk in ("a", "b")])
    assert engine.passes == [("a", 0)] * TILES + [("b", 0)] * TILES


def test_a_large_picture_that_nobody_wants_any_more_ends_between_two_tiles(batcher: Batcher, engine: Fake) -> None:
    unwanted = batcher.submit("trunk", large(), STYLE, wanted=lambda: len(engine.passes) < 2)
    with pytest.raises(CancelledError):
        unwanted.result(SECONDS)
    assert engine.passes == [("trunk", 0)] * 2
    assert engine.closed == ["trunk"]


def test_a_large_picture_is_taken_once(batcher: Batcher, engine: Fake) -> None:
    taken: list[int] = []
    batcher.submit("trunk", large(), STYLE, taken=lambda: taken.append(len(engine.passes))).result(SECONDS)
    assert taken == [0]


def test_a_tile_that_fails_fails_its_picture_alone(batcher: Batcher, engine: Fake) -> None:
    def third(tile: int) -> None:
        if tile == 3:
            raise CheckpointError("damaged")

    engine.fail_tile = third
    with pytest.raises(CheckpointError):
        batcher.submit("trunk", large(), STYLE).result(SECONDS)
    engine.fail_tile = lambda _: None
    assert (batcher.submit("trunk", large(9), STYLE).result(SECONDS).pixels == 9).all()


def test_told_to_stop_a_large_picture_ends_between_two_tiles_and_the_others_go_on(
    batcher: Batcher, engine: Fake
) -> None:
    engine.gate.clear()
    answer, next_large = (batcher.submit("trunk", large(), STYLE) for _ in range(2))
    until(lambda: engine.passes == [("trunk", 0)], SECONDS, "the first tile")
    ordinary = batcher.submit("trunk", picture(3), STYLE)
    batcher.stop_large()
    engine.gate.set()
    assert (ordinary.result(SECONDS).pixels == 3).all()
    for cancelled in (answer, next_large, batcher.submit("trunk", large(), STYLE)):
        with pytest.raises(CancelledError):
            cancelled.result(SECONDS)
    assert engine.passes == [("trunk", 0), ("trunk", 1)]
    assert engine.closed == ["trunk"]


def test_closing_cancels_a_large_picture_between_two_tiles(batcher: Batcher, engine: Fake) -> None:
    engine.gate.clear()
    answers = [batcher.submit("trunk", large(), STYLE) for _ in range(2)]
    until(lambda: len(engine.passes) == 1, SECONDS, "the first tile")
    closing = threading.Thread(target=batcher.close)
    closing.start()
    until(lambda: batcher.submit("late", picture(), STYLE).cancelled(), SECONDS, "the batcher to close")
    engine.gate.set()
    closing.join(SECONDS)
    assert [answer.cancelled() for answer in answers] == [True, True]
    assert len(engine.passes) == 1
    assert engine.closed == ["trunk"]
