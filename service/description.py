"""The description of the whole interface (OpenAPI), of which ``docs/openapi.json`` is a copy.

python -m service.description docs/openapi.json    renews the copy, as ``make openapi`` does
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from contract import errors
from contract.errors import AtelierError, InternalError
from contract.keys import Scope
from service.access import COUNTED, Need, need_of, operation
from service.exposure import PROBES, SAFE_METHODS
from service.openapi import RATE_LIMIT, REQUEST, REQUESTED, TRACE, example, problems
from service.problems import MEDIA_TYPE, leaves
from service.schemas import PreviewEvent, Problem, StateEvent

TOLD_ELSEWHERE = (Problem, StateEvent, PreviewEvent)
"""What goes out without the framework's knowing."""
SECURITY_SCHEMES: dict[str, Any] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key (`atl_…`), where the service needs one. Its scopes: `stylize`, `train`, `admin`.",
    },
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
}
UNUSED = ("HTTPValidationError", "ValidationError")
"""What the framework would answer, if it answered."""


class DescribedApp(FastAPI):
    """An app whose description is complete."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            description = super().openapi()
            _tell_access(description, keys_needed=self.state.keys.needed)
            _complete(description)
        assert self.openapi_schema is not None
        return self.openapi_schema


def operation_id(route: APIRoute) -> str:
    """The name of the function: short, and the same for ever."""
    return route.name


def _complete(description: dict[str, Any]) -> None:
    """Adds what holds for every operation, and the models that the framework does not collect by itself."""
    _, own = models_json_schema(
        [(model, "serialization") for model in TOLD_ELSEWHERE], ref_template="#/components/schemas/{model}"
    )
    schemas = description["components"]["schemas"]
    schemas.update(own["$defs"])
    for name in UNUSED:
        schemas.pop(name, None)
    description["components"]["examples"] = {kind.code: example(kind) for kind in leaves(AtelierError)}
    for described in _operations(description):
        described.setdefault("parameters", []).extend([REQUEST, TRACE])
        described["responses"].setdefault("500", problems(InternalError)[500])
        for response in described["responses"].values():
            response["headers"] = {**response.get("headers", {}), **REQUESTED}


def _tell_access(description: dict[str, Any], *, keys_needed: bool) -> None:
    """Adds what every operation needs, and how it is refused to those who do not have it."""
    description["components"]["securitySchemes"] = SECURITY_SCHEMES
    for path, operations in description["paths"].items():
        for method, described in operations.items():
            asked = operation(method.upper(), path)
            described["security"] = _security(need_of(asked), keys_needed)
            for status, response in problems(*_refusals(asked, method.upper(), path)).items():
                _add(described["responses"], str(status), response)
            if asked in COUNTED:
                for response in described["responses"].values():
                    response["headers"] = {**response.get("headers", {}), **RATE_LIMIT}
            described["responses"] = dict(sorted(described["responses"].items()))


def _add(responses: dict[str, Any], status: str, more: dict[str, Any]) -> None:
    """Further problems of this status to those that the route has itself."""
    known = responses.setdefault(status, more)
    if known is more:
        return
    known["description"] += ", " + more["description"].partition(": ")[2]
    known["content"][MEDIA_TYPE]["examples"].update(more["content"][MEDIA_TYPE]["examples"])
    if "headers" in more:
        known["headers"] = {**known.get("headers", {}), **more["headers"]}


def _security(need: Need, keys_needed: bool) -> list[dict[str, list[str]]]:
    """Either of the two ways to send a key; or none, which is said by an empty object."""
    if need == "nothing":
        return []
    scopes = [need.value] if isinstance(need, Scope) else []
    return [{"bearer": scopes}, {"header": scopes}, *([] if keys_needed else [{}])]


def _refusals(asked: str, method: str, path: str) -> list[type[AtelierError]]:
    need, found = need_of(asked), list[type[AtelierError]]()
    if need != "nothing":
        found.append(errors.UnauthorizedError)
    if isinstance(need, Scope):
        found.append(errors.ScopeError)
    if method not in SAFE_METHODS:
        found.append(errors.CrossSiteError)
    if path not in PROBES:
        found.append(errors.HostError)
    if asked in COUNTED:
        found.append(errors.QuotaExceededError)
    return found


def _operations(description: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for operations in description["paths"].values():
        yield from operations.values()


def written(description: dict[str, Any]) -> str:
    """As it stands in the file."""
    return json.dumps(description, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    from service.app import create_app  # which imports this module
    from service.settings import ServiceSettings

    (path,) = sys.argv[1:]
    Path(path).write_text(written(create_app(ServiceSettings()).openapi()))


if __name__ == "__main__":
    main()
