"""Photographs to train on: any folder of pictures, some of which are held out for evaluation."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import structlog
import torch
from PIL import Image
from torch import Tensor

from contract.errors import AtelierError, ImageTooSmallError, SettingsError, TrainingDataError
from generator.pictures import decode
from generator.pixels import to_tensor

log = structlog.get_logger()

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".avif"}
MAX_PIXELS = 100_000_000
HELD_OUT = 8
HELD_OUT_SHARE = 5
"""At most one photograph in this many is held out, but always one."""
MAX_SCALE = 3.0
"""A crop shows at least a third of the shorter side of its photograph; of a large one it would else see but texture."""
MAX_PROPORTION = 8
"""Of the sides of a photograph. A strip that is narrower would have to be enlarged to more than fits into memory."""

MIN_SIDE = 16
"""The deepest layers of a descriptor halve a picture four times."""


class Photographs:
    """A folder of pictures, from which batches of random crops are drawn.

    A batch depends on the seed and its number alone, so a run that is resumed sees the same pictures as one that was
    never stopped. A few photographs, always the same ones, are held out: no batch shows them.
    """

    def __init__(self, folder: Path, seed: int, held_out: int = HELD_OUT) -> None:
        """Raises TrainingDataError when there is no picture in the folder or below."""
        found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
        if not found:
            raise TrainingDataError(
                f"There are no photographs (JPEG, PNG, WebP or AVIF) in the folder {folder.name!r}: put some there."
            )
        shuffled = sorted(found, key=lambda path: hashlib.sha256(path.relative_to(folder).as_posix().encode()).digest())
        count = min(held_out, max(1, len(found) // HELD_OUT_SHARE))
        self.held_out = shuffled[:count]
        self.paths = sorted(shuffled[count:] or shuffled)  # of a single photograph, there is nothing to hold out
        self.seed = seed

    def batch(self, number: int, count: int, size: int) -> Tensor:
        """Batch ``number``: ``count`` crops of size×size pixels, half of them mirrored: [count,3,size,size] in 0..1."""
        draw = np.random.default_rng((self.seed, number))
        chosen = draw.choice(len(self.paths), count, replace=len(self.paths) < count)
        return torch.stack([random_crop(self._readable(int(index)), size, draw) for index in chosen])

    def held_out_squares(self, count: int, size: int) -> Tensor:
        """The middles of photographs that no batch shows: [≤count,3,size,size]."""
        squares = (middle_square(picture, size) for path in self.held_out if (picture := _try(path)))
        if not (found := list(islice(squares, count))):
            raise TrainingDataError("None of the photographs that are held out can be read: replace them.")
        return torch.stack(found)

    def _readable(self, index: int) -> Image.Image:
        """The photograph at this place, or the next one that can be read."""
        for step in range(len(self.paths)):
            if picture := _try(self.paths[(index + step) % len(self.paths)]):
                return picture
        raise TrainingDataError("None of the photographs can be read as a picture: put others there.")


def load(path: Path) -> Image.Image:
    """The picture, upright, in sRGB, on white. Raises SettingsError that names the file when it cannot be read."""
    try:
        return Image.fromarray(decode(path.read_bytes(), long_side=None, max_pixels=MAX_PIXELS).pixels)
    except (AtelierError, OSError) as error:
        raise SettingsError(f"{path} cannot be read as a picture ({error}): mend it or take it away.") from error


def _try(path: Path) -> Image.Image | None:
    """The picture, or None for one that cannot be used: a folder of thousands has one that is broken."""
    try:
        picture = load(path)
    except SettingsError as error:
        log.warning("photograph passed over", reason=str(error))
        return None
    if max(picture.size) > MAX_PROPORTION * min(picture.size):
        log.warning("photograph passed over", reason=f"{path} is but a strip")
        return None
    return picture


def random_crop(picture: Image.Image, size: int, draw: np.random.Generator) -> Tensor:
    """A square of ``size`` pixels from a random place, at a random scale: [3,size,size].

    The shorter side is brought to between ``size`` and three times as much, but not enlarged more than it must be.
    """
    largest = min(MAX_SCALE * size, min(picture.size))
    picture = shorter_side(picture, round(float(draw.uniform(size, max(size, largest)))))
    left = int(draw.integers(picture.width - size + 1))
    top = int(draw.integers(picture.height - size + 1))
    crop = to_tensor(np.array(picture.crop((left, top, left + size, top + size))))
    return crop.flip(2) if draw.random() < 0.5 else crop


def middle_square(picture: Image.Image, size: int) -> Tensor:
    """[3,size,size]: the middle of the picture, as much of it as fits."""
    picture = shorter_side(picture, size)
    left, top = (picture.width - size) // 2, (picture.height - size) // 2
    return to_tensor(np.array(picture.crop((left, top, left + size, top + size))))


def shorter_side(picture: Image.Image, pixels: int) -> Image.Image:
    """With a shorter side of this many pixels."""
    factor = pixels / min(picture.size)
    width, height = (max(pixels, round(side * factor)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)


def longer_side(picture: Image.Image, pixels: int) -> Image.Image:
    """With a longer side of this many pixels. Raises ImageTooSmallError when the other is too short to look at."""
    factor = pixels / max(picture.size)
    width, height = (round(side * factor) for side in picture.size)
    if min(width, height) < MIN_SIDE:
        raise ImageTooSmallError(
            f"The style picture is but a strip: {width}×{height} pixels at the size of its strokes, and a side needs "
            f"{MIN_SIDE} at least. Cut out a part that is less narrow."
        )
    return picture.resize((width, height), Image.Resampling.LANCZOS)


class Ahead:
    """Batches by number, made in threads before they are asked for, so that a fast device need not wait for them."""

    def __init__(self, make: Callable[[int], Tensor], threads: int) -> None:
        self._make = make
        self._threads = threads
        self._pool = ThreadPoolExecutor(max(1, threads), thread_name_prefix="photographs")
        self._coming: dict[int, Future[Tensor]] = {}

    def get(self, number: int, following: Iterator[int]) -> Tensor:
        """This batch; those that follow are begun, as many as there are threads."""
        wanted = [number, *(later for later, _ in zip(following, range(self._threads), strict=False))]
        for coming in self._coming.keys() - set(wanted):
            self._coming.pop(coming).cancel()
        for coming in wanted:
            if coming not in self._coming:
                self._coming[coming] = self._pool.submit(self._make, coming)
        return self._coming.pop(number).result()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
