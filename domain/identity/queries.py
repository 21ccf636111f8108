"""Reads about people: the viewer behind a token, an account by its address."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.core import clock, db
from domain.core.errors import NotFound
from domain.core.four_eyes import Approver
from domain.core.settings import settings
from domain.identity import rules
from domain.identity.models import Account
from domain.identity.rules import Acr, HeldAddress, OperatorRole, Proof, Role, Viewer

# A revoked session or role is dead everywhere within five seconds (CASES H14), so a viewer is kept
# for four.
CACHE_S = 4.0
CACHE_MAX = 10_000

_cache: dict[bytes, tuple[float, Viewer]] = {}

# `last_seen_at` moves at most every five minutes: reads stay reads.
# An app that was never confirmed is no factor, nor is a passkey that was copied.
HAS_FACTOR = """
(EXISTS (SELECT FROM mfa f WHERE f.account_id = a.id AND f.confirmed_at IS NOT NULL)
    OR EXISTS (SELECT FROM passkey p WHERE p.account_id = a.id AND p.cloned_at IS NULL))
"""
_VIEWER = f"""
WITH seen AS (
    UPDATE session SET last_seen_at = clock_timestamp()
    WHERE token_hash = $1 AND expires_at > clock_timestamp()
      AND last_seen_at BETWEEN clock_timestamp() - make_interval(hours => $2)
          AND clock_timestamp() - interval '5 minutes')
SELECT s.id AS session_id, s.expires_at, a.id, a.email, a.locale, a.kind,
    a.email_verified_at IS NOT NULL AS is_verified, s.acr, s.auth_at, {HAS_FACTOR} AS has_factor,
    ARRAY(SELECT m.merchant_id FROM membership m WHERE m.account_id = a.id ORDER BY m.no) AS
        merchants,
    ARRAY(SELECT m.role::text FROM membership m WHERE m.account_id = a.id ORDER BY m.no) AS roles,
    ARRAY(SELECT o.role::text FROM operator_role o WHERE o.account_id = a.id) AS operator_roles,
    (SELECT max(l.left_at) FROM address_left l WHERE l.email = a.email AND l.undone_at IS NULL) AS held_after,
    (SELECT json_agg(json_build_array(l.email, (SELECT max(b.left_at) FROM address_left b
            WHERE b.email = l.email AND b.left_at < l.left_at AND b.undone_at IS NULL), l.left_at) ORDER BY l.no)
        FROM address_left l WHERE l.account_id = a.id AND l.undone_at IS NULL) AS held_before
FROM session s JOIN account a ON a.id = s.account_id
WHERE s.token_hash = $1 AND s.expires_at > clock_timestamp() AND a.state = 'open'
    AND s.last_seen_at > clock_timestamp() - make_interval(hours => $2)
"""


async def viewer(token: str) -> Viewer | None:
    """Who holds the token; None when it is unknown or over. One statement, kept four seconds."""
    if not rules.is_token(token):
        return None
    hashed = rules.token_hash(token)
    kept = _cache.get(hashed)
    if kept is not None and kept[0] > clock.monotonic() and kept[1].expires_at > clock.now():
        return kept[1]
    row = await db.row(_VIEWER, hashed, settings().session_idle_hours)
    if row is None:
        _cache.pop(hashed, None)
        return None
    is_operator = row["kind"] == "operator"
    found = Viewer(
        account_id=row["id"],
        email=row["email"],
        locale=row["locale"],
        session_id=row["session_id"],
        expires_at=row["expires_at"],
        roles={
            merchant: Role(role)
            for merchant, role in zip(row["merchants"], row["roles"], strict=True)
        },
        operator=is_operator,
        operator_roles=frozenset(
            OperatorRole(role) for role in row["operator_roles"] if is_operator
        ),
        is_verified=row["is_verified"],
        addresses=_held(row),
        proof=Proof(Acr(row["acr"]), row["auth_at"], row["has_factor"]),
    )
    _keep(hashed, found)
    return found


def _held(row: Any) -> tuple[HeldAddress, ...]:
    """The address of now, once it is proved, and those of before."""
    now = [HeldAddress(row["email"], row["held_after"])] if row["is_verified"] else []
    before = [
        HeldAddress(email, after and datetime.fromisoformat(after), datetime.fromisoformat(until))
        for email, after, until in row["held_before"] or ()
    ]
    return (*now, *before)


_STANDING = """
SELECT a.id, a.email, a.locale, a.kind, a.email_verified_at IS NOT NULL AS is_verified,
    ARRAY(SELECT m.merchant_id FROM membership m WHERE m.account_id = a.id ORDER BY m.no) AS merchants,
    ARRAY(SELECT m.role::text FROM membership m WHERE m.account_id = a.id ORDER BY m.no) AS roles,
    ARRAY(SELECT o.role::text FROM operator_role o WHERE o.account_id = a.id) AS operator_roles
