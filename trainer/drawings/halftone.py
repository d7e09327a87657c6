"""A cheap colour print of a loud still life: four screens of dots, heavy contours, plates that do not quite meet."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from generator.pixels import Pixels
from trainer.drawings.canvas import SIDE, Canvas, Field, Mask, colour, finished, plane, reduced, sheet, smoothstep
from trainer.drawings.marks import Points, ribbon, smooth_path, taper
from trainer.drawings.noise import clouds, paper_grain

SEED = 8
LARGE = 2 * SIDE
PAPER = colour("f6eeda")
PITCH = 17.0
"""The distance of the dots, in pixels of the large plates."""


@dataclass(frozen=True)
class Ink:
    """A plate's ink, the angle of its screen in degrees, and by how many pixels it is out of place."""

    tint: npt.NDArray[np.float32]
    angle: float
    right: int
    down: int


INKS = {
    "yellow": Ink(colour("ffdf1c"), 0, 0, 0),
    "cyan": Ink(colour("1ba6dc"), 15, -4, 3),
    "magenta": Ink(colour("e8246c"), 75, 4, -2),
    "black": Ink(colour("1a1619"), 45, 0, 0),
}

Tone = Field | float


@dataclass
class Plates:
    """How much of each ink every place shall get, 0..1; and the contours, which are drawn with a brush."""

    draw: np.random.Generator
    tones: dict[str, Field] = field(default_factory=dict)
    contours: Image.Image = field(default_factory=lambda: Image.new("L", (LARGE, LARGE)))

    def __post_init__(self) -> None:
        self.tones = {name: np.zeros((LARGE, LARGE), dtype=np.float32) for name in INKS}
        self.x, self.y = plane(LARGE)

    def fill(
        self, where: Mask, *, cyan: Tone = 0.0, magenta: Tone = 0.0, yellow: Tone = 0.0, black: Tone = 0.0
    ) -> None:
        for name, tone in (("cyan", cyan), ("magenta", magenta), ("yellow", yellow), ("black", black)):
            self.tones[name][where] = np.broadcast_to(np.asarray(tone, dtype=np.float32), where.shape)[where]

    def inside(self, outline: Points) -> Mask:
        """The pixels in the outline. What is behind it loses its contours there."""
        mask = Image.new("L", (LARGE, LARGE))
        ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in outline * LARGE], fill=255)
        self.contours.paste(0, mask=mask)
        return np.asarray(mask) > 0

    def contour(self, outline: Points, width: float) -> None:
        """A closed line that swells on the lower right, where the shadow is."""
        closed = np.concatenate([outline, outline[:2]])
        ahead = np.gradient(closed, axis=0)
        turn = np.arctan2(ahead[:, 1], ahead[:, 0])
        self.line(closed, width * (0.72 + 0.38 * np.cos(turn - 2.4)))

    def line(self, path: Points, widths: npt.NDArray[np.float64]) -> None:
        pen = ImageDraw.Draw(self.contours)
        for start in range(len(path) - 1):
            pen.polygon(ribbon(path[start : start + 2] * LARGE, widths[start : start + 2] * LARGE), fill=255)
            x, y = path[start] * LARGE
            half = widths[start] * LARGE / 2
            pen.ellipse((x - half, y - half, x + half, y + half), fill=255)


def picture() -> Pixels:
    draw = np.random.default_rng(SEED)
    plates = Plates(draw)
    _rays(plates)
    for cloud in ((0.17, 0.17, 0.15), (0.90, 0.30, 0.13), (0.47, 0.07, 0.11)):
        _cloud(plates, *cloud)
    _wave(plates)
    _cloth(plates)
    _leaves(plates)
    _melon(plates)
    _stems(plates)
    _orange(plates, 0.30, 0.69, 0.155)
    _lemon_half(plates, 0.56, 0.82, 0.15)
    _cherries(plates)
    return finished(_printed(draw, plates))


