"""The two writes of a charge, for many buyers at once: before the provider is called, and after it has answered.

Both are sets (`Together`): one transaction for everybody who is at the same point in the same moment.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from domain import catalogue, fx, orders, payments
from domain.checkout import saving
from domain.checkout.rules import CLOSED_FOR_PAY
from domain.checkout.starting import ORDER_TTL, Visitor
from domain.core import clock, db, failpoint, ids, vault
from domain.core.errors import DomainError, NotFound
from domain.core.money import Money
from domain.core.once import Once, claim_many, finish_many
from domain.core.settings import settings
from domain.core.together import Together
from domain.orders import OrderView
from domain.orders.models import Order
from domain.orders.rules import EventKind, OrderStateConflict, OrderStatus
from domain.payments.models import Attempt
from domain.payments.ports import ChargeAnswer, ChargeState
from domain.payments.routing import Offer

# A provider's own page stays open as long as the order; its late answer is still heard.
RESERVE_FOR = ORDER_TTL + timedelta(minutes=5)
# Longer than the call and its first check: an attempt whose process died is asked about before its goods go.
HOLD_WHILE_ASKING = timedelta(seconds=75)
PAY_LEASE_S = 30.0
CHECK_SOON = timedelta(seconds=2)
CHECK_LATER = timedelta(seconds=45)


class QuoteExpired(DomainError):
    """The locked rate is over and nothing was charged: start the checkout again for a fresh one."""

    code = "QUOTE_EXPIRED"


@dataclass(frozen=True, slots=True)
class Charge:
    """An order about to be charged: by which offer, for whom, under which key; `is_held` when risk wants a look.

    `must_authenticate` when risk wants the payer to prove who they are first. `by` is what the attempt has to do
    with saved methods.
    """

    view: OrderView
    offer: Offer
    visitor: Visitor
    once: Once
    by: saving.Means = saving.PLAIN
    is_held: bool = False
    must_authenticate: bool = False
    attempt_id: UUID = field(default_factory=payments.new_id)

    @property
    def order_id(self) -> UUID:
        """The order."""
        return self.view.order.id


@dataclass(frozen=True, slots=True)
class Answered:
    """A charge and what the provider answered to it."""

    charge: Charge
    attempt: Attempt
    said: ChargeAnswer

    @property
    def is_clear(self) -> bool:
        """Whether the provider has answered at all."""
        return self.said.state is not ChargeState.UNKNOWN


def check_payable(order: Order) -> None:
    """Errors: OrderStateConflict when nothing may be paid any more."""
    if order.status in CLOSED_FOR_PAY:
        raise OrderStateConflict(status=order.status.upper())
    if order.expires_at <= clock.now():
        raise OrderStateConflict(status=OrderStatus.EXPIRED.upper())


async def _open_set(charges: Sequence[Charge]) -> list[Attempt]:
    """Commit the attempts before anyone is called: their ids are the provider's idempotency keys.

    The goods are held for the length of the call, so that who cannot be served hears it before paying (D01) and a
    callback that is faster than the answer finds them; only an accepted attempt keeps them longer (D05).
    """
    async with db.transaction():
        earlier = await claim_many(
            [(one.once, {"attempt_id": str(one.attempt_id)}) for one in charges],
            lease_s=PAY_LEASE_S,
        )
        fresh = [one for one, known in zip(charges, earlier, strict=True) if known is None]
        opened = await _open_fresh(fresh) if fresh else {}
        return [
            opened[one.order_id] if known is None else await _made(known)
            for one, known in zip(charges, earlier, strict=True)
        ]


async def _made(earlier: Mapping[str, str]) -> Attempt:
    found = await payments.find(UUID(earlier["attempt_id"]))
    if found is None:
        raise NotFound()
    return found


async def _open_fresh(charges: Sequence[Charge]) -> dict[UUID, Attempt]:
    held = await orders.lock([one.order_id for one in charges])
    for order in held.values():
        check_payable(order)
    await _check_quotes([order.quote_id for order in held.values() if order.quote_id])
    for one in charges:
        if one.is_held and not held[one.order_id].risk_hold:
            await orders.hold(one.order_id, is_held=True)
    kept = await _kept(held.values())
    try:
        attempts = await payments.open_attempts(
            [_opening(one, held[one.order_id], kept.get(one.order_id, 0)) for one in charges]
        )
    except payments.AttemptLive as live:
        status = held[live.facts["order_id"]].status
        raise OrderStateConflict(status=status.upper()) from None
    await saving.note([(one.attempt_id, one.by) for one in charges])
    await orders.tell_many([_started(one, held[one.order_id]) for one in charges])
    failpoint.reach("open.in_tx")
    await _reserve(charges, HOLD_WHILE_ASKING)
    failpoint.reach("reserve.in_tx")
    return attempts


async def _check_quotes(quote_ids: Sequence[UUID]) -> None:
    if quote_ids and not await fx.are_locked(quote_ids):
        raise QuoteExpired()


async def _kept(held: Collection[Order]) -> Mapping[UUID, int]:
    paid = [order.id for order in held if order.captured_minor]
    return await payments.kept_of(paid) if paid else {}


def _opening(charge: Charge, order: Order, kept_minor: int) -> payments.Opening:
    offer = charge.offer
    return payments.Opening(
        charge.attempt_id,
        order_id=order.id,
        merchant_id=order.merchant_id,
        lane=order.lane,
        provider=offer.provider,
        account=offer.account,
        method=offer.method.code,
        amount=Money(order.total_minor - kept_minor, order.ccy),
        must_authenticate=charge.must_authenticate,
    )


def _started(charge: Charge, order: Order) -> tuple[Order, EventKind, dict[str, str]]:
    facts = {
        "payment_id": ids.encode("pay", charge.attempt_id),
        "method": charge.offer.method.code,
    }
    return order, EventKind.STARTED, facts


async def _reserve(charges: Sequence[Charge], lasting: timedelta) -> None:
    """Hold the goods of orders. Errors: OutOfStock, HoldLimit."""
    asks = [
        catalogue.Ask(
            one.order_id,
            one.view.order.merchant_id,
            [(line.id, line.variant_id, line.quantity) for line in one.view.lines],
            _fingerprints(one.view.order, one.visitor),
        )
        for one in charges
    ]
    await catalogue.reserve(asks, clock.now() + lasting)


def _fingerprints(order: Order, visitor: Visitor) -> dict[str, bytes]:
    """Whose unpaid stock counts against hoarding; in development one laptop plays every buyer."""
    if settings().in_development:
        return {}
    prints = {
        "email": vault.fingerprint("email", order.email),
        "address": visitor.address_hash,
        "device": visitor.device_hash,
    }
    return {name: value for name, value in prints.items() if value is not None}


async def _record_set(answers: Sequence[Answered]) -> list[tuple[Attempt | None, Order]]:
    """Write the providers' answers and keep the goods of what they accepted: attempt and order of each.

    No attempt where a callback was faster: what it wrote stands.
    Errors: OutOfStock, HoldLimit when goods whose hold has lapsed are gone.
    """
    async with db.transaction():
        held = await orders.lock([one.charge.order_id for one in answers])
        stored = await payments.answer(
            [
                (one.attempt.id, one.said, CHECK_LATER if one.is_clear else CHECK_SOON)
                for one in answers
            ]
        )
        heard = [one for one in answers if one.attempt.id in stored]
        told = ((held[one.charge.order_id], one) for one in heard)
        await orders.tell_many([event for order, one in told if (event := _event(order, one))])
        refused = [one.charge.order_id for one in heard if one.said.state in _REFUSED]
        await catalogue.release(refused)
        await _keep_goods(
            [
                one.charge
                for one in heard
                if one.said.state not in _REFUSED
                and held[one.charge.order_id].status is OrderStatus.AWAITING_PAYMENT
            ]
        )
        await finish_many([one.charge.once for one in answers])
        failpoint.reach("record.in_tx")
    failpoint.reach("record.after_commit")
    return [(stored.get(one.attempt.id), held[one.charge.order_id]) for one in answers]


_REFUSED = (ChargeState.DECLINED, ChargeState.FAILED)
_EVENT = {
    ChargeState.DECLINED: EventKind.DECLINED,
    ChargeState.FAILED: EventKind.FAILED,
    ChargeState.UNKNOWN: EventKind.UNKNOWN,
}


def _event(order: Order, answer: Answered) -> tuple[Order, EventKind, dict[str, str]] | None:
    kind = _EVENT.get(answer.said.state)
    if kind is None:
        return None
    facts = {"payment_id": ids.encode("pay", answer.attempt.id)}
    if kind is not EventKind.UNKNOWN:
        facts["code"] = answer.said.raw_code
    return order, kind, facts


async def _keep_goods(charges: Sequence[Charge]) -> None:
    if not charges:
        return
    extended = await catalogue.extend([one.order_id for one in charges], clock.now() + RESERVE_FOR)
    lapsed = [one for one in charges if one.order_id not in extended]
    if lapsed:  # nothing to hold, or this process slept
        await _reserve(lapsed, RESERVE_FOR)


open_charge = Together("checkout.open", _open_set)
record_answer = Together("checkout.record", _record_set)
