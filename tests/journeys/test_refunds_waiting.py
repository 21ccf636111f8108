"""Refunds of orders that still wait for goods or money: never goods and money both (CASES L07, D06)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from domain import checkout, ledger
from domain.core import db
from domain.core.money import Money
from domain.ledger import AccountKey
from tests import make
from tests.journeys import checker
from tests.journeys.refunding import refund, settle, short
from tests.platform import Platform, running


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    async with running(tmp_path, monkeypatch) as found:
        yield found
    assert await checker.faults() == []


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
