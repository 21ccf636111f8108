"""Fulfilment in sets: 1…N words of providers become captures, sold keys, split money, events; one transaction.

Steps and lock order follow MONEY.md section 9: orders and captures → card keys → balances. An order that cannot
be fulfilled drops out into its own state; a row that makes the set fail is set aside alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from uuid import UUID

import structlog

from domain import catalogue, fx, orders, payments, risk, settlement
from domain.checkout import rules, saving
from domain.checkout.sale import CONFLICTED, Sale
from domain.core import bell, bulk, clock, db, events, failpoint, promises, trace
from domain.core.errors import Unavailable
from domain.orders.rules import EventKind, OrderStatus
from domain.payments.models import Attempt, Capture, Word
from domain.settlement import Booking

SET_MAX = 200
ERROR_MAX = 500
_GIVES_BACK = (rules.Outcome.RETURN, rules.Outcome.SURPLUS)
_FREED_BY_MONEY = ("partial", "short", "held", "delivering")
_log = structlog.get_logger(__name__)


async def fulfil(lane: int, *, limit: int = SET_MAX) -> int:
    """Judge what waits in a lane and fulfil what can be; the number of words and captures dealt with.

    With `limit` dealt with more may wait; with less nothing does, or the lane's bell has rung for it.

    Idempotent: everything is claimed by state under row locks. On an error the set is halved until the single
    culprit is found, which is parked with its reason. Errors: Unavailable when the database is away.
    """
    asked = limit
    while True:
        claimed: list[Word | Capture] = []
        try:
            with trace.span("fulfil", f"lane{lane}"):
                done = await _fulfil_set(lane, limit, claimed)
            if limit < asked:
                await _ring_again(lane)
            return done
        except (Unavailable, *db.AWAY, *db.RETRYABLE):
            # No word's fault. Nothing to look up: what committed is no longer waiting, what did not still is.
            raise
        except payments.WordUnreadable as error:
            await _park(error.no, None, repr(error))
            await _ring_again(lane)
            return 1
        except Exception as error:  # whatever it was: a lane that stands still is worse
            if limit > 1:
                limit //= 2
                continue
            if not claimed:
                raise
            _log.exception("fulfil.parked", lane=lane)
            one = claimed[0]
            no, capture = (one.no, None) if isinstance(one, Word) else (None, one)
            await _park(no, capture, repr(error))
            await _ring_again(lane)
            return 1


async def _ring_again(lane: int) -> None:
    """An error made the set smaller than it could have been: what it left out need not wait for the next look."""
    await bell.ring(bell.CAPTURES, str(lane))


async def _fulfil_set(lane: int, limit: int, claimed: list[Word | Capture]) -> int:
    async with db.transaction():
        words, has_due = await payments.waiting(lane, limit)
        has_room = has_due and len(words) < limit
        due = await payments.due(lane, limit - len(words)) if has_room else []
        claimed += [*words, *due]
        if not words and not due:
            return 0
        failpoint.reach("fulfil.claimed")
        sales, strays = await _gather(words, due)
        await _take_stock(sales)
        bookings = _decide(sales)
        await settlement.book(bookings, lane=lane)
        await _write(sales, strays)
        await saving.keep(words)
        failpoint.reach("fulfil.in_tx")
    failpoint.reach("fulfil.after_commit")
    return len(words) + len(due)


async def _gather(
    words: Sequence[Word], due: Sequence[Capture]
) -> tuple[list[Sale], list[tuple[int, str, str | None]]]:
    """Lock the orders, judge the words; words that belong to nobody come back as verdicts."""
    about = {word.order_id for word in words if word.order_id} | {one.order_id for one in due}
    held = await orders.lock_set(list(about))
    # Read under the orders' locks: every writer of an attempt holds its order's.
    asked = [word.reference_id for word in words if word.order_id and word.reference_id]
    attempts = await payments.attempts_of(asked) if asked else {}
    sales = {order_id: Sale(order) for order_id, order in held.items()}
    if paid := [order_id for order_id, order in held.items() if order.captured_minor]:
        for order_id, kept_minor in (await payments.kept_of(paid)).items():
            sales[order_id].kept_before_minor = kept_minor
    # An order that is gone (purged by hand) leaves its attempt to nobody (C06).
    gone = {one.id for one in attempts.values() if one.order_id not in sales}
    attempts = {key: one for key, one in attempts.items() if key not in gone}
    odd = [word.reference_id for word in words if word.reference_id and _is_odd(word, attempts)]
    if odd:
        for (attempt_id, ccy), minor in (await payments.taken_of(odd)).items():
            sales[attempts[attempt_id].order_id].taken[attempt_id, ccy] = minor
    strays: list[tuple[int, str, str | None]] = []
    for word, capture_id in zip(words, bulk.uuid7s(len(words)), strict=True):
        if word.subject == "refund":
            strays.append(await _hear_refund(word))
            continue
        attempt = attempts.get(word.reference_id) if word.reference_id else None
        if attempt is None:
            what = "order" if word.reference_id in gone else "reference"
            strays.append((word.no, "parked", f"unknown {what}"))
            await settlement.open_exception("unknown_payment", facts={"inbox_no": word.no})
            continue
        sales[attempt.order_id].hear(word, attempt, capture_id)
    for capture in due:
        sales[capture.order_id].captures.append(capture)
    # Sorted, so that every later statement meets the rows in the same order.
    return [sales[order_id] for order_id in sorted(sales)], strays


def _is_odd(word: Word, attempts: Mapping[UUID, Attempt]) -> bool:
    """Money in another currency than asked or taken before: what the attempt's row holds is not enough."""
    attempt = attempts.get(word.reference_id) if word.reference_id else None
    if attempt is None or not word.amount.minor:
        return False
    return {attempt.ccy, attempt.processed_ccy or attempt.ccy} != {word.amount.currency}


