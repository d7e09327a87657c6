"""What the numbers say to each claim. Every verdict is computed; none is known before."""

import math
from collections.abc import Callable
from statistics import median

from trainer.evaluation import MAX_STYLE_SHARE
from trainer.paper.norm_verdicts import norms
from trainer.paper.pairs import (
    AS_CLAIMED,
    BATCH,
    INSTANCE,
    LOSSES,
    MOSTLY,
    NOT,
    RUN,
    RUNNING,
    SINGLE,
    UNDECIDED,
    UNMEASURED,
    WITH_BATCH,
    WITH_INSTANCE,
    WITH_RUNNING,
    WITH_SINGLE,
    Claim,
    Pairs,
    mean,
    paired,
    share_verdict,
)
from trainer.paper.results import Results

KEPT_CONTRAST = 0.8
"""A picture that keeps this share of its contrast is hardly changed in it."""
ORDERS_OF_MAGNITUDE = 1000
COMPARABLE_ITERATIONS = 50
"""How many iterations of an optimisation a generator is said to be worth, at least (1703.06868, section 7.1)."""
TEXTURE_LOSS = 0.25
"""The style loss below which a sample has the texture of its picture."""
VARIETY = 0.5
"""Samples that differ by this share of what independent pictures would differ by are various."""


def test_time(results: Results) -> list[Claim]:
    claims = []
    for state, words in (("frozen", "frozen to averages over photographs"), ("removed", "removed")):
        found = {
            figure: paired(results, figure, {"state": "kept"}, {"state": state}, RUN, experiment="test_time")
            for figure in LOSSES
        }
        claims.append(
            Claim(
                "test_time",
                f"Instance norm has to stay at test time: it cannot be {words}.",
                found["total"].verdict,
                " ".join(found[one].says(what, "with it kept", f"with it {state}") for one, what in LOSSES.items()),
            )
        )
    return claims


def contrast(results: Results) -> list[Claim]:
    same = (*RUN, "alteration")
    found = {
        figure: paired(results, figure, INSTANCE, reading, same, experiment="contrast")
        for figure, reading in (("relative", RUNNING), ("distance", RUNNING))
    }
    single = paired(results, "relative", INSTANCE, SINGLE, same, experiment="contrast")
    shares = " and ".join(
        f"{mean(results.values('relative', experiment='contrast', **reading)):.0%} {words}"
        for words, reading in ((WITH_INSTANCE, INSTANCE), (WITH_RUNNING, RUNNING))
    )
    kept = mean(results.values("kept", experiment="contrast", architecture="optimised"))
    asked = mean(results.values("content_kept", experiment="contrast", architecture="optimised"))
    return [
        Claim(
            "contrast",
            "With instance norm the result does not depend on the contrast of the photograph, with batch norm it does.",
            found["relative"].verdict,
            f"What an alteration changes is, on average, {shares} of what another photograph would change. "
            + " ".join(
                [
                    found["relative"].says("share", WITH_INSTANCE, WITH_RUNNING),
                    found["distance"].says("distance in levels", WITH_INSTANCE, WITH_RUNNING),
                    single.says("share", WITH_INSTANCE, WITH_SINGLE),
                ]
            ),
        ),
        Claim(
            "contrast",
            "The contrast of a picture that is optimised by itself is that of the style, and almost independent of the "
            "contrast of the photograph (figure 2 of the paper).",
            UNMEASURED if math.isnan(kept) else AS_CLAIMED if kept > KEPT_CONTRAST else NOT,
            f"Of a photograph with {asked:.0%} of its contrast, the optimised picture has {kept:.0%} of the contrast "
            "that it has otherwise.",
        ),
    ]


def photographs(results: Results) -> list[Claim]:
    gaps = {light: _gap(results, light) for light in ("original", "equalised", "stylised")}
    closed = abs(math.log(gaps["stylised"].ratio)), abs(math.log(gaps["original"].ratio))
    measured = all(gap.pairs for gap in gaps.values())
    remains = gaps["equalised"].verdict
    fades = AS_CLAIMED if closed[0] < 0.5 * closed[1] else MOSTLY if closed[0] < closed[1] else NOT
    if gaps["original"].ratio >= 1:
        fades = UNDECIDED  # there is no advantage that could fade
    return [
        Claim(
            "photographs",
            "Contrast does not explain it: instance norm stays ahead when all photographs have the same "
            "distribution of brightness (1703.06868, section 4).",
            remains,
            " ".join(
                gap.says(f"style loss on {light} photographs", WITH_INSTANCE, WITH_BATCH) for light, gap in gaps.items()
            )
            + " The statistics of the batch are those of the training.",
        ),
        Claim(
            "photographs",
            "It normalises style: hardly any advantage is left on photographs that are all in one style already "
            "(1703.06868, section 4).",
            fades if measured else UNMEASURED,
            f"The style loss of instance norm is {gaps['stylised'].ratio:.2f} times that of batch norm there, and "
            f"{gaps['original'].ratio:.2f} times on the photographs as they are.",
        ),
    ]


def _gap(results: Results, light: str) -> Pairs:
    about = {"experiment": "photographs", "part": "losses", "iteration": results.settings["iterations"]}
    return paired(results, "style", INSTANCE, BATCH, RUN, **about, light=light)


