"""A merchant's list of orders, searched by what people have at hand: a number, an address, a state, a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.core import db, ids, vault
from domain.orders.models import COLUMNS, Order
from domain.orders.models import order as as_order
from domain.orders.rules import OrderStatus

COUNT_MAX = 100_000
# An id is made shortly before its row: by so much it may lie ahead of `created_at`.
_AHEAD_S = 120.0
# Spelt as in the partial indexes orders_waiting and orders_ended, so that few among many are found at once.
_RARE = {
    frozenset({OrderStatus.HELD, OrderStatus.SHORT, OrderStatus.DELIVERING, OrderStatus.PAID}): (
        " AND status IN ('held', 'short', 'delivering', 'paid')"
    ),
    frozenset({OrderStatus.REFUNDED, OrderStatus.DISPUTED, OrderStatus.CANCELLED}): (
        " AND status IN ('refunded', 'disputed', 'cancelled')"
    ),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which orders: all of what is named must hold. `email` is a normalised address; times are half open."""

    statuses: frozenset[OrderStatus] = frozenset()
    number: str | None = None
    email: str | None = None
    placed_from: datetime | None = None
    placed_before: datetime | None = None


async def of_merchant(
    merchant_id: UUID, wanted: Wanted, key: UUID | None, limit: int, *, backward: bool = False
) -> list[Order]:
    """A merchant's orders behind `key`: newest first, or oldest first when read backward."""
    sign, order = (">", "ASC") if backward else ("<", "DESC")
    where, values = _where(merchant_id, wanted, sign, key)
    rows = await db.fetch(
        f"SELECT {COLUMNS} FROM orders {where} ORDER BY id {order} LIMIT ${len(values) + 1}",
        *values,
        limit,
    )
    return [as_order(row) for row in rows]


async def count_of_merchant(merchant_id: UUID, wanted: Wanted) -> int:
    """How many there are; the counting stops at `COUNT_MAX`."""
    where, values = _where(merchant_id, wanted)
    count: int = await db.value(
        f"SELECT count(*) FROM (SELECT FROM orders {where} LIMIT ${len(values) + 1}) AS found",
        *values,
        COUNT_MAX,
    )
    return count


def _where(
    merchant_id: UUID, wanted: Wanted, sign: str = "", key: UUID | None = None
) -> tuple[str, list[Any]]:
    """The conditions that are asked for and no others, so that each search finds its index."""
    values: list[Any] = [merchant_id]
    sql = "WHERE merchant_id = $1"

    def also(condition: str, value: object) -> None:
        nonlocal sql
        if value is not None:
            values.append(value)
            sql += f" AND {condition} ${len(values)}"

    if wanted.statuses:
        values.append([status.value for status in wanted.statuses])
        sql += f" AND status = ANY(${len(values)})"
        sql += "".join(few for rare, few in _RARE.items() if wanted.statuses <= rare)
    also("number =", wanted.number)
    also("email_hash =", vault.fingerprint("email", wanted.email) if wanted.email else None)
    also("created_at >=", wanted.placed_from)
    also("created_at <", wanted.placed_before)
    if wanted.placed_from:  # ids are in the order of time: the list begins there at once
        also("id >=", ids.earliest(wanted.placed_from, ahead_s=_AHEAD_S))
    if wanted.placed_before:
        also("id <", ids.earliest(wanted.placed_before))
    if key is not None:
        also(f"id {sign}", key)
    return sql, values
