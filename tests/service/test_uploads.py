"""The forms that a request may have, and everything that must not get through."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.conftest import Stack
from tests.pictures import decoded
from tests.service.conftest import (
    code,
    data_url,
    document,
    drawn,
    form,
    parameters,
    picture_field,
    post,
    saved,
    text_field,
)

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
    assert decoded(answers[0].content).size == (50, 35)


def test_the_fields_of_a_form_may_come_in_any_order(client: httpx.Client) -> None:
    data = saved(drawn())
    first = form(client, picture_field(data), text_field("style", "tiny"))
    last = form(client, text_field("style", "tiny"), picture_field(data))
    assert first.content == last.content


def test_options_of_a_form_may_stand_in_the_query(client: httpx.Client) -> None:
    response = form(client, picture_field(saved(drawn())), text_field("style", "tiny"), size="24")
    assert decoded(response.content).size == (24, 16)


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
        ("strength", "-0.1"),
        ("strength", "1.51"),
        ("strength", "nan"),
        ("strength", "full"),
        ("preserve_color", "maybe"),
        ("style", "no such name!"),
        ("style", ""),
        ("style", "tiny@"),
        ("style", "tiny@0"),
        ("style", "../tiny"),
        ("style", "tiny:0"),
        ("style", "tiny,tiny"),
        ("style", "tiny,"),
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


@pytest.mark.parametrize(("size", "sides"), [(30, (64, 16)), (9000, (64, 48))])
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


def test_seventeen_images_are_too_many(client: httpx.Client) -> None:
    response = form(client, *17 * [picture_field(saved(drawn()))], text_field("style", "tiny"))
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


def test_an_unknown_member_is_named_and_a_missing_image_is_missed(client: httpx.Client) -> None:
    assert code(document(client, style="tiny")) == "no-image"
    assert parameters(document(client, image=data_url(saved(drawn())), style="tiny", stlye="x")) == ["stlye"]


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


@pytest.mark.parametrize("members", [{"size": "64"}, {"quality": True}, {"preserve_color": 1}, {"strength": "1"}])
def test_a_member_of_json_is_of_the_type_that_the_description_says(
    client: httpx.Client, members: dict[str, Any]
) -> None:
    response = document(client, image=data_url(saved(drawn()), "image/png"), style="tiny", **members)
    assert parameters(response) == list(members)


def test_a_whole_number_of_json_may_be_written_with_a_point(client: httpx.Client) -> None:
    body = f'{{"image": "{data_url(saved(drawn()), "image/png")}", "style": "tiny", "size": 32.0}}'
    response = client.post("/stylize", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 200


@pytest.mark.parametrize("value", ["on", "1", "0", "y", "True", ""])
def test_a_flag_is_true_or_false_and_nothing_else(client: httpx.Client, value: str) -> None:
    assert parameters(post(client, saved(drawn()), preserve_color=value)) == ["preserve_color"]
