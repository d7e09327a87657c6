"""The model store: what there is, what it looks like, which version counts, and what is deleted."""

import hashlib
from typing import Any

import httpx
import pytest

from contract.styles import StylePicture, StyleSource, StyleStatus
from tests.service.conftest import (
    Gateways,
    Keys,
    LoneGateway,
    accepted,
    code,
    drawn,
    parameters,
    post,
    publish_bank,
    saved,
)

PICTURES = {StylePicture.THUMBNAIL: saved(drawn(32, 32), "JPEG"), StylePicture.SHEET: saved(drawn(96, 64), "JPEG")}
DRAFT: dict[str, Any] = {"status": StyleStatus.DRAFT, "reason": "It hardly looks like itself."}


def activate(client: httpx.Client, name: str, version: object) -> httpx.Response:
    return client.put(f"/styles/{name}/active", json={"version": version})


def names(styles: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(style["name"], style["version"]) for style in styles]


# --- What there is -------------------------------------------------------------------------------------------------


def test_styles_are_listed_by_name_and_drafts_apart(gateway: LoneGateway) -> None:
    publish_bank(gateway.styles, "zebra", "ant")
    publish_bank(gateway.styles, "zebra", **DRAFT)
    publish_bank(gateway.styles, "sketch", **DRAFT)
    publish_bank(gateway.styles, "sketch", seed=6, **DRAFT)
    listed = gateway.client.get("/styles").json()
    assert names(listed["styles"]) == [("ant", 1), ("tiny", 1), ("zebra", 1)]
    assert names(listed["drafts"]) == [("sketch", 2), ("zebra", 2)]
    assert listed["drafts"][0]["reason"] == DRAFT["reason"]


def test_a_style_that_is_listed_says_where_it_and_its_pictures_are(gateway: LoneGateway) -> None:
    publish_bank(gateway.styles, "seen", pictures=PICTURES)
    publish_bank(gateway.styles, "half", pictures={StylePicture.SHEET: PICTURES[StylePicture.SHEET]})
    half, seen, tiny = (style["urls"] for style in gateway.client.get("/styles").json()["styles"])
    assert tiny == {"self": "/styles/tiny@1", "thumbnail": None, "sheet": None}
    assert half == {"self": "/styles/half@1", "thumbnail": None, "sheet": "/styles/half@1/sheet"}
    assert gateway.client.get(seen["self"]).json()["urls"] == seen
    assert gateway.client.get(seen["thumbnail"]).content == PICTURES[StylePicture.THUMBNAIL]
    assert gateway.client.get(seen["sheet"]).content == PICTURES[StylePicture.SHEET]


def test_a_style_may_be_asked_for_with_and_without_its_version(gateway: LoneGateway) -> None:
    publish_bank(gateway.styles, "tiny", **DRAFT)
    style = gateway.client.get("/styles/tiny").json()
    assert (style["version"], style["versions"], style["active"]) == (1, [1, 2], 1)
    assert gateway.client.get("/styles/tiny@1").json() == style
    draft = gateway.client.get("/styles/tiny@2").json()
    assert (draft["version"], draft["versions"], draft["active"], draft["status"]) == (2, [1, 2], 1, "draft")


def test_a_draft_of_a_style_without_an_active_version_is_found_by_its_number(gateway: LoneGateway) -> None:
    publish_bank(gateway.styles, "sketch", **DRAFT)
    response = gateway.client.get("/styles/sketch")
    assert response.status_code == 404
    assert code(response) == "style-not-found"
    assert "there is sketch@1" in response.json()["detail"]
    draft = gateway.client.get("/styles/sketch@1").json()
    assert (draft["versions"], draft["active"]) == ([1], None)
    assert post(gateway.client, saved(drawn()), {"Prefer": "respond-async"}, style="sketch@1").status_code == 202


@pytest.mark.parametrize("name", ["nobody", "tiny@2"])
def test_what_is_unknown_has_no_page(gateway: LoneGateway, name: str) -> None:
    client = gateway.client
    answers = [client.get(f"/styles/{name}{more}") for more in ("", "/thumbnail", "/sheet")]
    for response in [*answers, client.delete(f"/styles/{name}")]:
        assert response.status_code == 404
        assert code(response) == "style-not-found"


