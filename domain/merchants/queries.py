"""Reads of merchants: shops by handle or id, and the terms of many merchants in one statement."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import time
from typing import Any, TypeVar
from uuid import UUID

from domain.core import clock, db
from domain.merchants.models import Merchant, Shop
from domain.merchants.rules import FeeSchedule, Plans, Scope, Speed

# A changed term or a closed shop is seen everywhere within two seconds; a sale then costs no
# statement for it.
CACHE_S = 2.0
CACHE_MAX = 10_000

K = TypeVar("K")
V = TypeVar("V")

_plans: dict[UUID, tuple[float, Plans]] = {}
_shops: dict[UUID | str, tuple[float, Shop]] = {}

_PLANS = """
SELECT m.id, m.base_ccy, s.speed, s.days, s.cutoff, s.zone, s.float_limit_minor,
    r.id AS reserve_plan_id, r.kind AS reserve_kind, r.pct_bps AS reserve_bps, r.days AS
        reserve_days, f.fees
FROM merchant m
LEFT JOIN settlement_plan s ON s.merchant_id = m.id
LEFT JOIN LATERAL (
    SELECT * FROM reserve_plan r WHERE r.merchant_id = m.id AND r.valid_from_at <= clock_timestamp()
    ORDER BY r.valid_from_at DESC LIMIT 1) r ON true
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_array(v.id, v.scope, v.version, v.ccy, v.pct_bps, v.fixed_minor,
        v.min_minor,
        v.max_minor)) AS fees
    FROM (
        SELECT DISTINCT ON (f.scope, f.ccy) f.* FROM fee_schedule f
        WHERE f.payer = 'merchant' AND f.valid_from_at <= clock_timestamp()
            AND (f.scope = 'platform' OR (f.scope = 'merchant' AND f.merchant_id = m.id))
        ORDER BY f.scope, f.ccy, f.valid_from_at DESC) v) f ON true
WHERE m.id = ANY($1)
"""


async def plans(merchant_ids: Iterable[UUID]) -> dict[UUID, Plans]:
    """The terms of each merchant now, at most two seconds old; unknown ids are left out.

    One statement for all that are not kept in this process, none when all are.
    """
    now = clock.monotonic()
    wanted = set(merchant_ids)
    found = {}
    for merchant_id in wanted:
        kept = _plans.get(merchant_id)
        if kept is not None and kept[0] > now:
            found[merchant_id] = kept[1]
    missing = [merchant_id for merchant_id in wanted if merchant_id not in found]
    if missing:
        for row in await db.fetch(_PLANS, missing):
            found[row["id"]] = _plan(row)
            _keep(_plans, row["id"], found[row["id"]])
    return found


def _plan(row: Any) -> Plans:
    reserve_bps = 10_000 if row["reserve_kind"] == "full" else row["reserve_bps"]
    terms: dict[str, Any] = {}
    if row["speed"] is not None:
        terms = {
            "speed": Speed(row["speed"]),
            "days": row["days"],
            "zone": row["zone"],
            "cutoff_s": _seconds(row["cutoff"]),
            "float_limit_minor": row["float_limit_minor"],
        }
    if reserve_bps:
        terms |= {
            "reserve_plan_id": row["reserve_plan_id"],
            "reserve_bps": reserve_bps,
            "reserve_days": row["reserve_days"],
        }
    fees = tuple(
        FeeSchedule(UUID(fee_id), Scope(scope), *rest) for fee_id, scope, *rest in row["fees"] or ()
    )
    return Plans(merchant_id=row["id"], base_ccy=row["base_ccy"], fees=fees, **terms)


def _seconds(at: time) -> int:
    return at.hour * 3600 + at.minute * 60 + at.second


_SHOP = """
SELECT s.id, s.merchant_id, s.handle, s.name_json, s.theme_json, m.name, m.base_ccy, m.country,
    m.locale,
    m.state = 'open', s.version
FROM shop s JOIN merchant m ON m.id = s.merchant_id WHERE
"""


async def shop_by_handle(handle: str) -> Shop | None:
    """The shop behind a handle, at most two seconds old; None when there is none."""
    kept = _shops.get(handle)
    if kept is not None and kept[0] > clock.monotonic():
        return kept[1]
    row = await db.row(_SHOP + "s.handle = $1", handle)
    return _remember(row) if row else None


async def shops(shop_ids: Iterable[UUID]) -> dict[UUID, Shop]:
    """Shops by id in at most one statement; unknown ids are left out."""
    now = clock.monotonic()
    wanted = set(shop_ids)
    found = {
        key: kept[1] for key in wanted if (kept := _shops.get(key)) is not None and kept[0] > now
    }
    missing = [key for key in wanted if key not in found]
    if missing:
        for row in await db.fetch(_SHOP + "s.id = ANY($1)", missing):
            found[row["id"]] = _remember(row)
    return found


def _remember(row: Any) -> Shop:
    found = Shop(*row)
    _keep(_shops, found.handle, found)
    _keep(_shops, found.id, found)
    return found


def _keep(cache: dict[K, tuple[float, V]], key: K, value: V) -> None:
    cache.pop(key, None)
    while len(cache) >= CACHE_MAX:
        del cache[next(iter(cache))]  # the oldest: insertion order is age
    cache[key] = (clock.monotonic() + CACHE_S, value)


def forget() -> None:
    """Drop what this process keeps; writers call it, others see the change within two seconds."""
    _plans.clear()
    _shops.clear()


async def shops_of(merchant_ids: Iterable[UUID]) -> list[Shop]:
    """All shops of these merchants, oldest first."""
    rows = await db.fetch(_SHOP + "s.merchant_id = ANY($1) ORDER BY s.id", list(merchant_ids))
    return [Shop(*row) for row in rows]


async def merchants(merchant_ids: Iterable[UUID]) -> dict[UUID, Merchant]:
    """Merchants by id in one statement; unknown ids are left out."""
    return {row.id: row for row in await Merchant.filter(id__in=list(merchant_ids))}
