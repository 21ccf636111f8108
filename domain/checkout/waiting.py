"""Paid orders that wait: for stock, for a person's verdict on risk, for goods made elsewhere."""

from __future__ import annotations

from uuid import UUID

from domain import orders, payments, risk
from domain.checkout import refunds
from domain.core import bell, db
from domain.orders.rules import OrderStateConflict, OrderStatus
from domain.payments.models import Refund

RESTOCK_MAX = 500


async def restock(variant_id: UUID, *, limit: int = RESTOCK_MAX) -> int:
    """New stock of a variant came in: send the short orders that want it round again, oldest first; how many."""
    rows = await db.fetch(
        "SELECT o.id FROM orders o WHERE o.status = 'short'"
        " AND o.merchant_id = (SELECT merchant_id FROM variant WHERE id = $1)"
        " AND EXISTS (SELECT FROM order_line l WHERE l.order_id = o.id AND l.variant_id = $1)"
        " ORDER BY o.id LIMIT $2",
        variant_id,
        limit,
    )
    return sum([await _free(row["id"], OrderStatus.SHORT, "short") for row in rows])


async def clear(order_id: UUID, *, asked_by: str, reason: str) -> None:
    """Risk lets a held order go: it is delivered by the next set, and its reasons do not stop it again.

    Errors: NotFound, OrderStateConflict, FieldInvalid (reason).
    """
    async with db.transaction():
        order = await orders.lock_one(order_id)
        if not order.risk_hold:
            raise OrderStateConflict(status=order.status.upper())
        await _resolve(order_id, risk.Outcome.ALLOW, asked_by, reason)
        await orders.hold(order_id, is_held=False)
        await _free(order_id, OrderStatus.HELD, "held")


async def decline(order_id: UUID, *, asked_by: str, reason: str) -> list[Refund]:
    """Risk refuses a held order: all its money goes back, nothing is revealed. Errors: as `refunds.ask`."""
    async with db.transaction():
        order = await orders.lock_one(order_id)
        if order.status is not OrderStatus.HELD:
            raise OrderStateConflict(status=order.status.upper())
        await _resolve(order_id, risk.Outcome.DECLINE, asked_by, reason)
        return await refunds.ask(order_id, None, reason="risk", asked_by=asked_by)


async def _resolve(order_id: UUID, outcome: risk.Outcome, actor: str, reason: str) -> None:
    """Answer every decision on the order that still waits for a person."""
    for decision in await risk.decisions(order_id):
        if decision.standing is risk.Outcome.HOLD:
            await risk.resolve(decision.id, outcome, actor, reason)


async def _free(order_id: UUID, status: OrderStatus, reason: str) -> int:
    """Send the parked captures of an order that is still in `status` round again; 1 when there were any."""
    async with db.transaction():
        order = await orders.lock_one(order_id)
        if order.status is not status:
            return 0
        kept_minor = (await payments.kept_of([order_id])).get(order_id, 0)
        if kept_minor < order.total_minor or not await payments.free(order_id, (reason,)):
            return 0  # its money, or a part of it, is on its way back: a person decides
        db.after_commit(lambda: bell.ring(bell.CAPTURES, str(order.lane)))
        return 1
