"""State tables of CASES M, tried pair by pair on the real code paths: what is not listed changes nothing.

M02 attempts, M03 captures, M04 and M05 orders; M14 (reserves) is in test_settlement_runs, M12 and M13 beside holds
and quotes.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest

from domain import checkout, ledger, orders, payments, settlement
from domain.core import db
from domain.core.audit import Actor
from domain.core.errors import FieldInvalid
from domain.core.money import Money
from domain.orders.rules import EventKind, OrderStateConflict, OrderStatus
from domain.payments.models import Capture
from domain.payments.ports import ChargeAnswer, ChargeState
from domain.settlement import Closing
from tests import make
from tests.rows import changed, everything

USD = "USD"
ATTEMPT_STATES = (
    "started",
    "requires_action",
    "processing",
    "authorized",
    "captured",
    "declined",
    "failed",
    "voided",
    "unknown",
)
LIVE = ("started", "requires_action", "processing", "authorized", "unknown")
CLOSED = ("declined", "failed", "voided")


@pytest.fixture(autouse=True)
async def _books(db: None) -> AsyncIterator[None]:
    yield
    assert await ledger.check() == []


def after_word(state: str, said: str) -> str:
    """M02 by a provider's word: money always counts, a refusal closes what is live, progress moves it."""
    if said == "captured":
        return "captured"
    if state in LIVE and said in CLOSED:
        return said
    if state in LIVE and said in ("requires_action", "processing"):
        return said
    return state  # `unknown` said by a provider, and whatever comes after the end


@pytest.mark.parametrize("state", ATTEMPT_STATES)
async def test_m02_a_word_moves_an_attempt_by_the_table_only(state: str) -> None:
    shop = await make.shop(keys=20)
    for said in ("captured", *CLOSED, "requires_action", "processing", "authorized", "unknown"):
        order = await make.order(shop)
        attempt = await make.attempt(order)
        taken = 10_000 if state == "captured" else None
        await db.execute(
            "UPDATE payment_attempt SET state = $2, processed_minor = $3, processed_ccy = $4 WHERE id = $1",
            attempt.id,
            state,
            taken,
            USD if taken else None,
        )
        amount = Money(10_000 if said == "captured" else 0, USD)

        await make.word(attempt, said, amount=amount)
        while await checkout.fulfil(order.lane):
            pass

        found = await db.value("SELECT state FROM payment_attempt WHERE id = $1", attempt.id)
        assert found == after_word(state, said), (state, said)
        captures = "SELECT count(*) FROM capture WHERE attempt_id = $1"
        takes = said == "captured" and state != "captured"
        assert await db.value(captures, attempt.id) == takes, (state, said)


def after_answer(state: str, said: ChargeState) -> str:
    """M02 by the answer to our own call: only what waits for one takes it, and it never takes money."""
    if state not in ("started", "unknown"):
        return state
    if said in (ChargeState.CAPTURED, ChargeState.PARTIALLY_CAPTURED):
        return "processing"  # the money enters through the inbox
    return said


@pytest.mark.parametrize("state", ATTEMPT_STATES)
async def test_m02_an_answer_moves_only_an_attempt_that_waits_for_it(state: str) -> None:
    shop = await make.shop(keys=20)
    for said in ChargeState:
        attempt = await make.attempt(await make.order(shop))
        await db.execute("UPDATE payment_attempt SET state = $2 WHERE id = $1", attempt.id, state)
        before = await everything()

        stored = await payments.answer([(attempt.id, ChargeAnswer(said), timedelta(seconds=2))])

        found = await db.value("SELECT state FROM payment_attempt WHERE id = $1", attempt.id)
        assert found == after_answer(state, said), (state, said)
        takes = state in ("started", "unknown")
        assert set(stored) == ({attempt.id} if takes else set())
        assert changed(before, await everything()) == ({"payment_attempt"} if takes else set())


@pytest.mark.parametrize(("state", "target"), list(itertools.product(ATTEMPT_STATES, CLOSED)))
async def test_m02_closing_by_hand_closes_what_is_live_and_nothing_else(
    state: str, target: str
) -> None:
    shop = await make.shop()
    attempt = await make.attempt(await make.order(shop))
    await db.execute("UPDATE payment_attempt SET state = $2 WHERE id = $1", attempt.id, state)

    closed = await payments.close(attempt.id, target)

    assert closed == (state in LIVE)
    found = await db.value("SELECT state FROM payment_attempt WHERE id = $1", attempt.id)
    assert found == (target if closed else state)


