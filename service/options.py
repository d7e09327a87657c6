"""What may be asked of the HTTP interface: the options of a request, and their limits."""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from contract.images import MediaType
from contract.jobs import (
    MAX_BLEND,
    MAX_ITERATIONS,
    MAX_STRENGTH,
    MAX_STROKE_SIZE,
    MAX_STYLE_WEIGHT,
    MIN_STROKE_SIZE,
)
from contract.styles import NAME_PATTERN
from contract.webhooks import WebhookEvent
from service.outbound import MAX_URL_LENGTH

MIN_SIDE = 16
"""The least that the generators take, in pixels."""

DEFAULT_QUALITY = {MediaType.JPEG: 90, MediaType.PNG: 100, MediaType.WEBP: 88, MediaType.AVIF: 75}

EVENT_PATTERN = "|".join(map(re.escape, WebhookEvent))
MAX_EVENTS_LENGTH = 200

Format = Literal["jpeg", "png", "webp", "avif"]
Urgency = Literal["interactive", "normal", "batch"]


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
        bool, Field(description="Keep the colours of the photograph, and take only light and dark from the style.")
    ] = False
    size: Annotated[
        int | None,
        Field(
            ge=MIN_SIDE,
            description="The long side of the result in pixels; default: the photograph's own, up to the pixel limit.",
        ),
    ] = None
    format: Annotated[
        Format | None, Field(description="The format of the result; it wins over `Accept`. Default: the photograph's.")
    ] = None
    quality: Annotated[
        int | None, Field(ge=1, le=100, description="Of JPEG, WebP and AVIF; default 90, 88 and 75.")
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

    image: Annotated[str, Field(description="The picture as a data URL: `data:image/jpeg;base64,…`")] = ""


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
    replace: Annotated[bool, Field(description="Train another version of a style that there is.")] = False


class ActiveVersion(BaseModel):
    """PUT /styles/{name}/active."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Annotated[int, Field(ge=1, le=999_999_999, description="The version that the bare name is to mean.")]
