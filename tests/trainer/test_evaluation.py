"""What a style is worth: its losses, two yardsticks, and the reasons to doubt it."""

from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from contract.styles import Evaluation, Scores
from tests.conftest import tiny_bank
from tests.trainer.conftest import pictures
from trainer.evaluation import evaluate, optimised, scores, shortcoming, stylized_with
from trainer.perceptual import Losses, PerceptualLoss

CONTENTS = pictures(3, seed=2)


# --- Scores --------------------------------------------------------------------------------------------------------


def test_the_untouched_photographs_lose_no_content_and_have_no_style(shallow_loss: PerceptualLoss) -> None:
    found = scores(shallow_loss, CONTENTS, CONTENTS, 1)
    assert found.content == 0
    assert found.style > 0.001
    assert found.total == pytest.approx(shallow_loss.config.style_weight * found.style, rel=1e-4)


def test_scores_are_means_over_the_pictures(shallow_loss: PerceptualLoss) -> None:
    stylized = pictures(3, seed=9)
    each = [scores(shallow_loss, stylized[i : i + 1], CONTENTS[i : i + 1], 2) for i in range(3)]
    together = scores(shallow_loss, stylized, CONTENTS, 2)
    for name in ("content", "style", "total"):
        assert getattr(together, name) == pytest.approx(sum(getattr(one, name) for one in each) / 3, rel=1e-4)


def test_scores_are_those_of_the_row(shallow_loss: PerceptualLoss) -> None:
    one, other = pictures(2, seed=6, size=40)  # the style pictures of the rows 1 and 2
    for row, own, strange in ((1, one, other), (2, other, one)):
        of_own, of_strange = (scores(shallow_loss, picture[None], picture[None], row) for picture in (own, strange))
        assert of_own.style < 1e-5 < 1e-3 < of_strange.style


def test_stylized_pictures_are_what_the_generator_makes_in_the_range_of_pictures() -> None:
    bank = tiny_bank("a", "b")
    generator = bank.generator().train()
    found = stylized_with(generator, bank.styles[1], CONTENTS)
    with torch.no_grad():
        made = generator(CONTENTS, bank.styles[1:].expand(3, -1))
    assert made.min() < 0
    assert torch.allclose(found, made.clamp(0, 1), atol=1e-5)
    assert not found.requires_grad


# --- A picture that is optimised by itself -------------------------------------------------------------------------


def test_an_optimised_picture_has_a_lower_loss_than_the_photograph(shallow_loss: PerceptualLoss) -> None:
    content = CONTENTS[0]
    picture = optimised(shallow_loss, content, 1, 5)
    before, after = (scores(shallow_loss, one[None], content[None], 1) for one in (content, picture))
    assert after.total < 0.2 * before.total
    assert after.style < before.style
    assert 0 <= picture.min() <= picture.max() <= 1
    assert torch.equal(content, pictures(3, seed=2)[0]), "it is left alone"


def test_what_is_optimised_is_what_can_be_shown(shallow_loss: PerceptualLoss) -> None:
    """A loss that counts colours beyond black and white would be lower than that of the picture that is given out."""
    looked_at: list[Tensor] = []

    class Watched:
        content_target = staticmethod(shallow_loss.content_target)

        def __call__(self, picture: Tensor, *others: Any) -> Losses:
            looked_at.append(picture.detach())
            return shallow_loss(picture, *others)

    loss = cast(PerceptualLoss, Watched())
    optimised(loss, CONTENTS[0].round(), 1, 3)
    assert torch.stack(looked_at).min() == 0
    assert torch.stack(looked_at).max() == 1


def test_the_picture_is_seen_after_each_iteration_and_gets_better(shallow_loss: PerceptualLoss) -> None:
    seen: list[tuple[int, float]] = []

    def look(iteration: int, picture: Tensor) -> bool:
        seen.append((iteration, scores(shallow_loss, picture[None], CONTENTS[:1], 1).total))
        return True

    optimised(shallow_loss, CONTENTS[0], 1, 5, look)
    assert [iteration for iteration, _ in seen] == [1, 2, 3, 4, 5]
    totals = [total for _, total in seen]
    assert totals == sorted(totals, reverse=True)
    assert totals[-1] < 0.3 * totals[0], "no iteration stays where it is"


def test_a_picture_is_optimised_for_as_long_as_wanted(shallow_loss: PerceptualLoss) -> None:
    seen: list[Tensor] = []

    def look(iteration: int, picture: Tensor) -> bool:
        seen.append(picture.clone())
        return iteration < 2

    picture = optimised(shallow_loss, CONTENTS[0], 1, 50, look)
    assert len(seen) == 2
    assert torch.equal(picture, seen[-1])


def test_no_picture_is_looked_at_twice(shallow_loss: PerceptualLoss) -> None:
    """L-BFGS asks anew at each iteration for what its line search has found."""
    asked: list[int] = []

    class Counting(PerceptualLoss):
        def __call__(self, stylized: Tensor, *others: Any) -> Losses:
            asked.append(hash(stylized.detach().numpy().tobytes()))
            return super().__call__(stylized, *others)

    counting = Counting(shallow_loss.descriptor, shallow_loss.config, shallow_loss.grams)
    optimised(counting, CONTENTS[0], 1, 6)
    assert len(asked) >= 7
    assert not any(one == other for one, other in pairwise(asked))


