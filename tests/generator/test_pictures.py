"""Decoding and encoding: every kind of file that a camera, a scanner or an enemy may send."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms

from contract.errors import AtelierError, BrokenImageError, ImageTooLargeError, UnsupportedImageError
from contract.images import MediaType, fitted
from generator.pictures import Picture, decode, encode

Array = npt.NDArray[np.uint8]

MAX_PIXELS = 4_000_000
ORIENTATION = 0x0112
# How a camera held each way would have stored an upright picture: the opposite of what EXIF asks viewers to do.
STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def drawn(width: int = 48, height: int = 32) -> Image.Image:
    """A picture that looks different from every side, and survives compression."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return Image.fromarray((np.stack([x, y, 1 - x * y], axis=-1) * 200 + 20).astype(np.uint8))


def with_alpha(width: int = 48, height: int = 32) -> Image.Image:
    """Opaque on the right, half of it on the left, invisible in the middle."""
    image = drawn(width, height)
    alpha = np.full((height, width), 255, np.uint8)
    alpha[:, : width // 3] = 128
    alpha[:, width // 3 : width // 2] = 0
    image.putalpha(Image.fromarray(alpha))
    return image


def saved(image: Image.Image, file_format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, file_format, **options)
    return out.getvalue()


def decoded(data: bytes, long_side: int | None = None) -> Picture:
    return decode(data, long_side=long_side, max_pixels=MAX_PIXELS)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def difference(a: Array, b: Array) -> float:
    """The mean of |a - b|, in levels of 256; infinite for pictures of different sizes."""
    return float(np.abs(a.astype(int) - b.astype(int)).mean()) if a.shape == b.shape else float("inf")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_of_16_bits(values: npt.NDArray[np.uint16], transparent: tuple[int, ...] = ()) -> bytes:
    """A PNG of 16 bits a channel, greyscale [H,W] or RGB [H,W,3], by hand."""
    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, 2 if values.ndim == 3 else 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    key = chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if transparent else b""
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + key + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def profile_with_red_and_blue_swapped() -> bytes:
    """The sRGB profile with the colorants of red and blue exchanged: the plainest gamut that is not sRGB."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile = bytearray(bytes(profile).replace("sRGB".encode("utf-16-be"), "xBGR".encode("utf-16-be")))
    (count,) = struct.unpack_from(">I", profile, 128)
    tags = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


# --- Files as they come --------------------------------------------------------------------------------------------


def test_every_corrupt_file_of_pngsuite_is_refused(shared: Path) -> None:
    # A wrong checksum around data that are whole, zlib's own checksum included, is forgiven, as browsers do.
    forgiven = {"xcsn0g01.png"}
    for path in sorted((shared / "hostile/pngsuite/png").glob("x*.png")):
        if path.name in forgiven:
            assert decoded(path.read_bytes()).pixels.shape == (32, 32, 3)
        else:
            with pytest.raises(AtelierError):
                decoded(path.read_bytes())


@pytest.mark.parametrize("name", ["Landscape", "Portrait"])
def test_the_nine_orientations_of_a_photograph_come_out_the_same_way_up(shared: Path, name: str) -> None:
    first, *others = (
        decoded((shared / f"hostile/exif_orientation/{name}_{i}.jpg").read_bytes(), long_side=200).pixels
        for i in range(9)
    )
    # They were compressed anew for each orientation, so they are alike rather than equal.
    assert difference(first, first[::-1, ::-1]) > 20
    assert all(difference(first, other) < 5 for other in others)


def test_damaged_exif_writes_no_lines(tmp_path: Path) -> None:
    """Pillow warns of each entry that it cannot read; a hostile file has thousands."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = bytearray(saved(drawn(), "JPEG", exif=exif))
    tiff = data.index(b"Exif\0\0") + 6
    order = "<" if data[tiff : tiff + 2] == b"II" else ">"
    data[tiff + 8 : tiff + 10] = struct.pack(f"{order}H", 200)  # entries, of which there is one
    path = tmp_path / "damaged.jpg"
    path.write_bytes(data)

    def lines(program: str) -> str:
        command = [sys.executable, "-c", program, str(path)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stderr

    assert "Corrupt EXIF" in lines("import sys; from PIL import Image; Image.open(sys.argv[1]).getexif().get(274)")
    decoding = "import sys; from generator.pictures import decode; from pathlib import Path\n"
    assert lines(f"{decoding}decode(Path(sys.argv[1]).read_bytes(), long_side=None, max_pixels=10**6)") == ""


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_each_orientation_is_turned_upright(file_format: str) -> None:
    upright = drawn()
    for orientation, stored_as in STORED_AS.items():
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        stored = upright if stored_as is None else upright.transpose(stored_as)
        pixels = decoded(saved(stored, file_format, exif=exif, quality=95)).pixels
        assert difference(pixels, np.asarray(upright)) < 4, orientation


def test_an_orientation_that_does_not_exist_is_ignored() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 9
    assert np.array_equal(decoded(saved(drawn(), "PNG", exif=exif)).pixels, np.asarray(drawn()))


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_a_picture_with_broken_exif_is_a_picture(file_format: str) -> None:
    data = saved(drawn(), file_format, exif=b"Exif\0\0garbage, and no TIFF header", lossless=True)
    assert np.array_equal(decoded(data).pixels, np.asarray(drawn()))


# --- Depths and colour models --------------------------------------------------------------------------------------


def test_grey_of_16_bits_is_scaled_and_not_clipped() -> None:
    values = np.linspace(0, 65535, 32 * 32).round().astype(np.uint16).reshape(32, 32)
    picture = decoded(png_of_16_bits(values))
    assert picture.alpha is None
    assert np.array_equal(picture.pixels, np.round(values[..., None] / 257).repeat(3, axis=-1))


def test_grey_of_16_bits_keeps_its_transparent_value() -> None:
    values = np.full((32, 32), 30_000, np.uint16)
    values[:, :16] = 30_001  # the same level once it has 8 bits
    picture = decoded(png_of_16_bits(values, transparent=(30_001,)))
    assert picture.alpha is not None
    assert (picture.alpha[:, :16] == 0).all()
    assert (picture.alpha[:, 16:] == 255).all()
    assert (picture.pixels[:, :16] == 255).all()
    assert (picture.pixels[:, 16:] == 117).all()


def test_colours_of_16_bits_are_scaled() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (20, 24, 3)).astype(np.uint16)
    assert np.abs(decoded(png_of_16_bits(values)).pixels.astype(float) - values / 257).max() <= 1


def test_a_palette_with_transparency_keeps_it() -> None:
    palette = drawn().quantize(16)
    data = saved(palette, "PNG", transparency=bytes([0, 128] + [255] * 14))
    picture = decoded(data)
    indices = np.asarray(palette)
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, np.array([0, 128] + [255] * 14, np.uint8)[indices])
    assert (picture.pixels[indices == 0] == 255).all()
    assert np.array_equal(picture.pixels[indices > 1], np.asarray(palette.convert("RGB"))[indices > 1])


@pytest.mark.parametrize(("depth", "most"), [(1, 1), (2, 3), (4, 15), (8, 255)])
def test_a_transparent_grey_of_any_depth_makes_its_pixels_transparent(depth: int, most: int) -> None:
    """Two rows of black and two of white, which is transparent."""
    header = struct.pack(">IIBBBBB", 8, 4, depth, 0, 0, 0, 0)
    row = 8 * depth // 8
    data = (b"\0" + bytes(row)) * 2 + (b"\0" + b"\xff" * row) * 2
    parts = ((b"IHDR", header), (b"tRNS", struct.pack(">H", most)), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    alpha = decoded(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)).alpha
    assert alpha is not None
    assert alpha[:, 0].tolist() == [255, 255, 0, 0]


def test_a_transparent_colour_makes_its_pixels_transparent() -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, :8] = (10, 20, 30)
    picture = decoded(saved(Image.fromarray(pixels), "PNG", transparency=(10, 20, 30)))
    assert picture.alpha is not None
    assert (picture.alpha == np.where(np.arange(32) < 8, 0, 255)).all()


