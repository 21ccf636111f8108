"""Closing orders that nobody pays: by time or by the buyer. Money that comes later is still welcome."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from domain import catalogue, orders, payments
from domain.core import db, promises
from domain.orders.models import Order
from domain.orders.rules import EventKind, OrderStatus

# A payment made in the last second is still on its way when the order's time is over.
GRACE = timedelta(seconds=60)
BATCH_MAX = 200


async def expire_due(*, grace: timedelta = GRACE, limit: int = BATCH_MAX) -> int:
    """Close every open order whose time is over and give its goods back to the shelf; how many were closed.

    An order with an attempt that may still take money keeps its goods: the attempt is asked about first.
    """
    async with db.transaction():
        due = await orders.due_to_expire(grace=grace, limit=limit)
        for order in due:
            await _close(order, OrderStatus.EXPIRED, EventKind.EXPIRED, intent="expired")
        return len(due)


async def cancel(order_id: UUID) -> None:
    """The buyer gives up an unpaid order. Errors: NotFound, OrderStateConflict."""
    async with db.transaction():
        order = await orders.lock_one(order_id)
        await _close(order, OrderStatus.CANCELLED, EventKind.CANCELLED, intent="cancelled")


async def _close(order: Order, status: OrderStatus, kind: EventKind, *, intent: str) -> None:
    await orders.move(order, status, kind)
    await payments.intents([order.id], [intent])
    if await payments.live_of(order.id) is None:
        await catalogue.release([order.id], lapsed=status is OrderStatus.EXPIRED)
    if order.coupon_id is not None:
        await catalogue.give_back_coupons([order.id])
    if order.captured_minor > order.returned_minor:
        # Paid in part and out of time: what was paid goes back.
        await promises.promise("settlement", "refund.partial", order.id, key=f"partial:{order.id}")
