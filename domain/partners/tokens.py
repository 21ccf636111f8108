"""Writes about tokens: a code, a refresh token or a device turned into them, once; their end.

Every refusal that has to leave a mark (a burnt code, a dead family) commits the mark first and refuses afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from domain.core import clock, db, ids
from domain.core.settings import settings
from domain.core.together import Together
from domain.partners import details, grants, presence, proofs, rules
from domain.partners.rules import App, OAuthRefused, Turn

_GONE = "the grant is used, over or another app's"


@dataclass(frozen=True, slots=True)
class Issued:
    """The answer of the token endpoint (RFC 6749, 5.1)."""

    access_token: str
    scopes: tuple[str, ...]
    is_bound: bool
    refresh_token: str | None
    details: list[dict[str, Any]]

    def body(self) -> dict[str, Any]:
        """As JSON."""
        told: dict[str, Any] = {
            "access_token": self.access_token,
            "token_type": "DPoP" if self.is_bound else "Bearer",
            "expires_in": rules.ACCESS_S,
            "scope": " ".join(self.scopes),
            "authorization_details": self.details,
        }
        if self.refresh_token is not None:
            told["refresh_token"] = self.refresh_token
        return told


async def prove_once(kind: str, proven: proofs.Proven) -> None:
    """Take a proof or an assertion, the first time. Errors: OAuthRefused the second time (RFC 9449, 11.1; RFC 7523)."""
    taken = rules.hashed(f"{kind}\0{proven.jkt}\0{proven.id}")
    if not await _take_proof((taken, float(proven.until_s))):
        if kind == "dpop":
            raise OAuthRefused("invalid_dpop_proof", "this proof was used before")
        raise OAuthRefused("invalid_client", "this assertion was used before", status=401)


async def _take_proofs(asked: Sequence[tuple[bytes, float]]) -> list[bool]:
    """Whether each proof is new; of the same one in a set the first is."""
    some = dict(
        sorted(asked)
    )  # sorted: two sets with the same proofs wait for each other in one order
    rows = await db.fetch(
        "INSERT INTO app_proof (proof_hash, expires_at)"
        " SELECT one.hash, to_timestamp(one.until_s)"
        " FROM unnest($1::bytea[], $2::float8[]) WITH ORDINALITY AS one (hash, until_s, place)"
        " ORDER BY one.place ON CONFLICT DO NOTHING RETURNING proof_hash",
        list(some),
        list(some.values()),
    )
    fresh = {row["proof_hash"] for row in rows}
    answers = []
    for taken, _ in asked:
        answers.append(taken in fresh)
        fresh.discard(taken)
    return answers


# Every request of a bound app brings one: those of one moment share the statement and the commit.
_take_proof = Together("partners.prove", _take_proofs)


async def exchange(
    app: App, code: str, *, verifier: str, redirect_uri: str | None, jkt: str | None
) -> Issued:
    """Tokens for a code, once; whatever is wrong with the rest burns the code, and a second use ends its grant.

    Errors: OAuthRefused (`invalid_grant`). Source: OAuth 2.1, 4.1.3; RFC 9700, 4.5 and 4.9.
    """
    row = await db.row(
        "UPDATE app_code SET used_at = clock_timestamp() WHERE code_hash = $1 AND app_id = $2 AND used_at IS NULL"
        " AND expires_at > clock_timestamp() RETURNING *",
        rules.hashed(code),
        app.id,
    )
    if row is None:
        await _end_if_replayed(app, code)
        raise OAuthRefused("invalid_grant", "the code is used, over or another app's")
    if not rules.pkce_matches(row["challenge"], verifier):
        raise OAuthRefused("invalid_grant", "code_verifier is another one's")
    if redirect_uri is not None and redirect_uri != row["redirect_uri"]:
        raise OAuthRefused("invalid_grant", "redirect_uri is another one's")
    if row["jkt"] is not None and row["jkt"] != jkt:
        raise OAuthRefused("invalid_grant", "the code is bound to another key")
    return await _open_family(app, row["grant_id"], jkt)


async def _end_if_replayed(app: App, code: str) -> None:
    grant_id = await db.value(
        "SELECT grant_id FROM app_code WHERE code_hash = $1 AND app_id = $2 AND used_at IS NOT NULL",
        rules.hashed(code),
        app.id,
    )
    if grant_id is not None:
        await grants.end(grant_id, "code_reused")


_LIVE_GRANT = """
SELECT g.id, g.merchant_id, g.scopes, g.expires_at FROM app_grant g
JOIN account p ON p.id = g.account_id AND p.state = 'open'
JOIN membership m ON m.merchant_id = g.merchant_id AND m.account_id = g.account_id
WHERE g.app_id = $1 AND g.revoked_at IS NULL AND (g.expires_at IS NULL OR g.expires_at > clock_timestamp())
"""


async def _open_family(app: App, grant_id: UUID, jkt: str | None) -> Issued:
    async with db.transaction():
        # Locked, so that a replay that ends the grant either waits or is seen here.
        grant = await db.row(f"{_LIVE_GRANT} AND g.id = $2 FOR SHARE OF g", app.id, grant_id)
        if grant is None:
            raise OAuthRefused("invalid_grant", _GONE)
        family_id = refresh = None
        if rules.GrantType.REFRESH in app.manifest.grant_types:
            family_id, refresh = ids.uuid7(), rules.make("r")
            await db.execute(
                "INSERT INTO app_family (id, grant_id, jkt, rotates, expires_at) VALUES ($1, $2, $3, $4,"
                " clock_timestamp() + make_interval(days => $5))",
                family_id,
                grant_id,
                jkt
                if app.is_public
                else None,  # an app with keys of its own may change the proof's key
                app.rotates and jkt is None,
                rules.REFRESH_DAYS,
            )
            await _keep_refresh(refresh, family_id, None)
        return await _issue(app, grant, grant["scopes"], jkt, family_id, refresh)


async def _keep_refresh(text: str, family_id: UUID, replaces: bytes | None) -> None:
    await db.execute(
        "INSERT INTO app_refresh (token_hash, family_id, replaces) VALUES ($1, $2, $3)",
        rules.hashed(text),
        family_id,
        replaces,
    )


async def _issue(
    app: App,
    grant: Any,
    scopes: Iterable[str],
    jkt: str | None,
    family_id: UUID | None,
    refresh: str | None,
) -> Issued:
    if app.manifest.dpop_bound and jkt is None:
        raise OAuthRefused("invalid_dpop_proof", "this app's tokens are bound: send a DPoP proof")
    held = tuple(sorted(set(scopes) & set(app.manifest.scopes)))
    limits = await grants.limits_of(grant["id"])
    told = details.write(grant["merchant_id"], held, limits, grant["expires_at"])
    text = rules.make("a")
    if settings().access_tokens == "jwt":
        text = _signed(app, grant, held, jkt, told)
    await db.execute(
        "INSERT INTO app_token (token_hash, grant_id, family_id, scopes, jkt, expires_at)"
        " VALUES ($1, $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6))",
        rules.hashed(text),
        grant["id"],
        family_id,
        list(held),
        jkt,
        float(rules.ACCESS_S),
    )
    return Issued(text, held, jkt is not None, refresh, told)


def _signed(
    app: App, grant: Any, scopes: Sequence[str], jkt: str | None, told: list[dict[str, Any]]
) -> str:
    now, issuer = int(clock.now().timestamp()), settings().public_url
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": f"{issuer}/graphql",
        "sub": ids.encode("gnt", grant["id"]),
        "client_id": app.client_id,
        "iat": now,
        "exp": now + rules.ACCESS_S,
        "jti": ids.uuid7().hex,
        "scope": " ".join(scopes),
        "authorization_details": told,
    }
    if jkt is not None:
        claims["cnf"] = {"jkt": jkt}
    return proofs.sign_access_token(claims)


# A lock and a look, apart: what a statement that waits for the lock has read of other tables is from before it waited.
_LOCK_FAMILY = """
SELECT f.id FROM app_refresh r JOIN app_family f ON f.id = r.family_id JOIN app_grant g ON g.id = f.grant_id
WHERE r.token_hash = $1 AND g.app_id = $2 FOR UPDATE OF f
"""
_REFRESH = """
SELECT r.token_hash, r.used_at, r.created_at, f.id AS family_id, f.jkt, f.rotates, f.grant_id,
    f.revoked_at IS NULL AND f.expires_at > clock_timestamp()
        AND (NOT f.rotates OR r.created_at > clock_timestamp() - make_interval(days => $3)) AS is_live
