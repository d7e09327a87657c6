"""A service is not open by accident, and no web page of somebody else drives it."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from contract.errors import SettingsError
from service.app import create_app
from service.exposure import is_loopback, is_only_this_machine
from service.settings import ServiceSettings
from tests.conftest import free_port, until
from tests.service.conftest import Gateways, Keys, LoneGateway, code

EVIL = "http://evil.example"


def host(gateway: LoneGateway, name: str, path: str = "/styles") -> int:
    return gateway.client.get(path, headers={"Host": name}).status_code


@pytest.mark.parametrize(
    ("name", "only_here"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("unheard-of.invalid", False),
        ("", False),
        ("x" * 300, False),
    ],
)
def test_what_leads_to_this_machine_only(name: str, only_here: bool) -> None:
    assert is_only_this_machine(name) == only_here


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("", True),
        ("10.0.0.1", False),
        ("::ffff:8.8.8.8", False),
        ("localhost.evil.example", False),
        ("0.0.0.0", False),
    ],
)
def test_this_machine_is_known_by_its_address(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    "values",
    [
        {"host": "0.0.0.0"},
        {"host": "::"},
        {"host": "192.0.2.1"},
        {"bind": "0.0.0.0"},
        {"host": "0.0.0.0", "bind": "[::]"},
    ],
)
def test_others_are_let_in_with_keys_or_when_that_is_said(values: dict[str, str], keys: Keys) -> None:
    with pytest.raises(SettingsError, match="ATELIER_ALLOW_ANONYMOUS"):
        create_app(ServiceSettings(**values))  # type: ignore[arg-type]
    create_app(ServiceSettings(**values, api_keys=keys.path))  # type: ignore[arg-type]
    create_app(ServiceSettings(**values, allow_anonymous=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("bind", ["127.0.0.1", "[::1]", "localhost"])
def test_a_container_listens_on_all_its_addresses_and_is_reached_on_that_of_the_host(bind: str) -> None:
    create_app(ServiceSettings(host="0.0.0.0", bind=bind))


def gateway_process(folder: Path, redis_url: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "service.app"],
        env={**os.environ, "ATELIER_DATA": str(folder), "ATELIER_REDIS_URL": redis_url, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_gateway_that_would_be_open_to_all_does_not_start_and_with_keys_it_does(
    tmp_path: Path, redis_url: str, keys: Keys
) -> None:
    headers = keys.make("one")
    port = free_port()
    everywhere = {"ATELIER_HOST": "0.0.0.0", "ATELIER_PORT": str(port)}
    builtin = str(tmp_path / "no-builtin-styles")
    open_to_all = gateway_process(tmp_path, redis_url, **everywhere)
    with_keys = gateway_process(
        tmp_path, redis_url, **everywhere, ATELIER_API_KEYS=str(keys.path), ATELIER_BUILTIN_STYLES=builtin
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _, said = open_to_all.communicate(timeout=60)
        assert open_to_all.returncode == 1
        assert "gateway cannot start" in said
        assert "atelier keys create" in said
        assert "Traceback" not in said
        until(lambda: answers(f"{url}/livez"), 60, "the gateway")
        assert httpx.get(f"{url}/styles").status_code == 401
        assert httpx.get(f"{url}/styles", headers={**headers, "Host": "stylize.example"}).status_code == 200
    finally:
        with_keys.terminate()
        with_keys.communicate(timeout=60)


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST:80", "127.0.0.1:9999", "[::1]", "[::1]:8000", "localhost."])
def test_a_service_on_this_machine_is_asked_for_by_its_names(gateway: LoneGateway, name: str) -> None:
    assert host(gateway, name) == 200


@pytest.mark.parametrize("name", ["evil.example", "evil.example:8000", "0.0.0.0", "localhost.evil.example", "[", "a@b"])
def test_a_name_that_was_made_to_lead_here_is_refused(gateway: LoneGateway, name: str) -> None:
    for path in ("/styles", "/metrics", "/docs", "/nothing"):
        refused = gateway.client.get(path, headers={"Host": name})
        assert (refused.status_code, code(refused)) == (421, "host-not-allowed")
    assert host(gateway, name, "/livez") == 200
    assert host(gateway, name, "/readyz") == 503  # there is no worker


def test_further_names_may_be_allowed(gateways: Gateways, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another container asks: http://gateway:8000."""
    monkeypatch.setenv("ATELIER_ALLOWED_HOSTS", "gateway, Stylize.example:443")
    with gateways() as gateway:
        assert [host(gateway, name) for name in ("gateway:8000", "stylize.example", "localhost")] == [200] * 3
        assert host(gateway, "other:8000") == 421


def test_public_figures_are_asked_for_by_any_name(gateways: Gateways) -> None:
    """Prometheus asks for the address that it has found."""
    with gateways(metrics_public=True) as gateway:
        assert host(gateway, "172.18.0.3:8000", "/metrics") == 200
        assert host(gateway, "172.18.0.3:8000") == 421


def test_a_public_service_is_asked_for_by_any_name_unless_names_are_set(gateways: Gateways, keys: Keys) -> None:
    headers = keys.make("one")
    for allowed, status in (((), 200), (("stylize.example",), 421)):
        with gateways(bind="0.0.0.0", api_keys=keys.path, allowed_hosts=allowed) as gateway:
            asked = {**headers, "Host": "other.example"}
            assert gateway.client.get("/styles", headers=asked).status_code == status
            asked = {**headers, "Host": "stylize.example"}
            assert gateway.client.get("/styles", headers=asked).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},  # another service of this machine
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:8000"},
    ],
)
def test_a_page_of_another_site_changes_nothing(gateway: LoneGateway, headers: dict[str, str]) -> None:
    sent = {"Host": "localhost:8000", **headers}
    for method, path in (("POST", "/stylize"), ("POST", "/styles"), ("DELETE", "/styles/tiny"), ("PUT", "/livez")):
        refused = gateway.client.request(method, path, headers=sent)
        assert (refused.status_code, code(refused)) == (403, "cross-site")
    assert gateway.client.get("/styles", headers=sent).status_code == 200  # which the page cannot read


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost:8000"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://localhost:8000"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_programs_and_its_own_pages_may_change_things(gateway: LoneGateway, headers: dict[str, str]) -> None:
    sent = {"Host": "localhost:8000", **headers}
    assert gateway.client.delete("/styles/tiny", headers=sent).status_code == 204
