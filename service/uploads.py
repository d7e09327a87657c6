"""Uploads, in whatever form they come: nothing in them is believed before it has been looked at."""

import base64
import binascii
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from contract.errors import ImageError, InvalidParameterError, MalformedBodyError, NoImageError, UnsupportedBodyError
from contract.images import MediaType, fitted
from contract.jobs import MAX_STYLE_PICTURES
from service.inspection import inspect, result_side
from service.options import StyleOptions, StylizeDocument, StylizeOptions
from service.settings import ServiceSettings

FORM_FIELDS = 20
FORM_FIELD_BYTES = 64 * 1024
FORM, JSON = "multipart/form-data", "application/json"
RAW_TYPES = ("image/", "application/octet-stream")

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Sent:
    """A request as it came: pictures, or in the options where one is. Nobody has looked at them yet."""

    pictures: tuple[bytes, ...]
    options: StylizeOptions


@dataclass(frozen=True)
class Upload:
    """A picture whose header has been checked, and what is asked for it."""

    data: bytes
    media_type: MediaType
    sides: tuple[int, int]
    """Of the picture as it is; EXIF may turn them."""
    options: StylizeOptions

    @property
    def result_sides(self) -> tuple[int, int]:
        return fitted(self.sides, self.options.size) if self.options.size else self.sides


@dataclass(frozen=True)
class StyleUpload:
    """Pictures of a style, whose headers have been checked, and what is asked for them."""

    pictures: tuple[bytes, ...]
    options: StyleOptions


async def read_upload(request: Request, query: StylizeOptions, max_pictures: int) -> Sent:
    """The picture and the options of a request, in any of the three forms; several pictures in a form.

    Raises BadRequestError for a body that cannot be read.
    """
    _refuse_doubled([name for name, _ in request.query_params.multi_items()])
    content_type = _content_type(request)
    if content_type == FORM:
        pictures, fields = await _read_form(request, max_pictures)
        options = _validated(StylizeOptions, fields)
    elif content_type.startswith(RAW_TYPES) or (query.image_url and not content_type):
        pictures, options = [await _read_raw(request)], StylizeOptions()
    elif content_type == JSON:
        data, options = await run_in_threadpool(_read_data_url, await _read_raw(request))
        pictures = [data]
    else:
        raise UnsupportedBodyError(
            "Send the picture as multipart/form-data (field `image`), as an image/* body, or as JSON with a data URL."
        )
    options = _merged(query, options)
    if any(pictures) and options.image_url:
        raise InvalidParameterError("Send the picture or its address, not both.", parameter="image_url")
    if not (pictures and all(pictures)) and not options.image_url:
        raise NoImageError("The picture is missing: send it as the form field `image`, or as the body.")
    return Sent(tuple(filter(None, pictures)), options)


def check_uploads(pictures: Sequence[bytes], options: StylizeOptions, settings: ServiceSettings) -> list[Upload]:
    """Looks at the header of each picture. Raises ImageError for one that cannot be used, InvalidParameterError."""
    uploads = []
    for number, data in enumerate(pictures, 1):
        with _one_of(pictures, number):
            header = inspect(data, settings)
            size = result_side(header.sides, options.size, settings)
        asked = options.model_copy(update={"size": size})
        uploads.append(Upload(data, header.media_type, header.sides, asked))
    return uploads


async def read_style_upload(request: Request, settings: ServiceSettings) -> StyleUpload:
    """The pictures and the options of a form. Raises as ``read_upload`` does."""
    if names := list(request.query_params):
        raise InvalidParameterError("Options of a new style are fields of the form.", parameter=names[0][:80])
    if _content_type(request) != FORM:
        raise UnsupportedBodyError(
            "Send multipart/form-data: with curl, write -F image=@painting.jpg -F name=my_style."
        )
    pictures, fields = await _read_form(request, max_pictures=MAX_STYLE_PICTURES)
    options = _validated(StyleOptions, fields)
    if (options.iterations or 0) > settings.max_iterations:
        raise InvalidParameterError(
            f"A style is trained for {settings.max_iterations} iterations at most: ask for fewer, or leave it to the "
            "trainer.",
            parameter="iterations",
        )
    if not pictures or not all(pictures):
        raise NoImageError(f"Send 1 to {MAX_STYLE_PICTURES} pictures of the style, each as a form field `image`.")
    await run_in_threadpool(_inspect_all, pictures, settings)
    return StyleUpload(tuple(pictures), options)


