"""Fields under an evening sky, in chalks of many layers on a tinted paper that shows through."""

import numpy as np

from generator.pixels import Pixels
from trainer.drawings.canvas import (
    SIDE,
    Canvas,
    Field,
    blend,
    colour,
    finished,
    palette,
    plane,
    ramp,
    sheet,
    smoothstep,
)
from trainer.drawings.marks import Points, Stroke, chalk
from trainer.drawings.noise import clouds, paper_grain
from trainer.drawings.scene import Scene, blob, nearest_pigments, scattered

SEED = 23
PAPER = colour("98705c")
STICKS = palette(
    "fff3dc ffe0a8 ffc46a f7a03c e8722e d04a2c a82f30 7a2438 4a1c34 f2b8a0 e08a8a b86a94 84589a 5a4a8c 3a3a74 2c2a50"
    " a8c8d8 74a8c8 4a80b0 7ac0b0 3f8f86 2a5f60 8fa84a 5f7a38 c8b84a 8a6a30 5a3a24"
)
SKY = palette("3f5fa0 6a8fc0 9ab8cc f0c8a8 ffc07a f78a4a")
CLOUD = palette("fff0d8 ffc890 f0907a a8688c 6a5a94")
MOUNTAINS = palette("8a6aa0 6a5a98 4a4a80 a87898")
WHEAT = palette("ffdf9a f7b84a e8902e c8662a")
MEADOW = palette("c8b84a 8fa84a 5f8a48 3f6a50")
EARTH = palette("f0a070 d0603a a03a30 6a2438")
TREE = palette("241f48 2a4a50 4a6a3a 98a040 f0c060")

SMUDGED = 0.8
"""How much of the colours was rubbed into the paper with a finger, before the strokes."""
LAYERS = ((19.0, 78.0, 22.0, 0.06, 0.8), (12.0, 56.0, 13.0, 0.10, 0.35), (15.0, 42.0, 8.5, 0.16, 0.9))
"""Each: the distance of the strokes, their length and width, how far their colours stray, and the pressure."""


def picture() -> Pixels:
    draw = np.random.default_rng(SEED)
    tooth = paper_grain(draw)
    scene = _fields(draw)
    smudged = smoothstep(-2.0, 1.0, 0.9 * tooth + 0.7 * clouds(draw, 6)) * SMUDGED
    canvas = blend(sheet(PAPER) * (1 + 0.05 * tooth[:, :, None]), scene.colours, smudged)
    for spacing, length, width, stray, pressure in LAYERS:
        places = scattered(draw, spacing, SIDE)
        _strokes(draw, canvas, scene, places, tooth, (length, width), stray, pressure)
    return finished(canvas)


def _strokes(
    draw: np.random.Generator,
    canvas: Canvas,
    scene: Scene,
    places: Points,
    tooth: Field,
    size: tuple[float, float],
    stray: float,
    pressure: float,
) -> None:
    columns, rows = places.clip(0, SIDE - 1).astype(int).T
    seen = scene.colours[rows, columns]
    wanted = seen + draw.normal(0, stray, (len(seen), 1)) + draw.normal(0, stray * 0.7, seen.shape)
    sticks = nearest_pigments(wanted.astype(np.float32), STICKS)
    tints = (0.6 * sticks + 0.4 * seen + draw.normal(0, 0.02, seen.shape)).astype(np.float32)
    angles = scene.angles[rows, columns] + draw.normal(0, 0.12, len(places))
    for (x, y), tint, angle in zip(places, tints, angles, strict=True):
        length, width = np.array(size) * draw.lognormal(0, 0.25)
        stroke = Stroke(x, y, angle, length, width, tint, 0.9, draw.normal(0, 0.06) * length)
        chalk(canvas, stroke, tooth, pressure + draw.normal(0, 0.35))


def _fields(draw: np.random.Generator) -> Scene:
    x, y = plane()
    scene = _sky(draw, x, y)
    _mountains(draw, scene, y)
    _furrows(draw, scene, x, y)
    _road(draw, scene, x, y)
    _trees(draw, scene, x, y)
    return scene


def _sky(draw: np.random.Generator, x: Field, y: Field) -> Scene:
    """Great clouds that lean to the right, lit from below; strokes follow their swell."""
    swell = clouds(draw, 3, octaves=2)
    scene = Scene(ramp(SKY, np.clip(y / 0.46 + 0.05 * swell, 0, 1)), (-0.5 + 0.35 * swell).astype(np.float32))
    ragged = 0.45 * clouds(draw, 5, octaves=3)
    banks = (
        ((0.68, 0.14), (0.30, 0.10)),
        ((0.18, 0.25), (0.24, 0.07)),
        ((0.80, 0.31), (0.26, 0.05)),
        ((0.25, 0.04), (0.2, 0.05)),
    )
    for centre, size in banks:
        inside = blob(x, y, centre, size, ragged)
        tone = np.clip(0.45 - (y - centre[1]) / size[1] * -0.35 + 0.2 * clouds(draw, 8), 0, 1)
        curl = np.arctan2(x - centre[0], (centre[1] - y) * 2.5)
        scene.lay(smoothstep(0, 0.25, inside), ramp(CLOUD, tone), curl.astype(np.float32))
    sun = np.hypot(x - 0.42, y - 0.39)
    scene.lay(0.8 * np.exp(-((sun / 0.10) ** 2)), colour("ffd890"), scene.angles)
    scene.lay(smoothstep(0.045, 0.035, sun), colour("fff3d0"), scene.angles)
    return scene


