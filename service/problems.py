"""Failures as clients see them: ``application/problem+json`` (RFC 9457) with a stable code."""

from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from contract import errors
from contract.errors import AtelierError, InternalError, InvalidParameterError, UnauthorizedError
from contract.jobs import JobFailure
from service.requests import HEADER, METHODS, PROBLEM_CODE, request_id

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"

STATUS: dict[type[AtelierError], HTTPStatus] = {
    errors.AtelierError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.BadRequestError: HTTPStatus.BAD_REQUEST,
    errors.InvalidParameterError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnsupportedBodyError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.NotAcceptableError: HTTPStatus.NOT_ACCEPTABLE,
    errors.MethodNotAllowedError: HTTPStatus.METHOD_NOT_ALLOWED,
    errors.ImageError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnsupportedImageError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.ImageTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.BodyTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UploadTimeoutError: HTTPStatus.REQUEST_TIMEOUT,
    errors.OutboundError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UrlRefusedError: HTTPStatus.FORBIDDEN,
    errors.SwitchedOffError: HTTPStatus.FORBIDDEN,
    errors.UnauthorizedError: HTTPStatus.UNAUTHORIZED,
    errors.ScopeError: HTTPStatus.FORBIDDEN,
    errors.ForbiddenError: HTTPStatus.FORBIDDEN,
    errors.CrossSiteError: HTTPStatus.FORBIDDEN,
    errors.HostError: HTTPStatus.MISDIRECTED_REQUEST,
    errors.QuotaError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.NotFoundError: HTTPStatus.NOT_FOUND,
    errors.StyleExistsError: HTTPStatus.CONFLICT,
    errors.StyleActiveError: HTTPStatus.CONFLICT,
    errors.StyleBuiltinError: HTTPStatus.CONFLICT,
    errors.BlendError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.JobExpiredError: HTTPStatus.GONE,
    errors.ResultNotReadyError: HTTPStatus.CONFLICT,
    errors.JobFinishedError: HTTPStatus.CONFLICT,
    errors.JobSharedError: HTTPStatus.CONFLICT,
    errors.KeyReusedError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.RequestInFlightError: HTTPStatus.CONFLICT,
    errors.BusyError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.JobError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.JobCanceledError: HTTPStatus.CONFLICT,
    errors.BatchFailedError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.OutOfMemoryError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.TrainingDataError: HTTPStatus.INTERNAL_SERVER_ERROR,  # not 503: it does not pass until somebody mends it
    errors.CheckpointError: HTTPStatus.INTERNAL_SERVER_ERROR,  # of a style in the store: whoever asks cannot help it
    errors.SettingsError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""Errors that are not named here have the status of the class that they derive from."""


def _tree(kind: type[AtelierError]) -> list[type[AtelierError]]:
    """The contract's own: those of the Python client are no answers of a gateway."""
    own = (child for child in kind.__subclasses__() if child.__module__ == errors.__name__)
    return [kind, *(below for child in own for below in _tree(child))]


def leaves(kind: type[AtelierError]) -> list[type[AtelierError]]:
    """The errors under this one that are raised; the others only give them a family."""
    return [below for below in _tree(kind) if len(_tree(below)) == 1]


BY_CODE = {kind.code: kind for kind in _tree(AtelierError)}


def status_of(kind: type[AtelierError]) -> HTTPStatus:
    return next(STATUS[base] for base in kind.__mro__ if base in STATUS)


def type_of(kind: type[AtelierError]) -> str:
    return f"/problems#{kind.code}"


class ProblemResponse(JSONResponse):
    """A problem document. Whoever stands around the app finds its code in the scope of the request."""

    media_type = MEDIA_TYPE

    def __init__(self, kind: type[AtelierError], body: dict[str, Any], headers: dict[str, str]) -> None:
        super().__init__(body, status_of(kind).value, headers=headers)
        self._code = kind.code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[PROBLEM_CODE] = self._code
        await super().__call__(scope, receive, send)


def problem(
    kind: type[AtelierError],
    detail: str,
    *,
    retry_after_seconds: int | None = None,
    headers: dict[str, str] | None = None,
    **extensions: Any,
) -> JSONResponse:
    """The answer for one kind of failure. ``extensions`` are further members of the document."""
    status = status_of(kind)
    body = {
        "type": type_of(kind),
        "title": kind.title,
        "status": status.value,
        "detail": detail,
        "code": kind.code,
        "request_id": request_id(),
        **extensions,
    }
    more = {"Retry-After": str(retry_after_seconds)} if retry_after_seconds is not None else {}
    return ProblemResponse(kind, body, {**(headers or {}), **more})


def problem_of(error: AtelierError, **extensions: Any) -> JSONResponse:
    if isinstance(error, InvalidParameterError):
        extensions["errors"] = [{"parameter": error.parameter, "detail": str(error)}]
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, UnauthorizedError) else None
    return problem(
        type(error), str(error), retry_after_seconds=error.retry_after_seconds, headers=headers, **extensions
    )


def problem_of_job(failure: JobFailure, job_id: str) -> JSONResponse:
    """How a job failed, for a client that asked for its picture."""
    kind = BY_CODE.get(failure.code, InternalError)
    retry = 5 if issubclass(kind, errors.BusyError) else None
    return problem(kind, failure.detail, retry_after_seconds=retry, headers={"X-Job-Id": job_id}, job=job_id)


def install(app: FastAPI) -> None:
    """Every failure of the app goes out as a problem document."""
    app.add_exception_handler(AtelierError, _atelier_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(ClientDisconnect, _client_disconnect)
    app.add_exception_handler(Exception, _unexpected)


def _atelier_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, AtelierError)
    return problem_of(error)


def _validation_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [{"parameter": str(e["loc"][-1]), "detail": str(e["msg"])} for e in error.errors()]
    detail = "; ".join(f"{e['parameter']}: {e['detail']}" for e in found)
    return problem(InvalidParameterError, detail, errors=found)


def _http_exception(request: Request, error: Exception) -> Response:
    """What the framework raises by itself: unknown paths and wrong methods."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem(errors.NotFoundError, "Nothing is here. /docs shows what there is.", headers=headers)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = _methods(request)
        return problem(errors.MethodNotAllowedError, f"This address takes {allowed}.", headers={"Allow": allowed})
    return problem(errors.MalformedBodyError, str(error.detail), headers=headers)


def _methods(request: Request) -> str:
    """The methods of every route at this address; the framework itself names those of one."""

    def taken(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.router.routes)

    return ", ".join(filter(taken, METHODS))


def _client_disconnect(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; nginx's word for it in the access log


def _unexpected(request: Request, error: Exception) -> Response:
    """Beyond everything that is around the app, so the answer has not got its id there."""
    log.error("request failed", path=request.url.path, exc_info=error)
    detail = "Something went wrong on our side; the log has it under the id of the request."
    return problem(InternalError, detail, headers={HEADER: request_id()})
