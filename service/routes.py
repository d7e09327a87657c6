"""The HTTP interface: all of its addresses, and those that tell of the service itself."""

from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from contract import errors
from contract.errors import ForbiddenError
from contract.keys import Scope
from service import routes_jobs, routes_styles, routes_stylize
from service.access import ClientDep
from service.capacity import capacity
from service.exposure import is_loopback
from service.gateway import GatewayDep
from service.limits import limits
from service.metrics import Metrics
from service.openapi import METRICS, problems
from service.problems import BY_CODE, status_of, type_of
from service.readiness import Part, readiness
from service.schemas import Capacity, Index, LimitList, Liveness, ProblemKind, ProblemList, Readiness

READINESS_HINT_SECONDS = "1"

PartQuery = Annotated[Part, Query(description="What is asked about: the whole service, or the gateway alone.")]

router = APIRouter()
router.include_router(routes_stylize.router)
router.include_router(routes_jobs.router)
router.include_router(routes_styles.router)


@router.get("/problems", summary="List the ways in which a request may fail")
async def list_problems() -> ProblemList:
    """The `type` of every problem document leads here."""
    kinds = sorted(BY_CODE.values(), key=lambda kind: kind.code)
    return ProblemList(
        problems=[
            ProblemKind(type=type_of(kind), code=kind.code, title=kind.title, status=status_of(kind)) for kind in kinds
        ]
    )


@router.get("/limits", summary="List the limits")
async def list_limits(gateway: GatewayDep, client: ClientDep) -> LimitList:
    """What a request of yours is held against, and which setting moves it."""
    return LimitList(limits=limits(gateway.settings, client))


@router.get(
    "/capacity",
    summary="How busy is the service?",
    responses=problems(errors.QueueUnavailableError),
)
def get_capacity(gateway: GatewayDep, response: Response) -> Capacity:
    """How many jobs wait and run, how many workers there are, and how long a new job would wait."""
    response.headers["Cache-Control"] = "no-store"
    return capacity(gateway)


@router.get(
    "/metrics",
    summary="What Prometheus reads",
    response_class=Response,
    responses={200: METRICS, **problems(errors.ForbiddenError)},
)
def get_metrics(gateway: GatewayDep, client: ClientDep, request: Request) -> Response:
    """For this machine only, and for keys with the scope `admin`, unless `ATELIER_METRICS_PUBLIC` is set."""
    here = is_loopback(request.client.host if request.client else "")
    if not (gateway.settings.metrics_public or here or (client.has_key and Scope.ADMIN in client.scopes)):
        raise ForbiddenError(
            "Only the machine of the gateway may read its metrics, and a key with the scope admin; "
            "ATELIER_METRICS_PUBLIC changes that."
        )
    metrics: Metrics = request.app.state.metrics
    return Response(metrics.tell(gateway), media_type=CONTENT_TYPE_LATEST)


@router.head("/livez", include_in_schema=False)
@router.get("/livez", summary="Is the gateway alive?")
async def livez() -> Liveness:
    return Liveness()


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    summary="Can the service do its work?",
    response_model=Readiness,
    responses={
        503: {"description": "Not now; `checks` says why", "model": Readiness},
        **problems(errors.InvalidParameterError),
    },
)
def readyz(gateway: GatewayDep, of: PartQuery = "service") -> Response:
    """`of=service` needs Redis, the store and a worker that is ready. `of=gateway` does without the worker: jobs are
    taken in, and done when one is back. Ask that where requests are shared out among gateways.
    """
    found = readiness(gateway, of)
    status = HTTPStatus.OK if found.ready else HTTPStatus.SERVICE_UNAVAILABLE
    headers = {} if found.ready else {"Retry-After": READINESS_HINT_SECONDS}
    return JSONResponse(found.model_dump(), status, headers=headers)


@router.get("/", summary="Where things are")
async def index() -> Index:
    return Index(version=version("atelier"))
