"""The words for jobs: strict, frozen, and the same after a journey through Redis."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from contract.images import ImageRef
from contract.jobs import JobFailure, JobRecord, JobResult, JobState, StylizeJob, Timings
from tests.contract.conftest import RESULT, a_job

CREATED = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
WAITING = JobRecord(id="1", state=JobState.QUEUED, request=a_job(), created_at=CREATED)
RUNNING = WAITING.model_copy(update={"state": JobState.RUNNING, "attempt": 2, "fence": 3, "started_at": CREATED})
SUCCEEDED = RUNNING.model_copy(
    update={
        "state": JobState.SUCCEEDED,
        "finished_at": CREATED,
        "expires_at": CREATED,
        "timings": Timings(queue_seconds=0.25, compute_seconds=1.5),
        "result": RESULT,
    }
)
FAILED = RUNNING.model_copy(
    update={
        "state": JobState.FAILED,
        "finished_at": CREATED,
        "expires_at": CREATED,
        "error": JobFailure(code="poison-job", detail="Größe “8 K” paßt nicht"),
    }
)
CANCELED = WAITING.model_copy(update={"state": JobState.CANCELED, "fence": 1, "finished_at": CREATED})
EVERY_RECORD = [WAITING, RUNNING, SUCCEEDED, FAILED, CANCELED]


def _flat(record: JobRecord) -> dict[str, str]:
    """As the scripts write it: plain fields as they are, times as seconds, nested values as JSON."""
    flat = {}
    for name in JobRecord.model_fields:
        value = getattr(record, name)
        if isinstance(value, BaseModel):
            flat[name] = value.model_dump_json()
        elif isinstance(value, datetime):
            flat[name] = f"{value.timestamp():.6f}"
        elif value is not None:
            flat[name] = str(value)
    return flat


def test_three_states_are_for_ever() -> None:
    assert {state for state in JobState if state.is_terminal} == {
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.CANCELED,
    }


def test_the_examples_show_every_state() -> None:
    assert {record.state for record in EVERY_RECORD} == set(JobState)


@pytest.mark.parametrize("record", EVERY_RECORD, ids=lambda record: record.state)
def test_a_record_is_the_same_after_redis(record: JobRecord) -> None:
    assert JobRecord.from_hash(_flat(record)) == record


@pytest.mark.parametrize("record", EVERY_RECORD, ids=lambda record: record.state)
def test_a_record_is_the_same_after_json(record: JobRecord) -> None:
    assert JobRecord.model_validate_json(record.model_dump_json()) == record


def test_empty_fields_of_a_hash_are_none() -> None:
    fields = {**_flat(SUCCEEDED), "error": ""}
    assert JobRecord.from_hash(fields).error is None
    fields = {**_flat(FAILED), "result": "", "timings": ""}
    assert JobRecord.from_hash(fields) == FAILED


def test_the_claims_token_stays_in_redis() -> None:
    record = JobRecord.from_hash({**_flat(RUNNING), "claimed_by": "token"})
    assert record == RUNNING


@pytest.mark.parametrize("missing", ["id", "state", "attempt", "fence", "request", "created_at"])
def test_a_hash_without_what_every_job_has_is_refused(missing: str) -> None:
    fields = _flat(WAITING)
    del fields[missing]
    with pytest.raises((KeyError, ValidationError), match=missing):
        JobRecord.from_hash(fields)


@pytest.mark.parametrize(
    "message",
    [a_job(), a_job().content, a_job().style, RESULT, JobFailure(code="a", detail="b"), Timings(), SUCCEEDED],
    ids=lambda message: type(message).__name__,
)
def test_a_message_says_nothing_that_the_other_side_does_not_know(message: BaseModel) -> None:
    fields = json.loads(message.model_dump_json())
    assert type(message).model_validate_json(json.dumps(fields)) == message
    with pytest.raises(ValidationError, match="Extra inputs"):
        type(message).model_validate_json(json.dumps({**fields, "surprise": 1}))


@pytest.mark.parametrize(
    "change",
    [
        {"quality": 0},
        {"quality": 101},
        {"media_type": "image/gif"},
        {"kind": "train"},
        {"content": {"sha256": "../../etc/passwd", "bytes": 1}},
        {"content": {"sha256": "a" * 64, "bytes": -1}},
        {"style": {"name": "../x", "version": 1}},
        {"style": {"name": "tiny", "version": 0}},
    ],
    ids=str,
)
def test_a_job_out_of_range_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StylizeJob.model_validate({**a_job().model_dump(), **change})


def test_a_message_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        a_job().quality = 1


def test_a_result_names_its_picture() -> None:
    assert RESULT.image == ImageRef(sha256="b" * 64, bytes=7)
    with pytest.raises(ValidationError):
        _ = JobResult.model_validate({**RESULT.model_dump(), "sha256": "no hash"}).image
