"""The stylizer: from a job to a picture in the store. It is built once and stylizes many."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from torch import Tensor

from contract.errors import ImageLostError
from contract.images import ImageStore
from contract.jobs import JobResult, StylizeJob, Timings
from contract.styles import StyleCard, StyleRef, StyleStore
from generator.checkpoint import style_vector
from worker.batcher import Batcher
from worker.pictures import Picture, decode, encode

VECTOR_CACHE = 4096
"""Style vectors in memory: 13 kB each for the full-width network."""


@dataclass
class Stopwatch:
    """Collects how long the stages take; what was measured is kept when a stage fails."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
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


class Stylizer:
    """decode → generate → encode → keep."""

    def __init__(self, images: ImageStore, styles: StyleStore, batcher: Batcher, max_pixels: int) -> None:
        self._images = images
        self._styles = styles
        self._batcher = batcher
        self._max_pixels = max_pixels
        self._style = lru_cache(maxsize=VECTOR_CACHE)(self._load_style)

    def stylize(self, job: StylizeJob, watch: Stopwatch, attempt: Attempt) -> JobResult:
        """Makes the picture and puts it into the store.

        Raises AtelierError for what can go wrong with the job, CancelledError when the attempt holds no more.
        """
        with watch.measure("decode_seconds"):
            content = decode(self._open(job), long_side=job.size, max_pixels=self._max_pixels)
            card, vector = self._style(job.style)
        attempt.waits()
        stylized = self._batcher.submit(card.trunk, content.pixels, vector, attempt.holds, attempt.works).result()
        watch.seconds["compute_seconds"] = round(stylized.compute_seconds, 6)
        with watch.measure("encode_seconds"):
            data = encode(Picture(stylized.pixels, content.alpha), job.media_type, job.quality)
            image = self._images.put(data)
        height, width = stylized.pixels.shape[:2]
        return JobResult(media_type=job.media_type, width=width, height=height, bytes=image.bytes, sha256=image.sha256)

    def _open(self, job: StylizeJob) -> bytes:
        try:
            return self._images.open(job.content)
        except FileNotFoundError:
            raise ImageLostError("The uploaded picture is no longer in the store: send it again.") from None

    def _load_style(self, ref: StyleRef) -> tuple[StyleCard, Tensor]:
        card = self._styles.get(str(ref))
        return card, style_vector(self._styles.vector(card))
