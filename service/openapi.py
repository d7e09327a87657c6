"""What the framework cannot find out by itself for the description of the interface."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from contract import errors
from contract.errors import AtelierError
from contract.images import MediaType
from contract.jobbook import EVENT_ID_PATTERN
from contract.jobs import MAX_STYLE_PICTURES
from contract.webhooks import WebhookEvent
from service.idempotency import HEADER, KEY_PATTERN
from service.options import ActiveVersion, StyleOptions, StylizeDocument, StylizeOptions
from service.problems import MEDIA_TYPE, leaves, status_of, type_of
from service.requests import HEADER as REQUEST_ID
from service.schemas import JobDocument, PreviewEvent, Problem, ProgressDocument, StateEvent, WebhookPayload
from service.settings import MOST_PICTURES

Responses = dict[int | str, dict[str, Any]]

FILE = {"type": "string", "format": "binary"}

PICTURES: dict[str, Any] = {media_type.value: {"schema": FILE} for media_type in MediaType}
ARCHIVE: dict[str, Any] = {"application/zip": {"schema": FILE}}
METRICS: dict[str, Any] = {
    "description": "In Prometheus's text format",
    "content": {
        "text/plain": {
            "schema": {"type": "string"},
            "example": 'atelier_queue_jobs{kind="stylize",priority="normal"} 3.0\n',
        }
    },
}

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
    errors.UploadQuotaError,
    *leaves(errors.BusyError),
)
"""How an upload may fail to become a job."""

OUTBOUND_FAILURES: tuple[type[AtelierError], ...] = (errors.SwitchedOffError, *leaves(errors.OutboundError))
"""How a request may fail that names an address, of a picture or of a webhook."""
WEBHOOK_FAILURES = (errors.SwitchedOffError, errors.UrlRefusedError)

EXAMPLE_JOB = "0b1e5a3c-7d52-4a57-9d8c-2c5a0f6d7e11"
EXAMPLE_TAG = '"2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"'
EXAMPLE_REQUEST = "7c1d6a52f0a94b0e8f4d3f7c2b1a9e60"

PASSING = (errors.BusyError, errors.QuotaError, errors.ResultNotReadyError, errors.RequestInFlightError)
"""What passes by itself: its answers say when to ask again."""

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
    pattern=f'^(?:{KEY_PATTERN}|"{KEY_PATTERN}")$',
)
CACHE_CONTROL = _parameter(
    "Cache-Control",
    "`no-cache`: do it anew, even if it has been done. `no-store`: and let nobody else be given it.",
    "no-store",
)
PREFER = _parameter(
    "Prefer",
    "`wait=N`: wait up to N seconds for the picture. `respond-async`: do not wait. RFC 7240: what makes no sense is "
    "ignored.",
    "respond-async",
)
IF_NONE_MATCH = _parameter(
    "If-None-Match", "The `ETag` of the picture that you have: then 304, without it.", EXAMPLE_TAG
)
REQUEST = _parameter(
    REQUEST_ID,
    "An id of your own for this request, of letters, digits, `_` and `-` (128 at most); any other is replaced.",
    EXAMPLE_REQUEST,
)
TRACE = _parameter(
    "traceparent",
    "W3C Trace Context: the span that the request is part of, if the service keeps traces.",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
REQUESTED = {REQUEST_ID: _header("The id of the request, for whoever reads the log", EXAMPLE_REQUEST)}
REPLAYED = {"Idempotency-Replayed": _header("`true` when the answer is that of an earlier request", "true")}
JOB = {"X-Job-Id": _header("The job", EXAMPLE_JOB)}
CACHED = {"X-Cache": _header("`hit` when the picture had been made already", "miss", enum=["hit", "miss"]), **JOB}
PREFERRED = {"Preference-Applied": _header("What was heeded of `Prefer`", "wait=10")}
LOCATION = {"Location": _header("The job", f"/jobs/{EXAMPLE_JOB}")}
RETRY_AFTER = {"Retry-After": _header("In how many seconds to ask again, where that is known", "5")}
RATE_LIMIT = {
    "RateLimit-Policy": _header(
        "The quota of your key, where it has one: requests, and seconds", '"requests";q=60;w=60'
    ),
    "RateLimit": _header("What is left of it, and in how many seconds there is more", '"requests";r=12;t=30'),
}
TAGGED = {
    "ETag": _header("The SHA-256 of the picture, in quotes", EXAMPLE_TAG),
    "Cache-Control": _header("How long it may be kept", "private, max-age=3600"),
}
MADE = {
    **TAGGED,
    "Content-Disposition": _header("A name for the file", 'inline; filename="starry_night.jpg"'),
    "X-Style": _header("The style, with its version", "starry_night@1"),
    "X-Compute-Seconds": _header("How long the network worked on it", "0.31"),
    **JOB,
}


STYLE_LINKS = {
    operation: {"operationId": operation, "parameters": {"name": "$response.body#/styles/0/name"}, "description": about}
    for operation, about in (
        ("get_style", "One of them"),
        ("get_thumbnail", "One photograph in it"),
        ("get_sheet", "Several photographs, and what it makes of them"),
    )
}


def job_links(job_id: str = "$response.body#/id", *, besides: str = "") -> dict[str, Any]:
    """Where to go on from an answer that names a job there."""
    links = {"get_job": "How it is doing", "get_events": "What becomes of it", "get_result": "What it made",
             "cancel_job": "Its end"}  # fmt: skip
    return {
        operation: {"operationId": operation, "parameters": {"job_id": job_id}, "description": about}
        for operation, about in links.items()
        if operation != besides
    }


JPEG: dict[str, Any] = {
    "description": "The picture",
    "headers": TAGGED,
    "content": {MediaType.JPEG.value: {"schema": FILE}},
}
NOT_MODIFIED: dict[str, Any] = {"description": "You have it: its ETag is in `If-None-Match`", "headers": TAGGED}

TRAINED: dict[str, Any] = {
    "description": "The style that was trained is at `Location`",
    "headers": {"Location": _header("The version of the style", "/styles/mine@1"), **JOB},
}

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
STYLIZE_FAILURES = tuple(kind for kind in JOB_FAILURES if kind not in (*TRAINING_FAILURES, errors.BatchFailedError))


def problems(*kinds: type[AtelierError]) -> Responses:
    """The ``responses`` of a route that may fail in these ways: every status with its codes, each with an example."""
    by_status: dict[HTTPStatus, list[type[AtelierError]]] = {}
    for kind in dict.fromkeys(kinds):
        by_status.setdefault(status_of(kind), []).append(kind)
    return {status.value: _problem_response(status, by_status[status]) for status in sorted(by_status)}


def _problem_response(status: HTTPStatus, kinds: list[type[AtelierError]]) -> dict[str, Any]:
    examples = {kind.code: {"$ref": f"#/components/examples/{kind.code}"} for kind in kinds}
    passes = {"headers": RETRY_AFTER} if any(issubclass(kind, PASSING) for kind in kinds) else {}
    return {
        "description": f"{status.phrase}: {', '.join(f'`{kind.code}`' for kind in kinds)}",
        "content": {MEDIA_TYPE: {**_schema(reference(Problem)), "examples": examples}},
        **passes,
    }


def example(kind: type[AtelierError]) -> dict[str, Any]:
    """A problem of this kind, for the components."""
    problem = Problem(
        type=type_of(kind),
        title=kind.title,
        status=status_of(kind),
        detail=f"{kind.title}: here it says what happened, and what to do.",
        code=kind.code,
        request_id=EXAMPLE_REQUEST,
    )
    return {"summary": kind.title, "value": problem.model_dump(exclude_defaults=True)}


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"schema": schema}


def reference(model: type[BaseModel]) -> dict[str, Any]:
    """To a model that is among the components."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