FROM account a WHERE a.id = $1 AND a.state = 'open'
"""


async def standing(account_id: UUID) -> Viewer | None:
    """Who somebody is at this moment, for work that goes on after the call that asked for it; None when closed.

    There is no session in it: it has proved nothing (`proof`), and lasts no longer than the look.
    """
    row = await db.row(_STANDING, account_id)
    if row is None:
        return None
    is_operator = row["kind"] == "operator"
    return Viewer(
        account_id=row["id"],
        email=row["email"],
        locale=row["locale"],
        session_id=row["id"],
        expires_at=clock.now(),
        roles={
            merchant: Role(role)
            for merchant, role in zip(row["merchants"], row["roles"], strict=True)
        },
        operator=is_operator,
        operator_roles=frozenset(
            OperatorRole(role) for role in row["operator_roles"] if is_operator
        ),
        is_verified=row["is_verified"],
    )


def _keep(hashed: bytes, found: Viewer) -> None:
    _cache.pop(hashed, None)
    while len(_cache) >= CACHE_MAX:
        del _cache[next(iter(_cache))]  # the oldest: insertion order is age
    _cache[hashed] = (clock.monotonic() + CACHE_S, found)


def forget_token(hashed: bytes) -> None:
    """Drop one kept viewer of this process."""
    _cache.pop(hashed, None)


def forget_viewers(account_id: UUID | None = None) -> None:
    """Drop the kept viewers of an account in this process, or all of them."""
    if account_id is None:
        _cache.clear()
        return
    for hashed in [key for key, (_, kept) in _cache.items() if kept.account_id == account_id]:
        del _cache[hashed]


async def proof(session_id: UUID) -> Proof:
    """What a session has proved as the database knows it now, not four seconds ago."""
    row = await db.row(
        f"SELECT s.acr, s.auth_at, {HAS_FACTOR} AS has_factor FROM session s"
        " JOIN account a ON a.id = s.account_id WHERE s.id = $1",
        session_id,
    )
    return Proof() if row is None else Proof(Acr(row["acr"]), row["auth_at"], row["has_factor"])


async def people(account_ids: Iterable[UUID]) -> dict[UUID, tuple[str, bool]]:
    """Account → its address, and whether it is an operator's."""
    rows = await db.fetch(
        "SELECT id, email, kind FROM account WHERE id = ANY($1)", list(account_ids)
    )
    return {row["id"]: (row["email"], row["kind"] == "operator") for row in rows}


async def has_factor(account_id: UUID) -> bool:
    """Whether an account has a second factor."""
    return bool(await db.value(f"SELECT {HAS_FACTOR} FROM account a WHERE a.id = $1", account_id))


_SETTLED = """
SELECT greatest(a.credentials_changed_at, a.created_at,
    coalesce((SELECT granted_at FROM membership WHERE account_id = $1 AND merchant_id = $2),
        (SELECT max(granted_at) FROM operator_role WHERE account_id = $1)))
FROM account a WHERE a.id = $1 AND a.state = 'open'
"""


async def approver(account_id: UUID, merchant_id: UUID | None = None) -> Approver:
    """Somebody who is about to approve what another person asked for, in a merchant or on the platform.

    Settled since the last change of their role, password or second factors, every one of which was told to them by
    mail: who took an account over has no second pair of eyes at once. Errors: NotFound.
    """
    settled_at = await db.value(_SETTLED, account_id, merchant_id)
    if settled_at is None:
        raise NotFound()
    return Approver(account_id, settled_at)


async def account_by_email(email: str) -> Account | None:
    """The account with this normalised address."""
    return await Account.get_or_none(email=email)
