"""Encoded pictures and pixels: decoding into upright sRGB, resizing, encoding.

Formats are the allowlist of ``MediaType``; the parsers of everything else that Pillow knows are never reached.
"""

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError

from contract.errors import BrokenImageError, ImageTooLargeError, UnsupportedImageError
from contract.images import MediaType, PictureFile, fitted
from generator.pixels import Pixels

FORMATS = [media_type.name for media_type in MediaType]
SRGB = ImageCms.createProfile("sRGB")
SRGB_NAMES = {"sRGB", "sRGB IEC61966-2.1", "sRGB built-in", "GIMP built-in sRGB"}
"""Profiles that are sRGB itself; others of a similar name are not (Krita's sRGB-elle-V2-g10 is linear)."""
WHITE = 255
GREY_STEPS = {"L;2": 85, "L;4": 17}
"""What one step of grey is of 8 bits, by Pillow's name for its depth."""
STRIP_ROWS = 256

ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture of each EXIF orientation upright."""

PARSER_ERRORS = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, RuntimeError, struct.error)
"""Everything that Pillow is known to raise for damaged data."""

# Pillow warns above its own limit and refuses above twice of it; ours is exact and comes first.
Image.MAX_IMAGE_PIXELS = None
# What it says of damaged metadata, in thousands of lines for one file, would fill the log and stay in memory.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class Picture:
    """Upright sRGB pixels [H,W,3], and how opaque they are [H,W] where the file says so."""

    pixels: Pixels
    alpha: npt.NDArray[np.uint8] | None


def decode(data: bytes, *, long_side: int | None, max_pixels: int) -> Picture:
    """Reads a file of one of our formats: oriented by its EXIF, in sRGB, resized to ``long_side`` if that is given.

    Where the picture is not opaque, the pixels are what it looks like on white. Of an animation the first frame counts.
    Raises UnsupportedImageError, BrokenImageError, ImageTooLargeError, ImageTooComplexError.
    """
    file = PictureFile(data)
    with _decoding(), Image.open(file, formats=FORMATS) as image:
        if image.width * image.height > max_pixels:
            raise ImageTooLargeError(f"The picture has {image.width}×{image.height} pixels, more than the limit.")
        _scale_transparent_grey(image)
        file.begin_pixels()
        image.load()
        upright = _upright(image)
        colours, alpha = _split_alpha(upright)
        size = fitted(upright.size, long_side) if long_side else upright.size
        rgb = _to_srgb(colours, upright.info.get("icc_profile"))
    if alpha and alpha.getextrema()[0] != WHITE:
        rgb = _on_white(rgb, alpha)  # before resizing, which would mix in the colours that nobody sees
    if size != rgb.size:
        rgb = rgb.resize(size, Image.Resampling.LANCZOS)
        alpha = alpha.resize(size, Image.Resampling.LANCZOS) if alpha else None
    return Picture(_pixels(rgb), np.array(alpha) if alpha else None)


def pixel_count(data: bytes) -> int:
    """How many pixels a file says that it has; it is not decoded. Raises as ``decode``."""
    with _decoding(), Image.open(PictureFile(data), formats=FORMATS) as image:
        return image.width * image.height


def encode(picture: Picture, media_type: MediaType, quality: int) -> bytes:
    """Writes the picture without any metadata. ``quality`` is 1..100; PNG is lossless and has none.

    A format without alpha gets the picture on white.
    """
    image = Image.fromarray(picture.pixels)
    if picture.alpha is not None:
        alpha = Image.fromarray(picture.alpha)
        if media_type.keeps_alpha:
            image.putalpha(alpha)
        else:
            image = _on_white(image, alpha)
    out = io.BytesIO()
    match media_type:
        case MediaType.JPEG:
            image.save(out, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2)
        case MediaType.PNG:
            image.save(out, "PNG", compress_level=4)
        case MediaType.WEBP:
            image.save(out, "WEBP", quality=quality, method=4)
        case MediaType.AVIF:
            image.save(out, "AVIF", quality=quality, speed=8)
    return out.getvalue()


def _pixels(rgb: Image.Image) -> Pixels:
    """Copied in strips: of what it is asked for, Pillow makes a copy of its own first."""
    pixels = np.empty((rgb.height, rgb.width, 3), np.uint8)
    for top in range(0, rgb.height, STRIP_ROWS):
        strip = pixels[top : top + STRIP_ROWS]
        strip[:] = np.asarray(rgb.crop((0, top, rgb.width, top + len(strip))))
    return pixels


@contextmanager
def _decoding() -> Iterator[None]:
    """What parsers raise, as one error."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise UnsupportedImageError("The picture is not a JPEG, PNG, WebP or AVIF file.") from error
    except PARSER_ERRORS as error:
        raise BrokenImageError("The picture cannot be decoded: the file is damaged or cut off.") from error


def _scale_transparent_grey(image: ImageFile.ImageFile) -> None:
    """Pillow scales a PNG's grey of 2 and 4 bits up to 8, and forgets the value of it that is transparent."""
    value = image.info.get("transparency")
    step = GREY_STEPS.get(str(image.tile[0].args)) if image.tile else None
    if step and isinstance(value, int):
        image.info["transparency"] = value * step


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says. EXIF that cannot be read says nothing, and the picture is good without."""
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except PARSER_ERRORS:
        return image
    return image if turn is None else image.transpose(turn)


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """(colours without alpha, alpha) of any mode; 16 bits become 8 by scaling."""
    if image.mode.startswith("I"):
        return _from_16_bits(image)
    if image.mode == "LA":  # stays grey, as its profile is
        return image.getchannel("L"), image.getchannel("A")
    if image.mode in ("RGBA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return rgba.convert("RGB"), rgba.getchannel("A")
    if image.mode in ("RGB", "L", "CMYK"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _from_16_bits(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Greyscale of 16 bits, whose transparent value, if there is one, is of 16 bits too."""
    values = np.asarray(image).astype(np.uint32)
    grey = Image.fromarray(((values.clip(0, 65535) * 255 + 32767) // 65535).astype(np.uint8))
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return grey, None
    return grey, Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))


def _to_srgb(colours: Image.Image, icc_profile: bytes | None) -> Image.Image:
    """RGB in the sRGB space. A profile that is broken, or of another kind of picture, is as good as none."""
    if icc_profile:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
            if ImageCms.getProfileDescription(profile).strip() not in SRGB_NAMES:
                converted = ImageCms.profileToProfile(
                    colours,
                    profile,
                    SRGB,
                    renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                    outputMode="RGB",
                    flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
                )
                if converted is not None:
                    return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass
    return colours if colours.mode == "RGB" else colours.convert("RGB")


def _on_white(rgb: Image.Image, alpha: Image.Image) -> Image.Image:
    white = Image.new("RGB", rgb.size, (WHITE, WHITE, WHITE))
    white.paste(rgb, mask=alpha)
    return white
