"""The stylizer: from a job to a picture in the store. It is built once and stylizes many."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from contract.errors import BlendError, ImageLostError
from contract.images import ImageStore, PictureFile, PictureSize, fitted
from contract.jobs import StylizeJob, StylizeResult, Timings
from contract.styles import StyleCard, StyleRef, StyleStore
from contract.tracing import just_ended, span
from generator.checkpoint import content_row, style_vector
from generator.pictures import FORMATS, Picture, decode, encode, pixel_count
from generator.pixels import Pixels
from worker.batcher import Batcher
from worker.colours import towards_palette_of, with_colours_of
from worker.memory import DecodedPictures

VECTOR_CACHE = 4096
"""Style vectors in memory: 13 kB each for the full-width network."""
TRUNK_CACHE = 256
"""Trunks whose content row is in memory, 13 kB each, too."""


@dataclass
class Stopwatch:
    """Collects how long the stages take; what was measured is kept when a stage fails."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            with span(stage.removesuffix("_seconds")):
                yield
        finally:
            self.seconds[stage] = round(time.perf_counter() - start, 6)

    def timings(self) -> Timings:
        return Timings(**self.seconds)


class Attempt(Protocol):
    """What the stylizer tells of its progress, and asks: is the picture still wanted?"""

    def holds(self) -> bool: ...
    def waits(self) -> None: ...
    def works(self) -> None: ...
    def progressed(self, fraction: float) -> None: ...


class Stylizer:
    """decode → generate → encode → keep."""

    def __init__(
        self, images: ImageStore, styles: StyleStore, batcher: Batcher, max_pixels: int, memory: DecodedPictures
    ) -> None:
        self._images = images
        self._styles = styles
        self._batcher = batcher
        self._max_pixels = max_pixels
        self._memory = memory
        self._style = lru_cache(maxsize=VECTOR_CACHE)(self._load_style)
        self._content_row = lru_cache(maxsize=TRUNK_CACHE)(self._load_content_row)

    def stylize(self, job: StylizeJob, watch: Stopwatch, attempt: Attempt) -> StylizeResult:
        """Makes the picture and puts it into the store.

        Raises AtelierError for what can go wrong with the job, CancelledError when the attempt holds no more.
        """
        trunk, vector = self._blend(job)
        data = self._open(job)
        attempt.waits()
        size = size_of(data, job.size)
        with self._memory.reserved(size, attempt.holds) as room:
            attempt.works()
            with watch.measure("decode_seconds"):
                content = decode(data, long_side=job.size, max_pixels=self._max_pixels)
            room.shrink_to(size.result_pixels)
            attempt.waits()
            with span("batch") as batch:  # the turn is waited for, then the engine works
                stylized = self._batcher.submit(
                    trunk, content.pixels, vector, attempt.holds, attempt.works, attempt.progressed
                ).result()
                just_ended("compute", stylized.compute_seconds)
                batch.tell(atelier__batch_size=stylized.batch_size)
            watch.seconds["compute_seconds"] = round(stylized.compute_seconds, 6)
            with watch.measure("encode_seconds"):
                result = Picture(_coloured(job, content.pixels, stylized.pixels), content.alpha)
                del content, stylized  # a large picture is three bytes a pixel, and encoding takes four more
                image = self._images.put(encode(result, job.media_type, job.quality))
        height, width = result.pixels.shape[:2]
        return StylizeResult(
            media_type=job.media_type, width=width, height=height, bytes=image.bytes, sha256=image.sha256
        )

    def _open(self, job: StylizeJob) -> bytes:
        try:
            return self._images.open(job.content)
        except FileNotFoundError:
            raise ImageLostError("The uploaded picture is no longer in the store: send it again.") from None

    def _blend(self, job: StylizeJob) -> tuple[str, Tensor]:
        """(trunk, style vector [S]) of what a job asks for: its styles mixed by weight, then set to its strength.

        Strength is on the line from the trunk's content row (0) through the mixed vector (1); below 1 the colours go
        back to those of the photograph as well (``worker.colours``).
        """
        cards, vectors = zip(*(self._style(share.style) for share in job.styles), strict=True)
        trunk, *others = {card.trunk for card in cards}
        if others:  # the gateway has seen to it, and cards do not change
            raise BlendError(f"{job.style} cannot be blended: these styles do not share a trunk.")
        vector = torch.stack([share.weight * v for share, v in zip(job.styles, vectors, strict=True)]).sum(dim=0)
        return trunk, vector if job.strength == 1 else torch.lerp(self._content_row(trunk), vector, job.strength)

    def _load_content_row(self, trunk: str) -> Tensor:
        row = content_row(self._styles.read_trunk(trunk))
        if row is None:
            raise BlendError(
                "The strength of this style cannot be set, since its network cannot reproduce the photograph: leave "
                "strength at 1, or take a style that has_content_row."
            )
        return row

    def _load_style(self, ref: StyleRef) -> tuple[StyleCard, Tensor]:
        card = self._styles.get(str(ref))
        return card, style_vector(self._styles.vector(card))


def size_of(data: bytes, long_side: int | None) -> PictureSize:
    """The size of a picture that is not decoded yet, and of its result. Raises as ``decode``."""
    pixels = pixel_count(data)
    if long_side is None:
        return PictureSize(pixels, pixels)
    with Image.open(PictureFile(data), formats=FORMATS) as image:  # its header is good, or we were not here
        return PictureSize(pixels, math.prod(fitted(image.size, long_side)))


def _coloured(job: StylizeJob, content: Pixels, stylized: Pixels) -> Pixels:
    """The stylized picture in the colours that the job asks for."""
    if job.strength < 1:
        stylized = towards_palette_of(content, stylized, 1 - job.strength)
    return with_colours_of(content, stylized) if job.preserve_color else stylized