def _ellipse(x: float, y: float, wide: float, high: float, turn: float = 0.0) -> Points:
    t = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    along, across = wide * np.cos(t), high * np.sin(t)
    return np.stack(
        [x + along * np.cos(turn) - across * np.sin(turn), y + along * np.sin(turn) + across * np.cos(turn)], 1
    )


def _rays(plates: Plates) -> None:
    """A burst behind everything: solid yellow, and magenta dots that grow outwards."""
    x, y = plates.x - 0.66, plates.y - 0.26
    far, turn = np.hypot(x, y), np.arctan2(y, x)
    bright = np.sin(13 * turn) > 0.15
    whole = np.ones_like(bright)
    plates.fill(
        whole,
        yellow=np.where(bright, 1.0, 0.12),
        magenta=np.where(bright, 0.05 + 0.75 * far**1.3, 0.0),
        cyan=np.where(bright, 0.0, 0.22 + 0.42 * far),
    )
    edges = np.linspace(0, 2 * np.pi, 13, endpoint=False)
    for edge in np.concatenate([edges + np.arcsin(0.15) / 13, edges + (np.pi - np.arcsin(0.15)) / 13]):
        reach = np.linspace(0.13, 1.2, 30)
        ray = np.stack([0.66 + reach * np.cos(edge), 0.26 + reach * np.sin(edge)], axis=1)
        plates.line(ray, 0.0035 + 0.005 * reach)
    sun = _ellipse(0.66, 0.26, 0.135, 0.135)
    plates.fill(plates.inside(sun), yellow=1.0, magenta=np.clip(0.35 + 2.6 * (x + y + 0.1), 0.08, 1))
    plates.contour(sun, 0.013)


def _cloud(plates: Plates, x: float, y: float, size: float) -> None:
    """Puffs in one outline, with blue dots in their bellies and a few curls."""
    turn = np.linspace(0, 2 * np.pi, 260, endpoint=False)
    bumps = 1 + 0.20 * np.abs(np.sin(4.5 * turn + 0.4)) ** 0.8
    outline = np.stack([x + 1.35 * size * bumps * np.cos(turn), y + 0.62 * size * bumps * np.sin(turn)], axis=1)
    plates.fill(plates.inside(outline), cyan=np.clip(0.75 * (plates.y - y + 0.15 * size) / size, 0, 0.7))
    plates.contour(outline, 0.012)
    for aside in (-0.7, -0.1, 0.55):
        arc = np.linspace(2.6, 5.2, 24)
        centre = (x + aside * size, y + 0.14 * size)
        curl = np.stack([centre[0] + 0.34 * size * np.cos(arc), centre[1] + 0.30 * size * np.sin(arc)], axis=1)
        plates.line(curl, 0.009 * taper(24))


BREAKER = (
    (0.0, 0.0),
    (0.30, -0.28),
    (0.62, -0.85),
    (0.92, -1.0),
    (1.12, -0.78),
    (1.10, -0.52),
    (0.98, -0.56),
    (0.93, -0.30),
)
"""One wave up to where the next begins: along and up, in lengths and heights of it. Its crest hangs over."""


def _wave(plates: Plates) -> None:
    """Two ranks of breaking sea behind the table."""
    for number, (base, high, long) in enumerate(((0.485, 0.10, 0.235), (0.585, 0.115, 0.285))):
        starts = np.arange(-0.11 * (number + 1), 1.1, long)
        corners = [(start + long * x, base + high * y) for start in starts for x, y in BREAKER]
        crest = smooth_path(corners, 40 * len(starts))
        outline = np.concatenate([crest, [[1.3, 1.1], [-0.3, 1.1]]])
        depth = np.clip((plates.y - base + high) / (1.7 * high), 0, 1)
        cyan = np.clip(1.05 - 0.75 * depth, 0.2, 1)
        plates.fill(plates.inside(outline), cyan=cyan, magenta=0.45 * (1 - depth) ** 2, yellow=0.12 * number)
        plates.contour(outline, 0.010)
        for start in starts:
            _ribs(plates, (start, base), (long, high))


