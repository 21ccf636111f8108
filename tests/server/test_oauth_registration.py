"""Apps that register themselves (RFC 7591, 7592), where the operator allows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from domain import partners
from domain.core import db as core
from domain.core.settings import settings
from server import oauth_limits
from server.graphql.limits import LocalBuckets, Size
from tests import make
from tests.server import oauth_client
from tests.server.oauth_client import Answer, Partner, person, send

GOOD: dict[str, Any] = {
    "client_name": "Till",
    "redirect_uris": [oauth_client.CALLBACK],
    "scope": "orders:read",
    "token_endpoint_auth_method": "none",
}


@pytest.fixture(autouse=True)
def allowed(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The operator's word, and nobody's calls counted yet."""
    monkeypatch.setenv("KAMI_APP_REGISTRATION", "true")
    monkeypatch.setattr(oauth_limits.registrations, "_made", LocalBuckets(Size(10, 1 / 60)))
    settings.cache_clear()
    oauth_client.served.cache_clear()
    yield
    oauth_client.served.cache_clear()


async def call(method: str, path: str, body: Any = None, token: str | None = None) -> Answer:
    headers = {"content-type": "application/json"}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    return await send(method, path, b"" if body is None else orjson.dumps(body), headers)


async def test_an_app_registers_itself_and_is_used_like_any_other() -> None:
    made = await call("POST", "/oauth/register", GOOD)
    told = made.json
    by = await person(await make.shop(keys=1))
    found = await partners.app(told["client_id"])
    assert found is not None
    app = Partner(found.id, told["client_id"], found.manifest)

    answer = await app.of_code(await by.code(app.asking()))

    assert made.status == 201
    assert told["grant_types"] == ["authorization_code", "refresh_token"]
    assert "client_secret" not in told
    assert answer.json["scope"] == "orders:read"
    metadata = (await send("GET", "/.well-known/oauth-authorization-server")).json
    assert metadata["registration_endpoint"] == f"{settings().public_url}/oauth/register"


async def test_it_is_managed_by_its_token_alone() -> None:
    told = (
        await call(
            "POST", "/oauth/register", {**GOOD, "token_endpoint_auth_method": "client_secret_basic"}
        )
    ).json
    other = (await call("POST", "/oauth/register", GOOD)).json
    path, token = f"/oauth/register/{told['client_id']}", told["registration_access_token"]

    read = await call("GET", path, token=token)
    foreign = await call("GET", path, token=other["registration_access_token"])
    nobody = await call("DELETE", path)
    changed = {**GOOD, "client_id": told["client_id"], "client_name": "Tills"}
    method = await call("PUT", path, changed, token)
    renamed = await call(
        "PUT", path, {**changed, "token_endpoint_auth_method": "client_secret_basic"}, token
    )
    gone = await call("DELETE", path, token=token)
    late = await call("GET", path, token=token)

    assert told["client_secret"].startswith("kami_k_")
    assert (read.status, read.json["client_name"]) == (200, "Till")
    assert "client_secret" not in read.json
    assert (foreign.status, nobody.status) == (401, 401)
    assert (method.status, method.json["error"]) == (400, "invalid_client_metadata")
    assert (renamed.status, renamed.json["client_name"]) == (200, "Tills")
    assert (gone.status, late.status) == (204, 401)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"redirect_uris": ["http://app.example/cb"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["https://app.example/cb#x"]}, "invalid_redirect_uri"),
        ({"redirect_uris": []}, "invalid_redirect_uri"),
        ({"redirect_uris": "https://app.example/cb"}, "invalid_client_metadata"),
        ({"scope": "refunds:write"}, "invalid_client_metadata"),
        ({"scope": "everything"}, "invalid_client_metadata"),
        ({"grant_types": ["client_credentials"]}, "invalid_client_metadata"),
        ({"grant_types": ["password"]}, "invalid_client_metadata"),
        ({"response_types": ["token"]}, "invalid_client_metadata"),
        ({"token_endpoint_auth_method": "client_secret_post"}, "invalid_client_metadata"),
        ({"token_endpoint_auth_method": "private_key_jwt"}, "invalid_client_metadata"),
        ({"jwks_uri": "https://app.example/keys"}, "invalid_client_metadata"),
        ({"jwks": {"keys": []}}, "invalid_client_metadata"),
        ({"client_name": 7}, "invalid_client_metadata"),
        ({"client_name": "a\u202eb"}, "invalid_client_metadata"),
        ({"client_uri": "javascript:alert(1)"}, "invalid_client_metadata"),
    ],
)
async def test_what_is_not_served_is_refused(changed: dict[str, Any], error: str) -> None:
    refused = await call("POST", "/oauth/register", {**GOOD, **changed})

    assert (refused.status, refused.json["error"]) == (400, error)
    assert await core.value("SELECT count(*) FROM partner_app") == 0


async def test_one_address_registers_a_few_and_then_waits() -> None:
    answers = [await call("POST", "/oauth/register", GOOD) for _ in range(11)]

    assert [one.status for one in answers] == [201] * 10 + [429]


async def test_where_the_operator_does_not_allow_it_there_is_no_such_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("KAMI_APP_REGISTRATION")
    settings.cache_clear()
    oauth_client.served.cache_clear()

    assert (await call("POST", "/oauth/register", GOOD)).status == 404
    assert await core.value("SELECT count(*) FROM partner_app") == 0
