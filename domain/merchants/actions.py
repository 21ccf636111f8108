"""Writes about merchants: open and close them, their shops, and the versions of their terms.

The settlement, reserve and split tables are written here as well, because terms are agreed with a
merchant as one thing; `settlement` only reads them, through `plans`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.core import audit, db, ids, versions, words
from domain.core.audit import Actor
from domain.core.errors import FieldInvalid, InputInvalid, NotFound
from domain.merchants import queries, rules
from domain.merchants.rules import FeeSchedule, FeeTerms, ReserveKind, Speed, SplitLeg

SHOPS_MAX = 50  # handles are first come, first served
_TERMS_LOCK = (
    0x7465726D  # "term": versions of terms are numbered one writer at a time, they are rare
)


async def open_merchant(
    name: str,
    *,
    base_ccy: str,
    country: str,
    contact_email: str,
    locale: str = "en",
    zone: str = "UTC",
) -> UUID:
    """A new merchant; its id. `contact_email` is normalised already. Errors: InputInvalid."""
    rules.check_merchant(name, base_ccy, country)
    merchant_id = ids.uuid7()
    await db.execute(
        "INSERT INTO merchant (id, name, base_ccy, country, contact_email, locale, zone)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        merchant_id,
        name,
        base_ccy,
        country,
        contact_email,
        locale,
        zone,
    )
    return merchant_id


async def close_merchant(merchant_id: UUID) -> bool:
    """No new orders from now on, open ones go on to their end (E16). False when closed before."""
    closed = await db.execute(
        "UPDATE merchant SET state = 'closed', closed_at = clock_timestamp(), version = version + 1"
        " WHERE id = $1 AND state = 'open'",
        merchant_id,
    )
    queries.forget()
    return bool(closed)


async def open_shop(
    merchant_id: UUID,
    handle: str,
    names: Mapping[str, str],
    theme: Mapping[str, Any] | None = None,
    *,
    shop_id: UUID | None = None,
    actor: Actor | None = None,
) -> UUID:
    """A new shop under `handle`; its id. Errors: InputInvalid, HandleTaken, NotFound (no open
    merchant)."""
    rules.check_shop(handle, names)
    shop_id = shop_id or ids.uuid7()
    async with db.transaction():
        state = await db.value(
            "SELECT state FROM merchant WHERE id = $1 FOR NO KEY UPDATE", merchant_id
        )
        if state != "open":
            raise NotFound()
        count = await db.value("SELECT count(*) FROM shop WHERE merchant_id = $1", merchant_id)
        if count >= SHOPS_MAX:
            raise InputInvalid(FieldInvalid(path=("input", "merchantId"), reason="shops"))
        made = await db.execute(
            "INSERT INTO shop (id, merchant_id, handle, name_json, theme_json) VALUES ($1, $2,"
            " $3, $4, $5)"
            " ON CONFLICT (handle) DO NOTHING",
            shop_id,
            merchant_id,
            handle,
            dict(names),
            dict(theme or {}),
        )
        if not made:
            raise rules.HandleTaken(path=("input", "handle"), handle=handle)
        after = {"handle": handle, "names": dict(names)}
        await audit.changed(merchant_id, actor, "shop.create", shop_id, {}, after)
    return shop_id


async def rename_shop(
    merchant_id: UUID,
    shop_id: UUID,
    names: Mapping[str, str],
    *,
    without: Sequence[str] = (),
    expected_version: int,
    actor: Actor | None = None,
) -> int:
    """Set a shop's name in these languages and drop it in others; the new version.

    Shown at once by this process, by others within two seconds. Errors: InputInvalid, NotFound, Conflict.
    """
    words.refuse(rules.name_faults(list(names.items())))
    async with db.transaction():
        version = await versions.bump("shp", merchant_id, shop_id, expected_version)
        before = await db.value("SELECT name_json FROM shop WHERE id = $1", shop_id)
        gone = {words.tag(one) for one in without}
        spoken = {words.tag(language): name.strip() for language, name in names.items()}
        after = {
            language: name
            for language, name in {**before, **spoken}.items()
            if language not in gone
        }
        if not 1 <= len(after) <= words.LANGUAGES_MAX:
            name, reason = ("names", "count") if after else ("removeLanguages", "last")
            raise InputInvalid(FieldInvalid(path=("input", name), reason=reason))
        await db.execute("UPDATE shop SET name_json = $2 WHERE id = $1", shop_id, after)
        await audit.changed(
            merchant_id, actor, "shop.change", shop_id, {"names": before}, {"names": after}
        )
        db.after_commit(_forget)
    return version


async def _forget() -> None:
    queries.forget()


_LAST_FEE = """
SELECT clock_timestamp() AS now, max(version) AS version, max(valid_from_at) AS valid_from_at FROM
    fee_schedule
WHERE scope = $1 AND merchant_id IS NOT DISTINCT FROM $2 AND subject IS NOT DISTINCT FROM $3 AND
    payer = $4
    AND ccy IS NOT DISTINCT FROM $5
