"""Refunds through the contract: full, in parts, twice, racing, refused, failed late; the books exact each time.

CASES E07, E08, E10, E11, G18, J10, L09 to L11; what a refund must not do stands beside what it does.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from domain import checkout, ledger, settlement
from domain.core import clock, db, ids
from domain.core.money import Money
from domain.identity import Role, Viewer
from domain.ledger import AccountKey
from domain.merchants import Speed
from tests import make
from tests.journeys import checker
from tests.platform import Platform, running, uuid_of

REFUND = """
mutation ($input: RequestRefundInput!, $key: String!) {
  requestRefund(input: $input) @idempotent(key: $key) {
    __typename
    ... on RefundRequested { refundIds amount { amount currency } order { status paymentState } }
    ... on Problem { code message path }
    ... on RefundExceedsCaptured { refundable }
  }
}"""
_keys = itertools.count(1)


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    async with running(tmp_path, monkeypatch) as found:
        yield found
    assert await checker.faults() == []


def merchant(of: make.Shop, role: Role = Role.FINANCE) -> Viewer:
    later = clock.now() + timedelta(hours=1)
    roles = {of.merchant_id: role}
    return Viewer(of.merchant_id, "owner@example.com", None, ids.uuid7(), later, roles)


async def refund(
    platform: Platform,
    of: make.Shop,
    order_id: str,
    amount: str | None = None,
    *,
    key: str | None = None,
) -> dict[str, Any]:
    """requestRefund as the merchant; the union member."""
    asked: dict[str, Any] = {"orderId": order_id}
    if amount is not None:
        asked["amount"] = {"amount": amount, "currency": of.price.currency}
    variables = {"input": asked, "key": key or f"refund-{next(_keys)}"}
    found: dict[str, Any] = (await platform.data(REFUND, variables, viewer=merchant(of)))[
        "requestRefund"
    ]
    return found


async def sold(platform: Platform, of: make.Shop, *, quantity: int = 1) -> tuple[str, str]:
    """A delivered order."""
    order_id, access_key, paid = await platform.bought(of, quantity=quantity)
    words = await db.value("SELECT count(*) FROM inbox_event")
    await platform.sandbox.do(paid["id"], "confirm", account="main")
    await platform.heard(words + 1)
    await platform.work()
    assert (await platform.order(order_id, access_key))["status"] == "DELIVERED"
    return order_id, access_key


async def settle(platform: Platform) -> None:
    """Let the workers and the provider's callbacks have their turns."""
    for _ in range(2):
        await platform.work()
        await asyncio.sleep(0.05)
    await platform.work()


async def states(order_id: str) -> list[str]:
    rows = await db.fetch(
        "SELECT state FROM refund WHERE order_id = $1 ORDER BY id", uuid_of(order_id)
    )
    return [row["state"] for row in rows]


async def available(of: make.Shop, purpose: str = "merchant_available") -> int:
    return (await ledger.balance(AccountKey(purpose, of.merchant_id, "", of.price.currency))).posted


async def test_e10_a_full_refund_returns_every_leg_and_revokes_the_goods(
    platform: Platform,
) -> None:
    of = await make.shop(reserve_bps=500)
    order_id, access_key = await sold(platform, of)

    asked = await refund(platform, of, order_id)
    await settle(platform)
    order = await platform.order(order_id, access_key)

    assert asked["amount"] == {"amount": "100.00", "currency": "USD"}
    assert (order["status"], order["paymentState"]) == ("REFUNDED", "FULLY_REFUNDED")
    assert [good["revoked"] for good in order["goods"]] == [True]
    assert all(leg["amount"] == leg["returned"] for leg in order["fundsFlow"])
    assert await available(of) == await available(of, "merchant_reserved") == 0
    assert await db.value("SELECT count(*) FROM card_key WHERE state = 'revoked'") == 1
    assert (
        await db.value("SELECT count(*) FROM card_key WHERE open") == 9
    )  # it never returns to stock
    kinds = [event["kind"] for event in order["timeline"]]
    assert kinds[-4:] == ["REVOKED", "REFUND_STARTED", "REFUND_SUCCEEDED", "REFUNDED"]