@pytest.mark.parametrize("name", ["No such", "tiny@", "tiny@0", "tiny@1@1", "%2e%2e", "%2e", "a" * 65, "gr%C3%BCn"])
def test_the_name_of_a_style_must_be_one(client: httpx.Client, name: str) -> None:
    answers = [client.get(f"/styles/{name}{more}") for more in ("", "/thumbnail", "/sheet")]
    for response in [*answers, client.delete(f"/styles/{name}"), activate(client, name, 1)]:
        assert parameters(response) == ["style"]


# --- Its pictures --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", StylePicture)
def test_the_pictures_of_a_version_never_change_and_those_of_a_name_may(
    gateway: LoneGateway, kind: StylePicture
) -> None:
    publish_bank(gateway.styles, "seen", pictures=PICTURES)
    of_version = gateway.client.get(f"/styles/seen@1/{kind}")
    of_name = gateway.client.get(f"/styles/seen/{kind}")
    assert of_version.content == of_name.content == PICTURES[kind]
    assert of_version.headers["content-type"] == of_name.headers["content-type"] == "image/jpeg"
    assert of_version.headers["etag"] == of_name.headers["etag"] == f'"{hashlib.sha256(PICTURES[kind]).hexdigest()}"'
    assert of_version.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert of_name.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("kind", StylePicture)
def test_a_picture_that_needs_a_key_is_kept_by_no_cache_that_others_share(
    gateways: Gateways, keys: Keys, kind: StylePicture
) -> None:
    one = keys.make("one")
    with gateways(api_keys=keys.path) as gateway:
        publish_bank(gateway.styles, "seen", pictures=PICTURES)
        address = f"/styles/seen@1/{kind}"
        assert gateway.client.get(address).status_code == 401
        first = gateway.client.get(address, headers=one)
        again = gateway.client.get(address, headers={**one, "If-None-Match": first.headers["etag"]})
        assert (first.status_code, again.status_code) == (200, 304)
        for response in (first, again):
            assert response.headers["cache-control"] == "private, max-age=31536000, immutable"


