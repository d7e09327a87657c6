"""The pictures of the README and of docs/styles.md, made through a running service (``make run``).

    python -m benchmarks.pictures [--url http://127.0.0.1:8000]

Photographs are sample images of scikit-image: astronaut (NASA), coffee and the cat Chelsea (Rachel Michetti and Stéfan
van der Walt, both given to the public domain).
"""

import argparse
import io
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from skimage import data

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
SIDE = 384
GAP = 8


def photographs() -> list[Image.Image]:
    """Squares of the same size from the middle of three sample photographs."""
    samples = [data.astronaut(), data.chelsea(), data.coffee()]  # type: ignore[no-untyped-call]
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


def sheet(rows: list[list[Image.Image]]) -> Image.Image:
    """A grid of pictures on white."""
    step = SIDE + GAP
    grid = Image.new("RGB", (step * len(rows[0]) - GAP, step * len(rows) - GAP), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            grid.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x * step, y * step))
    return grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with httpx.Client(base_url=arguments.url, timeout=120) as client:
        styles = [card["name"] for card in client.get("/styles").json()["styles"] if card["source"] == "builtin"]
        rows = [[picture, *(stylized(client, picture, style) for style in styles)] for picture in photographs()]
    sheet(rows).save(FOLDER / "styles.jpg", quality=88)
    sheet(rows[:1]).save(FOLDER / "before_after.jpg", quality=90)
    print("columns:", "photograph", *styles)


if __name__ == "__main__":
    main()
