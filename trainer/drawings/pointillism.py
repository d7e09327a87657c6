"""A park by a river at sunset, in dabs of pure colour that only the eye mixes."""

import numpy as np

from generator.pixels import Pixels
from trainer.drawings.canvas import SIDE, Canvas, Field, colour, finished, palette, plane, ramp, sheet, smoothstep
from trainer.drawings.marks import Stroke, dab
from trainer.drawings.noise import blurred, clouds
from trainer.drawings.scene import Scene, blob, nearest_pigments, scattered

SEED = 11
HORIZON = 0.47
SUN = (0.57, 0.36)
PIGMENTS = palette(
    "fff6d5 ffe36b ffc83a ff9d2e f9702a e8432e d02a52 f28aa0 ffc2b5 b03a8c 7a3fa0 4f3aa8 2f49b8 2b74d1 53a7e6 a5d8ee"
    " 1c2f78 123c5c 0f6a70 1c9a84 1f7a3a 55a83a 9cc63c d5dc4a 7a3b2a 3a1d4a"
)
SKY = palette("2f55b5 4f7fd0 8b8fd2 d88fb0 f6a06a ffc85a ffe68a")
WATER = palette("ffdf80 d89ab0 8a8fd0 5f8ad8 2f6fc0 1d4a9c")
DISTANCE = palette("6a5fb0 4a6aa8 8a6aa0 3f7a8a")
FOLIAGE = palette("12304a 16583c 2f8a3a 86b53a f0c840")
GRASS = palette("e8d84a a8c83c 5fae3c 2a8a4a 1c6a50")
SHADE = colour("27368a")
TRUNK = palette("2a1c4a 5a2f4a a8502f f0903a")
SAIL = palette("fff2d0 ffcf9a c890c0")
CROWNS = (
    *(((0.10, 0.12), (0.27, 0.17)), ((0.30, 0.22), (0.14, 0.09))),
    *(((0.02, 0.33), (0.13, 0.10)), ((0.33, 0.05), (0.17, 0.08))),
)
"""The middles and the sizes of the foliage."""

LAYERS = ((10.5, 18.0, 10.5, 0.07), (6.6, 14.0, 7.6, 0.11), (8.5, 11.0, 6.0, 0.17))
"""Each: the distance of the dabs, their length and width, and how far their colours stray."""
COMPLEMENTS = 0.07
"""The share of dabs in the colour that is opposite to what is seen."""


def picture() -> Pixels:
    draw = np.random.default_rng(SEED)
    scene = _park(draw)
    canvas = sheet(colour("d9c7a0"))
    for spacing, length, width, stray in LAYERS:
        _dabs(draw, canvas, scene, spacing, length, width, stray)
    return finished(canvas)


def _dabs(
    draw: np.random.Generator, canvas: Canvas, scene: Scene, spacing: float, length: float, width: float, stray: float
) -> None:
    places = scattered(draw, spacing, SIDE)
    columns, rows = places.clip(0, SIDE - 1).astype(int).T
    colours = _divided(draw, scene.colours[rows, columns], stray)
    angles = scene.angles[rows, columns] + draw.normal(0, 0.22, len(places))
    sizes = draw.lognormal(0, 0.16, len(places))
    for (x, y), tint, angle, size in zip(places, colours, angles, sizes, strict=True):
        stroke = Stroke(x, y, angle, length * size, width * size, tint, 0.96, draw.normal(0, 0.8))
        dab(canvas, stroke, relief=0.13)


def _divided(draw: np.random.Generator, seen: Canvas, stray: float) -> Canvas:
    """Pure pigments for the colours that are seen: near ones that differ, and now and then the opposite one."""
    brightness = draw.normal(0, stray * 0.55, (len(seen), 1))
    wanted = seen + brightness + draw.normal(0, stray, seen.shape)
    opposite = draw.random(len(seen)) < COMPLEMENTS
    grey = seen.mean(axis=1, keepdims=True)
    wanted[opposite] = (grey - 1.1 * (seen - grey))[opposite]
    pigments = nearest_pigments(wanted.astype(np.float32), PIGMENTS)
    return (pigments * draw.normal(1, 0.035, (len(seen), 1))).astype(np.float32)


