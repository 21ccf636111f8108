"""Holds: who has unpaid stock reserved, until when, and how it goes back when they do not pay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain.catalogue.rules import Holding
from domain.core import clock, db

FINGERPRINTS = ("address", "device", "email")
SWEEP_MAX = 500
FOLD_MAX = 2_000
FOLDED_SHARD = 64  # no connection writes this one, so folding never meets a sale
LAPSED_KEEP = timedelta(days=1)

_HELD_BY = """
WITH asked AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::bytea[], $5::bytea[]) WITH ORDINALITY
        AS t(order_id, merchant_id, address_hash, device_hash, email_hash, place))
""" + " UNION ALL ".join(
    f"SELECT a.place, '{name}' AS name, h.state, count(*)::int AS orders, sum(h.quantity)::int AS units"
    f" FROM asked a JOIN stock_hold h ON h.merchant_id = a.merchant_id AND h.{name}_hash = a.{name}_hash"
    " AND h.order_id <> a.order_id GROUP BY 1, 3"
    for name in FINGERPRINTS
)


async def held_by(
    asked: Sequence[tuple[UUID, UUID, Mapping[str, bytes]]],
) -> list[dict[str, Holding]]:
    """What buyers hold unpaid of a merchant's stock, per fingerprint, beside the order they ask for.

    `asked` has (order, merchant, fingerprints); the answers come in the same order.
    """
    rows: list[Any] = await db.fetch(
        _HELD_BY,
        [order_id for order_id, _, _ in asked],
        [merchant_id for _, merchant_id, _ in asked],
        *([prints.get(name) for _, _, prints in asked] for name in FINGERPRINTS),
    )
    found = [
        {name: {"held": (0, 0), "lapsed": (0, 0)} for name in prints} for _, _, prints in asked
    ]
    for row in rows:
        found[row["place"] - 1][row["name"]][row["state"]] = (row["orders"], row["units"])
    return [
        {name: Holding(*states["held"], lapsed=states["lapsed"][0]) for name, states in one.items()}
        for one in found
    ]


_RELEASE = """
WITH {gone}
), keys AS (
    UPDATE card_key SET state = 'available', order_id = NULL, order_line_id = NULL
    WHERE order_id IN (SELECT order_id FROM gone) AND state = 'reserved'
), uses AS (
    DELETE FROM reusable_use WHERE order_id IN (SELECT order_id FROM gone) AND state = 'reserved'
    RETURNING merchant_id, reusable_key_id, quantity
), counted AS (
    SELECT merchant_id, reusable_key_id AS id, sum(quantity)::int AS n FROM uses GROUP BY 1, 2
), locked AS (
    SELECT r.merchant_id, r.id FROM reusable_key r JOIN counted USING (merchant_id, id)
    WHERE r.use_limit IS NOT NULL ORDER BY r.merchant_id, r.id FOR NO KEY UPDATE OF r
), given AS (
    UPDATE reusable_key r SET used = r.used - c.n FROM counted c JOIN locked USING (merchant_id, id)
    WHERE r.merchant_id = c.merchant_id AND r.id = c.id
)
SELECT order_id FROM gone
"""
_GIVE_BACK = _RELEASE.format(
    gone="""gone AS (
    DELETE FROM stock_hold WHERE order_id = ANY($1) AND state = 'held' RETURNING order_id"""
)
_LAPSE = _RELEASE.format(
    gone="""gone AS (
    UPDATE stock_hold SET state = 'lapsed', held_until = $2
    WHERE order_id = ANY($1) AND state = 'held' RETURNING order_id"""
)
_SWEEP = _RELEASE.format(
    gone="""due AS MATERIALIZED (
    SELECT order_id, merchant_id FROM stock_hold WHERE state = 'held' AND held_until <= $1
    ORDER BY held_until LIMIT $2 FOR UPDATE SKIP LOCKED
), gone AS (
    UPDATE stock_hold h SET state = 'lapsed' FROM due
    WHERE h.order_id = due.order_id AND h.merchant_id = due.merchant_id RETURNING h.order_id"""
)


async def release(order_ids: Sequence[UUID], *, lapsed: bool = False) -> int:
    """Give reserved keys and uses back to stock; how many of the orders had any.

    `lapsed` when the buyer let the time run out: it counts against hoarding for a day (D05). Sold
    keys stay sold. Inside the caller's transaction, which holds the orders' locks.
    """
    assert db.in_transaction(), "stock goes back with the order's change"
    if not order_ids:
        return 0
    if lapsed:
        return len(await db.fetch(_LAPSE, list(order_ids), clock.now()))
    return len(await db.fetch(_GIVE_BACK, list(order_ids)))


async def extend(order_ids: Sequence[UUID], until: datetime) -> set[UUID]:
    """Hold on while a payment is under way; the orders that still had a hold."""
    rows: list[Any] = await db.fetch(
        "UPDATE stock_hold SET held_until = greatest(held_until, $2)"
        " WHERE order_id = ANY($1) AND state = 'held' RETURNING order_id",
        list(order_ids),
        until,
    )
    return {row["order_id"] for row in rows}


async def sweep(*, limit: int = SWEEP_MAX) -> list[UUID]:
    """Release holds whose time is over, as nobody else did (D09); the orders concerned.

    One statement of its own; two sweepers never meet, and an order being paid right now is skipped.
    """
    rows: list[Any] = await db.fetch(_SWEEP, clock.now(), limit)
    return [row["order_id"] for row in rows]


async def prune() -> int:
    """Forget lapsed holds after a day; the number forgotten."""
    return await db.execute(
        "DELETE FROM stock_hold WHERE state = 'lapsed' AND held_until < $1",
        clock.now() - LAPSED_KEEP,
    )


_FOLD = """
WITH spread AS MATERIALIZED (
    SELECT merchant_id, variant_id, expires_at, shard FROM variant_stock WHERE shard <> $1::smallint
    ORDER BY 1, 2, 3, 4 LIMIT $2 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM variant_stock v USING spread WHERE v.merchant_id = spread.merchant_id
        AND v.variant_id = spread.variant_id AND v.expires_at = spread.expires_at AND v.shard =
        spread.shard
    RETURNING v.merchant_id, v.variant_id, v.expires_at, v.available)
INSERT INTO variant_stock AS s (merchant_id, variant_id, expires_at, shard, available)
SELECT merchant_id, variant_id, expires_at, $1::smallint, sum(available) FROM gone
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
ON CONFLICT (merchant_id, variant_id, expires_at, shard)
DO UPDATE SET available = s.available + excluded.available
"""


async def fold(*, limit: int = FOLD_MAX) -> None:
    """Put the shards of the stock counters together, so that reading them stays short; changes no
    sum."""
    await db.execute(_FOLD, FOLDED_SHARD, limit)


_RETURN_USES = """
WITH uses AS (
    DELETE FROM reusable_use WHERE order_id = ANY($1) AND state = $2 AND order_line_id = ANY($3)
    RETURNING merchant_id, reusable_key_id, quantity)
UPDATE reusable_key r SET used = r.used - u.quantity FROM uses u
WHERE r.merchant_id = u.merchant_id AND r.id = u.reusable_key_id AND r.use_limit IS NOT NULL
"""


async def return_uses(order_ids: Sequence[UUID], state: str, line_ids: Sequence[UUID]) -> None:
    """Take back uses written in this same transaction."""
    assert db.in_transaction(), "only what this transaction took"
    await db.execute(_RETURN_USES, list(order_ids), state, list(line_ids))