async def test_m02_unknown_is_left_by_evidence_only_however_often_it_is_looked_at() -> None:
    shop = await make.shop()
    order = await make.order(shop)
    attempt = await make.attempt(order)
    await db.execute(
        "UPDATE payment_attempt SET state = 'unknown', checks = 9, next_check_at = '2020-01-01'"
    )

    for _ in range(12):
        await db.execute("UPDATE payment_attempt SET next_check_at = '2020-01-01'")
        assert len(await payments.due_for_check(10)) == 1
    await db.execute("UPDATE orders SET expires_at = '2020-01-01'")
    await checkout.expire_due()

    assert await db.value("SELECT state FROM payment_attempt") == "unknown"
    assert await make.status([order.id]) == ["expired"]
    assert await db.value("SELECT count(*) FROM card_key WHERE state = 'reserved'") == 1
    await make.word(attempt)
    await checkout.fulfil(order.lane)
    assert await make.status([order.id]) == ["delivered"]


async def _captured(shop: make.Shop, state: str) -> Capture:
    """A capture in `state`, by the paths that lead there."""
    order = await make.paid(shop)
    if state == "parked":
        async with db.transaction():
            await orders.hold(order.id, is_held=True)
    await checkout.fulfil(order.lane)
    async with db.transaction():
        (found,) = await payments.captures_of(order.id)
        if state == "captured":
            await db.execute(
                "UPDATE capture SET state = 'captured', park_reason = NULL WHERE id = $1", found.id
            )
            (found,) = await payments.captures_of(order.id)
    return found


# M03: captured → SETTLED / parked; parked → round again (a person, stock, the rest of the money) → settled.
CAPTURE_MAY = {
    ("captured", "store settled"): "settled",
    ("captured", "store parked"): "parked",
    ("captured", "park culprit"): "parked",
    ("parked", "store settled"): "settled",
    ("parked", "store parked"): "parked",
    ("parked", "free"): "captured",
}


@pytest.mark.parametrize(
    ("state", "step"),
    list(
        itertools.product(
            ("captured", "parked", "settled"),
            ("store settled", "store parked", "free", "park culprit"),
        )
    ),
)
async def test_m03_a_capture_leaves_its_state_by_the_table_only(state: str, step: str) -> None:
    capture = await _captured(await make.shop(), state)
    assert capture.state == state
    before = await everything()

    async with db.transaction():
        if step == "free":
            await payments.free(capture.order_id, ("held",))
        elif step == "park culprit":
            await payments.park_culprit(no=None, capture_id=capture.id, error="test")
        else:
            capture.state = step.removeprefix("store ")
            capture.park_reason = "held" if capture.state == "parked" else None
            try:
                await payments.store([capture])
            except AssertionError:
                assert state == "settled"  # the set is undone

    assert await db.value("SELECT state FROM capture") == CAPTURE_MAY.get((state, step), state)
    if (state, step) not in CAPTURE_MAY:
        assert changed(before, await everything()) == set()


S = OrderStatus
# M05 of CASES.md written out, with the goods of M04: paid, delivering may be passed through in one transaction, and
# a part paid of a closed order goes back whole.
ORDER_MAY = {
    S.AWAITING_PAYMENT: {
        *(S.PAID, S.DELIVERING, S.DELIVERED, S.HELD, S.SHORT),
        *(S.EXPIRED, S.CANCELLED, S.REFUNDED),
    },
    S.PAID: {S.DELIVERING, S.DELIVERED, S.HELD, S.SHORT, S.REFUNDED, S.DISPUTED},
    S.HELD: {S.DELIVERING, S.DELIVERED, S.SHORT, S.REFUNDED, S.DISPUTED},
    S.SHORT: {S.DELIVERING, S.DELIVERED, S.HELD, S.REFUNDED, S.DISPUTED},
    S.DELIVERING: {S.DELIVERED, S.SHORT, S.REFUNDED, S.DISPUTED},
    S.DELIVERED: {S.REFUNDED, S.DISPUTED},
    S.DISPUTED: {S.PAID, S.DELIVERED, S.REFUNDED},
    S.EXPIRED: {S.PAID, S.DELIVERING, S.DELIVERED, S.HELD, S.SHORT, S.REFUNDED},
    S.CANCELLED: {S.PAID, S.DELIVERING, S.DELIVERED, S.HELD, S.SHORT, S.REFUNDED},
    S.REFUNDED: set(),
}


