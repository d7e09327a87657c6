"""``GET /metrics``: what Prometheus reads of a gateway.

Two kinds of figures. What this process has seen itself: its requests, and the uploads that come in. What Redis knows of
the whole deployment, read when somebody asks: jobs, queues, workers. Every gateway tells the latter alike, so take
their ``max``, not their ``sum``.
"""

from collections.abc import Iterator
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from contract.errors import QueueUnavailableError
from contract.jobbook import HOWS, KINDS, Counted
from contract.metrics import process_registry
from service.gateway import Gateway

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
"""In seconds. A request may wait for its picture for a minute, after an upload of two."""


class Metrics:
    """The figures of one gateway process."""

    def __init__(self) -> None:
        self.registry = process_registry()
        self.requests = Histogram(
            "atelier_http_request_seconds",
            "Time until the answer to a request begins, with its upload and its wait.",
            ("method", "route", "status"),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.refusals = Counter(
            "atelier_requests_refused", "Problems that were answered, by their code.", ("code",), registry=self.registry
        )
        self.webhook_attempts = Counter(
            "atelier_webhook_attempts", "Calls of webhooks, by how they went.", ("outcome",), registry=self.registry
        )

    def tell(self, gateway: Gateway) -> bytes:
        """All figures as text. Asks Redis."""
        own = CollectorRegistry()
        own.register(GatewayCollector(gateway))
        return generate_latest(self.registry) + generate_latest(own)


class GatewayCollector(Collector):
    """What is true at the moment."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "atelier_uploads", "Bodies that are coming in, or in memory.", self._gateway.uploads.taken
        )
        yield GaugeMetricFamily(
            "atelier_listeners", "Requests that wait for a job, or follow one.", self._gateway.watcher.listeners
        )
        try:
            families = [
                *self._queues(),
                self._counter("atelier_jobs_admitted", "Requests for jobs, by what they became.", "admitted", "how"),
                self._counter("atelier_jobs_finished", "Jobs that have ended, by their state.", "finished", "state"),
                self._counter(
                    "atelier_jobs_reaped", "What was done for jobs whose worker, or ticket, was lost.", "reaped", "how"
                ),
                self._counter(
                    "atelier_tickets_in_vain",
                    "Tickets that came when no job waited: a second time, or after a cancellation.",
                    "tickets",
                    "found",
                ),
            ]
        except QueueUnavailableError:
            families = []
        yield GaugeMetricFamily(
            "atelier_redis_up", "Whether Redis answers: without it there are no figures of jobs.", int(bool(families))
        )
        yield from families

    def _queues(self) -> list[Metric]:
        """How much waits and runs, for how long, and who is there."""
        book = self._gateway.book
        queued = GaugeMetricFamily("atelier_queue_jobs", "Jobs that wait.", labels=["kind", "priority"])
        running = GaugeMetricFamily("atelier_running_jobs", "Jobs that are worked on.", labels=["kind"])
        oldest = GaugeMetricFamily(
            "atelier_queue_oldest_seconds", "How long the oldest of those that wait has waited.", labels=["kind"]
        )
        ready = GaugeMetricFamily("atelier_ready_processes", "Workers, or trainers, that are ready.", labels=["kind"])
        for kind, presence in zip(KINDS, (self._gateway.workers, self._gateway.trainers), strict=True):
            depth = book.depth(kind)
            for priority, jobs in book.waiting(kind).items():
                queued.add_metric([kind, priority], jobs)
            running.add_metric([kind], depth.running)
            oldest.add_metric([kind], book.oldest_seconds(kind) or 0)
            ready.add_metric([kind], len(presence.names()))
        return [queued, running, oldest, ready]

    def _counter(self, name: str, about: str, what: Counted, label: str) -> Metric:
        family = CounterMetricFamily(name, about, labels=["kind", label])
        # Told before it happens: a figure whose first value is 8 has not increased, says Prometheus.
        from_the_start = dict.fromkeys(product(KINDS, HOWS[what]), 0)
        for (kind, how), count in (from_the_start | self._gateway.book.counts(what)).items():
            family.add_metric([kind, how], count)
        return family
