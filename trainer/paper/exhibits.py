"""The pictures of the comparison: a grid for each experiment, made from the trained generators."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from generator.network import Architecture, Padding
from generator.pixels import to_tensor
from trainer.content import load
from trainer.paper.grids import Cells, fitted, grid, save
from trainer.paper.light import ALTERATIONS, LOWEST_CONTRAST
from trainer.paper.measures import STATES, at_test_time
from trainer.paper.plan import ARCHITECTURES, NORMS, Light, Variant, first_seed, texture_variants
from trainer.paper.readings import FIRST_READING, READINGS, Reading, stylized
from trainer.paper.workshop import Workshop
from trainer.texture import samples

READING_WORDS: dict[Reading, str] = {
    "running": "batch norm,\nrunning averages",
    "batch": "batch norm,\nstatistics of\nthe batch",
    "single": "batch norm,\none picture's\nown statistics",
    "instance": "instance norm",
}
SHOWN_READINGS: tuple[Reading, ...] = ("running", "single", "instance")
DETAIL = 256
"""Side of the detail of a large picture, in pixels, one to one."""
WHOLE = 320


def save_exhibits(shop: Workshop, experiment: str, folder: Path) -> None:
    """The grids of an experiment, as JPEG files that are called after it."""
    cells, rows, columns = EXHIBITS[experiment](shop)
    save(grid(cells, rows, columns), folder / f"{experiment}.jpg")


Exhibit = tuple[Cells, list[str], list[str]]
"""Pictures, the words of the rows, the words of the columns."""


def _made(shop: Workshop, variant: Variant, content: Tensor, reading: Reading | None = None) -> Tensor:
    """One stylized picture [3,H,W]."""
    trained = shop.trained(variant)
    return stylized(trained.generator, trained.style, content[None], reading or FIRST_READING[variant.norm])[0]


def _of_reading(architecture: Architecture, reading: Reading, style: str) -> Variant:
    """The first generator that is read like this."""
    return Variant(architecture, "instance" if reading == "instance" else "batch", style, 0)


def norms(shop: Workshop) -> Exhibit:
    """The shape of the paper's figure 5, once for each style, with batch norm in two readings."""
    content, styles = shop.contents[0], shop.budget.styles
    beside = [content, *(fitted(shop.style_pictures[style], shop.budget.size) for style in styles)]
    cells: Cells = []
    for line, reading in enumerate(SHOWN_READINGS):
        first = beside[line] if line < len(beside) else None
        made = [_made(shop, _of_reading(architecture, reading, style), content, reading)
                for style in styles for architecture in ARCHITECTURES]  # fmt: skip
        cells.append([first, *made])
    columns = ["photograph, then\nstyle pictures", *(f"{style}\n{one}" for style in styles for one in ARCHITECTURES)]
    return cells, [READING_WORDS[reading] for reading in SHOWN_READINGS], columns


def test_time(shop: Workshop) -> Exhibit:
    content = shop.contents[0]
    variants = [variant for variant in first_seed(shop.budget) if variant.norm == "instance"]
    cells: Cells = []
    for variant in variants:
        trained = shop.trained(variant)
        networks = at_test_time(shop, trained)
        made = [stylized(networks[state], trained.style, content[None], "running")[0] for state in STATES]
        cells.append([content, *made])
    return cells, [f"{one.architecture}\n{one.style}" for one in variants], ["photograph", *STATES]


def contrast(shop: Workshop) -> Exhibit:
    content, style = shop.contents[0], shop.budget.styles[0]
    photographs = [content, *(alter(content) for alter in ALTERATIONS.values())]
    cells: Cells = [list(photographs)]
    for reading in SHOWN_READINGS:
        variant = _of_reading("residual", reading, style)
        cells.append([_made(shop, variant, photograph, reading) for photograph in photographs])
    low = 1 + list(ALTERATIONS).index(LOWEST_CONTRAST)
    optimised: list[Tensor | None] = [None] * len(photographs)
    optimised[0], optimised[low] = (_kept(shop, f"contrast-{style}-{name}") for name in ("plain", "low"))
    rows = ["photograph", *(READING_WORDS[reading] for reading in SHOWN_READINGS), "optimised by\nitself (Gatys)"]
    return [*cells, optimised], rows, ["as it is", *ALTERATIONS]


