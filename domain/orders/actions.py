"""Writes to orders: placing, locking, and moving many of them from state to state in one statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain.core import clock, db, events, ids
from domain.core.errors import NotFound
from domain.core.events import Event
from domain.orders import rules
from domain.orders.models import (
    COLUMNS,
    HELD_COLUMNS,
    LINE_COLUMNS,
    Change,
    Held,
    Line,
    Order,
    Placement,
    order,
)
from domain.orders.models import held as as_held
from domain.orders.rules import EventKind, OrderStateConflict, OrderStatus

_PLACE = f"""
WITH placed AS (
    INSERT INTO orders (id, number, merchant_id, shop_id, lane, email, email_hash, address_hash, device_hash,
        country, locale, total_minor, discount_minor, ccy, settle_ccy, quote_id, coupon_id, expires_at,
        key_units, is_plain)
    SELECT o.id, o.number, o.merchant_id, o.shop_id, o.lane, o.email, o.email_hash, o.address_hash, o.device_hash,
        o.country, o.locale, o.total_minor, o.discount_minor, o.ccy, o.ccy, o.quote_id, o.coupon_id, o.expires_at,
        o.key_units, o.is_plain
    FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::smallint[], $6::text[], $7::bytea[], $8::bytea[],
        $9::bytea[], $10::text[], $11::text[], $12::bigint[], $13::bigint[], $14::text[], $15::uuid[], $16::uuid[],
        $17::timestamptz[], $18::int[], $19::bool[])
        AS o(id, number, merchant_id, shop_id, lane, email, email_hash, address_hash, device_hash, country, locale,
            total_minor, discount_minor, ccy, quote_id, coupon_id, expires_at, key_units, is_plain)
    RETURNING {COLUMNS}),
intent AS (
    INSERT INTO payment_intent (id, order_id, amount_minor, ccy) SELECT id, id, total_minor, ccy FROM placed),
lines AS (
    INSERT INTO order_line (id, order_id, merchant_id, position, variant_id, delivery, title, quantity,
        unit_minor, discount_minor, total_minor)
    SELECT l.id, l.order_id, placed.merchant_id, l.position, l.variant_id, l.delivery, l.title, l.quantity,
        l.unit_minor, l.discount_minor, l.total_minor
    FROM unnest($20::uuid[], $21::uuid[], $22::smallint[], $23::uuid[], $24::text[], $25::text[], $26::int[],
        $27::bigint[], $28::bigint[], $29::bigint[])
        AS l(id, order_id, position, variant_id, delivery, title, quantity, unit_minor, discount_minor, total_minor)
    JOIN placed ON placed.id = l.order_id),
happened AS (
    INSERT INTO event_log (order_id, merchant_id, sequence, kind, facts_json)
    SELECT id, merchant_id, 1, 'order.placed', jsonb_build_object('total_minor', total_minor, 'ccy', ccy)
    FROM placed)
SELECT {COLUMNS} FROM placed
"""


async def place(placements: Sequence[Placement]) -> dict[UUID, Order]:
    """Write orders with their lines, intents and `order.placed` in one statement of the caller's transaction.

    The intent shares the order's id: one order, one intent.
    """
    day = clock.now().strftime("%y%m%d")
    heads = [
        (
            one.id,
            rules.number(one.id, day),
            one.merchant_id,
            one.shop_id,
            rules.lane(one.merchant_id),
            one.buyer.email,
            one.buyer.email_hash,
            one.buyer.address_hash,
            one.buyer.device_hash,
            one.buyer.country,
            one.buyer.locale,
            one.total.minor,
            one.discount_minor,
            one.total.currency,
            one.quote_id,
            one.coupon_id,
            one.expires_at,
            one.key_units,
            one.is_plain,
        )
        for one in placements
    ]
    lines = [
        (
            line.id,
            line.order_id,
            line.position,
            line.variant_id,
            line.delivery,
            line.title,
            line.quantity,
            line.unit_minor,
            line.discount_minor,
            line.total_minor,
        )
        for one in placements
        for line in one.lines
    ]
    columns = [*zip(*heads, strict=True), *zip(*lines, strict=True)]
    rows = await db.fetch(_PLACE, *columns)
    # Nobody can be watching a new order, but its merchant is followed as a whole.
    events.announce(*(row["id"] for row in rows))
    return {row["id"]: order(row) for row in rows}


async def lock(order_ids: Sequence[UUID]) -> dict[UUID, Order]:
    """Lock orders in sorted order for the rest of the transaction; unknown ids are left out."""
    rows = await db.fetch(
        f"SELECT {COLUMNS} FROM orders WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE",
        sorted(set(order_ids)),
    )
    return {row[0]: order(row) for row in rows}


async def lock_set(order_ids: Sequence[UUID]) -> dict[UUID, Held]:
    """`lock` for a set of sales, which asks less of an order."""
    rows = await db.fetch(
        f"SELECT {HELD_COLUMNS} FROM orders WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE",
        sorted(set(order_ids)),
    )
    return {row[0]: as_held(row) for row in rows}


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


# A set moves an order only with its money: whatever it becomes, it is paid.
_CHANGE = """
UPDATE orders o SET status = c.status, captured_minor = c.captured, event_seq = c.seq, version = o.version + 1,
    paid_at = CASE WHEN c.status <> o.status THEN coalesce(o.paid_at, $5) ELSE o.paid_at END,
    delivered_at = CASE WHEN c.status = 'delivered' THEN coalesce(o.delivered_at, $5) ELSE o.delivered_at END
FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::int[]) AS c(id, status, captured, seq) WHERE o.id = c.id
"""


async def change_many(changes: Sequence[Change], at: datetime) -> None:
    """Write the end state of many locked orders in one statement; what is paid or delivered now is so since `at`."""
    touched = await db.execute(
        _CHANGE, *(list(column) for column in zip(*changes, strict=True)), at
    )
    assert touched == len(changes), (touched, len(changes))


_TELL = """
WITH told AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::int[], $5::text[], $6::jsonb[])
        AS t(order_id, merchant_id, sequence, version, kind, facts_json)
), counted AS (
    UPDATE orders o SET event_seq = told.sequence, version = told.version FROM told WHERE o.id = told.order_id)
INSERT INTO event_log (order_id, merchant_id, sequence, kind, facts_json)
SELECT order_id, merchant_id, sequence, kind, facts_json FROM told
"""


async def tell(held: Order, kind: EventKind, **facts: Any) -> None:
    """Record an event of a locked order that changes nothing else in its row."""
    await tell_many([(held, kind, facts)])


async def tell_many(told: Sequence[tuple[Order, EventKind, Mapping[str, Any]]]) -> None:
    """`tell` for many locked orders, one event each, in one statement."""
    if not told:
        return
    for held, _, _ in told:
        held.event_seq += 1
        held.version += 1
    await db.execute(
        _TELL,
        [held.id for held, _, _ in told],
        [held.merchant_id for held, _, _ in told],
        [held.event_seq for held, _, _ in told],
        [held.version for held, _, _ in told],
        [kind for _, kind, _ in told],
        [facts for _, _, facts in told],
    )
    events.announce(*(held.id for held, _, _ in told))


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