async def _hear_refund(word: Word) -> tuple[int, str, str | None]:
    if word.reference_id is None:
        return word.no, "parked", "unknown reference"
    # Answered by its own task: it locks the order and posts outside this set.
    await promises.promise("settlement", "refund.word", word.reference_id)
    return word.no, "applied", None


async def _take_stock(sales: Sequence[Sale]) -> None:
    """Turn reservations into sold keys for every order that is whole; late orders try to claim anew."""
    wanting = [sale for sale in sales if sale.captures and rules.wants_stock(sale.arrival)]
    if not wanting:
        return
    sold = await catalogue.allocate([sale.order.id for sale in wanting if sale.order.key_units])
    for sale in wanting:
        sale.has_stock = sold.get(sale.order.id, 0) == sale.order.key_units
    odd = [sale for sale in wanting if not (sale.has_stock and sale.order.is_plain)]
    lines = await orders.lines([sale.order.id for sale in odd]) if odd else {}
    for sale in odd:
        sale.has_stock = await catalogue.claim_sold(
            sale.order.id,
            sale.order.merchant_id,
            [(line.id, line.variant_id, line.quantity) for line in lines[sale.order.id]],
        )
    whole = [sale for sale in wanting if sale.order.captured_minor]
    if whole:
        parked = await payments.parked_of([sale.order.id for sale in whole], _FREED_BY_MONEY)
        by_order: dict[UUID, list[Capture]] = {}
        for capture in parked:
            by_order.setdefault(capture.order_id, []).append(capture)
        for sale in whole:
            sale.freed = by_order.get(sale.order.id, [])


def _decide(sales: Sequence[Sale]) -> list[Booking]:
    """Apply the rule of the sale to each order; the bookings of all."""
    bookings: list[Booking] = []
    for sale in sales:
        bookings += [Booking.conflict(capture) for capture in sale.conflicts]
        if not sale.captures:
            continue
        arrival = sale.arrival
        sale.outcome = rules.outcome(arrival, has_stock=sale.has_stock)
        sale.surplus_minor = rules.surplus_minor(arrival)
        bookings += _bookings(sale)
        _tell(sale, arrival)
    return bookings


def _bookings(sale: Sale) -> list[Booking]:
    outcome = sale.outcome
    if outcome is rules.Outcome.NOTHING:
        # Sent round again, and nothing came of it (its money is on its way back): it waits where it was.
        reason = rules.WAITS_FOR.get(sale.order.status, "partial")
        return [Booking.park(capture, reason) for capture in sale.captures]
    if outcome is not rules.Outcome.DELIVER:
        reason = rules.PARK_REASON[outcome]
        known = outcome is not rules.Outcome.SURPLUS
        return [
            Booking.park(capture, reason) for capture in sale.captures if capture.is_new or known
        ]
    # Money that came first pays first; what is above the total goes back.
    left = sale.order.total_minor
    bookings = []
    for capture in chain(sale.freed, sale.captures):
        keep = min(left, capture.kept_minor)
        left -= keep
        bookings.append(Booking.sale(capture, keep) if keep else Booking.park(capture, "surplus"))
    return bookings


def _tell(sale: Sale, arrival: rules.Arrival) -> None:
    """Record what happened, in the words of the event log."""
    outcome, surplus = sale.outcome, sale.surplus_minor
    if sale.fresh_minor and arrival.is_late and outcome is not rules.Outcome.SURPLUS:
        sale.happened(EventKind.LATE, minor=sale.fresh_minor, ccy=sale.order.ccy)
    if outcome is rules.Outcome.WAIT:
        sale.happened(EventKind.PARTIAL, minor=sale.fresh_minor, ccy=sale.order.ccy)
        return
    if outcome in rules.STATUS and not sale.order.is_paid:
        sale.happened(EventKind.PAID, minor=sale.order.total_minor, ccy=sale.order.ccy)
    if surplus:
        sale.happened(EventKind.OVERPAID, minor=surplus, ccy=sale.order.ccy)
    if outcome in rules.STATUS and rules.STATUS[outcome] is not sale.order.status:
        sale.happened(_EVENT[rules.STATUS[outcome]])


_EVENT = {
    OrderStatus.DELIVERED: EventKind.DELIVERED,
    OrderStatus.DELIVERING: EventKind.DELIVERING,
    OrderStatus.SHORT: EventKind.SHORT,
    OrderStatus.HELD: EventKind.HELD,
}


