"""Mountains in mist, bamboo and a plum branch: ink on rice paper with a red sun and a few red blossoms."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from generator.pixels import Pixels
from trainer.drawings.canvas import SIDE, Canvas, Field, colour, finished, plane, sheet, smoothstep
from trainer.drawings.marks import Brush, Points, smooth_path, sweep, taper
from trainer.drawings.noise import blurred, clouds, paper_grain, warped

SEED = 42
PAPER = colour("efe6d2")
INK_ABSORBS = np.array([2.45, 2.5, 2.42], dtype=np.float32)
"""How much of red, green and blue ink of density 1 takes away: it is not quite neutral."""
RED_ABSORBS = np.array([0.22, 1.75, 2.1], dtype=np.float32)
TUFTS = (
    *((0.86, 0.10), (0.80, 0.22), (0.93, 0.30), (0.78, 0.05)),
    *((0.97, 0.14), (0.83, 0.40), (0.70, 0.12), (0.95, 0.47)),
)
"""Where leaves of the bamboo grow."""
BRANCH = ((-0.03, 0.52), (0.07, 0.47), (0.12, 0.505), (0.21, 0.43), (0.29, 0.445), (0.40, 0.385), (0.50, 0.40))
TWIGS = ((18, -0.20), (40, 0.13), (52, -0.17), (70, -0.13), (84, 0.10), (98, -0.12))
"""Where on the branch each twig begins, in hundred-and-twentieths, and how far it goes down."""


@dataclass
class Part:
    """A part of the paper: what is done to it is done to the whole."""

    x: Field
    y: Field
    ink: Field
    red: Field


@dataclass
class Paper:
    """How much ink and how much red lies on every pixel; and what the paper is like."""

    draw: np.random.Generator
    ink: Field = field(default_factory=lambda: np.zeros((SIDE, SIDE), dtype=np.float32))
    red: Field = field(default_factory=lambda: np.zeros((SIDE, SIDE), dtype=np.float32))

    def __post_init__(self) -> None:
        self.x, self.y = plane()
        self.grain = paper_grain(self.draw)
        self.bleed_right, self.bleed_down = (
            7 * clouds(self.draw, 14, octaves=3) + 3 * clouds(self.draw, 70, octaves=2) for _ in range(2)
        )

    def around(self, x: float, y: float, reach: float) -> Part:
        start_x, end_x, start_y, end_y = (
            int(np.clip(at * SIDE, 0, SIDE)) for at in (x - reach, x + reach, y - reach, y + reach)
        )
        window = slice(start_y, end_y), slice(start_x, end_x)
        return Part(self.x[window], self.y[window], self.ink[window], self.red[window])

    def bled(self, layer: Field, amount: float) -> Field:
        """Wet ink: its edges creep along the fibres, and it gathers where it dries."""
        spread = warped(layer, amount * self.bleed_right, amount * self.bleed_down)
        soft = blurred(spread, max(1.0, 3 * amount))
        pooled = np.clip(soft - blurred(soft, 4 + 6 * amount), 0, 1)
        return np.clip(soft + 1.1 * pooled, 0, 1.6)

    def brush(self, layer: Field, strength: float) -> None:
        """Strokes become ink: the tooth of the paper shows where they are thin."""
        thin = np.clip(1.25 * layer - 0.16 * (1 - layer) * np.clip(self.grain + 0.4, 0, 2), 0, 1)
        self.ink += strength * thin


def picture() -> Pixels:
    paper = Paper(np.random.default_rng(SEED))
    _sky(paper)
    _sun(paper)
    _mountains(paper)
    _water(paper)
    _rocks(paper)
    _bamboo(paper)
    _plum(paper)
    _splashes(paper)
    return finished(_dried(paper))


def _sky(paper: Paper) -> None:
    """A broad brush of thin ink and water, more of it at the top, with blooms where drops fell into it."""
    wash = 0.13 * smoothstep(0.55, 0.0, paper.y + 0.10 * clouds(paper.draw, 3))
    streaks = np.clip(1 + 0.45 * clouds(paper.draw, 3, 30, octaves=3), 0.2, 2)
    paper.ink += wash * streaks
    for _ in range(9):
        x, y, size = paper.draw.random(), paper.draw.uniform(0, 0.4), paper.draw.uniform(0.03, 0.11)
        ring = np.hypot(paper.x - x, paper.y - y) / size + 0.16 * clouds(paper.draw, 9)
        paper.ink += 0.04 * smoothstep(1.0, 0.93, ring) * smoothstep(0.45, 1.0, ring)


def _sun(paper: Paper) -> None:
    disc = smoothstep(0.078, 0.074, np.hypot(paper.x - 0.435, paper.y - 0.125))
    paper.red += paper.bled(disc, 0.2) * np.clip(0.72 + 0.2 * clouds(paper.draw, 6) + 0.06 * paper.grain, 0, 2)


def _mountains(paper: Paper) -> None:
    """Five ranges, the farthest the palest; the foot of each is lost in mist."""
    ranges = (
        (0.29, 0.15, 0.26, 0.11),
        (0.38, 0.20, 0.42, 0.11),
        (0.48, 0.20, 0.62, 0.10),
        (0.58, 0.16, 0.85, 0.09),
        (0.67, 0.11, 0.95, 0.075),
    )
    for base, high, strength, fall in ranges:
        ridge = _ridge(paper.draw, base, high)
        _range(paper, ridge, strength, fall)
        _creases(paper, ridge, strength)


def _ridge(draw: np.random.Generator, base: float, high: float) -> Field:
    """The height of a range for every column: a few steep peaks, roughened."""
    x = np.linspace(0, 1, SIDE)
    peaks, tops = draw.uniform(-0.1, 1.1, 5), draw.uniform(0.35, 1.0, 5)
    widths = draw.uniform(0.06, 0.15, 5)
    shape = (tops[:, None] * np.exp(-(np.abs((x - peaks[:, None]) / widths[:, None]) ** 1.35))).max(axis=0)
    rough = clouds(draw, 7, octaves=5)[SIDE // 2]
    return np.asarray(base - high * shape - 0.012 * rough * (0.5 + shape), dtype=np.float32)


def _range(paper: Paper, ridge: Field, strength: float, fall: float) -> None:
    """Ink that is dark along the ridge and runs out below it, over the mist that hides what is behind."""
    below = paper.y - ridge[None, :]
    veil = fall * np.exp(0.45 * clouds(paper.draw, 4))
    shape = smoothstep(0, 0.004, below)
    covered = paper.bled(shape, 0.25 + 0.25 * strength)
    depth = np.clip(below, 0, 2) / veil
    tone = (0.45 * np.exp(-((depth / 0.35) ** 2)) + 0.6 * np.exp(-depth)) * np.clip(
        1 + 0.35 * clouds(paper.draw, 7, octaves=5), 0.15, 2
    )
    paper.ink *= 1 - 0.88 * shape
    paper.red *= 1 - shape
    paper.ink += strength * covered * tone * (1 + 0.06 * paper.grain)


def _creases(paper: Paper, ridge: Field, strength: float) -> None:
    """Dry strokes that run down from the ridge, as the rock is folded; and broken ones along it."""
    layer, draw = np.zeros_like(paper.ink), paper.draw
    for _ in range(int(60 * (0.5 + strength))):
        column = int(draw.integers(12, SIDE - 12))
        high = np.clip((ridge.max() - ridge[column]) / 0.2, 0.15, 1)
        lean = np.clip((ridge[column + 12] - ridge[column - 12]) * SIDE / 24, -1, 1) * draw.uniform(0.3, 0.9)
        lean = np.sign(lean) * max(abs(lean), 0.25)
        long = high * draw.uniform(40, 120)
        x, y = column, float(ridge[column]) * SIDE + draw.uniform(0, 50) * high
        path = smooth_path([(x, y), (x + 0.3 * lean * long, y + 0.5 * long), (x + lean * long, y + long)], 24)
        brush = Brush(draw.uniform(8, 26), draw.uniform(-0.45, 0.05), draw.uniform(0.35, 0.9))
        sweep(layer, path, 0.25 + 0.75 * taper(24), brush, draw)
    _contour(layer, ridge, draw)
    paper.brush(layer, 0.66 * strength)


def _contour(layer: Field, ridge: Field, draw: np.random.Generator) -> None:
    column = -10
    while column < SIDE:
        long = int(draw.uniform(40, 130))
        columns = np.arange(max(column, 0), min(column + long, SIDE), 4)
        if len(columns) > 4:
            path = np.stack([columns, ridge[columns] * SIDE + draw.uniform(0, 4)], axis=1).astype(np.float64)
            brush = Brush(draw.uniform(5, 12), draw.uniform(-0.1, 0.5), draw.uniform(0.6, 1.0))
            sweep(layer, path, taper(len(path)), brush, draw)
        column += long + int(draw.uniform(-15, 35))


def _water(paper: Paper) -> None:
    """Level strokes of a wide dry brush, closer together near the far shore; a boat lies on them."""
    layer = np.zeros_like(paper.ink)
    for _ in range(64):
        y = 0.70 + 0.30 * paper.draw.random() ** 1.3
        x, long = paper.draw.uniform(-0.1, 0.95), paper.draw.uniform(0.08, 0.36)
        path = smooth_path([(x, y), (x + long / 2, y + paper.draw.normal(0, 0.005)), (x + long, y)], 30) * SIDE
        brush = Brush(
            paper.draw.uniform(4, 20) * (0.3 + 2 * (y - 0.65)),
            paper.draw.uniform(-0.2, 0.35),
            paper.draw.uniform(0.3, 0.9),
        )
        sweep(layer, path, 0.4 + 0.6 * taper(30), brush, paper.draw)
    paper.brush(layer, 0.42)
    wash = smoothstep(0.70, 0.98, paper.y) * np.clip(0.15 + 0.09 * clouds(paper.draw, 3, 12), 0, 1)
    paper.ink += wash
    _boat(paper, 0.60, 0.775)


def _boat(paper: Paper, x: float, y: float) -> None:
    layer = np.zeros_like(paper.ink)
    hull = (
        smooth_path([(x - 0.075, y - 0.012), (x - 0.02, y + 0.008), (x + 0.04, y + 0.006), (x + 0.085, y - 0.018)])
        * SIDE
    )
    sweep(layer, hull, 0.25 + 0.75 * taper(60), Brush(13, 1.2), paper.draw)
    for stroke, width in (
        ([(x - 0.005, y), (x + 0.002, y - 0.04)], 9.0),
        ([(x - 0.02, y - 0.035), (x + 0.0, y - 0.055), (x + 0.022, y - 0.033)], 6.0),
        ([(x + 0.04, y + 0.02), (x + 0.0, y - 0.03), (x - 0.03, y - 0.085)], 2.5),
    ):
        sweep(layer, smooth_path(stroke) * SIDE, np.ones(60), Brush(width, 1.2), paper.draw)
    paper.brush(blurred(layer, 1), 1.05)


def _rocks(paper: Paper) -> None:
    """Boulders on the near shore."""
    for rock in ((0.0, 0.80, 0.13, 0.15), (0.12, 0.94, 0.19, 0.16), (0.33, 1.02, 0.17, 0.12), (0.84, 1.03, 0.22, 0.12)):
        _rock(paper, *rock)


def _rock(paper: Paper, x: float, y: float, wide: float, high: float) -> None:
    """A wet wash, darkest along the upper rim and in the shade; dry strokes over its shoulders; dots of moss."""
    draw = paper.draw
    far = np.hypot((paper.x - x) / wide, (paper.y - y) / high) + 0.12 * clouds(draw, 8, octaves=4)
    body = smoothstep(1.0, 0.97, far)
    paper.ink *= 1 - 0.9 * body
    shade = 0.5 * np.exp(-((1 - far).clip(0) / 0.16)) + 0.35 * (paper.x - x) / wide + 0.3 * clouds(draw, 9, octaves=4)
    paper.ink += paper.bled(body, 0.35) * np.clip(0.22 + shade, 0.05, 1.1)
    layer = np.zeros_like(paper.ink)
    for _ in range(40):
        turn, reach = draw.uniform(np.pi, 2 * np.pi), draw.uniform(0.35, 0.97)
        turns = turn + np.linspace(0, draw.uniform(0.25, 0.8), 24)
        reaches = reach - np.linspace(0, draw.uniform(0.0, 0.3), 24)
        path = np.stack([x + wide * reaches * np.cos(turns), y + high * reaches * np.sin(turns)], axis=1) * SIDE
        sweep(layer, path, 0.3 + 0.7 * taper(24), Brush(draw.uniform(6, 22), draw.uniform(-0.4, 0.3)), draw)
    paper.brush(layer * smoothstep(1.05, 0.95, far), 0.85)
    _moss(paper, x, y, wide, high)


def _moss(paper: Paper, x: float, y: float, wide: float, high: float) -> None:
    layer = np.zeros_like(paper.ink)
    for _ in range(30):
        turn, reach = paper.draw.uniform(np.pi, 2 * np.pi), paper.draw.uniform(0.86, 1.02)
        foot = np.array([x + wide * reach * np.cos(turn), y + high * reach * np.sin(turn)]) * SIDE
        dot = np.stack([foot, foot + paper.draw.normal(0, 4, 2)])
        sweep(layer, dot, np.ones(2), Brush(paper.draw.uniform(4, 9), 1.0), paper.draw)
    paper.brush(paper.bled(layer, 0.12), 0.95)


def _bamboo(paper: Paper) -> None:
    """Two stems at the right, and leaves in single pressed strokes, some of them pale and wet."""
    for x, lean, width, strength in ((0.955, -0.045, 22.0, 0.55), (0.865, -0.075, 15.0, 0.85)):
        layer = np.zeros_like(paper.ink)
        _bamboo_stem(layer, paper.draw, x, lean, width)
        paper.ink *= 1 - 0.75 * blurred(layer, 1)
        paper.brush(layer, strength)
    leaves, pale = np.zeros_like(paper.ink), np.zeros_like(paper.ink)
    for x, y in TUFTS:
        for _ in range(7):
            _bamboo_leaf(leaves if paper.draw.random() < 0.7 else pale, paper.draw, x, y)
    paper.brush(paper.bled(pale, 0.15), 0.42)
    paper.brush(leaves, 1.05)


def _bamboo_stem(layer: Field, draw: np.random.Generator, x: float, lean: float, width: float) -> None:
    """In one breath from joint to joint; the brush is pressed at both."""
    pressure = 0.86 + 0.14 * np.abs(np.linspace(-1, 1, 60)) ** 3
    for low, high in pairwise(np.arange(1.25 + 3 * lean, -0.3, -0.155)):
        heights = (low - 0.004, (low + high) / 2, high + 0.004)
        path = smooth_path([(x + lean * (1 - y) + 0.03 * np.sin(3 * y), y) for y in heights])
        sweep(layer, path * SIDE, pressure, Brush(width, draw.uniform(0.35, 0.7), 0.85), draw)


def _bamboo_leaf(layer: Field, draw: np.random.Generator, x: float, y: float) -> None:
    angle, long = draw.normal(1.75, 0.62), draw.uniform(0.07, 0.15)
    tip = (x + long * np.cos(angle), y + long * np.sin(angle))
    middle = ((x + tip[0]) / 2 + draw.normal(0, 0.006), (y + tip[1]) / 2 - 0.008)
    path = smooth_path([(x, y), middle, tip], 40) * SIDE
    t = np.linspace(0, 1, 40)
    sweep(layer, path, np.sin(np.pi * t**0.55) ** 0.9, Brush(draw.uniform(11, 18), draw.uniform(0.5, 1.0)), draw)


def _plum(paper: Paper) -> None:
    """An old branch from the left, rough and dry, with twigs and red blossoms."""
    draw, layer = paper.draw, np.zeros_like(paper.ink)
    path = smooth_path(BRANCH, 120)
    gnarled = np.linspace(1, 0.16, 120) * (1 + 0.12 * np.sin(np.arange(120)))
    sweep(layer, path * SIDE, gnarled, Brush(30, 0.12), draw)
    twigs = [_twig(path[start], rise, draw) for start, rise in TWIGS]
    for twig in twigs:
        sweep(layer, twig * SIDE, np.linspace(1, 0.3, 60), Brush(9, 0.7), draw)
    paper.ink *= 1 - 0.5 * layer
    paper.brush(layer, 1.1)
    for twig in [*twigs, path[60:]]:
        for index in draw.choice(np.arange(15, len(twig)), 4, replace=False):
            x, y = twig[index] + draw.normal(0, 0.008, 2)
            _blossom(paper, x, y, draw.uniform(0.010, 0.019))


def _twig(start: Points, rise: float, draw: np.random.Generator) -> Points:
    (x, y), bend = start, draw.uniform(0.02, 0.07)
    return smooth_path(
        [(x, y), (x + bend, y + 0.35 * rise), (x + 0.8 * bend, y + 0.65 * rise), (x + 1.9 * bend, y + rise)]
    )


def _blossom(paper: Paper, x: float, y: float, size: float) -> None:
    """Five wet dots, paler in their middle, and stamens in ink."""
    start = paper.draw.uniform(0, 2 * np.pi)
    spot = paper.around(x, y, 2 * size)
    petals = np.zeros_like(spot.red)
    for angle in start + np.arange(5) * 2 * np.pi / 5:
        right, down = x + 0.95 * size * np.cos(angle), y + 0.95 * size * np.sin(angle)
        far = np.hypot(spot.x - right, spot.y - down) / (0.68 * size)
        petals = np.maximum(petals, smoothstep(1.0, 0.75, far) * (0.5 + 0.5 * np.clip(far, 0, 1) ** 2))
    spot.red += petals * paper.draw.uniform(0.65, 1.0)
    spot.ink *= 1 - 0.92 * np.clip(petals, 0, 1)
    for angle in start + np.arange(7) * 2 * np.pi / 7:
        ends = np.array([[x, y], [x + 0.8 * size * np.cos(angle), y + 0.8 * size * np.sin(angle)]]) * SIDE
        sweep(paper.ink, ends, np.ones(2), Brush(1.6, 1.2, 0.8), paper.draw)


def _splashes(paper: Paper) -> None:
    """Drops that fell from the brush."""
    for _ in range(70):
        x, y, size = paper.draw.random(), paper.draw.random(), 0.0012 + 0.0045 * paper.draw.random() ** 4
        spot = paper.around(x, y, 2 * size)
        far = np.hypot(spot.x - x, spot.y - y) / size
        spot.ink += paper.draw.uniform(0.2, 0.8) * smoothstep(1.1, 0.7, far)


def _dried(paper: Paper) -> Canvas:
    """Light that passes ink and colour; long fibres and specks in the paper."""
    fibres = np.clip(clouds(paper.draw, 9, 160, octaves=2) - 1.4, 0, 1) + np.clip(
        clouds(paper.draw, 160, 12, octaves=2) - 1.6, 0, 1
    )
    ink = paper.ink * (1 + 0.07 * paper.grain) + 0.035 * fibres + 0.012 * clouds(paper.draw, 4)
    absorbed = ink[:, :, None] * INK_ABSORBS + (paper.red * (1 + 0.06 * paper.grain))[:, :, None] * RED_ABSORBS
    return np.asarray(sheet(PAPER) * (1 + 0.012 * paper.grain[:, :, None]) * np.exp(-np.clip(absorbed, 0, 4)))
