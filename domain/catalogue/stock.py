"""Stock between cart and sale: keys are reserved, released, sold; never two owners, never half an
order.

Everything here is set-based and runs inside the caller's transaction. Lock order: holds →
reusable keys → card keys; a reservation's keys are only touched by whoever has its hold. Claims
never wait for each other: they skip locked keys and start at different buckets.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.catalogue import holds
from domain.catalogue.rules import (
    HOLD_LIMITS,
    NOTHING_HELD,
    Delivery,
    Holding,
    HoldLimits,
    OutOfStock,
    check_hold,
)
from domain.core import clock, db

BUCKETS = 64
RIVALS_PAUSE_S = 0.02
KINDS_MAX = 100_000

# (order line, variant, quantity)
Line = tuple[UUID, UUID, int]


@dataclass(frozen=True, slots=True)
class Ask:
    """What one order wants, whole or not at all."""

    order_id: UUID
    merchant_id: UUID
    lines: Sequence[Line]
    # Hashes of the buyer's "email", "device" and "address": who holds too much unpaid is refused.
    fingerprints: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def units(self) -> int:
        """How many pieces."""
        return sum(quantity for _, _, quantity in self.lines)


# A variant's delivery never changes, so it is remembered for as long as the process lives.
_kinds: dict[UUID, Delivery] = {}


async def kinds(merchant_id: UUID, variant_ids: Sequence[UUID]) -> dict[UUID, Delivery]:
    """How each of these variants is delivered; unknown ids are left out."""
    missing = [one for one in variant_ids if one not in _kinds]
    if missing:
        rows: list[Any] = await db.fetch(
            "SELECT id, delivery FROM variant WHERE merchant_id = $1 AND id = ANY($2)",
            merchant_id,
            missing,
        )
        if len(_kinds) > KINDS_MAX:
            _kinds.clear()
        _kinds.update({row["id"]: Delivery(row["delivery"]) for row in rows})
    return {one: _kinds[one] for one in variant_ids if one in _kinds}


# Claims whole orders: per variant, lots first-expiring first; inside a lot from a random bucket
# round. The first `ask.quantity` keys found go to the first line, and so on; an order that is not
# whole takes nothing (its keys stay locked until the transaction ends). `lot` walks the index
# from one lot with open keys to the next, so that lots sold out long ago cost nothing.
_CLAIM = """
WITH asked AS (
    {asked}
), {before} wanted AS (
    SELECT variant_id, sum(quantity)::int AS quantity FROM ask GROUP BY 1
), picked AS MATERIALIZED (
    SELECT w.variant_id, k.id, row_number() OVER (PARTITION BY w.variant_id) AS rank
    FROM wanted w CROSS JOIN LATERAL (
        WITH RECURSIVE lot AS (
            (SELECT expires_at, lot_no FROM card_key
             WHERE variant_id = w.variant_id AND open AND expires_at > $6::timestamptz
             ORDER BY expires_at, lot_no LIMIT 1)
            UNION ALL
            SELECT later.expires_at, later.lot_no FROM lot CROSS JOIN LATERAL (
                SELECT expires_at, lot_no FROM card_key
                WHERE variant_id = w.variant_id AND open
                    AND (expires_at, lot_no) > (lot.expires_at, lot.lot_no)
                ORDER BY expires_at, lot_no LIMIT 1) AS later)
        SELECT of_lot.id FROM lot CROSS JOIN LATERAL (
            SELECT of_bucket.id FROM generate_series(0, 63) AS step CROSS JOIN LATERAL (
                SELECT id FROM card_key
                WHERE variant_id = w.variant_id AND open AND expires_at = lot.expires_at
                    AND lot_no = lot.lot_no AND bucket = (($7::int + step) & 63)
                LIMIT w.quantity FOR UPDATE SKIP LOCKED) AS of_bucket
            LIMIT w.quantity) AS of_lot
        LIMIT w.quantity) AS k
), unit AS (
    SELECT order_id, line_id, merchant_id, variant_id,
        row_number() OVER (PARTITION BY variant_id ORDER BY order_id, line_id) AS rank
    FROM ask CROSS JOIN LATERAL generate_series(1, quantity)
), given AS MATERIALIZED (
    SELECT unit.*, picked.id, bool_and(picked.id IS NOT NULL) OVER (PARTITION BY order_id) AS is_whole
    FROM unit LEFT JOIN picked USING (variant_id, rank)
), taken AS (
    UPDATE card_key c SET state = $8::text, order_id = g.order_id, order_line_id = g.line_id,
        sold_at = CASE WHEN $8::text = 'sold' THEN $6::timestamptz END
    FROM given g WHERE g.is_whole AND c.id = g.id AND c.open
        -- As arrays, so that the primary key is used whatever the planner believes of the table.
        AND c.merchant_id = ANY(ARRAY(SELECT DISTINCT merchant_id FROM ask))
        AND c.id = ANY(ARRAY(SELECT id FROM given WHERE is_whole))
    RETURNING c.order_id, c.merchant_id
) {after}
"""
_LINES = """
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::int[])
        AS t(order_id, merchant_id, line_id, variant_id, quantity)"""
_SELL = _CLAIM.format(
    asked=_LINES,
    before="ask AS (SELECT * FROM asked),",
    after="SELECT order_id, count(*)::int AS taken FROM taken GROUP BY 1",
)
# Reserving an order again only moves its deadline. A hold that lapsed is taken up again.
_BEFORE_RESERVE = """kept AS (
    UPDATE stock_hold SET held_until = greatest(held_until, $9::timestamptz)
    WHERE order_id IN (SELECT order_id FROM asked) AND state = 'held' RETURNING order_id
), ask AS (
    SELECT * FROM asked WHERE order_id NOT IN (SELECT order_id FROM kept)
),"""
_AFTER_RESERVE = """, buyer AS (
    SELECT * FROM unnest($10::uuid[], $11::bytea[], $12::bytea[], $13::bytea[])
        AS t(order_id, address_hash, device_hash, email_hash)
), held AS (
    INSERT INTO stock_hold AS h
        (order_id, merchant_id, quantity, held_until, address_hash, device_hash, email_hash)
    SELECT order_id, t.merchant_id, t.quantity, $9::timestamptz, address_hash, device_hash, email_hash
    FROM (SELECT order_id, merchant_id, count(*) AS quantity FROM taken GROUP BY 1, 2) t
        JOIN buyer USING (order_id)
    ON CONFLICT (order_id, merchant_id) DO UPDATE SET state = 'held', quantity = excluded.quantity,
        held_until = excluded.held_until
    RETURNING order_id)
