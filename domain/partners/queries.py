"""Reads of partner apps: an app by its id, what a person sees of grants, and the viewer behind an access token."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.core import clock, db, ids
from domain.core.money import Money
from domain.identity import Acr, AppPass, Proof, Role, Viewer
from domain.partners import details, rules
from domain.partners.rules import App, AuthMethod, Limit, Manifest, Page, Webhook

# As with sessions: what is revoked is dead everywhere within five seconds, so a viewer is kept for four.
CACHE_S = 4.0
CACHE_MAX = 10_000

_cache: dict[bytes, tuple[float, Viewer]] = {}


@dataclass(frozen=True, slots=True)
class Granted:
    """What a person let an app do in a merchant."""

    id: UUID
    merchant_id: UUID
    app_id: UUID
    account_id: UUID
    kind: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    limits: tuple[Limit, ...] = ()


_APP = """
SELECT id, merchant_id, name, redirect_uris, scopes, grant_types, auth_method, secret_hash,
    CASE WHEN old_secret_until > clock_timestamp() THEN old_secret_hash END AS old_secret_hash,
    jwks_json, requires_par, dpop_bound, documents_only, manifest_json, registration_hash, version, created_at
FROM partner_app WHERE state = 'active'
"""


async def app(client_id: str) -> App | None:
    """The app with this public id; None when there is none, or none any more."""
    try:
        app_id = ids.decode(client_id, "app")
    except ids.IdInvalid:
        return None
    return (await apps([app_id])).get(app_id)


async def apps(app_ids: Collection[UUID]) -> dict[UUID, App]:
    """Apps by id; deleted ones are left out."""
    rows = await db.fetch(f"{_APP} AND id = ANY($1)", list(app_ids))
    return {row["id"]: _app(row) for row in rows}


async def apps_of(merchant_id: UUID) -> list[App]:
    """The apps a merchant's developers made, oldest first; at most `APPS_MAX`."""
    return [
        _app(row) for row in await db.fetch(f"{_APP} AND merchant_id = $1 ORDER BY id", merchant_id)
    ]


def _app(row: Any) -> App:
    more = row["manifest_json"]
    manifest = Manifest(
        name=row["name"],
        redirect_uris=tuple(row["redirect_uris"]),
        scopes=tuple(row["scopes"]),
        grant_types=tuple(row["grant_types"]),
        auth_method=AuthMethod(row["auth_method"]),
        jwks=row["jwks_json"],
        requires_par=row["requires_par"],
        dpop_bound=row["dpop_bound"],
        documents_only=row["documents_only"],
        homepage=more["homepage"],
        webhooks=tuple(Webhook(url, tuple(kinds), *rest) for url, kinds, *rest in more["webhooks"]),
        pages=tuple(Page(place, url) for place, url in more["pages"]),
    )
    hashes = tuple(one for one in (row["secret_hash"], row["old_secret_hash"]) if one is not None)
    return App(
        row["id"],
        row["merchant_id"],
        manifest,
        row["version"],
        row["created_at"],
        hashes,
        row["registration_hash"],
    )


_GRANT = """
SELECT g.id, g.merchant_id, g.app_id, g.account_id, g.kind, g.scopes, g.created_at, g.expires_at, g.revoked_at,
    ARRAY(SELECT l.scope::text FROM app_limit l WHERE l.grant_id = g.id ORDER BY l.scope, l.ccy) AS limit_scopes,
    ARRAY(SELECT l.ccy::text FROM app_limit l WHERE l.grant_id = g.id ORDER BY l.scope, l.ccy) AS limit_ccys,
    ARRAY(SELECT l.max_minor FROM app_limit l WHERE l.grant_id = g.id ORDER BY l.scope, l.ccy) AS limit_minors
FROM app_grant g
"""
_LIVE = "g.revoked_at IS NULL AND (g.expires_at IS NULL OR g.expires_at > clock_timestamp())"


async def grants_of(
    merchant_id: UUID, after: UUID | None, limit: int, *, backward: bool = False
) -> list[Granted]:
    """A merchant's live grants, newest first, behind `after`."""
    sign, order = (">", "ASC") if backward else ("<", "DESC")
    rows = await db.fetch(
        f"{_GRANT} WHERE g.merchant_id = $1 AND {_LIVE} AND ($2::uuid IS NULL OR g.id {sign} $2)"
        f" ORDER BY g.id {order} LIMIT $3",
        merchant_id,
        after,
        limit,
    )
    found = [granted(row) for row in rows]
    return found[::-1] if backward else found