async def read_document(request: Request, model: type[Model]) -> Model:
    """A JSON body. Raises BadRequestError."""
    if _content_type(request) != JSON:
        raise UnsupportedBodyError("Send JSON, with the content type application/json.")
    return await run_in_threadpool(_parsed, model, await _read_raw(request))


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


async def _read_raw(request: Request) -> bytes:
    """The body; unlike ``request.body()``, the request does not keep it."""
    return b"".join([piece async for piece in request.stream()])


async def _read_form(request: Request, max_pictures: int) -> tuple[list[bytes], dict[str, str]]:
    try:
        async with request.form(max_files=max_pictures, max_fields=FORM_FIELDS, max_part_size=FORM_FIELD_BYTES) as form:
            return await _read_fields(form)
    except HTTPException as error:
        raise MalformedBodyError(f"The form cannot be read: {error.detail}") from error


async def _read_fields(form: FormData) -> tuple[list[bytes], dict[str, str]]:
    """The pictures (as many files as the form has been let to have), and the fields that are text."""
    pictures: list[bytes] = []
    fields: list[tuple[str, str]] = []
    for name, value in form.multi_items():
        if name == "image":
            if not isinstance(value, UploadFile):
                raise NoImageError("The field `image` must be a file: with curl, write -F image=@photo.jpg.")
            pictures.append(await value.read())
        elif isinstance(value, UploadFile):
            raise InvalidParameterError(f"The file must be in the field `image`, not {name[:80]!r}.", parameter="image")
        else:
            fields.append((name, value))
    _refuse_doubled([name for name, _ in fields])
    return pictures, dict(fields)


def _read_data_url(body: bytes) -> tuple[bytes, StylizeOptions]:
    document = _parsed(StylizeDocument, body)
    options = StylizeOptions(**document.model_dump(exclude={"image"}, exclude_unset=True))
    if "image" not in document.model_fields_set:
        return b"", options
    header, comma, payload = document.image.partition(",")
    if not (header.startswith("data:") and header.endswith(";base64") and comma):
        raise InvalidParameterError("`image` must be a data URL: data:image/jpeg;base64,…", parameter="image")
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidParameterError("The data URL in `image` is not valid base64.", parameter="image") from None
    return data, options


def _inspect_all(pictures: list[bytes], settings: ServiceSettings) -> None:
    """Looks at the header of each."""
    for number, data in enumerate(pictures, 1):
        with _one_of(pictures, number):
            inspect(data, settings)


@contextmanager
def _one_of(pictures: Sequence[bytes], number: int) -> Iterator[None]:
    """Of several, the problem says which one it is."""
    try:
        yield
    except ImageError as error:
        if len(pictures) == 1:
            raise
        raise type(error)(f"Picture {number} of {len(pictures)}: {error}") from error


def _refuse_doubled(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InvalidParameterError(f"{name[:80]!r} is given twice.", parameter=name[:80])


def _validated(model: type[Model], fields: dict[str, str]) -> Model:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _invalid(error) from error


def _parsed(model: type[Model], body: bytes) -> Model:
    try:
        return model.model_validate_json(body, strict=True)  # "16" is no number there
    except ValidationError as error:
        raise _invalid(error) from error


def _invalid(error: ValidationError) -> InvalidParameterError | MalformedBodyError:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return MalformedBodyError(f"The body is not valid JSON: {first['msg']}")
    parameter = ".".join(map(str, first["loc"]))[:80] or "body"
    return InvalidParameterError(f"{parameter}: {first['msg']}", parameter=parameter)


def _merged(query: StylizeOptions, body: StylizeOptions) -> StylizeOptions:
    """Options may stand in the query or in the body, each in one of them."""
    if both := query.model_fields_set & body.model_fields_set:
        name = sorted(both)[0]
        raise InvalidParameterError(f"{name!r} is given twice, in the query and in the body.", parameter=name)
    return query.model_copy(update=body.model_dump(exclude_unset=True))