FROM app_refresh r JOIN app_family f ON f.id = r.family_id
WHERE r.token_hash = $1 AND f.id = $2
"""


async def refresh(app: App, text: str, *, scope: str | None, jkt: str | None) -> Issued:
    """New tokens for a refresh token.

    A public app's changes with each use: shown again it ends the family, except by who lost the first answer within
    `GRACE_S`. Bound to a key, or an app's with credentials, it stays (FAPI 2.0, 5.3.2.1). Errors: OAuthRefused.
    """
    issued: Issued | None = None
    async with db.transaction():
        family_id = await db.value(_LOCK_FAMILY, rules.hashed(text), app.id)
        row = await db.row(_REFRESH, rules.hashed(text), family_id, rules.REFRESH_IDLE_DAYS)
        if row is None or not row["is_live"]:
            raise OAuthRefused("invalid_grant", _GONE)
        if row["jkt"] is not None and row["jkt"] != jkt:
            raise OAuthRefused("invalid_grant", "the refresh token is bound to another key")
        meant = await _turn(row)
        if meant is Turn.REUSED:
            await _end_family(row["family_id"], "refresh_reused")
        else:
            issued = await _renew(app, row, meant, scope, jkt)
    if issued is None:
        await presence.tell(row["grant_id"])
        raise OAuthRefused("invalid_grant", "this refresh token was used before: all of it is over")
    return issued


async def _turn(row: Any) -> Turn:
    if not row["rotates"]:
        return Turn.GOOD
    after = await db.row(
        "SELECT count(*) > 0 AS has_next, coalesce(bool_or(used_at IS NOT NULL), false) AS is_next_used"
        " FROM app_refresh WHERE replaces = $1",
        row["token_hash"],
    )
    assert after is not None
    return rules.turn(used_at=row["used_at"], now=clock.now(), **after)


async def _renew(app: App, row: Any, meant: Turn, scope: str | None, jkt: str | None) -> Issued:
    grant = await db.row(f"{_LIVE_GRANT} AND g.id = $2 FOR SHARE OF g", app.id, row["grant_id"])
    if grant is None:
        raise OAuthRefused("invalid_grant", _GONE)
    scopes = rules.scopes_of(scope, set(grant["scopes"]) & set(app.manifest.scopes))
    text = None
    if row["rotates"]:
        # The lost answer's token counts as used from now on: whoever shows it after all is not the app.
        await db.execute(
            "UPDATE app_refresh SET used_at = clock_timestamp() WHERE used_at IS NULL AND"
            " (token_hash = $1 OR ($2 AND replaces = $1))",
            row["token_hash"],
            meant is Turn.AGAIN,
        )
        text = rules.make("r")
        await _keep_refresh(text, row["family_id"], row["token_hash"])
    return await _issue(app, grant, scopes, jkt, row["family_id"], text)


async def _end_family(family_id: UUID, why: str) -> None:
    await db.execute(
        "UPDATE app_family SET revoked_at = clock_timestamp(), revoked_for = $2"
        " WHERE id = $1 AND revoked_at IS NULL",
        family_id,
        why,
    )


async def as_itself(app: App, *, scope: str | None, jkt: str | None) -> Issued:
    """Tokens for an app that acts by itself, within what a person of its merchant allowed it (client credentials).

    Errors: OAuthRefused.
    """
    async with db.transaction():
        grant = await db.row(f"{_LIVE_GRANT} AND g.kind = 'client' FOR SHARE OF g", app.id)
        if grant is None:
            raise OAuthRefused("unauthorized_client", "nobody allowed this app to act by itself")
        scopes = rules.scopes_of(scope, set(grant["scopes"]) & set(app.manifest.scopes))
        return await _issue(app, grant, scopes, jkt, None, None)


_POLL = """
UPDATE app_device SET polled_at = clock_timestamp(),
    interval_s = least(60, interval_s + CASE WHEN polled_at > clock_timestamp() - make_interval(secs => interval_s - 1)
        THEN 5 ELSE 0 END),
    state = CASE WHEN state = 'approved' THEN 'used' ELSE state END
