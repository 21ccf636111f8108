"""A payment that risk holds: money taken, nothing revealed, a person decides, and the decision stands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from domain import checkout, fx, ledger, risk
from domain.core import clock, vault
from domain.core import db as core_db
from domain.core.money import Money
from domain.ledger import AccountKey
from tests import make
from tests.platform import Platform, running, uuid_of


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    async with running(tmp_path, monkeypatch, autoconfirm_ms=1) as found:
        yield found
    assert await ledger.check() == []


async def held(platform: Platform) -> tuple[make.Shop, str, str]:
    of = await make.shop(price=Money(900_050, "USD"))  # above the amount a person looks at
    order_id, access_key, paid = await platform.bought(of)
    assert paid["__typename"] == "Payment", paid
    await platform.heard(1)
    await platform.work()
    return of, order_id, access_key


async def test_n02_e15_a_held_order_is_paid_and_reveals_nothing(platform: Platform) -> None:
    of, order_id, access_key = await held(platform)
    order = await platform.order(order_id, access_key)

    assert (order["status"], order["paymentState"]) == ("HELD", "FULLY_CHARGED")
    assert order["goods"] == []
    assert await core_db.value("SELECT count(*) FROM card_key WHERE state = 'sold'") == 0
    kept = await ledger.balance(AccountKey("buyer_held", of.merchant_id, "", "USD"))
    assert kept.posted == 900_050


async def test_e15_released_by_an_analyst_it_is_delivered_and_the_decision_resolved(
    platform: Platform,
) -> None:
    _, order_id, access_key = await held(platform)

    await checkout.clear(uuid_of(order_id), asked_by="analyst", reason="called the buyer")
    await platform.work()

    assert (await platform.order(order_id, access_key))["status"] == "DELIVERED"
    [decision] = await risk.decisions(uuid_of(order_id))
    assert decision.standing is risk.Outcome.ALLOW


async def test_e15_declined_it_is_refunded_without_a_reveal(platform: Platform) -> None:
    of, order_id, access_key = await held(platform)

    await checkout.decline(uuid_of(order_id), asked_by="analyst", reason="stolen card")
    await platform.work()

    order = await platform.order(order_id, access_key)
    assert (order["status"], order["paymentState"]) == ("REFUNDED", "FULLY_REFUNDED")
    assert await core_db.value("SELECT count(*) FROM reveal") == 0
    kept = await ledger.balance(AccountKey("buyer_held", of.merchant_id, "", "USD"))
    assert kept.posted == 0


async def test_n03_a_blocked_buyer_is_declined_before_anyone_is_charged(platform: Platform) -> None:
    of = await make.shop(price=Money(1_050, "USD"))
    pivot = risk.Pivot(risk.PivotKind.EMAIL, vault.fingerprint("email", "buyer@example.com"))
    await risk.block(pivot, clock.now() + timedelta(days=1), "fraud", "analyst")
    begun = await platform.start(of)

    paid = await platform.pay(begun["order"]["id"], begun["accessKey"])

    assert (paid["__typename"], paid["code"]) == ("RiskDeclined", "RISK_DECLINED")
    assert await core_db.value("SELECT count(*) FROM payment_attempt") == 0


async def test_n11_a_payment_without_any_rate_is_still_weighed_and_taken(
    platform: Platform,
) -> None:
    fx.forget()
    small = await make.shop(price=Money(1_050, "HKD"))
    large = await make.shop(price=Money(900_050, "HKD"))

    _, _, paid = await platform.bought(small)
    order_id, access_key, _ = await platform.bought(large)
    await platform.heard(2)
    await platform.work()

    assert paid["__typename"] == "Payment", paid
    assert (await platform.order(order_id, access_key))["status"] == "HELD"
