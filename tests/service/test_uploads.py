"""The trust boundary: the forms that a request may have, and everything that must not get through."""

import base64
import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from contract.errors import (
    BrokenImageError,
    ImageTooLargeError,
    ImageTooSmallError,
    InvalidParameterError,
    UnsupportedImageError,
)
from contract.images import MediaType
from service.settings import ServiceSettings
from service.uploads import inspect
from tests.conftest import Stack
from tests.service.conftest import (
    Gateways,
    LoneGateway,
    code,
    drawn,
    opened,
    parameters,
    png_that_says_it_has,
    post,
    saved,
)

Field = tuple[str, tuple[str | None, bytes] | tuple[str | None, str]]


def form(client: httpx.Client, *fields: Field, **query: str) -> httpx.Response:
    return client.post("/stylize", files=list(fields), params=query)


def picture_field(data: bytes, name: str = "image") -> Field:
    return name, ("photo.jpg", data)


def text_field(name: str, value: str) -> Field:
    return name, (None, value)


def data_url(data: bytes, media_type: str = "image/jpeg") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def document(client: httpx.Client, **members: Any) -> httpx.Response:
    return client.post("/stylize", json=members)


# --- The three forms -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_all_three_forms_make_the_same_picture(client: httpx.Client, file_format: str) -> None:
    data = saved(drawn(61, 43), file_format)
    answers = [
        form(
            client,
            picture_field(data),
            text_field("style", "tiny"),
            text_field("size", "50"),
            text_field("format", "png"),
        ),
        post(client, data, size="50", format="png"),
        document(client, image=data_url(data), style="tiny", size=50, format="png"),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answers[0].content == answers[1].content == answers[2].content
    assert opened(answers[0].content).size == (50, 35)


def test_the_fields_of_a_form_may_come_in_any_order(client: httpx.Client) -> None:
    data = saved(drawn())
    first = form(client, picture_field(data), text_field("style", "tiny"))
    last = form(client, text_field("style", "tiny"), picture_field(data))
    assert first.content == last.content


def test_options_of_a_form_may_stand_in_the_query(client: httpx.Client) -> None:
    response = form(client, picture_field(saved(drawn())), text_field("style", "tiny"), size="24")
    assert opened(response.content).size == (24, 16)


@pytest.mark.parametrize("content_type", ["application/octet-stream", "image/jpeg", "image/x-unheard-of", "IMAGE/PNG"])
def test_what_a_picture_is_its_bytes_say_and_not_its_content_type(client: httpx.Client, content_type: str) -> None:
    response = post(client, saved(drawn(), "WEBP"), headers={"Content-Type": content_type})
    assert response.headers["content-type"] == "image/webp"


# --- Options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quality", "0"),
        ("quality", "101"),
        ("quality", "high"),
        ("size", "15"),
        ("size", "-64"),
        ("size", "64.5"),
        ("size", ""),
        ("size", "9" * 30),
        ("size", "16384"),
        ("format", "gif"),
        ("format", "PNG"),
        ("style", "no such name!"),
        ("style", ""),
        ("style", "tiny@"),
        ("style", "tiny@0"),
        ("style", "../tiny"),
        ("colour", "blue"),
    ],
)
def test_an_option_out_of_range_is_named_in_every_form(client: httpx.Client, name: str, value: str) -> None:
    data = saved(drawn())
    options: dict[str, Any] = {"style": "tiny", name: value}
    fields = [text_field(*option) for option in options.items()]
    assert parameters(post(client, data, **options)) == [name]
    assert parameters(form(client, picture_field(data), *fields)) == [name]
    assert parameters(document(client, image=data_url(data), **options)) == [name]


def test_a_style_must_be_named(client: httpx.Client) -> None:
    data = saved(drawn())
    assert parameters(client.post("/stylize", content=data, headers={"Content-Type": "image/png"})) == ["style"]
    assert parameters(form(client, picture_field(data))) == ["style"]
    assert parameters(document(client, image=data_url(data))) == ["style"]


def test_an_option_may_be_given_once(client: httpx.Client) -> None:
    data = saved(drawn())
    doubled = [text_field("style", "tiny"), text_field("style", "other")]
    assert parameters(form(client, picture_field(data), *doubled)) == ["style"]
    assert parameters(post(client, data, style=["tiny", "other"])) == ["style"]
    assert parameters(form(client, picture_field(data), text_field("style", "tiny"), style="other")) == ["style"]
    response = client.post("/stylize?size=32", json={"image": data_url(data), "style": "tiny", "size": 32})
    assert parameters(response) == ["size"]


@pytest.mark.parametrize(("size", "sides"), [(30, (64, 16)), (5000, (64, 48))])
def test_a_size_that_breaks_the_limits_of_the_result_is_refused(
    client: httpx.Client, size: int, sides: tuple[int, int]
) -> None:
    assert parameters(post(client, saved(drawn(*sides)), size=str(size))) == ["size"]


# --- Bodies that are wrong -----------------------------------------------------------------------------------------


