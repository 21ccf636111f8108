"""E15: what nobody decides about in time is declined, whoever decides first has decided, once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from domain import checkout, ledger, notifications, risk
from domain.core import clock
from domain.core import db as core_db
from domain.core.settings import settings
from domain.ledger import AccountKey
from domain.orders import OrderStateConflict
from tests import make
from tests.horizon import passed
from tests.journeys.refunding import settle
from tests.journeys.test_held import held
from tests.platform import Platform, running, uuid_of


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    async with running(tmp_path, monkeypatch, autoconfirm_ms=1) as found:
        yield found
    assert await ledger.check() == []


@contextlib.contextmanager
def later(hours: float) -> Iterator[None]:
    """That many hours have passed for whoever asks the clock."""
    clock.shift(timedelta(hours=hours))
    try:
        yield
    finally:
        clock.shift(timedelta())


async def overdue(hours: float = 25) -> int:
    """What the timetable does, that many hours later."""
    with later(hours):
        return await checkout.decline_overdue()


async def counts() -> tuple[int, int, int]:
    """Refunds, keys sold, reveals."""
    row = await core_db.row(
        "SELECT (SELECT count(*) FROM refund), (SELECT count(*) FROM card_key WHERE state = 'sold'),"
        " (SELECT count(*) FROM reveal)"
    )
    assert row is not None
    return row[0], row[1], row[2]


async def kinds(order_id: str) -> list[str]:
    rows = await core_db.fetch(
        "SELECT kind FROM event_log WHERE order_id = $1 ORDER BY sequence", uuid_of(order_id)
    )
    return [row["kind"] for row in rows]


async def balance(of: make.Shop, purpose: str) -> int:
    return (await ledger.balance(AccountKey(purpose, of.merchant_id, "", "USD"))).posted


async def test_e15_nobody_decides_in_time_declined_and_refunded_without_a_reveal(
    platform: Platform,
) -> None:
    of, order_id, access_key = await held(platform)

    assert await overdue(settings().risk_hold_hours - 0.1) == 0
    assert (await platform.order(order_id, access_key))["status"] == "HELD"
    assert await overdue(settings().risk_hold_hours + 0.1) == 1
    assert await overdue(48) == 0  # the money is on its way
    await settle(platform)

    order = await platform.order(order_id, access_key)
    assert (order["status"], order["paymentState"], order["goods"]) == (
        "REFUNDED",
        "FULLY_REFUNDED",
        [],
    )
    assert await counts() == (1, 0, 0)
    assert (await kinds(order_id)).count("risk.declined") == 1
    [decision] = await risk.decisions(uuid_of(order_id))
    assert decision.standing is risk.Outcome.DECLINE
    assert decision.resolution is not None
    assert decision.resolution.actor == "system"
    assert await balance(of, "buyer_held") == 0
    assert await balance(of, "merchant_available") == 0


async def test_e15_buyer_and_merchant_are_told_that_it_was_declined(platform: Platform) -> None:
    await held(platform)
    await overdue()
    await passed()

    while await notifications.collect():
        pass

    rows = await core_db.fetch("SELECT template, audience FROM notification ORDER BY template")
    assert [(row["template"], row["audience"]) for row in rows if row["template"] != "sale"] == [
        ("declined", "buyer"),
        ("held", "merchant"),
        ("paid", "buyer"),
        ("sale_declined", "merchant"),
        ("waiting", "buyer"),
    ]


@pytest.mark.parametrize("is_good", [True, False])
async def test_e15_a_verdict_racing_the_clock_has_one_effect(
    platform: Platform, is_good: bool
) -> None:
    of, order_id, access_key = await held(platform)
    decide = checkout.clear if is_good else checkout.decline

    with later(25):
        said = await asyncio.gather(
            decide(uuid_of(order_id), asked_by="analyst", reason="looked"),
            checkout.decline_overdue(),
            checkout.decline_overdue(),
            return_exceptions=True,
        )
    await settle(platform)

    was_person = not isinstance(said[0], BaseException)
    assert was_person or isinstance(said[0], OrderStateConflict)
    assert sum(one for one in said[1:] if isinstance(one, int)) == (0 if was_person else 1)
    happened = await kinds(order_id)
    assert happened.count("risk.declined") + happened.count("risk.released") == 1
    order = await platform.order(order_id, access_key)
    if is_good and was_person:
        assert (order["status"], await counts()) == ("DELIVERED", (0, 1, 1))
    else:
        assert (order["status"], await counts()) == ("REFUNDED", (1, 0, 0))
    assert await balance(of, "buyer_held") == 0


async def test_e15_a_declined_order_is_not_released_while_its_money_is_on_the_way(
    platform: Platform,
) -> None:
    _, order_id, access_key = await held(platform)
    await checkout.decline(uuid_of(order_id), asked_by="analyst", reason="stolen card")

    with pytest.raises(OrderStateConflict):
        await checkout.clear(uuid_of(order_id), asked_by="other", reason="a friend")
    with pytest.raises(OrderStateConflict):
        await checkout.decline(uuid_of(order_id), asked_by="other", reason="again")
    await settle(platform)

    assert (await platform.order(order_id, access_key))["status"] == "REFUNDED"
    assert await counts() == (1, 0, 0)


async def test_e15_a_released_order_is_not_declined_before_it_is_delivered(
    platform: Platform,
) -> None:
    _, order_id, access_key = await held(platform)
    await checkout.clear(uuid_of(order_id), asked_by="analyst", reason="called the buyer")

    with pytest.raises(OrderStateConflict):
        await checkout.decline(uuid_of(order_id), asked_by="other", reason="no")
    await settle(platform)

    assert (await platform.order(order_id, access_key))["status"] == "DELIVERED"
    assert await counts() == (0, 1, 1)


async def test_e15_a_refund_that_fails_leaves_it_to_a_person(platform: Platform) -> None:
    _, order_id, access_key = await held(platform)
    await platform.sandbox.modes("main", refunds="fail")
    assert await overdue() == 1
    await settle(platform)

    assert await overdue() == 0
    assert (await platform.order(order_id, access_key))["status"] == "HELD"
    assert await core_db.value("SELECT kind FROM money_exception") == "refund_failed"
    await platform.sandbox.modes("main")
    await checkout.decline(uuid_of(order_id), asked_by="analyst", reason="sent again")
    await settle(platform)

    assert (await platform.order(order_id, access_key))["status"] == "REFUNDED"
    assert (await counts())[1:] == (0, 0)
