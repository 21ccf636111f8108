"""Paid orders that wait: for stock, for a person's verdict on risk, for goods made elsewhere."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from domain import catalogue, orders, payments, risk, settlement
from domain.checkout import refunds
from domain.core import bell, clock, db, ids
from domain.core.settings import settings
from domain.orders.rules import EventKind, OrderStateConflict, OrderStatus
from domain.payments.models import Refund

RESTOCK_MAX = 500
UNUSABLE = "code_known"  # of `supply.reason`: bought, and of no use
OVERDUE_MAX = 100
_WAITS = (risk.Outcome.CHALLENGE, risk.Outcome.HOLD)


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


async def return_undelivered(supply_id: UUID) -> None:
    """A supplier will not deliver: the money of an order that was for this alone goes back.

    Where the order has other lines, or a part was handed over, a person decides: the exception says what is missing.
    Goods that were bought and cannot be used are shown in any case. Safe to run twice. Errors: NotFound.
    """
    async with db.transaction():
        owed = await catalogue.find_supply(supply_id)
        order = await orders.lock_one(owed.order_id)
        lines = (await orders.lines([order.id]))[order.id]
        is_waiting = order.status is OrderStatus.DELIVERING
        is_all = len(lines) == 1 and lines[0].done == 0
        if owed.reason == UNUSABLE or (is_waiting and not is_all):
            await settlement.open_exception(
                "supply_refused",
                merchant_id=order.merchant_id,
                order_id=order.id,
                facts={
                    "supply": ids.encode("sup", supply_id),
                    "line": ids.encode("lin", owed.order_line_id),
                    "reason": owed.reason,
                },
            )
        if is_waiting and is_all and (await payments.kept_of([order.id])).get(order.id, 0):
            await refunds.ask(order.id, None, reason="supplier", asked_by=refunds.SYSTEM)


async def clear(order_id: UUID, *, asked_by: str, reason: str) -> None:
    """Risk lets a held order go: it is delivered by the next set, and its reasons do not stop it again.

    One verdict counts: an order that was declined stays declined, also while its money is on the way back.
    Errors: NotFound, OrderStateConflict, FieldInvalid (reason).
    """
    async with db.transaction():
        order = await orders.lock_one(order_id)
        if not order.risk_hold or await orders.happened(order_id, EventKind.RISK_DECLINED):
            raise OrderStateConflict(status=order.status.upper())
        await _resolve(order_id, risk.Outcome.ALLOW, asked_by, reason)
        await orders.hold(order_id, is_held=False)
        await orders.tell(order, EventKind.RELEASED)
        await _free(order_id, OrderStatus.HELD, "held")


async def decline(order_id: UUID, *, asked_by: str, reason: str) -> list[Refund]:
    """Risk refuses a held order: all its money goes back, nothing is revealed.

    Errors: OrderStateConflict when it is not held, was released, or its money is on the way back already;
    NotFound, FieldInvalid (reason).
    """
    async with db.transaction():
        order = await orders.lock_one(order_id)
        kept = await payments.kept_of([order_id])
        if order.status is not OrderStatus.HELD or not order.risk_hold or not kept.get(order_id):
            raise OrderStateConflict(status=order.status.upper())
        await _resolve(order_id, risk.Outcome.DECLINE, asked_by, reason)
        await orders.tell(order, EventKind.RISK_DECLINED)
        return await refunds.ask(order_id, None, reason="risk", asked_by=asked_by)


async def decline_overdue(*, limit: int = OVERDUE_MAX) -> int:
    """Decline and refund what nobody decided about within `risk_hold_hours`; how many.

    Time never releases an order: goods that were seen cannot be taken back, money can. Whoever decides first
    has decided, a person or the clock.
    """
    hours = settings().risk_hold_hours
    overdue = await orders.held_since(clock.now() - timedelta(hours=hours), limit)
    declined = 0
    for order_id in overdue:
        try:
            await decline(order_id, asked_by=refunds.SYSTEM, reason=f"no verdict in {hours} h")
        except OrderStateConflict:
            continue  # a person was faster
        declined += 1
    return declined


async def _resolve(order_id: UUID, outcome: risk.Outcome, actor: str, reason: str) -> None:
    """Answer every decision on the order that still waits for a person."""
    for decision in await risk.decisions(order_id):
        if decision.standing in _WAITS:
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
