"""What is measured on the trained generators, experiment by experiment, and what is shown of them.

Every function goes on where it was stopped: what ``results`` knows is not measured again. Losses are those of the
training, on photographs that no training saw, and of pictures that were clamped to what can be shown.
"""

import time
from collections.abc import Callable
from itertools import combinations
from statistics import median
from typing import Any

import torch
from torch import Tensor

from generator.network import Generator
from trainer.evaluation import optimised, scores
from trainer.paper.grids import save_picture
from trainer.paper.light import ALTERATIONS, LEVELS, LOWEST_CONTRAST, contrast
from trainer.paper.plan import (
    TextureVariant,
    Variant,
    border_variants,
    first_seed,
    light_variants,
    main_variants,
    texture_variants,
)
from trainer.paper.readings import FIRST_READING, READINGS, Reading, frozen, removed, stylized
from trainer.paper.results import Results
from trainer.paper.workshop import Say, Trained, Workshop
from trainer.texture import SAMPLES_NUMBER, Noise, samples

COURSE_POINTS = 50
"""Into how many means the training losses of a run are put together."""
STATISTICS_PHOTOGRAPHS = 16
"""From how many training crops the statistics of a frozen instance norm come."""
OPTIMISED_CONTRAST_ITERATIONS = 100
BORDER_MARGIN = 32
"""How much more of a photograph is seen where its crop is compared with a crop of the stylized whole: the coarsest cell
of the pyramid, so that its scales lie as they did."""
LOOKS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000)
"""At which iterations of an optimisation its loss is taken."""
TIMED = 5
"""Of how many repetitions the median is taken."""


def measure_norms(shop: Workshop, results: Results, say: Say) -> None:
    """Held-out losses of every run at every milestone, in every reading, and the course of its training loss."""
    _measure_courses(shop, results, main_variants(shop.budget), "norms", say)


def measure_photographs(shop: Workshop, results: Results, say: Say) -> None:
    """The same for runs on photographs in another light, measured on held-out photographs in this light."""
    _measure_courses(shop, results, light_variants(shop.budget), "photographs", say)


def _measure_courses(shop: Workshop, results: Results, variants: list[Variant], experiment: str, say: Say) -> None:
    for variant in variants:
        contents = shop.altered(variant.light, shop.contents)
        for milestone in shop.budget.milestones:
            for reading in READINGS[variant.norm]:
                about = {"experiment": experiment, "part": "losses", **variant.about()}
                about |= {"iteration": milestone, "reading": reading}
                if not results.knows(**about):
                    trained = shop.trained(variant, milestone)
                    results.add(about, _losses(shop, variant.style, trained, contents, reading))
        about = {"experiment": experiment, "part": "course", **variant.about()}
        if not results.knows(**about):
            results.add(about, _course(shop, variant))
        say(f"{experiment}: {variant.name}")
    for style in shop.budget.styles:
        about = {"experiment": experiment, "part": "untouched", "style": style}
        if not results.knows(**about):
            results.add(about, losses_of(scores(shop.loss(style), shop.contents, shop.contents, 1)))


def _losses(shop: Workshop, style: str, trained: Trained, contents: Tensor, reading: Reading) -> dict[str, float]:
    made = stylized(trained.generator, trained.style, contents, reading)
    return losses_of(scores(shop.loss(style), made, contents, 1))


def losses_of(found: Any) -> dict[str, float]:
    return {"total": found.total, "style": found.style, "content": found.content}