async def grant(grant_id: UUID) -> Granted | None:
    """One grant, ended or not."""
    row = await db.row(f"{_GRANT} WHERE g.id = $1", grant_id)
    return None if row is None else granted(row)


def granted(row: Any) -> Granted:
    """A row of `_GRANT`."""
    limits = zip(row["limit_scopes"], row["limit_minors"], row["limit_ccys"], strict=True)
    return Granted(
        row["id"],
        row["merchant_id"],
        row["app_id"],
        row["account_id"],
        row["kind"],
        tuple(row["scopes"]),
        row["created_at"],
        row["expires_at"],
        row["revoked_at"],
        tuple(Limit(scope, Money(minor, ccy)) for scope, minor, ccy in limits),
    )


@dataclass(frozen=True, slots=True)
class Acting:
    """What a live grant allows now: the scopes that grant and app agree on, and the person's role."""

    merchant_id: UUID
    scopes: frozenset[str]
    role: Role


_ACTING = f"""
SELECT g.id, g.merchant_id, g.scopes AS grant_scopes, a.scopes AS app_scopes, m.role FROM app_grant g
JOIN partner_app a ON a.id = g.app_id
JOIN account p ON p.id = g.account_id
JOIN membership m ON m.merchant_id = g.merchant_id AND m.account_id = g.account_id
WHERE g.id = ANY($1) AND {_LIVE} AND a.state = 'active' AND p.state = 'open'
"""


async def acting(grant_ids: Collection[UUID]) -> dict[UUID, Acting]:
    """What each of these grants allows now; one that is over for whatever reason is left out."""
    return {
        row["id"]: Acting(
            row["merchant_id"],
            frozenset(row["grant_scopes"]) & frozenset(row["app_scopes"]),
            Role(row["role"]),
        )
        for row in await db.fetch(_ACTING, list(grant_ids))
    }


# One look at everything that may have ended in the meantime: the token, its family, the grant, the app, the person,
# and the person's place in the merchant. Of the scopes those count that all three still name.
_TOKEN = """
SELECT t.scopes AS token_scopes, t.jkt, t.issued_at, t.expires_at, g.id AS grant_id, g.merchant_id, g.auth_at, g.acr,
    g.scopes AS grant_scopes, g.expires_at AS grant_expires_at, a.id AS app_id, a.scopes AS app_scopes,
    a.documents_only,
    p.id AS account_id, p.email, p.locale, m.role
"""
_GOOD = """
FROM app_token t
JOIN app_grant g ON g.id = t.grant_id
JOIN partner_app a ON a.id = g.app_id
JOIN account p ON p.id = g.account_id
JOIN membership m ON m.merchant_id = g.merchant_id AND m.account_id = g.account_id
LEFT JOIN app_family f ON f.id = t.family_id
WHERE t.token_hash = ANY($1) AND t.revoked_at IS NULL AND t.expires_at > clock_timestamp()
    AND g.revoked_at IS NULL AND (g.expires_at IS NULL OR g.expires_at > clock_timestamp())
    AND f.revoked_at IS NULL AND a.state = 'active' AND p.state = 'open' AND (t.jkt IS NOT NULL OR NOT a.dpop_bound)
"""


async def token(text: str) -> Any:
    """The row behind an access token that is good now, else None."""
    return await db.row(_TOKEN + _GOOD, [rules.hashed(text)])


async def alive(hashes: Sequence[bytes]) -> set[bytes]:
    """Those of these tokens, by their hash, that are good now."""
    return {row["token_hash"] for row in await db.fetch(f"SELECT t.token_hash {_GOOD}", hashes)}


def is_access_token(text: str) -> bool:
    """Whether `text` has the form of an app's access token, opaque or JWT; a session's never has."""
    return text.startswith("kami_a_") or (text.count(".") == 2 and not text.startswith("kami_"))


