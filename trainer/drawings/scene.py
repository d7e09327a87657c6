"""What a painter looks at: the colour of every place, and the direction in which its form runs."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.drawings.canvas import Canvas, Colour, Field, blend


@dataclass
class Scene:
    """Colours [H,W,3] and angles [H,W], in radians from the horizontal, downwards."""

    colours: Canvas
    angles: Field

    def lay(self, cover: Field, colours: Colour | Canvas, angles: Field | float) -> None:
        """Something in front of all there is: where it covers more than half, its direction holds."""
        self.colours = blend(self.colours, colours, cover)
        self.angles = np.where(cover > 0.5, angles, self.angles).astype(np.float32)


def scattered(draw: np.random.Generator, spacing: float, side: int) -> npt.NDArray[np.float64]:
    """Places [N,2] about ``spacing`` pixels apart, in random order: a shaken grid leaves neither gaps nor rows."""
    along = np.arange(-spacing / 2, side + spacing, spacing)
    x, y = np.meshgrid(along, along)
    places = np.stack([x.ravel(), y.ravel()], axis=1)
    places += draw.uniform(-0.6, 0.6, places.shape) * spacing
    return np.asarray(draw.permutation(places))


def blob(x: Field, y: Field, centre: tuple[float, float], size: tuple[float, float], noise: Field) -> Field:
    """Positive inside a ragged ellipse, 1 in its middle, negative outside."""
    far = ((x - centre[0]) / size[0]) ** 2 + ((y - centre[1]) / size[1]) ** 2
    return np.asarray(1 - far + noise, dtype=np.float32)


def nearest_pigments(wanted: Canvas, pigments: Canvas) -> Canvas:
    """For each colour [N,3] the pigment [M,3] that is nearest to it, green counting the most as it does for the eye."""
    eye = np.array([0.6, 1.0, 0.5], dtype=np.float32)
    far = (((wanted[:, None] - pigments[None]) * eye) ** 2).sum(axis=2)
    return np.asarray(pigments[far.argmin(axis=1)])
