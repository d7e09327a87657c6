"""What the framework cannot find out by itself for the description of the interface."""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from contract import errors
from contract.errors import AtelierError
from contract.images import MediaType
from contract.jobs import MAX_STYLE_PICTURES
from service.options import ActiveVersion, StyleOptions, StylizeDocument, StylizeOptions
from service.problems import MEDIA_TYPE, leaves, status_of
from service.schemas import Problem

Responses = dict[int | str, dict[str, Any]]

FILE = {"type": "string", "format": "binary"}

PICTURES: dict[str, Any] = {media_type.value: {"schema": FILE} for media_type in MediaType}
JPEG: dict[str, Any] = {"description": "The picture", "content": {MediaType.JPEG.value: {"schema": FILE}}}
NOT_MODIFIED: dict[str, Any] = {"description": "You have it: its ETag is in `If-None-Match`"}

UPLOAD_FAILURES = (
    errors.MalformedBodyError,
    errors.NoImageError,
    errors.UnsupportedBodyError,
    errors.InvalidParameterError,
    errors.BodyTooLargeError,
    errors.UploadTimeoutError,
    *leaves(errors.ImageError),
    *leaves(errors.BusyError),
)
"""How an upload may fail to become a job."""

TRAINING_FAILURES = (errors.TrainingDivergedError, errors.TrainingDataError)
JOB_FAILURES = (
    *leaves(errors.ImageError),
    *leaves(errors.JobError),
    errors.StyleNotFoundError,
    errors.BlendError,
    errors.StoreUnavailableError,
    errors.CheckpointError,
)
"""How a job may end without a result: where the result is asked for, these go out in its place."""
STYLIZE_FAILURES = tuple(kind for kind in JOB_FAILURES if kind not in TRAINING_FAILURES)


def problems(*kinds: type[AtelierError]) -> Responses:
    """The ``responses`` of a route that may fail in these ways: every status with its codes."""
    codes: dict[HTTPStatus, list[str]] = {}
    for kind in dict.fromkeys(kinds):
        codes.setdefault(status_of(kind), []).append(f"`{kind.code}`")
    return {
        status.value: {
            "description": f"{status.phrase}: {', '.join(codes[status])}",
            "content": {MEDIA_TYPE: _schema(PROBLEM)},
        }
        for status in sorted(codes)
    }


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"schema": schema}


PROBLEM: dict[str, Any] = Problem.model_json_schema()
# The framework collects the definitions of its own models only: this one must stand by itself.
PROBLEM["properties"]["errors"]["items"] = PROBLEM.pop("$defs")["ProblemItem"]


def _form(options: type[BaseModel], image: dict[str, Any]) -> dict[str, Any]:
    """A form with these options and the field ``image``."""
    schema = options.model_json_schema()
    return _schema(
        {
            "type": "object",
            "required": ["image", *schema.get("required", [])],
            "properties": {"image": image, **schema["properties"]},
            "additionalProperties": False,
        }
    )


FILES = {"type": "array", "items": FILE, "minItems": 1, "maxItems": MAX_STYLE_PICTURES}

STYLIZE_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": _form(StylizeOptions, FILE),
        "image/*": _schema(FILE),
        "application/json": _schema(StylizeDocument.model_json_schema()),
    },
}

TRAIN_BODY: dict[str, Any] = {
    "required": True,
    "content": {"multipart/form-data": _form(StyleOptions, FILES)},
}

ACTIVE_BODY: dict[str, Any] = {
    "required": True,
    "content": {"application/json": _schema(ActiveVersion.model_json_schema())},
}

STYLIZED: dict[str, Any] = {
    "description": "The picture, or the ended job where JSON is accepted",
    "content": {**PICTURES, "application/json": _schema({"$ref": "#/components/schemas/JobDocument"})},
}