def _ribs(plates: Plates, foot: tuple[float, float], size: tuple[float, float]) -> None:
    """White water in the hollow of a wave, and lines along its back."""
    for number in range(5):
        share = 0.16 + 0.17 * number
        corners = [
            (share, 0.25),
            (share + 0.20, -0.10 - 0.07 * number),
            (0.55 + 0.10 * number, -0.62 + 0.05 * number),
            (0.90 + 0.035 * number, -0.80 + 0.02 * number),
        ]
        path = smooth_path([(foot[0] + size[0] * x, foot[1] + size[1] * y) for x, y in corners], 40)
        plates.line(path, 0.0085 * taper(40))


def _cloth(plates: Plates) -> None:
    """A table cloth in bold stripes that fall into folds."""
    x = np.linspace(-0.05, 1.05, 120)
    edge = 0.665 + 0.012 * np.sin(5 * x)
    outline = np.concatenate([np.stack([x, edge], axis=1), [[1.05, 1.1], [-0.05, 1.1]]])
    inside = plates.inside(outline)
    flow = plates.x * 7.5 + 3.4 * (plates.y - 0.66) + 0.35 * np.sin(9 * plates.y + 6 * plates.x)
    stripe = flow % 1
    shade = np.clip(0.45 + 0.5 * np.sin(2 * np.pi * flow / 2 + 1), 0, 1)
    plates.fill(inside, magenta=0.32 * shade, cyan=0.10 * shade)
    plates.fill(inside & (stripe < 0.5), magenta=1.0, yellow=0.9, black=0.38 * shade)
    plates.fill(inside & (stripe > 0.66) & (stripe < 0.82), cyan=1.0, magenta=0.55 * shade)
    plates.contour(outline, 0.012)


def _leaves(plates: Plates) -> None:
    leaves = (
        (0.02, 0.72, -1.15, 0.42),
        (0.04, 0.80, -0.65, 0.36),
        (0.98, 0.70, -2.05, 0.40),
        (1.0, 0.80, -2.55, 0.30),
        (0.0, 0.95, -0.3, 0.26),
    )
    for leaf in leaves:
        _leaf(plates, *leaf)


def _leaf(plates: Plates, x: float, y: float, angle: float, long: float) -> None:
    """Notched along both sides, with a rib, veins, and dots on its shaded half."""
    along = np.linspace(0, 1, 90)
    notches = 0.74 + 0.26 * np.sign(np.sin(32 * along)) * np.abs(np.sin(32 * along)) ** 0.5
    half = 0.24 * long * np.sin(np.pi * along**0.8) * notches
    ahead, aside = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    spine = np.array([x, y]) + long * along[:, None] * ahead + (0.25 * long * along**2)[:, None] * aside
    outline = np.concatenate([spine + half[:, None] * aside, (spine - half[:, None] * aside)[::-1]])
    across = (plates.x - x) * aside[0] + (plates.y - y) * aside[1]
    reach = ((plates.x - x) * ahead[0] + (plates.y - y) * ahead[1]) / long
    dark = across - 0.25 * long * reach**2 > 0
    shade = np.where(dark, 0.18 + 0.3 * (1 - reach), 0)
    plates.fill(plates.inside(outline), yellow=1.0, cyan=np.where(dark, 0.95, 0.30 + 0.4 * reach), black=shade)
    plates.contour(outline, 0.010)
    plates.line(spine, 0.011 * (1 - 0.8 * along))
    for start in range(12, 84, 9):
        for side in (-1, 1):
            tip = spine[start] + side * 0.8 * half[start] * aside + 0.05 * long * ahead
            plates.line(np.linspace(spine[start], tip, 10), 0.006 * np.linspace(1, 0.2, 10))


