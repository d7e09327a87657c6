"""The pictures of the README and of docs/styles.md, made through a running service (``make run``).

    python -m benchmarks.pictures [--url http://127.0.0.1:8000]

Photographs are sample images of scikit-image: astronaut (NASA), rocket (SpaceX), coffee and the cat Chelsea (Rachel
Michetti and Stéfan van der Walt), all of them given to the public domain.
"""

import argparse
import io
from itertools import chain
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from skimage import data

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
GAP = 6
SHEET_SIDE, ROW_SIDE = 200, 320
"""Of the small pictures of the contact sheet, and of those in the README."""
SHOWN = ("starry_night", "great_wave", "stained_glass", "halftone", "mondrian")
"""The styles of the README's picture."""
STYLES_A_ROW = 2


def photographs() -> list[Image.Image]:
    """Squares of the same size from the middle of four sample photographs."""
    samples = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]  # type: ignore[no-untyped-call]
    return [_square(Image.fromarray(np.asarray(sample))) for sample in samples]


def _square(picture: Image.Image) -> Image.Image:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side)).resize((512, 512), Image.Resampling.LANCZOS)


def stylized(client: httpx.Client, picture: Image.Image, style: str) -> Image.Image:
    out = io.BytesIO()
    picture.save(out, "PNG")
    answer = client.post(
        "/stylize", params={"style": style}, content=out.getvalue(), headers={"Content-Type": "image/png"}
    )
    answer.raise_for_status()
    return Image.open(io.BytesIO(answer.content)).convert("RGB")


def sheet(rows: list[list[Image.Image]], side: int) -> Image.Image:
    """A grid of pictures on white."""
    step = side + GAP
    grid = Image.new("RGB", (step * len(rows[0]) - GAP, step * len(rows) - GAP), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            grid.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (x * step, y * step))
    return grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    plain = photographs()
    with httpx.Client(base_url=arguments.url, timeout=120) as client:
        styles = [card["name"] for card in client.get("/styles").json()["styles"] if card["source"] == "builtin"]
        made = {style: [stylized(client, picture, style) for picture in plain] for style in styles}
    groups = [plain, *made.values()]
    rows = [list(chain(*groups[at : at + STYLES_A_ROW])) for at in range(0, len(groups), STYLES_A_ROW)]
    sheet(rows, SHEET_SIDE).save(FOLDER / "styles.jpg", quality=85)
    sheet([[plain[0], *(made[style][0] for style in SHOWN)]], ROW_SIDE).save(FOLDER / "before_after.jpg", quality=88)
    print("from left to right, and down:", "photographs", *styles)


if __name__ == "__main__":
    main()
