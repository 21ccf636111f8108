"""Goods that are not on the shelf: handed over by a person or bought from a supplier, line by line.

The money of such an order waits in `buyer_held`. With the last unit handed over it goes its way: the parked
captures are sent round again and the next set splits them. Buying from a supplier is a saga: a refusal gives the
buyer's money back, a bought good is never bought again and never lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from domain import catalogue, orders, payments
from domain.catalogue.ports import SupplyState
from domain.core import bell, db, promises, saga
from domain.core.errors import DomainError, NotFound
from domain.orders.models import Line, Order
from domain.orders.rules import OrderStateConflict, OrderStatus

BY_HAND = ("manual", "supplier")
ASK_AGAIN_S = 15.0


class DeliveryInvalid(DomainError):
    """More goods than the line still lacks, none at all, or a line that delivers itself."""

    code = "DELIVERY_INVALID"


class SupplyRefused(DomainError):
    """The supplier will not deliver, or what it delivered cannot be used: the line has to go another way."""

    code = "SUPPLY_REFUSED"


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
                await saga.start(SUPPLY, owed.id)
        await _finish(order)


async def _check(supply_id: UUID, facts: saga.Facts) -> None:
    """Nobody was asked yet: an order that was refunded meanwhile buys nothing. Errors: SupplyRefused."""
    if (await catalogue.find_supply(supply_id)).state == "cancelled":
        raise SupplyRefused(reason="cancelled")


async def _give_back(supply_id: UUID, facts: saga.Facts) -> None:
    """Nothing comes: the buyer's money goes back, or a person looks (checkout decides)."""
    async with db.transaction():
        await saga.fenced(facts)
        await promises.promise(
            "settlement", "refund.undelivered", supply_id, key=f"supply:{supply_id}:refused"
        )


async def _buy(supply_id: UUID, facts: saga.Facts) -> None:
    """Buy, or ask about what was bought; the goods come into our vault and the line's hands in one transaction.

    The codes never leave this step: what a saga remembers is not sealed. Errors: SupplyRefused; saga.Retry while
    the supplier has not said clearly that the goods are there or never will be (also for a refunded order: goods
    that come late are kept as stock, I04).
    """
    said = await catalogue.ask_supplier(supply_id)
    owed = await catalogue.find_supply(supply_id)
    state, reason = owed.state, owed.reason
    if said is not None:
        async with db.transaction():
            await saga.fenced(facts)
            order = await orders.lock_one(owed.order_id)
            taken = await catalogue.take_supply(supply_id, said)
            if taken.delivered:
                await _line_filled(order, owed.order_line_id, taken.delivered)
        state, reason = taken.state, said.raw_code
    is_over = state == "cancelled" and said is not None and said.state in _OVER
    if state == "refused" or is_over:
        raise SupplyRefused(reason=reason)
    if state != "done":
        raise saga.Retry(ASK_AGAIN_S)


# After these words nothing comes any more for an order that was refunded.
_OVER = (SupplyState.NOT_FOUND, SupplyState.REFUSED, SupplyState.DONE)
SUPPLY = "supply"
saga.register(
    SUPPLY,
    [
        saga.Step("check", _check, compensate=_give_back),
        saga.Step("buy", _buy, pivot=True),
    ],
    queue="delivery",
)


async def _line_filled(order: Order, line_id: UUID, units: int) -> None:
    """Goods of a supplier are the line's; what a person has handed over meanwhile counts first."""
    line = _line(await _lines(order.id), line_id)
    if missing := min(units, line.quantity - line.done):
        await orders.line_done(line_id, missing)
    await _finish(order)


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
