"""What Prometheus reads of a worker."""

import urllib.request
from collections.abc import Iterator

import pytest
import torch

from contract.errors import OutOfMemoryError, SettingsError
from contract.images import ImageStore
from contract.jobs import JobState
from contract.metrics import serve_metrics
from contract.settings import ContractSettings
from contract.storage import open_storage
from contract.styles import StyleStore
from generator.checkpoint import trunk_of
from tests.conftest import free_port, publish_tiny, tiny_bank
from tests.worker.test_app import a_job, posted
from tests.worker.test_batcher import Fake, held, released
from worker.app import Worker
from worker.batcher import Batcher
from worker.engine import NetworkCache
from worker.metrics import WorkerMetrics
from worker.networks import TorchNetwork
from worker.settings import WorkerSettings

CPU = torch.device("cpu")


@pytest.fixture
def images(settings: ContractSettings) -> ImageStore:
    return ImageStore(open_storage(settings.store_url))


@pytest.fixture
def worker(settings: ContractSettings, styles: StyleStore, redis_client: object) -> Iterator[Worker]:
    publish_tiny(styles, "tiny")
    worker = Worker(WorkerSettings(**settings.model_dump(), engine="torch"))
    yield worker
    worker.close()


def told(metrics: WorkerMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"atelier_{name}", labels)


def jobs(worker: Worker, outcome: str, code: str = "") -> float | None:
    return told(worker.metrics, "jobs_total", kind="stylize", outcome=outcome, code=code)


def test_a_job_that_succeeds_tells_its_stages(worker: Worker, images: ImageStore) -> None:
    posted(worker, images)
    worker.work()
    assert jobs(worker, "succeeded") == 1
    for stage in ("queue", "decode", "compute", "encode"):
        assert told(worker.metrics, "job_stage_seconds_count", kind="stylize", stage=stage) == 1, stage
    assert told(worker.metrics, "batch_size_count") == 1
    assert told(worker.metrics, "pixels_stylized_total") == 40 * 30


def test_a_job_that_fails_is_counted_by_its_code(worker: Worker, images: ImageStore) -> None:
    gone = images.put(b"gone").model_copy(update={"sha256": "0" * 64})
    worker.book.create(a_job(gone))
    worker.work()
    assert jobs(worker, "failed", "image-lost") == 1
    assert told(worker.metrics, "job_stage_seconds_count", kind="stylize", stage="queue") == 1
    assert told(worker.metrics, "job_stage_seconds_count", kind="stylize", stage="decode") is None, "it was not reached"


def test_a_result_that_the_fence_refuses_is_counted(worker: Worker, images: ImageStore) -> None:
    stylize = worker.stylizer.stylize
    job_id = posted(worker, images)

    class Slow:
        """Somebody cancels the job while its picture is made."""

        def stylize(self, *arguments: object) -> object:
            result = stylize(*arguments)  # type: ignore[arg-type]
            worker.book.cancel(job_id)
            return result

    worker.stylizer = Slow()  # type: ignore[assignment]
    worker.work()
    assert worker.book.get(job_id).state is JobState.CANCELED
    assert (jobs(worker, "refused"), jobs(worker, "succeeded")) == (1, None)


def test_work_that_is_not_done_is_counted_as_given_up(worker: Worker, images: ImageStore) -> None:
    worker.batcher.close()
    posted(worker, images)
    worker.work()
    assert jobs(worker, "given_up") == 1


def test_networks_in_memory_are_told_and_those_that_leave() -> None:
    trunks = {name: trunk_of(tiny_bank(name, seed=seed)) for seed, name in enumerate(("one", "two"))}
    metrics = WorkerMetrics()
    cache = NetworkCache(trunks.__getitem__, lambda generator: TorchNetwork(generator, CPU), 1, metrics)
    sizes = [cache.get(name).nbytes for name in ("one", "two", "two")]
    assert told(metrics, "trunk_loads_total") == 2
    assert told(metrics, "trunk_evictions_total") == 1
    assert told(metrics, "trunks") == 1
    assert told(metrics, "trunk_bytes") == sizes[1]
    assert told(metrics, "engine_info", engine="torch", precision="float32") == 1


def test_what_does_not_fit_into_memory_is_counted_by_what_was_done_then() -> None:
    engine, metrics = Fake(), WorkerMetrics()
    batcher = Batcher(engine, batch_pixels=4 * 16 * 16, metrics=metrics)

    def never(count: int) -> None:
        raise OutOfMemoryError("too large")

    try:
        answers = held(batcher, engine, 2)
        engine.fail = never
        released(engine, answers)
    finally:
        batcher.close()
    assert told(metrics, "out_of_memory_total", fallback="halved") == 1
    assert told(metrics, "out_of_memory_total", fallback="tiled") == 3
    assert told(metrics, "tiles_total") == 15
    assert told(metrics, "pixels_stylized_total") == 3 * 16 * 16


def test_pictures_that_go_together_are_one_batch() -> None:
    engine, metrics = Fake(), WorkerMetrics()
    batcher = Batcher(engine, batch_pixels=4 * 16 * 16, metrics=metrics)
    try:
        released(engine, held(batcher, engine, 3))
    finally:
        batcher.close()
    assert told(metrics, "batch_size_count") == 2
    assert told(metrics, "batch_size_sum") == 4


def test_figures_are_served_on_a_port_of_their_own(worker: Worker) -> None:
    assert serve_metrics(worker.metrics.registry, "127.0.0.1", 0) == 0, "none is asked for"
    port = serve_metrics(worker.metrics.registry, "127.0.0.1", free_port())
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    assert "atelier_trunks 0.0" in text
    assert "process_resident_memory_bytes" in text
    with pytest.raises(SettingsError, match="ATELIER_METRICS_PORT"):
        serve_metrics(worker.metrics.registry, "127.0.0.1", port)