def borders(results: Results) -> list[Claim]:
    same = ("architecture", "style", "seed", "light")
    zeros, continued = {"padding": "zeros"}, {"padding": "continued"}
    about = {"experiment": "borders"}
    better = {
        figure: paired(results, figure, continued, zeros, (*same, "norm", "reading"), **about, **RUNNING)
        for figure in BORDER_FIGURES
    }
    instance = {
        figure: paired(results, figure, INSTANCE, RUNNING, (*same, "padding"), **about, **zeros)
        for figure in BORDER_FIGURES
    }
    return [
        Claim(
            "borders",
            "With batch norm, another padding than zeros makes borders better.",
            better["colour"].verdict,
            " ".join(
                better[figure].says(words, "with the picture continued", "with zeros")
                for figure, words in BORDER_FIGURES.items()
            ),
        ),
        Claim(
            "borders",
            "With instance norm, zero padding leaves no coloured bands at the borders, as it does with batch norm.",
            instance["colour"].verdict,
            " ".join(
                instance[figure].says(words, WITH_INSTANCE, WITH_RUNNING) for figure, words in BORDER_FIGURES.items()
            ),
        ),
    ]


BORDER_FIGURES = {"colour": "coloured error at the border", "band": "error at the border"}


def resolution(results: Results) -> list[Claim]:
    good, shares = 0, []
    for row in results.select(experiment="resolution", norm="instance"):
        about = {"experiment": "resolution", "architecture": "untouched"}
        untouched = results.values("style", **about, style=row.about["style"], size=row.about["size"])
        shares.append(row.figures["style"] / untouched[0])
        good += shares[-1] < MAX_STYLE_SHARE
    return [
        Claim(
            "resolution",
            f"A generator that was trained at {results.settings['size']} px works at "
            f"{' and '.join(str(size) for size in results.settings['resolutions'])} px.",
            share_verdict(good, len(shares)),
            f"In {good} of {len(shares)} cases the style loss with instance norm is less than {MAX_STYLE_SHARE:.0%} of "
            f"that of the untouched photograph at this size; {mean(shares):.0%} on average.",
        )
    ]


def gatys(results: Results) -> list[Claim]:
    last = max(results.settings["yardstick_iterations"])
    worth, speedups = [], []
    for row in results.select(experiment="gatys", norm="instance"):
        run = {"experiment": "gatys", "architecture": "optimised", "style": row.about["style"]}
        course = sorted(
            (one.about["iteration"], one.figures) for one in results.select(**run, photograph=row.about["photograph"])
        )
        worth.append(worth_iterations(course, row.figures["total"]))
        speedups += [figures["seconds"] / row.figures["seconds"] for iteration, figures in course if iteration == last]
    middle = median(worth) if worth else math.nan
    factor = median(speedups) if speedups else math.nan
    return [
        Claim(
            "gatys",
            f"One pass is worth {COMPARABLE_ITERATIONS} to 100 iterations of optimisation (1703.06868, section 7.1).",
            UNMEASURED if not worth else AS_CLAIMED if middle >= COMPARABLE_ITERATIONS else NOT,
            f"The objective of one pass of a generator with instance norm is that of {middle:g} iterations of "
            f"L-BFGS, in the middle of {len(worth)} cases ({_range(worth)})."
            if middle < math.inf
            else f"In most of {len(worth)} cases {last} iterations of L-BFGS do not get below the generator.",
        ),
        Claim(
            "gatys",
            "Feeding forward is three orders of magnitude faster than optimising (1701.02096).",
            UNMEASURED if not speedups else AS_CLAIMED if factor >= ORDERS_OF_MAGNITUDE else NOT,
            f"{factor:,.0f} times faster than {last} iterations, in the middle of {len(speedups)} cases, on "
            f"{results.settings['device']}.",
        ),
    ]


def _range(worth: list[float]) -> str:
    return f"{min(worth):g} to {max(worth):g}" if max(worth, default=math.inf) < math.inf else "in some more than tried"


def worth_iterations(course: list[tuple[int, dict[str, float]]], total: float) -> float:
    """After how many iterations an optimisation is below this objective; infinite when it never is."""
    return next((iteration for iteration, figures in course if figures["total"] <= total), math.inf)


def texture(results: Results) -> list[Claim]:
    rows = results.select(experiment="texture")
    losses = [row.figures["style"] for row in rows]
    good = sum(one < TEXTURE_LOSS for one in losses)
    variety = [row.figures["difference"] / (math.sqrt(2) * row.figures["contrast"]) for row in rows]
    various = sum(one >= VARIETY for one in variety)
    return [
        Claim(
            "texture",
            "The pyramid turns noise into textures.",
            share_verdict(good, len(rows)),
            f"In {good} of {len(rows)} cases the style loss of samples is below {TEXTURE_LOSS}, where 1 is what a "
            f"picture without features would have; {mean(losses):.2f} on average.",
        ),
        Claim(
            "texture",
            "Other noise gives another sample.",
            share_verdict(various, len(rows)),
            f"In {various} of {len(rows)} cases two samples differ by at least {VARIETY:.0%} of what two independent "
            f"pictures of their contrast would; {mean(variety):.0%} on average.",
        ),
    ]


CLAIMS: dict[str, Callable[[Results], list[Claim]]] = {
    "norms": norms,
    "test_time": test_time,
    "contrast": contrast,
    "photographs": photographs,
    "borders": borders,
    "resolution": resolution,
    "gatys": gatys,
    "texture": texture,
}


def claims(results: Results) -> list[Claim]:
    """Of every experiment that has been measured."""
    return [claim for name, found in CLAIMS.items() if results.select(experiment=name) for claim in found(results)]
