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

from contract.errors import AtelierError, InternalError
from service.openapi import REQUEST, REQUESTED, TRACE, example, problems
from service.problems import leaves
from service.schemas import PreviewEvent, Problem, StateEvent

TOLD_ELSEWHERE = (Problem, StateEvent, PreviewEvent)
"""What goes out without the framework's knowing."""
UNUSED = ("HTTPValidationError", "ValidationError")
"""What the framework would answer, if it answered."""


class DescribedApp(FastAPI):
    """An app whose description is complete."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            _complete(super().openapi())
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
    for operation in _operations(description):
        operation.setdefault("parameters", []).extend([REQUEST, TRACE])
        operation["responses"].setdefault("500", problems(InternalError)[500])
        for response in operation["responses"].values():
            response["headers"] = {**response.get("headers", {}), **REQUESTED}


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