async def test_g20_e08_parts_up_to_exactly_the_remainder_then_nothing_more(
    platform: Platform,
) -> None:
    of = await make.shop(reserve_bps=500)
    order_id, access_key = await sold(platform, of)

    for amount in ("25.00", "33.33"):
        assert (await refund(platform, of, order_id, amount))["__typename"] == "RefundRequested"
        await settle(platform)
    between = await platform.order(order_id, access_key)
    over = await refund(platform, of, order_id, "41.68")
    last = await refund(platform, of, order_id, "41.67")
    await settle(platform)
    again = await refund(platform, of, order_id, "0.01")

    assert (between["status"], between["paymentState"]) == ("DELIVERED", "PARTIALLY_REFUNDED")
    assert [good["revoked"] for good in between["goods"]] == [False]
    assert (over["code"], over["refundable"]) == ("REFUND_EXCEEDS_CAPTURED", "41.67")
    assert last["__typename"] == "RefundRequested"
    assert (again["code"], again["refundable"]) == ("REFUND_EXCEEDS_CAPTURED", "0.00")
    assert await states(order_id) == ["succeeded"] * 3
    assert (await platform.order(order_id, access_key))["status"] == "REFUNDED"


async def test_e07_two_racing_for_the_whole_are_one(platform: Platform) -> None:
    of = await make.shop()
    order_id, _ = await sold(platform, of)

    answers = await asyncio.gather(*(refund(platform, of, order_id, "60.00") for _ in range(5)))
    await settle(platform)

    told = sorted(one.get("code", one["__typename"]) for one in answers)
    assert told == ["REFUND_EXCEEDS_CAPTURED"] * 4 + ["RefundRequested"]
    assert await states(order_id) == ["succeeded"]


async def test_c10_the_same_key_refunds_once(platform: Platform) -> None:
    of = await make.shop()
    order_id, _ = await sold(platform, of)

    first = await refund(platform, of, order_id, "10.00", key="mine")
    again = await refund(platform, of, order_id, "10.00", key="mine")
    await settle(platform)

    assert first["refundIds"] == again["refundIds"]
    assert await states(order_id) == ["succeeded"]


async def test_e11_a_refund_that_fails_later_is_credited_again_and_may_be_repeated(
    platform: Platform,
) -> None:
    of = await make.shop(reserve_bps=500)
    order_id, access_key = await sold(platform, of)
    before = await available(of), await available(of, "merchant_reserved")
    asked = await refund(platform, of, order_id, "40.00")
    await settle(platform)
    assert await states(order_id) == ["succeeded"]

    words = await db.value("SELECT count(*) FROM inbox_event")
    await platform.sandbox.do_refund(asked["refundIds"][0], "fail", account="main")
    await platform.heard(words + 1)
    await settle(platform)

    order = await platform.order(order_id, access_key)
    assert await states(order_id) == ["failed"]
    assert (await available(of), await available(of, "merchant_reserved")) == before
    assert (order["status"], order["paymentState"]) == ("DELIVERED", "FULLY_CHARGED")
    assert await db.value("SELECT count(*) FROM money_exception WHERE kind = 'refund_failed'") == 1
    assert (await refund(platform, of, order_id))["__typename"] == "RefundRequested"
    await settle(platform)
    assert (await platform.order(order_id, access_key))["status"] == "REFUNDED"


async def test_e11_each_failed_refund_is_seen_by_a_person(platform: Platform) -> None:
    of = await make.shop()
    failed = []
    for _ in range(2):
        order_id, _ = await sold(platform, of)
        await platform.sandbox.modes("main", refunds="fail")
        failed += (await refund(platform, of, order_id))["refundIds"]
        await settle(platform)

    rows = await db.fetch("SELECT facts_json FROM money_exception WHERE kind = 'refund_failed'")
    assert sorted(row["facts_json"]["refund"] for row in rows) == sorted(failed)


async def test_e11_after_the_reserve_was_released_a_late_failure_is_still_booked(
    platform: Platform,
) -> None:
    of = await make.shop(reserve_bps=500)
    order_id, _ = await sold(platform, of)
    asked = await refund(platform, of, order_id, "50.00")
    await settle(platform)
    await db.execute("UPDATE reserve_hold SET releases_on = $1", clock.now().date())
    await settlement.release_reserves()

    words = await db.value("SELECT count(*) FROM inbox_event")
    await platform.sandbox.do_refund(asked["refundIds"][0], "fail", account="main")
    await platform.heard(words + 1)
    await settle(platform)

    assert await states(order_id) == ["failed"]
    # Nothing is stuck in a reserve whose day has passed.
    assert await settlement.release_reserves() == await available(of, "merchant_reserved") == 0
    assert await available(of) == 9_400


