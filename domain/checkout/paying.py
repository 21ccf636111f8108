"""Paying: one attempt at a time, committed before the provider is called, never a network call in a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from domain import catalogue, fx, orders, payments, risk
from domain.checkout import saving
from domain.checkout.charging import (
    CHECK_SOON,
    Answered,
    Charge,
    check_payable,
    open_charge,
    record_answer,
)
from domain.checkout.starting import Visitor
from domain.core import db, failpoint, ids, trace, vault
from domain.core.errors import DomainError, NotFound, Unavailable
from domain.core.money import Money
from domain.core.once import Once
from domain.core.settings import settings
from domain.core.together import Together
from domain.orders import OrderView
from domain.orders.models import Order
from domain.orders.rules import EventKind, OrderStateConflict
from domain.payments.models import Attempt
from domain.payments.ports import ChargeAnswer, ChargeRequest, ChargeState
from domain.payments.routing import Offer
from domain.payments.rules import LIVE

CHARGE_TIMEOUT_S = 8.0

_log = structlog.get_logger(__name__)


class PaymentDeclined(DomainError):
    """The provider refused the charge; nothing was taken. Another method may work."""

    code = "PAYMENT_DECLINED"
    retryable = True


class RiskDeclined(DomainError):
    """The payment was refused by the rules of risk before anyone was charged."""

    code = "RISK_DECLINED"


@dataclass(frozen=True, slots=True)
class Paying:
    """The attempt that is under way; `attempt.action_json` says what the buyer does next."""

    order: Order
    attempt: Attempt


async def pay(
    order_id: UUID,
    method: str,
    visitor: Visitor,
    once: Once,
    *,
    access_key: str,
    return_url: str | None = None,
    saves: bool = False,
    saved_id: UUID | None = None,
) -> Paying:
    """Charge the order by `method`: risk → attempt and goods committed → provider called.

    A second call for the same method returns the attempt under way; another method first voids it. `saves` has the
    method saved with a capture, `saved_id` charges a saved one without the buyer. Idempotent by `once`. Errors:
    NotFound, OrderStateConflict, QuoteExpired, OutOfStock, HoldLimit, RiskDeclined, PaymentDeclined, FieldInvalid,
    UnsupportedCurrency, payments.UnknownMethod, once.KeyReused, once.InProgress.
    """
    view = await _look(order_id)
    if view is None or not vault.is_access_key(order_id, access_key):
        raise NotFound()
    order = view.order
    offer = await payments.through(order.merchant_id, payments.route(method, order.ccy))
    if view.parts["payments"]:
        # What this very call did before may be what would refuse it now: paid, delivered, unclear.
        earlier = await once.find()
        if earlier is not None:
            return _outcome(order, await _find(UUID(earlier["attempt_id"])))
    by = await saving.means(order, offer, saves=saves, saved_id=saved_id)
    running = await _switch(order, offer, by, view.live_attempt_id)
    if running is not None:
        return await _again(order, running, once)
    check_payable(order)
    decision = await _assess(_subject(order, offer, visitor))
    if decision.standing is risk.Outcome.DECLINE:
        raise RiskDeclined(reasons=list(decision.reasons))
    charge = Charge(
        view,
        offer,
        visitor,
        once,
        by,
        is_held=decision.standing is risk.Outcome.HOLD,
        must_authenticate=decision.standing is risk.Outcome.CHALLENGE,
    )
    attempt = await open_charge(charge)
    if once.is_replay:
        return _outcome(order, attempt)
    said = await _charge(attempt, order, by, return_url)
    return await _record(charge, attempt, said)


async def _look_set(order_ids: Sequence[UUID]) -> list[OrderView | None]:
    found = await orders.views(set(order_ids), ("lines", "payments"))
    return [found.get(order_id) for order_id in order_ids]


_look = Together("checkout.look", _look_set)
_assess = Together("risk.assess", risk.assess)


async def _again(order: Order, running: Attempt, once: Once) -> Paying:
    """The buyer pressed twice: one attempt, remembered under the second key as well."""
    async with db.transaction():
        earlier = await once.claim({"attempt_id": str(running.id)})
    return _outcome(order, running if earlier is None else await _find(UUID(earlier["attempt_id"])))


async def _find(attempt_id: UUID) -> Attempt:
    found = await payments.find(attempt_id)
    if found is None:
        raise NotFound()
    return found


async def _switch(
    order: Order, offer: Offer, by: saving.Means, live_id: UUID | None
) -> Attempt | None:
    """The live attempt when it is for the same; one for another method is voided first.

    Errors: OrderStateConflict while the live attempt may already have taken money.
    """
    live = await payments.find(live_id) if live_id else None
    if live is None or live.state not in LIVE:
        return None
    is_waiting = live.state == ChargeState.REQUIRES_ACTION
    if is_waiting and live.method == offer.method.code and await saving.is_same(live.id, by):
        return live
    if not is_waiting:
        raise OrderStateConflict(status=order.status.upper(), payment=live.state.upper())
    at = await payments.reach(live.provider, live.provider_account)
    said = await _bounded(
        live.provider,
        at.void(account=live.provider_account, reference=ids.encode("pay", live.id)),
    )
    if said.state is not ChargeState.VOIDED:
        raise OrderStateConflict(status=order.status.upper(), payment=live.state.upper())
    async with db.transaction():
        held = await orders.lock_one(order.id)
        if await payments.close(live.id, ChargeState.VOIDED):
            await catalogue.release([order.id])
            await orders.tell(held, EventKind.VOIDED, payment_id=ids.encode("pay", live.id))
    return None


def _usd_minor(total: Money) -> int:
    """About what an order is worth in US cents, to weigh risk by.

    Without a rate one unit counts as a dollar: too much for most currencies that lack one, so that a person
    looks rather at too many payments than at too few; no sale fails for it.
    """
    try:
        return fx.reference_minor(total, "USD")
    except fx.RateUnavailable:
        return int(total.to_decimal() * 100)


def _subject(order: Order, offer: Offer, visitor: Visitor) -> risk.Subject:
    return risk.Subject(
        order_id=order.id,
        merchant_id=order.merchant_id,
        amount=order.total,
        usd_minor=_usd_minor(order.total),
        email_hash=vault.fingerprint("email", order.email),
        email_domain=order.email.rpartition("@")[2],
        address_hash=visitor.address_hash,
        device_hash=visitor.device_hash,
        country=order.country,
        geo_country=visitor.geo_country,
        method=offer.method.code,
        platform=visitor.platform,
        signals=visitor.signals,
        can_authenticate=offer.method.can_authenticate,
    )


async def _charge(
    attempt: Attempt, order: Order, by: saving.Means, return_url: str | None
) -> ChargeAnswer:
    base = settings().public_url
    order_id = ids.encode("ord", order.id)
    request = ChargeRequest(
        reference=ids.encode("pay", attempt.id),
        account=attempt.provider_account,
        method=attempt.method,
        amount=attempt.requested,
        order_number=order.number,
        return_url=return_url or f"{base}/orders/{order_id}",
        notify_url=f"{base}/hooks/{attempt.provider}/{attempt.provider_account}",
        expires_at=order.expires_at,
        locale=order.locale,
        save=by.saves,
        token=by.token,
        must_authenticate=attempt.must_authenticate,
    )
    failpoint.reach("charge.before_call")
    at = await payments.reach(attempt.provider, attempt.provider_account)
    said = await _bounded(attempt.provider, at.charge(request))
    failpoint.reach("charge.after_call")
    return said


async def _bounded(provider: str, call: Any) -> ChargeAnswer:
    """A provider's answer, or UNKNOWN when it takes too long: from there only evidence leads on."""
    with trace.span("provider", provider):
        try:
            async with asyncio.timeout(CHARGE_TIMEOUT_S):
                answer: ChargeAnswer = await call
                return answer
        except TimeoutError:
            return ChargeAnswer(ChargeState.UNKNOWN, raw_code="timeout")


