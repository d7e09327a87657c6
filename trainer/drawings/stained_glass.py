"""A window: a sun over hills and a river, with poppies in front, of coloured panes in lead."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from generator.pixels import Pixels
from trainer.drawings.canvas import SIDE, Canvas, Field, Mask, blend, finished, palette, plane, smoothstep
from trainer.drawings.marks import ribbon, smooth_path
from trainer.drawings.noise import blurred, clouds, slope, warped

SEED = 3
LARGE = 2 * SIDE
LEAD_WIDTH = 5.0

SUN = (0.62, 0.31)
SUN_GLASS = palette("ffd84a ffb81f ff9d14 ffe88a")
RING_GLASS = (
    palette("ffb22e ff9a1f f98a1c ffc94d"),
    palette("f4631e e8452c f47a2a d9362f"),
    palette("c2244f a81c5b d23a4a 8f1f6b"),
    palette("6a2a93 4b2fa3 8a3a9e 3a2b8c"),
    palette("2350c0 1f6fd0 173a9e 3488dc"),
    palette("1746a8 0f2f86 2272c9 4aa6e0"),
    palette("0f2c7a 123f9a 1b62b4 0c225f"),
)
RING_EDGES = (0.0, 0.15, 0.225, 0.31, 0.41, 0.53, 0.68)
RING_PANES = (15, 19, 17, 19, 21, 23, 25)
MOUNTAIN_GLASS = palette("5b4bb0 3d6db5 7a5fc4 2d8a9e 8a78d0 35549a")
HILL_GLASS = (palette("5fae3a 8cc63f b5d334 3f9a44"), palette("1f8a4c 2fa36a 13704a 5dbb63"))
RIVER_GLASS = palette("4cc3e8 2a9fd6 8ddcf0 1c7fc0 bfeaf5")
POPPY_GLASS = palette("e3172a c20f2c f2432a ff6a3d d11a4a")
HEART_GLASS = palette("3a1450 f7c531")
LEAF_GLASS = palette("0f7a3c 2e9b3f 0a5c38 66b032")


@dataclass
class Window:
    """Which pane every pixel belongs to; each pane's glass."""

    panes: npt.NDArray[np.int32]
    draw: np.random.Generator
    glass: list[Canvas] = field(default_factory=list)
    """The colours to choose from, by the group of panes."""
    groups: npt.NDArray[np.int32] = field(init=False)
    count: int = 0

    def __post_init__(self) -> None:
        self.groups = np.zeros_like(self.panes)

    def set(self, where: Mask, numbers: npt.NDArray[np.int32], glass: Canvas) -> None:
        """Fills ``where`` with panes: pixels that have the same number share one."""
        chosen = numbers[where]
        self.panes[where] = self.count + chosen - chosen.min(initial=0)
        self.count += int(chosen.max(initial=0) - chosen.min(initial=0)) + 1
        self.groups[where] = len(self.glass)
        self.glass.append(glass)

    def pane(self, where: Mask, glass: Canvas) -> None:
        """Makes ``where`` one pane."""
        self.panes[where] = self.count
        self.count += 1
        self.groups[where] = len(self.glass)
        self.glass.append(glass)


def picture() -> Pixels:
    draw = np.random.default_rng(SEED)
    window = Window(np.zeros((LARGE, LARGE), dtype=np.int32), draw)
    x, y = plane(LARGE)
    x = x + 0.006 * clouds(draw, 5, octaves=2, side=LARGE)
    y = y + 0.006 * clouds(draw, 5, octaves=2, side=LARGE)
    _sky(window, x, y)
    _mountains(window, x, y)
    _hills(window, x, y)
    _river(window, x, y)
    _poppies(window)
    lead = _lead(window)
    return finished(_leaded(_glass(window, lead), lead))


def _sky(window: Window, x: Field, y: Field) -> None:
    """Rings around the sun, each cut into panes; then the sun itself, a flower of eight."""
    far = np.hypot(x - SUN[0], y - SUN[1])
    turn = np.arctan2(y - SUN[1], x - SUN[0]) / (2 * np.pi) + 0.5
    for ring, (edge, count) in enumerate(zip(RING_EDGES, RING_PANES, strict=True)):
        starts = (window.draw.uniform(-0.33, 0.33, count) + np.arange(count)).astype(np.float32)
        sway = 0.035 * ring * np.sin(9 * far + ring)
        sector = np.searchsorted(starts, ((turn + sway / 9) * count) % count).astype(np.int32) % count
        wave = 1 + 0.07 * np.sin(2 * np.pi * turn * (5 + ring % 3) + ring)
        window.set(far >= edge * wave, sector, RING_GLASS[ring])
    petal = 0.085 + 0.022 * np.abs(np.cos(8 * np.pi * turn))
    window.set(far < petal, (turn * 8).astype(np.int32), SUN_GLASS)
    window.pane(far < 0.046, SUN_GLASS[:2])


