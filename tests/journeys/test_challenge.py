"""A challenge of risk: the payer proves who they are at the provider, or a person decides; money without it waits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from domain import checkout, ledger, risk
from domain.core import clock, db, vault
from domain.core.money import Money
from domain.ledger import AccountKey
from domain.payments.ports import providers
from plugins.payment.sandbox import METHODS
from tests import make
from tests.journeys.refunding import settle
from tests.journeys.test_held_timer import overdue
from tests.platform import Platform, running, uuid_of

PRICE = Money(1_990, "USD")


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    async with running(tmp_path, monkeypatch) as found:
        pivot = risk.Pivot(risk.PivotKind.EMAIL, vault.fingerprint("email", "buyer@example.com"))
        until = clock.now() + timedelta(days=1)
        await risk.enlist(risk.EntryList.WATCH, pivot, until, "seen before", "analyst")
        yield found
    assert await ledger.check() == []


async def challenged(
    platform: Platform, price: Money = PRICE
) -> tuple[str, str, dict[str, Any], make.Shop]:
    """An order whose payer is asked who they are: order id, access key, payment, shop."""
    of = await make.shop(price=price)
    order_id, access_key, paid = await platform.bought(of)
    assert paid["__typename"] == "Payment", paid
    return order_id, access_key, paid, of


async def decision(order_id: str) -> risk.Decision:
    [found] = await risk.decisions(uuid_of(order_id))
    assert (await risk.replay(found.id)).is_equal
    return found


async def kinds(platform: Platform, order_id: str, access_key: str) -> list[str]:
    return [event["kind"] for event in (await platform.order(order_id, access_key))["timeline"]]


async def sold() -> int:
    return int(await db.value("SELECT count(*) FROM card_key WHERE state = 'sold'"))


async def test_n01_m02_a_challenged_payer_proves_who_they_are_and_gets_the_goods(
    platform: Platform,
) -> None:
    order_id, access_key, paid, _ = await challenged(platform)
    await platform.work()

    assert (paid["status"], paid["nextAction"]["__typename"]) == (
        "REQUIRES_ACTION",
        "ChallengeAction",
    )
    url = paid["nextAction"]["url"]
    assert url.startswith(f"{platform.sandbox.url}/challenge/")
    assert (await platform.order(order_id, access_key))["status"] == "AWAITING_PAYMENT"
    assert (await decision(order_id)).standing is risk.Outcome.CHALLENGE
    assert await sold() == 0

    await platform.sandbox.answer(url, await platform.sandbox.code(url))
    await platform.heard(1)
    await platform.work()

    order = await platform.order(order_id, access_key)
    assert (order["status"], len(order["goods"])) == ("DELIVERED", 1)
    assert [event["kind"] for event in order["timeline"]] == [
        "PLACED",
        "STARTED",
        "AUTHENTICATED",
        "PAID",
        "DELIVERED",
    ]
    found = await decision(order_id)
    assert (found.outcome, found.standing) == (risk.Outcome.CHALLENGE, risk.Outcome.ALLOW)
    assert found.resolution is not None
    assert found.resolution.actor == "challenge"
    assert await db.value("SELECT count(*) FROM money_exception") == 0


async def test_n01_who_is_not_suspicious_is_not_asked(platform: Platform) -> None:
    of = await make.shop(price=PRICE)
    begun = await platform.start(of, contact={"email": "somebody@example.com"})

    paid = await platform.pay(begun["order"]["id"], begun["accessKey"])

    assert paid["nextAction"]["__typename"] == "RedirectAction"
    assert await db.value("SELECT must_authenticate FROM payment_attempt") is False


async def test_n01_who_refuses_the_challenge_pays_nothing_and_may_try_again(
    platform: Platform,
) -> None:
    order_id, access_key, paid, _ = await challenged(platform)

    await platform.sandbox.answer(paid["nextAction"]["url"])
    await platform.heard(1)
    await platform.work()
    again = await platform.pay(order_id, access_key)

    order = await platform.order(order_id, access_key)
    assert (order["status"], order["paymentState"]) == ("AWAITING_PAYMENT", "NOT_CHARGED")
    assert [one["status"] for one in order["payments"]] == ["DECLINED", "REQUIRES_ACTION"]
    assert again["nextAction"]["__typename"] == "ChallengeAction"
    outcomes = [one.standing for one in await risk.decisions(uuid_of(order_id))]
    assert outcomes == [risk.Outcome.CHALLENGE, risk.Outcome.CHALLENGE]
    assert await db.value("SELECT count(*) FROM capture") == 0


@pytest.mark.parametrize("is_good", [True, False])
async def test_n02_e15_money_without_the_challenge_is_held_and_a_person_decides(
    platform: Platform, is_good: bool
) -> None:
    order_id, access_key, paid, of = await challenged(platform)

    await platform.sandbox.do(paid["id"], "capture", account="main")
    await platform.heard(1)
    await platform.work()

    order = await platform.order(order_id, access_key)
    assert (order["status"], order["paymentState"]) == ("HELD", "FULLY_CHARGED")
    assert order["goods"] == []
    assert [event["kind"] for event in order["timeline"]][-3:] == [
        "UNAUTHENTICATED",
        "PAID",
        "HELD",
    ]
    assert await sold() == 0
    assert (await decision(order_id)).standing is risk.Outcome.CHALLENGE
    assert await db.value("SELECT kind FROM money_exception") == "unauthenticated"
    kept = await ledger.balance(AccountKey("buyer_held", of.merchant_id, "", "USD"))
    assert kept.posted == PRICE.minor

    decide = checkout.clear if is_good else checkout.decline
    await decide(uuid_of(order_id), asked_by="analyst", reason="called them")
    await settle(platform)

    assert (await platform.order(order_id, access_key))["status"] == (
        "DELIVERED" if is_good else "REFUNDED"
    )
    assert await sold() == int(is_good)
    expected = risk.Outcome.ALLOW if is_good else risk.Outcome.DECLINE
    assert (await decision(order_id)).standing is expected


async def test_e15_nobody_decides_about_money_without_the_challenge_it_goes_back(
    platform: Platform,
) -> None:
    order_id, access_key, paid, _ = await challenged(platform)
    await platform.sandbox.do(paid["id"], "capture", account="main")
    await platform.heard(1)
    await platform.work()

    assert await overdue() == 1
    await settle(platform)

    assert (await platform.order(order_id, access_key))["status"] == "REFUNDED"
    assert (await decision(order_id)).standing is risk.Outcome.DECLINE
    assert (await sold(), await db.value("SELECT count(*) FROM reveal")) == (0, 0)


async def test_n02_a_query_that_finds_money_without_the_challenge_holds_it_too(
    platform: Platform,
) -> None:
    order_id, access_key, paid, _ = await challenged(platform, Money(1_902, "USD"))
    assert paid["status"] == "UNKNOWN"

    await db.execute("UPDATE payment_attempt SET next_check_at = now() - interval '1 s'")
    assert await checkout.check_due() == 1
    await platform.work()

    assert (await platform.order(order_id, access_key))["status"] == "HELD"
    assert await sold() == 0


async def test_n01_a_query_that_finds_a_passed_challenge_delivers(platform: Platform) -> None:
    order_id, access_key, paid, _ = await challenged(platform)
    reference = paid["id"]
    await platform.sandbox.do(reference, "confirm", account="main")
    await platform.heard(1)
    # The callback is lost with its row; only the query is left to tell.
    await _lose_words()
    await db.execute("UPDATE payment_attempt SET next_check_at = now() - interval '1 s'")

    assert await checkout.check_due() == 1
    await platform.work()

    assert (await platform.order(order_id, access_key))["status"] == "DELIVERED"
    assert (await decision(order_id)).standing is risk.Outcome.ALLOW


async def _lose_words() -> None:
    await db.execute("UPDATE inbox_event SET verdict = 'refused', note = 'lost by the test'")


async def test_n01_the_same_word_twice_proves_once(platform: Platform) -> None:
    order_id, access_key, paid, _ = await challenged(platform, Money(1_903, "USD"))
    await platform.sandbox.modes("main", twice="distinct")

    url = paid["nextAction"]["url"]
    await platform.sandbox.answer(url, await platform.sandbox.code(url))
    await platform.heard(2)
    await platform.work()

    happened = await kinds(platform, order_id, access_key)
    assert (happened.count("AUTHENTICATED"), happened[-1]) == (1, "DELIVERED")
    assert await sold() == 1
    assert await db.value("SELECT count(*) FROM capture") == 1


async def test_n01_n10_a_method_that_cannot_ask_holds_instead_and_the_decision_says_so(
    platform: Platform,
) -> None:
    adapter = platform.sandbox.adapter(timeout_s=1.0)
    cannot = tuple(replace(method, can_authenticate=False) for method in METHODS)
    object.__setattr__(adapter, "methods", cannot)
    providers["sandbox"] = adapter
    order_id, access_key, paid, _ = await challenged(platform)

    assert paid["nextAction"]["__typename"] == "RedirectAction"
    assert await db.value("SELECT must_authenticate FROM payment_attempt") is False
    found = await decision(order_id)
    assert found.outcome is risk.Outcome.HOLD
    assert found.reasons == ("watch_list:email", "cannot_authenticate")

    await platform.sandbox.do(paid["id"], "confirm", account="main")
    await platform.heard(1)
    await platform.work()
    assert (await platform.order(order_id, access_key))["status"] == "HELD"
    assert await sold() == 0
    await checkout.clear(uuid_of(order_id), asked_by="analyst", reason="known")
    await platform.work()
    assert (await platform.order(order_id, access_key))["status"] == "DELIVERED"


async def test_n02_a_passed_challenge_does_not_release_what_a_rule_holds(
    platform: Platform,
) -> None:
    order_id, access_key, paid, _ = await challenged(platform, Money(900_050, "USD"))

    assert paid["nextAction"]["__typename"] == "RedirectAction"
    await platform.sandbox.do(paid["id"], "confirm", account="main")
    await platform.heard(1)
    await platform.work()

    assert (await platform.order(order_id, access_key))["status"] == "HELD"
    assert (await decision(order_id)).standing is risk.Outcome.HOLD
    assert await sold() == 0
