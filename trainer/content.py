"""Photographs to train on: any folder of pictures."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from contract.errors import SettingsError
from generator.pixels import to_tensor

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


class Photographs:
    """A folder of pictures, from which batches of random crops are drawn.

    A batch depends on the seed and its number alone, so a run that is resumed sees the same pictures as one that was
    never stopped.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        self.seed = seed
        if not self.paths:
            raise SettingsError(
                f"There are no photographs (JPEG, PNG or WebP) in {folder}: name a folder that has some."
            )

    def batch(self, number: int, count: int, size: int) -> Tensor:
        """Batch ``number``: ``count`` crops of size×size pixels, half of them mirrored: [count,3,size,size] in 0..1."""
        draw = np.random.default_rng((self.seed, number))
        chosen = draw.choice(len(self.paths), count, replace=len(self.paths) < count)
        return torch.stack([random_crop(load(self.paths[index]), size, draw) for index in chosen])


def load(path: Path) -> Image.Image:
    """The picture, upright, in RGB. Raises SettingsError that names the file when it cannot be read."""
    try:
        with Image.open(path) as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise SettingsError(f"{path} cannot be read as a picture: mend it or take it away.") from error


def random_crop(picture: Image.Image, size: int, draw: np.random.Generator) -> Tensor:
    """A square of ``size`` pixels from a random place: [3,size,size]. Photographs that are too small are enlarged."""
    shorter = min(picture.size)
    if shorter < size:
        picture = scaled(picture, size / shorter)
    left = int(draw.integers(picture.width - size + 1))
    top = int(draw.integers(picture.height - size + 1))
    crop = picture.crop((left, top, left + size, top + size))
    return to_tensor(np.array(ImageOps.mirror(crop) if draw.random() < 0.5 else crop))


def scaled(picture: Image.Image, factor: float) -> Image.Image:
    width, height = (max(1, int(np.ceil(side * factor))) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)
