"""Calls of webhooks, over real connections to real receivers."""

import asyncio
import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from standardwebhooks import Webhook as Receiver
from standardwebhooks.webhooks import WebhookVerificationError

from contract.admission import Terms
from contract.errors import InternalError, SettingsError
from contract.outbox import Outbox
from contract.settings import load
from contract.webhooks import Webhook
from service.settings import ServiceSettings
from service.webhooks import AT_ONCE, AT_ONCE_FOR_A_HOST
from tests.conftest import free_port, until
from tests.contract.conftest import RESULT, a_job
from tests.service.conftest import (
    ASYNC,
    TIMINGS,
    Gateways,
    LoneGateway,
    claimed,
    code,
    data_url,
    document,
    drawn,
    form,
    openapi,
    parameters,
    picture_field,
    post,
    saved,
    succeed,
    text_field,
    train,
)
from tests.service.remote import Answer, Call, Remote, remote

OLD, NEW = (f"whsec_{base64.b64encode(bytes([value]) * 32).decode()}" for value in (1, 2))
DOCS = Path(__file__).resolve().parents[2] / "docs"
OK, BROKEN = Answer(204), Answer(503)


@pytest.fixture
def receiver() -> Iterator[Remote]:
    with remote(OK) as receiver:
        yield receiver


def calling(gateways: Gateways, *receivers: Remote, **changes: Any) -> AbstractContextManager[LoneGateway]:
    """A gateway that may call these receivers."""
    ports = (80, *(receiver.port for receiver in receivers))
    values = {"webhook_secrets": (NEW, OLD), "outbound_allow": ("127.0.0.0/8",), "outbound_ports": ports}
    return gateways(**{**values, **changes})


def hook(receiver: Remote, path: str = "/hook") -> str:
    return f"http://127.0.0.1:{receiver.port}{path}"


def asked(gateway: LoneGateway, receiver: Remote, **options: str) -> str:
    """A job that is to call the receiver."""
    response = post(gateway.client, saved(drawn()), headers=ASYNC, webhook_url=hook(receiver), **options)
    return str(response.headers["x-job-id"])


def called(receiver: Remote, times: int = 1) -> list[Call]:
    until(lambda: len(receiver.calls) >= times, what="the call")
    return receiver.calls


def deliveries(gateway: LoneGateway, job_id: str) -> list[dict[str, Any]]:
    response = gateway.client.get(f"/jobs/{job_id}/deliveries")
    assert response.status_code == 200
    return list(response.json()["deliveries"])


def settled(gateway: LoneGateway, job_id: str) -> dict[str, Any]:
    """The only delivery, once it is over."""
    until(lambda: deliveries(gateway, job_id)[0]["state"] != "pending", what="the delivery to be over")
    (delivery,) = deliveries(gateway, job_id)
    return delivery


def due(redis_client: "Redis", job_id: str, attempts: int) -> Callable[[], bool]:
    """Whether so many attempts are written down; then the next is due: what time does, at once."""

    def tried() -> bool:
        (delivery,) = Outbox(redis_client).deliveries(job_id)
        if len(delivery.attempts) < attempts:
            return False
        redis_client.zadd("atelier:outbox", {f"{job_id}/1": 0}, xx=True)
        return True

    return tried


# --- The call ------------------------------------------------------------------------------------------------------


def test_a_receiver_that_uses_the_library_can_tell_that_a_call_is_ours(gateways: Gateways, receiver: Remote) -> None:
    with calling(gateways, receiver) as gateway:
        job_id = asked(gateway, receiver)
        succeed(gateway, job_id)
        (call,) = called(receiver)
        for secret in (NEW, OLD):  # both are known while receivers change from one to the other
            event = Receiver(secret).verify(call.body, call.headers)
        assert set(event) == {"type", "timestamp", "data"}
        assert event["type"] == "job.succeeded"
        assert event["data"] == gateway.client.get(f"/jobs/{job_id}").json()
        assert (call.method, call.path, call.headers["content-type"]) == ("POST", "/hook", "application/json")
        with pytest.raises(WebhookVerificationError):
            Receiver(NEW).verify(call.body + b" ", call.headers)
        with pytest.raises(WebhookVerificationError):
            Receiver(f"whsec_{base64.b64encode(b'x' * 32).decode()}").verify(call.body, call.headers)
        delivery = settled(gateway, job_id)
        assert delivery["state"] == "delivered"
        assert delivery["webhook_id"] == call.headers["webhook-id"]
        assert [(each["outcome"], each["status"]) for each in delivery["attempts"]] == [("delivered", 204)]
        metrics = gateway.client.get("/metrics").text
        assert 'atelier_webhook_attempts_total{outcome="delivered"} 1.0' in metrics


