"""Refunds: asked and booked in one transaction; `refund_words` sends them and hears what became of them.

The books follow MONEY.md section 8: the ask moves money to `refund_clearing`, success empties it to the provider,
failure reverses the ask exactly.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from domain import catalogue, ledger, orders, payments, settlement
from domain.checkout.sale import CONFLICTED
from domain.core import db, failpoint, ids, promises
from domain.core.money import Money, UnsupportedCurrency
from domain.core.once import Once
from domain.ledger import Transfer
from domain.orders.models import Order
from domain.orders.rules import CLOSED, EventKind, OrderStatus
from domain.payments.models import Capture, Refund
from domain.settlement.rules import Leg, Part, RefundExceedsCaptured, give_back

SYSTEM = "system"


async def ask(
    order_id: UUID,
    amount_minor: int | None,
    *,
    reason: str,
    asked_by: str,
    only: Sequence[str] = (),
    may_owe: bool = False,
) -> list[Refund]:
    """Book a refund of `amount_minor` (None: all that is left) and promise to send it.

    `only` names the park reasons of the captures it may come from (surplus money, say). `may_owe` lets the
    merchant's part become debt; without it a refund stops at what the merchant has.
    Joins the caller's transaction. Errors: NotFound, RefundExceedsCaptured, ledger.InsufficientFunds.
    """
    async with db.transaction():
        order = await orders.lock_one(order_id)
        made = await book(order, amount_minor, reason, asked_by, only=only, may_owe=may_owe)
        for refund in made:
            await _send_later(order, refund)
        return made


async def book(
    order: Order,
    amount_minor: int | None,
    reason: str,
    asked_by: str,
    *,
    only: Sequence[str] = (),
    may_owe: bool = False,
) -> list[Refund]:
    """Book a refund of a locked order, a part of each capture it comes from; nobody is told and nothing is sent.

    Errors: RefundExceedsCaptured, ledger.InsufficientFunds.
    """
    kept = await _kept(order)
    captures = [one for one in kept if not only or one.park_reason in only]
    wanted = _within(order, captures, amount_minor)
    made = []
    # Money nobody is owed goes back first, then the newest charge: it is the likeliest still refundable.
    for capture in sorted(
        captures, key=lambda one: (one.source_purpose != "suspense", -one.id.int)
    ):
        part = min(wanted, capture.kept_minor)
        if part:
            made.append(await _book_ask(capture, part, reason, asked_by, may_owe=may_owe))
            wanted -= part
    await _revoke(
        order,
        # Of all the order's money, not of the surplus alone: who paid twice keeps the goods.
        is_all=sum(one.kept_minor for one in kept) == sum(one.amount_minor for one in made),
    )
    return made


async def check_free(order: Order, amount_minor: int) -> None:
    """Errors: RefundExceedsCaptured when the order has not so much left that can go back."""
    _within(order, await _kept(order), amount_minor)


async def _kept(order: Order) -> list[Capture]:
    return [one for one in await payments.captures_of(order.id) if _is_the_orders(one)]


def _within(order: Order, captures: Sequence[Capture], amount_minor: int | None) -> int:
    free = sum(one.kept_minor for one in captures)
    wanted = free if amount_minor is None else amount_minor
    if wanted <= 0 or wanted > free:
        raise RefundExceedsCaptured(refundable=Money(free, order.ccy).decimal(), currency=order.ccy)
    return wanted


async def _send_later(order: Order, refund: Refund) -> None:
    """Tell of a booked refund and promise to send it."""
    await tell_started(order, refund)
    await promises.promise("settlement", "refund.send", refund.id, key=f"refund:{refund.id}")
    failpoint.reach("refund.ask.in_tx")


async def tell_started(order: Order, refund: Refund) -> None:
    """Tell of a booked refund."""
    await orders.tell(
        order,
        EventKind.REFUND_STARTED,
        refund_id=ids.encode("ref", refund.id),
        minor=refund.amount_minor,
    )


async def request_refund(
    order_id: UUID,
    amount: Money | None,
    *,
    reason: str,
    asked_by: str,
    once: Once,
    allowed: Callable[[Money], Awaitable[None]] | None = None,
) -> list[Refund]:
    """`ask` for a person, idempotent by `once`; `allowed` may refuse what it comes to, in the same transaction.

    Errors: as `ask`, UnsupportedCurrency, once.KeyReused, once.InProgress, those of `allowed`.
    """
    async with db.transaction():
        earlier = await once.claim({"order_id": str(order_id)})
        if earlier is not None:
            return await payments.refunds_of(UUID(earlier["order_id"]))
        order = await orders.lock_one(order_id)
        if amount is not None and amount.currency != order.ccy:
            raise UnsupportedCurrency(
                path=("input", "amount", "currency"), currency=amount.currency
            )
        asked = await ask(
            order_id, amount.minor if amount else None, reason=reason, asked_by=asked_by
        )
        if allowed is not None:
            await allowed(Money(sum(one.amount_minor for one in asked), order.ccy))
        return asked


async def return_partial(order_id: UUID) -> None:
    """Give back what was paid of an order that closed before it was paid in full."""
    async with db.transaction():
        order = await orders.lock_one(order_id)
        if order.status in CLOSED and order.captured_minor > order.returned_minor:
            await ask(order_id, None, reason="expired", asked_by=SYSTEM, only=("partial",))


def _is_the_orders(capture: Capture) -> bool:
    """Money that contradicts its attempt is nobody's to give back before it is explained (B06)."""
    return capture.kept_minor > 0 and capture.park_reason != CONFLICTED


