"""The gateway process: HTTP in, HTTP out.

python -m service.app
"""

import asyncio
import sys
import threading
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.metadata import version
from types import FrameType

import structlog
import uvicorn
from fastapi import Depends, FastAPI
from redis import Redis, RedisError

from contract.errors import AtelierError, SettingsError
from contract.images import ImageStore
from contract.jobbook import REAPER_SECONDS, JobBook, connect
from contract.logs import configure_logs
from contract.outbox import Outbox
from contract.presence import Presence
from contract.queue import JobQueue, celery_app
from contract.settings import load
from contract.storage import open_storage
from contract.styles import StyleStore
from contract.tracing import configure_tracing, flush_traces
from contract.watch import Watcher, connect_async
from service import problems
from service.access import authorize
from service.clients import KeyRing
from service.connections import connection_class
from service.description import DescribedApp, operation_id
from service.exposure import SiteGuard, check_exposure
from service.gateway import Gateway, UploadRoom
from service.guard import BodyGuard
from service.metrics import Metrics
from service.openapi import WEBHOOKS
from service.outbound import Outbound, OutboundRules
from service.quotas import QuotaHeaders, Quotas
from service.requests import RequestObserver
from service.routes import router
from service.settings import ServiceSettings
from service.swagger import swagger
from service.webhooks import Courier

log = structlog.get_logger()

REDIS_PATIENCE_SECONDS = 3
SWEEP_SECONDS = 600
TRUNK_AGE = timedelta(hours=1)
"""How long a trunk may be without a style: it is written before the card that names it."""
GRACEFUL_SECONDS = 10
HOUSEKEEPING_SECONDS = 3
"""How long the end waits for housekeeping; with the requests' time it must be less than the launcher's patience."""