SELECT order_id FROM kept UNION ALL SELECT order_id FROM held"""
_RESERVE = _CLAIM.format(asked=_LINES, before=_BEFORE_RESERVE, after=_AFTER_RESERVE)


def _columns(asks: Sequence[Ask]) -> list[list[Any]]:
    rows = [(ask.order_id, ask.merchant_id, *line) for ask in asks for line in ask.lines]
    return [list(column) for column in zip(*rows, strict=True)]


async def reserve(
    asks: Sequence[Ask], until: datetime, *, limits: HoldLimits = HOLD_LIMITS
) -> None:
    """Hold keys and uses for orders until `until`: all that each of them needs, or nothing for anybody.

    Idempotent per order. Who already holds too much is refused (D05). Lines made by hand or by a supplier need no
    stock. Errors: OutOfStock, HoldLimit.
    """
    assert db.in_transaction(), "a reservation commits with what it is for"
    await _check_holds(asks, limits)
    of_keys: list[Ask] = []
    parts = [(ask, *await _split(ask.merchant_id, ask.lines)) for ask in asks]
    if len(asks) > 1:
        await _lock_uses([(ask.merchant_id, one[1]) for ask, _, uses in parts for one in uses])
    for ask, keys, uses in parts:
        if uses and not await _claim_uses(ask.order_id, ask.merchant_id, uses, "reserved"):
            raise OutOfStock(variant_id=uses[0][1], available=0)
        if keys:
            of_keys.append(replace(ask, lines=keys))
        elif uses:
            await _hold_uses(replace(ask, lines=uses), until)
    if of_keys and (missed := await _reserve_keys(of_keys, until)):
        if len(asks) > 1:  # alone each of them may wait for its rivals
            raise OutOfStock(variant_id=missed[0].lines[0][1], available=0)
        await _wait_for_rivals(missed)
        if await _reserve_keys(missed, until):
            raise await _short(missed[0].merchant_id, missed[0].lines)


async def _check_holds(asks: Sequence[Ask], limits: HoldLimits) -> None:
    """Errors: HoldLimit. What others of the same set are about to hold counts as held."""
    known = [ask for ask in asks if ask.fingerprints]
    if not known:
        return
    found = await holds.held_by(
        [(ask.order_id, ask.merchant_id, ask.fingerprints) for ask in known]
    )
    more: dict[tuple[UUID, str, bytes], Holding] = {}
    for ask, holdings in zip(known, found, strict=True):
        for name, value in ask.fingerprints.items():
            key = (ask.merchant_id, name, value)
            added = more.get(key, NOTHING_HELD)
            holdings[name] += added
            more[key] = added + Holding(1, ask.units)
        check_hold(holdings, ask.units, limits)


async def _reserve_keys(asks: Sequence[Ask], until: datetime) -> list[Ask]:
    """Hold keys; those who did not get all they need."""
    rows = await db.fetch(
        _RESERVE,
        *_columns(asks),
        clock.now(),
        random.randrange(BUCKETS),
        "reserved",
        until,
        [ask.order_id for ask in asks],
        *([ask.fingerprints.get(name) for ask in asks] for name in holds.FINGERPRINTS),
    )
    held = {row["order_id"] for row in rows}
    return [ask for ask in asks if ask.order_id not in held]


async def _hold_uses(ask: Ask, until: datetime) -> None:
    await db.execute(
        "INSERT INTO stock_hold AS h (order_id, merchant_id, quantity, held_until, address_hash,"
        " device_hash, email_hash) VALUES ($1, $2, $3, $4, $5, $6, $7)"
        " ON CONFLICT (order_id, merchant_id) DO UPDATE SET state = 'held',"
        " held_until = greatest(h.held_until, excluded.held_until)",
        ask.order_id,
        ask.merchant_id,
        ask.units,
        until,
        *(ask.fingerprints.get(name) for name in holds.FINGERPRINTS),
    )


async def _split(merchant_id: UUID, lines: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    """The lines that take keys, and those that take uses of a reusable key."""
    known = await kinds(merchant_id, [variant_id for _, variant_id, _ in lines])
    stock = [line for line in lines if known.get(line[1]) is Delivery.STOCK]
    return stock, [line for line in lines if known.get(line[1]) is Delivery.REUSABLE]


async def _wait_for_rivals(asks: Sequence[Ask]) -> None:
    """When there is enough but others have it locked, one of them may yet roll back: give them a
    moment."""
    wanted: dict[UUID, int] = {}
    for ask in asks:
        for _, variant_id, quantity in ask.lines:
            wanted[variant_id] = wanted.get(variant_id, 0) + quantity
    there = await available(asks[0].merchant_id, list(wanted))
    if all(there.get(variant_id, 0) >= quantity for variant_id, quantity in wanted.items()):
        await asyncio.sleep(RIVALS_PAUSE_S)


async def _short(merchant_id: UUID, lines: Sequence[Line]) -> OutOfStock:
    there = await available(merchant_id, [variant_id for _, variant_id, _ in lines])
    for _, variant_id, quantity in lines:
        if there.get(variant_id, 0) < quantity:
            return OutOfStock(variant_id=variant_id, available=max(0, there.get(variant_id, 0)))
    return OutOfStock(variant_id=lines[0][1], available=0)


async def available(merchant_id: UUID, variant_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Keys that can be sold now, per variant that ever had any; exact, without counting them
    (D10)."""
    rows: list[Any] = await db.fetch(
        "SELECT variant_id, sum(available)::int AS n FROM variant_stock"
        " WHERE merchant_id = $1 AND variant_id = ANY($2) AND expires_at > $3 GROUP BY 1",
        merchant_id,
        list(variant_ids),
        clock.now(),
    )
    return {row["variant_id"]: row["n"] for row in rows}


