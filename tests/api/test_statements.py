"""How many statements an operation sends: bounded, and never one per row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from domain.core import db as core_db
from domain.core.money import Money
from tests import make
from tests.platform import ORDER, Platform, running


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    async with running(tmp_path, monkeypatch, autoconfirm_ms=1) as found:
        yield found


async def test_e21_start_checkout_takes_at_most_ten_statements_and_one_commit(
    platform: Platform,
) -> None:
    of = await make.shop(price=Money(1_050, "USD"))
    await platform.start(of)

    async with core_db.statements() as seen:
        begun = await platform.start(of)

    assert begun["__typename"] == "Checkout"
    assert len(seen) <= 10, seen
    assert seen.count("COMMIT") == 1


async def test_pay_takes_two_short_transactions(platform: Platform) -> None:
    of = await make.shop(price=Money(1_050, "USD"))
    begun = await platform.start(of)
    await platform.pay(begun["order"]["id"], begun["accessKey"])
    begun = await platform.start(of)

    async with core_db.statements() as seen:
        await platform.pay(begun["order"]["id"], begun["accessKey"])

    assert seen.count("COMMIT") <= 3, seen  # risk's decision, the attempt, the answer
    assert len(seen) <= 20, seen


@pytest.mark.parametrize("orders", [1, 12])
async def test_an_order_with_all_its_parts_is_one_statement_and_its_goods_one_more(
    platform: Platform, orders: int
) -> None:
    of = await make.shop(keys=60, price=Money(1_050, "USD"))
    bought = [await platform.bought(of, quantity=3) for _ in range(orders)]
    await platform.heard(orders)
    await platform.work()
    order_id, access_key, _ = bought[-1]
    await platform.order(order_id, access_key)

    async with core_db.statements() as seen:
        order = await platform.order(order_id, access_key)

    assert len(order["goods"]) == 3
    assert len(seen) <= 3, seen


async def test_twelve_orders_in_one_document_are_read_by_twelve_statements_at_most(
    platform: Platform,
) -> None:
    of = await make.shop(keys=30, price=Money(1_050, "USD"))
    keys = [await platform.start(of) for _ in range(12)]
    fields = " ".join(
        f'o{place}: order(id: "{one["order"]["id"]}", accessKey: "{one["accessKey"]}")'
        " { number lines { title } payments { status } }"
        for place, one in enumerate(keys)
    )

    async with core_db.statements() as seen:
        answer = await platform.data("{" + fields + "}")

    assert len(answer) == 12
    assert len(seen) <= 12, seen


def test_the_order_query_selects_every_part() -> None:
    for name in ("lines", "payments", "timeline", "fundsFlow", "goods"):
        assert name in ORDER