def test_an_empty_body_has_no_image(client: httpx.Client) -> None:
    response = post(client, b"")
    assert response.status_code == 400
    assert code(response) == "no-image"


def test_a_form_without_the_image_has_no_image(client: httpx.Client) -> None:
    response = form(client, text_field("style", "tiny"))
    assert response.status_code == 400
    assert code(response) == "no-image"


def test_an_image_that_is_a_text_field_is_explained(client: httpx.Client) -> None:
    response = form(client, text_field("image", "@photo.jpg"), text_field("style", "tiny"))
    assert response.status_code == 400
    assert code(response) == "no-image"
    assert "-F image=@" in response.json()["detail"]


def test_a_file_in_another_field_is_explained(client: httpx.Client) -> None:
    response = form(client, picture_field(saved(drawn()), "file"), text_field("style", "tiny"))
    assert parameters(response) == ["image"]


def test_two_images_are_too_many(client: httpx.Client) -> None:
    data = saved(drawn())
    response = form(client, picture_field(data), picture_field(data), text_field("style", "tiny"))
    assert response.status_code == 400
    assert code(response) == "malformed-body"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "video/mp4", ""])
def test_another_content_type_is_not_supported(client: httpx.Client, content_type: str) -> None:
    response = client.post(
        "/stylize", params={"style": "tiny"}, content=saved(drawn()), headers={"Content-Type": content_type}
    )
    assert response.status_code == 415
    assert code(response) == "unsupported-body"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b"no such boundary"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\nno name\r\n--x--\r\n"),
        ("application/json", b"{"),
        ("application/json", b"\xff\xfe"),
        ("application/json", b"[" * 100_000),
        ("application/json", b'{"image": "\\ud800"}'),
    ],
)
def test_a_body_that_is_not_what_it_says_is_malformed(client: httpx.Client, content_type: str, body: bytes) -> None:
    response = client.post("/stylize?style=tiny", content=body, headers={"Content-Type": content_type})
    assert response.status_code == 400
    assert code(response) == "malformed-body"


@pytest.mark.parametrize(
    "image",
    [
        "",
        "photo.jpg",
        "https://example.org/photo.jpg",
        "data:image/png;base64",
        "data:image/png,plain",
        "data:image/png;base64,!!!!",
        "data:image/png;base64,YW Jj",
        "data:image/png;base64,grün",
        7,
        None,
        ["data:image/png;base64,"],
    ],
)
def test_an_image_that_is_no_data_url_is_named(client: httpx.Client, image: object) -> None:
    assert parameters(document(client, image=image, style="tiny")) == ["image"]


def test_an_empty_data_url_has_no_image(client: httpx.Client) -> None:
    assert code(document(client, image="data:image/png;base64,", style="tiny")) == "no-image"


@pytest.mark.parametrize("body", ["null", "[]", "7", '"image"'])
def test_json_that_is_no_object_is_refused(client: httpx.Client, body: str) -> None:
    response = client.post("/stylize?style=tiny", content=body, headers={"Content-Type": "application/json"})
    assert parameters(response) == ["body"]


def test_an_unknown_member_is_named_and_a_missing_image_too(client: httpx.Client) -> None:
    assert parameters(document(client, style="tiny")) == ["image"]
    assert parameters(document(client, image=data_url(saved(drawn())), style="tiny", stlye="x")) == ["stlye"]


# --- Bodies that are too large or too slow -------------------------------------------------------------------------


@pytest.fixture
def small(gateways: Gateways) -> Iterator[LoneGateway]:
    """A gateway that takes a tenth of a megabyte."""
    with gateways(max_body_megabytes=0.1, upload_idle_seconds=0.3) as gateway:
        yield gateway


def in_pieces(megabytes: int) -> Iterator[bytes]:
    for _ in range(16 * megabytes):
        yield bytes(2**16)


def test_a_body_that_says_it_is_too_large_is_refused_quickly(small: LoneGateway) -> None:
    start = time.monotonic()
    response = post(small.client, bytes(5 * 2**20))
    assert response.status_code == 413
    assert code(response) == "body-too-large"
    assert time.monotonic() - start < 4


def test_a_body_that_turns_out_too_large_is_refused_quickly(small: LoneGateway) -> None:
    start = time.monotonic()
    response = small.client.post(
        "/stylize?style=tiny", content=in_pieces(megabytes=5), headers={"Content-Type": "image/png"}
    )
    assert "content-length" not in response.request.headers
    assert response.status_code == 413
    assert code(response) == "body-too-large"
    assert time.monotonic() - start < 4


def test_forms_and_documents_are_bounded_too(small: LoneGateway) -> None:
    data = bytes(2**20)
    assert code(form(small.client, picture_field(data), text_field("style", "tiny"))) == "body-too-large"
    assert code(document(small.client, image=data_url(data), style="tiny")) == "body-too-large"


def test_a_body_at_the_limit_is_read(small: LoneGateway) -> None:
    limit = round(0.1 * 2**20)
    assert code(post(small.client, bytes(limit))) == "unsupported-image"
    assert code(post(small.client, bytes(limit + 1))) == "body-too-large"


