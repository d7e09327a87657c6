"""What the numbers say to the paper's main claims: those of batch norm and instance norm in both generators."""

import math
from statistics import median
from typing import Any

from trainer.paper.pairs import (
    AS_CLAIMED,
    BATCH,
    INSTANCE,
    LOSSES,
    NOT,
    RUN,
    RUNNING,
    SINGLE,
    UNMEASURED,
    WITH_BATCH,
    WITH_INSTANCE,
    WITH_RUNNING,
    WITH_SINGLE,
    Claim,
    paired,
    share_verdict,
)
from trainer.paper.results import Results

SIMILAR = 1.25
"""Losses that are within this factor of each other are similar."""
WORSE = 1.02
"""How much larger than its lowest a loss must be to have risen."""


def norms(results: Results) -> list[Claim]:
    return [
        *(_better_with_instance_norm(results, architecture) for architecture in ("pyramid", "residual")),
        _faster(results),
        _not_only_at_test_time(results),
        _rises(results),
        _similar_architectures(results),
    ]


def _final(results: Results) -> dict[str, Any]:
    return {"experiment": "norms", "part": "losses", "iteration": results.settings["iterations"]}


def _better_with_instance_norm(results: Results, architecture: str) -> Claim:
    about = {**_final(results), "architecture": architecture}
    found = {
        figure: paired(results, figure, INSTANCE, RUNNING, RUN, **about) for figure in ("total", "style", "content")
    }
    return Claim(
        "norms",
        f"Instance norm in place of batch norm, with nothing else changed, improves the {architecture} generator.",
        found["total"].verdict,
        " ".join(found[figure].says(words, WITH_INSTANCE, WITH_RUNNING) for figure, words in LOSSES.items()),
    )


def _faster(results: Results) -> Claim:
    """When instance norm gets to where batch norm ends."""
    final, milestones = _final(results), _milestones(results)
    reached = []
    for row in results.select(**final, **RUNNING):
        run = {name: row.about[name] for name in RUN}
        losses = {i: results.values("total", **{**final, "iteration": i}, **INSTANCE, **run) for i in milestones}
        under = [i for i in milestones if losses[i] and losses[i][0] <= row.figures["total"]]
        if any(losses.values()):
            reached.append(under[0] if under else math.inf)
    early = sum(when < results.settings["iterations"] for when in reached)
    middle = median(reached) if reached else math.inf
    when = f"in the middle one at iteration {middle:.0f}" if middle < math.inf else "in most of them never"
    return Claim(
        "norms",
        "With instance norm the loss falls faster (1703.06868, figure 1).",
        share_verdict(early, len(reached)),
        f"In {early} of {len(reached)} runs the held-out objective with instance norm was below the last one with "
        f"batch norm before the end, {when} of {results.settings['iterations']}.",
    )


def _milestones(results: Results) -> list[int]:
    return sorted({row.about["iteration"] for row in results.select(experiment="norms", part="losses")})


def _not_only_at_test_time(results: Results) -> Claim:
    """Batch norm with the statistics of a single picture is instance norm, at test time but not in training."""
    against_single = paired(results, "total", INSTANCE, SINGLE, RUN, **_final(results))
    against_batch = paired(results, "total", INSTANCE, BATCH, RUN, **_final(results))
    single = paired(results, "total", SINGLE, RUNNING, RUN, **_final(results))
    return Claim(
        "norms",
        "It is training with instance norm that helps, not only the statistics at test time.",
        against_single.verdict,
        " ".join(
            [
                against_single.says("held-out objective", WITH_INSTANCE, WITH_SINGLE),
                against_batch.says("held-out objective", WITH_INSTANCE, WITH_BATCH),
                single.says("held-out objective", WITH_SINGLE, WITH_RUNNING),
            ]
        ),
    )


def _rises(results: Results) -> Claim:
    final = _final(results)
    risen, runs = 0, results.select(**final, **RUNNING)
    for row in runs:
        run = {name: row.about[name] for name in RUN}
        course = [results.values("total", **{**final, "iteration": i}, **RUNNING, **run) for i in _milestones(results)]
        risen += row.figures["total"] > WORSE * min(values[0] for values in course if values)
    return Claim(
        "norms",
        "With batch norm, training longer makes results worse, so it had to be stopped early.",
        share_verdict(risen, len(runs)),
        f"In {risen} of {len(runs)} runs with batch norm the held-out objective at the end was more than "
        f"{WORSE - 1:.0%} above that of an earlier milestone. The schedule here ends with small steps, and the paper "
        "trained longer than this.",
    )


def _similar_architectures(results: Results) -> Claim:
    same = ("style", "seed", "light", "padding")
    found = {
        norm: paired(
            results,
            "total",
            {"architecture": "residual"},
            {"architecture": "pyramid"},
            same,
            **_final(results),
            **reading,
        )
        for norm, reading in (("instance", INSTANCE), ("batch", RUNNING))
    }
    seconds = paired(
        results, "seconds", {"architecture": "residual"}, {"architecture": "pyramid"}, (*same, "photograph"),
        experiment="gatys", norm="instance",
    )  # fmt: skip
    ratio = found["instance"].ratio
    similar = AS_CLAIMED if 1 / SIMILAR < ratio < SIMILAR else NOT
    quicker = seconds.verdict
    return Claim(
        "norms",
        "The two generators are of similar quality, and the residual one is somewhat more efficient.",
        UNMEASURED
        if math.isnan(ratio)
        else similar
        if similar == quicker
        else f"{similar} in quality, {quicker} in time",
        f"The held-out objective of the residual generator is {ratio:.2f} times that of the pyramid with instance "
        f"norm, {found['batch'].ratio:.2f} times with batch norm. "
        f"{seconds.says('time for a picture', 'with the residual one', 'with the pyramid')} "
        f"({results.settings['residual_width']} and {results.settings['pyramid_width']} channels in the "
        "first layer).",
    )