async def viewer(text: str) -> Viewer | None:
    """Who an app acts for: the person and the one merchant of its grant, with the scopes all sides agree on.

    None when the token is unknown or over. One statement, kept four seconds. Whether the caller holds the key that the
    token is bound to (`app.key`) is for the door to prove.
    """
    hashed = rules.hashed(text)
    kept = _cache.get(hashed)
    if kept is not None and kept[0] > clock.monotonic() and kept[1].expires_at > clock.now():
        return kept[1]
    row = await token(text)
    if row is None:
        _cache.pop(hashed, None)
        return None
    scopes = set(row["token_scopes"]) & set(row["grant_scopes"]) & set(row["app_scopes"])
    found = Viewer(
        account_id=row["account_id"],
        email=row["email"],
        locale=row["locale"],
        session_id=row["grant_id"],
        expires_at=row["expires_at"],
        roles={row["merchant_id"]: Role(row["role"])},
        app=AppPass(
            row["app_id"],
            row["grant_id"],
            row["merchant_id"],
            frozenset(scopes),
            row["auth_at"],
            row["jkt"],
            row["documents_only"],
        ),
        # What it was allowed with: an app proves nothing by itself (RFC 9470).
        proof=Proof(Acr(row["acr"]), row["auth_at"], has_factor=True),
    )
    _cache.pop(hashed, None)
    while len(_cache) >= CACHE_MAX:
        del _cache[next(iter(_cache))]  # the oldest: insertion order is age
    _cache[hashed] = (clock.monotonic() + CACHE_S, found)
    return found


_STANDING = """
SELECT g.id AS grant_id, g.merchant_id, g.auth_at, g.scopes AS grant_scopes, a.id AS app_id,
    a.scopes AS app_scopes, a.documents_only, p.id AS account_id, p.email, p.locale, m.role
FROM app_grant g
JOIN partner_app a ON a.id = g.app_id
JOIN account p ON p.id = g.account_id
JOIN membership m ON m.merchant_id = g.merchant_id AND m.account_id = g.account_id
WHERE g.id = $1 AND g.revoked_at IS NULL AND (g.expires_at IS NULL OR g.expires_at > clock_timestamp())
    AND a.state = 'active' AND p.state = 'open'
"""


async def standing(grant_id: UUID, scopes: Collection[str]) -> Viewer | None:
    """Who an app acts for at this moment, with what is left of `scopes`, for work that goes on without a token.

    None when the grant, the app, or the person's place in the merchant is over.
    """
    row = await db.row(_STANDING, grant_id)
    if row is None:
        return None
    left = set(scopes) & set(row["grant_scopes"]) & set(row["app_scopes"])
    return Viewer(
        account_id=row["account_id"],
        email=row["email"],
        locale=row["locale"],
        session_id=grant_id,
        expires_at=clock.now(),
        roles={row["merchant_id"]: Role(row["role"])},
        app=AppPass(
            row["app_id"],
            grant_id,
            row["merchant_id"],
            frozenset(left),
            row["auth_at"],
            documents_only=row["documents_only"],
        ),
    )


def forget(of: UUID | None = None) -> None:
    """Drop what this process keeps of the tokens of a grant, an app or a person, or of all."""
    for hashed in [key for key, (_, kept) in _cache.items() if of is None or _is_of(kept, of)]:
        del _cache[hashed]


def _is_of(kept: Viewer, of: UUID) -> bool:
    app = kept.app
    return app is not None and of in (app.grant_id, app.app_id, kept.account_id)


async def introspected(app_of: App, text: str) -> dict[str, Any]:
    """What RFC 7662 says of a token to the app it was given to; of any other only that it is not active."""
    row = await token(text)
    if row is None or row["app_id"] != app_of.id:
        return {"active": False}
    scopes = sorted(set(row["token_scopes"]) & set(row["grant_scopes"]) & set(row["app_scopes"]))
    found = await grant(row["grant_id"])
    assert found is not None
    told: dict[str, Any] = {
        "active": True,
        "client_id": app_of.client_id,
        "scope": " ".join(scopes),
        "token_type": "DPoP" if row["jkt"] else "Bearer",
        "iat": int(row["issued_at"].timestamp()),
        "exp": int(row["expires_at"].timestamp()),
        "sub": ids.encode("acc", row["account_id"]),
        "auth_time": int(row["auth_at"].timestamp()),
        "acr": row["acr"],
        "authorization_details": details.write(
            found.merchant_id, scopes, found.limits, found.expires_at
        ),
    }
    if row["jkt"]:
        told["cnf"] = {"jkt": row["jkt"]}
    return told
