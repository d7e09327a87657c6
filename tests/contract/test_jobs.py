"""The words for jobs: strict, frozen, and the same after a journey through Redis."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from contract.images import ImageRef
from contract.jobs import (
    BatchJob,
    BatchResult,
    Child,
    JobFailure,
    JobRecord,
    JobState,
    Priority,
    Progress,
    Stage,
    StyleShare,
    StylizeJob,
    StylizeResult,
    Timings,
    TrainJob,
    TrainResult,
)
from contract.styles import Evaluation, Scores, StyleRef, StyleStatus
from tests.contract.conftest import RESULT, TINY, TRAINED, a_job, a_training

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
PROGRESS = Progress(
    fraction=0.4,
    stage=Stage.TRAINING,
    detail="quick",
    iteration=40,
    iterations=100,
    losses={"total": 1.5, "style": 0.5},
    seconds_left=12.5,
    previews=(ImageRef(sha256="d" * 64, bytes=9), ImageRef(sha256="e" * 64, bytes=9)),
)
SCORES = Scores(content=1.5, style=0.25, total=2.0)
LEARNING = RUNNING.model_copy(update={"request": a_training(), "progress": PROGRESS})
DRAFTED = LEARNING.model_copy(
    update={
        "state": JobState.SUCCEEDED,
        "finished_at": CREATED,
        "result": TrainResult(
            style=StyleRef(name="dusk", version=2),
            status=StyleStatus.DRAFT,
            reason="no better than the photographs",
            evaluation=Evaluation(photographs=4, size=256, stylized=SCORES, untouched=SCORES),
        ),
    }
)
BATCH = SUCCEEDED.model_copy(
    update={
        "request": BatchJob(styles=a_job().styles),
        "client": "shop",
        "priority": Priority.BATCH,
        "children": (Child(id="2", state=JobState.SUCCEEDED), Child(id="3", state=JobState.FAILED)),
        "result": BatchResult(succeeded=1, failed=1, canceled=0),
    }
)
EVERY_RECORD = [WAITING, RUNNING, SUCCEEDED, FAILED, CANCELED, LEARNING, DRAFTED, BATCH]


def _flat(record: JobRecord) -> dict[str, str]:
    """As the scripts write it: plain fields as they are, times as seconds, nested values as JSON."""
    flat = {}
    for name in JobRecord.model_fields:
        value = getattr(record, name)
        if isinstance(value, BaseModel):
            flat[name] = value.model_dump_json()
        elif isinstance(value, datetime):
            flat[name] = f"{value.timestamp():.6f}"
        elif isinstance(value, tuple):
            flat[name] = json.dumps([each.model_dump(mode="json") for each in value])
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


def test_what_only_the_scripts_need_stays_in_redis() -> None:
    fields = {**_flat(LEARNING), "claimed_by": "token", "kind": "train", "name": "dusk"}
    assert JobRecord.from_hash(fields) == LEARNING


def test_a_job_of_before_there_were_blends_is_read() -> None:
    request = json.loads(a_job().model_dump_json())
    for new in ("styles", "strength", "preserve_color"):
        del request[new]
    request["style"] = {"name": "tiny", "version": 1}
    assert JobRecord.from_hash({**_flat(WAITING), "request": json.dumps(request)}) == WAITING


def test_a_job_needs_what_it_was_given_and_what_it_shows_by_now() -> None:
    assert [picture.sha256 for picture in WAITING.pictures] == ["a" * 64]
    assert [picture.sha256 for picture in LEARNING.pictures] == ["c" * 64, "d" * 64, "e" * 64]


@pytest.mark.parametrize("missing", ["id", "state", "attempt", "fence", "request", "created_at"])
def test_a_hash_without_what_every_job_has_is_refused(missing: str) -> None:
    fields = _flat(WAITING)
    del fields[missing]
    with pytest.raises((KeyError, ValidationError), match=missing):
        JobRecord.from_hash(fields)


@pytest.mark.parametrize(
    "message",
    [
        a_job(),
        a_job().content,
        TINY,
        a_job().styles[0],
        a_training(),
        PROGRESS,
        RESULT,
        TRAINED,
        DRAFTED.result,
        JobFailure(code="a", detail="b"),
        Timings(),
        SUCCEEDED,
        DRAFTED,
    ],
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
        {"styles": [{"style": {"name": "../x", "version": 1}}]},
        {"styles": [{"style": {"name": "tiny", "version": 0}}]},
        {"styles": []},
        {"styles": [{"style": {"name": "tiny", "version": 1}, "weight": 1 / 9}] * 9},
        {"styles": [{"style": {"name": "tiny", "version": 1}, "weight": 0.5}]},
        {"styles": [{"style": {"name": "tiny", "version": 1}}] * 2},
        {"styles": [{"style": {"name": "tiny", "version": 1}, "weight": weight} for weight in (1, 0)]},
        {"styles": [{"style": {"name": "tiny", "version": 1}, "weight": float("nan")}]},
        {"strength": -0.1},
        {"strength": 1.6},
        {"strength": float("nan")},
    ],
    ids=str,
)
def test_a_job_out_of_range_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StylizeJob.model_validate({**a_job().model_dump(), **change})


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "../x"},
        {"name": "dusk@1"},
        {"images": []},
        {"images": [{"sha256": "c" * 64, "bytes": 1}] * 9},
        {"quality": "slow"},
        {"iterations": 0},
        {"iterations": 100_001},
        {"style_weight": 0},
        {"style_weight": 11},
        {"style_weight": float("nan")},
        {"stroke_size": 0.2},
        {"stroke_size": 5},
        {"content": "../photographs"},
        {"content": "/"},
        {"kind": "stylize"},
    ],
    ids=str,
)
def test_a_training_out_of_range_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainJob.model_validate({**a_training().model_dump(), **change})


@pytest.mark.parametrize("weights", [[1], [0.5, 0.5], [1 / 3] * 3, [0.333333] * 3, [0.1] * 6 + [0.2, 0.2]])
def test_the_weights_of_a_blend_add_up_to_one_but_for_their_rounding(weights: list[float]) -> None:
    styles = [{"style": TINY, "weight": weight} for weight in weights]
    job = StylizeJob.model_validate({**a_job().model_dump(), "styles": styles})
    assert [share.weight for share in job.styles] == weights


def test_the_styles_of_a_job_are_written_as_a_client_may_write_them() -> None:
    assert a_job().style == "tiny@1"
    shares = (
        StyleShare(style=TINY, weight=0.25),
        StyleShare(style=StyleRef(name="wave", version=3), weight=0.75),
    )
    assert a_job().model_copy(update={"styles": shares}).style == "tiny@1:0.25,wave@3:0.75"


@pytest.mark.parametrize(
    "change",
    [
        {"fraction": 1.01},
        {"fraction": -0.01},
        {"stage": "resting"},
        {"fraction": float("nan")},
        {"losses": {"total": float("nan")}},
        {"losses": {"total": float("inf")}},
        {"seconds_left": float("inf")},
    ],
    ids=str,
)
def test_progress_that_could_not_be_read_again_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Progress.model_validate({**PROGRESS.model_dump(), **change})


def test_a_message_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        a_job().quality = 1


def test_a_result_names_its_picture() -> None:
    assert RESULT.image == ImageRef(sha256="b" * 64, bytes=7)
    with pytest.raises(ValidationError):
        _ = StylizeResult.model_validate({**RESULT.model_dump(), "sha256": "no hash"}).image