async def _book_ask(
    capture: Capture, minor: int, reason: str, asked_by: str, *, may_owe: bool
) -> Refund:
    if capture.state == "settled":
        cover = await _cover(capture, minor, may_owe=may_owe)
    else:
        cover = {"legs": {}, "sources": {capture.source_purpose: minor}}
    return await _book(capture, minor, cover, reason, asked_by)


async def _book(
    capture: Capture, minor: int, cover: dict[str, dict[str, int]], reason: str, asked_by: str
) -> Refund:
    """Write a refund and move what `cover` names to `refund_clearing`."""
    clearing = settlement.key_of("refund_clearing", capture)
    refund = await payments.create_refund(
        capture, amount_minor=minor, reason=reason, asked_by=asked_by, cover=cover
    )
    transfers = [
        Transfer(settlement.key_of(purpose, capture), clearing, Money(part, capture.ccy))
        for purpose, part in cover["sources"].items()
    ]
    await ledger.post(
        f"refund:{refund.id}:ask", transfers, kind="refund_ask", correlation_id=capture.order_id
    )
    if cover["legs"]:
        await settlement.return_legs(capture.id, cover["legs"])
        if drawn := cover["sources"].get("merchant_reserved", 0):
            await settlement.draw_reserve(capture.id, drawn)
        if pending := cover["sources"].get("merchant_pending", 0):
            await settlement.shrink_item(capture.id, pending)
    return refund


async def _cover(capture: Capture, minor: int, *, may_owe: bool) -> dict[str, dict[str, int]]:
    """Which legs give back what, and which accounts pay it (the merchant's part may lie in several)."""
    legs = (await settlement.legs_of([capture.id]))[capture.id]
    parts = give_back(minor, [Part(leg.leg, leg.free_minor) for leg in legs])
    sources: dict[str, int] = {}
    for leg, part in parts.items():
        if leg not in (Leg.MERCHANT, Leg.RESERVE, Leg.DEBT):
            purpose = {
                "commission": "platform_commission",
                "tax": "tax_payable",
                "surplus": "suspense",
            }[leg]
            sources[purpose] = sources.get(purpose, 0) + part
    merchant = sum(parts.get(leg, 0) for leg in (Leg.MERCHANT, Leg.RESERVE, Leg.DEBT))
    if merchant:
        paid = await settlement.cover_merchant(
            capture,
            merchant_minor=merchant,
            reserve_minor=parts.get(Leg.RESERVE, 0),
            may_owe=may_owe,
        )
        for purpose, part in paid.items():
            sources[purpose] = sources.get(purpose, 0) + part
    return {"legs": parts, "sources": sources}


async def _revoke(order: Order, *, is_all: bool) -> None:
    """A full refund ends the buyer's right to the goods: sold keys are marked, reserved ones go back to stock."""
    if not is_all:
        return
    await catalogue.release([order.id])
    if await catalogue.revoke(order.id):
        await orders.tell(order, EventKind.REVOKED)


async def return_surplus(order_id: UUID) -> None:
    """Give back without a person what nobody is owed: surplus money, and late money for goods that are gone.

    Where people wrote down a payment, what is too much may be the same money seen twice: it stays for a person.
    """
    async with db.transaction():
        order = await orders.lock_one(order_id)
        captures = await payments.captures_of(order_id)
        if not any(one.provider == payments.MANUAL for one in captures):
            await _return_excess(order, captures)
        is_stuck = order.status is OrderStatus.SHORT and _left(captures, *_LATE)
        if is_stuck and await orders.came_late(order_id):
            await ask(order_id, None, reason="late", asked_by=SYSTEM, only=_LATE)


async def _return_excess(order: Order, captures: Sequence[Capture]) -> None:
    if _left(captures, "surplus"):
        await ask(order.id, None, reason="surplus", asked_by=SYSTEM, only=("surplus",))
    surplus = await settlement.surplus_left([one.id for one in captures if one.state == "settled"])
    for capture in captures:
        if minor := surplus.get(capture.id, 0):
            await _return_leg(order, capture, minor)


_LATE = ("short", "partial")


def _left(captures: Sequence[Capture], *reasons: str) -> bool:
    return any(one.park_reason in reasons and one.kept_minor for one in captures)


async def _return_leg(order: Order, capture: Capture, minor: int) -> None:
    cover = {"legs": {Leg.SURPLUS.value: minor}, "sources": {"suspense": minor}}
    await _send_later(order, await _book(capture, minor, cover, "surplus", SYSTEM))
