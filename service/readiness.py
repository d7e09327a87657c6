"""Can the service do its work, and if not, why?"""

from typing import Literal

from contract.errors import AtelierError
from contract.jobbook import QueueDepth
from service.gateway import Gateway
from service.schemas import Checks, Readiness

OK = "ok"

Part = Literal["service", "gateway"]
"""What is asked about: ``service`` makes pictures now; ``gateway`` takes jobs and hands out results, with or without a
worker. Behind a balancer the second one decides where requests go: there is work for a gateway while all workers are
away."""


def readiness(gateway: Gateway, part: Part) -> Readiness:
    """Asks Redis and the store. A missing style does not count: whoever imports the first one needs a ready service."""
    checks = Checks(**_ask_redis(gateway), **_ask_store(gateway))
    needed = (checks.redis, checks.store, *([checks.workers] if part == "service" else []))
    return Readiness(ready=all(found == OK for found in needed), checks=checks)


def _ask_redis(gateway: Gateway) -> dict[str, str]:
    try:
        pictures, styles = gateway.book.depth("stylize"), gateway.book.depth("train")
        workers, trainers = gateway.workers.names(), gateway.trainers.names()
    except AtelierError as error:
        return dict.fromkeys(("redis", "workers", "trainers", "queue"), str(error))
    return {
        "redis": OK,
        "workers": OK if workers else "no worker is ready",
        "trainers": OK if trainers else "no trainer is ready: new styles have to wait",
        "queue": f"pictures: {_told(pictures)}; styles: {_told(styles)}",
    }


def _told(depth: QueueDepth) -> str:
    return f"{depth.queued} waiting, {depth.running} running"


def _ask_store(gateway: Gateway) -> dict[str, str]:
    try:
        names = gateway.styles.names()
    except AtelierError as error:
        return dict.fromkeys(("store", "styles"), str(error))
    return {"store": OK, "styles": OK if names else "there are no styles yet: import or train one"}