async def test_e11_after_the_item_was_released_a_late_failure_is_still_booked(
    platform: Platform,
) -> None:
    of = await make.shop(speed=Speed.T1)
    order_id, _ = await sold(platform, of)
    asked = await refund(platform, of, order_id, "50.00")
    await settle(platform)
    await db.execute("UPDATE settlement_item SET available_on = $1", clock.now().date())
    assert await settlement.release_due() == 1

    words = await db.value("SELECT count(*) FROM inbox_event")
    await platform.sandbox.do_refund(asked["refundIds"][0], "fail", account="main")
    await platform.heard(words + 1)
    await settle(platform)

    assert await states(order_id) == ["failed"]
    await settlement.release_due()
    assert (await available(of), await available(of, "merchant_pending")) == (9_400, 0)


@pytest.mark.parametrize("mode", ["pend", "hang"])
async def test_a_provider_that_takes_its_time_ends_in_one_refund(
    platform: Platform, mode: str
) -> None:
    of = await make.shop()
    order_id, access_key = await sold(platform, of)
    await platform.sandbox.modes("main", refunds=mode)

    asked = await refund(platform, of, order_id, "30.00")
    await settle(platform)
    waiting = await states(order_id)
    clearing = AccountKey("refund_clearing", None, "sandbox:main", "USD")
    on_its_way = (await ledger.balance(clearing)).posted
    await platform.sandbox.modes("main")
    if mode == "pend":
        await platform.sandbox.do_refund(asked["refundIds"][0], "succeed", account="main")
    await db.execute(
        "UPDATE promise SET state = 'ready', due_at = clock_timestamp() WHERE task = 'refund.send'"
    )
    await settle(platform)

    if mode == "pend":
        assert waiting == ["pending"] and on_its_way == 3_000
    assert await states(order_id) == ["succeeded"]
    assert (await ledger.balance(clearing)).posted == 0
    order = await platform.order(order_id, access_key)
    assert [event["kind"] for event in order["timeline"]].count("REFUND_SUCCEEDED") == 1


async def test_g18_too_little_balance_stops_a_voluntary_refund_and_names_what_is_missing(
    platform: Platform,
) -> None:
    of = await make.shop()
    order_id, access_key = await sold(platform, of)
    await ledger.post(
        "test:payout",
        [
            ledger.Transfer(
                AccountKey("merchant_available", of.merchant_id, "", "USD"),
                AccountKey("platform_commission", None, "", "USD"),
                Money(5_000, "USD"),
            )
        ],
        kind="correction",
    )

    refused = await refund(platform, of, order_id)
    part = await refund(platform, of, order_id, "40.00")

    assert refused["code"] == "INSUFFICIENT_FUNDS"
    assert part["__typename"] == "RefundRequested"
    order = await platform.order(order_id, access_key)
    assert [good["revoked"] for good in order["goods"]] == [False]
    # Undone, so that the laws below see the books without the made-up payout.
    await ledger.reverse_key("test:payout:undo", "test:payout")
    await settle(platform)
    assert await states(order_id) == ["succeeded"]


async def test_j10_an_unpaid_order_has_nothing_to_refund(platform: Platform) -> None:
    of = await make.shop()
    begun = await platform.start(of)

    refused = await refund(platform, of, begun["order"]["id"])

    assert (refused["code"], refused["refundable"]) == ("REFUND_EXCEEDS_CAPTURED", "0.00")
    assert await db.value("SELECT count(*) FROM refund") == 0


async def test_h01_another_merchants_order_is_not_found_in_the_words_of_one_that_does_not_exist(
    platform: Platform,
) -> None:
    of, other = await make.shop(), await make.shop()
    order_id, _ = await sold(platform, of)

    theirs = await refund(platform, other, order_id)
    none = await refund(platform, other, "ord_" + "7" * 26)

    assert (theirs["code"], theirs["message"]) == (none["code"], none["message"])
    assert theirs["code"] == "NOT_FOUND"
    assert await db.value("SELECT count(*) FROM refund") == 0


