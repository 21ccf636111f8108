"""Buyers who arrive together share their transactions and nothing else (CASES C10, C12, C16, D01, E21, L04)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from domain.core import db
from domain.core.money import Money
from tests import make
from tests.journeys import checker
from tests.platform import Platform, running

CROWD = 12


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    async with running(tmp_path, monkeypatch, autoconfirm_ms=1) as found:
        yield found
    assert await checker.faults() == []


async def test_e21_a_crowd_places_its_orders_in_few_transactions(platform: Platform) -> None:
    of = await make.shop(keys=CROWD)
    await platform.start(of)  # what is remembered of a shop is there

    async with db.statements() as sent:
        begun = await asyncio.gather(*(platform.start(of) for _ in range(CROWD)))

    assert [one["__typename"] for one in begun] == ["Checkout"] * CROWD
    assert len({one["order"]["number"] for one in begun}) == CROWD
    assert sent.count("COMMIT") == 1
    assert await db.value("SELECT count(*) FROM event_log WHERE kind = 'order.placed'") == CROWD + 1


async def test_l04_who_is_refused_in_a_crowd_leaves_nothing_and_stops_nobody(
    platform: Platform,
) -> None:
    of, dear = await make.shop(keys=CROWD), await make.shop(keys=1, price=Money(5, "USD"))
    good = [platform.start(of) for _ in range(CROWD)]
    bad = [
        platform.start(of, quantity=6_000),
        platform.start(of, coupon="NO-SUCH"),
        platform.start(dear, quantity=2),
        platform.start(of, contact={"email": "nobody"}),
    ]

    answers = await asyncio.gather(*good, *bad)

    assert Counter(one["__typename"] for one in answers[:CROWD]) == {"Checkout": CROWD}
    assert "Checkout" not in {one["__typename"] for one in answers[CROWD:]}
    assert await db.value("SELECT count(*) FROM orders") == CROWD
    assert await db.value("SELECT count(*) FROM idempotency") == CROWD


async def test_c10_c12_the_same_key_in_one_crowd_is_one_order(platform: Platform) -> None:
    of = await make.shop(keys=CROWD)

    answers = await asyncio.gather(
        *(platform.start(of, key="mine") for _ in range(CROWD)), return_exceptions=True
    )

    placed = [one for one in answers if isinstance(one, dict)]
    refused = [str(one) for one in answers if not isinstance(one, dict)]
    assert len({one["order"]["id"] for one in placed}) == 1
    assert all("IDEMPOTENCY_IN_PROGRESS" in one for one in refused)
    assert await db.value("SELECT count(*) FROM orders") == 1
    again = await platform.start(of, key="mine")
    assert again["order"]["id"] == placed[0]["order"]["id"]


async def test_d01_a_crowd_at_the_last_keys_gets_them_and_the_others_hear_it_before_paying(
    platform: Platform,
) -> None:
    of = await make.shop(keys=CROWD // 3)
    begun = await asyncio.gather(*(platform.start(of) for _ in range(CROWD)))

    paid = await asyncio.gather(
        *(platform.pay(one["order"]["id"], one["accessKey"]) for one in begun)
    )
    won = [one for one in paid if one["__typename"] == "Payment"]
    await platform.heard(len(won))
    await platform.work()

    assert Counter(one["__typename"] for one in paid) == {
        "Payment": CROWD // 3,
        "OutOfStock": CROWD - CROWD // 3,
    }
    states = await db.fetch("SELECT status, count(*) AS n FROM orders GROUP BY 1")
    assert {row["status"]: row["n"] for row in states} == {
        "delivered": CROWD // 3,
        "awaiting_payment": CROWD - CROWD // 3,
    }
    # An attempt that was refused its goods was never opened, and nobody was asked for money.
    assert await db.value("SELECT count(*) FROM payment_attempt") == CROWD // 3
    assert await db.value("SELECT count(*) FROM stock_hold") == 0


async def test_c16_two_keys_for_one_order_in_one_crowd_are_one_attempt(platform: Platform) -> None:
    of = await make.shop(keys=CROWD)
    begun = await platform.start(of)

    paid = await asyncio.gather(
        *(platform.pay(begun["order"]["id"], begun["accessKey"]) for _ in range(CROWD))
    )
    await platform.heard(1)
    await platform.work()

    assert await db.value("SELECT count(*) FROM payment_attempt") == 1
    assert await db.value("SELECT count(*) FROM capture") == 1
    assert {one["__typename"] for one in paid} <= {"Payment", "OrderStateConflict"}
    assert "Payment" in {one["__typename"] for one in paid}