EVENTS: dict[str, Any] = {
    "description": "The events, until the job has ended",
    "headers": JOB,
    "content": {
        "text/event-stream": {
            "schema": {
                "type": "object",
                "description": "One event of the stream",
                "required": ["event", "id", "data"],
                "properties": {
                    "event": {"type": "string", "enum": ["snapshot", "state", "progress", "preview"]},
                    "id": {"type": "string", "description": "For `Last-Event-ID`.", "pattern": f"^{EVENT_ID_PATTERN}$"},
                    "retry": {"type": "integer", "description": "In how many milliseconds to come back."},
                    "data": {
                        "type": "string",
                        "description": "JSON: of a `snapshot` the job's document, of `progress` how far it is.",
                        "contentMediaType": "application/json",
                        "contentSchema": {
                            "oneOf": [
                                reference(JobDocument),
                                reference(ProgressDocument),
                                reference(StateEvent),
                                reference(PreviewEvent),
                            ]
                        },
                    },
                },
            },
            "example": EXAMPLE_EVENTS,
        }
    },
}


EITHER = {
    "oneOf": [{"required": ["image"]}, {"required": ["image_url"], "properties": {"image_url": {"type": "string"}}}]
}


def _form(options: type[BaseModel], image: dict[str, Any], **rules: Any) -> dict[str, Any]:
    """A form with these options and the field ``image``, which must be there unless the rules say otherwise."""
    schema = options.model_json_schema()
    return _schema(
        {
            "type": "object",
            "required": [*([] if rules else ["image"]), *schema.get("required", [])],
            **rules,
            "properties": {"image": image, **{name: _filled(each) for name, each in schema["properties"].items()}},
            "dependentRequired": {"webhook_events": ["webhook_url"]},
            "additionalProperties": False,
        }
    )