def test_a_webhook_may_be_named_in_every_form(gateways: Gateways, receiver: Remote) -> None:
    data = saved(drawn())
    named: dict[str, Any] = {"webhook_url": hook(receiver), "webhook_events": "job.canceled,job.started"}
    with calling(gateways, receiver) as gateway:
        gateway.client.headers.update({**ASYNC, "Cache-Control": "no-store"})
        answers = [
            post(gateway.client, data, **named),
            form(
                gateway.client,
                picture_field(data),
                text_field("style", "tiny"),
                *map(text_field, named, named.values()),
            ),
            document(gateway.client, image=data_url(data), style="tiny", **named),
            train(gateway.client, data, name="mine", **named),
        ]
        for answer in answers:
            claimed(gateway, answer.json()["id"])
            gateway.client.delete(f"/jobs/{answer.json()['id']}")
        events = [json.loads(call.body) for call in called(receiver, 8)]
        heard = {(event["data"]["id"], event["type"], event["data"]["state"]) for event in events}
        assert heard == {
            (answer.json()["id"], *event)
            for answer in answers
            for event in (("job.started", "running"), ("job.canceled", "canceled"))
        }


def test_requests_that_share_a_job_are_each_called(gateways: Gateways, receiver: Remote) -> None:
    with calling(gateways, receiver) as gateway:
        first = asked(gateway, receiver)
        assert asked(gateway, receiver, webhook_events="job.succeeded") == first
        succeed(gateway, first)
        called(receiver, 2)
        assert asked(gateway, receiver) == first  # it has ended already
        ids = [call.headers["webhook-id"] for call in called(receiver, 3)]
        assert len(set(ids)) == 3


