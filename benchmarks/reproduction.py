"""How well `strength=0` gives photographs back: PSNR of a bank's content row, without and with their colours.

    python -m benchmarks.reproduction --photographs kodak/ [--style starry_night]

All photographs are middle squares of 256 pixels; the styles are those that ship with Atelier.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np

from contract.settings import ContractSettings
from contract.storage import open_storage
from contract.styles import StyleStore
from generator.checkpoint import Checkpoint, content_row
from generator.pixels import Pixels, to_pixels
from trainer.content import load, middle_square
from trainer.evaluation import stylized_with
from worker.colours import towards_palette_of

SIZE = 256


def psnr(one: Pixels, other: Pixels) -> float:
    """In dB, of pictures in 0 to 255."""
    return float(10 * np.log10(255**2 / np.square(one.astype(float) - other).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--style", default="starry_night", help="one of the bank")
    arguments = parser.parse_args()

    styles = StyleStore(open_storage(str(ContractSettings().builtin_styles)))
    trunk = styles.read_trunk(styles.get(arguments.style).trunk)
    generator, row = Checkpoint.from_bytes(trunk).generator(), content_row(trunk)
    assert row is not None, "the bank has no content row"
    found: list[tuple[float, float]] = []
    for path in sorted(path for path in arguments.photographs.iterdir() if path.is_file()):
        content = middle_square(load(path), SIZE)
        photograph, drawn = to_pixels(content), to_pixels(stylized_with(generator, row, content[None])[0])
        found.append((psnr(drawn, photograph), psnr(towards_palette_of(photograph, drawn, 1.0), photograph)))
    for name, values in zip(("the row alone", "with the photograph's colours"), zip(*found, strict=True), strict=True):
        print(f"{name}: {statistics.median(values):.1f} dB ({min(values):.1f} to {max(values):.1f})")


if __name__ == "__main__":
    main()
