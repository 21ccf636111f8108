"""Keys: DPoP proofs, client assertions, and everything a message could try to have believed (H19, H22)."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from domain import partners
from domain.core import clock, ids
from domain.core import db as core
from tests import make
from tests.server.oauth_client import (
    FAPI,
    SECRET,
    Answer,
    Browser,
    Partner,
    graphql,
    person,
    post,
    registered,
)
from tests.server.test_oauth_codes import ORDERS
from tests.server.test_oauth_tokens import allow_itself, tokens


@pytest.fixture
async def bound(db: None) -> tuple[Browser, Partner, str]:
    """A person, an app of the finance tier, and a bound token of it."""
    by = await person(await make.shop(keys=1))
    app = await registered(by, FAPI)
    told = await tokens(by, app, scope="orders:read")
    return by, app, told["access_token"]


async def ask(by: Browser, token: str, proof: str | None, scheme: str = "DPoP") -> Answer:
    variables = {"id": ids.encode("mer", by.merchant_id)}
    return await graphql(ORDERS, token, scheme=scheme, proof=proof, variables=variables)


async def test_h19_a_bound_token_reads_with_a_proof_and_each_proof_once(
    bound: tuple[Browser, Partner, str],
) -> None:
    by, app, token = bound
    proof = app.proof("POST", "/graphql", token=token)

    first, again = await ask(by, token, proof), await ask(by, token, proof)

    assert first.json["data"]["orders"]["nodes"] == []
    assert again.status == 401
    assert 'error="invalid_dpop_proof"' in again.headers["www-authenticate"]
    assert "data" not in again.json


async def test_h19_without_our_nonce_the_answer_brings_one(
    bound: tuple[Browser, Partner, str],
) -> None:
    by, app, token = bound

    bare = await ask(by, token, app.proof("POST", "/graphql", token=token, nonce=None))
    stale = await ask(by, token, app.proof("POST", "/graphql", token=token, nonce="old"))
    nonce = bare.headers["dpop-nonce"]
    good = await ask(by, token, app.proof("POST", "/graphql", token=token, nonce=nonce))

    for one in (bare, stale):
        assert one.status == 401
        assert 'error="use_dpop_nonce"' in one.headers["www-authenticate"]
        assert one.json["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert good.status == 200
    assert good.json["data"]["orders"]["nodes"] == []


@pytest.mark.parametrize(
    "make_proof",
    [
        lambda app, token: None,
        lambda app, token: app.proof("GET", "/graphql", token=token),
        lambda app, token: app.proof("POST", "/graphql/stream", token=token),
        lambda app, token: app.proof(
            "POST", "/graphql", token=token, htu="https://evil.test/graphql"
        ),
        lambda app, token: app.proof("POST", "/graphql"),
        lambda app, token: app.proof("POST", "/graphql", token=token + "x"),
        lambda app, token: app.proof("POST", "/graphql", token=token, iat=None),
        lambda app, token: app.proof(
            "POST", "/graphql", token=token, iat=int(clock.now().timestamp()) - 61
        ),
        lambda app, token: app.proof(
            "POST", "/graphql", token=token, iat=int(clock.now().timestamp()) + 61
        ),
        lambda app, token: app.proof("POST", "/graphql", token=token, jti=None),
        lambda app, token: app.proof("POST", "/graphql", token=token, jti="x" * 129),
        lambda app, token: app.proof("POST", "/graphql", token=token, header={"typ": "JWT"}),
        lambda app, token: app.proof(
            "POST", "/graphql", token=token, header={"jku": "https://evil.test"}
        ),
        lambda app, token: app.proof("POST", "/graphql", token=token, header={"kid": "k1"}),
        lambda app, token: app.proof(
            "POST", "/graphql", token=token, header={"jwk": app.proof_key.as_dict(private=True)}
        ),
        lambda app, token: thief(app).proof("POST", "/graphql", token=token),
        lambda app, token: "a.b.c",
        lambda app, token: "." * 5_000,
    ],
)
async def test_h19_a_stolen_token_without_its_key_opens_nothing(
    bound: tuple[Browser, Partner, str], make_proof: Callable[[Partner, str], str | None]
) -> None:
    by, app, token = bound
    partners.forget()

    refused = await ask(by, token, make_proof(app, token))

    assert refused.status == 401
    assert "data" not in refused.json
    assert refused.json["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


def thief(app: Partner) -> Partner:
    """Somebody with a key of their own."""
    return replace(app, proof_key=ECKey.generate_key("P-256"))


async def test_h19_a_bound_token_is_no_bearer_token_and_the_other_way_round(
    bound: tuple[Browser, Partner, str],
) -> None:
    by, app, token = bound
    secret = await registered(by, SECRET)
    bearer = (await tokens(by, secret))["access_token"]

    as_bearer = await ask(by, token, app.proof("POST", "/graphql", token=token), "Bearer")
    as_bound = await ask(by, bearer, app.proof("POST", "/graphql", token=bearer), "DPoP")

    assert (as_bearer.status, as_bound.status) == (401, 401)


async def test_h19_a_code_is_bound_to_the_key_that_pushed_its_request(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, FAPI)
    code = await by.code(await app.pushed(scope="orders:read"))

    stolen = await thief(app).of_code(code)
    late = await app.of_code(code)

    assert [one.json["error"] for one in (stolen, late)] == ["invalid_grant"] * 2
    assert await core.value("SELECT count(*) FROM app_token") == 0


async def test_the_token_endpoint_hands_out_nonces_and_spares_the_assertion(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, FAPI)
    await allow_itself(by, app, "orders:read")
    fields, _ = app.auth()
    form = {**fields, "grant_type": "client_credentials"}
    bare = await post("/oauth/token", form, dpop=app.proof("POST", "/oauth/token", nonce=None))
    nonce = bare.headers["dpop-nonce"]

    good = await post("/oauth/token", form, dpop=app.proof("POST", "/oauth/token", nonce=nonce))
    again = await post("/oauth/token", form, dpop=app.proof("POST", "/oauth/token", nonce=nonce))

    assert (bare.status, bare.json["error"]) == (400, "use_dpop_nonce")
    assert (good.status, good.json["token_type"]) == (200, "DPoP")
    assert (again.status, again.json["error"]) == (401, "invalid_client")


async def test_an_app_of_the_finance_tier_gets_no_token_without_a_key(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, FAPI)
    await allow_itself(by, app, "orders:read")

    bare = await app.token(dpop=False, grant_type="client_credentials")

    assert (bare.status, bare.json["error"]) == (400, "invalid_dpop_proof")
    assert await core.value("SELECT count(*) FROM app_token") == 0


def _raw(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"x") -> str:
    parts = (orjson.dumps(header), orjson.dumps(claims), signature)
    return ".".join(urlsafe_b64encode(one).rstrip(b"=").decode() for one in parts)


def _claims(app: Partner) -> dict[str, Any]:
    now = int(clock.now().timestamp())
    from domain.core.settings import settings

    return {
        "iss": app.client_id,
        "sub": app.client_id,
        "aud": settings().public_url,
        "jti": "1",
        "iat": now,
        "exp": now + 60,
    }


def _hmac(app: Partner, key: bytes) -> str:
    """HS256 with something public as the secret."""
    head = _raw({"alg": "HS256", "kid": "k1"}, _claims(app)).rpartition(".")[0]
    mac = hmac.new(key, head.encode(), hashlib.sha256).digest()
    return f"{head}.{urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def _key(app: Partner) -> ECKey:
    assert app.key is not None
    return app.key


LIES: dict[str, Callable[[Partner], str]] = {
    "none": lambda app: _raw({"alg": "none"}, _claims(app), b""),
    "none with a kid": lambda app: _raw({"alg": "none", "kid": "k1"}, _claims(app), b""),
    "hs256 of the pem": lambda app: _hmac(app, _key(app).as_pem(private=False)),
    "hs256 of the der": lambda app: _hmac(app, _key(app).as_der(private=False)),
    "hs256 of nothing": lambda app: _hmac(app, b""),
    "own jwk": lambda app: jwt.encode(
        {"alg": "ES256", "jwk": (other := ECKey.generate_key("P-256")).as_dict(private=False)},
        _claims(app),
        other,
        algorithms=["ES256"],
    ),
    "jku": lambda app: app.assertion(header={"jku": "https://evil.test/keys"}),
    "x5u": lambda app: app.assertion(header={"x5u": "https://evil.test/cert"}),
    "crit": lambda app: _raw({"alg": "ES256", "kid": "k1", "crit": ["x"], "x": 1}, _claims(app)),
    "zip": lambda app: _raw({"alg": "ES256", "kid": "k1", "zip": "DEF"}, _claims(app)),
    "unknown kid": lambda app: app.assertion(header={"kid": "k2"}),
    "other typ": lambda app: app.assertion(header={"typ": "dpop+jwt"}),
    "10 MB": lambda app: "a" * 10_000,
    "another key": lambda app: replace(app, key=ECKey.generate_key("P-256")).assertion(),
    "another app": lambda app: app.assertion(sub="app_other"),
    "another issuer": lambda app: app.assertion(iss="app_other"),
    "another audience": lambda app: app.assertion(aud="https://other.test"),
    "several audiences": lambda app: app.assertion(
        aud=["https://other.test", "http://127.0.0.1:8000"]
    ),
    "no audience": lambda app: app.assertion(aud=None),
    "over": lambda app: app.assertion(exp=int(clock.now().timestamp()) - 1),
    "for ever": lambda app: app.assertion(exp=int(clock.now().timestamp()) + 86_400),
    "no end": lambda app: app.assertion(exp=None),
    "end in words": lambda app: app.assertion(exp="tomorrow"),
    "from the future": lambda app: app.assertion(iat=int(clock.now().timestamp()) + 61),
    "not yet": lambda app: app.assertion(nbf=int(clock.now().timestamp()) + 61),
    "no id": lambda app: app.assertion(jti=None),
    "empty": lambda app: jwt.encode({"alg": "ES256", "kid": "k1"}, {}, _key(app)),
    "no json": lambda app: "e30.e30.e30",
}


@pytest.mark.parametrize("lie", LIES)
async def test_h22_an_assertion_that_lies_is_refused(db: None, lie: str) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, FAPI)
    await allow_itself(by, app, "orders:read")
    form = {
        **app.auth()[0],
        "grant_type": "client_credentials",
        "client_id": app.client_id,
        "client_assertion": LIES[lie](app),
    }

    refused = await post("/oauth/token", form, dpop=app.proof("POST", "/oauth/token"))
    form["client_assertion"] = app.assertion()
    honest = await post("/oauth/token", form, dpop=app.proof("POST", "/oauth/token"))

    assert (refused.status, refused.json["error"]) == (401, "invalid_client")
    assert honest.status == 200


@pytest.mark.parametrize(
    "jwks",
    [
        {},
        {"keys": []},
        {"keys": [ECKey.generate_key("P-256").as_dict(private=False)]},  # no kid
        {"keys": [{**ECKey.generate_key("P-256").as_dict(private=True), "kid": "k"}]},
        {"keys": [{**ECKey.generate_key("P-384").as_dict(private=False), "kid": "k"}]},
        {"keys": [{**OctKey.generate_key(256).as_dict(private=True), "kid": "k"}]},
        {"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "k"}]},
        {"keys": [{**ECKey.generate_key("P-256").as_dict(private=False), "kid": "k"}] * 2},
        {
            "keys": [
                {**ECKey.generate_key("P-256").as_dict(private=False), "kid": "k", "alg": "HS256"}
            ]
        },
    ],
)
def test_h22_only_public_keys_of_two_kinds_are_registered(jwks: dict[str, Any]) -> None:
    faults = partners.faults(replace(FAPI, jwks=jwks))

    assert [one.path for one in faults] == [("input", "jwks")]


async def test_h22_two_ways_to_authenticate_are_refused(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, SECRET)
    _, headers = app.auth()
    form = {"grant_type": "client_credentials", "client_secret": str(app.secret)}

    both = await post("/oauth/token", form, **headers)
    in_the_form = await post("/oauth/token", {**form, "client_id": app.client_id})

    assert (both.status, both.json["error"]) == (400, "invalid_request")
    assert (in_the_form.status, in_the_form.json["error"]) == (401, "invalid_client")