def begun(client: httpx.Client, body: bytes) -> http.client.HTTPConnection:
    """An upload of which only the first bytes have come."""
    connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port, timeout=30)
    connection.putrequest("POST", "/stylize?style=tiny")
    connection.putheader("Content-Type", "image/png")
    connection.putheader("Content-Length", "1000")
    connection.endheaders()
    connection.send(body)
    return connection


@pytest.mark.parametrize("body", [b"", b"\x89PNG"])
def test_an_upload_that_pauses_is_given_up(small: LoneGateway, body: bytes) -> None:
    connection = begun(small.client, body)
    response = connection.getresponse()
    assert response.status == 408
    assert response.getheader("Content-Type") == "application/problem+json"
    assert json.loads(response.read())["code"] == "upload-timeout"
    connection.close()


def test_an_upload_that_takes_too_long_in_all_is_given_up(gateways: Gateways) -> None:
    with gateways(upload_total_seconds=0.5) as gateway:
        connection = begun(gateway.client, b"\x89PNG")
        assert connection.getresponse().status == 408
        connection.close()


def test_a_client_that_leaves_in_the_middle_is_no_trouble(small: LoneGateway) -> None:
    begun(small.client, b"\x89PNG").close()
    assert post(small.client, b"nothing").status_code == 415


# --- Pictures that are refused by their header ---------------------------------------------------------------------


LIMITS = ServiceSettings(max_megapixels=1, max_side=2000)


@pytest.mark.parametrize("media_type", MediaType)
def test_the_format_is_read_from_the_header(media_type: MediaType) -> None:
    assert inspect(saved(drawn(), media_type.name), None, LIMITS) is media_type


def test_a_jpeg_of_several_pictures_is_a_jpeg() -> None:
    data = saved(drawn(), "MPO", save_all=True, append_images=[drawn()])
    assert inspect(data, None, LIMITS) is MediaType.JPEG


@pytest.mark.parametrize("sides", [(1001, 1000), (2001, 16), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_picture_over_the_limits_is_refused_without_being_decoded(sides: tuple[int, int]) -> None:
    with pytest.raises(ImageTooLargeError, match=f"{sides[0]}×{sides[1]}"):
        inspect(png_that_says_it_has(*sides), None, LIMITS)


@pytest.mark.parametrize("sides", [(1000, 1000), (2000, 500), (16, 16), (2000, 16)])
def test_a_picture_at_the_limits_is_taken(sides: tuple[int, int]) -> None:
    assert inspect(png_that_says_it_has(*sides), None, LIMITS) is MediaType.PNG


@pytest.mark.parametrize("sides", [(15, 100), (100, 15), (1, 1)])
def test_a_picture_under_16_pixels_is_too_small(sides: tuple[int, int]) -> None:
    with pytest.raises(ImageTooSmallError):
        inspect(png_that_says_it_has(*sides), None, LIMITS)


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
    data = png_that_says_it_has(*sides)
    if allowed:
        assert inspect(data, size, LIMITS) is MediaType.PNG
    else:
        with pytest.raises(InvalidParameterError, match=f"size {size}"):
            inspect(data, size, LIMITS)


@pytest.mark.parametrize("file_format", ["GIF", "TIFF", "BMP", "ICO", "TGA", "PPM", "PDF"])
def test_other_formats_are_not_supported(file_format: str) -> None:
    with pytest.raises(UnsupportedImageError):
        inspect(saved(drawn(), file_format), None, LIMITS)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_a_header_that_is_cut_off_is_broken(file_format: str) -> None:
    with pytest.raises(BrokenImageError):
        inspect(saved(drawn(), file_format)[:18], None, LIMITS)


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


# --- Hostile pictures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_a_picture_whose_header_is_good_and_whose_pixels_are_not_is_broken(
    client: httpx.Client, file_format: str
) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8))
    data = saved(noise, file_format, quality=90)
    response = post(client, data[: round(0.95 * len(data))])
    assert response.status_code == 422
    assert code(response) == "broken-image"
    # Of the others it is Pillow's affair how much it looks at before it decodes.
    assert file_format not in ("JPEG", "PNG") or response.headers["x-job-id"] == response.json()["job"]


@pytest.mark.parametrize("folder", ["bombs", "crashers", "exif_orientation", "pngsuite/png"])
def test_hostile_files_are_answered_and_nothing_dies(
    client: httpx.Client, stack: Stack, shared: Path, folder: str
) -> None:
    paths = [path for path in sorted((shared / "hostile" / folder).iterdir()) if path.is_file()]
    assert len(paths) >= 18
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda path: post(client, path.read_bytes(), size="64"), paths))
    for path, answer in zip(paths, answers, strict=True):
        assert answer.status_code in (200, 413, 415, 422), (path.name, answer.text)
        assert answer.elapsed.total_seconds() < 5, path.name
    assert all(process.poll() is None for process in stack.processes.values())
    assert client.get("/readyz").status_code == 200
    assert post(client, saved(drawn())).status_code == 200