def test_the_receiver_of_the_documentation_takes_what_is_sent(
    gateways: Gateways, receiver: Remote, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", OLD)
    (program,) = re.findall(r"```python\n(.*?)```", (DOCS / "webhooks.md").read_text(), re.DOTALL)
    module: dict[str, Any] = {}
    exec(program, module)
    with calling(gateways, receiver) as gateway:
        job_id = asked(gateway, receiver)
        succeed(gateway, job_id)
        (call,) = called(receiver)

    async def forward() -> list[int]:
        transport = httpx.ASGITransport(module["app"])
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
            bodies = (call.body, call.body, b"{}")
            return [(await client.post("/atelier", content=body, headers=call.headers)).status_code for body in bodies]

    del call.headers["content-length"]
    assert asyncio.run(forward()) == [204, 204, 401]
    assert capsys.readouterr().out.count(f"job.succeeded /jobs/{job_id}/result") == 1


# --- What may go wrong ---------------------------------------------------------------------------------------------


def test_a_receiver_that_fails_twice_is_called_a_third_time(
    gateways: Gateways, receiver: Remote, redis_client: "Redis"
) -> None:
    receiver.answers = [Answer(302, headers={"Location": "/elsewhere"}), BROKEN, OK]
    with calling(gateways, receiver) as gateway:
        job_id = asked(gateway, receiver)
        succeed(gateway, job_id)
        until(due(redis_client, job_id, 1), what="the first attempt")
        until(due(redis_client, job_id, 2), what="the second attempt")
        delivery = settled(gateway, job_id)
        assert [each["status"] for each in delivery["attempts"]] == [302, 503, 204]
        assert {call.path for call in receiver.calls} == {"/hook"}  # redirects are not followed
        assert len({call.headers["webhook-id"] for call in receiver.calls}) == 1
        assert len({call.body for call in receiver.calls}) == 1
        for call in receiver.calls:
            Receiver(NEW).verify(call.body, call.headers)


def test_a_receiver_that_hangs_delays_its_own_calls_only(gateways: Gateways, receiver: Remote) -> None:
    with remote() as silent:
        silent.answers = [Answer(before_the_head=silent.hang)]
        with calling(gateways, receiver, silent) as gateway:
            terms = Terms(may_find=True, may_be_found=True)
            job_id = gateway.book.admit(a_job(), terms).record.id
            assert gateway.book.succeed(claimed(gateway, job_id), RESULT, TIMINGS)
            for _ in range(AT_ONCE + 5):  # more than a gateway calls at once
                gateway.book.admit(a_job(), replace(terms, webhook=Webhook(url=hook(silent))))
            gateway.book.admit(a_job(), replace(terms, webhook=Webhook(url=hook(receiver))))
            called(receiver)
            assert 0 < silent.connections <= AT_ONCE_FOR_A_HOST


def test_a_receiver_that_does_not_answer_is_tried_again(gateways: Gateways, redis_client: "Redis") -> None:
    with remote() as silent:
        silent.answers = [Answer(before_the_head=silent.hang), OK]
        with calling(gateways, silent, outbound_seconds=0.5) as gateway:
            job_id = asked(gateway, silent)
            succeed(gateway, job_id)
            until(due(redis_client, job_id, 1), what="the first attempt")
            delivery = settled(gateway, job_id)
            assert [each["outcome"] for each in delivery["attempts"]] == ["timeout", "delivered"]


def test_a_receiver_that_says_gone_is_left_alone(gateways: Gateways, receiver: Remote) -> None:
    receiver.answers = [Answer(410)]
    with calling(gateways, receiver) as gateway:
        job_id = asked(gateway, receiver)
        succeed(gateway, job_id)
        delivery = settled(gateway, job_id)
        assert (delivery["state"], delivery["next_attempt_at"]) == ("given-up", None)


@pytest.mark.parametrize("until_then", ["2000", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_a_receiver_says_how_long_it_wants_to_be_left_alone(
    gateways: Gateways, receiver: Remote, redis_client: "Redis", until_then: str
) -> None:
    receiver.answers = [Answer(503, headers={"Retry-After": until_then})]
    with calling(gateways, receiver, result_seconds=1_000_000) as gateway:
        job_id = asked(gateway, receiver)
        succeed(gateway, job_id)
        until(lambda: bool(deliveries(gateway, job_id)[0]["attempts"]), what="the first attempt")
        score = redis_client.zscore("atelier:outbox", f"{job_id}/1")
        assert score is not None
        assert score - receiver.calls[0].at > 1900


def test_what_cannot_be_delivered_while_the_job_is_kept_is_given_up_and_may_be_sent_again(
    gateways: Gateways, receiver: Remote
) -> None:
    receiver.answers = [BROKEN, OK]
    with calling(gateways, receiver, result_seconds=4) as gateway:
        job_id = asked(gateway, receiver)
        succeed(gateway, job_id)
        assert settled(gateway, job_id)["state"] == "given-up"  # the next attempt would come after the job
        again = gateway.client.post(f"/jobs/{job_id}/deliveries/1/redeliver")
        assert (again.status_code, again.json()["state"]) == (202, "pending")
        assert [call.headers["webhook-id"] for call in called(receiver, 2)] == [f"{job_id}-1"] * 2


def test_a_gateway_that_dies_between_two_attempts_leaves_the_next_to_another(
    gateways: Gateways, receiver: Remote, redis_client: "Redis", redis_url: str, tmp_path: Path
) -> None:
    receiver.answers = [BROKEN, OK]
    with calling(gateways, receiver, webhook_secrets=()) as bystander:  # it calls nobody
        webhook = Terms(webhook=Webhook(url=hook(receiver)))
        job_id = bystander.book.admit(a_job(), webhook).record.id
        assert bystander.book.fail(claimed(bystander, job_id), InternalError("No."), TIMINGS)
        environment = {
            **os.environ,
            "ATELIER_REDIS_URL": redis_url,
            "ATELIER_DATA": str(tmp_path),
            "ATELIER_BUILTIN_STYLES": str(tmp_path / "no-builtin-styles"),
            "ATELIER_PORT": str(free_port()),
            "ATELIER_WEBHOOK_SECRETS": NEW,
            "ATELIER_OUTBOUND_ALLOW": "127.0.0.0/8",
            "ATELIER_OUTBOUND_PORTS": str(receiver.port),
        }
        doomed = subprocess.Popen([sys.executable, "-m", "service.app"], env=environment)
        try:
            until(lambda: bool(deliveries(bystander, job_id)[0]["attempts"]), 60, "the first attempt")
        finally:
            doomed.kill()
            doomed.wait()
        redis_client.zadd("atelier:outbox", {f"{job_id}/1": 0})
    with calling(gateways, receiver) as gateway:
        delivery = settled(gateway, job_id)
        assert [each["status"] for each in delivery["attempts"]] == [503, 204]
        assert [call.headers["webhook-id"] for call in receiver.calls] == [f"{job_id}-1"] * 2


def test_a_receiver_inside_is_refused_when_it_is_named_and_when_it_is_called(
    gateways: Gateways, receiver: Remote, redis_client: "Redis"
) -> None:
    with calling(gateways, receiver) as gateway:
        job_id = asked(gateway, receiver)
    with calling(gateways, receiver, outbound_allow=()) as gateway:
        for url in (
            hook(receiver),
            "http://169.254.169.254/",
            "ftp://example.com/",
            "http://[::1]/",
            "http://x.invalid/",
        ):
            response = post(gateway.client, saved(drawn()), webhook_url=url)
            assert (response.status_code, code(response)) == (403, "url-refused")
        assert code(train(gateway.client, saved(drawn()), name="mine", webhook_url=hook(receiver))) == "url-refused"
        succeed(gateway, job_id)
        until(lambda: bool(deliveries(gateway, job_id)[0]["attempts"]), what="the first attempt")
        assert [each["outcome"] for each in deliveries(gateway, job_id)[0]["attempts"]] == ["refused"]
    assert receiver.connections == 0


# --- What may be asked ---------------------------------------------------------------------------------------------


def test_off_it_says_which_setting_turns_it_on(gateway: LoneGateway) -> None:
    data, url = saved(drawn()), "https://example.com/hook"
    job_id = post(gateway.client, data, headers=ASYNC).json()["id"]
    answers = [
        post(gateway.client, data, webhook_url=url),
        train(gateway.client, data, name="mine", webhook_url=url),
        gateway.client.post(f"/jobs/{job_id}/deliveries/1/redeliver"),
    ]
    for answer in answers:
        assert (answer.status_code, code(answer)) == (403, "switched-off")
        assert "ATELIER_WEBHOOK_SECRETS" in answer.json()["detail"]
    assert deliveries(gateway, job_id) == []


def test_a_webhook_that_makes_no_sense_is_named(gateways: Gateways, receiver: Remote) -> None:
    data = saved(drawn())
    with calling(gateways, receiver) as gateway:
        for events in ("", "job.ended", "job.succeeded,", "job.succeeded job.failed", "jobxfailed"):
            answer = post(gateway.client, data, webhook_url=hook(receiver), webhook_events=events)
            assert parameters(answer) == ["webhook_events"]
        assert parameters(post(gateway.client, data, webhook_events="job.failed")) == ["webhook_events"]
        assert parameters(post(gateway.client, data, webhook_url="http://x/" + "y" * 2048)) == ["webhook_url"]
        job_id = asked(gateway, receiver)
        assert code(gateway.client.post(f"/jobs/{job_id}/deliveries/1/redeliver")) == "delivery-not-found"
        assert code(gateway.client.get("/jobs/no-such-job/deliveries")) == "job-not-found"
        assert code(gateway.client.post("/jobs/no-such-job/deliveries/1/redeliver")) == "job-not-found"


def test_a_request_that_is_sent_again_is_called_once(gateways: Gateways, receiver: Remote) -> None:
    with calling(gateways, receiver) as gateway:
        headers = {**ASYNC, "Idempotency-Key": "with-a-webhook"}
        sent = [post(gateway.client, saved(drawn()), headers, webhook_url=hook(receiver)) for _ in range(2)]
        assert [answer.headers.get("idempotency-replayed") for answer in sent] == [None, "true"]
        other = post(gateway.client, saved(drawn()), headers, webhook_url=hook(receiver, "/other"))
        assert code(other) == "idempotency-key-reused"
        job_id = sent[0].json()["id"]
        succeed(gateway, job_id)
        assert settled(gateway, job_id)["state"] == "delivered"
        assert len(receiver.calls) == 1


@pytest.mark.parametrize("secret", ["sesame", "whsec_", "whsec_short", "whsec_****", f"{OLD},x", f"x_{OLD}"])
def test_a_secret_that_is_none_is_refused_and_not_told(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("ATELIER_WEBHOOK_SECRETS", secret)
    with pytest.raises(SettingsError, match="ATELIER_WEBHOOK_SECRETS") as refused:
        load(ServiceSettings)
    assert OLD not in str(refused.value)


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_WEBHOOK_SECRETS", f"{NEW}, {OLD}")
    settings = load(ServiceSettings)
    assert len(settings.webhook_secrets) == 2
    assert NEW not in repr(settings)


def test_the_description_tells_what_a_receiver_gets() -> None:
    assert set(openapi()["webhooks"]) == {"job.started", "job.succeeded", "job.failed", "job.canceled"}


def test_a_job_says_where_its_calls_are_listed(gateways: Gateways, receiver: Remote) -> None:
    with calling(gateways, receiver) as gateway:
        job = gateway.client.get(f"/jobs/{asked(gateway, receiver)}").json()
        assert gateway.client.get(job["urls"]["deliveries"]).json() == {"deliveries": []}
