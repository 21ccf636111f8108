"""Writes about what people allow: requests on their way, consent, devices, limits, the end of a grant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.core import audit, db, ids
from domain.core.audit import Actor
from domain.core.errors import NotFound
from domain.core.money import Money
from domain.identity import Acr
from domain.partners import details, presence, queries, rules
from domain.partners.rules import App, AppLimitExceeded, Asked, Limit, OAuthRefused

URN = "urn:ietf:params:oauth:request_uri:"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that waits for a person's word."""

    app: App
    asked: Asked


_PUT = """
INSERT INTO app_request (handle_hash, app_id, state, asked_json, expires_at)
VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))
"""


async def push(app: App, asked: Asked) -> str:
    """Keep a pushed request (RFC 9126); its `request_uri`, good once, for `REQUEST_S`."""
    handle = rules.make("q")
    await _put(handle, app.id, "pushed", details.pack(asked), rules.REQUEST_S)
    return URN + handle


async def _put(handle: str, app_id: UUID, state: str, packed: dict[str, Any], for_s: int) -> None:
    await db.execute(_PUT, rules.hashed(handle), app_id, state, packed, float(for_s))


async def take_up(app: App, request_uri: str) -> tuple[str, Asked]:
    """A pushed request taken up by a browser, once: the handle of its pages, and what is asked.

    Errors: OAuthRefused: used, over, or another app's (H17).
    """
    packed = await db.value(
        "UPDATE app_request SET state = 'used' WHERE handle_hash = $1 AND app_id = $2 AND state = 'pushed'"
        " AND expires_at > clock_timestamp() RETURNING asked_json",
        rules.hashed(request_uri.removeprefix(URN)),
        app.id,
    )
    if packed is None or not request_uri.startswith(URN):
        raise OAuthRefused("invalid_request", "request_uri is used, over or another app's")
    asked = details.unpack(packed)
    return await open_request(app, asked), asked


async def open_request(app: App, asked: Asked) -> str:
    """Keep a request while a person decides; the handle of its pages."""
    handle = rules.make("p")
    await _put(handle, app.id, "opened", details.pack(asked), rules.CONSENT_S)
    return handle


async def waiting(handle: str) -> Waiting | None:
    """The request that pages with this handle are about; None when it is decided or over."""
    row = await db.row(
        "SELECT app_id, asked_json FROM app_request"
        " WHERE handle_hash = $1 AND state = 'opened' AND expires_at > clock_timestamp()",
        rules.hashed(handle),
    )
    return None if row is None else await _waiting(row)


async def _waiting(row: Any) -> Waiting | None:
    app = (await queries.apps([row["app_id"]])).get(row["app_id"])
    return None if app is None else Waiting(app, details.unpack(row["asked_json"]))


async def _close(handle: str) -> None:
    """Errors: NotFound when it was decided before."""
    if not await db.execute(
        "UPDATE app_request SET state = 'used' WHERE handle_hash = $1 AND state = 'opened'"
        " AND expires_at > clock_timestamp()",
        rules.hashed(handle),
    ):
        raise NotFound()


async def deny(handle: str) -> None:
    """Say no to a request. Errors: NotFound when it was decided before."""
    await _close(handle)


_CODE = """
INSERT INTO app_code (code_hash, app_id, grant_id, redirect_uri, challenge, jkt, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp() + make_interval(secs => $7))
"""


async def allow(
    handle: str,
    request: Waiting,
    *,
    merchant_id: UUID,
    account_id: UUID,
    auth_at: datetime,
    acr: Acr = Acr.PASSWORD,
) -> str:
    """Say yes: a grant and its code, once. Units: the code is good for `CODE_S`.

    Errors: NotFound when the request was decided before, or the person is no member of the merchant.
    """
    code = rules.make("c")
    async with db.transaction():
        await _close(handle)
        grant_id = await _grant(
            request.app, request.asked, "code", merchant_id, account_id, auth_at, acr
        )
        await db.execute(
            _CODE,
            rules.hashed(code),
            request.app.id,
            grant_id,
            request.asked.redirect_uri,
            request.asked.challenge,
            request.asked.jkt,
            float(rules.CODE_S),
        )
    return code


# Only a member can let an app in, and only for as long as they are one.
_GRANT = """
INSERT INTO app_grant (id, merchant_id, app_id, account_id, kind, scopes, auth_at, expires_at, acr)
SELECT $1, m.merchant_id, $2, m.account_id, $3, $4, $5, $6, $9 FROM membership m
WHERE m.merchant_id = $7 AND m.account_id = $8
"""
_TOO_MANY = """
UPDATE app_grant SET revoked_at = clock_timestamp(), revoked_for = 'too_many'
WHERE id IN (SELECT id FROM app_grant WHERE app_id = $1 AND merchant_id = $2 AND account_id = $3
    AND revoked_at IS NULL ORDER BY id DESC OFFSET $4)
"""


async def _grant(
    app: App,
    asked: Asked,
    kind: str,
    merchant_id: UUID,
    account_id: UUID,
    auth_at: datetime,
    acr: Acr = Acr.PASSWORD,
) -> UUID:
    grant_id = ids.uuid7()
    if asked.merchant_id not in (None, merchant_id) or not await db.execute(
        _GRANT,
        grant_id,
        app.id,
        kind,
        list(asked.scopes),
        auth_at,
        asked.expires_at,
        merchant_id,
        account_id,
        str(acr),
    ):
        raise NotFound()
    await db.execute(
        "INSERT INTO app_limit (grant_id, scope, ccy, max_minor)"
        " SELECT $1, * FROM unnest($2::text[], $3::text[], $4::bigint[])",
        grant_id,
        [limit.scope for limit in asked.limits],
        [limit.most.currency for limit in asked.limits],
        [limit.most.minor for limit in asked.limits],
    )
    if await db.execute(_TOO_MANY, app.id, merchant_id, account_id, rules.GRANTS_MAX):
        await presence.tell(app.id)
    actor = Actor("merchant", ids.encode("acc", account_id))
    await audit.record(
        merchant_id,
        actor,
        "app.allowed",
        grant_id,
        app=app.client_id,
        scopes=list(asked.scopes),
        kind=kind,
    )
    return grant_id


