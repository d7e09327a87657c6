"""Two ways under otherwise equal conditions: how often one is better, by how much, and what to call that."""

import math
from dataclasses import dataclass
from typing import Any

from trainer.paper.results import Results

AS_CLAIMED = "as claimed"
MOSTLY = "mostly as claimed"
UNDECIDED = "undecided"
NOT = "not as claimed"
UNMEASURED = "not measured"

MOST = 0.75
"""The share of runs that is most of them."""
HARDLY = 0.05
"""A difference that is smaller than this share counts as hardly one."""

LOSSES = {"total": "held-out objective", "style": "held-out style loss", "content": "held-out content loss"}
WITH_INSTANCE = "with instance norm"
WITH_RUNNING = "with batch norm and its running averages"
WITH_BATCH = "with batch norm and the statistics of the batch"
WITH_SINGLE = "with batch norm and one picture's own statistics"


@dataclass(frozen=True)
class Claim:
    """What somebody said, what came out, and the numbers for it."""

    experiment: str
    text: str
    verdict: str
    evidence: str


@dataclass(frozen=True)
class Pairs:
    """A figure of two ways under otherwise equal conditions, as (ours, theirs). Lower is better."""

    pairs: tuple[tuple[float, float], ...]

    @property
    def wins(self) -> int:
        return sum(ours < theirs for ours, theirs in self.pairs)

    @property
    def count(self) -> int:
        return len(self.pairs)

    @property
    def ratio(self) -> float:
        """The geometric mean of ours/theirs."""
        if not self.pairs:
            return math.nan
        logarithms = [math.log(max(ours, 1e-9) / max(theirs, 1e-9)) for ours, theirs in self.pairs]
        return math.exp(sum(logarithms) / len(logarithms))

    @property
    def verdict(self) -> str:
        """Of the claim that ours is lower."""
        if not self.pairs:
            return UNMEASURED
        if self.wins == self.count:
            return f"{AS_CLAIMED}, but hardly" if self.ratio > 1 - HARDLY else AS_CLAIMED
        if self.wins >= MOST * self.count and self.ratio < 1:
            return MOSTLY
        return NOT if self.wins <= (1 - MOST) * self.count else UNDECIDED

    def says(self, what: str, ours: str, theirs: str) -> str:
        """How often ``what`` was lower, and by how much, in a sentence."""
        if not self.pairs:
            return f"The {what} {ours} and {theirs} was not measured."
        return (
            f"The {what} is lower {ours} than {theirs} in {self.wins} of {self.count}, on average {self.times} as much."
        )

    @property
    def times(self) -> str:
        """The ratio in words."""
        if not 0.01 <= self.ratio <= 100:
            return "less than a hundredth" if self.ratio < 1 else "more than a hundred times"
        return f"{self.ratio:.2f} times"


def paired(
    results: Results, figure: str, ours: dict[str, Any], theirs: dict[str, Any], same: tuple[str, ...], **about: Any
) -> Pairs:
    """Rows of ``ours`` and of ``theirs`` that have what is ``same`` in common."""
    pairs = []
    for row in results.select(**{**about, **ours}):
        partner = results.values(figure, **{**about, **theirs, **{name: row.about[name] for name in same}})
        if partner:
            pairs.append((row.figures[figure], partner[0]))
    return Pairs(tuple(pairs))


INSTANCE = {"norm": "instance", "reading": "instance"}
RUNNING = {"norm": "batch", "reading": "running"}
BATCH = {"norm": "batch", "reading": "batch"}
SINGLE = {"norm": "batch", "reading": "single"}
RUN = ("architecture", "style", "seed", "light", "padding")


def share_verdict(count: int, total: int) -> str:
    """Of a claim that holds in ``count`` of ``total`` cases."""
    if not total:
        return UNMEASURED
    if count == total:
        return AS_CLAIMED
    if count >= MOST * total:
        return MOSTLY
    return NOT if count <= (1 - MOST) * total else UNDECIDED


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
