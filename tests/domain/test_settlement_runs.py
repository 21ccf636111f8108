"""Runs of settlement: each item once, an error is seen and never adjusted, debt is repaid first, reserves add up.

CASES G02, G05, G16, G18, G19, G21, G27, L19, M14; the amounts are those of MONEY.md for this code's legs: commission
6 % of 10,000, reserve 5 % of the rest.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from domain import checkout, ledger, merchants, settlement
from domain.checkout import refunds
from domain.core import clock, db
from domain.core.errors import Unavailable
from domain.core.money import Money
from domain.ledger import AccountKey, Transfer
from domain.merchants import Speed
from domain.orders.models import Order
from domain.payments.models import Refund
from domain.payments.ports import RefundAnswer, RefundState
from tests import make
from tests.database import as_owner
from tests.journeys import checker
from tests.rows import changed, everything

USD = "USD"
SUCCEEDED, FAILED = RefundAnswer(RefundState.SUCCEEDED), RefundAnswer(RefundState.FAILED)


@pytest.fixture
async def laws(db: None) -> AsyncIterator[None]:
    yield
    assert await ledger.check() == []


@pytest.fixture
def tomorrow() -> Iterator[None]:
    clock.shift(timedelta(days=1))
    yield
    clock.shift(timedelta())


async def sell(of: make.Shop) -> Order:
    order = await make.paid(of)
    while await checkout.fulfil(order.lane):
        pass
    assert await make.status([order.id]) == ["delivered"]
    return order


async def has(of: make.Shop, *purposes: str) -> list[int]:
    return [
        (await ledger.balance(AccountKey(f"merchant_{purpose}", of.merchant_id, "", USD))).posted
        for purpose in purposes
    ]


async def spend(of: make.Shop, minor: int, source: str = "available") -> None:
    """The merchant's money leaves, as a payout's does."""
    legs = [
        Transfer(
            AccountKey(f"merchant_{source}", of.merchant_id, "", USD),
            AccountKey("payout_clearing", None, "", USD),
            Money(minor, USD),
        )
    ]
    await ledger.post(f"spent:{of.merchant_id}:{source}:{minor}", legs, kind="payout")


async def ask(order: Order, minor: int | None = None, **facts: Any) -> list[Refund]:
    return await refunds.ask(order.id, minor, reason="test", asked_by="test", **facts)


async def due_today(table: str, column: str, of: make.Shop | None = None) -> None:
    await as_owner(
        f"UPDATE {table} SET {column} = $1 WHERE $2::uuid IS NULL OR merchant_id = $2",
        clock.now().date(),
        of.merchant_id if of else None,
    )


async def test_g02_a_run_killed_between_row_and_posting_is_done_once_by_two_others(
    laws: None, tomorrow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = await make.shop(speed=Speed.T1)
    for _ in range(3):
        await sell(of)
    await due_today("settlement_item", "available_on")
    before = await everything(but=("ledger_account", "ledger_balance"))

    async def dies(*_: Any, **__: Any) -> None:
        # The items are marked; the connection is gone before the money has moved.
        await db.execute("SET LOCAL ROLE NONE")
        await db.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "post", dies)
        with pytest.raises(Unavailable):
            await settlement.release_due()
    assert changed(before, await everything(but=("ledger_account", "ledger_balance"))) == set()

    moved = await asyncio.gather(*(settlement.release_due() for _ in range(4)))

    assert sum(moved) == 3
    assert await has(of, "pending", "available") == [0, 3 * 9_400]
    assert await db.value("SELECT count(*) FROM ledger_journal WHERE kind = 'release'") == 1
    assert await db.value("SELECT count(DISTINCT released_run_id) FROM settlement_item") == 1


async def test_g05_each_item_moves_once_and_a_late_one_joins_the_next_run(laws: None) -> None:
    of = await make.shop(speed=Speed.T1)
    await sell(of)
    assert await settlement.release_due() == 0  # not before its day

    await due_today("settlement_item", "available_on")
    assert [await settlement.release_due() for _ in range(3)] == [1, 0, 0]
    await sell(of)
    await due_today("settlement_item", "available_on")
    assert [await settlement.release_due() for _ in range(2)] == [1, 0]

    assert await has(of, "pending", "available") == [0, 2 * 9_400]


async def test_g05_pending_below_the_sum_is_an_error_seen_by_a_person_and_holds_up_nobody_else(
    laws: None,
) -> None:
    broken, *others = [await make.shop(speed=Speed.T1) for _ in range(3)]
    for of in (broken, *others):
        await sell(of)
    await spend(broken, 1, "pending")  # something took what belongs to the items
    await due_today("settlement_item", "available_on")

    for _ in range(2):
        with pytest.raises(ledger.InsufficientFunds):
            await settlement.release_due()

    assert await has(broken, "pending", "available") == [9_399, 0]  # never adjusted
    unreleased = await db.fetch(
        "SELECT merchant_id FROM settlement_item WHERE released_run_id IS NULL"
    )
    assert [row["merchant_id"] for row in unreleased] == [broken.merchant_id]
    for of in others:
        assert await has(of, "pending", "available") == [0, 9_400]
    seen = await db.fetch("SELECT kind, merchant_id, facts_json->>'what' FROM money_exception")
    assert [tuple(row) for row in seen] == [("release_short", broken.merchant_id, "release")]


async def test_g18_g19_a_voluntary_refund_after_the_money_has_gone_stops_with_its_cover(
    laws: None,
) -> None:
    of = await make.shop(reserve_bps=500)
    order = await sell(of)
    await spend(of, 8_000)
    before = await everything()

    with pytest.raises(ledger.InsufficientFunds) as refused:
        await ask(order)

    assert refused.value.facts == {
        "missing": "80.00",
        "currency": USD,
        "cover": {"merchant_reserved": "4.70", "merchant_available": "9.30"},
    }
    assert changed(before, await everything()) == set()


async def test_g16_g19_what_is_missing_becomes_debt_and_the_next_sales_repay_it_first(
    laws: None,
) -> None:
    of = await make.shop(reserve_bps=500)
    order = await sell(of)
    await spend(of, 8_930)
    await merchants.close_merchant(of.merchant_id)  # meanwhile: what it owes stays

    (refund,) = await ask(order, may_owe=True)
    await checkout.hear(refund.id, SUCCEEDED)

    assert refund.cover_json["sources"] == {
        "platform_commission": 600,
        "merchant_reserved": 470,
        "merchant_debt": 8_930,
    }
    assert await has(of, "debt", "reserved", "available") == [-8_930, 0, 0]

    await sell(of)  # 9,400 after commission: 8,930 repaid, then 5 % of 470, then the merchant
    assert await has(of, "debt", "reserved", "available") == [0, 23, 447]
    legs = await db.fetch("SELECT leg, amount_minor FROM capture_leg WHERE leg = 'debt'")
    assert [tuple(row) for row in legs] == [("debt", 8_930)]
    await sell(of)
    assert await has(of, "debt", "reserved", "available") == [0, 23 + 470, 447 + 8_930]


async def test_g16_two_sales_of_one_set_repay_a_debt_between_them(laws: None) -> None:
    of = await make.shop()
    first = await sell(of)
    await spend(of, 9_400)
    (refund,) = await ask(first, may_owe=True)
    await checkout.hear(refund.id, SUCCEEDED)
    await spend(of, 3_000, "debt")  # 12,400 in all: more than one sale repays

    placed = [await make.paid(of) for _ in range(2)]
    assert await checkout.fulfil(placed[0].lane) == 2  # one set

    assert await has(of, "debt", "available") == [0, 2 * 9_400 - 12_400]
    legs = await db.fetch("SELECT amount_minor FROM capture_leg WHERE leg = 'debt' ORDER BY 1")
    assert [row["amount_minor"] for row in legs] == [3_000, 9_400]


async def test_g21_a_full_refund_takes_the_reserve_with_it_and_its_failure_brings_it_back(
    laws: None,
) -> None:
    of = await make.shop(reserve_bps=500)
    order = await sell(of)

    (refund,) = await ask(order)
    assert await has(of, "reserved", "available") == [0, 0]
    assert await reserve() == ("drawn", 470, 470)
    await checkout.hear(refund.id, FAILED)
    assert await has(of, "reserved", "available") == [470, 8_930]
    assert await reserve() == ("held", 470, 0)

    (refund,) = await ask(order)
    await checkout.hear(refund.id, SUCCEEDED)
    assert await has(of, "reserved", "available", "debt") == [0, 0, 0]
    await due_today("reserve_hold", "releases_on")
    assert await settlement.release_reserves() == 0  # nothing is left to release
    assert await checker.faults() == []


async def reserve() -> tuple[str, int, int]:
    row = await db.row("SELECT state, amount_minor, drawn_minor FROM reserve_hold")
    assert row is not None
    return row["state"], row["amount_minor"], row["drawn_minor"]


async def test_g27_the_same_capture_draws_first_and_a_reserve_is_released_once_on_its_day(
    laws: None, tomorrow: None
) -> None:
    of = await make.shop(reserve_bps=500)
    one, two = await sell(of), await sell(of)

    await ask(one, 5_000)  # half: 235 of its own reserve, none of the other's
    drawn = {
        row["order_id"]: row["drawn_minor"]
        for row in await db.fetch(
            "SELECT c.order_id, h.drawn_minor FROM reserve_hold h JOIN capture c ON c.id = h.capture_id"
        )
    }
    assert drawn == {one.id: 235, two.id: 0}
    assert await settlement.release_reserves() == 0  # not before its day

    await due_today("reserve_hold", "releases_on")
    assert sum(await asyncio.gather(*(settlement.release_reserves() for _ in range(4)))) == 2
    assert await settlement.release_reserves() == 0

    states = await db.fetch("SELECT state FROM reserve_hold")
    assert {row["state"] for row in states} == {"released"}
    assert await has(of, "reserved", "available") == [0, 2 * 8_930 - 4_465 + 235 + 470]
    assert await created_is_held_drawn_released(of) == []


async def created_is_held_drawn_released(of: make.Shop) -> list[str]:
    """[] when what was ever put aside is what is held, was drawn and was released (L19)."""
    row = await db.row(
        "SELECT coalesce(sum(amount_minor), 0) AS created, coalesce(sum(drawn_minor), 0) AS drawn,"
        " coalesce(sum(amount_minor - drawn_minor) FILTER (WHERE state = 'held'), 0) AS held,"
        " coalesce(sum(amount_minor - drawn_minor) FILTER (WHERE state = 'released'), 0) AS released"
        " FROM reserve_hold WHERE merchant_id = $1",
        of.merchant_id,
    )
    assert row is not None
    (booked,) = await has(of, "reserved")
    faults = [] if row["held"] == booked else [f"held {row['held']}, booked {booked}"]
    if row["held"] + row["drawn"] + row["released"] != row["created"]:
        faults.append(f"{dict(row)} does not add up")
    return faults


STEPS = ("sell", "refund", "fail", "done", "day", "release", "reserve_day", "release_reserves")


@pytest.mark.timeout(120)
@hypothesis_settings(
    max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
@given(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9_999)), max_size=14))
def test_l19_reserves_add_up_and_each_item_moves_once_in_any_order(
    running_loop: asyncio.AbstractEventLoop, steps: list[tuple[str, int]]
) -> None:
    running_loop.run_until_complete(_play(steps))


async def _play(steps: list[tuple[str, int]]) -> None:
    of = await make.shop(keys=20, reserve_bps=500, speed=Speed.T1)
    sold = [await sell(of)]
    moved: list[UUID] = []
    for step, number in steps:
        if step == "sell":
            sold.append(await sell(of))
        elif step == "refund":
            try:
                await ask(sold[number % len(sold)], 1 + number)
            except (ledger.InsufficientFunds, settlement.RefundExceedsCaptured):
                pass
        elif step in ("fail", "done"):
            rows = await db.fetch(
                "SELECT id FROM refund WHERE merchant_id = $1 ORDER BY id", of.merchant_id
            )
            if rows:
                said = FAILED if step == "fail" else SUCCEEDED
                await checkout.hear(rows[number % len(rows)]["id"], said)
        elif step == "day":
            await due_today("settlement_item", "available_on", of)
        elif step == "release":
            count = await settlement.release_due()
            fresh = [
                row["capture_id"]
                for row in await db.fetch(
                    "SELECT capture_id FROM settlement_item WHERE merchant_id = $1 AND"
                    " released_run_id IS NOT NULL AND NOT capture_id = ANY($2)",
                    of.merchant_id,
                    moved,
                )
            ]
            assert count >= len(fresh)  # those of earlier examples too
            moved += fresh
        elif step == "reserve_day":
            await due_today("reserve_hold", "releases_on", of)
        else:
            await settlement.release_reserves()
        assert await created_is_held_drawn_released(of) == []
    assert len(moved) == len(set(moved))
    assert await checker.faults(at_rest=False, but=("L20",)) == []


@pytest.fixture
async def running_loop(db: None) -> asyncio.AbstractEventLoop:
    """The loop of the open pool, turned by a synchronous test."""
    return asyncio.get_running_loop()


# What each code path may do to a reserve in each state (M14: held → DRAWN / RELEASED; a refund that fails later
# gives back what it drew).
RESERVE_MAY = {
    ("held", "draw all"): "drawn",
    ("held", "release"): "released",
    ("drawn", "fail"): "held",
}


@pytest.mark.parametrize(
    ("state", "step"),
    list(itertools.product(("held", "drawn", "released"), ("draw all", "release", "fail"))),
)
async def test_m14_a_reserve_leaves_its_state_by_the_table_only(
    laws: None, state: str, step: str
) -> None:
    of = await make.shop(reserve_bps=500)
    order = await sell(of)
    refund = None
    if state == "drawn":
        (refund,) = await ask(order)
    elif state == "released":
        (refund,) = await ask(order, 2_000)  # draws 94, may fail after the release
        await due_today("reserve_hold", "releases_on")
        assert await settlement.release_reserves() == 1
    assert (await reserve())[0] == state

    if step == "draw all":
        try:
            await ask(order)
        except settlement.RefundExceedsCaptured:
            assert state == "drawn"
    elif step == "release":
        await due_today("reserve_hold", "releases_on")
        await settlement.release_reserves()
    elif refund is not None:
        await checkout.hear(refund.id, FAILED)

    assert (await reserve())[0] == RESERVE_MAY.get((state, step), state)
    assert await created_is_held_drawn_released(of) == []
