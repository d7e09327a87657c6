"""Clients are told apart: their jobs, their idempotency keys, and what has been made for them."""

import base64

import httpx
import pytest
from structlog.testing import capture_logs

from atelier.client import Client, ServiceError
from contract.keys import Scope, remove_key
from tests.service.conftest import ALONE, ASYNC, DOCUMENT, Gateways, Keys, code, drawn, post, saved, succeed, train

SECRET = "whsec_" + base64.b64encode(bytes(24)).decode()
KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


def told(response: httpx.Response) -> dict[str, object]:
    """A problem, without the id of its request."""
    return {name: value for name, value in response.json().items() if name != "request_id"}


def test_a_job_is_there_for_its_client_and_for_admins_only(gateways: Gateways, keys: Keys) -> None:
    ann, bob = keys.make("ann", Scope.STYLIZE), keys.make("bob", Scope.STYLIZE, Scope.TRAIN)
    admin = keys.make("admin", Scope.ADMIN)
    with gateways(api_keys=keys.path, webhook_secrets=SECRET) as gateway:
        job_id = post(gateway.client, saved(drawn()), {**ASYNC, **ann}).json()["id"]
        assert gateway.book.get(job_id).client == "ann"
        succeed(gateway, job_id)
        address = f"/jobs/{job_id}"
        addresses = [address, f"{address}/events", f"{address}/result", f"{address}/previews/0"]
        unknown = told(gateway.client.get("/jobs/x", headers=bob))
        addresses.append(f"{address}/deliveries")
        redeliver = f"{address}/deliveries/1/redeliver"
        for method, path in [*(("GET", path) for path in addresses), ("POST", redeliver), ("DELETE", address)]:
            hidden = gateway.client.request(method, path, headers=bob)
            assert (hidden.status_code, told(hidden)) == (404, unknown)
            for headers in (ann, admin):
                shown = gateway.client.request(method, path, headers=headers)
                assert shown.status_code in (200, 404, 409)
                assert shown.status_code != 404 or code(shown) in ("preview-not-found", "delivery-not-found")


def test_a_job_is_canceled_by_its_client_or_an_admin(gateways: Gateways, keys: Keys) -> None:
    ann, bob, admin = keys.make("ann", Scope.STYLIZE), keys.make("bob", Scope.STYLIZE), keys.make("admin")
    with gateways(api_keys=keys.path) as gateway:
        for headers in (ann, admin):
            job_id = post(gateway.client, saved(drawn()), {**ASYNC, **ALONE, **ann}).json()["id"]
            assert gateway.client.delete(f"/jobs/{job_id}", headers=bob).status_code == 404
            assert gateway.book.get(job_id).state == "queued"
            assert gateway.client.delete(f"/jobs/{job_id}", headers=headers).json()["state"] == "canceled"


def test_what_was_made_for_one_client_is_no_answer_to_another(gateways: Gateways, keys: Keys) -> None:
    ann, bob = keys.make("ann"), keys.make("bob")
    with gateways(api_keys=keys.path) as gateway:
        first = post(gateway.client, saved(drawn()), {**ASYNC, **ann}).json()["id"]
        assert post(gateway.client, saved(drawn()), {**ASYNC, **bob}).json()["id"] != first  # it waits
        succeed(gateway, first)
        assert post(gateway.client, saved(drawn()), {**ASYNC, **bob}).headers["x-cache"] == "miss"
        again = post(gateway.client, saved(drawn()), {**DOCUMENT, **ann})
        assert (again.headers["x-cache"], again.json()["id"]) == ("hit", first)


