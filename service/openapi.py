"""What the framework cannot find out by itself for the description of the interface."""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from contract import errors
from contract.errors import AtelierError
from contract.images import MediaType
from contract.jobs import MAX_STYLE_PICTURES
from service.idempotency import HEADER, MAX_KEY_LENGTH
from service.options import ActiveVersion, StyleOptions, StylizeDocument, StylizeOptions
from service.problems import MEDIA_TYPE, leaves, status_of
from service.schemas import PreviewEvent, Problem, StateEvent

Responses = dict[int | str, dict[str, Any]]

FILE = {"type": "string", "format": "binary"}

PICTURES: dict[str, Any] = {media_type.value: {"schema": FILE} for media_type in MediaType}
JPEG: dict[str, Any] = {"description": "The picture", "content": {MediaType.JPEG.value: {"schema": FILE}}}
METRICS: dict[str, Any] = {
    "description": "In Prometheus's text format",
    "content": {"text/plain": {"schema": {"type": "string"}, "example": 'atelier_queue_jobs{kind="stylize"} 3.0\n'}},
}
NOT_MODIFIED: dict[str, Any] = {"description": "You have it: its ETag is in `If-None-Match`"}

EXAMPLE_EVENTS = """retry: 2000
event: snapshot
id: 1795000000000-0
data: {"id": "0b1e5a3c-7d52-4a57-9d8c-2c5a0f6d7e11", "kind": "train", "state": "queued", …}

event: state
id: 1795000001000-0
data: {"state": "running", "attempt": 1, "at": "2026-11-18T11:06:41Z", "job": null}

event: progress
id: 1795000002000-0
data: {"fraction": 0.4, "stage": "training", "iteration": 240, "iterations": 600, …}

: ping

"""

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

FETCH_FAILURES: tuple[type[AtelierError], ...] = (errors.SwitchedOffError, *leaves(errors.OutboundError))
"""How a picture may fail to be fetched."""

IDEMPOTENCY_FAILURES = (errors.KeyReusedError, errors.RequestInFlightError)


def _header(description: str, example: str, **schema: Any) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string", **schema}, "example": example}


def _parameter(name: str, description: str, example: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, **_header(description, example, **schema)}


IDEMPOTENCY_KEY = _parameter(
    HEADER,
    "Send the same request again with the same key (a UUID), as often as you like: it is done once, and the answer is "
    "that of the first. A key is known as long as its job; with another payload it is 422, and while the first request "
    "still comes in 409.",
    "8e03978e-40d5-43dd-bc93-6894a57f9324",
    minLength=1,
    maxLength=MAX_KEY_LENGTH + 2,  # with its quotes
)
CACHE_CONTROL = _parameter(
    "Cache-Control",
    "`no-cache`: do it anew, even if it has been done. `no-store`: and let nobody else be given it.",
    "no-store",
)
REPLAYED = {"Idempotency-Replayed": _header("`true` when the answer is that of an earlier request", "true")}
CACHED = {
    "X-Cache": _header("`hit` when the picture had been made already", "miss", enum=["hit", "miss"]),
    "X-Job-Id": _header("The job", "0b1e5a3c-7d52-4a57-9d8c-2c5a0f6d7e11"),
}
LOCATION = {"Location": _header("The job", "/jobs/0b1e5a3c-7d52-4a57-9d8c-2c5a0f6d7e11")}

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


def _own_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Of a model that no route answers with by itself, in terms of those that routes do answer with."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    own = schema.pop("$defs", {}).get("PreviewItem")
    if own:
        schema["properties"]["previews"]["items"] = own
    return schema


EVENTS: dict[str, Any] = {
    "description": "The events, until the job has ended. Each has an `id`, and JSON as its `data`",
    "headers": {"X-Job-Id": CACHED["X-Job-Id"]},
    "content": {
        "text/event-stream": {
            "schema": {
                "type": "string",
                "description": "Lines of `event`, `id` and `data` (JSON): of a `snapshot` the job's document, of "
                "`progress` how far it is; of `state` and `preview` as said here.",
                "contentSchema": {
                    "oneOf": [
                        {"$ref": "#/components/schemas/JobDocument"},
                        {"$ref": "#/components/schemas/ProgressDocument"},
                        _own_schema(StateEvent),
                        _own_schema(PreviewEvent),
                    ]
                },
            },
            "example": EXAMPLE_EVENTS,
        }
    },
}


EITHER = {"oneOf": [{"required": ["image"]}, {"required": ["image_url"]}]}


def _form(options: type[BaseModel], image: dict[str, Any], **rules: Any) -> dict[str, Any]:
    """A form with these options and the field ``image``, which must be there unless the rules say otherwise."""
    schema = options.model_json_schema()
    return _schema(
        {
            "type": "object",
            "required": [*([] if rules else ["image"]), *schema.get("required", [])],
            **rules,
            "properties": {"image": image, **schema["properties"]},
            "additionalProperties": False,
        }
    )


FILES = {"type": "array", "items": FILE, "minItems": 1, "maxItems": MAX_STYLE_PICTURES}

STYLIZE_BODY: dict[str, Any] = {
    "required": False,  # where the query has an `image_url`
    "content": {
        "multipart/form-data": _form(StylizeOptions, FILE, **EITHER),
        "image/*": _schema(FILE),
        "application/json": _schema({**StylizeDocument.model_json_schema(), **EITHER}),
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