def _mountains(window: Window, x: Field, y: Field) -> None:
    ridge = 0.50 - 0.10 * np.abs(np.sin(7.3 * x + 0.6)) - 0.06 * np.sin(3.1 * x + 2.0)
    window.set(y > ridge, _shards(window.draw, x, y, 46, (0.38, 0.70)), MOUNTAIN_GLASS)


def _shards(
    draw: np.random.Generator, x: Field, y: Field, count: int, between: tuple[float, float]
) -> npt.NDArray[np.int32]:
    """The number of the nearest of some random points, measured so that the shards stand upright."""
    nearest, number = np.full_like(x, np.inf), np.zeros(x.shape, dtype=np.int32)
    for index in range(count):
        far = (1.5 * (x - draw.random())) ** 2 + (y - draw.uniform(*between)) ** 2
        closer = far < nearest
        nearest[closer], number[closer] = far[closer], index
    return number


def _hills(window: Window, x: Field, y: Field) -> None:
    """Two slopes in bands that follow their crests, cut across at random."""
    crests = (0.585 + 0.055 * np.sin(5 * x + 0.4), 0.70 + 0.07 * np.sin(4.2 * x + 3.4))
    for crest, glass, depth, cuts in zip(crests, HILL_GLASS, (0.075, 0.09), (9, 8), strict=True):
        band = np.floor((y - crest) / depth).astype(np.int32)
        offset = window.draw.random(64)[np.clip(band, 0, 63)]
        lean = 0.5 * np.sin(7 * y) + 0.18 * np.sin(23 * x)
        window.set(y > crest, band * 100 + np.floor(x * cuts + offset + lean).astype(np.int32), glass)


def _river(window: Window, x: Field, y: Field) -> None:
    """It comes from between the hills and grows towards us."""
    down = np.clip((y - 0.60) / 0.4, 0, 1)
    middle = 0.545 - 0.16 * down + 0.085 * np.sin(6.5 * down)
    aside = (x - middle) / (0.034 + 0.16 * down**1.3)
    step = np.floor(9 * down**0.75 + 0.55 * np.sin(2.2 * aside + 4 * down)).astype(np.int32)
    # Far away it is one pane wide.
    lane = np.where(down < 0.3, 0, np.floor(1.5 + 1.3 * aside + 0.6 * np.sin(9 * down))).astype(np.int32)
    window.set((np.abs(aside) < 1) & (y > 0.60), step * 10 + lane, RIVER_GLASS)


def _poppies(window: Window) -> None:
    """Stems and leaves first, then the flowers over them, the nearest last."""
    flowers = ((0.17, 0.60, 0.105), (0.86, 0.62, 0.10), (0.70, 0.80, 0.125), (0.09, 0.86, 0.11), (0.40, 0.88, 0.10))
    for x, y, _ in flowers:
        _stem(window, x, y)
    for x, y, radius in flowers:
        _flower(window, x, y, radius)


def _stem(window: Window, x: float, y: float) -> None:
    lean = window.draw.uniform(-0.06, 0.06)
    stem = smooth_path([(x, y), (x + lean, y + 0.2), (x + 0.3 * lean, 1.1)])
    _shape(window, stem, np.full(len(stem), 0.021), LEAF_GLASS)
    for side in (-1, 1):
        low, reach = window.draw.uniform(0.16, 0.30), window.draw.uniform(0.14, 0.2)
        start = (x + lean * 0.8, y + low)
        tip = (start[0] + side * reach, start[1] - 0.6 * reach)
        knee = (start[0] + side * 0.45 * reach, start[1] - 0.12 * reach)
        spine = smooth_path([start, knee, tip])
        along = np.linspace(0, 1, len(spine))
        half = 0.052 * np.sin(np.pi * along**0.8)
        for offset in (-1, 1):
            _shape(window, spine + np.stack([0 * half, offset * half / 2], axis=1), half + 0.002, LEAF_GLASS)


def _flower(window: Window, x: float, y: float, radius: float) -> None:
    """Six petals of uneven width around a dark heart with a golden seed."""
    start = window.draw.uniform(0, 2 * np.pi)
    for petal in (0, 2, 4, 1, 3, 5):
        angle = start + petal * np.pi / 3
        spine = smooth_path([(x, y), (x + radius * np.cos(angle), y + 0.86 * radius * np.sin(angle))])
        along = np.linspace(0, 1, len(spine))
        wide = radius * window.draw.uniform(0.95, 1.2) * np.sqrt(np.sin(np.pi * (0.04 + 0.94 * along**1.35)).clip(0))
        _shape(window, spine, wide, POPPY_GLASS)
    for size, glass in ((0.34, HEART_GLASS[:1]), (0.15, HEART_GLASS[1:])):
        across = np.linspace(-1, 1, 40)
        spine = np.stack([np.full(40, x), y + across * size * radius], axis=1)
        _shape(window, spine, 2 * size * radius * np.sqrt(1 - across**2), glass)