FROM (SELECT state AS was, polled_at > clock_timestamp() - make_interval(secs => interval_s - 1) AS is_hasty
      FROM app_device WHERE device_hash = $1 FOR UPDATE) AS before
WHERE device_hash = $1 AND app_id = $2 AND expires_at > clock_timestamp() AND state <> 'used'
RETURNING before.was, before.is_hasty, grant_id
"""


async def of_device(app: App, device_code: str, *, jkt: str | None) -> Issued:
    """Tokens for a device that a person let in, once (RFC 8628, 3.4).

    Errors: OAuthRefused: `authorization_pending`, `slow_down`, `access_denied`, `expired_token`.
    """
    row = await db.row(_POLL, rules.hashed(device_code), app.id)
    if row is None:
        raise OAuthRefused("expired_token", "the device code is used, over or another app's")
    if row["was"] == "denied":
        raise OAuthRefused("access_denied", "the person said no")
    if row["was"] == "waiting":
        if row["is_hasty"]:
            raise OAuthRefused("slow_down", "wait five seconds more between polls")
        raise OAuthRefused("authorization_pending", "nobody has decided yet")
    return await _open_family(app, row["grant_id"], jkt)


async def revoke(app: App, text: str) -> None:
    """End a token of this app; a refresh token with its whole family. Idempotent, silent about others' (RFC 7009)."""
    hashed = rules.hashed(text)
    grant_id = await db.value(
        "UPDATE app_token t SET revoked_at = coalesce(t.revoked_at, clock_timestamp()) FROM app_grant g"
        " WHERE t.token_hash = $1 AND g.id = t.grant_id AND g.app_id = $2 RETURNING g.id",
        hashed,
        app.id,
    )
    if grant_id is None:
        row = await db.row(
            "SELECT f.id, f.grant_id FROM app_refresh r JOIN app_family f ON f.id = r.family_id"
            " JOIN app_grant g ON g.id = f.grant_id WHERE r.token_hash = $1 AND g.app_id = $2",
            hashed,
            app.id,
        )
        if row is None:
            return
        await _end_family(row["id"], "revoked")
        grant_id = row["grant_id"]
    await presence.tell(grant_id)


async def prune() -> int:
    """Forget what is over: proofs, requests, devices, tokens, and codes once no replay could tell; how many."""
    gone = 0
    for table, days in (
        ("app_proof", 0),
        ("app_request", 1),
        ("app_device", 1),
        ("app_code", 100),
        ("app_token", 1),
    ):
        gone += await db.execute(
            f"DELETE FROM {table} WHERE expires_at < clock_timestamp() - make_interval(days => $1)",
            days,
        )
    return gone
