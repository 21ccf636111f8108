"""Fulfilment in sets on a real database: every arrival ends in its own state with the money in the books."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from domain import catalogue, checkout, ledger, orders, settlement
from domain.core import clock, db
from domain.core.money import Money
from domain.ledger import AccountKey
from domain.merchants import Speed
from domain.orders.models import Order
from domain.payments.ports import providers
from plugins.payment.sandbox import Sandbox
from tests import make

USD = "USD"
CLEARING = AccountKey("provider_clearing", None, "sandbox:main", USD)
SUSPENSE = AccountKey("suspense", None, "sandbox:main", USD)


@pytest.fixture(autouse=True)
async def _books(db: None) -> object:
    """Whatever a test did, the books must hold afterwards."""
    yield
    assert await ledger.check() == []


async def fulfil(order: Order) -> int:
    done, total = -1, 0
    while done:
        done = await checkout.fulfil(order.lane)
        total += done
    return total


async def posted(key: AccountKey) -> int:
    return (await ledger.balance(key)).posted


async def kinds(order: Order) -> list[str]:
    rows = await db.fetch(
        "SELECT kind FROM event_log WHERE order_id = $1 ORDER BY sequence", order.id
    )
    return [row["kind"] for row in rows]


async def test_a_paid_order_is_delivered_and_split_in_one_transaction() -> None:
    shop = await make.shop(reserve_bps=500)
    order = await make.paid(shop)

    await fulfil(order)

    assert await make.status([order.id]) == ["delivered"]
    assert await posted(AccountKey("platform_commission", None, "", USD)) == 600
    assert await posted(AccountKey("merchant_reserved", shop.merchant_id, "", USD)) == 470
    assert await posted(AccountKey("merchant_available", shop.merchant_id, "", USD)) == 8_930
    assert await posted(SUSPENSE) == 0
    assert (await catalogue.available(shop.merchant_id, [shop.variant_id]))[shop.variant_id] == 9
    assert await kinds(order) == ["order.placed", "order.paid", "order.delivered"]


async def test_c01_the_same_word_fifty_times_in_parallel_delivers_once() -> None:
    shop = await make.shop()
    order = await make.order(shop)
    attempt = await make.attempt(order)

    new = await asyncio.gather(*(make.word(attempt, event_id="evt-same") for _ in range(50)))
    await asyncio.gather(*(fulfil(order) for _ in range(4)))
    await make.word(attempt, event_id="evt-other")
    await fulfil(order)

    assert sum(new) == 1
    assert await db.value("SELECT count(*) FROM capture") == 1
    assert await db.value("SELECT count(*) FROM ledger_journal") == 1
    assert await db.value("SELECT count(*) FROM card_key WHERE state = 'sold'") == 1
    assert await posted(AccountKey("merchant_available", shop.merchant_id, "", USD)) == 9_400


async def test_a_set_of_many_orders_is_one_set_and_one_culprit_spoils_nobody() -> None:
    shop = await make.shop(keys=40)
    placed = [await make.paid(shop) for _ in range(30)]

    assert await checkout.fulfil(placed[0].lane) == 30

    assert set(await make.status([order.id for order in placed])) == {"delivered"}
    assert await posted(AccountKey("merchant_available", shop.merchant_id, "", USD)) == 30 * 9_400


async def test_b01_a_part_waits_and_the_rest_completes_it() -> None:
    shop = await make.shop()
    order = await make.order(shop)
    await make.word(await make.attempt(order), "partially_captured", amount=Money(4_000, USD))
    await fulfil(order)
    held = AccountKey("buyer_held", shop.merchant_id, "", USD)

    assert await make.status([order.id]) == ["awaiting_payment"]
    assert await posted(held) == 4_000
    assert await posted(AccountKey("merchant_available", shop.merchant_id, "", USD)) == 0

    await make.word(await make.attempt(order, amount=Money(6_000, USD), reserve=False))
    await fulfil(order)

    assert await make.status([order.id]) == ["delivered"]
    assert await posted(held) == 0
    assert await posted(AccountKey("merchant_available", shop.merchant_id, "", USD)) == 9_400
    assert await posted(AccountKey("platform_commission", None, "", USD)) == 600


@pytest.mark.parametrize("amount", [Money(9_999, USD), Money(20_000, USD), Money(10_000, "HKD")])
async def test_b05_b06_other_amount_or_currency_is_conflicted_kept_and_not_delivered(
    amount: Money,
) -> None:
    shop = await make.shop()
    order = await make.order(shop)
    await make.word(await make.attempt(order), amount=amount)

    await fulfil(order)

    assert await make.status([order.id]) == ["awaiting_payment"]
    assert await db.value("SELECT state FROM payment_intent") == "conflicted"
    assert (
        await posted(AccountKey("suspense", None, "sandbox:main", amount.currency)) == amount.minor
    )
    assert await db.value("SELECT kind FROM money_exception") == "conflicted"
    assert await db.value("SELECT count(*) FROM card_key WHERE state = 'sold'") == 0
    assert await kinds(order) == ["order.placed", "payment.mismatch"]


async def test_e01_late_money_with_stock_delivers() -> None:
    shop = await make.shop()
    order = await make.order(shop)
    attempt = await make.attempt(order)
    await db.execute("UPDATE orders SET expires_at = clock_timestamp() - interval '2 h'")
    await db.execute("UPDATE payment_attempt SET state = 'voided'")
    assert await checkout.expire_due() == 1
    assert await make.status([order.id]) == ["expired"]

    await make.word(attempt)
    await fulfil(order)

    assert await make.status([order.id]) == ["delivered"]
    assert (await kinds(order))[-3:] == ["payment.late", "order.paid", "order.delivered"]


async def test_e01_late_money_without_stock_goes_back_by_itself() -> None:
    shop = await make.shop(keys=0)
    order = await make.order(shop)
    attempt = await make.attempt(order, reserve=False)
    await db.execute(
        "UPDATE orders SET status = 'expired', expires_at = clock_timestamp() - interval '2 h'"
    )

    await make.word(attempt)
    await fulfil(order)

    assert await make.status([order.id]) == ["short"]
    assert await posted(AccountKey("buyer_held", shop.merchant_id, "", USD)) == 10_000
    assert (
        await db.value("SELECT task FROM promise WHERE subject_id = $1", order.id)
        == "refund.surplus"
    )

    await checkout.return_surplus(order.id)
    await checkout.return_surplus(order.id)

    assert await posted(AccountKey("buyer_held", shop.merchant_id, "", USD)) == 0
    assert await posted(AccountKey("refund_clearing", None, "sandbox:main", USD)) == 10_000
    assert await db.value("SELECT count(*) FROM refund") == 1


async def test_d06_short_stock_pays_nobody_and_delivers_after_a_restock() -> None:
    shop = await make.shop(keys=0)
    order = await make.order(shop)
    await make.word(await make.attempt(order, reserve=False))
    await fulfil(order)

    assert await make.status([order.id]) == ["short"]
    assert await posted(AccountKey("platform_commission", None, "", USD)) == 0
    assert await posted(AccountKey("buyer_held", shop.merchant_id, "", USD)) == 10_000

    await make.stock(shop.merchant_id, shop.variant_id, 1)
    assert await checkout.restock(shop.variant_id) == 1
    await fulfil(order)

    assert await make.status([order.id]) == ["delivered"]
    assert await posted(AccountKey("merchant_available", shop.merchant_id, "", USD)) == 9_400


async def test_e03_a_second_payment_goes_to_suspense_and_back() -> None:
    shop = await make.shop()
    order = await make.paid(shop)
    await fulfil(order)
    await make.word(await make.attempt(order, reserve=False))
    await fulfil(order)

    assert await make.status([order.id]) == ["delivered"]
    assert await posted(SUSPENSE) == 10_000
    assert await db.value("SELECT count(*) FROM card_key WHERE state = 'sold'") == 1
    view = await orders.view(order.id)
    assert view is not None
    assert view.order.payment_state == "overpaid"

    await checkout.return_surplus(order.id)

    assert await posted(SUSPENSE) == 0
    assert await db.value("SELECT amount_minor FROM refund") == 10_000


async def test_e15_held_by_risk_reveals_nothing_until_cleared() -> None:
    shop = await make.shop()
    order = await make.paid(shop)
    async with db.transaction():
        await orders.hold(order.id, is_held=True)
    await fulfil(order)

    assert await make.status([order.id]) == ["held"]
    assert await db.value("SELECT count(*) FROM card_key WHERE state = 'sold'") == 0

    await checkout.clear(order.id, asked_by="analyst", reason="known customer")
    await fulfil(order)

    assert await make.status([order.id]) == ["delivered"]


async def test_declined_gives_the_goods_back_to_the_shelf() -> None:
    shop = await make.shop(keys=1)
    order = await make.order(shop)
    attempt = await make.attempt(order)
    assert (await catalogue.available(shop.merchant_id, [shop.variant_id]))[shop.variant_id] == 0

    await make.word(attempt, "declined", amount=Money(0, USD))
    await fulfil(order)

    assert await make.status([order.id]) == ["awaiting_payment"]
    assert (await catalogue.available(shop.merchant_id, [shop.variant_id]))[shop.variant_id] == 1
    assert await kinds(order) == ["order.placed", "payment.declined"]


async def test_a05_a06_a_word_through_another_account_is_refused() -> None:
    shop = await make.shop()
    order = await make.order(shop)
    await make.word(await make.attempt(order), account="other")

    await fulfil(order)

    assert await make.status([order.id]) == ["awaiting_payment"]
    assert await db.value("SELECT verdict FROM inbox_event") == "refused"
    assert await db.value("SELECT count(*) FROM capture") == 0


async def test_j33_a_word_about_nobody_is_parked_and_seen() -> None:
    shop = await make.shop()
    order = await make.order(shop)
    attempt = await make.attempt(order)
    attempt.id = orders.new_id()
    await make.word(attempt)

    await checkout.fulfil(0)

    assert await db.value("SELECT verdict FROM inbox_event") == "parked"
    assert await db.value("SELECT kind FROM money_exception") == "unknown_payment"


async def test_t1_sales_wait_for_their_day_and_move_once() -> None:
    shop = await make.shop(speed=Speed.T1)
    order = await make.paid(shop)
    await fulfil(order)
    pending = AccountKey("merchant_pending", shop.merchant_id, "", USD)
    available = AccountKey("merchant_available", shop.merchant_id, "", USD)
    assert (await posted(pending), await posted(available)) == (9_400, 0)
    assert await settlement.release_due() == 0
    clock.shift(timedelta(days=1))
    try:
        moved = await asyncio.gather(settlement.release_due(), settlement.release_due())
    finally:
        clock.shift(timedelta())

    assert sum(moved) == 1
    assert (await posted(pending), await posted(available)) == (0, 9_400)


async def test_provider_cost_is_booked_at_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        providers, "sandbox", Sandbox(base_url="http://127.0.0.1:1", secret=bytes(32))
    )
    order = await make.paid(await make.shop())
    await fulfil(order)

    assert await posted(AccountKey("provider_fee", None, "sandbox:main", USD)) == -320
    assert await posted(CLEARING) == -10_000 + 320
