"""What Prometheus reads of a trainer: how its jobs end, and how the one that runs is doing.

What a worker tells under the same names is ``JobMetrics``. No label holds anything that a client made up.
"""

from prometheus_client import Gauge, Histogram

from contract.jobs import Stage
from contract.metrics import JobMetrics, process_registry

STAGES = (Stage.FETCHING, Stage.PREPARING, Stage.TRAINING, Stage.EVALUATING, Stage.PUBLISHING)
LOSSES = ("total", "content", "style")
ITERATION_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
CHECKPOINT_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
STAGE_SECONDS = (0.1, 1, 5, 15, 60, 300, 900, 3600, 10_800, 43_200)


class TrainerMetrics:
    """The figures of one trainer process."""

    def __init__(self) -> None:
        self.registry = registry = process_registry()
        self._jobs = JobMetrics(
            registry,
            "train",
            successes="published, draft",
            stages="Stages of trainings that are over.",
            stage_seconds=STAGE_SECONDS,
        )
        self._stage = Gauge(
            "atelier_training_stage", "1 for the stage of the running job.", ("stage",), registry=registry
        )
        self._fraction = Gauge("atelier_training_fraction", "How much of the running job is done.", registry=registry)
        self._losses = Gauge("atelier_training_loss", "Losses of the running job.", ("loss",), registry=registry)
        self._iterations = Histogram(
            "atelier_training_iteration_seconds",
            "Iterations that were done, and how long they took.",
            buckets=ITERATION_SECONDS,
            registry=registry,
        )
        self._checkpoints = Histogram(
            "atelier_training_checkpoint_seconds",
            "States of trainings that were saved, and how long it took.",
            buckets=CHECKPOINT_SECONDS,
            registry=registry,
        )
        self._show(None)

    # --- The edge of the task ---

    def ended(self, outcome: str, code: str = "") -> None:
        """An attempt is over, and nothing runs."""
        self._jobs.ended(outcome, code)
        self._show(None)
        self._fraction.set(0)
        for loss in LOSSES:
            self._losses.labels(loss).set(float("nan"))

    # --- The reporter ---

    def begins(self, stage: Stage) -> None:
        self._show(stage)

    def stage_over(self, stage: Stage, seconds: float) -> None:
        self._jobs.stage_over(stage.value, seconds)

    def progress(self, fraction: float) -> None:
        self._fraction.set(fraction)

    def iteration(self, seconds: float | None, losses: dict[str, float]) -> None:
        """One more; of the first of an attempt it is not known how long it took."""
        if seconds is not None:
            self._iterations.observe(seconds)
        for name in LOSSES:
            if name in losses:
                self._losses.labels(name).set(losses[name])

    def saved(self, seconds: float) -> None:
        self._checkpoints.observe(seconds)

    def _show(self, current: Stage | None) -> None:
        for stage in STAGES:
            self._stage.labels(stage.value).set(int(stage is current))
