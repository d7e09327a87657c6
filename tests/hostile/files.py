"""Files that are meant to do harm, made here: each with its name, as bytes that claim to be a picture."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator

from PIL import Image, ImageCms

from tests.pictures import encoded, photograph

BODY = 20 * 2**20
"""Of a file that is meant to be large: below what a body may have."""
PNG_HEADER_END = 33
"""Signature and IHDR."""
PNG_END = 12
"""IEND."""
JPEG_START = 2


def chunk(name: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def segment(marker: int, data: bytes) -> bytes:
    """Of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def png(**options: object) -> bytes:
    return encoded(photograph(), "PNG", **options)


def jpeg(**options: object) -> bytes:
    return encoded(photograph(), "JPEG", quality=90, **options)


def with_header(data: bytes) -> bytes:
    """A PNG with these chunks before its pixels."""
    whole = png()
    return whole[:PNG_HEADER_END] + data + whole[PNG_HEADER_END:]


def with_trailer(data: bytes) -> bytes:
    """A PNG with these chunks after its pixels."""
    whole = png()
    return whole[:-PNG_END] + data + whole[-PNG_END:]


def with_segments(data: bytes) -> bytes:
    """A JPEG that begins with these bytes."""
    whole = jpeg()
    return whole[:JPEG_START] + data + whole[JPEG_START:]


def text_bomb(count: int) -> bytes:
    """Compressed texts of a megabyte each."""
    return chunk(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(2**20), 9)) * count


def progressive_bomb(scans: int, side: int = 2000) -> bytes:
    """A progressive JPEG whose last scan, of a hundred bytes, comes again and again; each goes over all pixels."""
    whole = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True, quality=50)
    last = whole.rindex(b"\xff\xc4")  # its Huffman table, and the scan
    return whole[:-2] + whole[last:-2] * scans + whole[-2:]


def hidden_scans() -> bytes:
    """The same behind a marker without a length, whose next bytes look like one that spans all of them."""
    whole = progressive_bomb(2000, 64)
    at = whole.rindex(b"\xff\xc4", 0, 3000)
    return whole[:at] + b"\xff\x01" + whole[at:]


def exif_bomb() -> bytes:
    """Thousands of tags that all point at the same sixty kilobytes."""
    entries, size = 5000, 60_000
    tags = b"".join(struct.pack("<HHII", 0x9000 + index, 7, size - 200, 8) for index in range(entries))
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<H", entries) + tags
    return with_segments(segment(0xE1, b"Exif\0\0" + tiff[: 65_000 - 6]))


def exif_orientation(value: int) -> bytes:
    """A JPEG with an orientation that may not exist."""
    exif = Image.Exif()
    exif[0x0112] = value
    return jpeg(exif=exif)


def lying_avif() -> bytes:
    """It says 64×48 pixels; its stream has twelve million."""
    whole = encoded(Image.new("RGB", (4000, 3000), (90, 120, 60)), "AVIF", speed=10, quality=20)
    at = whole.index(b"ispe")
    return whole[: at + 8] + struct.pack(">II", 64, 48) + whole[at + 16 :]


def png_of(width: int, height: int, depth: int = 8, colours: int = 2, data: bytes = b"") -> bytes:
    """A PNG that says that it has these sides, with this as its compressed data."""
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")


def jpeg_that_says(width: int, height: int) -> bytes:
    whole = jpeg()
    at = whole.index(b"\xff\xc0")
    return whole[: at + 5] + struct.pack(">HH", height, width) + whole[at + 9 :]


def webp_that_says(width: int, height: int) -> bytes:
    """An extended header and nothing behind it."""
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sides
    return b"RIFF" + struct.pack("<I", len(body)) + body


def animation(kind: str, frames: int) -> bytes:
    first, *others = (photograph(seed=seed) for seed in range(frames))
    return encoded(first, kind, save_all=True, append_images=others)


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("photo.jpg", jpeg())
    return out.getvalue()


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'

