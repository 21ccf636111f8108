"""Writes to orders: placing, locking, and moving many of them from state to state in one statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain.core import clock, db, events, ids
from domain.core.errors import NotFound
from domain.core.events import Event
from domain.core.money import Money
from domain.orders import rules
from domain.orders.models import COLUMNS, LINE_COLUMNS, Buyer, Change, Line, Order, order
from domain.orders.rules import EventKind, OrderStateConflict, OrderStatus

_PLACE = f"""
WITH placed AS (
    INSERT INTO orders (id, number, merchant_id, shop_id, lane, email, email_hash, address_hash, device_hash,
        country, locale, total_minor, discount_minor, ccy, settle_ccy, quote_id, coupon_id, expires_at,
        key_units, is_plain)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14, $15, $16, $17, $28, $29)
    RETURNING {COLUMNS}),
intent AS (
    INSERT INTO payment_intent (id, order_id, amount_minor, ccy) VALUES ($1, $1, $12, $14)),
lines AS (
    INSERT INTO order_line (id, order_id, merchant_id, position, variant_id, delivery, title, quantity,
        unit_minor, discount_minor, total_minor)
    SELECT l.id, $1, $3, l.position, l.variant_id, l.delivery, l.title, l.quantity, l.unit_minor,
        l.discount_minor, l.total_minor
    FROM unnest($18::uuid[], $19::smallint[], $20::uuid[], $21::text[], $22::text[], $23::int[], $24::bigint[],
        $25::bigint[], $26::bigint[])
        AS l(id, position, variant_id, delivery, title, quantity, unit_minor, discount_minor, total_minor)),
happened AS (
    INSERT INTO event_log (order_id, merchant_id, sequence, kind, facts_json)
    VALUES ($1, $3, 1, 'order.placed', $27))
