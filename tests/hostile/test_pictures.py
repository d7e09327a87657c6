"""Unusual pictures come through the service as what they show."""

import io
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from generator.pictures import decode
from tests.hostile.conftest import Target, send
from tests.pictures import decoded, encoded

Samples = npt.NDArray[np.int64]
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Adam7: first column, first row, and the steps."""
LEAST_SIDE = 16


def png_pixels(data: bytes) -> Samples:
    """[H,W,4] of 8 bits, read by nothing but zlib and the PNG specification (third edition)."""
    header, parts = b"", dict[bytes, bytes]()
    for name, body in _chunks(data):
        header = body if name == b"IHDR" else header
        parts[name] = parts.get(name, b"") + body
    width, height, depth, colours, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    raw, samples = zlib.decompress(parts[b"IDAT"]), np.zeros((height, width, CHANNELS[colours]), np.int64)
    at = 0
    for left, top, step_x, step_y in PASSES if interlaced else ((0, 0, 1, 1),):
        part = samples[top::step_y, left::step_x]
        if part.size:
            at = _unfilter(raw, at, part, depth)
    return _rgba(samples, depth, colours, parts)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += length + 12


def _unfilter(raw: bytes, at: int, part: Samples, depth: int) -> int:
    """Fills in one pass; where the next one begins."""
    height, width, channels = part.shape
    line_bytes = (width * channels * depth + 7) // 8
    distance = max(1, channels * depth // 8)
    above = bytearray(line_bytes)
    for row in range(height):
        kind, line = raw[at], bytearray(raw[at + 1 : at + 1 + line_bytes])
        at += 1 + line_bytes
        for i in range(line_bytes):
            a = line[i - distance] if i >= distance else 0
            b, c = above[i], above[i - distance] if i >= distance else 0
            p = a + b - c
            nearest = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            line[i] = (line[i] + (0, a, b, (a + b) // 2, nearest)[kind]) % 256
        above = line
        bits = np.unpackbits(np.frombuffer(bytes(line), np.uint8)).astype(np.int64)
        values = bits[: width * channels * depth].reshape(-1, depth) @ (1 << np.arange(depth - 1, -1, -1))
        part[row] = values.reshape(width, channels)
    return at


def _rgba(samples: Samples, depth: int, colours: int, parts: dict[bytes, bytes]) -> Samples:
    top, transparent = 2**depth - 1, parts.get(b"tRNS")
    if colours == 3:
        palette = np.frombuffer(parts[b"PLTE"], np.uint8).reshape(-1, 3).astype(np.int64)
        alpha = np.full(len(palette), 255)
        alpha[: len(transparent or b"")] = list(transparent or b"")
        return np.concatenate([palette[samples[..., 0]], alpha[samples[..., 0]][..., None]], axis=-1)
    colour = samples if colours in (0, 2) else samples[..., :-1]
    if colours in (4, 6):
        alpha = samples[..., -1]
    elif transparent:
        key = struct.unpack(f">{len(transparent) // 2}H", transparent)
        alpha = np.where((colour == key).all(axis=-1), 0, top)
    else:
        alpha = np.full(samples.shape[:2], top)
    rgb = np.broadcast_to(colour, (*colour.shape[:2], 3))
    rgba: Samples = np.round(np.concatenate([rgb, alpha[..., None]], axis=-1) * (255 / top)).astype(np.int64)
    return rgba


def suite(shared: Path) -> list[Path]:
    """PngSuite's valid files."""
    return [path for path in sorted((shared / "hostile/pngsuite/png").glob("*.png")) if path.name[0] != "x"]


def test_pngsuite_has_the_pixels_that_the_specification_says(shared: Path) -> None:
    """16 bits are told from 8 to within one step. On white, where a file is transparent."""
    paths = suite(shared)
    assert len(paths) > 150
    for path in paths:
        rgba = png_pixels(path.read_bytes())
        alpha = rgba[..., 3:] / 255
        picture = decode(path.read_bytes(), long_side=None, max_pixels=10**6)
        assert np.abs(picture.pixels - (rgba[..., :3] * alpha + 255 * (1 - alpha))).max() <= 1.5, path.name
        if picture.alpha is None:
            assert (rgba[..., 3] == 255).all(), path.name
        else:
            assert np.abs(picture.alpha - rgba[..., 3]).max() <= 1, path.name


def test_pngsuite_comes_through_the_service_as_its_pixels_do(target: Target, shared: Path) -> None:
    """Each file is answered as the plainest PNG of the same pixels is, which an independent reader has made of it."""

    def compare(path: Path) -> tuple[str, float]:
        data = path.read_bytes()
        plain = encoded(Image.fromarray(png_pixels(data).astype(np.uint8), "RGBA"), "PNG")
        served, expected = (
            np.asarray(decoded(send(target.client, each, format="png").content).convert("RGBA")).astype(int)
            for each in (data, plain)
        )
        return path.name, float(np.abs(served - expected).mean())

    large = [path for path in suite(shared) if min(png_pixels(path.read_bytes()).shape[:2]) >= LEAST_SIDE]
    with ThreadPoolExecutor(4) as clients:
        distances = dict(clients.map(compare, large))
    assert len(distances) > 120
    assert max(distances.values()) < 2, max(distances.items(), key=lambda item: item[1])


@pytest.mark.parametrize("name", ["Landscape", "Portrait"])
def test_the_nine_orientations_come_out_of_the_service_alike(target: Target, shared: Path, name: str) -> None:
    """They were compressed anew for each orientation, so they are alike rather than equal."""

    def stylized(index: int) -> npt.NDArray[np.int64]:
        data = (shared / f"hostile/exif_orientation/{name}_{index}.jpg").read_bytes()
        answer = send(target.client, data, size="200", format="png")
        return np.asarray(Image.open(io.BytesIO(answer.content))).astype(np.int64)

    first, *others = map(stylized, range(9))
    turned = np.abs(first - first[::-1, ::-1]).mean()
    assert turned > 20
    assert all(other.shape == first.shape and np.abs(first - other).mean() < turned / 4 for other in others)
