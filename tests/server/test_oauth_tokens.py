"""Refresh, revocation, introspection, client credentials: what lives how long, for whom, and what ends it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from domain import identity, partners
from domain.core import clock, ids
from domain.core import db as core
from domain.core.audit import Actor
from domain.core.settings import settings
from domain.identity import Role
from domain.partners import Asked
from tests import make
from tests.server.oauth_client import (
    FAPI,
    PUBLIC,
    SECRET,
    Answer,
    Browser,
    Partner,
    person,
    registered,
)
from tests.server.test_oauth_codes import orders

ACTOR = Actor("merchant", "acc_test")


async def tokens(by: Browser, app: Partner, **form: Any) -> Any:
    """The first tokens of an app."""
    given = app.asking(**form)
    if app.manifest.requires_par:
        given = await app.pushed(**form)
    answer = await app.of_code(await by.code(given))
    assert answer.status == 200, answer.body
    return answer.json


async def renew(app: Partner, text: str, **form: Any) -> Answer:
    return await app.token(grant_type="refresh_token", refresh_token=text, **form)


async def age_uses(seconds: int) -> None:
    await core.execute(
        "UPDATE app_refresh SET used_at = used_at - make_interval(secs => $1)", float(seconds)
    )


async def test_h18_a_public_apps_refresh_token_changes_and_its_reuse_ends_the_family(
    db: None,
) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, PUBLIC)
    first = await tokens(by, app)
    second = (await renew(app, first["refresh_token"])).json
    third = (await renew(app, second["refresh_token"])).json
    assert len({one["refresh_token"] for one in (first, second, third)}) == 3
    assert await orders(by, third["access_token"]) == []

    reused = await renew(app, first["refresh_token"])
    newest = await renew(app, third["refresh_token"])

    assert (reused.status, reused.json["error"]) == (400, "invalid_grant")
    assert (newest.status, newest.json["error"]) == (400, "invalid_grant")
    assert await core.value("SELECT revoked_for FROM app_family") == "refresh_reused"
    for one in (first, second, third):
        assert await orders(by, one["access_token"]) == "UNAUTHENTICATED"


async def test_h18_a_lost_answer_may_be_asked_for_again_for_ten_seconds(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, PUBLIC)
    first = await tokens(by, app)
    lost = (await renew(app, first["refresh_token"])).json

    again = await renew(app, first["refresh_token"])
    goes_on = await renew(app, again.json["refresh_token"])

    assert (again.status, goes_on.status) == (200, 200)
    # Whoever holds the lost one after all is not the app.
    thief = await renew(app, lost["refresh_token"])
    dead = await renew(app, goes_on.json["refresh_token"])
    assert [one.json["error"] for one in (thief, dead)] == ["invalid_grant"] * 2


async def test_h18_after_ten_seconds_it_is_reuse(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, PUBLIC)
    first = await tokens(by, app)
    second = (await renew(app, first["refresh_token"])).json
    await age_uses(11)

    late = await renew(app, first["refresh_token"])
    dead = await renew(app, second["refresh_token"])

    assert [one.json["error"] for one in (late, dead)] == ["invalid_grant"] * 2


async def test_h18_m28_one_of_many_at_once_renews(db: None) -> None:
    """A token shown ten times at once gives at most the grace's second answer; the rest end the family."""
    by = await person(await make.shop(keys=1))
    app = await registered(by, PUBLIC)
    first = await tokens(by, app)

    answers = await asyncio.gather(*(renew(app, first["refresh_token"]) for _ in range(10)))

    statuses = sorted(one.status for one in answers)
    assert statuses == [200, 200, *[400] * 8]
    assert await core.value("SELECT revoked_for FROM app_family") == "refresh_reused"


async def test_h18_a_bound_apps_refresh_token_stays_and_serves_its_key_alone(db: None) -> None:
    by = await person(await make.shop(keys=1))
    for manifest in (FAPI, replace(PUBLIC, dpop_bound=True)):
        app = await registered(by, manifest)
        told = await tokens(by, app)

        second = await renew(app, told["refresh_token"])
        third = await renew(app, told["refresh_token"])
        bare = await app.token(
            grant_type="refresh_token", refresh_token=told["refresh_token"], dpop=False
        )

        assert (second.status, third.status) == (200, 200)
        assert "refresh_token" not in second.json
        assert second.json["token_type"] == "DPoP"
        assert bare.status == 400

    thief = replace(app, proof_key=type(app.proof_key).generate_key("P-256"))
    stolen = await renew(thief, told["refresh_token"])
    assert (stolen.status, stolen.json["error"]) == (400, "invalid_grant")


