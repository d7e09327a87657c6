"""A print from a carved block: sun, clouds, terraced hills and a river, black on warm paper with three more colours."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from generator.pixels import Pixels
from trainer.drawings.canvas import SIDE, Canvas, Field, blend, colour, finished, plane, reduced, sheet
from trainer.drawings.marks import Points, ribbon, smooth_path, taper
from trainer.drawings.noise import clouds, warped

SEED = 5
LARGE = 3 * SIDE
PAPER = colour("f1e3c4")
BLACK = colour("1b1613")
VERMILION = colour("d8432a")
OCHRE = colour("e2a33c")
TEAL = colour("4f9a94")
SUN = (0.655, 0.235)
SUN_RADIUS = 0.105
RAYS = 118

Numbers = npt.NDArray[np.float64]
Widths = Numbers | float
Curve = Callable[[Numbers], Numbers]


@dataclass(frozen=True)
class Cut:
    """One push of the gouge: where it went and how wide it cut."""

    path: Points
    widths: npt.NDArray[np.float64]


@dataclass
class Block:
    """The carved blocks: what each of them prints, 255 where there is ink."""

    draw: np.random.Generator
    black: Image.Image = field(default_factory=lambda: Image.new("L", (LARGE, LARGE), 255))
    tints: dict[str, Image.Image] = field(default_factory=dict)

    def region(self, outline: Points, cuts: list[Cut], rim: float, tint: str = "") -> None:
        """A form in front of all that is there: black, with cuts that stop short of a rim."""
        start, end = (outline * LARGE).min(axis=0).astype(int), (outline * LARGE).max(axis=0).astype(int)
        start, end = start.clip(0, LARGE - 1), end.clip(0, LARGE - 1) + 1
        box, size = (int(start[0]), int(start[1])), (int(end[0] - start[0]), int(end[1] - start[1]))
        form = Image.new("L", size)
        corners = [(float(x), float(y)) for x, y in outline * LARGE - start]
        ImageDraw.Draw(form).polygon(corners, fill=255)
        carved = Image.new("L", size, 255)
        pen = ImageDraw.Draw(carved)
        for cut in cuts:
            pen.polygon(ribbon(cut.path * LARGE - start, cut.widths * LARGE), fill=0)
        pen.line([*corners, corners[0]], fill=255, width=round(2 * rim * LARGE), joint="curve")
        self.black.paste(carved, box, form)
        for name in ("vermilion", "ochre", "teal"):
            plate = self.tints.setdefault(name, Image.new("L", (LARGE, LARGE)))
            plate.paste(255 if name == tint else 0, (*box, box[0] + size[0], box[1] + size[1]), form)

    def cuts_along(self, path: Points, width: Widths, lengths: tuple[float, float], keep: float = 1.0) -> Iterator[Cut]:
        """The path in pieces, each a cut that tapers; ``keep`` is the share of them that is carved."""
        steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
        place = np.concatenate([[0], np.cumsum(steps)])
        width = np.broadcast_to(width, place.shape)
        at = -self.draw.uniform(0, lengths[0])
        while at < place[-1]:
            end = at + self.draw.uniform(*lengths)
            if self.draw.random() < keep and end > 0:
                yield self._cut(path, place, max(at, 0), min(end, place[-1]), width)
            at = end + 0.35 * float(np.interp(end, place, width))

    def _cut(self, path: Points, place: Numbers, start: float, end: float, width: Numbers) -> Cut:
        along = np.linspace(start, end, 14)
        piece = np.stack([np.interp(along, place, path[:, axis]) for axis in (0, 1)], axis=1)
        shaken = piece + self.draw.normal(0, 0.0004, piece.shape)
        pressure = np.interp(along, place, width) * self.draw.uniform(0.75, 1.1)
        widths = pressure * taper(14) * self.draw.uniform(0.9, 1.1, 14)
        return Cut(shaken, widths)


def picture() -> Pixels:
    draw = np.random.default_rng(SEED)
    block = Block(draw)
    _sky(block)
    for cloud in (((0.20, 0.13), 0.115), ((0.93, 0.10), 0.09), ((0.30, 0.335), 0.075), ((0.90, 0.36), 0.085)):
        _cloud(block, *cloud)
    _mountains(block)
    _hills(block)
    _river(block)
    _foreground(block)
    return finished(_printed(draw, block))


def _sky(block: Block) -> None:
    """Rays from the sun, in rings of cuts that widen as they go."""
    whole = np.array([[-0.1, -0.1], [1.1, -0.1], [1.1, 1.1], [-0.1, 1.1]])
    cuts: list[Cut] = []
    for number, angle in enumerate(np.linspace(0, 2 * np.pi, RAYS, endpoint=False)):
        far = np.linspace(SUN_RADIUS + 0.028 + 0.02 * (number % 2), 1.1, 60)
        bent = angle + 0.05 * np.sin(9 * far)
        ray = np.stack([SUN[0] + far * np.cos(bent), SUN[1] + far * np.sin(bent)], axis=1)
        # Between neighbours there stays a black ridge, which grows away from the sun.
        spacing = far * 2 * np.pi / RAYS
        cuts += block.cuts_along(ray, spacing * np.clip(1.0 - 0.55 * far, 0.35, 1), (0.05, 0.2), 0.97)
    block.region(whole, cuts, 0.0)
    _sun(block)


def _sun(block: Block) -> None:
    ring = np.linspace(0, 2 * np.pi, 90)
    disc = np.stack([np.cos(ring), np.sin(ring)], axis=1)
    cuts = [
        cut
        for radius in np.arange(0.008, SUN_RADIUS, 0.0105)
        for cut in block.cuts_along(SUN + disc * radius, 0.0095, (0.08, 0.2))
    ]
    block.region(SUN + disc * SUN_RADIUS, cuts, 0.006, "vermilion")


def _cloud(block: Block, centre: tuple[float, float], size: float) -> None:
    """Heaped scrolls: each a disc of arcs, the lower in front of the higher."""
    for number in range(9):
        aside = (number - 4) / 4 * 1.9 * size
        radius = size * block.draw.uniform(0.45, 0.72) * (1.15 - 0.45 * abs(number - 4) / 4)
        middle = (centre[0] + aside, centre[1] - 0.32 * radius + 0.1 * size * (number % 3))
        _scroll(block, middle, radius)


def _scroll(block: Block, middle: tuple[float, float], radius: float) -> None:
    ring = np.linspace(0, 2 * np.pi, 60)
    disc = np.stack([np.cos(ring), 0.86 * np.sin(ring)], axis=1)
    turn = np.linspace(-0.3, 4.6 * np.pi, 160)
    spiral = np.stack([np.cos(turn), 0.86 * np.sin(turn)], axis=1) * (1 - turn / (5.4 * np.pi))[:, None]
    cuts = list(block.cuts_along(np.array(middle) + spiral * (radius * 0.86), radius * 0.19, (0.10, 0.22)))
    block.region(np.array(middle) + disc * radius, cuts, 0.0042)


def _below(curve: Curve, floor: float = 1.1) -> Points:
    """All that is below a curve."""
    x = np.linspace(-0.05, 1.05, 160)
    return np.concatenate([np.stack([x, curve(x)], axis=1), [[1.05, floor], [-0.05, floor]]])


def _mountains(block: Block) -> None:
    """Two ranges: cuts fall from the ridge on the lit side; the other stays dark."""
    for number, (base, high) in enumerate(((0.46, 0.15), (0.53, 0.10))):
        peaks = np.sort(block.draw.uniform(-0.05, 1.05, 6))
        tops = block.draw.uniform(0.5, 1.0, 6) * high

        def ridge(x: npt.NDArray[np.float64], base: float = base, peaks: Points = peaks, tops: Points = tops) -> Points:
            tents = tops[None] - np.abs(x[:, None] - peaks[None]) * 0.75
            return np.asarray(base - np.maximum(tents.max(axis=1), 0.012 * np.sin(20 * x)))

        cuts: list[Cut] = []
        for start in np.arange(-0.05, 1.05, 0.0088):
            lit = peaks[np.abs(start - peaks).argmin()] < start
            length = 0.20 if lit else 0.07
            top = float(ridge(np.array([start]))[0]) + 0.006
            fall = np.linspace(0, length, 24)
            path = np.stack([start + fall * 0.5 + 0.004 * np.sin(50 * fall), top + fall], axis=1)
            cuts += block.cuts_along(path, 0.0074 if lit else 0.0042, (0.03, 0.085), 0.95)
        block.region(_below(ridge), cuts, 0.0035, "teal" if number == 0 else "")


def _hills(block: Block) -> None:
    """Terraces one before the other, each carved in its own way."""
    shapes: list[tuple[float, float, float, float, str]] = [
        (0.555, 0.030, 6.0, 0.2, "ochre"),
        (0.615, 0.045, 5.0, 2.6, ""),
        (0.690, 0.050, 4.6, 4.9, "ochre"),
        (0.775, 0.055, 4.0, 1.0, "teal"),
    ]
    for number, (top, sway, bends, phase, tint) in enumerate(shapes):

        def crest(
            x: npt.NDArray[np.float64], top: float = top, sway: float = sway, bends: float = bends, phase: float = phase
        ) -> npt.NDArray[np.float64]:
            return np.asarray(top + sway * np.sin(bends * x + phase))

        cuts = _rows(block, crest, sway) if number % 2 == 0 else _fall(block, crest)
        block.region(_below(crest), cuts, 0.0045, tint)
        _row_of_trees(block, crest, number)


def _rows(block: Block, crest: Curve, sway: float) -> list[Cut]:
    """Furrows along the crest that flatten and widen below it."""
    x = np.linspace(-0.05, 1.05, 80)
    cuts: list[Cut] = []
    depth, gap = 0.010, 0.0085
    while depth < 0.24:
        flat = crest(x) + (0.3 * sway * np.sin(3 * x + 1) - (crest(x) - crest(x).mean())) * depth * 2.6
        path = np.stack([x, flat + depth], axis=1)
        cuts += block.cuts_along(path, gap * 0.82, (0.06, 0.22), 0.97)
        gap *= 1.07
        depth += gap
    return cuts


def _fall(block: Block, crest: Curve) -> list[Cut]:
    """Cuts that run down the slope and lean together, as rain would."""
    cuts: list[Cut] = []
    for start in np.arange(-0.2, 1.1, 0.0105):
        fall = np.linspace(0.012, 0.25, 40)
        x = start + 0.55 * fall + 0.10 * np.sin(6 * fall + 5 * start)
        path = np.stack([x, crest(x) + fall], axis=1)
        cuts += block.cuts_along(path, 0.0070 - 0.010 * fall, (0.03, 0.10), 0.92)
    return cuts


def _row_of_trees(block: Block, crest: Curve, number: int) -> None:
    """Cypresses on the crest, like flames."""
    size = 0.035 + 0.016 * number
    for place in block.draw.choice(np.linspace(0.03, 0.97, 17), 5, replace=False):
        foot = float(crest(np.array([place]))[0]) + 0.012
        _cypress(block, float(place), foot, size * block.draw.uniform(0.75, 1.35))


def _cypress(block: Block, x: float, foot: float, tall: float) -> None:
    """A flame of a tree; the cuts run up in it, most of them on the side of the sun."""
    up = np.linspace(0, 1, 60)
    wide = (
        0.155
        * tall
        * np.sin(np.pi * up**0.6).clip(0)
        * (1 - 0.35 * up)
        * (1 + 0.09 * np.sin(30 * up) + 0.05 * np.sin(71 * up))
    )
    sway = x + 0.035 * tall * np.sin(7 * up + 9 * x)
    height = foot - 1.35 * tall * up
    towards_sun = 1 if x < SUN[0] else -1
    cuts: list[Cut] = []
    for share in np.linspace(-0.45, 0.8, 3 + int(19 * tall)):
        aside = share * towards_sun * wide * (1 - 0.15 * np.sin(17 * up + 5 * share))
        path = np.stack([sway + aside, height], axis=1)[3:-4]
        width = 0.0022 + 0.0105 * tall * (0.6 + 0.4 * share)
        cuts += block.cuts_along(path, width, (0.10 * tall, 0.32 * tall), 0.42 + 0.6 * share)
    outline = np.concatenate([np.stack([sway - wide, height], axis=1), np.stack([sway + wide, height], axis=1)[::-1]])
    block.region(outline, cuts, 0.0022)


def _river(block: Block) -> None:
    """It winds out of the hills in long waves of cuts."""
    down = np.linspace(0, 1, 90)
    y = 0.70 + 0.36 * down
    middle = 0.50 + 0.15 * np.sin(5.4 * down + 0.5) - 0.12 * down
    half = 0.012 + 0.15 * down**1.25
    left, right = np.stack([middle - half, y], axis=1), np.stack([middle + half, y], axis=1)
    cuts = [
        cut
        for share in np.linspace(-0.93, 0.93, 17)
        for cut in block.cuts_along(
            np.stack([middle + half * (share + 0.05 * np.sin(40 * down + 9 * share)), y], axis=1), 0.0088, (0.05, 0.13)
        )
    ]
    block.region(np.concatenate([left, right[::-1]]), cuts, 0.005, "teal")


def _foreground(block: Block) -> None:
    """Two dark banks with grasses, in front of great cypresses."""
    banks: list[tuple[list[tuple[float, float]], float]] = [
        ([(-0.05, 0.86), (0.10, 0.86), (0.22, 0.93), (0.30, 1.05)], 1.0),
        ([(1.05, 0.80), (0.85, 0.84), (0.70, 0.93), (0.62, 1.05)], -1.0),
    ]
    for x, foot, tall in ((0.145, 1.0, 0.32), (0.055, 1.0, 0.43), (0.885, 0.99, 0.22), (0.95, 0.98, 0.33)):
        _cypress(block, x, foot, tall)
    for corners, lean in banks:
        edge = smooth_path(corners, 150)
        edge[:, 1] -= block.draw.random(150) ** 3 * 0.035
        outside = [[corners[-1][0], 1.1], [corners[0][0], 1.1]]
        block.region(np.concatenate([edge, outside]), list(_grass(block, edge, lean)), 0.003, "ochre")


def _grass(block: Block, edge: Points, lean: float) -> Iterator[Cut]:
    for x, y in edge[::2]:
        for depth in np.arange(0.015, 0.26, 0.026):
            bend = block.draw.uniform(0.2, 0.6) * lean
            tall = block.draw.uniform(0.025, 0.05)
            foot = (x + block.draw.normal(0, 0.006), y + depth + block.draw.normal(0, 0.006))
            blade = smooth_path(
                [foot, (foot[0] + 0.3 * bend * tall, foot[1] - 0.6 * tall), (foot[0] + bend * tall, foot[1] - tall)], 14
            )
            yield Cut(blade, 0.006 * taper(14))


def _printed(draw: np.random.Generator, block: Block) -> Canvas:
    """The colours first, thin and mottled, then the black, in which the grain of the block shows."""
    fibres = clouds(draw, 130, octaves=2)
    canvas = sheet(PAPER) * (1 + 0.018 * fibres + 0.015 * clouds(draw, 5))[:, :, None]
    inks = {"vermilion": VERMILION, "ochre": OCHRE, "teal": TEAL}
    for name, plate in block.tints.items():
        cover = _shifted(_ink(plate), draw) * np.clip(0.86 + 0.07 * fibres + 0.08 * clouds(draw, 9), 0, 1)
        canvas *= 1 - cover[:, :, None] * (1 - inks[name])
    grain = _wood_grain(draw)
    cover = _ink(block.black) * np.clip(0.97 - 0.055 * np.clip(grain - 0.6, 0, 2) + 0.02 * fibres, 0, 1)
    return blend(canvas, BLACK, cover)


def _ink(plate: Image.Image) -> Field:
    return reduced(np.asarray(plate, dtype=np.float32) / 255)


def _shifted(plate: Field, draw: np.random.Generator) -> Field:
    """A colour never lies exactly where the black expects it."""
    right, down = draw.uniform(-2.5, 2.5, 2)
    return warped(plate, np.full_like(plate, right), np.full_like(plate, down))


def _wood_grain(draw: np.random.Generator) -> Field:
    x, y = plane()
    bent = y + 0.03 * np.sin(3 * x + 1) + 0.012 * clouds(draw, 3, octaves=2)
    lines = clouds(draw, 3, 90, octaves=2)
    return warped(lines, np.zeros_like(x), ((bent - y) * SIDE).astype(np.float32))
