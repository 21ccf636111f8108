"""Refunds through the contract: full, in parts, twice, racing, refused, failed late; the books exact each time.

CASES E07, E08, E10, E11, G18, J10, L09 to L11; what a refund must not do stands beside what it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from domain import ledger, settlement
from domain.core import clock, db
from domain.core.money import Money
from domain.ledger import AccountKey
from domain.merchants import Speed
from tests import make
from tests.database import as_owner
from tests.journeys import checker
from tests.journeys.refunding import available, refund, settle, sold, states
from tests.platform import Platform, running


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    async with running(tmp_path, monkeypatch) as found:
        yield found
    assert await checker.faults() == []


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
    await as_owner("UPDATE reserve_hold SET releases_on = $1", clock.now().date())
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
    await as_owner("UPDATE settlement_item SET available_on = $1", clock.now().date())
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
