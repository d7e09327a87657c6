"""What Prometheus reads of a trainer, and the spans of its jobs."""

import math
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from contract.jobs import JobState
from contract.tracing import trace_with
from tests.trainer.service import Service, base_bank, gone
from trainer.app import Trainer
from trainer.settings import TrainerSettings


@pytest.fixture
def service(trainer_settings: TrainerSettings, redis_client: object) -> Service:
    service = Service(trainer_settings)
    service.publish("base", base_bank())
    return service


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace_with(provider)
    yield exporter
    trace_with(None)


def told(trainer: Trainer, name: str, **labels: str) -> float | None:
    return trainer.metrics.registry.get_sample_value(f"atelier_{name}", labels)


def ended(trainer: Trainer, outcome: str, code: str = "") -> float | None:
    return told(trainer, "jobs_total", kind="train", outcome=outcome, code=code)


def test_a_training_tells_its_iterations_its_states_and_its_stages(
    service: Service, spans: InMemorySpanExporter
) -> None:
    trainer, job_id = Trainer(service.settings), service.create(iterations=5)
    trainer.work()
    record = service.book.get(job_id)
    assert record.state is JobState.SUCCEEDED, record.error
    assert (ended(trainer, "published") or 0) + (ended(trainer, "draft") or 0) == 1
    assert told(trainer, "training_iteration_seconds_count") == 4, "of the first it is not known"
    assert told(trainer, "training_checkpoint_seconds_count") == 1
    stages = ("preparing", "training", "evaluating", "publishing")
    for stage in stages:
        assert told(trainer, "job_stage_seconds_count", kind="train", stage=stage) == 1, stage
        assert told(trainer, "training_stage", stage=stage) == 0, "nothing runs any more"
    loss = told(trainer, "training_loss", loss="total")
    assert loss is not None
    assert math.isnan(loss)

    found = {each.name: each for each in spans.get_finished_spans()}
    assert set(found) >= {"train", "queue", "commit", *stages}
    job = found.pop("train")
    assert job.context is not None
    for each in found.values():
        assert each.parent is not None
        assert each.parent.span_id == job.context.span_id, each.name


def test_while_it_runs_its_stage_and_its_losses_are_told(service: Service) -> None:
    trainer = Trainer(service.settings)
    seen: list[tuple[float | None, float | None]] = []
    observe = trainer.metrics.iteration

    def watched(seconds: float | None, losses: dict[str, float]) -> None:
        observe(seconds, losses)
        seen.append((told(trainer, "training_stage", stage="training"), told(trainer, "training_loss", loss="style")))

    trainer.metrics.iteration = watched  # type: ignore[method-assign]
    service.create(iterations=3)
    trainer.work()
    assert [stage for stage, _ in seen] == [1, 1, 1]
    assert all(loss is not None and loss > 0 for _, loss in seen)


def test_a_training_that_fails_is_counted_by_its_code(service: Service) -> None:
    trainer = Trainer(service.settings)
    job = service.job().model_copy(update={"images": (gone(service.images),)})
    service.book.create(job)
    trainer.work()
    assert ended(trainer, "failed", "image-lost") == 1
    assert told(trainer, "training_stage", stage="preparing") == 0
