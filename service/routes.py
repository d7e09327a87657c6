"""The HTTP interface: all of its addresses, and those that tell of the service itself."""

from http import HTTPStatus
from importlib.metadata import version

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from service import routes_jobs, routes_styles, routes_stylize
from service.gateway import GatewayDep
from service.problems import BY_CODE, status_of, type_of
from service.readiness import readiness
from service.schemas import Index, Liveness, ProblemKind, ProblemList, Readiness

READINESS_HINT_SECONDS = "1"

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


@router.head("/livez", include_in_schema=False)
@router.get("/livez", summary="Is the gateway alive?")
async def livez() -> Liveness:
    return Liveness()


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    summary="Can the service do its work?",
    response_model=Readiness,
    responses={503: {"description": "Not now; `checks` says why", "model": Readiness}},
)
def readyz(gateway: GatewayDep) -> Response:
    found = readiness(gateway)
    status = HTTPStatus.OK if found.ready else HTTPStatus.SERVICE_UNAVAILABLE
    headers = {} if found.ready else {"Retry-After": READINESS_HINT_SECONDS}
    return JSONResponse(found.model_dump(), status, headers=headers)


@router.get("/", summary="Where things are")
async def index() -> Index:
    return Index(version=version("atelier"))