"""


async def set_fee(terms: FeeTerms) -> FeeSchedule:
    """Add the next version of a fee schedule; the one before ends where it begins.

    Errors: InputInvalid, also when it would begin in the past or not after the last version (J37).
    """
    rules.check_fee(terms)
    async with db.transaction():
        await db.execute("SELECT pg_advisory_xact_lock($1)", _TERMS_LOCK)
        subject = (terms.scope, terms.merchant_id, terms.subject, terms.payer, terms.ccy)
        last = await db.row(_LAST_FEE, *subject)
        assert last is not None
        starts_at = _starts(terms.valid_from_at, last)
        made = FeeSchedule(
            id=ids.uuid7(),
            scope=terms.scope,
            version=(last["version"] or 0) + 1,
            ccy=terms.ccy,
            pct_bps=terms.pct_bps,
            fixed_minor=terms.fixed_minor,
            min_minor=terms.min_minor,
            max_minor=terms.max_minor,
        )
        await db.execute(
            "INSERT INTO fee_schedule (id, scope, merchant_id, subject, payer, ccy, version,"
            " pct_bps, fixed_minor,"
            " min_minor, max_minor, valid_from_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9,"
            " $10, $11, $12)",
            made.id,
            *subject,
            made.version,
            made.pct_bps,
            made.fixed_minor,
            made.min_minor,
            made.max_minor,
            starts_at,
        )
    queries.forget()
    return made


def _starts(asked_at: datetime | None, last: db.Record) -> datetime:
    """When a new version begins: now, or later when asked; never in what was charged already."""
    starts_at: datetime = asked_at or last["now"]
    if starts_at < last["now"]:
        raise InputInvalid(FieldInvalid(path=("input", "validFromAt"), reason="past"))
    if last["valid_from_at"] is not None and starts_at <= last["valid_from_at"]:
        raise InputInvalid(FieldInvalid(path=("input", "validFromAt"), reason="overlap"))
    return starts_at


async def set_settlement(
    merchant_id: UUID, speed: Speed, *, days: int, zone: str = "UTC", float_limit_minor: int = 0
) -> None:
    """When the merchant's part of new sales becomes available, in `days`. Errors: InputInvalid."""
    rules.check_settlement(speed, days)
    await db.execute(
        "INSERT INTO settlement_plan (merchant_id, speed, days, zone, float_limit_minor) VALUES"
        " ($1, $2, $3, $4, $5)"
        " ON CONFLICT (merchant_id) DO UPDATE SET speed = EXCLUDED.speed, days = EXCLUDED.days,"
        " zone = EXCLUDED.zone, float_limit_minor = EXCLUDED.float_limit_minor",
        merchant_id,
        speed,
        days,
        zone,
        float_limit_minor,
    )
    queries.forget()


async def set_reserve(
    merchant_id: UUID,
    kind: ReserveKind,
    *,
    pct_bps: int,
    days: int,
    reason: str,
    valid_from_at: datetime | None = None,
) -> UUID:
    """Keep back part of new sales for `days`; 0 bps ends it. Holds made before stay as they are.

    Errors: InputInvalid, also when it would begin in the past or not after the last plan.
    """
    rules.check_reserve(kind, pct_bps, days)
    plan_id = ids.uuid7()
    async with db.transaction():
        await db.execute("SELECT pg_advisory_xact_lock($1)", _TERMS_LOCK)
        last = await db.row(
            "SELECT clock_timestamp() AS now, max(valid_from_at) AS valid_from_at FROM reserve_plan"
            " WHERE merchant_id = $1",
            merchant_id,
        )
        assert last is not None
        await db.execute(
            "INSERT INTO reserve_plan (id, merchant_id, kind, pct_bps, days, reason, valid_from_at)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7)",
            plan_id,
            merchant_id,
            kind,
            pct_bps,
            days,
            reason[:64],
            _starts(valid_from_at, last),
        )
    queries.forget()
    return plan_id


async def set_split(
    merchant_id: UUID | None,
    applies_to: str,
    legs: Sequence[SplitLeg],
    *,
    allocation: str = "ratio",
    valid_from_at: datetime | None = None,
) -> UUID:
    """Add the next version of a split rule; None is the platform's default. Errors: InputInvalid
    (J37)."""
    rules.check_split(legs)
    rule_id = ids.uuid7()
    async with db.transaction():
        await db.execute("SELECT pg_advisory_xact_lock($1)", _TERMS_LOCK)
        last = await db.row(
            "SELECT clock_timestamp() AS now, max(version) AS version, max(valid_from_at) AS"
            " valid_from_at"
            " FROM split_rule WHERE merchant_id IS NOT DISTINCT FROM $1 AND applies_to = $2",
            merchant_id,
            applies_to,
        )
        assert last is not None
        await db.execute(
            "INSERT INTO split_rule (id, merchant_id, version, applies_to, allocation, legs_json,"
            " valid_from_at)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7)",
            rule_id,
            merchant_id,
            (last["version"] or 0) + 1,
            applies_to,
            allocation,
            [_leg(leg) for leg in legs],
            _starts(valid_from_at, last),
        )
    return rule_id


def _leg(leg: SplitLeg) -> dict[str, Any]:
    parts = {
        "pct_bps": leg.pct_bps,
        "fixed_minor": leg.fixed_minor,
        "remainder": leg.remainder or None,
    }
    kept = {name: value for name, value in parts.items() if value is not None}
    return {"leg": leg.leg, "purpose": leg.purpose, "owner": leg.owner, **kept}