def test_grey_with_alpha_keeps_both() -> None:
    grey, alpha = Image.linear_gradient("L").resize((32, 32)), Image.linear_gradient("L").rotate(90).resize((32, 32))
    picture = decoded(saved(Image.merge("LA", (grey, alpha)), "PNG"))
    expected = Image.new("L", grey.size, 255)
    expected.paste(grey, mask=alpha)
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, np.asarray(alpha))
    assert np.array_equal(picture.pixels, np.asarray(expected.convert("RGB")))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_an_opaque_picture_has_no_alpha(mode: str) -> None:
    image = drawn().convert(mode)
    picture = decoded(saved(image, "PNG"))
    assert picture.alpha is None
    assert np.array_equal(picture.pixels, np.asarray(image.convert("RGB")))


def test_cmyk_without_a_profile_becomes_rgb() -> None:
    picture = decoded(saved(drawn().convert("CMYK"), "JPEG", quality=95))
    assert difference(picture.pixels, np.asarray(drawn())) < 5


def test_cmyk_with_the_profile_of_another_colour_model_is_read_as_without() -> None:
    image = drawn().convert("CMYK")
    data = saved(image, "JPEG", icc_profile=profile_with_red_and_blue_swapped())
    assert np.array_equal(decoded(data).pixels, decoded(saved(image, "JPEG")).pixels)


