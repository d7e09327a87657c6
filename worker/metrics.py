"""What Prometheus reads of a worker: how long the stages of its jobs take, how they end, what its engine does.

What a trainer tells under the same names is ``JobMetrics``. No label holds anything that a client made up.
"""

from collections.abc import Iterator

import torch
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contract.jobs import Timings
from contract.metrics import JobMetrics, process_registry

STAGES = ("queue", "decode", "compute", "encode")
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
PICTURES = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)


class WorkerMetrics:
    """The figures of one worker process; they come from the edge of its task, its batcher, and its networks."""

    def __init__(self) -> None:
        self.registry = registry = process_registry()
        self._jobs = JobMetrics(
            registry,
            "stylize",
            successes="succeeded",
            stages="Stages of jobs that have ended: `queue` from the job's creation to its last start.",
            stage_seconds=SECONDS,
        )
        self._batches = Histogram(
            "atelier_batch_size",
            "Pictures that went through the network together.",
            buckets=PICTURES,
            registry=registry,
        )
        self._pixels = Counter("atelier_pixels_stylized", "Pixels that came out of the engine.", registry=registry)
        self._tiles = Counter("atelier_tiles", "Tiles of large pictures that were computed.", registry=registry)
        self._memory_short = Counter(
            "atelier_out_of_memory",
            "Passes that did not fit into memory, by what was done: halved, or made in tiles.",
            ("fallback",),
            registry=registry,
        )
        self._engine = Gauge(
            "atelier_engine_info", "1 for each engine that runs a network.", ("engine", "precision"), registry=registry
        )
        self._trunks = Gauge("atelier_trunks", "Networks in memory.", registry=registry)
        self._trunk_bytes = Gauge("atelier_trunk_bytes", "Memory of the networks, about.", registry=registry)
        self._loads = Counter("atelier_trunk_loads", "Networks that were loaded.", registry=registry)
        self._evictions = Counter("atelier_trunk_evictions", "Networks that left for want of room.", registry=registry)
        registry.register(DeviceMemory())

    # --- The edge of the task ---

    def succeeded(self, timings: Timings) -> None:
        self._ended("succeeded", "", timings)

    def failed(self, code: str, timings: Timings) -> None:
        self._ended("failed", code, timings)

    def refused(self) -> None:
        """The claim was no longer ours when the job was to be ended."""
        self._ended("refused", "", Timings())

    def put_back(self, code: str) -> None:
        """Another attempt will be made."""
        self._ended("put_back", code, Timings())

    def given_up(self) -> None:
        """Nobody wanted the picture any more, or the worker stopped before its turn."""
        self._ended("given_up", "", Timings())

    def _ended(self, outcome: str, code: str, timings: Timings) -> None:
        self._jobs.ended(outcome, code)
        for stage in STAGES:
            seconds = getattr(timings, f"{stage}_seconds")
            if seconds is not None:
                self._jobs.stage_over(stage, seconds)

    # --- The batcher ---

    def batch(self, pictures: int, pixels: int) -> None:
        """A pass is over."""
        self._batches.observe(pictures)
        self._pixels.inc(pixels)

    def tile(self) -> None:
        self._tiles.inc()

    def large(self, pixels: int) -> None:
        """A picture in tiles is done."""
        self._pixels.inc(pixels)

    def out_of_memory(self, fallback: str) -> None:
        self._memory_short.labels(fallback).inc()

    # --- Networks ---

    def loaded(self, engine: str, precision: str) -> None:
        self._loads.inc()
        self._engine.labels(engine, precision).set(1)

    def evicted(self) -> None:
        self._evictions.inc()

    def holds(self, trunks: int, nbytes: int) -> None:
        self._trunks.set(trunks)
        self._trunk_bytes.set(nbytes)


class DeviceMemory(Collector):
    """The GPU's memory as PyTorch has it; nothing where CUDA has not been touched (which this does not do either)."""

    def collect(self) -> Iterator[Metric]:
        if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            return
        family = GaugeMetricFamily("atelier_device_memory_bytes", "Memory of the GPU.", labels=["kind"])
        family.add_metric(["allocated"], torch.cuda.memory_allocated())
        family.add_metric(["reserved"], torch.cuda.memory_reserved())
        family.add_metric(["peak"], torch.cuda.max_memory_allocated())
        yield family
