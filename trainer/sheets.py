"""Pictures of a style: previews while it is learnt, its thumbnail, its contact sheet."""

import torch
from torch import Tensor
from torchvision.utils import make_grid

from contract.images import MediaType
from generator.pictures import Picture, encode
from generator.pixels import to_pixels

QUALITY = 88
GAP = 4
WHITE = 1.0


def jpeg(picture: Tensor) -> bytes:
    """[3,H,W] in 0..1 as a JPEG file."""
    return encode(Picture(to_pixels(picture), None), MediaType.JPEG, QUALITY)


def sheet(contents: Tensor, columns: list[Tensor]) -> Tensor:
    """One row for each photograph: as it is, then as it is in each column; all [B,3,H,W] → [3,H',W']."""
    cells = torch.stack([contents, *columns], dim=1).flatten(0, 1)
    grid: Tensor = make_grid(cells, nrow=1 + len(columns), padding=GAP, pad_value=WHITE)
    return grid


def wide_sheet(contents: Tensor, stylized: Tensor) -> Tensor:
    """Two rows: the photographs, and below each of them what became of it."""
    grid: Tensor = make_grid(torch.cat([contents, stylized]), nrow=len(contents), padding=GAP, pad_value=WHITE)
    return grid
