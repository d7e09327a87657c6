"""The learner: from a job to a published style. It is built once and learns many."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import structlog
import torch
from obstore.store import ObjectStore
from PIL import Image
from torch import Tensor

from contract.errors import ImageLostError, SettingsError, TrainingDataError
from contract.images import ImageRef, ImageStore
from contract.jobs import Stage, TrainJob, TrainResult
from contract.styles import (
    Evaluation,
    StyleCard,
    StyleDescription,
    StylePicture,
    StyleSource,
    StyleStatus,
    StyleStore,
)
from contract.styles import Training as TrainingCard
from generator.checkpoint import CONTENT_ROW, Checkpoint, style_vector, trunk_of, vector_of
from generator.devices import is_out_of_memory
from generator.pictures import decode
from generator.pixels import to_tensor
from trainer.content import MAX_PIXELS, Photographs, longer_side
from trainer.descriptor import Descriptor
from trainer.evaluation import evaluate, shortcoming, stylized_with
from trainer.fetch import descriptor_file, fetch_missing, photographs_folder
from trainer.perceptual import PRESETS, PerceptualLoss
from trainer.precision import choose_precision
from trainer.recipes import LOSS, Recipe, config_of, recipe_of
from trainer.reporter import Reporter
from trainer.rows import best_row, calibrated, trial
from trainer.runs import Run
from trainer.settings import TrainerSettings
from trainer.sheets import jpeg, wide_sheet
from trainer.training import TrainConfig, Training

log = structlog.get_logger()

TRAININGS = "trainings/"
"""Where the states of trainings are in the store, by the id of their job."""
PREVIEWS = 3
EVALUATED = 8
GPU_THREADS = 8
"""How many batches are made ahead of a GPU."""
CANDIDATES = 16
"""From how many rows at most the one is chosen where a new style starts."""
EVALUATIONS_A_STEP = 1.25
"""How often L-BFGS looks at the loss in an iteration, on average."""
STYLE_ROW, STYLE_NAME = 1, "style"
"""Where the new style is in the bank that is trained, and what it is called there: its own name may be any."""

Stopped = Callable[[], bool]


class StoppedError(Exception):
    """The training was told to stop, and its state is saved; or its claim is lost, and its state is not its own."""


@dataclass(frozen=True)
class Base:
    """What a new style starts from: a trunk as it is in the store, and all styles on it."""

    trunk: bytes
    bank: Checkpoint
    name: str

    @property
    def has_content_row(self) -> bool:
        return self.bank.names[0] == CONTENT_ROW


@dataclass(frozen=True)
class Lesson:
    """One job, and everything that is needed to do it."""

    job: TrainJob
    base: Base
    run: Run
    contents: Tensor
    """Photographs that are held out [B,3,H,W]."""


class Learner:
    """fetch → prepare → train → evaluate → publish."""

    def __init__(
        self,
        settings: TrainerSettings,
        storage: ObjectStore,
        images: ImageStore,
        styles: StyleStore,
        device: torch.device,
    ) -> None:
        self._settings = settings
        self._storage = storage
        self._images = images
        self._styles = styles
        self._device = device
        self._precision = choose_precision(device)
        self._size = settings.training_size
        self._descriptor = lru_cache(maxsize=2)(self._load_descriptor)

    def learn(self, job_id: str, job: TrainJob, reporter: Reporter, stopped: Stopped) -> TrainResult:
        """Trains and publishes. A job that another trainer has begun is gone on with.

        Raises AtelierError for what can go wrong with the job, StoppedError when it was stopped.
        """
        self._fetch(reporter, stopped)
        reporter.stage(Stage.PREPARING)
        lesson = self._prepare(job_id, job, reporter)
        self._train(lesson, reporter, stopped)
        reporter.stage(Stage.EVALUATING)
        return self._publish(lesson, reporter, stopped)

    # --- Preparing ---

    def _fetch(self, reporter: Reporter, stopped: Stopped) -> None:
        def report(line: str, fraction: float) -> None:
            reporter.fetching(fraction, line)

        if not fetch_missing(self._settings, report, stopped):
            raise StoppedError

    def _prepare(self, job_id: str, job: TrainJob, reporter: Reporter) -> Lesson:
        folder = self._folder(job)
        base, photographs = self._base(), Photographs(folder, seed=0)
        config = config_of(job, self._recipe(job), base.bank.config)
        pictures = [self._style_picture(ref, config.style_size) for ref in job.images]
        loss = PerceptualLoss(self._descriptor(folder), config.loss).with_styles([pictures])
        start = self._start(base, loss, photographs, config)
        inputs = hashlib.sha256("".join(ref.sha256 for ref in job.images).encode() + base.trunk).hexdigest()
        training = Training(config, start.names, self._device, start, self._precision, inputs)
        run = Run(
            training,
            photographs,
            loss,
            self._storage,
            f"{TRAININGS}{job_id}/",
            self._settings.checkpoint_seconds,
            threads=GPU_THREADS if self._device.type == "cuda" else 1,
            exports=False,
            saved=reporter.saved,
        )
        _resume(run)
        return Lesson(job, base, run, photographs.held_out_squares(EVALUATED, self._size).to(self._device))

    def _recipe(self, job: TrainJob) -> Recipe:
        return recipe_of(job, self._device.type, self._size)

    def _folder(self, job: TrainJob) -> Path:
        folder = photographs_folder(self._settings)
        assert folder is not None, "it has been fetched"
        if job.content is None:
            return folder
        if not (folder / job.content).is_dir():
            there = sorted(path.name for path in folder.iterdir() if path.is_dir())
            raise TrainingDataError(
                f"The trainer's photographs have no folder {job.content!r}; "
                + (f"they have {', '.join(there)}." if there else "they have no folders at all: leave `content` out.")
            )
        return folder / job.content

    def _load_descriptor(self, folder: Path) -> Descriptor:
        """For the losses of all jobs, which differ in their weights only."""
        config = PRESETS[LOSS]
        weights = descriptor_file(self._settings, config.network)
        assert weights is not None, "it has been fetched"
        return calibrated(weights, config, Photographs(folder, seed=0), self._device, self._size)

    def _style_picture(self, ref: ImageRef, long_side: int) -> Tensor:
        try:
            data = self._images.open(ref)
        except FileNotFoundError:
            raise ImageLostError("A style picture is no longer in the store: send it again.") from None
        picture = Image.fromarray(decode(data, long_side=None, max_pixels=MAX_PIXELS).pixels)
        return to_tensor(np.array(longer_side(picture, long_side))).to(self._device)

    def _base(self) -> Base:
        cards = self._styles.cards()
        chosen = self._base_card(cards)
        trunk = self._styles.read_trunk(chosen.trunk)
        bank = Checkpoint.from_bytes(trunk)
        others = [card for card in cards if card.trunk == chosen.trunk and card.ref != chosen.ref]
        others.sort(key=lambda card: card.source is not StyleSource.BUILTIN)
        siblings = [chosen, *others][:CANDIDATES]
        rows = [style_vector(self._styles.vector(card)) for card in siblings]
        names = (*bank.names, *(str(card.ref) for card in siblings))
        return Base(
            trunk, Checkpoint(bank.config, bank.trunk, names, torch.stack([*bank.styles, *rows])), str(chosen.ref)
        )

    def _base_card(self, cards: list[StyleCard]) -> StyleCard:
        """The style that the settings name, else one that ships with Atelier, else any."""
        if self._settings.base_style:
            return self._styles.get(self._settings.base_style)
        ours = [card for card in cards if card.source is StyleSource.BUILTIN and card.has_content_row]
        for card in (*sorted(ours, key=lambda card: -card.width), *cards):
            return card
        raise TrainingDataError("There is no style on whose trunk a new one could be learnt: import a bank first.")

    def _start(self, base: Base, loss: PerceptualLoss, photographs: Photographs, config: TrainConfig) -> Checkpoint:
        """The content's row and, for the new style, the row that is nearest to it already."""
        best = best_row(base.bank, loss, trial(photographs, config.size).to(self._device), STYLE_ROW)
        content = base.bank.styles[0] if base.has_content_row else best
        return Checkpoint(base.bank.config, base.bank.trunk, (CONTENT_ROW, STYLE_NAME), torch.stack([content, best]))

    # --- Training ---

    def _train(self, lesson: Lesson, reporter: Reporter, stopped: Stopped) -> None:
        training = lesson.run.training
        reporter.plan(training.config.iterations, self._evaluation_in_iterations(lesson, reporter))
        reporter.stage(Stage.TRAINING)

        def previews() -> list[bytes]:
            style = training.styles[STYLE_ROW]
            return [jpeg(picture) for picture in stylized_with(training.generator, style, lesson.contents[:PREVIEWS])]

        def report(losses: dict[str, float]) -> None:
            reporter.iteration(training.iteration, training.config.iterations, losses)
            reporter.preview(previews)

        reporter.preview(previews)
        if not lesson.run.train(report, stopped):
            raise StoppedError
        reporter.preview(previews, now=True)

    # --- Publishing ---

    def _publish(self, lesson: Lesson, reporter: Reporter, stopped: Stopped) -> TrainResult:
        bank, trunk = lesson.run.training.checkpoint(), lesson.base.trunk
        if lesson.job.quality == "full":
            bank = bank.half()  # before the evaluation: what is evaluated is what is published
            trunk = trunk_of(bank)
        generator = bank.generator().to(self._device)
        stylized = stylized_with(generator, bank.styles[STYLE_ROW].to(self._device), lesson.contents)
        evaluation = self._evaluate(lesson, stylized, reporter, stopped)
        if not reporter.stage(Stage.PUBLISHING):  # canceled in the meantime
            raise StoppedError
        vector = vector_of(bank, STYLE_NAME)
        reason = shortcoming(evaluation, stylized) or self._taken(lesson.job, vector)
        description = _description(lesson, evaluation, reason)
        pictures = {
            StylePicture.THUMBNAIL: jpeg(stylized[0]),
            StylePicture.SHEET: jpeg(wide_sheet(lesson.contents, stylized)),
        }
        card = self._styles.publish(description, trunk, vector, pictures, once=True)
        reporter.done()
        return TrainResult(style=card.ref, status=card.status, reason=card.reason, evaluation=card.evaluation)

    def _taken(self, job: TrainJob, vector: bytes) -> str:
        """Why it may not become the active version, when another style has been given its name while it was learnt."""
        active = self._styles.active_card(job.name)
        if job.replace or active is None or self._styles.vector(active) == vector:  # its own, of an attempt cut off
            return ""
        return f"While it was learnt, {active.ref} was published: activate this version to put it in its place."

    def _evaluate(self, lesson: Lesson, stylized: Tensor, reporter: Reporter, stopped: Stopped) -> Evaluation:
        def look(fraction: float) -> bool:
            reporter.evaluating(fraction, "optimising pictures to compare with")
            return not stopped()

        def evaluation(yardsticks: int) -> Evaluation:
            iterations = self._recipe(lesson.job).yardstick_iterations
            loss, contents = lesson.run.loss, lesson.contents
            return evaluate(
                loss, STYLE_ROW, contents, stylized, yardsticks=yardsticks, iterations=iterations, look=look
            )

        try:
            found = evaluation(self._yardsticks(lesson, reporter))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.warning("evaluated without optimised pictures: there is too little memory for them")
            found = evaluation(0)
        if stopped():
            raise StoppedError
        return found

    def _yardsticks(self, lesson: Lesson, reporter: Reporter) -> int:
        """How many photographs are optimised: none when an attempt before this one died over them."""
        return 0 if reporter.died_evaluating else min(self._recipe(lesson.job).yardsticks, len(lesson.contents))

    def _evaluation_in_iterations(self, lesson: Lesson, reporter: Reporter) -> float:
        """How many iterations of the training take about as long: a step of L-BFGS has one picture, in float32, where
        an iteration has a batch, and a generator before the descriptor.
        """
        config = lesson.run.training.config
        steps = self._yardsticks(lesson, reporter) * self._recipe(lesson.job).yardstick_iterations * EVALUATIONS_A_STEP
        return steps * (self._size / config.size) ** 2 / config.batch


def _resume(run: Run) -> None:
    try:
        if run.resume():
            log.info("training goes on", iteration=run.training.iteration)
    except SettingsError:  # the base has changed since: a state of other weights is of no use
        log.warning("training begins anew: its base is another one now")


def _description(lesson: Lesson, evaluation: Evaluation, reason: str) -> StyleDescription:
    job, training, config = lesson.job, lesson.run.training, lesson.run.training.config
    return StyleDescription(
        name=job.name,
        title=job.title or job.name.replace("_", " ").replace("-", " ").strip().capitalize(),
        description=job.description,
        source=StyleSource.TRAINED,
        architecture=config.generator.architecture,
        norm=config.generator.norm,
        width=config.generator.width,
        has_content_row=job.quality == "full" or lesson.base.has_content_row,
        status=StyleStatus.DRAFT if reason else StyleStatus.PUBLISHED,
        reason=reason,
        training=TrainingCard(
            method=job.quality,
            iterations=training.iteration,
            seconds=round(training.seconds, 1),
            batch=config.batch,
            size=config.size,
            style_size=config.style_size,
            loss=LOSS,
            style_weight=config.loss.style_weight,
            start=lesson.base.name,
        ),
        evaluation=evaluation,
    )