@pytest.mark.parametrize("source", list(OrderStatus))
async def test_m04_m05_an_order_moves_by_the_table_only(source: OrderStatus) -> None:
    shop = await make.shop()
    for target in OrderStatus:
        order = await make.order(shop)
        await db.execute("UPDATE orders SET status = $2::text WHERE id = $1", order.id, source)
        before = await everything()
        may = target in ORDER_MAY[source]

        if may:
            await _move(order.id, target)
        else:
            with pytest.raises(OrderStateConflict) as refused:
                await _move(order.id, target)
            assert refused.value.facts == {"status": source.upper()}
            assert changed(before, await everything()) == set()
        assert await make.status([order.id]) == [target if may else source], (source, target)


async def _move(order_id: UUID, target: OrderStatus) -> None:
    async with db.transaction():
        await orders.move(await orders.lock_one(order_id), target, EventKind.PAID)


async def test_m04_goods_are_revoked_once_and_never_come_back() -> None:
    shop = await make.shop(keys=2)
    order = await make.paid(shop)
    await checkout.fulfil(order.lane)
    await checkout.refunds.ask(order.id, None, reason="test", asked_by="test")
    states = "SELECT array_agg(state ORDER BY state) FROM card_key"
    assert await db.value(states) == ["available", "revoked"]

    # Stock comes, money comes, the order is looked at again: the revoked key stays what it is.
    await make.stock(shop.merchant_id, shop.variant_id, 1)
    await checkout.restock(shop.variant_id)
    await make.word(await make.attempt(order, reserve=False))
    await checkout.fulfil(order.lane)

    assert await db.value(states) == ["available", "available", "revoked"]
    assert await db.value("SELECT count(*) FROM event_log WHERE kind = 'goods.revoked'") == 1


@pytest.mark.parametrize(
    ("closing", "again"), [(Closing.RESOLVED, "open"), (Closing.ACCEPTED, "accepted")]
)
async def test_m18_an_exception_is_closed_once_by_whoever_comes_first(
    closing: Closing, again: str
) -> None:
    async def opened() -> None:
        async with db.transaction():
            await settlement.open_exception("surplus", facts={"test": 1})

    await opened()
    exception_id = await db.value("SELECT id FROM money_exception")
    actors = [Actor("operator", name) for name in ("acc_first", "acc_second")]

    closed = await settlement.close_exception(exception_id, closing, "found it", actor=actors[0])
    with pytest.raises(settlement.ExceptionClosed) as refused:
        await settlement.close_exception(exception_id, Closing.ACCEPTED, "no", actor=actors[1])
    audited = await db.fetch("SELECT actor_id, action, subject_id, facts_json FROM audit_log")
    await opened()  # the same fact once more

    assert (closed.state, closed.note, closed.closed_by) == (closing.value, "found it", "acc_first")
    assert refused.value.facts == {"closed_as": closing.name}
    assert [tuple(row) for row in audited] == [
        (
            "acc_first",
            "exception.close",
            exception_id,
            {"kind": "surplus", "closing": closing.value, "note": "found it"},
        )
    ]
    rows = await db.fetch("SELECT id, state FROM money_exception")
    assert [tuple(row) for row in rows] == [(exception_id, again)]


@pytest.mark.parametrize("note", ["", " ", "x" * 501, "a\u202eb"])
async def test_m18_an_exception_is_not_closed_without_a_reason(note: str) -> None:
    async with db.transaction():
        await settlement.open_exception("surplus", facts={"test": 1})
    exception_id = await db.value("SELECT id FROM money_exception")

    with pytest.raises(FieldInvalid):
        await settlement.close_exception(
            exception_id, Closing.RESOLVED, note, actor=Actor("operator", "acc_x")
        )

    assert await db.value("SELECT state FROM money_exception") == "open"
    assert await db.value("SELECT count(*) FROM audit_log") == 0
