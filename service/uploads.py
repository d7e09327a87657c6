"""The trust boundary: what comes from outside is bounded, and looked at, before anything is done with it."""

import asyncio
import base64
import binascii
import io
import time
from dataclasses import dataclass

from fastapi import Request
from PIL import Image, UnidentifiedImageError
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.errors import (
    BodyTooLargeError,
    BrokenImageError,
    ImageTooLargeError,
    ImageTooSmallError,
    InvalidParameterError,
    MalformedBodyError,
    NoImageError,
    UnsupportedBodyError,
    UnsupportedImageError,
    UploadTimeoutError,
)
from contract.images import MediaType
from service.schemas import MIN_SIDE, StylizeDocument, StylizeOptions
from service.settings import ServiceSettings

FORMATS = [media_type.name for media_type in MediaType]
FORM_FIELDS = 20
FORM_FIELD_BYTES = 64 * 1024
RAW_TYPES = ("image/", "application/octet-stream")
DRAIN_SECONDS = 5
"""How long the rest of a body that is too large is read, so that its sender gets to see the answer."""

# Pillow only warns up to twice its own limit; ours is exact, and comes first.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class Upload:
    """A picture whose header has been checked, and what is asked for it."""

    data: bytes
    media_type: MediaType
    options: StylizeOptions


class BodyGuard:
    """Bounds the bytes and the time of every request body while it streams in, before any parser sees it."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self._app = app
        self._max_bytes = round(settings.max_body_megabytes * 2**20)
        self._idle_seconds = settings.upload_idle_seconds
        self._total_seconds = settings.upload_total_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        asks_first = b"expect" in headers  # and sends nothing before it is told to go on
        received, started, complete = 0, time.monotonic(), False

        async def guarded() -> Message:
            nonlocal received, complete
            if complete:  # what comes after the body is the client's leaving, and may take as long as it likes
                return await receive()
            if int(declared) > self._max_bytes:
                if not asks_first:
                    await self._drain(receive)
                raise self._too_large()
            message = await self._in_time(receive, started)
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > self._max_bytes:
                await self._drain(receive)
                raise self._too_large()
            return message

        await self._app(scope, guarded, send)

    async def _in_time(self, receive: Receive, started: float) -> Message:
        left = self._total_seconds - (time.monotonic() - started)
        try:
            async with asyncio.timeout(max(0.0, min(self._idle_seconds, left))):
                return await receive()
        except TimeoutError:
            raise UploadTimeoutError(
                f"The body must come within {self._total_seconds:g} seconds, with no pause of more than "
                f"{self._idle_seconds:g}: send it again."
            ) from None

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(f"The body may have {self._max_bytes} bytes: send a smaller file.")

    async def _drain(self, receive: Receive) -> None:
        """Reads on for a little while: a client that is cut off in the middle of sending never reads the answer."""
        drained = 0
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while drained <= self._max_bytes:
                    message = await receive()
                    drained += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            return


async def read_upload(request: Request, query: StylizeOptions, settings: ServiceSettings) -> Upload:
    """The picture and the options of a request, in any of the three forms.

    Raises BadRequestError for a body that cannot be read, ImageError for a picture that cannot be used.
    """
    _refuse_doubled([name for name, _ in request.query_params.multi_items()])
    content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        data, options = await _read_form(request)
    elif content_type.startswith(RAW_TYPES):
        data, options = await request.body(), StylizeOptions()
    elif content_type == "application/json":
        data, options = await run_in_threadpool(_read_json, await request.body())
    else:
        raise UnsupportedBodyError(
            "Send the picture as multipart/form-data (field `image`), as an image/* body, or as JSON with a data URL."
        )
    if not data:
        raise NoImageError("The picture is missing: send it as the form field `image`, or as the body.")
    options = _merged(query, options)
    media_type = await run_in_threadpool(inspect, data, options.size, settings)
    return Upload(data, media_type, options)


def inspect(data: bytes, size: int | None, settings: ServiceSettings) -> MediaType:
    """Reads the header of a picture, decoding nothing, and holds it against the limits.

    Raises UnsupportedImageError, BrokenImageError, ImageTooLargeError, ImageTooSmallError, InvalidParameterError.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            name, sides = image.format, image.size
    except UnidentifiedImageError as error:
        if _says_it_is_ours(data):
            raise BrokenImageError("The picture's header cannot be read: the file is damaged or cut off.") from error
        raise UnsupportedImageError("The picture is not a JPEG, PNG, WebP or AVIF file.") from None
    except Exception as error:  # parsers of hostile bytes raise anything at all
        raise BrokenImageError("The picture's header cannot be read: the file is damaged or cut off.") from error
    _check_limits(sides, settings)
    if size is not None:
        _check_size(sides, size, settings)
    # A JPEG of several pictures (as some cameras write) goes by another name in Pillow.
    return MediaType.JPEG if name == "MPO" else MediaType[str(name)]


def _says_it_is_ours(data: bytes) -> bool:
    """Whether a file that Pillow cannot place begins like one of our formats."""
    brand = data[4:12]
    return data.startswith((b"\xff\xd8\xff", b"\x89PNG")) or data[8:12] == b"WEBP" or brand.startswith(b"ftypavi")


def _check_limits(sides: tuple[int, int], settings: ServiceSettings) -> None:
    width, height = sides
    if min(sides) < MIN_SIDE:
        raise ImageTooSmallError(f"The picture has {width}×{height} pixels; each side needs at least {MIN_SIDE}.")
    if width * height > settings.max_megapixels * 1e6 or max(sides) > settings.max_side:
        raise ImageTooLargeError(
            f"The picture has {width}×{height} pixels. At most {settings.max_megapixels:g} megapixels and "
            f"{settings.max_side} pixels a side are taken: scale it down first."
        )


def _check_size(sides: tuple[int, int], size: int, settings: ServiceSettings) -> None:
    """The result's sides, which are not the picture's own, must be within the limits too."""
    scale = size / max(sides)
    short = round(min(sides) * scale)
    if short < MIN_SIDE:
        raise InvalidParameterError(
            f"At size {size} the short side would have {short} pixels, and needs at least {MIN_SIDE}.", parameter="size"
        )
    if size > settings.max_side or size * short > settings.max_megapixels * 1e6:
        raise InvalidParameterError(
            f"At size {size} the result would have {size}×{short} pixels, more than {settings.max_megapixels:g} "
            f"megapixels or {settings.max_side} pixels a side.",
            parameter="size",
        )


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
