"""A picture's header, read without decoding anything, and held against the limits."""

import math
import re
import warnings
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from contract.errors import (
    BrokenImageError,
    ImageTooComplexError,
    ImageTooLargeError,
    ImageTooSmallError,
    InvalidParameterError,
    UnsupportedImageError,
)
from contract.images import HEADER_READS, MediaType, PictureFile, fitted
from service.options import MIN_SIDE
from service.settings import ServiceSettings

LONGEST_SIDES = {MediaType.WEBP: 16_383, MediaType.JPEG: 65_500}
"""What the formats, or those who write them, can hold."""
FORMATS = [media_type.name for media_type in MediaType]
MAX_SCANS = 64
"""Of a progressive JPEG: each goes over the whole picture, even if it has but some bytes. Encoders write about ten."""
JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd7])")
"""What begins a segment with a length (or ends the picture), wherever the data before it end."""
START_OF_SCAN, END_OF_IMAGE = b"\xda", b"\xd9"

# Pillow only warns up to twice its own limit; ours is exact, and comes first.
Image.MAX_IMAGE_PIXELS = None
# What it says of damaged metadata, in thousands of lines for one file, would fill the log and stay in memory.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class Header:
    """What a picture says of itself."""

    media_type: MediaType
    sides: tuple[int, int]
    """Width and height as stored; EXIF may turn them."""


def inspect(data: bytes, settings: ServiceSettings) -> Header:
    """The header of a picture that may be decoded.

    Raises UnsupportedImageError, BrokenImageError, ImageTooLargeError, ImageTooSmallError, ImageTooComplexError.
    """
    try:
        with Image.open(PictureFile(data), formats=FORMATS) as image:
            name, sides = image.format, image.size
    except ImageTooComplexError:
        raise
    except UnidentifiedImageError as error:
        if _says_it_is_ours(data):
            raise BrokenImageError("The picture's header cannot be read: the file is damaged or cut off.") from error
        raise UnsupportedImageError("The picture is not a JPEG, PNG, WebP or AVIF file.") from None
    except Exception as error:  # parsers of hostile bytes raise anything at all
        raise BrokenImageError("The picture's header cannot be read: the file is damaged or cut off.") from error
    _check_limits(sides, settings)
    # A JPEG of several pictures (as some cameras write) goes by another name in Pillow.
    media_type = MediaType.JPEG if name == "MPO" else MediaType[str(name)]
    if media_type is MediaType.JPEG and _has_too_many_scans(data):
        raise ImageTooComplexError(f"The picture has more than {MAX_SCANS} scans: save it again, as a baseline JPEG.")
    return Header(media_type, sides)


def result_side(sides: tuple[int, int], size: int | None, settings: ServiceSettings) -> int | None:
    """The long side that the result is to have: the one asked for, else the largest allowed; None is the picture's own.

    Raises InvalidParameterError when what is asked for breaks the limits of a result.
    """
    if size is None:
        if math.prod(sides) <= _max_pixels(settings):
            return None
        size = _largest_side(sides, settings)
    width, height = fitted(sides, size)
    if min(width, height) < MIN_SIDE:
        raise InvalidParameterError(
            f"At size {size} the result would have {width}×{height} pixels; each side needs at least {MIN_SIDE}.",
            parameter="size",
        )
    if size > settings.max_side or width * height > _max_pixels(settings):
        raise InvalidParameterError(
            f"At size {size} the result would have {width}×{height} pixels, more than {settings.max_megapixels:g} "
            f"megapixels or {settings.max_side} pixels a side.",
            parameter="size",
        )
    return size


def check_format(media_type: MediaType, long_side: int) -> None:
    """Raises InvalidParameterError when a format cannot hold a picture with this long side."""
    longest = LONGEST_SIDES.get(media_type, long_side)
    if long_side > longest:
        raise InvalidParameterError(
            f"A picture in {media_type.name} has at most {longest} pixels a side, and the result would have "
            f"{long_side}: take another format, or a smaller size.",
            parameter="format",
        )


def _says_it_is_ours(data: bytes) -> bool:
    """Whether a file that Pillow cannot place begins like one of our formats."""
    brand = data[4:12]
    return data.startswith((b"\xff\xd8\xff", b"\x89PNG")) or data[8:12] == b"WEBP" or brand.startswith(b"ftypavi")


def _has_too_many_scans(data: bytes) -> bool:
    """Whether a JPEG goes over the picture more often than it may, or has far too many segments between its scans."""
    if data.count(b"\xff" + START_OF_SCAN) <= MAX_SCANS:
        return False
    scans, at = 0, 2
    for _ in range(HEADER_READS):  # some were counted that are not of this picture, but of a preview or a film in it
        marker = JPEG_MARKER.search(data, at)
        if marker is None or marker[1] == END_OF_IMAGE:
            return False
        scans += marker[1] == START_OF_SCAN
        if scans > MAX_SCANS:
            return True
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    return True


def _check_limits(sides: tuple[int, int], settings: ServiceSettings) -> None:
    width, height = sides
    if min(sides) < MIN_SIDE:
        raise ImageTooSmallError(f"The picture has {width}×{height} pixels; each side needs at least {MIN_SIDE}.")
    if width * height > settings.max_upload_megapixels * 1e6 or max(sides) > settings.max_side:
        raise ImageTooLargeError(
            f"The picture has {width}×{height} pixels. At most {settings.max_upload_megapixels:g} megapixels and "
            f"{settings.max_side} pixels a side are taken: scale it down first."
        )


def _largest_side(sides: tuple[int, int], settings: ServiceSettings) -> int:
    """The long side at which a picture of these proportions has as many pixels as a result may."""
    side = math.floor(math.sqrt(_max_pixels(settings) * max(sides) / min(sides)))
    while math.prod(fitted(sides, side)) > _max_pixels(settings):  # the short side was rounded up
        side -= 1
    return side


def _max_pixels(settings: ServiceSettings) -> float:
    return settings.max_megapixels * 1e6