async def test_h18_an_app_with_a_secret_keeps_its_refresh_token(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app, other = await registered(by, SECRET), await registered(by, SECRET)
    told = await tokens(by, app)

    mine = [await renew(app, told["refresh_token"]) for _ in range(2)]
    theirs = await renew(other, told["refresh_token"])
    nobody = await replace(app, secret="kami_k_wrong").token(
        grant_type="refresh_token", refresh_token=told["refresh_token"]
    )

    assert [one.status for one in mine] == [200, 200]
    assert "refresh_token" not in mine[0].json
    assert (theirs.status, theirs.json["error"]) == (400, "invalid_grant")
    assert (nobody.status, nobody.json["error"]) == (401, "invalid_client")


async def test_h20_a_refresh_narrows_and_never_widens(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, SECRET)
    told = await tokens(by, app, scope="orders:read")

    narrow = await tokens(by, app)
    narrowed = await renew(app, narrow["refresh_token"], scope="catalogue:read")
    widened = await renew(app, told["refresh_token"], scope="orders:read catalogue:read")

    assert narrowed.json["scope"] == "catalogue:read"
    assert await orders(by, narrowed.json["access_token"]) == "INSUFFICIENT_SCOPE"
    assert (widened.status, widened.json["error"]) == (400, "invalid_scope")


async def test_revocation_ends_a_token_or_the_family_and_tells_strangers_nothing(
    db: None,
) -> None:
    by = await person(await make.shop(keys=1))
    app, other = await registered(by, SECRET), await registered(by, SECRET)
    told = await tokens(by, app)
    second = (await renew(app, told["refresh_token"])).json

    foreign = await other.call("/oauth/revoke", {"token": told["refresh_token"]})
    unknown = await app.call("/oauth/revoke", {"token": "nonsense"})
    assert (foreign.status, unknown.status, foreign.body, unknown.body) == (200, 200, b"", b"")
    assert await orders(by, told["access_token"]) == []

    await app.call("/oauth/revoke", {"token": told["access_token"]})
    assert await orders(by, told["access_token"]) == "UNAUTHENTICATED"
    assert await orders(by, second["access_token"]) == []

    await app.call("/oauth/revoke", {"token": told["refresh_token"]})
    assert await orders(by, second["access_token"]) == "UNAUTHENTICATED"
    assert (await renew(app, told["refresh_token"])).json["error"] == "invalid_grant"


async def test_introspection_is_for_the_apps_own_tokens(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app, other, public = [await registered(by, one) for one in (SECRET, SECRET, PUBLIC)]
    told = await tokens(by, app)

    mine = (await app.call("/oauth/introspect", {"token": told["access_token"]})).json
    theirs = (await other.call("/oauth/introspect", {"token": told["access_token"]})).json
    refresh = (await app.call("/oauth/introspect", {"token": told["refresh_token"]})).json
    nobody = await public.call("/oauth/introspect", {"token": told["access_token"]})

    assert mine["active"] is True
    assert mine["scope"] == "catalogue:read orders:read"
    assert (mine["client_id"], mine["token_type"]) == (app.client_id, "Bearer")
    assert mine["exp"] - mine["iat"] == 600
    assert theirs == refresh == {"active": False}
    assert (nobody.status, nobody.json["error"]) == (401, "invalid_client")


async def test_client_credentials_take_a_persons_word_and_reach_no_further(db: None) -> None:
    shop = await make.shop(keys=1)
    by = await person(shop)
    app = await registered(by, SECRET)
    before = await app.token(grant_type="client_credentials")
    await allow_itself(by, app, "orders:read")

    told = (await app.token(grant_type="client_credentials")).json
    more = await app.token(grant_type="client_credentials", scope="catalogue:read")

    assert (before.status, before.json["error"]) == (400, "unauthorized_client")
    assert told["scope"] == "orders:read"
    assert "refresh_token" not in told
    assert await orders(by, told["access_token"]) == []
    assert (more.status, more.json["error"]) == (400, "invalid_scope")
    await core.execute("DELETE FROM membership WHERE account_id = $1", by.account_id)
    partners.forget()
    assert await orders(by, told["access_token"]) == "UNAUTHENTICATED"
    gone = await app.token(grant_type="client_credentials")
    assert gone.json["error"] == "unauthorized_client"


async def allow_itself(by: Browser, app: Partner, *scopes: str) -> None:
    found = await partners.app(app.client_id)
    assert found is not None
    await partners.allow_client(
        found,
        Asked(scopes),
        merchant_id=by.merchant_id,
        account_id=by.account_id,
        auth_at=clock.now(),
    )


@pytest.mark.parametrize("role", [Role.CATALOGUE, Role.DEVELOPER])
async def test_h20_an_app_never_may_more_than_the_person(db: None, role: Role) -> None:
    """The orders of a merchant are for who reads its money; its developers are not among them."""
    by = await person(await make.shop(keys=1), role)
    app = await registered(by, PUBLIC)

    told = await tokens(by, app)

    assert told["scope"] == "catalogue:read orders:read"
    assert await orders(by, told["access_token"]) == "FORBIDDEN"


async def test_h20_the_grant_is_for_one_merchant_though_the_person_has_two(db: None) -> None:
    mine, other = await make.shop(keys=1), await make.shop(keys=1)
    by = await person(mine)
    await identity.grant(other.merchant_id, by.account_id, Role.OWNER)
    app = await registered(by, PUBLIC)

    told = await tokens(by, app)

    assert await orders(by, told["access_token"]) == []
    elsewhere = replace(by, merchant_id=other.merchant_id)
    assert await orders(elsewhere, told["access_token"]) == "NOT_FOUND"


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE app_token SET expires_at = clock_timestamp()",
        "UPDATE app_grant SET revoked_at = clock_timestamp(), revoked_for = 'revoked'",
        "UPDATE app_family SET revoked_at = clock_timestamp(), revoked_for = 'revoked'",
        "UPDATE partner_app SET state = 'deleted'",
        "UPDATE partner_app SET dpop_bound = true",
        "UPDATE account SET state = 'closed'",
        "DELETE FROM membership",
    ],
)
async def test_whatever_ends_an_access_token_hangs_on(db: None, sql: str) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, PUBLIC)
    told = await tokens(by, app)
    assert await orders(by, told["access_token"]) == []

    await core.execute(sql)
    partners.forget()

    assert await orders(by, told["access_token"]) == "UNAUTHENTICATED"


