"""A provider that does not answer well leaves everything as it was; only its own clear word leads on (C18, E05)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from domain import checkout
from domain.core import db
from domain.core.money import Money
from tests import make
from tests.journeys import checker
from tests.platform import Platform, running


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    async with running(tmp_path, monkeypatch) as found:
        yield found
    assert await checker.faults() == []


async def look(times: int = 1) -> None:
    """Ask the provider about everything unclear, as the workers do when it is time."""
    for _ in range(times):
        await db.execute("UPDATE payment_attempt SET next_check_at = clock_timestamp()")
        await checkout.check_due()


async def state() -> str:
    found: str = await db.value("SELECT state FROM payment_attempt")
    return found


@pytest.mark.parametrize("fault", ["500", "html", "cut", "latin1", "unsigned"])
async def test_c18_e05_k17_bad_answers_never_close_an_unclear_attempt(
    platform: Platform, fault: str
) -> None:
    of = await make.shop(price=Money(1_002, "USD"))  # charged, and the answer is lost
    order_id, access_key, paid = await platform.bought(of)
    assert paid["status"] == "UNKNOWN"

    await platform.sandbox.modes("main", fault=fault)
    await look(4)
    await platform.work()
    order = await platform.order(order_id, access_key)
    assert (await state(), order["status"], order["goods"]) == ("unknown", "AWAITING_PAYMENT", [])
    assert [event["kind"] for event in order["timeline"]] == ["PLACED", "STARTED", "UNKNOWN"]
    assert await db.value("SELECT count(*) FROM inbox_event") == 0

    await platform.sandbox.modes("main")
    await look(2)
    await platform.work()
    order = await platform.order(order_id, access_key)
    assert (order["status"], len(order["goods"])) == ("DELIVERED", 1)
    assert await db.value("SELECT count(*) FROM capture") == 1


async def test_c13_a_process_that_died_before_it_asked_leaves_an_attempt_that_is_closed_and_repeated(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = await make.shop(keys=1)
    begun = await platform.start(of)
    order_id, access_key = begun["order"]["id"], begun["accessKey"]

    async def die(*_: object) -> None:
        raise SystemError("killed between the commit and the call")

    monkeypatch.setattr("domain.checkout.paying._charge", die)
    variables = {"orderId": order_id, "accessKey": access_key, "method": "sandbox"}
    await platform.ask(_PAY, {"input": variables, "key": "mine"})
    monkeypatch.undo()
    assert await state() == "started"
    assert (await platform.pay(order_id, access_key))["code"] == "ORDER_STATE_CONFLICT"

    await look()
    await platform.work()
    assert (
        await state() == "voided"
    )  # a reference never seen is closed there, so that it can never be charged
    assert await db.value("SELECT count(*) FROM card_key WHERE open") == 1
    again = await platform.pay(order_id, access_key)
    assert again["status"] == "REQUIRES_ACTION"
    await platform.sandbox.do(again["id"], "confirm", account="main")
    await platform.heard(2)
    await platform.work()
    assert len((await platform.order(order_id, access_key))["goods"]) == 1


_PAY = "mutation ($input: PayInput!, $key: String!) { pay(input: $input) @idempotent(key: $key) { __typename } }"