def _filled(schema: dict[str, Any]) -> dict[str, Any]:
    """A field of a form is left out, or is something: it has no way to be null."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    if not kinds:
        return schema
    (kind,) = kinds
    return {**kind, **{name: value for name, value in schema.items() if name != "anyOf" and value is not None}}


FILES = {"type": "array", "items": FILE, "minItems": 1, "maxItems": MAX_STYLE_PICTURES}

BATCH = {
    "type": "array",
    "items": FILE,
    "minItems": 1,
    "maxItems": MOST_PICTURES,
    "description": "Several are a batch; `GET /limits` has how many.",
}

STYLIZE_BODY: dict[str, Any] = {
    "required": False,  # where the query has an `image_url`
    "content": {
        "multipart/form-data": _form(StylizeOptions, BATCH, **EITHER),
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

WEBHOOKS = APIRouter()
"""What receivers of webhooks are sent; no address of ours."""


def _receive(body: WebhookPayload) -> None:
    """Answer soon, and do your work afterwards. The same call, by its `webhook-id`, may come more than once."""


WEBHOOK_HEADERS = [
    _parameter("webhook-id", "Of the call, the same in every attempt.", f"{EXAMPLE_JOB}-1"),
    _parameter("webhook-timestamp", "Of this attempt, in seconds since 1970.", "1795000000"),
    _parameter(
        "webhook-signature", "As Standard Webhooks has it, one for each secret.", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnk="
    ),
]
for _event in WebhookEvent:
    WEBHOOKS.add_api_route(
        _event,
        _receive,
        operation_id=f"hear_{_event.name.lower()}",
        methods=["POST"],
        status_code=HTTPStatus.NO_CONTENT,
        summary=f"A job has {'begun' if _event is WebhookEvent.STARTED else _event.name.lower()}",
        openapi_extra={"parameters": WEBHOOK_HEADERS},
        responses={
            204: {"description": "Heard, as any 2xx is"},
            410: {"description": "Never call again"},
            "4XX": {"description": "Any other answer: to be called again later"},
        },
    )

STYLIZED: dict[str, Any] = {
    "description": "The picture, or the ended job where JSON is accepted",
    "content": {**PICTURES, "application/json": _schema(reference(JobDocument))},
}
