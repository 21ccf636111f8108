"""Any order of the same words ends alike, and expiry, cancelling and money may race (CASES C02, C03, C09, E01, E02).

The words of one attempt in every order; expiry before, between and after them; refund words in every order.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest

from domain import catalogue, checkout, ledger
from domain.checkout import closing, refunds
from domain.core import clock, db
from domain.ledger import AccountKey
from domain.orders import OrderStateConflict
from domain.orders.models import Order
from domain.payments.models import Attempt
from domain.payments.ports import RefundAnswer, RefundState
from tests import make
from tests.journeys import checker

Step = Callable[[Order, Attempt], Awaitable[object]]


@pytest.fixture(autouse=True)
async def _laws(db: None) -> AsyncIterator[None]:
    yield
    assert await checker.faults() == []


async def fulfil(order: Order) -> None:
    while await checkout.fulfil(order.lane):
        pass


async def captured(order: Order, attempt: Attempt) -> None:
    await make.word(attempt, event_id=f"paid-{attempt.id}")
    await fulfil(order)


async def said(order: Order, attempt: Attempt, state: str) -> None:
    await make.word(attempt, state, amount=attempt.requested * 0)
    await fulfil(order)


async def expired(order: Order, attempt: Attempt) -> None:
    past = "UPDATE orders SET expires_at = clock_timestamp() - interval '1 h' WHERE id = $1"
    await db.execute(past, order.id)
    await closing.expire_due()


STEPS: dict[str, Step] = {
    "processing": lambda order, attempt: said(order, attempt, "processing"),
    "declined": lambda order, attempt: said(order, attempt, "declined"),
    "captured": captured,
    "again": captured,
    "expired": expired,
}


async def end(order: Order) -> tuple[object, ...]:
    """Where an order ends: its state, its attempt's, its money and its keys."""
    row = await db.row(
        "SELECT o.status, o.captured_minor, o.returned_minor, a.state AS attempt,"
        " (SELECT array_agg(g.leg || g.amount_minor ORDER BY g.leg) FROM capture c"
        " JOIN capture_leg g ON g.capture_id = c.id WHERE c.order_id = o.id) AS legs,"
        " (SELECT count(*) FROM card_key k WHERE k.order_id = o.id AND k.state = 'sold') AS keys"
        " FROM orders o JOIN payment_attempt a ON a.order_id = o.id WHERE o.id = $1",
        order.id,
    )
    assert row is not None
    return tuple(map(str, row))


async def test_c02_c03_c09_l14_every_order_of_the_same_words_ends_alike() -> None:
    shop = await make.shop(keys=200, reserve_bps=500)
    ends = set()
    for names in itertools.permutations(STEPS):
        order = await make.order(shop)
        attempt = await make.attempt(order)
        for name in names:
            await STEPS[name](order, attempt)
        ends.add(await end(order))

    assert ends == {
        (
            "delivered",
            "10000",
            "0",
            "captured",
            "['commission600', 'merchant8930', 'reserve470']",
            "1",
        )
    }


async def test_c09_m08_every_order_of_a_refunds_words_ends_alike() -> None:
    shop = await make.shop(reserve_bps=500)
    before = None
    for states in itertools.permutations(
        (RefundState.PENDING, RefundState.SUCCEEDED, RefundState.FAILED)
    ):
        order = await make.paid(shop)
        await fulfil(order)
        asked = await refunds.ask(order.id, 4_000, reason="test", asked_by="test")
        for state in (*states, *states):
            await checkout.hear(asked[0].id, RefundAnswer(state))

        found = await end(order)
        before = before or found
        assert found == before == ("delivered", "10000", "0", "captured", before[4], "1")
        assert await db.value("SELECT state FROM refund WHERE id = $1", asked[0].id) == "failed"
        await db.execute("UPDATE promise SET state = 'done' WHERE task = 'refund.send'")


async def test_c03_expiry_and_money_at_the_same_moment_end_alike() -> None:
    shop = await make.shop(keys=40)
    past = "UPDATE orders SET expires_at = clock_timestamp() - interval '1 h' WHERE id = $1"
    for _ in range(20):
        order = await make.order(shop)
        await make.word(await make.attempt(order))
        await db.execute(past, order.id)
        await asyncio.gather(checkout.fulfil(order.lane), closing.expire_due())
        await fulfil(order)
        assert await make.status([order.id]) == ["delivered"]


async def test_e02_money_for_a_cancelled_order_is_delivered_or_comes_back() -> None:
    shop = await make.shop(keys=1)
    orders = [await make.order(shop) for _ in range(2)]
    attempts = [await make.attempt(order, reserve=False) for order in orders]
    for order in orders:
        await checkout.cancel(order.id)
    with pytest.raises(OrderStateConflict):
        await checkout.cancel(orders[0].id)

    for attempt in attempts:
        await make.word(attempt)
    await fulfil(orders[0])
    for row in await db.fetch("SELECT subject_id FROM promise WHERE task = 'refund.surplus'"):
        await checkout.return_surplus(row["subject_id"])
    for row in await db.fetch("SELECT id FROM refund"):
        await checkout.hear(row["id"], RefundAnswer(RefundState.SUCCEEDED))

    assert sorted(await make.status([order.id for order in orders])) == ["delivered", "refunded"]
    held = AccountKey("buyer_held", shop.merchant_id, "", "USD")
    assert (await ledger.balance(held)).posted == 0


async def test_d09_after_expiry_and_sweep_no_reservation_is_left() -> None:
    shop = await make.shop(keys=6)
    paying, gone, fresh = [await make.order(shop, quantity=2) for _ in range(3)]
    await make.attempt(paying)
    declined = await make.attempt(gone)
    await said(gone, declined, "declined")
    await make.attempt(fresh)

    for order in (paying, gone):
        await expired(order, declined)
    assert await make.status([paying.id, gone.id]) == ["expired", "expired"]
    reserved = "SELECT count(*) FROM card_key WHERE state = 'reserved'"
    assert await db.value(reserved) == 4  # a live attempt may still take money
    await db.execute("UPDATE stock_hold SET held_until = $1", clock.now() - timedelta(seconds=1))
    assert set(await catalogue.sweep()) == {paying.id, fresh.id}

    assert await db.value(reserved) == 0
    assert await db.value("SELECT count(*) FROM card_key WHERE open") == 6


async def test_e03_who_paid_twice_keeps_the_goods_and_gets_the_second_payment_back() -> None:
    shop = await make.shop()
    order = await make.order(shop)
    first = await make.attempt(order)
    await db.execute("UPDATE payment_attempt SET state = 'declined' WHERE id = $1", first.id)
    second = await make.attempt(order, reserve=False)

    await make.word(first)
    await fulfil(order)
    await make.word(second)
    await fulfil(order)
    for row in await db.fetch("SELECT subject_id FROM promise WHERE task = 'refund.surplus'"):
        await checkout.return_surplus(row["subject_id"])
    for row in await db.fetch("SELECT id FROM refund"):
        await checkout.hear(row["id"], RefundAnswer(RefundState.SUCCEEDED))

    assert await make.status([order.id]) == ["delivered"]
    assert await db.value("SELECT count(*) FROM card_key WHERE state = 'sold'") == 1
    assert await db.value("SELECT count(*) FROM card_key WHERE state = 'revoked'") == 0
    assert await db.value("SELECT returned_minor FROM orders") == 10_000
    kinds = await db.fetch("SELECT kind FROM event_log ORDER BY sequence")
    assert "goods.revoked" not in {row["kind"] for row in kinds}