def _mountains(draw: np.random.Generator, scene: Scene, y: Field) -> None:
    for base, high, tone in ((0.43, 0.11, 0.0), (0.47, 0.07, 0.45)):
        profile = clouds(draw, 4, octaves=4)[SIDE // 2]
        ridge = base - high * (0.5 + 0.35 * profile)[None, :]
        side = np.clip(tone + 0.25 + 0.3 * clouds(draw, 9) - 2.5 * (y - ridge), 0, 1)
        slope = np.where(np.gradient(profile)[None, :] > 0, -0.8, 0.8) + 0.0 * y
        scene.lay(smoothstep(0, 0.008, y - ridge), ramp(MOUNTAINS, side), slope.astype(np.float32))


def _furrows(draw: np.random.Generator, scene: Scene, x: Field, y: Field) -> None:
    """Four fields, each with strokes of its own direction: wheat, meadow, earth, wheat."""
    plots = (
        (0.475, 0.025, 4.0, WHEAT, 0.05),
        (0.545, 0.035, 5.1, MEADOW, -0.22),
        (0.625, 0.045, 3.3, EARTH, 0.45),
        (0.74, 0.06, 3.9, WHEAT, -1.05),
    )
    for number, (top, sway, bends, colours, angle) in enumerate(plots):
        edge = top + sway * np.sin(bends * x + 1.7 * number)
        rows = np.sin(60 * (y - edge) * (1 if number < 3 else 0.4) + 22 * x * np.sin(angle))
        tone = np.clip(0.42 + 0.22 * rows + 0.22 * clouds(draw, 6) + 0.9 * (y - edge), 0, 1)
        direction = angle + 0.5 * sway * bends * np.cos(bends * x + 1.7 * number) + 0.15 * clouds(draw, 4)
        scene.lay(smoothstep(0, 0.008, y - edge), ramp(colours, tone), direction.astype(np.float32))


def _road(draw: np.random.Generator, scene: Scene, x: Field, y: Field) -> None:
    down = np.clip((y - 0.56) / 0.44, 0, 1)
    middle = 0.52 + 0.17 * np.sin(5.0 * down + 0.3) * (1 - 0.3 * down)
    aside = (x - middle) / (0.008 + 0.13 * down**1.4)
    tone = np.clip(0.45 + 0.35 * aside + 0.2 * clouds(draw, 8), 0, 1)
    chalks = ramp(palette("ffe8c0 f2b8a0 c88aa0 84589a"), tone)
    bend = np.pi / 2 - np.arctan(0.85 * np.cos(5.0 * down + 0.3))
    scene.lay(smoothstep(1, 0.9, np.abs(aside)) * (y > 0.56), chalks, bend.astype(np.float32))


def _trees(draw: np.random.Generator, scene: Scene, x: Field, y: Field) -> None:
    """A row on the ridge, a great one on the right; each has a shadow side and a burning one."""
    trees = ((0.10, 0.51, 0.05), (0.19, 0.50, 0.04), (0.27, 0.51, 0.03), (0.66, 0.55, 0.045), (0.86, 0.50, 0.15))
    for place, height, size in trees:
        foot = height + size * 1.5
        shadow = blob(x, y, (place + 0.8 * size, foot + 0.1 * size), (1.6 * size, 0.22 * size), 0 * x)
        scene.lay(0.8 * smoothstep(0, 0.4, shadow), colour("3a3a74"), 0.1)
        trunk = smoothstep(1, 0.8, np.abs(x - place - 0.1 * (foot - y)) / (0.11 * size)) * (y > height) * (y < foot)
        scene.lay(trunk, TREE[0], np.pi / 2)
        inside = blob(x, y, (place, height), (size, 1.15 * size), 0.45 * clouds(draw, int(0.9 / size) + 4, octaves=3))
        lit = np.clip(0.42 + 0.35 * (place - x) / size + 0.30 * (height - y) / size + 0.18 * clouds(draw, 16), 0, 1)
        around = np.arctan2(x - place, height - y) + 0.4
        scene.lay(smoothstep(0, 0.15, inside), ramp(TREE, lit), around.astype(np.float32))
