"""Who may do what: with no key, with a key of each scope, with a key that is gone."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract.errors import SettingsError
from contract.keys import Scope
from service.access import COUNTED, NEEDS
from service.app import create_app
from service.settings import ServiceSettings
from tests.service.conftest import (
    ASYNC,
    Gateways,
    Keys,
    LoneGateway,
    code,
    drawn,
    openapi,
    picture_field,
    post,
    saved,
    text_field,
)

STYLIZE, TRAIN, ADMIN = Scope.STYLIZE, Scope.TRAIN, Scope.ADMIN


def operations(description: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    }


def asked(gateway: LoneGateway, operation: str, headers: dict[str, str]) -> httpx.Response:
    """The plainest request to an address, for things that there are not."""
    method, template = operation.split(" ")
    path = re.sub(r"{\w+}", "1", template)
    return gateway.client.request(method, path, headers=headers)


def test_every_address_says_what_it_needs_and_nothing_else_does() -> None:
    assert set(operations(openapi())) == set(NEEDS)
    assert set(NEEDS) > COUNTED


def test_without_a_valid_key_only_what_needs_none_is_answered(gateways: Gateways, keys: Keys) -> None:
    keys.make("somebody")
    with gateways(api_keys=keys.path) as gateway:
        for operation, need in NEEDS.items():
            for headers in ({}, {"Authorization": "Bearer atl_wrong"}, {"Authorization": "Basic eDp5"}):
                response = asked(gateway, operation, headers)
                if need == "nothing":
                    assert response.status_code in (200, 503), operation  # /readyz knows no worker
                else:
                    assert (response.status_code, code(response)) == (401, "unauthorized"), operation
                    assert response.headers["www-authenticate"] == "Bearer"
        assert gateway.client.get("/docs").status_code == 200


def test_a_key_opens_what_its_scope_is_for_and_what_needs_any(gateways: Gateways, keys: Keys) -> None:
    headers = {scope: keys.make(scope.value, scope) for scope in Scope}
    with gateways(api_keys=keys.path) as gateway:
        for operation, need in NEEDS.items():
            for scope in Scope:
                response = asked(gateway, operation, headers[scope])
                if isinstance(need, Scope) and need is not scope:
                    assert (response.status_code, code(response)) == (403, "scope-missing"), operation
                    assert need.value in response.json()["detail"]
                else:
                    assert response.status_code != 401, operation
                    assert response.status_code != 403 or code(response) == "switched-off", operation


def test_a_key_may_come_in_either_header(gateways: Gateways, keys: Keys) -> None:
    secret = keys.make("one")["Authorization"].removeprefix("Bearer ")
    with gateways(api_keys=keys.path) as gateway:
        for headers in (
            {"X-API-Key": secret},
            {"Authorization": f"bearer  {secret}"},
            {"Authorization": "Basic eDp5", "X-API-Key": secret},  # a proxy has a password of its own
        ):
            assert gateway.client.get("/styles", headers=headers).status_code == 200
        assert gateway.client.get("/styles", headers={"Authorization": f"Basic {secret}"}).status_code == 401


def test_a_key_is_asked_for_before_the_body_is_read_or_anything_is_looked_at(gateways: Gateways, keys: Keys) -> None:
    with gateways(api_keys=keys.path, max_uploads=1) as gateway:
        assert code(post(gateway.client, b"no picture", style="unheard-of", size=-1)) == "unauthorized"
        assert gateway.uploads.taken == 0


def test_metrics_are_for_this_machine_and_for_keys_of_admins(gateways: Gateways, keys: Keys) -> None:
    """The peer is another one through the header that a proxy on this machine sends."""
    admin, other = keys.make("admin", ADMIN), keys.make("other", STYLIZE, TRAIN)
    elsewhere = {"X-Forwarded-For": "192.0.2.1"}
    with gateways(api_keys=keys.path) as gateway:
        get = gateway.client.get
        assert get("/metrics").status_code == 200
        assert get("/metrics", headers={**elsewhere, **admin}).status_code == 200
        for headers in (elsewhere, {**elsewhere, **other}):
            assert code(get("/metrics", headers=headers)) == "forbidden"
    with gateways() as gateway:
        assert code(gateway.client.get("/metrics", headers=elsewhere)) == "forbidden"


def test_without_keys_nobody_needs_one(gateway: LoneGateway) -> None:
    assert gateway.client.get("/styles", headers={"Authorization": "Bearer atl_whatever"}).status_code == 200
    assert gateway.client.delete("/styles/tiny").status_code == 204


def test_the_description_tells_which_key_every_address_needs(keys: Keys) -> None:
    with_keys = create_app(ServiceSettings(api_keys=keys.path)).openapi()
    assert set(with_keys["components"]["securitySchemes"]) == {"bearer", "header"}
    for operation, described in operations(with_keys).items():
        need, security = NEEDS[operation], described["security"]
        scopes = [need.value] if isinstance(need, Scope) else []
        assert security == ([] if need == "nothing" else [{"bearer": scopes}, {"header": scopes}])
        assert ("401" in described["responses"]) == (need != "nothing")
        assert ("`scope-missing`" in str(described["responses"])) == isinstance(need, Scope)
        assert ("`quota-exceeded`" in str(described["responses"])) == (operation in COUNTED)
    for operation, described in operations(openapi()).items():
        assert ({} in described["security"]) == (NEEDS[operation] != "nothing")


def test_a_training_needs_another_scope_than_a_picture(gateways: Gateways, keys: Keys) -> None:
    stylizes, trains = keys.make("stylizes", STYLIZE), keys.make("trains", TRAIN)
    fields = [picture_field(saved(drawn())), text_field("name", "new")]
    with gateways(api_keys=keys.path) as gateway:
        assert post(gateway.client, saved(drawn()), {**ASYNC, **stylizes}).status_code == 202
        assert code(gateway.client.post("/styles", files=fields, headers=stylizes)) == "scope-missing"
        assert gateway.client.post("/styles", files=fields, headers=trains).status_code == 202
        assert code(post(gateway.client, saved(drawn()), {**ASYNC, **trains})) == "scope-missing"


def test_a_gateway_whose_keys_cannot_be_read_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("[keys.one\n")
    for name, reason in (("none.toml", "no such file"), ("broken.toml", "line 1")):
        with pytest.raises(SettingsError, match=f"{name}.*{reason}"):
            create_app(ServiceSettings(api_keys=tmp_path / name))