def _course(shop: Workshop, variant: Variant) -> dict[str, float]:
    """``loss@ITERATION``: the mean training loss of the iterations up to there, and what the run took."""
    losses, seconds, back_offs = shop.course(variant)
    step = max(1, len(losses) // COURSE_POINTS)
    points = {
        f"loss@{last}": float(torch.tensor(losses[last - step : last]).mean())
        for last in range(step, len(losses) + 1, step)
    }
    return {**points, "seconds": seconds, "back_offs": float(back_offs)}


# --- Test time -----------------------------------------------------------------------------------------------------


STATES = ("kept", "frozen", "removed")


def at_test_time(shop: Workshop, trained: Trained) -> dict[str, Generator]:
    """A generator with instance norm: as it is, and without what makes it one."""
    seen = shop.training_crops(STATISTICS_PHOTOGRAPHS)
    return {
        "kept": trained.generator,
        "frozen": frozen(trained.generator, trained.style, seen),
        "removed": removed(trained.generator),
    }


def measure_test_time(shop: Workshop, results: Results, say: Say) -> None:
    for variant in first_seed(shop.budget):
        abouts = {state: {"experiment": "test_time", **variant.about(), "state": state} for state in STATES}
        if variant.norm == "batch" or all(results.knows(**about) for about in abouts.values()):
            continue
        trained = shop.trained(variant)
        for state, network in at_test_time(shop, trained).items():
            about = abouts[state]
            results.add(about, _losses(shop, variant.style, Trained(network, trained.style), shop.contents, "running"))
        say(f"test_time: {variant.name}")


# --- Contrast and brightness ---------------------------------------------------------------------------------------


def measure_contrast(shop: Workshop, results: Results, say: Say) -> None:
    """How far the stylized picture of an altered photograph is from that of the photograph, in levels of 0..255."""
    for variant in first_seed(shop.budget):
        for reading in READINGS[variant.norm]:
            _contrast_of(shop, results, variant, reading)
        say(f"contrast: {variant.name}")
    for style in shop.budget.styles:
        _contrast_of_optimised(shop, results, style)
        say(f"contrast: {style}, optimised")


def _contrast_of(shop: Workshop, results: Results, variant: Variant, reading: Reading) -> None:
    shared = {"experiment": "contrast", **variant.about(), "reading": reading}
    if all(results.knows(**shared, alteration=name) for name in ALTERATIONS):
        return
    trained = shop.trained(variant)
    plain = stylized(trained.generator, trained.style, shop.contents, reading)
    for name, alter in ALTERATIONS.items():
        altered = alter(shop.contents)
        made = stylized(trained.generator, trained.style, altered, reading)
        results.add({**shared, "alteration": name}, _contrasts(made, plain, altered, shop.contents))


def _contrasts(made: Tensor, plain: Tensor, altered: Tensor, contents: Tensor) -> dict[str, float]:
    """Of stylized pictures [B,3,H,W], altered and plain; ``kept`` is how much of the contrast is left.

    ``relative`` is the distance as a share of that between the stylized pictures of two photographs: a generator that
    makes the same of everything would have no distance at all.
    """
    distance = root_mean_square(made, plain)
    between = root_mean_square(plain, plain.roll(1, dims=0))
    return {
        "distance": distance,
        **({"relative": distance / max(between, 1e-6)} if len(made) > 1 else {}),
        "kept": contrast(made) / max(contrast(plain), 1e-6),
        "content_kept": contrast(altered) / contrast(contents),
    }


def root_mean_square(one: Tensor, other: Tensor) -> float:
    """The distance of pictures [B,3,H,W] in levels of 0..255, mean over the pictures."""
    return float(LEVELS * (one - other).square().mean(dim=(1, 2, 3)).sqrt().mean())


def _contrast_of_optimised(shop: Workshop, results: Results, style: str) -> None:
    """The paper's own picture of this (its figure 2) was made by optimisation; one photograph here."""
    about = {"experiment": "contrast", "architecture": "optimised", "style": style, "alteration": LOWEST_CONTRAST}
    if results.knows(**about):
        return
    content = shop.contents[0]
    altered = ALTERATIONS[LOWEST_CONTRAST](content)
    iterations = min(OPTIMISED_CONTRAST_ITERATIONS, max(shop.budget.yardstick_iterations))
    plain, made = (optimised(shop.loss(style), one, 1, iterations) for one in (content, altered))
    for name, picture in (("plain", plain), ("low", made)):
        save_picture(picture, shop.picture(f"contrast-{style}-{name}"))
    results.add(about, _contrasts(made[None], plain[None], altered[None], content[None]) | {"iterations": iterations})


# --- Borders -------------------------------------------------------------------------------------------------------


def measure_borders(shop: Workshop, results: Results, say: Say) -> None:
    """How a stylized crop differs from the same crop of the stylized whole, near the border and in the interior."""
    size = shop.budget.size
    wide = shop.held_out_squares(size + 2 * BORDER_MARGIN)
    narrow = inner(wide, BORDER_MARGIN)
    for variant in border_variants(shop.budget):
        for reading in READINGS[variant.norm]:
            about = {"experiment": "borders", **variant.about(), "reading": reading}
            if results.knows(**about):
                continue
            trained = shop.trained(variant)
            crops, wholes = (stylized(trained.generator, trained.style, one, reading) for one in (narrow, wide))
            results.add(about, border_figures(crops - inner(wholes, BORDER_MARGIN)))
        say(f"borders: {variant.name}")


def inner(pictures: Tensor, margin: int) -> Tensor:
    """[B,3,H,W] without its margin."""
    return pictures[..., margin:-margin, margin:-margin]


def border_distance(size: int) -> Tensor:
    """[size,size]: how many pixels lie between each pixel and the border."""
    place = torch.arange(size)
    nearest = torch.minimum(place, size - 1 - place)
    return torch.minimum(nearest[:, None], nearest[None, :])


def border_figures(errors: Tensor) -> dict[str, float]:
    """Of the errors [B,3,S,S] of stylized crops, in levels of 0..255.

    ``band`` is the root mean square in the outermost sixteenth of the side, ``interior`` that further in than an
    eighth. ``colour`` is what all photographs have in common: how far the mean error of the band, over all pictures and
    places, is from that of the interior. ``error@D`` and ``colour@D`` are the same D pixels from the border.
    """
    side = errors.shape[-1]
    distance = border_distance(side).to(errors.device)
    interior = distance >= side // 8
    figures = {"interior": _size(errors[..., interior])}
    for name, where in (("", distance < side // 16), *((f"@{d}", distance == d) for d in range(side // 4))):
        mean_error = errors[..., where].mean(dim=(0, 2)) - errors[..., interior].mean(dim=(0, 2))  # 3
        figures |= {f"error{name}" if name else "band": _size(errors[..., where]), f"colour{name}": _size(mean_error)}
    return figures


def _size(errors: Tensor) -> float:
    """The root mean square, in levels."""
    return float(LEVELS * errors.square().mean().sqrt())


# --- Resolution ----------------------------------------------------------------------------------------------------


def measure_resolution(shop: Workshop, results: Results, say: Say) -> None:
    """One photograph at other sizes than those of the training: its losses, those of the untouched, and the time."""
    for size in shop.budget.resolutions:
        photograph = shop.held_out_squares(size)[:1]
        for style in shop.budget.styles:
            about = {"experiment": "resolution", "architecture": "untouched", "style": style, "size": size}
            if not results.knows(**about):
                results.add(about, losses_of(scores(shop.loss(style), photograph, photograph, 1)))
        for variant in first_seed(shop.budget):
            about = {"experiment": "resolution", **variant.about(), "size": size}
            if results.knows(**about):
                continue
            trained, reading = shop.trained(variant), FIRST_READING[variant.norm]
            figures = _losses(shop, variant.style, trained, photograph, reading)
            seconds = timed(lambda t=trained, r=reading, p=photograph: stylized(t.generator, t.style, p, r), 1)  # type: ignore[misc]
            results.add(about, figures | {"seconds": seconds})
            say(f"resolution: {variant.name}, {size} px")


def timed(work: Callable[[], object], repetitions: int) -> float:
    """The median of its seconds."""
    seconds = []
    for _ in range(repetitions):
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return median(seconds)


# --- The yardstick -------------------------------------------------------------------------------------------------


def measure_gatys(shop: Workshop, results: Results, say: Say) -> None:
    """Pictures that are optimised one by one (Gatys et al. 2016), and the same photographs fed forward."""
    for style in shop.budget.styles:
        for number, content in enumerate(shop.contents[: shop.budget.yardsticks]):
            _optimise(shop, results, style, number, content)
            say(f"gatys: {style}, photograph {number}")
    for variant in first_seed(shop.budget):
        trained, reading = shop.trained(variant), FIRST_READING[variant.norm]
        for number, content in enumerate(shop.contents[: shop.budget.yardsticks]):
            about = {"experiment": "gatys", **variant.about(), "photograph": number}
            if results.knows(**about):
                continue
            one = content[None]
            figures = _losses(shop, variant.style, trained, one, reading)
            seconds = timed(lambda t=trained, r=reading, o=one: stylized(t.generator, t.style, o, r), TIMED)  # type: ignore[misc]
            results.add(about, figures | {"seconds": seconds})


def _optimise(shop: Workshop, results: Results, style: str, number: int, content: Tensor) -> None:
    """Its loss at some iterations, with the seconds up to there; looking does not count."""
    about = {"experiment": "gatys", "architecture": "optimised", "style": style, "photograph": number}
    last = max(shop.budget.yardstick_iterations)
    if results.knows(**about, iteration=last):
        return
    loss = shop.loss(style)
    seconds, began = 0.0, time.perf_counter()

    def look(iteration: int, picture: Tensor) -> bool:
        nonlocal seconds, began
        seconds += time.perf_counter() - began
        if iteration in LOOKS or iteration in shop.budget.yardstick_iterations:
            figures = losses_of(scores(loss, picture[None], content[None], 1)) | {"seconds": seconds}
            if iteration in shop.budget.yardstick_iterations and number == 0:
                save_picture(picture, shop.picture(f"gatys-{style}-{iteration}"))
            results.add({**about, "iteration": iteration}, figures)
        began = time.perf_counter()
        return True

    optimised(loss, content, 1, last, look)


# --- Textures ------------------------------------------------------------------------------------------------------


def measure_texture(shop: Workshop, results: Results, say: Say) -> None:
    """The style loss of samples, that of noise, and how much two samples differ, in levels."""
    for variant in texture_variants(shop.budget):
        about = {"experiment": "texture", "norm": variant.norm, "style": variant.style}
        if not results.knows(**about):
            results.add(about, _texture_figures(shop, variant))
        say(f"texture: {variant.name}")


def _texture_figures(shop: Workshop, variant: TextureVariant) -> dict[str, float]:
    run = shop.texture(variant)
    loss, config = shop.loss(variant.style), run.training.config
    made = samples(run.training)
    noise = Noise(config.seed).batch(SAMPLES_NUMBER, len(made), config.size).to(made.device).clamp(0, 1)
    pairs = [root_mean_square(one[None], other[None]) for one, other in combinations(made, 2)]
    return {
        "style": scores(loss, made, made, 1).style,
        "noise_style": scores(loss, noise, noise, 1).style,
        "difference": sum(pairs) / len(pairs),
        "contrast": contrast(made),
        "seconds": run.training.seconds,
    }


MEASURES: dict[str, Callable[[Workshop, Results, Say], None]] = {
    "norms": measure_norms,
    "test_time": measure_test_time,
    "contrast": measure_contrast,
    "photographs": measure_photographs,
    "borders": measure_borders,
    "resolution": measure_resolution,
    "gatys": measure_gatys,
    "texture": measure_texture,
}
