"""Goods that are not on the shelf: handed over by a person or bought from a supplier, line by line.

The money of such an order waits in `buyer_held`. With the last unit handed over it goes its way: the parked
captures are sent round again and the next set splits them.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from domain import catalogue, orders, payments
from domain.core import bell, db, promises
from domain.core.errors import DomainError, NotFound
from domain.orders.models import Line, Order
from domain.orders.rules import OrderStateConflict, OrderStatus

BY_HAND = ("manual", "supplier")
ASK_AGAIN_S = 15.0


class DeliveryInvalid(DomainError):
    """More goods than the line still lacks, none at all, or a line that delivers itself."""

    code = "DELIVERY_INVALID"


class NotDelivered(Exception):
    """The supplier has not delivered yet: ask again in `in_s` seconds."""

    def __init__(self, in_s: float) -> None:
        super().__init__(in_s)
        self.in_s = in_s


async def deliver(order_id: UUID, line_id: UUID, codes: Sequence[str], *, note: str) -> Order:
    """Hand over goods for one line of a paid order; the last unit completes the order.

    Joins the caller's transaction. Errors: NotFound, OrderStateConflict, DeliveryInvalid, InputInvalid.
    """
    async with db.transaction():
        order = await orders.lock_one(order_id)
        if order.status is not OrderStatus.DELIVERING:
            raise OrderStateConflict(status=order.status.upper())
        line = _line(await _lines(order_id), line_id)
        missing = line.quantity - line.done
        if line.delivery not in BY_HAND or not 1 <= len(codes) <= missing:
            raise DeliveryInvalid(path=("input", "contents"), missing=missing)
        await catalogue.hand_over(
            order.merchant_id, line.variant_id, (order_id, line_id), codes, note=note
        )
        await orders.line_done(line_id, len(codes))
        await _finish(order)
        return order


async def procure(order_id: UUID) -> None:
    """Owe and promise what suppliers must deliver for a paid order; once per line however often it runs."""
    async with db.transaction():
        order = await orders.lock_one(order_id)
        if order.status is not OrderStatus.DELIVERING:
            return
        wanted = [
            (line.id, line.variant_id, line.quantity)
            for line in await _lines(order_id)
            if line.delivery == "supplier" and line.done < line.quantity
        ]
        for taken in await catalogue.owe_supply(order_id, order.merchant_id, wanted):
            owed = taken.supply
            if taken.delivered:
                await orders.line_done(owed.order_line_id, taken.delivered)
            else:
                await promises.promise(
                    "delivery", "delivery.supply", owed.id, key=f"supply:{owed.id}"
                )
        await _finish(order)


async def supply(supply_id: UUID) -> None:
    """Buy what one line lacks, or ask about what was bought; safe to run twice. Errors: NotDelivered, NotFound."""
    said = await catalogue.ask_supplier(supply_id)
    if said is None:
        return
    async with db.transaction():
        owed = await catalogue.find_supply(supply_id)
        order = await orders.lock_one(owed.order_id)
        taken = await catalogue.take_supply(supply_id, said)
        if taken.delivered:
            await orders.line_done(owed.order_line_id, taken.delivered)
            await _finish(order)
    if taken.state in ("owed", "sent", "pending"):
        raise NotDelivered(ASK_AGAIN_S)


async def _lines(order_id: UUID) -> list[Line]:
    return (await orders.lines([order_id]))[order_id]


def _line(lines: Sequence[Line], line_id: UUID) -> Line:
    for line in lines:
        if line.id == line_id:
            return line
    raise NotFound(path=("input", "lineId"))


async def _finish(order: Order) -> None:
    """Let the money of a complete order go its way; the next set marks it delivered."""
    lines = await _lines(order.id)
    if any(line.done < line.quantity for line in lines if line.delivery in BY_HAND):
        return
    await payments.free(order.id, ("delivering",))
    db.after_commit(lambda: bell.ring(bell.CAPTURES, str(order.lane)))
