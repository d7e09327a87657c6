"""What may be asked of the HTTP interface: the options of a request, and their limits."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from contract.images import MediaType
from contract.jobs import (
    MAX_BLEND,
    MAX_ITERATIONS,
    MAX_STRENGTH,
    MAX_STROKE_SIZE,
    MAX_STYLE_WEIGHT,
    MIN_STROKE_SIZE,
)
from contract.styles import NAME_PATTERN, STYLE_PATTERN
from contract.webhooks import WebhookEvent
from service.outbound import MAX_URL_LENGTH

PICTURE_URL = "picture-url"
"""What the description calls the format of a data URL that holds a picture."""
SHARE_PATTERN = STYLE_PATTERN[1:-1] + r"(?::(?:[0-9]{1,9}|[0-9]{0,9}\.[0-9]{1,9}))?"
BLEND_PATTERN = rf"^{SHARE_PATTERN}(?:,{SHARE_PATTERN}){{0,{MAX_BLEND - 1}}}$"
MIN_SIDE = 16
"""The least that the generators take, in pixels."""

DEFAULT_QUALITY = {MediaType.JPEG: 90, MediaType.PNG: 100, MediaType.WEBP: 88, MediaType.AVIF: 75}

EVENT_PATTERN = "|".join(map(re.escape, WebhookEvent))
MAX_EVENTS_LENGTH = 200

Format = Literal["jpeg", "png", "webp", "avif"]
Urgency = Literal["interactive", "normal", "batch"]


def _as_it_is_written(value: object) -> object:
    """What a text means: nothing but ``true`` and ``false``; pydantic by itself takes ``on``, ``y`` and ``0``, too."""
    if isinstance(value, str) and value not in ("true", "false"):
        raise ValueError("write true or false")
    return value


def _as_a_blend(schema: dict[str, Any]) -> None:
    """How it is described; ``service.blends`` says in words of its own what is wrong with one."""
    for kind in schema.get("anyOf", []):
        if kind.get("type") == "string":
            kind["pattern"] = BLEND_PATTERN


def _as_a_picture(schema: dict[str, Any]) -> None:
    """How it is described: left out it is empty, but nobody should send it so."""
    schema["format"] = PICTURE_URL
    schema.pop("default", None)


def _as_a_number(value: object) -> object:
    """JSON has one kind of number: 16.0 is 16."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_as_a_number)
Flag = Annotated[bool, BeforeValidator(_as_it_is_written)]


class WebhookOptions(BaseModel):
    """Whom to call when something becomes of the job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    webhook_url: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=MAX_URL_LENGTH,
            description="Where to send what becomes of the job. Only where the operator has switched that on.",
            examples=["https://example.com/atelier"],
        ),
    ] = None
    webhook_events: Annotated[
        str | None,
        Field(
            pattern=rf"^(?:{EVENT_PATTERN})(?:,(?:{EVENT_PATTERN}))*$",
            max_length=MAX_EVENTS_LENGTH,
            description=f"What to send, with commas between: {', '.join(WebhookEvent)}. Default: how the job ends.",
            examples=["job.succeeded,job.failed"],
        ),
    ] = None


class StylizeOptions(WebhookOptions):
    """What may be asked of POST /stylize: in the query, as form fields or as JSON members."""

    style: Annotated[
        str | None,
        Field(
            description="A style's name, or `name@version`; or a blend of up to "
            f"{MAX_BLEND} styles of one network, each with a weight.",
            examples=["starry_night", "starry_night:0.6,great_wave:0.4"],
            json_schema_extra=_as_a_blend,
        ),
    ] = None
    strength: Annotated[
        float,
        Field(
            ge=0,
            le=MAX_STRENGTH,
            description="0 is the photograph, 1 the style, more is exaggerated. For styles that have a content row.",
        ),
    ] = 1.0
    preserve_color: Annotated[
        Flag, Field(description="Keep the colours of the photograph, and take only light and dark from the style.")
    ] = False
    size: Annotated[
        int | None,
        Field(
            ge=MIN_SIDE,
            description="The long side of the result in pixels; default: the photograph's own, up to the pixel limit.",
        ),
        WHOLE,
    ] = None
    format: Annotated[
        Format | None, Field(description="The format of the result; it wins over `Accept`. Default: the photograph's.")
    ] = None
    quality: Annotated[
        int | None, Field(ge=1, le=100, description="Of JPEG, WebP and AVIF; default 90, 88 and 75."), WHOLE
    ] = None
    image_url: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=MAX_URL_LENGTH,
            description="Where the picture is, instead of the picture: it is fetched. Only where the operator has "
            "switched that on.",
            examples=["https://example.com/photo.jpg"],
        ),
    ] = None

    priority: Annotated[
        Urgency | None,
        Field(
            description="How urgent it is. Default: `interactive` when the request waits for its picture, "
            "else `normal`; of several pictures `batch`."
        ),
    ] = None

    @property
    def media_type(self) -> MediaType | None:
        return MediaType(f"image/{self.format}") if self.format else None


class StylizeDocument(StylizeOptions):
    """POST /stylize as JSON."""

    image: Annotated[
        str,
        Field(
            description="The picture as a data URL: `data:image/jpeg;base64,…`",
            json_schema_extra=_as_a_picture,
        ),
    ] = ""


class StyleOptions(WebhookOptions):
    """What may be asked of POST /styles, as form fields."""

    name: Annotated[str, Field(pattern=NAME_PATTERN, examples=["my_style"])]
    title: Annotated[str, Field(max_length=200, description="For people.")] = ""
    description: Annotated[str, Field(max_length=4000)] = ""
    quality: Annotated[
        Literal["quick", "full"],
        Field(description="`quick` fits the style to a network that there is, `full` trains a network of its own."),
    ] = "quick"
    iterations: Annotated[
        int | None, Field(ge=1, le=MAX_ITERATIONS, description="Default: what the trainer holds to be enough.")
    ] = None
    style_weight: Annotated[
        float,
        Field(gt=0, le=MAX_STYLE_WEIGHT, description="Style against content, as a multiple of the trainer's weight."),
    ] = 1.0
    stroke_size: Annotated[
        float,
        Field(ge=MIN_STROKE_SIZE, le=MAX_STROKE_SIZE, description="As a multiple of the trainer's own size."),
    ] = 1.0
    content: Annotated[
        str | None,
        Field(pattern=NAME_PATTERN, description="A folder of the trainer's photographs. Default: all of them."),
    ] = None
    replace: Annotated[Flag, Field(description="Train another version of a style that there is.")] = False


class ActiveVersion(BaseModel):
    """PUT /styles/{name}/active."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Annotated[
        int, Field(ge=1, le=999_999_999, description="The version that the bare name is to mean."), WHOLE
    ]