def test_a_picture_of_a_style_is_not_sent_again_to_who_has_it(gateway: LoneGateway) -> None:
    publish_bank(gateway.styles, "seen", pictures=PICTURES)
    tag = gateway.client.get("/styles/seen/sheet").headers["etag"]
    again = gateway.client.get("/styles/seen/sheet", headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    publish_bank(gateway.styles, "seen", pictures={StylePicture.SHEET: saved(drawn(64, 96), "JPEG")})
    changed = gateway.client.get("/styles/seen/sheet", headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


def test_a_style_without_pictures_says_so(gateway: LoneGateway) -> None:
    for name in ("tiny", "tiny@1"):
        response = gateway.client.get(f"/styles/{name}/thumbnail")
        assert response.status_code == 404
        assert code(response) == "style-picture-not-found"


# --- Which version counts ------------------------------------------------------------------------------------------


def test_another_version_can_be_made_the_active_one_and_back(gateway: LoneGateway) -> None:
    publish_bank(gateway.styles, "tiny")
    assert gateway.client.get("/styles/tiny").json()["version"] == 2
    style = activate(gateway.client, "tiny", 1).json()
    assert (style["version"], style["versions"], style["active"]) == (1, [1, 2], 1)
    assert gateway.client.get("/styles/tiny").json() == style
    assert gateway.client.get(f"/jobs/{accepted(gateway)}").json()["style"] == "tiny@1"
    assert activate(gateway.client, "tiny", 2).json()["active"] == 2


def test_a_draft_becomes_active_when_somebody_wants_it(gateway: LoneGateway) -> None:
    publish_bank(gateway.styles, "sketch", **DRAFT)
    style = activate(gateway.client, "sketch", 1).json()
    assert (style["name"], style["active"], style["status"]) == ("sketch", 1, "draft")
    listed = gateway.client.get("/styles").json()
    assert ("sketch", 1) in names(listed["styles"])
    assert listed["drafts"] == []


@pytest.mark.parametrize(("name", "version"), [("nobody", 1), ("tiny", 2), ("tiny", 999_999_999)])
def test_a_version_that_is_not_there_cannot_be_activated(gateway: LoneGateway, name: str, version: int) -> None:
    response = activate(gateway.client, name, version)
    assert response.status_code == 404
    assert code(response) == "style-not-found"
    assert gateway.client.get("/styles/tiny").json()["active"] == 1


@pytest.mark.parametrize("version", [0, -1, 1.5, 10**9, "two", None])
def test_a_version_is_a_number(client: httpx.Client, version: object) -> None:
    assert parameters(activate(client, "tiny", version)) == ["version"]


def test_the_version_to_activate_does_not_stand_in_the_address(client: httpx.Client) -> None:
    response = activate(client, "tiny@1", 1)
    assert (response.status_code, code(response)) == (404, "style-not-found")
    assert "/styles/tiny/active" in response.json()["detail"]


@pytest.mark.parametrize(
    ("content_type", "body", "status", "problem"),
    [
        ("application/json", b"{", 400, "malformed-body"),
        ("application/json", b"[" * 100_000, 400, "malformed-body"),
        ("application/json", b"", 400, "malformed-body"),
        ("application/json", b"[]", 422, "invalid-parameter"),
        ("application/json", b"{}", 422, "invalid-parameter"),
        ("application/json", b'{"version": 1, "name": "tiny"}', 422, "invalid-parameter"),
        ("application/x-www-form-urlencoded", b'{"version": 1}', 415, "unsupported-body"),
    ],
)
def test_a_body_that_names_no_version_is_refused(
    client: httpx.Client, content_type: str, body: bytes, status: int, problem: str
) -> None:
    response = client.put("/styles/tiny/active", content=body, headers={"Content-Type": content_type})
    assert response.status_code == status
    assert code(response) == problem


# --- What is deleted -----------------------------------------------------------------------------------------------


def test_a_version_that_is_not_active_can_be_deleted(gateway: LoneGateway) -> None:
    publish_bank(gateway.styles, "tiny")
    response = gateway.client.delete("/styles/tiny@1")
    assert (response.status_code, response.content) == (204, b"")
    assert gateway.client.get("/styles/tiny").json()["versions"] == [2]
    assert gateway.client.get("/styles/tiny@1").status_code == 404
    assert gateway.client.delete("/styles/tiny@1").status_code == 404


def test_the_active_version_cannot_be_deleted(gateway: LoneGateway) -> None:
    response = gateway.client.delete("/styles/tiny@1")
    assert response.status_code == 409
    assert code(response) == "style-active"
    assert gateway.client.get("/styles/tiny").status_code == 200


def test_a_style_can_be_deleted_with_all_its_versions(gateway: LoneGateway) -> None:
    publish_bank(gateway.styles, "tiny")
    publish_bank(gateway.styles, "tiny", seed=6, **DRAFT)
    assert gateway.client.delete("/styles/tiny").status_code == 204
    assert gateway.client.get("/styles").json() == {"styles": [], "drafts": []}
    assert gateway.client.get("/styles/tiny").status_code == 404
    assert gateway.client.delete("/styles/tiny").status_code == 404


def test_a_style_of_drafts_only_can_be_deleted(gateway: LoneGateway) -> None:
    publish_bank(gateway.styles, "sketch", **DRAFT)
    assert gateway.client.delete("/styles/sketch").status_code == 204
    assert gateway.client.get("/styles").json()["drafts"] == []


def test_what_ships_with_atelier_stays(gateway: LoneGateway) -> None:
    publish_bank(gateway.styles, "shipped", source=StyleSource.BUILTIN)
    publish_bank(gateway.styles, "shipped", seed=6)
    for style in ("shipped", "shipped@1"):
        response = gateway.client.delete(f"/styles/{style}")
        assert response.status_code == 409
        assert code(response) == "style-builtin"
    assert gateway.client.get("/styles/shipped").json()["versions"] == [1, 2]
