"""Style pictures of our own: eight techniques, drawn by code, the same to the last bit each time.

A network learns from them what it learns from a painting: palette, strokes and textures on several scales, not what
they show. Each module draws one; ``python -m trainer.drawings FOLDER`` writes them all.
"""

from collections.abc import Callable

from generator.pixels import Pixels
from trainer.drawings import (
    art_deco,
    halftone,
    ink_wash,
    pastel,
    pointillism,
    stained_glass,
    watercolor,
    woodcut,
)

DRAWINGS: dict[str, Callable[[], Pixels]] = {
    "stained_glass": stained_glass.picture,
    "woodcut": woodcut.picture,
    "halftone": halftone.picture,
    "ink_wash": ink_wash.picture,
    "pointillism": pointillism.picture,
    "watercolor": watercolor.picture,
    "art_deco": art_deco.picture,
    "pastel": pastel.picture,
}
"""By the name of the style. Each call draws anew: [768,768,3]."""