async def test_b06_money_that_contradicts_its_attempt_is_not_refunded_as_if_it_were_the_orders(
    platform: Platform,
) -> None:
    of = await make.shop(price=Money(1_004, "USD"))
    order_id, access_key, paid = await platform.bought(of)
    await platform.sandbox.do(paid["id"], "confirm", account="main")
    await platform.heard(1)
    await platform.work()

    refused = await refund(platform, of, order_id)

    assert (refused["code"], refused["refundable"]) == ("REFUND_EXCEEDS_CAPTURED", "0.00")
    assert await db.value("SELECT count(*) FROM refund") == 0
    assert (await platform.order(order_id, access_key))["goods"] == []


async def short(platform: Platform, of: make.Shop) -> tuple[str, str]:
    """A paid order whose goods were gone when the money came."""
    order_id, access_key, paid = await platform.bought(of)
    await db.execute(
        "UPDATE card_key SET state = 'available', order_id = NULL, order_line_id = NULL"
    )
    await db.execute("DELETE FROM stock_hold")
    await db.execute("UPDATE card_key SET state = 'locked'")
    words = await db.value("SELECT count(*) FROM inbox_event")
    await platform.sandbox.do(paid["id"], "confirm", account="main")
    await platform.heard(words + 1)
    await platform.work()
    assert (await platform.order(order_id, access_key))["status"] == "SHORT"
    return order_id, access_key


async def test_l07_restock_while_a_refund_is_on_its_way_never_gives_goods_and_money(
    platform: Platform,
) -> None:
    of = await make.shop(keys=1)
    order_id, access_key = await short(platform, of)
    await platform.sandbox.modes("main", refunds="pend")
    asked = await refund(platform, of, order_id)
    await platform.work()

    await make.stock(of.merchant_id, of.variant_id, 5)
    await checkout.restock(of.variant_id)
    await platform.work()
    order = await platform.order(order_id, access_key)
    assert (order["status"], order["goods"]) == ("SHORT", [])

    await platform.sandbox.do_refund(asked["refundIds"][0], "succeed", account="main")
    await asyncio.sleep(0.1)
    await settle(platform)
    order = await platform.order(order_id, access_key)
    assert (order["status"], order["goods"]) == ("REFUNDED", [])
    assert await db.value("SELECT count(*) FROM card_key WHERE state = 'sold'") == 0


async def test_d06_restock_of_a_short_order_that_was_refunded_in_part_waits_in_view(
    platform: Platform,
) -> None:
    of = await make.shop(keys=1)
    order_id, access_key = await short(platform, of)
    await refund(platform, of, order_id, "30.00")
    await settle(platform)

    await make.stock(of.merchant_id, of.variant_id, 5)
    await checkout.restock(of.variant_id)
    async with asyncio.timeout(10):  # the lanes come to rest
        await platform.work()
    order = await platform.order(order_id, access_key)

    assert (order["status"], order["paymentState"]) == ("SHORT", "PARTIALLY_REFUNDED")
    held = AccountKey("buyer_held", of.merchant_id, "", "USD")
    assert (await ledger.balance(held)).posted == 7_000
    assert (await refund(platform, of, order_id))["amount"]["amount"] == "70.00"
    await settle(platform)
    assert (await platform.order(order_id, access_key))["status"] == "REFUNDED"


async def test_l07_the_rest_of_an_order_whose_first_part_is_on_its_way_back_is_not_the_whole(
    platform: Platform,
) -> None:
    of = await make.shop(price=Money(1_006, "USD"))
    order_id, access_key, paid = await platform.bought(of)
    await platform.sandbox.do(paid["id"], "confirm", account="main")
    await platform.heard(1)
    await platform.work()
    assert (await platform.order(order_id, access_key))["paymentState"] == "PARTIALLY_CHARGED"
    await platform.sandbox.modes("main", refunds="pend")
    await refund(platform, of, order_id)
    await platform.work()

    rest = await platform.pay(order_id, access_key)
    await platform.sandbox.do(rest["id"], "confirm", account="main")
    await platform.heard(2)
    await platform.work()

    order = await platform.order(order_id, access_key)
    assert (order["status"], order["goods"]) == ("AWAITING_PAYMENT", [])
    assert await db.value("SELECT count(*) FROM card_key WHERE state = 'sold'") == 0