async def _record(charge: Charge, attempt: Attempt, said: ChargeAnswer) -> Paying:
    """Write the provider's answer; when the goods are gone after all, cancel the attempt there, then here."""
    try:
        stored, order = await record_answer(Answered(charge, attempt, said))
    except (catalogue.OutOfStock, catalogue.HoldLimit) as refusal:
        await _give_up(charge, attempt, said, refusal.code.lower())
        raise
    if stored is not None and said.state in (ChargeState.CAPTURED, ChargeState.PARTIALLY_CAPTURED):
        # Taken at once: the answer enters like any other word of the provider.
        await payments.put_answer(stored, said)
    # A callback may have been faster than the answer: what it wrote stands.
    return _outcome(order, stored or await _find(attempt.id))


async def _give_up(charge: Charge, attempt: Attempt, said: ChargeAnswer, code: str) -> None:
    """No goods for an attempt the provider has opened: cancel it; late money is refunded."""
    payment_id = ids.encode("pay", attempt.id)
    at = await payments.reach(attempt.provider, attempt.provider_account)
    answer = await _bounded(
        attempt.provider, at.void(account=attempt.provider_account, reference=payment_id)
    )
    state = ChargeState.VOIDED if answer.state is ChargeState.VOIDED else ChargeState.UNKNOWN
    async with db.transaction():
        held = await orders.lock_one(attempt.order_id)
        gone = ChargeAnswer(state, said.provider_ref, raw_code=code)
        await payments.answer([(attempt.id, gone, CHECK_SOON)])
        await orders.tell(held, EventKind.VOIDED, payment_id=payment_id, code=code)
        await charge.once.finish()


def _outcome(order: Order, attempt: Attempt) -> Paying:
    if attempt.state in (ChargeState.DECLINED, ChargeState.FAILED):
        raise PaymentDeclined(code_of_provider=attempt.raw_code)
    for refusal in (catalogue.OutOfStock, catalogue.HoldLimit):
        if attempt.raw_code == refusal.code.lower():  # written by `_give_up`
            raise refusal()
    return Paying(order, attempt)


async def check(attempt: Attempt) -> None:
    """Ask the provider where a live attempt stands; what it says enters through the inbox like any word of it.

    A provider that never saw the attempt may see it yet: our call can still be on its way. The reference is
    therefore closed there before anything here lets another attempt follow.
    """
    provider = await payments.reach(attempt.provider, attempt.provider_account)
    facts = {"account": attempt.provider_account, "reference": ids.encode("pay", attempt.id)}
    said = await _bounded(attempt.provider, provider.query(**facts))
    if said.state is ChargeState.FAILED:
        said = await _bounded(attempt.provider, provider.void(**facts))
    await payments.put_answer(attempt, said)


async def check_due(*, limit: int = 50) -> int:
    """Ask about every attempt whose time has come, several at once; how many were asked about."""
    due = await payments.due_for_check(limit)
    answers = await asyncio.gather(*(check(attempt) for attempt in due), return_exceptions=True)
    for attempt, answer in zip(due, answers, strict=True):
        if isinstance(answer, Unavailable):
            _log.warning("attempt.unasked", attempt=str(attempt.id))
        elif isinstance(answer, BaseException):
            raise answer
    return len(due)
