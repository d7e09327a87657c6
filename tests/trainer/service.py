"""A place to learn styles in: a store with a bank, a Redis, photographs, and everything tiny."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from celery import Celery
from obstore.store import ObjectStore
from PIL import Image

from contract.images import ImageRef, ImageStore
from contract.jobbook import JobBook, connect
from contract.jobs import JobRecord, Progress, TrainJob, TrainResult
from contract.queue import JobQueue, celery_app
from contract.storage import open_storage
from contract.styles import StyleCard, StyleDescription, StyleSource, StyleStore
from generator.checkpoint import CONTENT_ROW, Checkpoint, style_vector, trunk_of, vector_of
from generator.pixels import to_pixels, to_tensor
from tests.conftest import tiny_bank
from tests.pictures import encoded
from tests.trainer.conftest import patches
from trainer.evaluation import stylized_with
from trainer.learner import TRAININGS
from trainer.settings import TrainerSettings

LONG = 100_000
"""Iterations that no test waits for."""


@dataclass(frozen=True)
class Service:
    """What gateway, clients and trainers share."""

    settings: TrainerSettings

    @cached_property
    def storage(self) -> ObjectStore:
        return open_storage(self.settings.store_url)

    @cached_property
    def styles(self) -> StyleStore:
        return StyleStore(self.storage)

    @cached_property
    def images(self) -> ImageStore:
        return ImageStore(self.storage)

    @cached_property
    def book(self) -> JobBook:
        return JobBook(connect(self.settings.redis_url, patience_seconds=2), self.settings)

    @cached_property
    def queue(self) -> JobQueue:
        app: Celery = celery_app(self.settings)
        return JobQueue(app, self.book, connect(self.settings.redis_url, patience_seconds=2))

    @property
    def base(self) -> StyleCard:
        return self.styles.get("base")

    def other(self, **changes: Any) -> "Service":
        return Service(self.settings.model_copy(update=changes))

    def publish(self, name: str, bank: Checkpoint, source: StyleSource = StyleSource.BUILTIN) -> StyleCard:
        """The row of this name of a bank."""
        about = StyleDescription(
            name=name,
            source=source,
            architecture=bank.config.architecture,
            norm=bank.config.norm,
            width=bank.config.width,
            has_content_row=bank.names[0] == CONTENT_ROW,
        )
        return self.styles.publish(about, trunk_of(bank), vector_of(bank, name))

    def job(self, name: str = "mine", picture: bytes | None = None, **options: Any) -> TrainJob:
        """A quick one of a few iterations, of a painting that is learnt easily."""
        image = self.images.put(easy_painting() if picture is None else picture)
        return TrainJob(**{"name": name, "images": (image,), "stroke_size": 0.25, "iterations": 3, **options})

    def create(self, name: str = "mine", picture: bytes | None = None, **options: Any) -> str:
        """The id of a job that waits, without a ticket."""
        return self.book.create(self.job(name, picture, **options)).id

    def progress(self, job_id: str) -> Progress | None:
        return self.book.get(job_id).progress

    def iteration(self, job_id: str) -> int:
        progress = self.progress(job_id)
        return progress.iteration if progress else 0

    def saved(self, job_id: str) -> dict[str, Any] | None:
        """The state that is in the store."""
        path = Path(self.settings.store_url) / TRAININGS / job_id / "state.pt"
        return torch.load(path, weights_only=True) if path.exists() else None

    def leftovers(self) -> list[str]:
        """The files of trainings that are in the store."""
        folder = Path(self.settings.store_url) / TRAININGS
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

    def vector(self, style: str) -> torch.Tensor:
        return style_vector(self.styles.vector(self.styles.get(style)))

    def stylized(self, style: str, content: torch.Tensor) -> torch.Tensor:
        """What a worker would make of these photographs."""
        generator = Checkpoint.from_bytes(self.styles.read_trunk(self.styles.get(style).trunk)).generator()
        return stylized_with(generator, self.vector(style), content)


def base_bank() -> Checkpoint:
    return tiny_bank(CONTENT_ROW, "base")


def easy_painting() -> bytes:
    """A picture that the base's own row has made."""
    bank, content = base_bank(), to_tensor(np.array(patches(9, 128, 128)))
    stylized = stylized_with(bank.generator(), bank.styles[1], content[None])
    return encoded(Image.fromarray(to_pixels(stylized[0])), "PNG")


def hard_painting() -> bytes:
    """Something else altogether."""
    return encoded(patches(77, 64, 64), "PNG")


def result_of(record: JobRecord) -> TrainResult:
    assert isinstance(record.result, TrainResult), record.error
    return record.result


def gone(images: ImageStore) -> ImageRef:
    """A picture that has been swept."""
    return images.put(b"gone").model_copy(update={"sha256": "0" * 64})
