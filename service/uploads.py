"""The three forms of an upload, read into one: nothing in them is believed before it has been looked at."""

import base64
import binascii
from dataclasses import dataclass

from fastapi import Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from contract.errors import InvalidParameterError, MalformedBodyError, NoImageError, UnsupportedBodyError
from contract.images import MediaType
from service.inspection import inspect, result_side
from service.schemas import StylizeDocument, StylizeOptions
from service.settings import ServiceSettings

FORM_FIELDS = 20
FORM_FIELD_BYTES = 64 * 1024
RAW_TYPES = ("image/", "application/octet-stream")


@dataclass(frozen=True)
class Upload:
    """A picture whose header has been checked, and what is asked for it."""

    data: bytes
    media_type: MediaType
    options: StylizeOptions


async def read_upload(request: Request, query: StylizeOptions, settings: ServiceSettings) -> Upload:
    """The picture and the options of a request, in any of the three forms.

    Raises BadRequestError for a body that cannot be read, ImageError for a picture that cannot be used.
    """
    _refuse_doubled([name for name, _ in request.query_params.multi_items()])
    content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        data, options = await _read_form(request)
    elif content_type.startswith(RAW_TYPES):
        data, options = await _read_raw(request), StylizeOptions()
    elif content_type == "application/json":
        data, options = await run_in_threadpool(_read_json, await _read_raw(request))
    else:
        raise UnsupportedBodyError(
            "Send the picture as multipart/form-data (field `image`), as an image/* body, or as JSON with a data URL."
        )
    if not data:
        raise NoImageError("The picture is missing: send it as the form field `image`, or as the body.")
    options = _merged(query, options)
    header = await run_in_threadpool(inspect, data, settings)
    size = result_side(header.sides, options.size, settings)
    return Upload(data, header.media_type, options.model_copy(update={"size": size}))


async def _read_raw(request: Request) -> bytes:
    """The body; unlike ``request.body()``, the request does not keep it."""
    return b"".join([piece async for piece in request.stream()])


async def _read_form(request: Request) -> tuple[bytes, StylizeOptions]:
    try:
        async with request.form(max_files=1, max_fields=FORM_FIELDS, max_part_size=FORM_FIELD_BYTES) as form:
            return await _read_fields(form)
    except HTTPException as error:
        raise MalformedBodyError(f"The form cannot be read: {error.detail}") from error


async def _read_fields(form: FormData) -> tuple[bytes, StylizeOptions]:
    fields: dict[str, str] = {}
    data = b""
    for name, value in form.multi_items():
        if name == "image":
            if not isinstance(value, UploadFile):
                raise NoImageError("The field `image` must be a file: with curl, write -F image=@photo.jpg.")
            data = await value.read()
        elif isinstance(value, UploadFile):
            raise InvalidParameterError(f"The file must be in the field `image`, not {name[:80]!r}.", parameter="image")
        else:
            fields[name] = value
    _refuse_doubled([name for name, _ in form.multi_items()])
    return data, _validated(StylizeOptions, fields)


def _read_json(body: bytes) -> tuple[bytes, StylizeOptions]:
    try:
        document = StylizeDocument.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(error) from error
    header, comma, payload = document.image.partition(",")
    if not (header.startswith("data:") and header.endswith(";base64") and comma):
        raise InvalidParameterError("`image` must be a data URL: data:image/jpeg;base64,…", parameter="image")
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidParameterError("The data URL in `image` is not valid base64.", parameter="image") from None
    return data, StylizeOptions(**document.model_dump(exclude={"image"}, exclude_unset=True))


def _refuse_doubled(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InvalidParameterError(f"{name[:80]!r} is given twice.", parameter=name[:80])


def _validated(model: type[StylizeOptions], fields: dict[str, str]) -> StylizeOptions:
    try:
        return model.model_validate(fields)
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
