"""Every amount of the sandbox ends in the state the cases demand, and nothing else happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from domain import checkout, ledger
from domain.core import db, ids
from domain.core.money import Money
from domain.ledger import AccountKey
from domain.payments.ports import ChargeState
from tests import make
from tests.platform import Platform, running
from tests.sandbox import charge_request


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    async with running(tmp_path, monkeypatch, autoconfirm_ms=1) as found:
        yield found
    assert await ledger.check() == []


async def sold() -> int:
    found: int = await db.value("SELECT count(*) FROM card_key WHERE state = 'sold'")
    return found


async def shop(cents: int) -> make.Shop:
    return await make.shop(price=Money(1_000 + cents, "USD"))


async def buy(platform: Platform, cents: int, *, words: int) -> tuple[make.Shop, str, str]:
    of = await shop(cents)
    order_id, access_key, _ = await platform.bought(of)
    await platform.heard(words)
    await platform.work()
    return of, order_id, access_key


async def test_anything_else_is_delivered(platform: Platform) -> None:
    _of, order_id, access_key = await buy(platform, 50, words=1)
    order = await platform.order(order_id, access_key)

    assert (order["status"], order["paymentState"]) == ("DELIVERED", "FULLY_CHARGED")
    assert [good["revoked"] for good in order["goods"]] == [False]
    # How the seller's part is divided is not the buyer's affair.
    assert {leg["leg"]: leg["amount"]["amount"] for leg in order["fundsFlow"]} == {
        "merchant": "10.50"
    }
    split = "SELECT leg, amount_minor FROM capture_leg ORDER BY leg"
    assert [tuple(row) for row in await db.fetch(split)] == [("commission", 63), ("merchant", 987)]
    kinds = [event["kind"] for event in order["timeline"]]
    assert kinds == ["PLACED", "STARTED", "PAID", "DELIVERED"]
    assert await sold() == 1


async def test_01_declines_and_another_attempt_may_follow(platform: Platform) -> None:
    _, order_id, access_key = await buy(platform, 1, words=1)
    order = await platform.order(order_id, access_key)

    assert (order["status"], order["paymentState"]) == ("AWAITING_PAYMENT", "NOT_CHARGED")
    assert [one["status"] for one in order["payments"]] == ["DECLINED"]
    assert (order["goods"], order["fundsFlow"]) == ([], [])
    assert await sold() == 0
    assert await db.value("SELECT count(*) FROM ledger_journal") == 0
    assert (await platform.pay(order_id, access_key))["__typename"] == "Payment"


async def test_k16_02_charged_but_silent_is_unknown_until_a_query_finds_it_once(
    platform: Platform,
) -> None:
    of = await shop(2)
    order_id, access_key, paid = await platform.bought(of)

    assert paid["status"] == "UNKNOWN"
    again = await platform.pay(order_id, access_key)
    assert (again["__typename"], again["code"]) == ("OrderStateConflict", "ORDER_STATE_CONFLICT")
    assert await sold() == 0

    await db.execute("UPDATE payment_attempt SET next_check_at = clock_timestamp()")
    assert await checkout.check_due() == 1
    await platform.work()

    order = await platform.order(order_id, access_key)
    assert (order["status"], order["paymentState"]) == ("DELIVERED", "FULLY_CHARGED")
    assert len(order["payments"]) == 1
    assert await db.value("SELECT count(*) FROM capture") == 1


async def test_c01_03_two_callbacks_in_parallel_deliver_once(platform: Platform) -> None:
    _, order_id, access_key = await buy(platform, 3, words=1)
    order = await platform.order(order_id, access_key)

    assert (order["status"], len(order["goods"])) == ("DELIVERED", 1)
    assert await db.value("SELECT count(*) FROM capture") == 1
    assert await db.value("SELECT count(*) FROM ledger_journal") == 1


async def test_b06_j34_04_another_amount_is_conflicted_and_kept(platform: Platform) -> None:
    _, order_id, access_key = await buy(platform, 4, words=1)
    order = await platform.order(order_id, access_key)

    assert (order["status"], order["goods"]) == ("AWAITING_PAYMENT", [])
    assert [event["kind"] for event in order["timeline"]][-1] == "MISMATCH"
    assert await db.value("SELECT state FROM payment_intent") == "conflicted"
    assert await db.value("SELECT kind FROM money_exception") == "conflicted"
    taken = await db.value("SELECT amount_minor FROM capture")
    assert (
        await ledger.balance(AccountKey("suspense", None, "sandbox:main", "USD"))
    ).posted == taken
    assert await sold() == 0
    again = await platform.pay(order_id, access_key)
    assert again["code"] == "ORDER_STATE_CONFLICT"


async def test_e01_05_late_money_with_stock_is_delivered(platform: Platform) -> None:
    of = await shop(5)
    order_id, access_key, paid = await platform.bought(of)
    await db.execute("UPDATE orders SET expires_at = clock_timestamp() - interval '1 h'")
    await checkout.expire_due()
    assert (await platform.order(order_id, access_key))["status"] == "EXPIRED"

    await platform.sandbox.do(paid["id"], "late", account="main")
    await platform.heard(1)
    await platform.work()

    order = await platform.order(order_id, access_key)
    assert (order["status"], len(order["goods"])) == ("DELIVERED", 1)
    assert "LATE" in [event["kind"] for event in order["timeline"]]


async def test_e01_05_late_money_without_stock_comes_back(platform: Platform) -> None:
    of = await make.shop(keys=1, price=Money(1_005, "USD"))
    order_id, access_key, paid = await platform.bought(of)
    await db.execute("UPDATE orders SET expires_at = clock_timestamp() - interval '1 h'")
    await db.execute("UPDATE stock_hold SET held_until = clock_timestamp() - interval '1 s'")
    await checkout.expire_due()
    from domain import catalogue

    await catalogue.sweep()
    await db.execute("UPDATE card_key SET state = 'locked'")

    await platform.sandbox.do(paid["id"], "late", account="main")
    await platform.heard(1)
    await platform.work()
    await platform.work()

    order = await platform.order(order_id, access_key)
    assert (order["status"], order["paymentState"]) == ("REFUNDED", "FULLY_REFUNDED")
    assert (order["goods"], await sold()) == ([], 0)
    held = AccountKey("buyer_held", of.merchant_id, "", "USD")
    assert (await ledger.balance(held)).posted == 0


async def test_b01_06_a_part_is_kept_visible_and_asks_for_the_rest(platform: Platform) -> None:
    of, order_id, access_key = await buy(platform, 6, words=1)
    order = await platform.order(order_id, access_key)

    assert (order["status"], order["paymentState"]) == ("AWAITING_PAYMENT", "PARTIALLY_CHARGED")
    assert order["goods"] == []
    held = AccountKey("buyer_held", of.merchant_id, "", "USD")
    assert (await ledger.balance(held)).posted == 503
    rest = await platform.pay(order_id, access_key)
    assert rest["amount"]["amount"] == "5.03"
    await platform.heard(2)
    await platform.work()

    order = await platform.order(order_id, access_key)
    assert (order["status"], order["paymentState"], len(order["goods"])) == (
        "DELIVERED",
        "FULLY_CHARGED",
        1,
    )
    assert (await ledger.balance(held)).posted == 0


async def test_c07_07_a_callback_before_our_own_answer_is_matched(platform: Platform) -> None:
    _, order_id, access_key = await buy(platform, 7, words=1)
    order = await platform.order(order_id, access_key)

    assert (order["status"], len(order["goods"])) == ("DELIVERED", 1)
    assert [one["status"] for one in order["payments"]] == ["CAPTURED"]


async def test_e05_an_attempt_the_provider_never_saw_is_closed_there_before_here(
    platform: Platform,
) -> None:
    of = await shop(50)
    order = await make.order(of)
    attempt = await make.attempt(order, reserve=False)
    await db.execute(
        "UPDATE payment_attempt SET state = 'unknown', next_check_at = clock_timestamp()"
    )

    assert await checkout.check_due() == 1
    await platform.work()

    assert await db.value("SELECT state FROM payment_attempt") == "voided"
    reference = ids.encode("pay", attempt.id)
    late = await platform.sandbox.adapter().charge(
        charge_request(
            "http://127.0.0.1:1", Money(1_050, "USD"), account="main", reference=reference
        )
    )
    assert late.state in (ChargeState.VOIDED, ChargeState.FAILED, ChargeState.DECLINED)
    assert await db.value("SELECT count(*) FROM capture") == 0