# --- Colour profiles -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_colours_are_converted_from_the_profile_of_the_file_to_srgb(file_format: str) -> None:
    data = saved(drawn(), file_format, icc_profile=profile_with_red_and_blue_swapped(), quality=95)
    assert difference(decoded(data).pixels, np.asarray(drawn())[..., ::-1]) < 4


def test_colours_with_alpha_are_converted_too() -> None:
    data = saved(with_alpha(), "PNG", icc_profile=profile_with_red_and_blue_swapped())
    picture, plain = decoded(data), decoded(saved(with_alpha(), "PNG"))
    assert difference(picture.pixels, plain.pixels[..., ::-1]) < 1
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, np.asarray(with_alpha().getchannel("A")))


@pytest.mark.parametrize("profile", [b"not a profile at all", profile_with_red_and_blue_swapped()[:200]])
def test_a_broken_profile_is_as_good_as_none(profile: bytes) -> None:
    assert np.array_equal(decoded(saved(drawn(), "PNG", icc_profile=profile)).pixels, np.asarray(drawn()))


def test_the_srgb_profile_changes_nothing() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(decoded(saved(drawn(), "PNG", icc_profile=profile)).pixels, np.asarray(drawn()))


def linear_grey_profile() -> bytes:
    """A grey profile of version 2 whose levels are linear light, by hand."""
    d50 = struct.pack(">3i", *(round(value * 65536) for value in (0.9642, 1.0, 0.8249)))
    name = b"linear grey\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": b"XYZ " + bytes(4) + d50,
        b"kTRC": b"curv" + bytes(4) + struct.pack(">I", 0),
    }
    table, data = struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        table += tag + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    size = 128 + len(table) + len(data)
    header = struct.pack(">I4xI4s4s4s12x4s28x", size, 0x02100000, b"mntr", b"GRAY", b"XYZ ", b"acsp") + d50 + bytes(48)
    return header + table + data


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_is_converted_from_its_profile_with_and_without_alpha(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((32, 32), 55 * 257, np.uint16))
    else:
        image = Image.new("L", (32, 32), 55).convert(mode)
    # 55/255 of the light is level 128 of sRGB.
    assert np.abs(decoded(saved(image, "PNG", icc_profile=linear_grey_profile())).pixels.astype(int) - 128).max() <= 1


def test_a_colour_profile_on_a_grey_picture_is_ignored() -> None:
    grey = drawn().convert("L")
    data = saved(grey, "PNG", icc_profile=profile_with_red_and_blue_swapped())
    assert np.array_equal(decoded(data).pixels, np.asarray(grey.convert("RGB")))


# --- Several pictures in one file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "AVIF"])
def test_of_an_animation_the_first_frame_counts(file_format: str) -> None:
    data = saved(drawn(), file_format, save_all=True, append_images=[Image.new("RGB", drawn().size)], quality=95)
    assert difference(decoded(data).pixels, np.asarray(drawn())) < 4


def test_of_a_jpeg_with_several_pictures_the_first_counts() -> None:
    data = saved(drawn(), "MPO", save_all=True, append_images=[Image.new("RGB", drawn().size)], quality=95)
    assert opened(data).format == "MPO"
    assert difference(decoded(data).pixels, np.asarray(drawn())) < 4


