"""What OpenAPI cannot say of our interface, for schemathesis: what a picture is, and which options go together.

Only requests that are meant to be right are changed: those that are meant to be wrong are sent as they are.
"""

import base64
import re
import uuid
from typing import Any

import httpx
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, HookContext

from service.idempotency import HEADER as KEY
from service.options import MIN_SIDE, PICTURE_URL
from tests.pictures import encoded, photograph

PATIENCE_SECONDS = 60
SIDE, MAX_SIDE = 64, 512
"""Results that are made of the pictures here, which are squares, so that none gets a side that is too short."""
SIZES = ((16, 16), (30, 30), (64, 64))
PICTURES = [
    encoded(photograph(*size, seed=seed), name) for seed, size in enumerate(SIZES) for name in ("PNG", "JPEG", "WEBP")
]

pictures = st.sampled_from(PICTURES)
urls = pictures.map(lambda data: f"data:image/png;base64,{base64.b64encode(data).decode()}")

schemathesis.openapi.media_type("image/*", pictures)
schemathesis.openapi.format("binary", pictures)
schemathesis.openapi.format(PICTURE_URL, urls)


@schemathesis.hook
def before_call(context: HookContext, case: "Case[Any]", kwargs: dict[str, Any]) -> None:
    if case.operation.label == "GET /jobs/{job_id}/events":
        _end_training(case)
    if case.meta and case.meta.generation.mode.is_positive:
        if KEY in (case.headers or {}):
            case.headers[KEY] = str(uuid.uuid4())  # which belongs to one request
        if case.operation.label == "POST /stylize":
            _agree(case)


def _end_training(case: "Case[Any]") -> None:
    """A stream ends with its job, and nobody trains here."""
    job_id = str((case.path_parameters or {}).get("job_id", ""))
    if re.fullmatch("[0-9a-f-]{36}", job_id):
        httpx.delete(f"{str(case.operation.base_url).rstrip('/')}/jobs/{job_id}", timeout=PATIENCE_SECONDS)


def _agree(case: "Case[Any]") -> None:
    """An option stands in the query or in the body, and there are one style and one picture.

    A body that holds the bytes of a picture stays as it is: schemathesis would look at it again when it is changed, and
    take them for a mistake.
    """
    body = case.body if isinstance(case.body, dict) else {}
    if body.get("webhook_events") and not body.get("webhook_url"):  # as JSON: a form says that it needs one
        case.body = body = {**body, "webhook_events": None}
    if "image" in body and body.get("image_url") is not None:  # the coverage phase puts both together for all that
        case.body = body = {name: value for name, value in body.items() if name != "image"}
    query = {name: value for name, value in (case.query or {}).items() if name not in body}
    if body or isinstance(case.body, bytes):
        query.pop("image_url", None)
    else:  # there is no body: then the picture is somewhere else
        query["image_url"] = "https://example.com/photo.jpg"
    if "webhook_url" not in {*query, *body}:
        query.pop("webhook_events", None)
    if "style" in body and body["style"] is None:  # as JSON
        case.body = body = {**body, "style": "starry_night"}
    elif "style" not in query and "style" not in body:
        query["style"] = "starry_night"
    if "size" in query:
        query["size"] = SIDE
    case.query = query


@schemathesis.hook
def filter_body(context: HookContext, body: Any) -> bool:
    """Of a size that suits all of the pictures, or of one that is none at all."""
    size = body.get("size") if isinstance(body, dict) else None
    return not isinstance(size, int | float) or MIN_SIDE <= size <= MAX_SIDE or size < 0