async def allow_client(
    app: App,
    asked: Asked,
    *,
    merchant_id: UUID,
    account_id: UUID,
    auth_at: datetime,
    acr: Acr = Acr.PASSWORD,
) -> UUID:
    """Let an app of one's own act by itself (client credentials), never beyond oneself; replaces the grant before.

    Errors: NotFound when the person is no member.
    """
    async with db.transaction():
        await db.row("SELECT id FROM partner_app WHERE id = $1 FOR NO KEY UPDATE", app.id)
        await db.execute(
            "UPDATE app_grant SET revoked_at = clock_timestamp(), revoked_for = 'replaced'"
            " WHERE app_id = $1 AND kind = 'client' AND revoked_at IS NULL",
            app.id,
        )
        await presence.tell(app.id)
        return await _grant(app, asked, "client", merchant_id, account_id, auth_at, acr)


async def revoke(merchant_id: UUID, grant_id: UUID, *, actor: Actor) -> bool:
    """End a grant and all that hangs on it; false when it was over. Elsewhere it dies within five seconds."""
    async with db.transaction():
        ended = await end(grant_id, "revoked", merchant_id)
        if ended:
            await audit.record(merchant_id, actor, "app.revoked", grant_id)
    return ended


async def end(grant_id: UUID, why: str, merchant_id: UUID | None = None) -> bool:
    """End a grant for a reason of ours; false when it was over."""
    ended = await db.execute(
        "UPDATE app_grant SET revoked_at = clock_timestamp(), revoked_for = $2"
        " WHERE id = $1 AND revoked_at IS NULL AND ($3::uuid IS NULL OR merchant_id = $3)",
        grant_id,
        why,
        merchant_id,
    )
    if ended:
        await presence.tell(grant_id)
    return bool(ended)


async def spend(grant_id: UUID, scope: str, amount: Money) -> None:
    """Count money an app moves against its limit, in the transaction that moves it; no limits, nothing to count.

    Units: minor. Errors: AppLimitExceeded, also for a currency that no limit names while others do.
    """
    assert db.in_transaction(), "what is counted commits with what is moved"
    if await db.execute(
        "UPDATE app_limit SET used_minor = used_minor + $4"
        " WHERE grant_id = $1 AND scope = $2 AND ccy = $3 AND used_minor + $4 <= max_minor",
        grant_id,
        scope,
        amount.currency,
        amount.minor,
    ):
        return
    limited = "SELECT EXISTS (SELECT FROM app_limit WHERE grant_id = $1 AND scope = $2)"
    if await db.value(limited, grant_id, scope):
        raise AppLimitExceeded(amount=amount)


async def limits_of(grant_id: UUID) -> Sequence[Limit]:
    """The limits of a grant."""
    found = await queries.grant(grant_id)
    return () if found is None else found.limits


@dataclass(frozen=True, slots=True)
class Device:
    """What a device shows and polls with."""

    device_code: str
    user_code: str


async def start_device(app: App, asked: Asked) -> Device:
    """A device asks for a person (RFC 8628). Units: good for `DEVICE_S`."""
    made = Device(rules.make("d"), rules.user_code())
    await db.execute(
        "INSERT INTO app_device (device_hash, user_hash, app_id, asked_json, interval_s, expires_at)"
        " VALUES ($1, $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6))",
        rules.hashed(made.device_code),
        rules.hashed(rules.user_key(made.user_code)),
        app.id,
        details.pack(asked),
        rules.DEVICE_INTERVAL_S,
        float(rules.DEVICE_S),
    )
    return made


async def device(typed: str) -> Waiting | None:
    """The device that shows this user code; None when there is none, or it was decided."""
    row = await db.row(
        "SELECT app_id, asked_json FROM app_device WHERE user_hash = $1 AND state = 'waiting'"
        " AND expires_at > clock_timestamp()",
        rules.hashed(rules.user_key(typed)),
    )
    return None if row is None else await _waiting(row)


async def allow_device(
    typed: str,
    request: Waiting,
    *,
    merchant_id: UUID,
    account_id: UUID,
    auth_at: datetime,
    acr: Acr = Acr.PASSWORD,
) -> None:
    """Let a device in, once. Errors: NotFound as `allow`."""
    async with db.transaction():
        grant_id = await _grant(
            request.app, request.asked, "device", merchant_id, account_id, auth_at, acr
        )
        await _decide(typed, "approved", grant_id)


async def deny_device(typed: str) -> None:
    """Keep a device out. Errors: NotFound when it was decided before."""
    await _decide(typed, "denied", None)


async def _decide(typed: str, state: str, grant_id: UUID | None) -> None:
    if not await db.execute(
        "UPDATE app_device SET state = $2, grant_id = $3 WHERE user_hash = $1 AND state = 'waiting'"
        " AND expires_at > clock_timestamp()",
        rules.hashed(rules.user_key(typed)),
        state,
        grant_id,
    ):
        raise NotFound()
