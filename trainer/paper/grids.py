"""Grids of pictures with words beside them, as JPEG files that are small enough for a repository."""

from io import BytesIO
from pathlib import Path

import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from generator.pixels import to_pixels

GAP = 6
TEXT_SIZE = 15
LINE = TEXT_SIZE + 5
LEFT = 150
"""Where the words of a row stand, in pixels."""
MAX_BYTES = 400_000
QUALITIES = (90, 84, 76, 66, 50)
LEAST_CELL = 160
"""Pictures that are smaller are shown enlarged."""

Cells = list[list[Tensor | None]]
"""Pictures [3,H,W] in 0..1, all of one size; None stays white."""


def grid(cells: Cells, rows: list[str], columns: list[str]) -> Image.Image:
    """Pictures below the words of their column and right of those of their row."""
    shown = [[None if cell is None else _cell(cell) for cell in row] for row in cells]
    width, height = next(picture.size for row in shown for picture in row if picture)
    top = GAP + LINE * max(len(words.split("\n")) for words in columns)
    page = Image.new(
        "RGB",
        (LEFT + len(columns) * (width + GAP), top + len(rows) * (height + GAP)),
        "white",
    )
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(TEXT_SIZE)
    for place, words in enumerate(columns):
        draw.multiline_text((LEFT + place * (width + GAP), GAP // 2), words, "black", font)
    for line, (words, pictures) in enumerate(zip(rows, shown, strict=True)):
        y = top + line * (height + GAP)
        draw.multiline_text((GAP, y), words, "black", font)
        for place, picture in enumerate(pictures):
            if picture:
                page.paste(picture, (LEFT + place * (width + GAP), y))
    return page


def _cell(picture: Tensor) -> Image.Image:
    factor = -(-LEAST_CELL // picture.shape[-1])
    return Image.fromarray(to_pixels(picture)).resize(
        (picture.shape[-1] * factor, picture.shape[-2] * factor), Image.Resampling.NEAREST
    )


def fitted(picture: Tensor, size: int) -> Tensor:
    """[3,H,W] → its middle square, [3,size,size]."""
    side = min(picture.shape[-2:])
    top, left = (picture.shape[-2] - side) // 2, (picture.shape[-1] - side) // 2
    square = picture[None, :, top : top + side, left : left + side]
    return F.interpolate(square, size=(size, size), mode="bilinear", antialias=True)[0].clamp(0, 1)


def save(page: Image.Image, path: Path) -> None:
    """As the best JPEG of less than 400 kB, made smaller where no quality is low enough."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for quality in QUALITIES:
        out = BytesIO()
        page.save(out, "JPEG", quality=quality, optimize=True)
        if out.tell() < MAX_BYTES:
            path.write_bytes(out.getvalue())
            return
    save(page.resize((page.width * 3 // 4, page.height * 3 // 4), Image.Resampling.LANCZOS), path)


def save_picture(picture: Tensor, path: Path) -> None:
    """[3,H,W] without loss, for later figures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(to_pixels(picture)).save(path)
