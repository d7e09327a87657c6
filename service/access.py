"""Which address needs which scope: the one place that says so, for the gateway and for its description.

An address that is forgotten here is for admins.
"""

from typing import Annotated, Literal

import structlog
from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from contract.errors import ScopeError, UnauthorizedError
from contract.keys import Scope
from service.clients import STRANGER, Client
from service.gateway import GatewayDep

Need = Scope | Literal["nothing", "any key"]

NEEDS: dict[str, Need] = {
    "POST /stylize": Scope.STYLIZE,
    "GET /jobs": "any key",
    "GET /jobs/{job_id}": "any key",  # jobs are their clients', and admins'
    "DELETE /jobs/{job_id}": "any key",
    "GET /jobs/{job_id}/events": "any key",
    "GET /jobs/{job_id}/result": "any key",
    "GET /jobs/{job_id}/previews/{index}": "any key",
    "GET /jobs/{job_id}/deliveries": "any key",
    "POST /jobs/{job_id}/deliveries/{number}/redeliver": "any key",
    "POST /styles": Scope.TRAIN,
    "GET /styles": "any key",
    "GET /styles/{name}": "any key",
    "GET /styles/{name}/thumbnail": "any key",
    "GET /styles/{name}/sheet": "any key",
    "PUT /styles/{name}/active": Scope.ADMIN,
    "DELETE /styles/{name}": Scope.ADMIN,
    "GET /limits": "any key",
    "GET /capacity": "any key",
    "GET /metrics": "nothing",  # it has a rule of its own
    "GET /problems": "nothing",
    "GET /livez": "nothing",
    "GET /readyz": "nothing",
    "GET /": "nothing",
}
COUNTED = frozenset({"POST /stylize", "POST /styles", "POST /jobs/{job_id}/deliveries/{number}/redeliver"})
"""What makes jobs, or calls, and so counts against a client's quota of requests."""


def need_of(asked: str) -> Need:
    return NEEDS.get(asked, Scope.ADMIN)


def operation(method: str, path: str) -> str:
    """An address as it is named here: by its template, HEAD like the GET that it stands for."""
    return f"{'GET' if method == 'HEAD' else method} {path}"


async def authorize(request: Request, gateway: GatewayDep) -> Client:
    """Lets a request through to its route, and says whose it is: of every route, before its body is read.

    Raises UnauthorizedError without a valid key where one is needed, ScopeError for a key without the scope, and
    QuotaExceededError.
    """
    asked = operation(request.method, request.scope["route"].path)
    need = need_of(asked)
    client = gateway.keys.client(_secret(request))
    if need != "nothing" and client is STRANGER:
        raise UnauthorizedError(
            "Send a key that is valid, as `Authorization: Bearer KEY`: whoever runs this service makes them."
        )
    if isinstance(need, Scope) and need not in client.scopes:
        raise ScopeError(f"This needs a key with the scope {need}; that of {client.name!r} has {_told(client.scopes)}.")
    if client.has_key:
        structlog.contextvars.bind_contextvars(client=client.name)
    if asked in COUNTED and client.requests_per_minute is not None:
        standing = await run_in_threadpool(gateway.quotas.take, client.name, client.requests_per_minute)
        request.state.standing = standing
        standing.check()
    return client


ClientDep = Annotated[Client, Depends(authorize)]


def _secret(request: Request) -> str:
    """The key that was sent: a proxy may have a use of its own for ``Authorization``, so there is another header."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "").strip()


def _told(scopes: frozenset[Scope]) -> str:
    return " and ".join(scope for scope in Scope if scope in scopes)