_USES = """
WITH ask AS (
    SELECT * FROM unnest($3::uuid[], $4::uuid[], $5::int[]) AS t(line_id, variant_id, quantity)
    WHERE NOT EXISTS (
        SELECT FROM reusable_use u WHERE u.merchant_id = $2 AND u.order_line_id = t.line_id)
), limited AS MATERIALIZED (
    SELECT a.line_id, a.quantity, r.id, r.use_limit - r.used >= a.quantity AS fits
    FROM ask a JOIN reusable_key r ON r.merchant_id = $2 AND r.variant_id = a.variant_id
    WHERE r.state = 'active' AND r.use_limit IS NOT NULL ORDER BY r.id FOR NO KEY UPDATE OF r
), free AS (
    SELECT a.line_id, a.quantity, r.id, true AS fits
    FROM ask a JOIN reusable_key r ON r.merchant_id = $2 AND r.variant_id = a.variant_id
    WHERE r.state = 'active' AND r.use_limit IS NULL
), found AS (SELECT * FROM limited UNION ALL SELECT * FROM free),
verdict AS (
    SELECT (SELECT count(*) FROM ask) = (SELECT count(*) FROM found WHERE fits) AS is_whole
), counted AS (
    UPDATE reusable_key r SET used = r.used + l.quantity FROM limited l, verdict
    WHERE r.merchant_id = $2 AND r.id = l.id AND verdict.is_whole
), written AS (
    INSERT INTO reusable_use (merchant_id, order_line_id, order_id, reusable_key_id, quantity,
    state) SELECT $2, line_id, $1, id, quantity, $6 FROM found, verdict WHERE verdict.is_whole)
SELECT is_whole FROM verdict
"""


