"""Pictures that are taken, scaled down or refused by their header."""

from typing import Any

import httpx
import pytest

from contract.errors import (
    BrokenImageError,
    ImageTooLargeError,
    ImageTooSmallError,
    InvalidParameterError,
    UnsupportedImageError,
)
from contract.images import MediaType, PictureSize, fitted
from contract.jobs import StylizeJob
from service.inspection import Header, check_format, inspect, result_side
from service.settings import ServiceSettings
from tests.service.conftest import (
    ASYNC,
    Gateways,
    code,
    drawn,
    parameters,
    png_that_says_it_has,
    post,
    saved,
)

LIMITS = ServiceSettings(max_upload_megapixels=1, max_megapixels=1, max_side=2000)


@pytest.mark.parametrize("media_type", MediaType)
def test_the_format_is_read_from_the_header(media_type: MediaType) -> None:
    assert inspect(saved(drawn(), media_type.name), LIMITS) == Header(media_type, (48, 32))


def test_a_jpeg_of_several_pictures_is_a_jpeg() -> None:
    data = saved(drawn(), "MPO", save_all=True, append_images=[drawn()])
    assert inspect(data, LIMITS).media_type is MediaType.JPEG


@pytest.mark.parametrize("sides", [(1001, 1000), (2001, 16), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_picture_over_the_limits_is_refused_without_being_decoded(sides: tuple[int, int]) -> None:
    with pytest.raises(ImageTooLargeError, match=f"{sides[0]}×{sides[1]}"):
        inspect(png_that_says_it_has(*sides), LIMITS)


@pytest.mark.parametrize("sides", [(1000, 1000), (2000, 500), (16, 16), (2000, 16)])
def test_a_picture_at_the_limits_is_taken(sides: tuple[int, int]) -> None:
    assert inspect(png_that_says_it_has(*sides), LIMITS).sides == sides


@pytest.mark.parametrize("sides", [(15, 100), (100, 15), (1, 1)])
def test_a_picture_under_16_pixels_is_too_small(sides: tuple[int, int]) -> None:
    with pytest.raises(ImageTooSmallError):
        inspect(png_that_says_it_has(*sides), LIMITS)


@pytest.mark.parametrize(
    ("sides", "size", "allowed"),
    [
        ((100, 100), 1000, True),
        ((100, 100), 1001, False),
        ((1000, 100), 2000, True),
        ((1000, 100), 2001, False),
        ((1000, 100), 160, True),
        ((1000, 100), 150, False),
        ((1000, 16), 999, True),
    ],
)
def test_the_sides_of_the_result_are_held_to_the_limits(sides: tuple[int, int], size: int, allowed: bool) -> None:
    if allowed:
        assert result_side(sides, size, LIMITS) == size
    else:
        with pytest.raises(InvalidParameterError, match=f"size {size}"):
            result_side(sides, size, LIMITS)


@pytest.mark.parametrize("sides", [(4000, 4000), (16_000, 1000), (16, 16)])
def test_without_a_size_a_photograph_within_the_limit_keeps_its_own(sides: tuple[int, int]) -> None:
    assert result_side(sides, None, ServiceSettings()) is None


@pytest.mark.parametrize("sides", [(4001, 4000), (8660, 5773), (5773, 8660), (16_383, 3051), (16_383, 977)])
def test_without_a_size_a_larger_photograph_gets_the_largest_result_of_its_proportions(sides: tuple[int, int]) -> None:
    side = result_side(sides, None, ServiceSettings(max_megapixels=16))
    assert side is not None
    width, height = fitted(sides, side)
    assert 15.9e6 < width * height <= 16e6
    assert width / height == pytest.approx(sides[0] / sides[1], rel=1e-3)


def test_a_photograph_larger_than_a_result_may_be_is_taken_and_scaled_down(gateways: Gateways) -> None:
    with gateways(max_megapixels=16) as gateway:
        for options, size in (({}, 4898), ({"size": "1024"}, 1024)):
            response = post(gateway.client, png_that_says_it_has(6000, 4000), headers=ASYNC, **options)
            assert response.status_code == 202
            request = gateway.book.get(response.json()["id"]).request
            assert isinstance(request, StylizeJob)
            assert request.size == size
        assert parameters(post(gateway.client, png_that_says_it_has(6000, 4000), size="6000")) == ["size"]
        assert code(post(gateway.client, png_that_says_it_has(10_000, 5001), size="64")) == "image-too-large"


@pytest.mark.parametrize(
    ("sides", "options", "expected"),
    [
        ((60, 40), {}, PictureSize(2400, 2400)),
        ((60, 40), {"size": "90"}, PictureSize(2400, 5400)),
        ((40, 60), {"size": "32"}, PictureSize(2400, 32 * 21)),
        ((6000, 4000), {}, PictureSize(24_000_000, 4898 * 3265)),
    ],
)
def test_a_job_says_how_many_pixels_its_photograph_has_and_its_result_will_have(
    gateways: Gateways, sides: tuple[int, int], options: dict[str, Any], expected: PictureSize
) -> None:
    with gateways(max_megapixels=16) as gateway:
        response = post(gateway.client, png_that_says_it_has(*sides), headers=ASYNC, **options)
        request = gateway.book.get(response.json()["id"]).request
        assert isinstance(request, StylizeJob)
        assert request.picture_size == expected
        assert gateway.book.pick(largest=PictureSize(expected.file_pixels - 1, expected.result_pixels)).claim is None
        assert gateway.book.pick(largest=PictureSize(expected.file_pixels, expected.result_pixels - 1)).claim is None
        assert gateway.book.pick(largest=expected).claim is not None


def test_every_photograph_that_is_taken_keeps_its_size_unless_that_is_set_otherwise() -> None:
    settings = ServiceSettings()
    assert settings.max_megapixels == settings.max_upload_megapixels
    assert result_side((8000, 6000), None, settings) is None


@pytest.mark.parametrize("file_format", ["GIF", "TIFF", "BMP", "ICO", "TGA", "PPM", "PDF"])
def test_other_formats_are_not_supported(file_format: str) -> None:
    with pytest.raises(UnsupportedImageError):
        inspect(saved(drawn(), file_format), LIMITS)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_a_header_that_is_cut_off_is_broken(file_format: str) -> None:
    with pytest.raises(BrokenImageError):
        inspect(saved(drawn(), file_format)[:18], LIMITS)


def test_what_is_refused_by_its_header_has_its_own_problem(client: httpx.Client) -> None:
    for data, status, expected in (
        (png_that_says_it_has(60_000, 60_000), 413, "image-too-large"),
        (saved(drawn(15, 40)), 422, "image-too-small"),
        (saved(drawn(), "GIF"), 415, "unsupported-image"),
        (b"no picture", 415, "unsupported-image"),
        (saved(drawn())[:20], 422, "broken-image"),
    ):
        response = post(client, data)
        assert response.status_code == status
        assert code(response) == expected


@pytest.mark.parametrize(
    ("media_type", "long_side", "allowed"),
    [
        (MediaType.WEBP, 16_383, True),
        (MediaType.WEBP, 16_384, False),
        (MediaType.JPEG, 65_500, True),
        (MediaType.JPEG, 65_501, False),
        (MediaType.PNG, 100_000, True),
    ],
)
def test_a_result_that_its_format_cannot_hold_is_refused(media_type: MediaType, long_side: int, allowed: bool) -> None:
    if allowed:
        check_format(media_type, long_side)
    else:
        with pytest.raises(InvalidParameterError, match="another format"):
            check_format(media_type, long_side)


def test_the_format_is_held_against_the_size_that_is_asked_for(gateways: Gateways) -> None:
    """The gateway's own limit is set higher here than what WebP can hold."""
    with gateways(max_side=20_000) as gateway:
        wide = png_that_says_it_has(17_000, 100)
        assert parameters(post(gateway.client, wide, format="webp")) == ["format"]
        assert post(gateway.client, wide, headers=ASYNC, format="png").status_code == 202
        assert post(gateway.client, wide, headers=ASYNC, format="webp", size="8500").status_code == 202
