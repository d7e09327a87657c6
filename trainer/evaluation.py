"""What a style is worth: its losses on photographs that training never saw, beside two yardsticks.

The *untouched* photograph loses no content and has no style: its style loss is what any style must get below. The
*optimised* picture (Gatys, Ecker, Bethge 2016) is made by descending the same loss in its own pixels with L-BFGS: what
the loss asks for, at minutes a picture.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from contract.styles import Evaluation, Scores
from generator.network import Generator
from trainer.perceptual import Losses, PerceptualLoss

LBFGS_HISTORY = 20
LINE_SEARCH_EVALUATIONS = 25
"""Within one iteration. PyTorch allows 5/4 of the iterations of a call otherwise, which is a single one: a step that is
too long is not shortened then, and the picture stays as it is for ever."""

MAX_STYLE_SHARE = 0.6
"""A style that keeps more of the untouched photograph's style loss than this has not been learnt."""
MIN_CONTRAST = 0.02
"""A picture none of whose channels has a larger standard deviation than this is but one colour."""


@torch.no_grad()
def stylized_with(generator: Generator, style: Tensor, contents: Tensor) -> Tensor:
    """Each content [B,3,H,W] in one style [S], clamped to what a picture can show."""
    generator.eval()
    return torch.cat([generator(content[None], style[None]).clamp(0, 1) for content in contents])


@torch.no_grad()
def scores(loss: PerceptualLoss, stylized: Tensor, content: Tensor, row: int) -> Scores:
    """Means over the pictures [B,3,H,W]."""
    found = [_losses(loss, one[None], other[None], row) for one, other in zip(stylized, content, strict=True)]
    return Scores(
        content=_mean(losses.content for losses in found),
        style=_mean(losses.style for losses in found),
        total=_mean(losses.total for losses in found),
    )


def optimised(
    loss: PerceptualLoss,
    content: Tensor,
    row: int,
    iterations: int,
    look: Callable[[int, Tensor], bool] = lambda _iteration, _picture: True,
) -> Tensor:
    """One picture [3,H,W] by L-BFGS in pixels, begun from the content. ``look`` sees the picture after each iteration,
    clamped to 0..1, and says whether to go on. The loss is that of the clamped picture, as scores are: a colour that
    cannot be shown is worth nothing.
    """
    target = loss.content_target(content[None])
    picture = content[None].clone(memory_format=torch.contiguous_format).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [picture],
        max_iter=1,
        max_eval=LINE_SEARCH_EVALUATIONS,
        history_size=LBFGS_HISTORY,
        line_search_fn="strong_wolfe",
    )

    evaluated: list[Tensor] = []  # the picture that was looked at last, and its loss

    def closure() -> Tensor:
        """PyTorch asks at each iteration for what the line search of the last one has computed already."""
        if not (evaluated and torch.equal(evaluated[0], picture)):
            optimizer.zero_grad()
            total = _losses(loss, picture.clamp(0, 1), content[None], row, target).total.sum()
            total.backward()  # type: ignore[no-untyped-call]
            evaluated[:] = [picture.detach().clone(), total.detach()]
        return evaluated[1]

    for iteration in range(1, iterations + 1):
        optimizer.step(closure)  # type: ignore[no-untyped-call]
        if not look(iteration, picture.detach()[0].clamp(0, 1)):
            break
    return picture.detach()[0].clamp(0, 1)


def evaluate(
    loss: PerceptualLoss,
    row: int,
    contents: Tensor,
    stylized: Tensor,
    *,
    yardsticks: int,
    iterations: int,
    look: Callable[[float], bool] = lambda _fraction: True,
) -> Evaluation:
    """The scores of ``stylized`` [B,3,H,W], of the untouched photographs, and of the first few of them optimised.

    ``look`` hears how far it is, and says whether to go on: when it says no, no more of them are optimised.
    """
    pictures: list[Tensor] = []
    goes_on = True

    def keep_on(iteration: int, _picture: Tensor) -> bool:
        nonlocal goes_on
        goes_on = look((len(pictures) + iteration / iterations) / yardsticks)
        return goes_on

    for content in contents[:yardsticks]:
        if goes_on:
            pictures.append(optimised(loss, content, row, iterations, keep_on))
    best = scores(loss, torch.stack(pictures), contents[: len(pictures)], row) if pictures else None
    return Evaluation(
        photographs=len(contents),
        size=contents.shape[-1],
        stylized=scores(loss, stylized, contents, row),
        untouched=scores(loss, contents, contents, row),
        optimised=best,
        optimised_iterations=iterations if pictures else 0,
        optimised_photographs=len(pictures),
    )


def shortcoming(evaluation: Evaluation, stylized: Tensor) -> str:
    """Why a style should not be used without a second look; '' when there is no reason.

    A style that has one is published as a draft, for its owner to judge.
    """
    share = evaluation.stylized.style / max(evaluation.untouched.style, 1e-12)
    if stylized.std(dim=(2, 3)).amax(dim=1).min() < MIN_CONTRAST:
        return "It turns photographs into a single colour."
    if share > MAX_STYLE_SHARE:
        return (
            f"On photographs that it had not seen, its style loss is {share:.0%} of that of the untouched photograph, "
            f"and should be at most {MAX_STYLE_SHARE:.0%}: give it more iterations, a larger style_weight, or "
            "quality=full."
        )
    if evaluation.stylized.total > evaluation.untouched.total:
        return "It loses more content than it gains style: give it more iterations, or a smaller style_weight."
    return ""


def _losses(loss: PerceptualLoss, one: Tensor, other: Tensor, row: int, target: Tensor | None = None) -> Losses:
    return loss(one, other, torch.tensor([row], device=one.device), target)


def _mean(values: Iterator[Tensor]) -> float:
    return float(torch.cat(list(values)).mean())
