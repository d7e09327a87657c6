"""Clients are told apart: their jobs, their idempotency keys, and what has been made for them."""

import base64
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from atelier.client import Client, ServiceError
from contract.keys import Scope, remove_key
from service.clients import STRANGER, KeyRing
from service.settings import ServiceSettings
from tests.conftest import until
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


def test_clients_are_shown_their_own_jobs_and_admins_all(gateways: Gateways, keys: Keys) -> None:
    ann, bob, admin = keys.make("ann", Scope.STYLIZE), keys.make("bob", Scope.STYLIZE), keys.make("admin", Scope.ADMIN)
    with gateways(api_keys=keys.path) as gateway:
        one, two = (post(gateway.client, saved(drawn()), {**ASYNC, **key}).json()["id"] for key in (ann, bob))
        listed = {
            name: gateway.client.get("/jobs", headers=headers).json()
            for name, headers in (("ann", ann), ("bob", bob), ("admin", admin))
        }
        assert {name: [(job["id"], job["client"]) for job in found["jobs"]] for name, found in listed.items()} == {
            "ann": [(one, "ann")],
            "bob": [(two, "bob")],
            "admin": [(one, "ann"), (two, "bob")],
        }
        assert [found["total"] for found in listed.values()] == [1, 1, 2]


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


def sent(headers: dict[str, str]) -> str:
    """The key itself."""
    return headers["Authorization"].removeprefix("Bearer ")


@contextmanager
def no_file_can_be_opened() -> Iterator[None]:
    """As in a process that has as many open as it may: no mode keeps a root from reading."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_file_that_could_not_be_read_for_a_while_is_read_though_nothing_has_changed_in_it(
    keys: Keys, tmp_path: Path
) -> None:
    secrets = {"one": sent(keys.make("one"))}
    ring = KeyRing(ServiceSettings(data=tmp_path, api_keys=keys.path))
    with capture_logs() as logs:
        for gone, here in (("one", "two"), ("two", "three")):
            secret = secrets[gone]
            secrets[here] = sent(keys.make(here))
            remove_key(keys.path, gone)
            with no_file_can_be_opened():
                assert [ring.client(secret).name for _ in range(3)] == [gone] * 3
            assert ring.client(secret) is STRANGER
            assert ring.client(secrets[here]).name == here
    assert [line["event"] for line in logs] == ["keys stay as they were", "keys read again"] * 2


def test_a_text_of_the_same_length_and_time_is_another_text(keys: Keys, tmp_path: Path) -> None:
    """As of a file that is copied over this one together with its times."""
    one, two = (sent(keys.make(name)) for name in ("one", "two"))
    ring = KeyRing(ServiceSettings(data=tmp_path, api_keys=keys.path))
    found = keys.path.stat()

    def written() -> bool:
        keys.path.write_text(keys.path.read_text().replace("[keys.one]", "[keys.her]"))
        os.utime(keys.path, ns=(found.st_atime_ns, found.st_mtime_ns))
        return keys.path.stat().st_ctime_ns != found.st_ctime_ns

    until(written, what="the clock of the file system to tick")
    assert (found.st_ino, found.st_size) == (keys.path.stat().st_ino, keys.path.stat().st_size)
    assert [ring.client(key).name for key in (one, two)] == ["her", "two"]


def test_the_python_client_sends_its_key_and_without_one_that_of_the_environment(
    gateways: Gateways, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (sent(keys.make(name)) for name in ("one", "two"))
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