def _melon(plates: Plates) -> None:
    """A great slice: rind, white, flesh with growing dots, and seeds."""
    centre = np.array([0.735, 0.62])
    turn = np.linspace(0.28, 0.28 + np.pi, 90)
    for size, inks in (
        (0.225, {"cyan": 0.95, "yellow": 1.0, "black": 0.25}),
        (0.200, {"yellow": 0.35, "cyan": 0.12}),
        (0.182, {"magenta": np.clip(1.15 - 3.0 * (plates.y - 0.6), 0.35, 1), "yellow": 0.75}),
    ):
        outline = centre + size * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        plates.fill(plates.inside(outline), **inks)
        plates.contour(outline, 0.011)
    for reach, count in ((0.135, 7), (0.085, 4)):
        for angle in np.linspace(0.55, 0.28 + np.pi - 0.3, count):
            seed = centre + reach * np.array([np.cos(angle), np.sin(angle)])
            plates.inside(_ellipse(seed[0], seed[1], 0.001, 0.001))
            drop = np.linspace(seed, seed * 0.88 + centre * 0.12, 8)
            plates.line(drop, 0.014 * taper(8) + 0.002)


def _ball(plates: Plates, x: float, y: float, size: float) -> Field:
    """How far from the light: 0 at the upper left, 1 at the lower right of a ball."""
    far = np.hypot(plates.x - x + 0.42 * size, plates.y - y + 0.42 * size)
    return np.asarray(np.clip(far / (1.5 * size), 0, 1))


def _orange(plates: Plates, x: float, y: float, size: float) -> None:
    outline = _ellipse(x, y, size, size * 0.96)
    far = _ball(plates, x, y, size)
    plates.fill(
        plates.inside(outline),
        yellow=1.0,
        magenta=np.clip(0.12 + 0.85 * far, 0, 0.85),
        black=np.clip(2.0 * (far - 0.78), 0, 0.6),
    )
    plates.contour(outline, 0.015)
    shine = _ellipse(x - 0.42 * size, y - 0.42 * size, 0.22 * size, 0.11 * size, -0.7)
    plates.fill(plates.inside(shine))
    for number in range(5):
        arc = np.linspace(0.1, 1.25, 24)
        radius = size * (0.88 - 0.085 * number)
        hatch = np.stack([x + radius * np.cos(arc), y + 0.96 * radius * np.sin(arc)], axis=1)
        plates.line(hatch[2 * number : 24 - number], 0.0075 * taper(24 - 3 * number))


def _lemon_half(plates: Plates, x: float, y: float, size: float) -> None:
    """Peel, pith, and nine segments with drops of juice."""
    for scale, inks in ((1.0, {"yellow": 1.0, "magenta": 0.30}), (0.88, {"yellow": 0.18})):
        ring = _ellipse(x, y, size * scale, 0.93 * size * scale)
        plates.fill(plates.inside(ring), **inks)
        plates.contour(ring, 0.013 * scale**4)
    far = np.hypot(plates.x - x, plates.y - y) / size
    for number in range(9):
        middle = 2 * np.pi * number / 9 + 0.2
        t = np.linspace(-0.29, 0.29, 20)
        rim = np.stack([np.cos(middle + t), 0.93 * np.sin(middle + t)], axis=1) * 0.80 * size
        tip = np.array([[np.cos(middle), 0.93 * np.sin(middle)]]) * 0.10 * size
        segment = np.array([x, y]) + np.concatenate([tip, rim])
        plates.fill(plates.inside(segment), yellow=1.0, magenta=np.clip(0.75 * far - 0.22, 0, 0.6), cyan=0.10)
        plates.contour(segment, 0.007)
        for share in (-0.12, 0.08, 0.17):
            start, end = plates.draw.uniform(0.3, 0.4), plates.draw.uniform(0.55, 0.68)
            reach = np.linspace(start, end, 10) * size
            drop = np.stack([x + reach * np.cos(middle + share), y + 0.93 * reach * np.sin(middle + share)], axis=1)
            plates.line(drop, 0.0052 * taper(10))