def photographs(shop: Workshop) -> Exhibit:
    lights: tuple[Light, ...] = ("original", "equalised", "stylised")
    cells: Cells = []
    for light in lights:
        seen = shop.altered(light, shop.contents[:3])
        made = [_made(shop, Variant("residual", norm, shop.budget.styles[0], 0, light=light), seen[0])
                for norm in NORMS]  # fmt: skip
        cells.append([*seen, *made])
    columns = [
        *(f"photograph {number}" for number in range(1, len(cells[0]) - 1)),
        "the first, with\nbatch norm",
        "instance norm",
    ]
    return cells, list(lights), columns


def borders(shop: Workshop) -> Exhibit:
    content, style = shop.contents[0], shop.budget.styles[0]
    cells: Cells = []
    paddings: tuple[Padding, ...] = ("zeros", "continued")
    for padding in paddings:
        row: list[Tensor | None] = [content]
        for norm in NORMS:
            variant = Variant("pyramid", norm, style, 0, padding=padding)
            row += [_made(shop, variant, content, reading) for reading in READINGS[norm] if reading != "batch"]
        cells.append(row)
    columns = ["photograph", *(READING_WORDS[reading] for reading in SHOWN_READINGS)]
    return cells, ["zero padding", "the picture\ncontinued"], columns


def resolution(shop: Workshop) -> Exhibit:
    style = shop.budget.styles[0]
    cells: Cells = []
    for size in shop.budget.resolutions:
        content = shop.held_out_squares(size)[0]
        row: list[Tensor | None] = []
        for architecture in ARCHITECTURES:
            made = _made(shop, _of_reading(architecture, "instance", style), content)
            row += [fitted(made, WHOLE), fitted(_middle(made, min(DETAIL, size)), WHOLE)]
        cells.append(row)
    columns = [f"{architecture}\n{what}" for architecture in ARCHITECTURES for what in ("whole", "detail")]
    return cells, [f"{size} px" for size in shop.budget.resolutions], columns


def _middle(picture: Tensor, side: int) -> Tensor:
    top, left = (picture.shape[-2] - side) // 2, (picture.shape[-1] - side) // 2
    return picture[:, top : top + side, left : left + side]


def gatys(shop: Workshop) -> Exhibit:
    content, iterations = shop.contents[0], shop.budget.yardstick_iterations
    cells: Cells = [
        [
            content,
            *(_kept(shop, f"gatys-{style}-{number}") for number in iterations),
            *(_made(shop, _of_reading(one, "instance", style), content) for one in ARCHITECTURES),
        ]
        for style in shop.budget.styles
    ]
    fed = [f"{one},\none pass" for one in ARCHITECTURES]
    return cells, list(shop.budget.styles), ["photograph", *(f"{number} iterations" for number in iterations), *fed]


def texture(shop: Workshop) -> Exhibit:
    variants = texture_variants(shop.budget)
    cells: Cells = []
    for variant in variants:
        made = samples(shop.texture(variant).training)
        cells.append([fitted(shop.style_pictures[variant.style], shop.budget.size), *made])
    rows = [f"{one.style}\n{one.norm} norm" for one in variants]
    return cells, rows, ["style picture", *(f"sample {number}" for number in range(1, len(cells[0])))]


def _kept(shop: Workshop, name: str) -> Tensor:
    """A picture [3,H,W] that a measurement has kept."""
    return to_tensor(np.array(load(shop.picture(name))))


EXHIBITS: dict[str, Callable[[Workshop], Exhibit]] = {
    "norms": norms,
    "test_time": test_time,
    "contrast": contrast,
    "photographs": photographs,
    "borders": borders,
    "resolution": resolution,
    "gatys": gatys,
    "texture": texture,
}