async def test_a_scope_an_app_gives_up_is_dead_at_once(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, PUBLIC)
    told = await tokens(by, app)

    await partners.change(
        by.merchant_id,
        app.id,
        replace(app.manifest, scopes=("catalogue:read",)),
        expected_version=1,
        actor=ACTOR,
    )

    assert await orders(by, told["access_token"]) == "INSUFFICIENT_SCOPE"


async def test_a_secret_is_changed_and_the_old_one_lives_for_a_day(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, SECRET)
    await allow_itself(by, app, "orders:read")

    fresh = replace(app, secret=await partners.rotate_secret(by.merchant_id, app.id, actor=ACTOR))
    both = [await one.token(grant_type="client_credentials") for one in (app, fresh)]
    await core.execute("UPDATE partner_app SET old_secret_until = clock_timestamp()")
    later = [await one.token(grant_type="client_credentials") for one in (app, fresh)]

    assert [one.status for one in both] == [200, 200]
    assert [one.status for one in later] == [401, 200]


async def test_j18_what_is_no_token_is_unauthenticated(db: None) -> None:
    by = await person(await make.shop(keys=1))
    for text in ("kami_a_", "kami_a_" + "x" * 43, "a.b.c", "eyJhbGciOiJub25lIn0.e30."):
        assert await orders(by, text) == "UNAUTHENTICATED"


async def test_jwt_access_tokens_are_signed_and_end_like_others(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 9068, for services that read tokens themselves."""
    from joserfc import jwt
    from joserfc.jwk import KeySet

    from tests.server.oauth_client import send

    monkeypatch.setenv("KAMI_ACCESS_TOKENS", "jwt")
    settings.cache_clear()
    by = await person(await make.shop(keys=1))
    app = await registered(by, PUBLIC)
    told = await tokens(by, app)
    text = told["access_token"]
    keys = KeySet.import_key_set((await send("GET", "/.well-known/jwks.json")).json)

    read = jwt.decode(text, keys, algorithms=["ES256"])

    assert read.header["typ"] == "at+jwt"
    claims = read.claims
    assert claims["iss"] == settings().public_url
    assert claims["aud"] == f"{settings().public_url}/graphql"
    assert (claims["client_id"], claims["scope"]) == (app.client_id, "catalogue:read orders:read")
    assert claims["exp"] - claims["iat"] == 600
    assert await orders(by, text) == []
    changed = text[:-6] + ("AAAAAA" if text[-6:] != "AAAAAA" else "BBBBBB")
    assert await orders(by, changed) == "UNAUTHENTICATED"
    await app.call("/oauth/revoke", {"token": text})
    assert await orders(by, text) == "UNAUTHENTICATED"
    assert ids.prefix_of(claims["sub"]) == "gnt"