async def _write(sales: Sequence[Sale], strays: Sequence[tuple[int, str, str | None]]) -> None:
    """Write what the set has decided: one statement per table."""
    await payments.store(
        [one for sale in sales for one in chain(sale.freed, sale.captures, sale.conflicts)]
    )
    await payments.conclude(
        [*chain.from_iterable(sale.verdicts for sale in sales), *strays],
        [
            (attempt_id, *state)
            for sale in sales
            for attempt_id, state in sale.attempt_states.items()
        ],
        _intents(sales),
    )
    moved = [
        sale for sale in sales if sale.events or sale.fresh_minor or sale.outcome in rules.STATUS
    ]
    if moved:
        await orders.change_many([sale.change() for sale in moved], clock.now())
        await events.record(*chain.from_iterable(sale.events for sale in moved))
    await _heed_challenges(sales)
    delivered = [sale.order for sale in sales if sale.outcome is rules.Outcome.DELIVER]
    await orders.lines_done([order.id for order in delivered if not order.is_plain])
    await _use_up(sales)
    await _owe(sales)


async def _heed_challenges(sales: Sequence[Sale]) -> None:
    """What risk had asked the payer for: passed it lets the order go, left out it holds it for a person."""
    if proved := [sale.order.id for sale in sales if sale.is_proved and not sale.is_unproved]:
        await risk.passed_challenge(proved)
    for sale in sales:
        if sale.is_unproved and sale.outcome in (rules.Outcome.HOLD, rules.Outcome.WAIT):
            await orders.hold(sale.order.id, is_held=True)


async def _use_up(sales: Sequence[Sale]) -> None:
    """Paid orders use up their locked rate and their coupon; a rate that ran out before the money is noted."""
    paid = [sale for sale in sales if sale.fresh_minor and sale.outcome in rules.STATUS]
    quoted = [sale for sale in paid if sale.order.quote_id]
    if quoted:
        consumed = await fx.consume(
            [sale.order.quote_id for sale in quoted if sale.order.quote_id],
            [sale.captures[-1].journal_id for sale in quoted if sale.captures[-1].journal_id],
            at=[sale.captures[-1].captured_at for sale in quoted],
        )
        for sale in quoted:
            if sale.order.quote_id not in consumed.done:
                await settlement.open_exception("late_rate", capture=sale.captures[-1])
    couponed = [sale.order.id for sale in paid if sale.order.coupon_id]
    if couponed:
        await catalogue.keep_coupons(couponed)


def _intents(sales: Sequence[Sale]) -> dict[UUID, str]:
    """The intents that change, by order."""
    states: dict[UUID, str] = {}
    for sale in sales:
        if sale.conflicts:
            states[sale.order.id] = CONFLICTED
        elif sale.outcome in rules.INTENT:
            states[sale.order.id] = rules.INTENT[sale.outcome]
        elif sale.is_declined and not sale.fresh_minor:
            states[sale.order.id] = "requires_method"
    return states


async def _owe(sales: Sequence[Sale]) -> None:
    """Promise what follows: money to give back, goods to procure, exceptions to look at."""
    back: list[tuple[UUID, str | None]] = []
    procure: list[tuple[UUID, str | None]] = []
    for sale in sales:
        order_id = sale.order.id
        if sale.outcome in _GIVES_BACK or sale.surplus_minor:
            back.append((order_id, f"return:{order_id}:{sale.order.event_seq}"))
        if sale.outcome is rules.Outcome.START_DELIVERY:
            procure.append((order_id, f"procure:{order_id}"))
        for kind, capture in _exceptions(sale):
            await settlement.open_exception(kind, capture=capture)
    await promises.promise_many("settlement", "refund.surplus", back)
    await promises.promise_many("delivery", "delivery.procure", procure)
    freed = [sale.order.id for sale in sales if sale.is_declined and not sale.fresh_minor]
    if freed:
        await catalogue.release(freed)


def _exceptions(sale: Sale) -> list[tuple[str, Capture]]:
    found = [(CONFLICTED, capture) for capture in sale.conflicts]
    if sale.outcome is rules.Outcome.SURPLUS or sale.surplus_minor:
        found += [("surplus", capture) for capture in sale.captures if capture.is_new][-1:]
    if sale.outcome is rules.Outcome.SHORT:
        found += [("short", capture) for capture in sale.captures[:1]]
    if sale.is_unproved:
        found += [("unauthenticated", capture) for capture in sale.captures if capture.is_new][-1:]
    return found


async def _park(no: int | None, capture: Capture | None, error: str) -> None:
    """Set aside the one word or capture that alone makes the set fail; only it, whoever holds it meanwhile."""
    async with db.transaction():
        if not await payments.park_culprit(
            no=no, capture_id=capture.id if capture else None, error=error
        ):
            return  # another worker has dealt with it
        await settlement.open_exception(
            "unfulfillable", capture=capture, facts={"error": error[:ERROR_MAX], "inbox_no": no}
        )