def _park(draw: np.random.Generator) -> Scene:
    x, y = plane()
    scene = _sky(draw, x, y)
    _far_bank(draw, scene, x, y)
    _water(draw, scene, x, y)
    _boats(scene, x, y)
    _meadow(draw, scene, x, y)
    _trees(draw, scene, x, y)
    return scene


def _sky(draw: np.random.Generator, x: Field, y: Field) -> Scene:
    """Bands of cloud over the gradient; the dabs run around the sun."""
    far = np.hypot(x - SUN[0], (y - SUN[1]) * 1.15)
    height = np.clip(y / HORIZON, 0, 1) ** 0.9
    scene = Scene(ramp(SKY, height), np.arctan2(x - SUN[0], -(y - SUN[1]) * 1.1).astype(np.float32))
    for lit, amount in ((colour("ffb070"), 0.85), (colour("8a62b8"), 0.75)):
        bands = clouds(draw, 3, 9, octaves=3)
        scene.lay(amount * smoothstep(0.35, 1.2, bands + 0.4 * (y < 0.34)), lit, scene.angles)
    scene.lay(0.9 * np.exp(-((far / 0.17) ** 2)), colour("ffd860"), scene.angles)
    scene.lay(smoothstep(0.066, 0.056, far), colour("fff6d0"), scene.angles)
    return scene


def _far_bank(draw: np.random.Generator, scene: Scene, x: Field, y: Field) -> None:
    hills = HORIZON - 0.055 - 0.035 * np.sin(6 * x + 1) - 0.02 * np.sin(15 * x)
    haze = ramp(DISTANCE, np.clip(0.5 + 0.35 * clouds(draw, 6), 0, 1))
    scene.lay(smoothstep(0, 0.008, y - hills), haze, 0.15)
    crowns = HORIZON - 0.02 - 0.028 * np.abs(np.sin(23 * x + 2 * np.sin(5 * x)))
    wood = ramp(FOLIAGE[:4], np.clip(0.32 + 0.25 * clouds(draw, 14) + 6 * (HORIZON - 0.02 - y), 0, 1))
    scene.lay(smoothstep(0, 0.008, y - crowns), wood, np.pi / 2)
    for place, tall in ((0.76, 0.23), (0.81, 0.27), (0.865, 0.21), (0.925, 0.29), (0.975, 0.24)):
        inside = blob(x, y, (place, HORIZON - tall / 2), (0.019, tall / 1.7), 0.35 * clouds(draw, 24, octaves=2))
        lit = np.clip(0.35 + 14 * (place - x) + 0.15 * clouds(draw, 30), 0, 1)
        scene.lay(smoothstep(0, 0.2, inside), ramp(FOLIAGE, lit), np.pi / 2)


def _water(draw: np.random.Generator, scene: Scene, x: Field, y: Field) -> None:
    """The sky upside down, broken by ripples; the sun's path glitters."""
    mirrored = scene.colours[np.clip(((2 * HORIZON - y[:, 0]) * SIDE).astype(int), 0, SIDE - 1)]
    depth = np.clip((y - HORIZON) / 0.3, 0, 1)
    ripples = clouds(draw, 5, 60, octaves=2)
    own = ramp(WATER, np.clip(depth + 0.16 * ripples, 0, 1))
    surface = (0.4 * mirrored + 0.6 * own).astype(np.float32)
    scene.lay((y > HORIZON).astype(np.float32), surface, (0.12 * clouds(draw, 4)).astype(np.float32))
    path = np.exp(-(((x - SUN[0]) / (0.03 + 0.22 * depth)) ** 2))
    glitter = smoothstep(0.2, 0.9, path * 1.3 + 0.55 * ripples - 0.35)
    scene.lay(glitter * (y > HORIZON), colour("ffe07a"), scene.angles)