SELECT {COLUMNS} FROM placed
"""


async def place(
    order_id: UUID,
    *,
    merchant_id: UUID,
    shop_id: UUID,
    buyer: Buyer,
    total: Money,
    discount_minor: int,
    lines: Sequence[Line],
    expires_at: datetime,
    quote_id: UUID | None = None,
    coupon_id: UUID | None = None,
) -> Order:
    """Write an order, its lines, its intent and `order.placed` in one statement of the caller's transaction.

    Units: minor units of `total.currency`. The intent shares the order's id: one order, one intent.
    """
    day = clock.now().strftime("%y%m%d")
    row = await db.row(
        _PLACE,
        order_id,
        rules.number(order_id, day),
        merchant_id,
        shop_id,
        rules.lane(merchant_id),
        buyer.email,
        buyer.email_hash,
        buyer.address_hash,
        buyer.device_hash,
        buyer.country,
        buyer.locale,
        total.minor,
        discount_minor,
        total.currency,
        quote_id,
        coupon_id,
        expires_at,
        [line.id for line in lines],
        [line.position for line in lines],
        [line.variant_id for line in lines],
        [line.delivery for line in lines],
        [line.title for line in lines],
        [line.quantity for line in lines],
        [line.unit_minor for line in lines],
        [line.discount_minor for line in lines],
        [line.total_minor for line in lines],
        {"total_minor": total.minor, "ccy": total.currency},
        sum(line.quantity for line in lines if line.delivery == "stock"),
        all(line.delivery == "stock" for line in lines),
    )
    assert row is not None
    return order(row)


async def lock(order_ids: Sequence[UUID]) -> dict[UUID, Order]:
    """Lock orders in sorted order for the rest of the transaction; unknown ids are left out."""
    rows = await db.fetch(
        f"SELECT {COLUMNS} FROM orders WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE",
        sorted(set(order_ids)),
    )
    return {row["id"]: order(row) for row in rows}


async def lock_one(order_id: UUID) -> Order:
    """Lock one order. Errors: NotFound."""
    found = await lock([order_id])
    if not found:
        raise NotFound()
    return found[order_id]


async def lines(order_ids: Sequence[UUID]) -> dict[UUID, list[Line]]:
    """Lines per order, by position."""
    rows = await db.fetch(
        f"SELECT {LINE_COLUMNS} FROM order_line WHERE order_id = ANY($1) ORDER BY order_id, position",
        list(order_ids),
    )
    found: dict[UUID, list[Line]] = {order_id: [] for order_id in order_ids}
    for row in rows:
        found[row["order_id"]].append(Line(*row))
    return found


async def change_many(changes: Sequence[Change]) -> None:
    """Write the end state of many locked orders in one statement."""
    touched = await db.execute(
        "UPDATE orders o SET status = c.status, captured_minor = c.captured, event_seq = c.seq,"
        " paid_at = c.paid_at, delivered_at = c.delivered_at, version = o.version + 1"
        " FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::int[], $5::timestamptz[], $6::timestamptz[])"
        " AS c(id, status, captured, seq, paid_at, delivered_at) WHERE o.id = c.id",
        [change.id for change in changes],
        [change.status for change in changes],
        [change.captured_minor for change in changes],
        [change.event_seq for change in changes],
        [change.paid_at for change in changes],
        [change.delivered_at for change in changes],
    )
    assert touched == len(changes), (touched, len(changes))


_TELL = """
WITH told AS (UPDATE orders SET event_seq = $2, version = $3 WHERE id = $1)
INSERT INTO event_log (order_id, merchant_id, sequence, kind, facts_json) VALUES ($1, $4, $2, $5, $6)
"""


async def tell(held: Order, kind: EventKind, **facts: Any) -> None:
    """Record an event of a locked order that changes nothing else in its row."""
    held.event_seq += 1
    held.version += 1
    await db.execute(_TELL, held.id, held.event_seq, held.version, held.merchant_id, kind, facts)
    events.announce(held.id)


async def move(
    held: Order, target: OrderStatus, kind: EventKind, *, facts: Mapping[str, Any] | None = None
) -> None:
    """Move one locked order to `target` and record it. Errors: OrderStateConflict when the table forbids it."""
    if not rules.may(held.status, target):
        raise OrderStateConflict(status=held.status.upper())
    source, held.status = held.status, target
    held.event_seq += 1
    held.version += 1
    touched = await db.execute(
        "UPDATE orders SET status = $2::text, event_seq = $3, version = $4,"
        " delivered_at = CASE WHEN $2::text = 'delivered' THEN coalesce(delivered_at, clock_timestamp())"
        " ELSE delivered_at END WHERE id = $1 AND status = $5",
        held.id,
        target,
        held.event_seq,
        held.version,
        source,
    )
    assert touched == 1, (held.id, source, target)
    await events.record(Event(held.id, held.merchant_id, held.event_seq, kind, dict(facts or {})))


async def line_done(line_id: UUID, count: int) -> None:
    """Count `count` more delivered units of a line; the table refuses more than were ordered."""
    await db.execute("UPDATE order_line SET done = done + $2 WHERE id = $1", line_id, count)


async def lines_done(order_ids: Sequence[UUID]) -> None:
    """Every line of these orders is delivered in full."""
    if not order_ids:
        return
    await db.execute(
        "UPDATE order_line SET done = quantity WHERE order_id = ANY($1) AND done < quantity",
        list(order_ids),
    )


async def returned(held: Order, minor: int) -> None:
    """Add `minor` to what went back to the buyer of a locked order."""
    held.returned_minor += minor
    await db.execute(
        "UPDATE orders SET returned_minor = $2, version = version + 1 WHERE id = $1",
        held.id,
        held.returned_minor,
    )
    held.version += 1


async def hold(order_id: UUID, *, is_held: bool) -> None:
    """Risk holds delivery of the order (it may still be paid), or clears it."""
    await db.execute("UPDATE orders SET risk_hold = $2 WHERE id = $1", order_id, is_held)


async def due_to_expire(*, grace: timedelta, limit: int) -> list[Order]:
    """Lock open orders past their expiry that nobody else is working on; `grace` lets a payment in flight land."""
    rows = await db.fetch(
        f"SELECT {COLUMNS} FROM orders WHERE status = 'awaiting_payment'"
        " AND expires_at < clock_timestamp() - $1::interval ORDER BY expires_at LIMIT $2"
        " FOR NO KEY UPDATE SKIP LOCKED",
        grace,
        limit,
    )
    return sorted((order(row) for row in rows), key=lambda held: held.id)


def new_id() -> UUID:
    """The id of an order about to be placed."""
    return ids.uuid7()
