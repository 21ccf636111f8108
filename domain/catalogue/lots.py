"""Lots of keys as their merchant sees them: how many are where, off the shelf and back on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.catalogue import keys
from domain.catalogue.terms import INPUT
from domain.core import audit, clock, db, ids, promises, words
from domain.core.audit import Actor
from domain.core.errors import FieldInvalid
from domain.core.money import Money

REASON_MAX = 200
# How many lots of a variant are shown with it; older ones are on their own pages.
SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class Counts:
    """Keys by where they are; `expired` were never sold and never will be."""

    available: int = 0
    reserved: int = 0
    sold: int = 0
    locked: int = 0
    expired: int = 0
    revoked: int = 0


@dataclass(frozen=True, slots=True)
class Lot:
    """Keys that came in together; `expires_at` None is never."""

    no: int
    merchant_id: UUID
    variant_id: UUID
    cost: Money | None
    region: str | None
    expires_at: datetime | None
    note: str
    created_at: datetime
    counts: Counts

    @property
    def id(self) -> UUID:
        """The lot's number in the form of all ids."""
        return UUID(int=self.no)


# $1 is now.
_COUNTS = """
    count(*) FILTER (WHERE k.state = 'available' AND k.expires_at > $1) AS available,
    count(*) FILTER (WHERE k.state = 'reserved') AS reserved,
    count(*) FILTER (WHERE k.state = 'sold') AS sold,
    count(*) FILTER (WHERE k.state = 'locked') AS locked,
    count(*) FILTER (WHERE k.state = 'available' AND k.expires_at <= $1) AS expired,
    count(*) FILTER (WHERE k.state IN ('revoked', 'replaced')) AS revoked
"""
_LOT = f"""
l.no, l.merchant_id, l.variant_id, l.cost_minor, l.currency, l.region,
CASE WHEN isfinite(l.expires_at) THEN l.expires_at END AS expires_at, l.note, l.created_at, n.*
FROM {{which}} CROSS JOIN LATERAL (
    SELECT {_COUNTS} FROM card_key k WHERE k.lot_no = l.no AND k.merchant_id = l.merchant_id) AS n
"""
_NEWEST = f"""
SELECT {
    _LOT.format(
        which='''unnest($2::uuid[], $3::uuid[]) AS v(merchant_id, id) CROSS JOIN LATERAL (
    SELECT * FROM stock_lot s WHERE s.merchant_id = v.merchant_id AND s.variant_id = v.id
    ORDER BY s.no DESC LIMIT $4) AS l'''
    )
} ORDER BY l.no DESC
"""


def _lot(row: Any) -> Lot:
    no, merchant_id, variant_id, cost, currency, region, expires_at, note, made_at, *counts = row
    return Lot(
        no,
        merchant_id,
        variant_id,
        None if cost is None else Money(cost, currency),
        region,
        expires_at,
        note,
        made_at,
        Counts(*counts),
    )


async def newest_lots(variants: Sequence[tuple[UUID, UUID]]) -> dict[UUID, list[Lot]]:
    """The newest lots of many (merchant id, variant id) with their counts: one statement."""
    rows = await db.fetch(
        _NEWEST,
        clock.now(),
        [merchant_id for merchant_id, _ in variants],
        [variant_id for _, variant_id in variants],
        SHOWN_MAX,
    )
    found: dict[UUID, list[Lot]] = {variant_id: [] for _, variant_id in variants}
    for row in rows:
        found[row["variant_id"]].append(_lot(row))
    return found


async def lots_of(
    merchant_id: UUID,
    variant_id: UUID,
    *,
    beyond: int | None = None,
    limit: int,
    backward: bool = False,
) -> list[Lot]:
    """A stretch of a variant's lots, newest first, from the number `beyond` on, or back from it."""
    order, sign = ("ASC", ">") if backward else ("DESC", "<")
    which = f"""(SELECT * FROM stock_lot s WHERE s.merchant_id = $2 AND s.variant_id = $3
        AND ($4::bigint IS NULL OR s.no {sign} $4) ORDER BY s.no {order} LIMIT $5) AS l"""
    rows = await db.fetch(
        f"SELECT {_LOT.format(which=which)} ORDER BY l.no {order}",
        clock.now(),
        merchant_id,
        variant_id,
        beyond,
        limit,
    )
    return [_lot(row) for row in rows]