def test_the_same_idempotency_key_of_two_clients_is_two_keys(gateways: Gateways, keys: Keys) -> None:
    ann, bob = keys.make("ann"), keys.make("bob")
    with gateways(api_keys=keys.path) as gateway:
        first = post(gateway.client, saved(drawn()), {**ASYNC, **KEY, **ann})
        other = post(gateway.client, saved(drawn(64, 64)), {**ASYNC, **KEY, **bob})
        assert other.status_code == 202
        assert "idempotency-replayed" not in other.headers
        again = post(gateway.client, saved(drawn()), {**ASYNC, **KEY, **ann})
        assert again.headers["idempotency-replayed"] == "true"
        assert again.json()["id"] == first.json()["id"]


def test_a_training_belongs_to_its_client_and_its_style_to_all(gateways: Gateways, keys: Keys) -> None:
    ann, bob = keys.make("ann"), keys.make("bob", Scope.STYLIZE)
    with gateways(api_keys=keys.path) as gateway:
        gateway.client.headers.update(ann)
        job_id = train(gateway.client, saved(drawn()), name="new").json()["id"]
        assert gateway.book.get(job_id).client == "ann"
        assert gateway.client.get(f"/jobs/{job_id}", headers=bob).status_code == 404
        assert gateway.client.get("/styles/tiny", headers=bob).status_code == 200


def test_what_the_name_of_a_style_means_is_not_for_everybody_who_trains(gateways: Gateways, keys: Keys) -> None:
    trains, rules = keys.make("trains", Scope.TRAIN), keys.make("rules", Scope.TRAIN, Scope.ADMIN)
    with gateways(api_keys=keys.path) as gateway:
        gateway.client.headers.update(trains)
        assert code(train(gateway.client, saved(drawn()), name="tiny", replace="true")) == "scope-missing"
        gateway.client.headers.update(rules)
        assert train(gateway.client, saved(drawn()), name="tiny", replace="true").status_code == 202


def test_keys_come_and_go_without_a_restart(gateways: Gateways, keys: Keys) -> None:
    with gateways(api_keys=keys.path) as gateway:
        get = gateway.client.get
        headers = keys.make("one", Scope.STYLIZE)
        assert get("/styles", headers=headers).status_code == 200
        assert code(gateway.client.delete("/styles/tiny", headers=headers)) == "scope-missing"
        keys.path.write_text(keys.path.read_text().replace('"stylize"', '"stylize", "admin"'))
        assert gateway.client.delete("/styles/tiny", headers=headers).status_code == 204
        remove_key(keys.path, "one")
        assert code(get("/styles", headers=headers)) == "unauthorized"


def test_a_file_that_becomes_unusable_changes_nothing_and_is_told_of_once(gateways: Gateways, keys: Keys) -> None:
    one = keys.make("one")
    with gateways(api_keys=keys.path) as gateway, capture_logs() as logs:
        good = keys.path.read_text()
        for change in (lambda: keys.path.write_text("[keys.one\n"), keys.path.unlink):
            logs.clear()
            change()
            for _ in range(2):
                assert gateway.client.get("/styles", headers=one).status_code == 200
                assert gateway.client.get("/styles").status_code == 401
            (line,) = (line for line in logs if line["event"] == "keys stay as they were")
            assert "keys.toml" in line["reason"]
        keys.path.write_text(good)
        two = keys.make("two")
        assert gateway.client.get("/styles", headers=two).status_code == 200


def test_the_python_client_sends_its_key_and_without_one_that_of_the_environment(
    gateways: Gateways, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (keys.make(name)["Authorization"].removeprefix("Bearer ") for name in ("one", "two"))
    with gateways(api_keys=keys.path) as gateway:
        url = str(gateway.client.base_url)
        for key in (None, "", "atl_wrong"):
            with Client(url, key) as client, pytest.raises(ServiceError) as refused:
                client.styles()
            assert refused.value.problem["code"] == "unauthorized"
        with Client(url, one) as client:
            assert [style["name"] for style in client.styles()] == ["tiny"]
        monkeypatch.setenv("ATELIER_API_KEY", two)
        with Client(url) as client:
            assert [style["name"] for style in client.styles()] == ["tiny"]