CHERRIES = ((0.105, 0.86), (0.275, 0.915))


def _stems(plates: Plates) -> None:
    """The stems of the cherries, which go behind the orange."""
    knot = (0.165, 0.60)
    for x, y in CHERRIES:
        stem = smooth_path([knot, ((x + knot[0]) / 2 + 0.03, (y + knot[1]) / 2 - 0.03), (x, y - 0.055)])
        plates.line(stem, np.full(len(stem), 0.010))


def _cherries(plates: Plates) -> None:
    for x, y in CHERRIES:
        outline = _ellipse(x, y, 0.082, 0.078)
        far = _ball(plates, x, y, 0.08)
        plates.fill(
            plates.inside(outline),
            magenta=1.0,
            yellow=np.clip(0.9 - 0.3 * far, 0, 1),
            cyan=np.clip(1.5 * far - 0.55, 0, 0.9),
        )
        plates.contour(outline, 0.013)
        plates.fill(plates.inside(_ellipse(x - 0.03, y - 0.032, 0.021, 0.012, -0.7)))


def _printed(draw: np.random.Generator, plates: Plates) -> Canvas:
    grain = paper_grain(draw, SIDE)
    canvas = sheet(PAPER) * (1 + 0.014 * grain + 0.012 * clouds(draw, 5))[:, :, None]
    for name, ink in INKS.items():
        dots = _screen(plates.tones[name], ink.angle)
        if name == "black":
            dots = np.maximum(dots, np.asarray(plates.contours, dtype=np.float32) / 255)
        cover = reduced(_out_of_place(dots, ink))
        cover *= np.clip(0.955 + 0.03 * grain + 0.03 * clouds(draw, 10), 0, 1)
        canvas *= 1 - cover[:, :, None] * (1 - ink.tint)
    return canvas


def _out_of_place(dots: Field, ink: Ink) -> Field:
    reach = max(abs(ink.right), abs(ink.down))
    padded = np.pad(dots, reach, mode="edge")
    top, left = reach - ink.down, reach - ink.right
    return padded[top : top + LARGE, left : left + LARGE]


def _screen(tone: Field, degrees: float) -> Field:
    """Dots on a turned grid; each is as large as the tone in its middle says. Full tones have no dots."""
    x, y = plane(LARGE)
    cosine, sine = np.cos(np.radians(degrees)) * LARGE / PITCH, np.sin(np.radians(degrees)) * LARGE / PITCH
    u, v = x * cosine + y * sine, y * cosine - x * sine
    hill = ((np.cos(2 * np.pi * u) + np.cos(2 * np.pi * v)) / 4 + 0.5).astype(np.float32)
    at = _middle_of_cells(u, v, cosine, sine)
    wanted = np.where(np.abs(tone - tone[at]) < 0.2, tone[at], tone)
    levels = np.quantile(hill[::7, ::7], np.linspace(0, 1, 65))
    threshold = np.interp(1 - wanted, np.linspace(0, 1, 65), levels).astype(np.float32)
    dots = smoothstep(-0.06, 0.06, hill - threshold)
    return np.where(wanted > 0.97, 1, np.where(wanted < 0.03, 0, dots)).astype(np.float32)


def _middle_of_cells(u: Field, v: Field, cosine: float, sine: float) -> tuple[npt.NDArray[np.int64], ...]:
    """For every pixel the row and the column of the middle of its dot."""
    u, v = np.round(u), np.round(v)
    square = cosine**2 + sine**2
    x, y = (u * cosine - v * sine) / square, (u * sine + v * cosine) / square
    return tuple(np.clip(place * LARGE, 0, LARGE - 1).astype(np.int64) for place in (y, x))