def create_app(settings: ServiceSettings) -> FastAPI:
    """The gateway. It connects when it starts, not when it is made.

    Raises SettingsError for keys that cannot be read, and where keys are missing.
    """
    check_exposure(settings)
    keys = KeyRing(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.gateway = gateway = await asyncio.to_thread(_gateway, settings, keys)
        stopped = threading.Event()
        housekeeping = threading.Thread(target=_keep_house, args=(gateway, stopped), name="housekeeping", daemon=True)
        housekeeping.start()
        courier = asyncio.create_task(_courier(gateway, app.state.metrics).run()) if settings.webhook_secrets else None
        yield
        stopped.set()
        await asyncio.to_thread(housekeeping.join, HOUSEKEEPING_SECONDS)
        await gateway.watcher.aclose()
        if courier:
            courier.cancel()
            await asyncio.wait({courier})  # who was being called meanwhile is called again by another gateway
        if gateway.outbound:
            await gateway.outbound.aclose()
        gateway.redis.close()
        await asyncio.to_thread(flush_traces)

    app = DescribedApp(
        title="Atelier",
        version=version("atelier"),
        summary="Photographs in the style of a painting.",
        lifespan=lifespan,
        generate_unique_id_function=operation_id,
        webhooks=WEBHOOKS,
        docs_url=None,  # the framework's pages load whatever version there is, and let it call whom it likes
        redoc_url=None,
        dependencies=[Depends(authorize)],
    )
    app.state.keys = keys
    app.include_router(router)
    app.add_route("/docs", swagger, include_in_schema=False)
    problems.install(app)
    app.add_middleware(BodyGuard, settings=settings)
    app.add_middleware(SiteGuard, settings=settings)
    app.add_middleware(QuotaHeaders)
    app.state.metrics = Metrics()
    app.add_middleware(RequestObserver, metrics=app.state.metrics)
    return app


def _gateway(settings: ServiceSettings, keys: KeyRing) -> Gateway:
    client = connect(settings.redis_url, patience_seconds=REDIS_PATIENCE_SECONDS)
    _check_memory_policy(client)
    book = JobBook(client, settings)
    storage = open_storage(settings.store_url)
    styles = StyleStore(storage)
    for card in styles.install(StyleStore(open_storage(str(settings.builtin_styles)))):
        log.info("built-in style installed", style=str(card.ref))
    return Gateway(
        settings=settings,
        redis=client,
        watcher=Watcher(connect_async(settings.redis_url), max_listeners=settings.max_waiting),
        queue=JobQueue(celery_app(settings), book, client),
        book=book,
        workers=Presence(client, "worker"),
        trainers=Presence(client, "trainer"),
        images=ImageStore(storage),
        styles=styles,
        keys=keys,
        quotas=Quotas(client, settings),
        uploads=UploadRoom(settings.max_uploads),
        outbound=Outbound(_outbound_rules(settings)) if settings.image_urls or settings.webhook_secrets else None,
        outbox=Outbox(client),
    )


def _courier(gateway: Gateway, metrics: Metrics) -> Courier:
    settings = gateway.settings
    assert gateway.outbound is not None
    return Courier(
        gateway.outbox, gateway.outbound, settings.webhook_secrets, settings.outbound_seconds, metrics.webhook_attempts
    )


def _outbound_rules(settings: ServiceSettings) -> OutboundRules:
    return OutboundRules(settings.outbound_ports, settings.outbound_allow, settings.outbound_seconds)


def _check_memory_policy(client: Redis) -> None:
    """A Redis that evicts keys, be it those that expire, forgets jobs without a word; a managed one may not tell."""
    try:
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy") or ""
    except RedisError:
        return
    if policy not in ("", "noeviction"):
        log.warning("redis may evict jobs: set its maxmemory-policy to noeviction", policy=policy)


def _keep_house(gateway: Gateway, stopped: threading.Event) -> None:
    """Reaps every few seconds and sweeps every few minutes; one gateway of a deployment does so at a time."""
    me = uuid.uuid4().hex
    ticks = 0
    while not stopped.wait(REAPER_SECONDS):
        try:
            if not gateway.book.lead_reaping(me):
                continue
            if again := gateway.queue.reap():
                log.warning("jobs put back into the queue", jobs=again)
            if ticks % (SWEEP_SECONDS // REAPER_SECONDS) == 0:
                _sweep(gateway)
            ticks += 1
        except AtelierError as error:
            log.warning("housekeeping waits", reason=str(error))
        except Exception:
            log.exception("housekeeping failed")


def _sweep(gateway: Gateway) -> None:
    """A picture outlives the record that names it by the time that it may have been made before the record ended."""
    settings = gateway.settings
    age = timedelta(seconds=settings.result_seconds + settings.job_seconds)
    if swept := gateway.images.sweep(age, in_use=gateway.book.pictures_in_use()):
        log.info("old pictures deleted", pictures=swept)
    if swept := gateway.styles.sweep_trunks(TRUNK_AGE):
        log.info("networks of deleted styles deleted", trunks=swept)


class Server(uvicorn.Server):
    """Lets go of the requests that wait for a job, or follow one, when it is told to stop, instead of keeping them."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        app = self.config.app
        assert isinstance(app, FastAPI)
        gateway: Gateway | None = getattr(app.state, "gateway", None)
        if gateway is not None:
            gateway.watcher.release()
        super().handle_exit(sig, frame)


def configuration(app: FastAPI, settings: ServiceSettings) -> uvicorn.Config:
    """How the app is served."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=connection_class(settings),
        log_config=None,
        access_log=False,  # ours has more to say
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        server_header=False,
    )


def main() -> None:
    configure_logs("gateway")
    configure_tracing("gateway")
    try:
        settings = load(ServiceSettings)
        app = create_app(settings)
    except SettingsError as error:
        log.critical("gateway cannot start", reason=str(error))
        sys.exit(1)
    try:
        Server(configuration(app, settings)).run()
    except OSError as error:
        log.critical("gateway cannot listen", host=settings.host, port=settings.port, reason=error.strerror)
        sys.exit(1)


if __name__ == "__main__":
    main()
