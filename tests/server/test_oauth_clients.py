"""The OAuth clients people really use, from npm, against the running platform; and authlib's view of our metadata."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata

from domain.core import ids
from domain.core.settings import settings
from server import oauth
from tests import make
from tests.live import LiveServer
from tests.server import oauth_client
from tests.server.oauth_client import FAPI, PUBLIC, Partner, person, registered, send
from tests.server.test_graphql_clients import packages, pytestmark, run
from tests.server.test_oauth_tokens import allow_itself

__all__ = ["packages", "pytestmark"]

CALLBACK = "https://app.example/npm"


def key_of(app: Partner) -> dict[str, Any]:
    assert app.key is not None
    return dict(app.key.as_dict(private=True))


async def test_npm_clients_complete_every_flow(
    live_server: LiveServer, live_db: None, packages: None
) -> None:
    by = await person(await make.shop(keys=1))
    public = await registered(by, replace(PUBLIC, redirect_uris=(CALLBACK,)))
    finance = await registered(by, replace(FAPI, redirect_uris=(CALLBACK,)))
    await allow_itself(by, finance, "orders:read")

    seen = run(
        "oauth.mjs",
        json.dumps(
            {
                "issuer": live_server.url,
                "redirect": CALLBACK,
                "email": by.email,
                "password": oauth_client.PASSWORD,
                "merchant": ids.encode("mer", by.merchant_id),
                "public": {"id": public.client_id},
                "finance": {"id": finance.client_id, "key": key_of(finance)},
            }
        ),
    )

    assert seen["public"] == {
        "scope": "catalogue:read orders:read",
        "orders": [],
        "rotates": 3,
        "reused": "invalid_grant",
        "family": "invalid_grant",
        "plain": "invalid_request",
        "redirect": 400,
    }
    assert seen["finance"] == {
        "twice": 400,
        "type": "dpop",
        "orders": [],
        "stolen": "OAUTH_WWW_AUTHENTICATE_CHALLENGE",
        "renewed": ["dpop", "same"],
        "active": [True, False],
        "revoked": "invalid_grant",
        "itself": "orders:read",
    }
    assert seen["openid"] == {
        "orders": [],
        "replayed": "invalid_grant",
        "dead": "invalid_grant",
        "active": [True, False],
    }
    assert seen["nonces"] >= 2  # each client is handed its first one by a refusal


async def test_metadata_is_what_rfc_8414_wants(db: None) -> None:
    answer = await send("GET", "/.well-known/oauth-authorization-server")
    found = answer.json
    # authlib wants https everywhere, as production has it.
    secure = json.loads(json.dumps(found).replace("http://127.0.0.1:8000", "https://kami.example"))

    AuthorizationServerMetadata(secure).validate()
    assert found == oauth.metadata(settings())
    assert found["issuer"] == settings().public_url
    assert found["code_challenge_methods_supported"] == ["S256"]
    assert "registration_endpoint" not in found


@pytest.mark.parametrize("path", ["", "/graphql"])
async def test_the_resource_says_who_protects_it(db: None, path: str) -> None:
    found = (await send("GET", f"/.well-known/oauth-protected-resource{path}")).json

    assert found["resource"] == f"{settings().public_url}/graphql"
    assert found["authorization_servers"] == [settings().public_url]


async def test_our_keys_are_public(db: None) -> None:
    (key,) = (await send("GET", "/.well-known/jwks.json")).json["keys"]

    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