# --- What is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("part", [0.5, 0.8, 0.95])
def test_a_file_that_is_cut_off_is_broken(file_format: str, part: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    data = saved(noise, file_format, quality=90)
    # Of AVIF, Pillow does not even see the header when too much is missing.
    with pytest.raises((BrokenImageError, UnsupportedImageError) if file_format == "AVIF" else BrokenImageError):
        decoded(data[: round(part * len(data))])


@pytest.mark.filterwarnings("ignore")  # Pillow's, of what it finds in the damaged files
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_damaged_bytes_raise_nothing_but_expected_errors(file_format: str) -> None:
    random = np.random.default_rng(0)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    whole = saved(with_alpha().convert("RGB" if file_format == "JPEG" else "RGBA"), file_format, exif=exif)
    refused = 0
    for _ in range(250):
        data = bytearray(whole)
        for position in random.integers(0, len(data), 4):
            data[position] = random.integers(0, 256)
        try:
            decoded(bytes(data))
        except AtelierError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize("file_format", ["GIF", "TIFF", "BMP", "ICO", "TGA", "PPM"])
def test_other_formats_are_not_supported(file_format: str) -> None:
    with pytest.raises(UnsupportedImageError):
        decoded(saved(drawn(), file_format))


def test_bytes_that_are_no_picture_are_not_supported() -> None:
    with pytest.raises(UnsupportedImageError):
        decoded(b"these are no pixels")


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(ImageTooLargeError, match="60000×60000"):
        decoded(bomb)


def test_the_limit_itself_is_allowed() -> None:
    data = saved(drawn(40, 30), "PNG")
    assert decode(data, long_side=None, max_pixels=1200).pixels.shape == (30, 40, 3)
    with pytest.raises(ImageTooLargeError):
        decode(data, long_side=None, max_pixels=1199)


# --- Size ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "long_side", "expected"),
    [
        ((640, 480), 320, (320, 240)),
        ((480, 640), 321, (241, 321)),
        ((333, 500), 1000, (666, 1000)),
        ((17, 31), 31, (17, 31)),
        ((7919, 16), 7907, (7907, 16)),
        ((3000, 16), 32, (32, 1)),
    ],
)
def test_the_long_side_is_exact_and_the_short_one_follows(
    size: tuple[int, int], long_side: int, expected: tuple[int, int]
) -> None:
    assert fitted(size, long_side) == expected


def test_the_size_counts_after_turning_upright() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    assert decoded(saved(drawn(60, 40), "JPEG", exif=exif), long_side=30).pixels.shape == (30, 20, 3)


def test_resizing_keeps_the_alpha_at_the_same_size() -> None:
    picture = decoded(saved(with_alpha(48, 32), "PNG"), long_side=96)
    assert picture.alpha is not None
    assert picture.alpha.shape == picture.pixels.shape[:2] == (64, 96)


def test_resizing_does_not_mix_in_the_colours_of_invisible_pixels() -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)  # invisible black
    pixels[:, 29:] = 255  # beside opaque white: white all over
    picture = decoded(saved(Image.fromarray(pixels), "PNG"), long_side=24)
    assert (picture.pixels == 255).all()


# --- Encoding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("media_type", MediaType)
def test_what_is_encoded_has_its_format_and_its_pixels(media_type: MediaType) -> None:
    image = opened(encode(Picture(np.asarray(drawn()), None), media_type, 95))
    assert image.format == media_type.name
    assert image.mode == "RGB"
    assert difference(np.asarray(image), np.asarray(drawn())) < 4


@pytest.mark.parametrize("media_type", [MediaType.PNG, MediaType.WEBP, MediaType.AVIF])
def test_alpha_is_kept_by_formats_that_have_it(media_type: MediaType) -> None:
    alpha = np.asarray(with_alpha().getchannel("A"))
    image = opened(encode(Picture(np.asarray(drawn()), alpha), media_type, 95))
    assert image.mode == "RGBA"
    assert difference(np.asarray(image.getchannel("A")), alpha) < 2


def test_jpeg_shows_the_picture_on_white() -> None:
    alpha = np.asarray(with_alpha().getchannel("A"))
    image = opened(encode(Picture(np.asarray(drawn()), alpha), MediaType.JPEG, 95))
    weight = alpha[..., None] / 255
    expected = np.asarray(drawn()) * weight + 255 * (1 - weight)
    assert image.mode == "RGB"
    assert difference(np.asarray(image), expected.astype(np.uint8)) < 6


@pytest.mark.parametrize("media_type", MediaType)
def test_no_metadata_come_through(media_type: MediaType) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera that nobody should know of"
    data = saved(drawn(), media_type.name, exif=exif, icc_profile=profile_with_red_and_blue_swapped())
    assert b"a camera that nobody" in data
    out = encode(decoded(data), media_type, 90)
    image = opened(out)
    assert b"a camera that nobody" not in out
    assert not dict(image.getexif())
    assert not {"icc_profile", "exif", "xmp", "comment"} & set(image.info)


@pytest.mark.parametrize("media_type", [MediaType.JPEG, MediaType.WEBP, MediaType.AVIF])
def test_a_higher_quality_is_closer_to_the_picture(media_type: MediaType) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    errors = [difference(np.asarray(opened(encode(Picture(noise, None), media_type, q))), noise) for q in (1, 60, 100)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > errors[-1]


@pytest.mark.parametrize("media_type", MediaType)
def test_every_quality_from_1_to_100_encodes(media_type: MediaType) -> None:
    for quality in (1, 2, 50, 89, 90, 99, 100):
        assert opened(encode(Picture(np.asarray(drawn()), None), media_type, quality)).size == drawn().size