async def find_lot(merchant_ids: Sequence[UUID], lot_id: UUID) -> Lot | None:
    """A lot of one of these merchants; None when there is none."""
    if lot_id.int >= 2**63:
        return None
    which = "(SELECT * FROM stock_lot s WHERE s.merchant_id = ANY($2) AND s.no = $3) AS l"
    sql = f"SELECT {_LOT.format(which=which)}"
    row = await db.row(sql, clock.now(), list(merchant_ids), lot_id.int)
    return _lot(row) if row else None


async def stock_counts(variants: Sequence[tuple[UUID, UUID]]) -> dict[UUID, Counts]:
    """The keys of many (merchant id, variant id) over all their lots: one statement."""
    rows: list[Any] = await db.fetch(
        f"SELECT l.variant_id, {_COUNTS} FROM stock_lot l"
        " JOIN card_key k ON k.lot_no = l.no AND k.merchant_id = l.merchant_id"
        " WHERE l.merchant_id = ANY($2) AND l.variant_id = ANY($3) GROUP BY 1",
        clock.now(),
        list({merchant_id for merchant_id, _ in variants}),
        [variant_id for _, variant_id in variants],
    )
    found = {row[0]: Counts(*list(row)[1:]) for row in rows}
    return {variant_id: found.get(variant_id, Counts()) for _, variant_id in variants}


# Waits for keys that a purchase is looking at right now, instead of leaving them on the shelf: claims never wait
# for us, so nobody can wait in a circle. What the purchase takes is skipped.
_MOVE = """
WITH picked AS MATERIALIZED (
    SELECT id FROM card_key WHERE lot_no = $2 AND merchant_id = $1 AND state = $3
        AND exported_at IS NULL ORDER BY id LIMIT $5 FOR UPDATE)
UPDATE card_key c SET state = $4 FROM picked
WHERE c.merchant_id = $1 AND c.id = picked.id AND c.state = $3
"""


async def withdraw(lot: Lot, count: int | None, actor: Actor, reason: str) -> int:
    """Take available keys of a lot off the shelf, all of them or `count`; how many (M07).

    Reserved and sold keys stay their order's (D02). Errors: InputInvalid.
    """
    return await _move(lot, count, ("available", "locked"), actor, reason)


async def restore(lot: Lot, count: int | None, actor: Actor, reason: str) -> int:
    """Put withdrawn keys of a lot back, all of them or `count`; how many. Exported ones stay locked: somebody has
    seen them. Errors: InputInvalid."""
    moved = await _move(lot, count, ("locked", "available"), actor, reason)
    if moved:
        await keys.refilled(lot.merchant_id, lot.variant_id)
        # Orders that were paid and short may now be served (D06).
        key = f"stock:{ids.uuid7()}"
        await promises.promise("delivery", "stock.arrived", lot.variant_id, key=key)
    return moved


async def _move(
    lot: Lot, count: int | None, way: tuple[str, str], actor: Actor, reason: str
) -> int:
    assert db.in_transaction(), "keys move with the key of the call that moves them"
    faults = []
    if count is not None and count < 1:
        faults.append(FieldInvalid(path=(*INPUT, "count"), reason="range", min=1))
    if not words.is_line(reason, REASON_MAX):
        faults.append(FieldInvalid(path=(*INPUT, "reason"), reason="text", max=REASON_MAX))
    words.refuse(faults)
    source, target = way
    moved = await db.execute(_MOVE, lot.merchant_id, lot.no, source, target, count)
    await audit.record(
        lot.merchant_id,
        actor,
        f"stock.{target}",
        lot.variant_id,
        keys=moved,
        lot=lot.no,
        reason=reason,
    )
    return moved