def _boats(scene: Scene, x: Field, y: Field) -> None:
    """Two, each with a mainsail in the light and a jib in the shade; and their broken reflections."""
    for place, foot, size in ((0.40, 0.555, 0.17), (0.71, 0.52, 0.10)):
        up, aside = (foot - y) / size, (x - place) / size
        rising = (up > 0.05) & (up < 1)
        for sail, tone in (
            ((aside > 0.02) & (aside < 0.52 * (1 - up)), 0.0),
            ((aside < -0.03) & (aside > -0.36 * (1 - up)), 0.6),
        ):
            scene.lay((sail & rising).astype(np.float32), ramp(SAIL, np.clip(tone + 0.4 * (1 - up), 0, 1)), 1.2)
        mirrored = (np.abs(aside) < 0.45 * (1 + up)) & (up < -0.08) & (up > -0.8)
        scene.lay(0.6 * mirrored.astype(np.float32), SAIL[1], 0.0)
        hull = (np.abs(aside) < 0.45 + 0.9 * up) & (np.abs(up) < 0.055)
        scene.lay(hull.astype(np.float32), TRUNK[0], 0.0)


def _meadow(draw: np.random.Generator, scene: Scene, x: Field, y: Field) -> None:
    """The near bank, lit from behind: long violet shadows lie on it, and a path."""
    edge = 0.665 + 0.10 * smoothstep(0.25, 0.95, x) - 0.012 * np.sin(19 * x)
    light = np.clip(1.9 * (y - edge) + 0.13 * clouds(draw, 7), 0, 1)
    slope = (0.35 - 0.8 * (x - 0.3) + 0.4 * clouds(draw, 3)).astype(np.float32)
    scene.lay(smoothstep(0, 0.006, y - edge), ramp(GRASS, light), slope)
    fan = (x - SUN[0]) / (y - SUN[1] + 0.05)
    shadow = smoothstep(0.25, 0.7, np.sin(9.5 * fan + 0.9) + 0.35 * clouds(draw, 6)) * smoothstep(0.01, 0.05, y - edge)
    scene.lay((0.72 * shadow).astype(np.float32), SHADE, slope)
    bend = 0.60 + 0.9 * (y - 0.8) ** 2 - 0.35 * (y - 0.8)
    path = smoothstep(1, 0.85, np.abs(x - bend) / (0.012 + 0.55 * np.clip(y - 0.73, 0, 1))) * (y > edge + 0.01)
    stones = ramp(palette("ffd9a0 f2a07a c88ab8 8a7ac8"), np.clip(0.45 + 0.3 * clouds(draw, 6), 0, 1))
    scene.lay((0.85 * path * (1 - 0.5 * shadow)).astype(np.float32), stones, 0.1)
    flowers = smoothstep(1.5, 1.9, clouds(draw, 40, octaves=2)) * (y > edge + 0.03)
    scene.lay((flowers * (1 - path)).astype(np.float32), colour("f04a4a"), slope)


def _trees(draw: np.random.Generator, scene: Scene, x: Field, y: Field) -> None:
    """Two great trees on the left, dark against the light."""
    for foot, lean, thick in ((0.12, 0.05, 0.030), (0.265, 0.03, 0.019)):
        rise = np.clip((0.80 - y) / 0.7, 0, 1)
        half = thick * (1.2 - 0.6 * rise) + 0.03 * np.clip(y - 0.76, 0, None)
        aside = (x - foot - lean * rise**2 - 0.008 * np.sin(14 * y)) / half
        bark = ramp(TRUNK, np.clip(0.35 + 0.4 * aside + 0.2 * clouds(draw, 20, 8), 0, 1))
        scene.lay(smoothstep(1, 0.9, np.abs(aside)) * (y < 0.81), bark, np.pi / 2)
    _crowns(draw, scene, x, y)


def _crowns(draw: np.random.Generator, scene: Scene, x: Field, y: Field) -> None:
    """Their foliage, with a burning rim towards the sun."""
    ragged = 0.5 * clouds(draw, 7, octaves=3)
    inside = np.max([blob(x, y, *crown, ragged) for crown in CROWNS], axis=0)
    rim = 0.55 * np.exp(-((inside / 0.35) ** 2)) * (x > 0.12)
    lit = np.clip(0.30 + rim + 0.16 * clouds(draw, 18) + 0.1 * clouds(draw, 5), 0, 1)
    turning = 1.2 * blurred(clouds(draw, 9), 3) + 0.8
    scene.lay(smoothstep(0, 0.15, inside), ramp(FOLIAGE, lit), turning)