def _shape(window: Window, spine: npt.NDArray[np.float64], widths: npt.NDArray[np.float64], glass: Canvas) -> None:
    """One pane in the form of a band."""
    mask = Image.new("1", (LARGE, LARGE))
    ImageDraw.Draw(mask).polygon(ribbon(spine * LARGE, widths * LARGE), fill=1)
    window.pane(np.asarray(mask), glass)


def _lead(window: Window) -> Field:
    """The height of the lead, 0..1: along every edge, heavier between groups of panes, with solder where lines meet."""
    edges = np.zeros(window.panes.shape, dtype=np.float32)
    for map_, weight in ((window.panes, 1.0), (window.groups, 0.8)):
        edges[:, 1:] += weight * (map_[:, 1:] != map_[:, :-1])
        edges[1:] += weight * (map_[1:] != map_[:-1])
    soft = blurred(edges, LEAD_WIDTH) * LEAD_WIDTH * 2.5
    return smoothstep(0.30, 0.72, soft)


def _glass(window: Window, lead: Field) -> Canvas:
    """Every pane's colour, with the light falling through it: gradients, streaks, seeds and a glow in the middle."""
    draw = window.draw
    _, first, pane = np.unique(window.panes, return_index=True, return_inverse=True)
    pane = pane.reshape(window.panes.shape)
    groups = window.groups.ravel()[first]
    main, second = (np.stack([draw.choice(window.glass[group]) for group in groups]) for _ in range(2))
    angle = draw.uniform(0, np.pi, len(groups)).astype(np.float32)
    along, across = _turned(angle[pane])
    streaks = _streaks(draw, along, across, draw.integers(0, LARGE, len(groups))[pane])
    gradient = _gradient(pane, along)
    mixture = smoothstep(-0.6, 1.9, streaks + 0.8 * gradient)
    colours = main[pane] + (second[pane] - main[pane]) * mixture[:, :, None]
    glow = 1 - blurred(lead, 26)
    tone = draw.uniform(0.78, 1.12, len(groups)).astype(np.float32)[pane]
    light = tone * (0.70 + 0.42 * glow + 0.12 * gradient + 0.12 * streaks + 0.05 * clouds(draw, 110, side=LARGE))
    bright = colours * light[:, :, None]
    # What is more than full light turns whiter, as bright glass does.
    return np.asarray(bright + 0.55 * np.clip(light - 0.95, 0, 1)[:, :, None])


def _turned(angle: Field) -> tuple[Field, Field]:
    x, y = plane(LARGE)
    cosine, sine = np.cos(angle), np.sin(angle)
    return x * cosine + y * sine, y * cosine - x * sine


def _streaks(draw: np.random.Generator, along: Field, across: Field, start: npt.NDArray[np.int64]) -> Field:
    """Drawn-out swirls that run along each pane in a direction of its own."""
    source = clouds(draw, 6, 70, octaves=4, side=LARGE, fade=0.7)
    source = warped(source, *(22 * clouds(draw, 6, octaves=3, side=LARGE) for _ in range(2)))
    return source[_mirrored(across * LARGE + start), _mirrored(along * LARGE + 3 * start)]


def _mirrored(at: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """Places that run to and fro between the edges of the sheet: there is no seam."""
    return np.abs(at.astype(np.int64) % (2 * LARGE - 1) - (LARGE - 1))


def _gradient(pane: npt.NDArray[np.int64], along: Field) -> Field:
    """From about -1.5 at one end of each pane to 1.5 at the other."""
    flat, values = pane.ravel(), along.ravel().astype(np.float64)
    count = np.bincount(flat)
    mean = np.bincount(flat, values) / count
    spread = np.sqrt(np.maximum(np.bincount(flat, values**2) / count - mean**2, 1e-8))
    return ((along - mean[pane]) / spread[pane]).astype(np.float32)


def _leaded(glass: Canvas, lead: Field) -> Canvas:
    """Dark lead over the glass, lit from the upper left along its round back."""
    shine = np.clip(-9 * slope(blurred(lead, 3)), 0, 1)
    metal = np.array([0.075, 0.07, 0.085], dtype=np.float32) + 0.22 * shine[:, :, None]
    shadow = 1 - 0.35 * blurred(lead, 9)
    return blend(glass * shadow[:, :, None], metal.astype(np.float32), lead)