async def _claim_uses(order_id: UUID, merchant_id: UUID, lines: Sequence[Line], state: str) -> bool:
    """Take uses of reusable keys: a limit holds under any number of buyers, no limit costs no
    lock (D03, D04)."""
    columns = [list(column) for column in zip(*lines, strict=True)]
    return bool(await db.value(_USES, order_id, merchant_id, *columns, state))


async def _lock_uses(wanted: Sequence[tuple[UUID, UUID]]) -> None:
    """Lock the limited ones of (merchant, variant) in one order, whatever order a set takes their uses in."""
    if wanted:
        await db.execute(
            "SELECT FROM reusable_key WHERE merchant_id = ANY($1) AND variant_id = ANY($2) AND state = 'active'"
            " AND use_limit IS NOT NULL ORDER BY id FOR NO KEY UPDATE",
            list({merchant_id for merchant_id, _ in wanted}),
            list({variant_id for _, variant_id in wanted}),
        )


_ALLOCATE = """
WITH held AS (
    DELETE FROM stock_hold WHERE order_id = ANY($1) AND state = 'held' RETURNING order_id
), used AS (
    UPDATE reusable_use SET state = 'sold'
    WHERE order_id = ANY($1) AND state = 'reserved' AND order_id IN (SELECT order_id FROM held)
), sold AS (
    UPDATE card_key SET state = 'sold', sold_at = $2
    WHERE order_id = ANY($1) AND state = 'reserved' AND order_id IN (SELECT order_id FROM held)
    RETURNING order_id)
SELECT order_id, count(*)::int AS sold FROM sold GROUP BY 1
"""


async def allocate(order_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Turn reservations of paid orders into sold keys: keys sold per order, orders without any
    left out.

    The caller holds the orders' locks. One statement for any number of orders.
    """
    assert db.in_transaction(), "keys are sold with the money"
    if not order_ids:
        return {}
    rows: list[Any] = await db.fetch(_ALLOCATE, list(order_ids), clock.now())
    return {row["order_id"]: row["sold"] for row in rows}


_TAKEN = """
SELECT order_line_id, count(*)::int AS n FROM card_key WHERE order_id = $1 AND state = 'sold'
GROUP BY 1 UNION ALL SELECT order_line_id, quantity FROM reusable_use WHERE order_id = $1 AND
state = 'sold'
"""


async def claim_sold(order_id: UUID, merchant_id: UUID, lines: Sequence[Line]) -> bool:
    """Sell a paid order whatever it still lacks, with or without a reservation; false when stock
    is short.

    All or nothing: after false it has taken no more than before. Idempotent. Lines made by hand
    or by a supplier need no stock.
    """
    await allocate([order_id])
    await db.execute("DELETE FROM stock_hold WHERE order_id = $1", order_id)
    rows: list[Any] = await db.fetch(_TAKEN, order_id)
    has = {row["order_line_id"]: row["n"] for row in rows}
    stock, reusable = await _split(merchant_id, lines)
    lacking = [
        (line_id, variant_id, quantity - has.get(line_id, 0))
        for line_id, variant_id, quantity in stock
        if quantity > has.get(line_id, 0)
    ]
    unused = [line for line in reusable if line[0] not in has]
    if unused and not await _claim_uses(order_id, merchant_id, unused, "sold"):
        return False
    if not lacking:
        return True
    ask = Ask(order_id, merchant_id, lacking)
    if await sell([ask]):
        return True
    await _wait_for_rivals([ask])
    if await sell([ask]):
        return True
    if unused:
        await holds.return_uses([order_id], "sold", [line_id for line_id, _, _ in unused])
    return False


async def sell(asks: Sequence[Ask]) -> set[UUID]:
    """Claim available keys as sold for many orders at once; the orders that got all they asked for.

    Orders compete in id order; one that is not whole takes nothing.
    """
    assert db.in_transaction(), "keys are sold with the money"
    if not asks:
        return set()
    rows: list[Any] = await db.fetch(
        _SELL, *_columns(asks), clock.now(), random.randrange(BUCKETS), "sold"
    )
    return {row["order_id"] for row in rows}