MADE: dict[str, Callable[[], bytes]] = {
    # Sides that are not there.
    "png 100,000 squared": lambda: png_of(100_000, 100_000),
    "png 2^31-1 by 1": lambda: png_of(2**31 - 1, 1),
    "png 0 by 0": lambda: png_of(0, 0),
    "png more rows than its data": lambda: png_of(4000, 4000, data=bytes(3 * 4000 * 10)),
    "png fewer rows than its data": lambda: png_of(64, 64, data=bytes(10**8)),
    "png of an impossible depth": lambda: png_of(64, 64, depth=7),
    "jpeg 65,535 squared": lambda: jpeg_that_says(65_535, 65_535),
    "jpeg 7000 squared": lambda: jpeg_that_says(7000, 7000),
    "jpeg 0 by 0": lambda: jpeg_that_says(0, 0),
    "webp 16,383 squared": lambda: webp_that_says(16_383, 16_383),
    "webp 2^24 squared": lambda: webp_that_says(2**24, 2**24),
    "avif that says less": lying_avif,
    # Headers that take long to read.
    "png empty chunks": lambda: with_header(chunk(b"abCd", b"") * (BODY // 12)),
    "png empty texts": lambda: with_header(chunk(b"tEXt", b"") * (BODY // 12)),
    "png text bombs": lambda: with_header(text_bomb(63)),
    "png too many text bombs": lambda: with_header(text_bomb(500)),
    "png text bombs at the end": lambda: with_trailer(text_bomb(1000)),
    "png profile bomb": lambda: with_header(chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(64 * 2**20), 9))),
    "png large profile": lambda: png(icc_profile=SRGB + bytes(900_000)),
    "png empty chunks at the end": lambda: with_trailer(chunk(b"abCd", b"") * (BODY // 12)),
    "png a million empty pieces of data": lambda: with_header(chunk(b"IDAT", b"") * (BODY // 12)),
    "jpeg comments": lambda: with_segments(segment(0xFE, b"") * (BODY // 4)),
    "jpeg quantization tables": lambda: with_segments(segment(0xDB, b"") * (BODY // 4)),
    "jpeg fill bytes": lambda: with_segments(b"\xff" * BODY),
    "jpeg escaped fill bytes": lambda: with_segments(b"\xff\0" * (BODY // 2)),
    "jpeg junk": lambda: with_segments(bytes(BODY)),
    "jpeg EXIF without end": lambda: with_segments(segment(0xE1, b"Exif\0\0" + bytes(65_000)) * (BODY // 65_010)),
    "jpeg Photoshop blocks": lambda: with_segments(
        segment(0xED, b"Photoshop 3.0\0" + b"8BIM\0\1\0\0\0\0\0\0" * 5000) * (BODY // 60_018)
    ),
    "jpeg profile without end": lambda: with_segments(
        segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(65_000)) * (BODY // 65_018)
    ),
    "jpeg EXIF bomb": exif_bomb,
    # Pixels that take long to read.
    "jpeg 5000 scans": lambda: progressive_bomb(5000),
    "jpeg 40 scans": lambda: progressive_bomb(30, 500),
    "jpeg hidden scans": hidden_scans,
    "png bomb below the limit": lambda: png_of(6000, 6000, 1, 0, bytes(6000 * 751)),
    # Kinds of pictures.
    "apng": lambda: animation("PNG", 5),
    "animated webp": lambda: animation("WEBP", 5),
    "animated avif": lambda: animation("AVIF", 3),
    "animated webp of 300 frames": lambda: animation("WEBP", 300),
    "mpo": lambda: animation("MPO", 3),
    "progressive jpeg": lambda: jpeg(progressive=True),
    "cmyk jpeg": lambda: encoded(photograph().convert("CMYK"), "JPEG"),
    "grey jpeg": lambda: encoded(photograph().convert("L"), "JPEG"),
    "16-bit png": lambda: encoded(photograph().convert("I;16"), "PNG"),
    "1-bit png": lambda: encoded(photograph().convert("1"), "PNG"),
    "palette png": lambda: encoded(photograph().convert("P"), "PNG", transparency=3),
    "grey png with alpha": lambda: encoded(photograph().convert("LA"), "PNG"),
    "lossless webp": lambda: encoded(photograph().convert("RGBA"), "WEBP", lossless=True),
    "orientation 65535": lambda: exif_orientation(65_535),
    "orientation 0": lambda: exif_orientation(0),
    # Other things under a picture's name.
    "nothing but a signature": lambda: b"\x89PNG\r\n\x1a\n",
    "zip": zipped,
    "gif": lambda: encoded(photograph(), "GIF"),
    "tiff": lambda: encoded(photograph(), "TIFF"),
    "bmp": lambda: encoded(photograph(), "BMP"),
    "svg": lambda: SVG,
    "html": lambda: b"<!doctype html><script>alert(1)</script>",
    "pdf": lambda: encoded(photograph(), "PDF"),
    "eps": lambda: encoded(photograph(), "EPS"),
    "one byte": lambda: b"\0",
    "jpeg in a jpeg": lambda: with_segments(segment(0xE1, jpeg()[:60_000])),
    "png behind a jpeg": lambda: jpeg() + png(),
}
"""How each file is made, so that large ones are in memory one at a time."""

GOOD = {
    "png text bombs", "png large profile", "png fewer rows than its data", "jpeg 7000 squared", "avif that says less",
    "jpeg EXIF bomb", "jpeg in a jpeg", "png behind a jpeg", "apng", "animated webp",
    "animated avif", "animated webp of 300 frames", "mpo", "progressive jpeg", "cmyk jpeg", "grey jpeg", "16-bit png",
    "1-bit png", "palette png", "grey png with alpha", "lossless webp", "orientation 65535", "orientation 0",
    "jpeg 40 scans", "png bomb below the limit",
}  # fmt: skip
"""Those that are pictures, unusual as they may be."""


def wholes() -> Iterator[tuple[str, bytes]]:
    """Good pictures, to be damaged."""
    alpha = photograph().convert("RGBA")
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "JPEG", jpeg(exif=exif, icc_profile=SRGB)
    yield "progressive JPEG", jpeg(progressive=True)
    yield "PNG", encoded(alpha, "PNG", exif=exif, icc_profile=SRGB)
    yield "palette PNG", encoded(photograph().convert("P"), "PNG", transparency=3)
    yield "APNG", animation("PNG", 3)
    yield "WebP", encoded(alpha, "WEBP", exif=exif, icc_profile=SRGB)
    yield "lossless WebP", encoded(alpha, "WEBP", lossless=True)
    yield "animated WebP", animation("WEBP", 3)
    yield "AVIF", encoded(alpha, "AVIF", exif=exif, icc_profile=SRGB, speed=10)
