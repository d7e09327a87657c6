"""The page that shows the interface: what it loads, and what it may do."""

import base64
import hashlib
import re

import httpx
import pytest

from tests.service.conftest import LoneGateway, code


def policy(response: httpx.Response) -> dict[str, list[str]]:
    """The sources of each directive."""
    directives = (directive.split() for directive in response.headers["content-security-policy"].split("; "))
    return {name: sources for name, *sources in directives}


@pytest.fixture
def page(gateway: LoneGateway) -> httpx.Response:
    response = gateway.client.get("/docs")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    return response


def test_what_comes_from_elsewhere_is_one_version_and_held_against_its_hash(page: httpx.Response) -> None:
    tags = re.findall(r'<(?:script|link)[^>]+"https:[^>]+>', page.text)
    assert len(tags) == page.text.count("https:") == 2
    for tag in tags:
        assert re.search(r'"https://cdn\.jsdelivr\.net/npm/swagger-ui-dist@\d+\.\d+\.\d+/swagger-ui[a-z.-]+"', tag)
        assert re.search(r'integrity="sha384-[A-Za-z0-9+/]{64}" crossorigin="anonymous"', tag)


def test_the_page_runs_its_own_scripts_and_calls_the_service_only(page: httpx.Response) -> None:
    allowed = policy(page)
    (own,) = re.findall("<script>(.+)</script>", page.text, re.DOTALL)
    (other,) = re.findall('<script src="([^"]+)"', page.text)
    own_hash = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
    assert allowed["script-src"] == [other, f"'sha256-{own_hash}'"]
    assert allowed["style-src"] == [*re.findall('rel="stylesheet" href="([^"]+)"', page.text), "'unsafe-inline'"]
    assert allowed["default-src"] == allowed["base-uri"] == allowed["frame-ancestors"] == ["'none'"]
    assert allowed["connect-src"] == ["'self'"]


def test_the_page_finds_the_description_beside_it(page: httpx.Response, gateway: LoneGateway) -> None:
    (address,) = re.findall('url: "([^"]+)"', page.text)
    assert gateway.client.get(str(page.url.join(address))).json()["info"]["title"] == "Atelier"


def test_there_is_no_other_page_that_loads_scripts_from_elsewhere(gateway: LoneGateway) -> None:
    for path in ("/redoc", "/docs/oauth2-redirect"):
        assert code(gateway.client.get(path)) == "not-found"
