"""A style to be learnt: what may be sent, what becomes of the job; a gateway without trainers, the test is one."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from contract.errors import TrainingDataError, TrainingDivergedError
from contract.jobbook import Claim
from contract.jobs import Progress, Stage, Timings, TrainJob, TrainResult
from contract.keys import Scope
from contract.styles import StyleSource, StyleStatus
from tests.conftest import claim_of, free_port
from tests.service.conftest import (
    ASYNC,
    Field,
    Gateways,
    Keys,
    LoneGateway,
    accepted,
    claimed,
    code,
    drawn,
    parameters,
    picture_field,
    png_that_says_it_has,
    post,
    publish_bank,
    saved,
    text_field,
    train,
    waits,
)

PAINTING = saved(drawn(), "JPEG")
PREVIEWS = [saved(drawn(32 + index, 32), "JPEG") for index in range(4)]


def training(gateway: LoneGateway, name: str = "new", **options: str) -> str:
    """The id of a training that waits."""
    response = train(gateway.client, PAINTING, name=name, **options)
    assert response.status_code == 202
    return str(response.json()["id"])


def request_of(gateway: LoneGateway, job_id: str) -> TrainJob:
    request = gateway.book.get(job_id).request
    assert isinstance(request, TrainJob)
    return request


def show(gateway: LoneGateway, claim: Claim, *previews: bytes) -> None:
    """Says how far the training is, as a trainer does."""
    progress = Progress(
        fraction=0.5,
        stage=Stage.TRAINING,
        detail="style 0.31",
        iteration=200,
        iterations=400,
        losses={"total": 3.5, "content": 1.0, "style": 0.31},
        seconds_left=60.0,
        previews=tuple(map(gateway.images.put, previews)),
    )
    assert gateway.book.progress(claim, progress)


def publish(gateway: LoneGateway, claim: Claim, **said: Any) -> TrainResult:
    """Ends the training with a style."""
    request = claim.record.request
    assert isinstance(request, TrainJob)
    (card,) = publish_bank(gateway.styles, request.name, source=StyleSource.TRAINED, **said)
    result = TrainResult(style=card.ref, status=card.status, reason=card.reason)
    assert gateway.book.succeed(claim, result, Timings(compute_seconds=60))
    return result


def nothing_is_queued(gateway: LoneGateway) -> bool:
    return gateway.book.depth("train").queued == 0


# --- What may be sent ----------------------------------------------------------------------------------------------


def test_a_service_trains_for_no_longer_than_it_is_set_to(gateways: Gateways) -> None:
    with gateways(max_iterations=200) as gateway:
        assert parameters(train(gateway.client, PAINTING, name="new", iterations="201")) == ["iterations"]
        assert request_of(gateway, training(gateway, iterations="200")).iterations == 200
        assert request_of(gateway, training(gateway, "other")).iterations is None


def test_a_style_is_accepted_with_a_picture_and_a_name(gateway: LoneGateway, redis_client: "Redis") -> None:
    response = train(gateway.client, PAINTING, name="new")
    job = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/jobs/{job['id']}" == job["urls"]["self"]
    assert response.headers["x-job-id"] == job["id"]
    assert int(response.headers["retry-after"]) > 0
    assert (job["kind"], job["state"], job["style"], job["progress"]) == ("train", "queued", "new", None)
    assert redis_client.llen("atelier:train") == 1
    request = request_of(gateway, job["id"])
    assert gateway.images.open(request.images[0]) == PAINTING
    assert request == TrainJob(name="new", images=request.images, replace=False)


def test_everything_that_is_asked_for_reaches_the_trainer(gateway: LoneGateway) -> None:
    options = {
        "name": "all_of-it9",
        "title": "Alles, “so”",
        "description": "Zwei Zeilen\nGrün",
        "quality": "full",
        "iterations": "2500",
        "style_weight": "2.5",
        "stroke_size": "0.5",
        "content": "faces",
        "replace": "true",
    }
    pictures = [saved(drawn(40 + index, 40), kind) for index, kind in enumerate(["JPEG", "PNG", "WEBP", "AVIF"] * 2)]
    request = request_of(gateway, train(gateway.client, *pictures, **options).json()["id"])
    assert [gateway.images.open(image) for image in request.images] == pictures
    asked = {name: str(value) for name, value in request.model_dump(exclude={"kind", "images"}).items()}
    assert asked == options | {"replace": "True"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", ""),
        ("name", "Ein Name"),
        ("name", "new@2"),
        ("name", "../new"),
        ("name", "a" * 65),
        ("title", "x" * 201),
        ("description", "x" * 4001),
        ("quality", "best"),
        ("iterations", "0"),
        ("iterations", "100001"),
        ("iterations", "many"),
        ("style_weight", "0"),
        ("style_weight", "10.1"),
        ("style_weight", "nan"),
        ("style_weight", "inf"),
        ("stroke_size", "0.24"),
        ("stroke_size", "4.1"),
        ("stroke_size", "nan"),
        ("content", "/etc"),
        ("content", ""),
        ("replace", "perhaps"),
        ("colour", "blue"),
    ],
)
def test_an_option_out_of_range_is_named(client: httpx.Client, name: str, value: str) -> None:
    assert parameters(train(client, PAINTING, **{"name": "new", name: value})) == [name]


def test_a_style_needs_a_name(client: httpx.Client) -> None:
    assert parameters(train(client, PAINTING)) == ["name"]


def test_an_option_of_a_style_may_be_given_once_and_in_the_form(client: httpx.Client) -> None:
    fields = [picture_field(PAINTING), text_field("name", "new"), text_field("name", "other")]
    assert parameters(client.post("/styles", files=fields)) == ["name"]
    assert parameters(client.post("/styles?quality=full", files=fields[:2])) == ["quality"]


# --- Bodies and pictures that are wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [[], [picture_field(b"")], [picture_field(PAINTING), picture_field(b"")]])
def test_without_a_picture_or_with_an_empty_one_there_is_nothing_to_learn(
    client: httpx.Client, fields: list[Field]
) -> None:
    response = client.post("/styles", files=[*fields, text_field("name", "new")])
    assert response.status_code == 400
    assert code(response) == "no-image"


def test_a_picture_that_is_a_text_or_in_another_field_is_explained(client: httpx.Client) -> None:
    response = train(client, name="new", image="@painting.jpg")
    assert code(response) == "no-image"
    assert "-F image=@" in response.json()["detail"]
    fields = [picture_field(PAINTING, "style"), text_field("name", "new")]
    assert parameters(client.post("/styles", files=fields)) == ["image"]


def test_nine_pictures_are_too_many(gateway: LoneGateway) -> None:
    response = train(gateway.client, *[PAINTING] * 9, name="new")
    assert response.status_code == 400
    assert code(response) == "malformed-body"
    assert "8" in response.json()["detail"]
    assert nothing_is_queued(gateway)


@pytest.mark.parametrize("content_type", ["image/jpeg", "application/json", "application/x-www-form-urlencoded", ""])
def test_a_style_is_taken_as_a_form_only(client: httpx.Client, content_type: str) -> None:
    response = client.post("/styles", content=PAINTING, headers={"Content-Type": content_type})
    assert response.status_code == 415
    assert code(response) == "unsupported-body"
    assert "-F image=@" in response.json()["detail"]


def test_a_form_that_is_none_is_malformed(client: httpx.Client) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = client.post("/styles", content=b"no such boundary", headers=headers)
    assert response.status_code == 400
    assert code(response) == "malformed-body"


@pytest.mark.parametrize(
    ("data", "status", "problem"),
    [
        (b"Starry Night, by van Gogh\n", 415, "unsupported-image"),
        (b"GIF89a" + bytes(100), 415, "unsupported-image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "unsupported-image"),
        (PAINTING[:40], 422, "broken-image"),
        (png_that_says_it_has(50_000, 50_000), 413, "image-too-large"),
        (png_that_says_it_has(16, 16_384), 413, "image-too-large"),
        (saved(drawn(15, 40)), 422, "image-too-small"),
    ],
)
def test_a_picture_that_cannot_be_used_is_refused_at_once_and_told_apart(
    gateway: LoneGateway, data: bytes, status: int, problem: str
) -> None:
    alone = train(gateway.client, data, name="new")
    second = train(gateway.client, PAINTING, data, name="new")
    for response in (alone, second):
        assert response.status_code == status
        assert code(response) == problem
    assert second.json()["detail"] == f"Picture 2 of 2: {alone.json()['detail']}"
    assert nothing_is_queued(gateway)


@pytest.mark.parametrize("folder", ["bombs", "crashers"])
def test_hostile_files_do_not_become_styles(
    gateway: LoneGateway, shared: Path, pool: ThreadPoolExecutor, folder: str
) -> None:
    paths = [path for path in sorted((shared / "hostile" / folder).iterdir()) if path.is_file()]
    answers = pool.map(lambda path: train(gateway.client, path.read_bytes(), name="new"), paths)
    for path, answer in zip(paths, answers, strict=True):
        assert answer.status_code in (413, 415, 422), (path.name, answer.text)
        assert answer.elapsed.total_seconds() < 5, path.name
    assert nothing_is_queued(gateway)


# --- Names that are taken, queues that are full --------------------------------------------------------------------


def test_the_name_of_a_style_that_there_is_must_be_meant(gateway: LoneGateway) -> None:
    for options in ({}, {"replace": "false"}):
        response = train(gateway.client, PAINTING, name="tiny", **options)
        assert response.status_code == 409
        assert code(response) == "style-exists"
        assert "replace=true" in response.json()["detail"]
    assert nothing_is_queued(gateway)
    claim = claimed(gateway, training(gateway, "tiny", replace="true"))
    assert isinstance(claim.record.request, TrainJob)
    assert claim.record.request.replace, "the trainer looks again when it publishes"
    assert publish(gateway, claim).style.version == 2
    assert gateway.client.get("/styles/tiny").json()["versions"] == [1, 2]


def test_a_name_that_is_given_away_meanwhile_was_not_meant(gateway: LoneGateway) -> None:
    request = claimed(gateway, training(gateway, "free")).record.request
    assert isinstance(request, TrainJob)
    assert not request.replace


def test_who_trains_may_try_again_after_a_draft_until_a_version_is_active(gateways: Gateways, keys: Keys) -> None:
    trains = keys.make("trains", Scope.TRAIN)
    with gateways(api_keys=keys.path) as gateway:
        gateway.client.headers.update(trains)
        for status in (StyleStatus.DRAFT, StyleStatus.DRAFT, StyleStatus.PUBLISHED):
            publish(gateway, claimed(gateway, training(gateway, "sketch")), status=status)
        assert gateway.client.get("/styles/sketch").json()["active"] == 3
        assert code(train(gateway.client, PAINTING, name="sketch")) == "style-exists"
        assert code(train(gateway.client, PAINTING, name="sketch", replace="true")) == "scope-missing"
        assert nothing_is_queued(gateway)


def test_a_name_is_trained_by_one_job_at_a_time(gateway: LoneGateway) -> None:
    job_id = training(gateway)
    for _ in range(2):  # while it waits, and while it runs
        for options in ({}, {"replace": "true"}):
            response = train(gateway.client, PAINTING, name="new", **options)
            assert response.status_code == 409
            assert code(response) == "style-exists"
            assert "being trained" in response.json()["detail"]
        claim_of(gateway.book, job_id)
    gateway.client.delete(f"/jobs/{job_id}")
    training(gateway)


def test_the_queue_of_styles_has_a_bound_of_its_own(gateways: Gateways) -> None:
    with gateways(train_queue_limit=1) as gateway:
        first = training(gateway)
        response = train(gateway.client, PAINTING, name="second")
        assert response.status_code == 503
        assert code(response) == "queue-full"
        assert int(response.headers["retry-after"]) > 0
        accepted(gateway)
        gateway.client.delete(f"/jobs/{first}")
        training(gateway, "second")


def test_without_redis_a_style_is_told_to_come_back(gateways: Gateways) -> None:
    with gateways(redis_url=f"redis://127.0.0.1:{free_port()}/0") as gateway:
        response = train(gateway.client, PAINTING, name="new")
    assert response.status_code == 503
    assert code(response) == "queue-unavailable"


# --- The job -------------------------------------------------------------------------------------------------------


def test_a_training_tells_how_far_it_is(gateway: LoneGateway) -> None:
    job_id = training(gateway)
    claim = claimed(gateway, job_id)
    show(gateway, claim, *PREVIEWS)
    response = gateway.client.get(f"/jobs/{job_id}")
    job = response.json()
    assert (job["kind"], job["state"], job["style"], job["result"]) == ("train", "running", "new", None)
    assert job["progress"] == {
        "fraction": 0.5,
        "stage": "training",
        "detail": "style 0.31",
        "iteration": 200,
        "iterations": 400,
        "losses": {"total": 3.5, "content": 1.0, "style": 0.31},
        "seconds_left": 60.0,
        "previews": [f"/jobs/{job_id}/previews/{index}" for index in range(4)],
    }
    assert int(response.headers["retry-after"]) > 1
    assert [gateway.client.get(url).content for url in job["progress"]["previews"]] == PREVIEWS


def test_a_preview_is_always_the_latest_and_not_sent_twice(gateway: LoneGateway) -> None:
    job_id = training(gateway)
    claim = claimed(gateway, job_id)
    url = f"/jobs/{job_id}/previews/0"
    show(gateway, claim, PREVIEWS[0])
    first = gateway.client.get(url)
    assert first.status_code == 200
    assert first.headers["content-type"] == "image/jpeg"
    assert first.headers["etag"] == f'"{hashlib.sha256(PREVIEWS[0]).hexdigest()}"'
    assert first.headers["cache-control"] == "no-cache"
    assert first.headers["x-content-type-options"] == "nosniff"
    known = {"If-None-Match": first.headers["etag"]}
    again = gateway.client.get(url, headers=known)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    show(gateway, claim, PREVIEWS[1])
    later = gateway.client.get(url, headers=known)
    assert (later.status_code, later.content) == (200, PREVIEWS[1])


def test_previews_are_kept_while_the_training_runs(gateway: LoneGateway) -> None:
    job_id = training(gateway)
    claim = claimed(gateway, job_id)
    show(gateway, claim, PREVIEWS[0])
    show(gateway, claim, PREVIEWS[1])
    assert gateway.images.sweep(timedelta(seconds=-60), in_use=gateway.book.pictures_in_use()) == 1
    assert gateway.client.get(f"/jobs/{job_id}/previews/0").content == PREVIEWS[1]


def test_a_preview_that_is_not_there_is_404(gateway: LoneGateway) -> None:
    job_id = training(gateway)
    url = f"/jobs/{job_id}/previews"
    assert code(gateway.client.get(f"{url}/0")) == "preview-not-found"
    show(gateway, claimed(gateway, job_id), PREVIEWS[0])
    response = gateway.client.get(f"{url}/1")
    assert response.status_code == 404
    assert code(response) == "preview-not-found"
    assert code(gateway.client.get(f"{url}/{10**30}")) == "preview-not-found"
    gateway.images.sweep(timedelta(seconds=-60), in_use=())
    assert code(gateway.client.get(f"{url}/0")) == "preview-not-found"
    assert code(gateway.client.get(f"/jobs/{accepted(gateway)}/previews/0")) == "preview-not-found"
    assert code(gateway.client.get("/jobs/x/previews/0")) == "job-not-found"


@pytest.mark.parametrize("index", ["-1", "first", "0.5"])
def test_a_preview_has_a_number(gateway: LoneGateway, index: str) -> None:
    assert parameters(gateway.client.get(f"/jobs/{training(gateway)}/previews/{index}")) == ["index"]


def test_a_training_that_succeeded_leads_to_its_style(gateway: LoneGateway) -> None:
    job_id = training(gateway)
    claim = claimed(gateway, job_id)
    show(gateway, claim, PREVIEWS[0])
    publish(gateway, claim)
    job = gateway.client.get(f"/jobs/{job_id}").json()
    assert job["state"] == "succeeded"
    assert job["result"] == {
        "style": {"name": "new", "version": 1},
        "status": "published",
        "reason": "",
        "evaluation": None,
    }
    assert job["timings"]["queue_seconds"] >= 0
    response = gateway.client.get(job["urls"]["result"])
    assert response.status_code == 303
    assert response.headers["location"] == "/styles/new@1"
    assert response.headers["x-job-id"] == job_id
    assert gateway.client.get(response.headers["location"]).json()["active"] == 1
    assert post(gateway.client, saved(drawn()), ASYNC, style="new").status_code == 202


def test_a_training_that_made_a_draft_leads_to_it(gateway: LoneGateway) -> None:
    job_id = training(gateway)
    publish(gateway, claimed(gateway, job_id), status=StyleStatus.DRAFT, reason="It hardly looks like itself.")
    result = gateway.client.get(f"/jobs/{job_id}").json()["result"]
    assert (result["status"], result["reason"]) == ("draft", "It hardly looks like itself.")
    location = gateway.client.get(f"/jobs/{job_id}/result").headers["location"]
    assert gateway.client.get(location).json()["active"] is None


def test_a_training_is_waited_for_like_any_job(
    gateway: LoneGateway, redis_client: "Redis", pool: ThreadPoolExecutor
) -> None:
    job_id = training(gateway)
    answer = pool.submit(gateway.client.get, f"/jobs/{job_id}", params={"wait": 50})
    waits(gateway)
    claim = claimed(gateway, job_id)
    show(gateway, claim, PREVIEWS[0])
    publish(gateway, claim)
    assert answer.result().json()["state"] == "succeeded"
    assert answer.result().elapsed.total_seconds() < 20


def test_the_result_of_a_training_that_goes_on_is_not_ready(gateway: LoneGateway) -> None:
    response = gateway.client.get(f"/jobs/{training(gateway)}/result")
    assert response.status_code == 409
    assert code(response) == "result-not-ready"
    assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize("kind", [TrainingDivergedError, TrainingDataError])
def test_a_training_that_failed_tells_why(
    gateway: LoneGateway, kind: type[TrainingDivergedError | TrainingDataError]
) -> None:
    job_id = training(gateway)
    claim = claimed(gateway, job_id)
    show(gateway, claim, PREVIEWS[0])
    assert gateway.book.fail(claim, kind("This is why."), Timings())
    job = gateway.client.get(f"/jobs/{job_id}").json()
    assert (job["state"], job["error"]) == ("failed", {"code": kind.code, "detail": "This is why."})
    assert job["progress"]["iteration"] == 200
    response = gateway.client.get(f"/jobs/{job_id}/result")
    assert response.status_code == 500
    assert code(response) == kind.code
    assert response.json()["detail"] == "This is why."


def test_a_training_can_be_canceled_and_its_trainer_writes_no_more(gateway: LoneGateway) -> None:
    job_id = training(gateway)
    claim = claimed(gateway, job_id)
    job = gateway.client.delete(f"/jobs/{job_id}").json()
    assert (job["kind"], job["state"]) == ("train", "canceled")
    assert not gateway.book.progress(claim, Progress(fraction=1, stage=Stage.PUBLISHING))
    response = gateway.client.get(f"/jobs/{job_id}/result")
    assert response.status_code == 409
    assert code(response) == "job-canceled"


def test_a_style_deleted_while_its_next_version_is_trained_comes_back_with_that(gateway: LoneGateway) -> None:
    claim = claimed(gateway, training(gateway, "tiny", replace="true"))
    assert gateway.client.delete("/styles/tiny").status_code == 204
    assert publish(gateway, claim).style.version == 2
    style = gateway.client.get("/styles/tiny").json()
    assert (style["versions"], style["active"]) == ([2], 2)
