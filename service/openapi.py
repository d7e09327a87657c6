"""What the framework cannot find out by itself for the description of the interface."""

from http import HTTPStatus
from typing import Any

from contract import errors
from contract.errors import AtelierError
from contract.images import MediaType
from service.problems import MEDIA_TYPE, leaves, status_of
from service.schemas import Problem, StylizeDocument, StylizeOptions

Responses = dict[int | str, dict[str, Any]]

PICTURES: dict[str, Any] = {
    media_type.value: {"schema": {"type": "string", "format": "binary"}} for media_type in MediaType
}

JOB_FAILURES = (
    *leaves(errors.ImageError),
    *leaves(errors.JobError),
    errors.StyleNotFoundError,
    errors.StoreUnavailableError,
    errors.CheckpointError,
)
"""How a job may end without a picture: where the picture is asked for, these go out in its place."""


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

STYLIZE_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": _schema(
            {
                "type": "object",
                "required": ["image"],
                "properties": {
                    "image": {"type": "string", "format": "binary"},
                    **StylizeOptions.model_json_schema()["properties"],
                },
                "additionalProperties": False,
            }
        ),
        "image/*": _schema({"type": "string", "format": "binary"}),
        "application/json": _schema(StylizeDocument.model_json_schema()),
    },
}

STYLIZED: dict[str, Any] = {
    "description": "The picture, or the ended job where JSON is accepted",
    "content": {**PICTURES, "application/json": _schema({"$ref": "#/components/schemas/JobDocument"})},
}