# --- The whole evaluation ------------------------------------------------------------------------------------------


def test_an_evaluation_holds_the_scores_of_all_that_there_is_to_compare(shallow_loss: PerceptualLoss) -> None:
    heard: list[float] = []
    stylized = pictures(3, seed=9)

    def look(fraction: float) -> bool:
        heard.append(fraction)
        return True

    found = evaluate(shallow_loss, 1, CONTENTS, stylized, yardsticks=2, iterations=3, look=look)
    assert found.stylized == scores(shallow_loss, stylized, CONTENTS, 1)
    assert found.untouched == scores(shallow_loss, CONTENTS, CONTENTS, 1)
    assert found.optimised is not None
    assert found.optimised.total < found.untouched.total
    assert (found.photographs, found.size) == (3, 32)
    assert (found.optimised_photographs, found.optimised_iterations) == (2, 3)
    assert heard == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])


def test_an_evaluation_that_is_stopped_optimises_no_further(shallow_loss: PerceptualLoss) -> None:
    heard: list[float] = []

    def look(fraction: float) -> bool:
        heard.append(fraction)
        return len(heard) < 3

    found = evaluate(shallow_loss, 1, CONTENTS, CONTENTS, yardsticks=3, iterations=2, look=look)
    assert heard == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert found.optimised_photographs == 2


def test_an_evaluation_may_do_without_optimised_pictures(shallow_loss: PerceptualLoss) -> None:
    found = evaluate(shallow_loss, 1, CONTENTS, CONTENTS, yardsticks=0, iterations=100)
    assert found.optimised is None
    assert (found.optimised_photographs, found.optimised_iterations) == (0, 0)
    assert Evaluation.model_validate_json(found.model_dump_json()) == found


# --- Shortcomings --------------------------------------------------------------------------------------------------

GOOD = Scores(content=4.0, style=0.2, total=16.0)
UNTOUCHED = Scores(content=0.0, style=1.0, total=60.0)


def evaluation_of(stylized: Scores) -> Evaluation:
    return Evaluation(photographs=3, size=32, stylized=stylized, untouched=UNTOUCHED)


def test_a_good_style_has_no_shortcoming() -> None:
    assert shortcoming(evaluation_of(GOOD), CONTENTS) == ""


def test_a_style_that_makes_one_of_the_photographs_flat_has_a_shortcoming() -> None:
    flat = CONTENTS.clone()
    flat[1] = 0.5 + 0.01 * (flat[1] - flat[1].mean())
    assert shortcoming(evaluation_of(GOOD), flat) == "It turns photographs into a single colour."
    orange = torch.tensor([1.0, 0.5, 0.0])[:, None, None].expand_as(flat[1])
    flat[1] = orange + 0.01 * (flat[1] - flat[1].mean())
    assert shortcoming(evaluation_of(GOOD), flat) == "It turns photographs into a single colour."


@pytest.mark.parametrize(("style", "learnt"), [(0.59, True), (0.61, False), (1.5, False)])
def test_a_style_that_is_not_learnt_has_a_shortcoming(style: float, learnt: bool) -> None:
    said = shortcoming(evaluation_of(GOOD.model_copy(update={"style": style})), CONTENTS)
    assert (said == "") == learnt
    if not learnt:
        assert f"its style loss is {style:.0%}" in said
        assert "at most 60%" in said
        assert "quality=full" in said


def test_a_style_that_loses_more_content_than_it_gains_has_a_shortcoming() -> None:
    said = shortcoming(evaluation_of(GOOD.model_copy(update={"content": 50.0, "total": 62.0})), CONTENTS)
    assert said.startswith("It loses more content than it gains style")


def test_a_photograph_that_has_the_style_already_is_no_division_by_zero() -> None:
    found = evaluation_of(GOOD).model_copy(update={"untouched": Scores(content=0, style=0, total=0)})
    assert "not seen" in shortcoming(found, CONTENTS)


def test_a_loss_with_other_weights_gives_other_totals_and_the_same_style(shallow_loss: PerceptualLoss) -> None:
    heavy = replace(shallow_loss, config=replace(shallow_loss.config, style_weight=600.0))
    one, other = (scores(loss, CONTENTS, CONTENTS, 1) for loss in (shallow_loss, heavy))
    assert other.style == one.style
    assert other.total == pytest.approx(10 * one.total, rel=1e-4)


def test_a_picture_of_any_memory_layout_can_be_optimised(shallow_loss: PerceptualLoss) -> None:
    """Pixels come from files as H,W,3, and L-BFGS asks for flat gradients."""
    content = CONTENTS[0]
    as_decoded = content.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert not as_decoded.is_contiguous()
    assert torch.allclose(optimised(shallow_loss, as_decoded, 1, 2), optimised(shallow_loss, content, 1, 2), atol=1e-4)
