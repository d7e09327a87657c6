"""What a training tells about itself while it runs: stages, losses, the time that is left, and previews."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable

import numpy as np
import structlog

from contract.errors import AtelierError
from contract.images import ImageRef, ImageStore
from contract.jobbook import Claim, JobBook
from contract.jobs import Progress, Stage
from contract.tracing import just_ended
from trainer.metrics import TrainerMetrics

log = structlog.get_logger()

REPORT_SECONDS = 0.5
LAST_STEPS = 20
"""The losses and the time of an iteration are means over this many."""

STAGE_BEGINS = {
    Stage.FETCHING: 0.0,
    Stage.PREPARING: 0.02,
    Stage.TRAINING: 0.05,
    Stage.EVALUATING: 0.75,
    Stage.PUBLISHING: 0.99,
}
"""At which fraction of the job each stage begins, as long as it is not known how long the evaluation takes."""


class Reporter:
    """Writes into the job's record, at most twice a second. A Redis or a store that is away costs a report, no more."""

    def __init__(
        self,
        book: JobBook,
        images: ImageStore,
        claim: Claim,
        preview_seconds: float,
        metrics: TrainerMetrics | None = None,
    ) -> None:
        self._metrics = metrics or TrainerMetrics()
        self._stage: Stage | None = None
        self._stage_began = time.monotonic()
        self._book = book
        self._images = images
        self._claim = claim
        self._preview_seconds = preview_seconds
        self._progress = claim.record.progress or Progress(fraction=0, stage=Stage.PREPARING)
        self._steps: deque[tuple[float, dict[str, float]]] = deque(maxlen=LAST_STEPS + 1)
        self._reported = self._previewed = float("-inf")
        self._pictures: list[bytes] = []
        self._came_to = self._progress.iteration
        self._lasts = False
        self._begins = dict(STAGE_BEGINS)
        self._evaluation = 0.0

    @property
    def died_evaluating(self) -> bool:
        """Whether an attempt before this one had learnt all of it, and died over the evaluation."""
        record = self._claim.record
        told = record.progress
        return record.attempt > 1 and told is not None and 0 < told.iterations == told.iteration

    def plan(self, iterations: int, evaluation: float) -> None:
        """How many iterations there are, and how many of them would take as long as the evaluation."""
        begins, ends = self._begins[Stage.TRAINING], self._begins[Stage.PUBLISHING]
        self._begins[Stage.EVALUATING] = begins + (ends - begins) * iterations / (iterations + evaluation)
        self._evaluation = evaluation

    def stage(self, stage: Stage, detail: str = "") -> bool:
        """A new stage, said at once; False when the job is no longer this trainer's."""
        self._enter(stage)
        return self._say(stage=stage, detail=detail, fraction=self._begins[stage], seconds_left=None, now=True)

    def fetching(self, done: float, detail: str) -> None:
        """How much of what is missing has come: a stage that most jobs do not have."""
        self._enter(Stage.FETCHING)
        self._say(stage=Stage.FETCHING, detail=detail, fraction=done * self._begins[Stage.PREPARING])

    def evaluating(self, done: float, detail: str = "") -> None:
        """How much of the evaluation is done, 0..1."""
        begins, ends = self._begins[Stage.EVALUATING], self._begins[Stage.PUBLISHING]
        took = time.monotonic() - self._stage_began
        left = round(took * (1 - done) / done, 1) if done else None
        self._say(fraction=begins + done * (ends - begins), detail=detail, seconds_left=left)

    def iteration(self, iteration: int, iterations: int, losses: dict[str, float]) -> None:
        """One more iteration is done."""
        known = {name: value for name, value in losses.items() if math.isfinite(value)}  # a record holds no NaN
        before = self._steps[-1][0] if self._steps else None
        self._steps.append((time.monotonic(), known))
        self._metrics.iteration(self._steps[-1][0] - before if before else None, known)
        self._progress = self._progress.model_copy(
            update={"iteration": iteration, "iterations": iterations, "losses": self._mean_losses()}
        )
        begins, ends = self._begins[Stage.TRAINING], self._begins[Stage.EVALUATING]
        fraction = begins + (ends - begins) * iteration / iterations
        self._say(fraction=fraction, seconds_left=self._seconds_left(iterations - iteration))

    def saved(self, seconds: float) -> None:
        """The state has been saved, in so many seconds.

        When it is ahead of what earlier attempts came to, this one was not in vain.
        """
        self._metrics.saved(seconds)
        self._lasts = self._progress.iteration > self._came_to

    def preview(self, make: Callable[[], Iterable[bytes]], *, now: bool = False) -> None:
        """Shows the pictures that ``make`` gives (JPEG), when it is time for them."""
        if not now and time.monotonic() - self._previewed < self._preview_seconds:
            return
        self._previewed = time.monotonic()
        self._pictures = list(make())
        self.keep_previews()
        self._say(now=True)

    def done(self) -> None:
        """All of it. The last previews are put into the store again, where they stay as long as the job's record."""
        self.keep_previews()
        self._say(fraction=1.0, detail="", seconds_left=0.0, now=True)

    def keep_previews(self) -> None:
        """Puts the last previews into the store (again: it forgets what is old)."""
        try:
            refs: tuple[ImageRef, ...] = tuple(map(self._images.put, self._pictures))
            self._progress = self._progress.model_copy(update={"previews": refs})
        except AtelierError as error:
            log.warning("preview lost", job=self._claim.job_id, reason=str(error))

    def close(self) -> None:
        """The attempt is over, however it ended, and its last stage with it."""
        self._enter(None)

    def _enter(self, stage: Stage | None) -> None:
        """Counts the stage that is over, as a part of the trace and among the metrics."""
        if stage is self._stage:
            return
        if self._stage:
            seconds = time.monotonic() - self._stage_began
            self._metrics.stage_over(self._stage, seconds)
            just_ended(self._stage.value, seconds)
        self._stage, self._stage_began = stage, time.monotonic()
        if stage:
            self._metrics.begins(stage)

    def _say(self, *, now: bool = False, **changes: object) -> bool:
        """False when it is known that the claim is lost."""
        self._progress = self._progress.model_copy(update=changes)
        self._metrics.progress(self._progress.fraction)
        if not now and time.monotonic() - self._reported < REPORT_SECONDS:
            return True
        self._reported = time.monotonic()
        try:
            holds = self._book.progress(self._claim, self._progress, lasts=self._lasts)
        except AtelierError as error:
            log.warning("report lost", job=self._claim.job_id, reason=str(error))
            return True
        self._lasts = False
        return holds

    def _mean_losses(self) -> dict[str, float]:
        names = {name for _, losses in self._steps for name in losses}
        return {
            name: round(float(np.mean([losses[name] for _, losses in self._steps if name in losses])), 6)
            for name in sorted(names)
        }

    def _seconds_left(self, iterations: int) -> float | None:
        """Of training and evaluation, when so many iterations are left."""
        if len(self._steps) < 2:
            return None
        each = (self._steps[-1][0] - self._steps[0][0]) / (len(self._steps) - 1)
        return round(each * (iterations + self._evaluation), 1)
