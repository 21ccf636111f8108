"""Buying again: one call prices, places and charges; the same call again is the same sale; nothing half done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from domain import catalogue, checkout
from domain.catalogue import PriceList
from domain.checkout import paying
from domain.core import db, ids, once, vault
from domain.core.money import Money
from tests import make
from tests.journeys import checker
from tests.journeys.again import Buyer, count, heard, pay, saver
from tests.platform import Platform, running, uuid_of

PRICE = Money(1_050, "USD")


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    once._waiting.clear()  # answers of another test, under the same keys
    async with running(tmp_path, monkeypatch) as found:
        yield found
    await found.work()  # what the provider said last
    assert await checker.faults() == []


def line(of: make.Shop, quantity: int) -> dict[str, Any]:
    return {"variantId": ids.encode("var", of.variant_id), "quantity": quantity}


async def test_one_call_buys_the_same_again_and_delivers(platform: Platform) -> None:
    of = await make.shop(price=PRICE)
    buyer = await saver(platform, of, quantity=2)
    before = await heard()

    paid = await buyer.again()
    await platform.heard(before + 1)
    await platform.work()

    assert (paid["__typename"], paid["nextAction"]) == ("Payment", None)
    assert paid["amount"] == {"amount": "21.00", "currency": "USD"}
    order = await platform.order(paid["order"]["id"], paid["accessKey"])
    assert (order["status"], len(order["goods"])) == ("DELIVERED", 2)
    assert order["id"] != buyer.order_id
    first = await platform.order(buyer.order_id, buyer.access_key)
    assert {one["content"] for one in order["goods"]}.isdisjoint(
        one["content"] for one in first["goods"]
    )
    assert await count("capture") == 2
    assert await db.value("SELECT last_used_at IS NOT NULL FROM saved_method")


async def test_c16_the_same_call_again_gives_the_same_bytes_and_one_charge(
    platform: Platform,
) -> None:
    buyer = await saver(platform, await make.shop(price=PRICE))

    first = await buyer.ask_again(key="tap")
    await once.flush()
    await platform.work()
    again = await buyer.ask_again(key="tap")
    await buyer.forget()
    forgotten = await buyer.ask_again(key="tap")

    assert first["data"]["buyAgain"]["__typename"] == "Payment"
    assert again["data"] == first["data"] == forgotten["data"]
    assert again["extensions"]["idempotency"] == {"replayed": True}
    assert "idempotency" not in first["extensions"]
    assert await count("orders") == 2
    assert await count("payment_attempt") == 2


async def test_c16_an_answer_that_was_never_written_down_is_built_again(
    platform: Platform,
) -> None:
    buyer = await saver(platform, await make.shop(price=PRICE))

    first = await buyer.again(key="tap")
    once._waiting.clear()  # the process died before it wrote the answer
    again = await buyer.ask_again(key="tap")

    assert again["extensions"]["idempotency"] == {"replayed": True}
    assert again["data"]["buyAgain"]["id"] == first["id"]
    assert again["data"]["buyAgain"]["accessKey"] == first["accessKey"]
    assert await count("payment_attempt") == 2


async def test_c12_two_parallel_calls_with_one_key_make_one_order(platform: Platform) -> None:
    buyer = await saver(platform, await make.shop(price=PRICE))

    answers = await asyncio.gather(*(buyer.ask_again(key="tap") for _ in range(8)))
    later = await buyer.again(key="tap")

    won = {one["data"]["buyAgain"]["id"] for one in answers if "errors" not in one}
    lost = {one["errors"][0]["extensions"]["code"] for one in answers if "errors" in one}
    assert won | {later["id"]} == {later["id"]}
    assert lost <= {"IDEMPOTENCY_IN_PROGRESS"}
    assert await count("orders") == 2
    assert await count("payment_attempt") == 2
    await platform.work()
    assert await count("capture") == 2


async def test_c11_the_same_key_for_something_else_is_refused(platform: Platform) -> None:
    of = await make.shop(price=PRICE)
    buyer = await saver(platform, of)
    await buyer.again(key="tap")

    other = await buyer.ask_again(key="tap", lines=[line(of, 2)])

    assert other["errors"][0]["extensions"]["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert await count("orders") == 2


async def test_the_chain_goes_on_from_the_order_that_was_bought_again(platform: Platform) -> None:
    buyer = await saver(platform, await make.shop(price=PRICE))
    paid = await buyer.again()
    await platform.work()
    second = Buyer(platform, paid["order"]["id"], paid["accessKey"], buyer.saved_id)

    third = await second.again()
    await platform.work()

    assert [one["id"] for one in await second.saved()] == [buyer.saved_id]
    order = await platform.order(third["order"]["id"], third["accessKey"])
    assert order["status"] == "DELIVERED"
    roots = await db.fetch("SELECT DISTINCT root_id FROM order_root")
    assert [row["root_id"] for row in roots] == [uuid_of(buyer.order_id)]


async def test_e19_j08_keys_and_methods_of_others_are_not_found_in_the_same_words(
    platform: Platform,
) -> None:
    of, elsewhere = await make.shop(price=PRICE), await make.shop(price=PRICE)
    mine = await saver(platform, of)
    same_shop, other_merchant = await saver(platform, of), await saver(platform, elsewhere)
    revoked = await saver(platform, of)
    await revoked.forget()

    refusals = [
        await mine.again(accessKey=same_shop.access_key),
        await mine.again(accessKey=""),
        await mine.again(orderId=ids.encode("ord", ids.uuid7())),
        await mine.again(savedMethodId=same_shop.saved_id),
        await mine.again(savedMethodId=other_merchant.saved_id),
        await mine.again(savedMethodId=ids.encode("svm", ids.uuid7())),
        await revoked.again(),
        await pay(platform, mine.order_id, same_shop.access_key, savedMethodId=mine.saved_id),
    ]
    begun = await platform.start(of)
    refusals.append(
        await pay(platform, begun["order"]["id"], begun["accessKey"], savedMethodId=mine.saved_id)
    )

    assert {(one["code"], one["message"], *one["path"]) for one in refusals} == {
        ("NOT_FOUND", refusals[0]["message"])
    }
    assert await count("orders") == 5
    assert await count("payment_attempt") == 4


async def test_amount_01_is_declined_again_in_the_same_words_and_keeps_nothing(
    platform: Platform,
) -> None:
    of = await make.shop(price=PRICE)
    buyer = await saver(platform, of)
    await reprice(of, Money(1_001, "USD"))

    first = await buyer.again(key="tap")
    again = await buyer.again(key="tap")
    await platform.work()

    assert first["code"] == "PAYMENT_DECLINED"
    assert again == first
    assert await count("orders") == 2
    assert await count("capture") == 1
    assert await count("card_key WHERE state = 'reserved'") == 0


async def test_amount_02_is_unknown_until_the_provider_is_asked_and_then_delivered_once(
    platform: Platform,
) -> None:
    of = await make.shop(price=PRICE)
    buyer = await saver(platform, of)
    await reprice(of, Money(1_002, "USD"))

    paid = await buyer.again(key="tap")
    again = await buyer.again(key="tap")
    assert paid["status"] == again["status"] == "UNKNOWN"
    await db.execute("UPDATE payment_attempt SET next_check_at = clock_timestamp()")
    await checkout.check_due()
    await platform.work()

    order = await platform.order(paid["order"]["id"], paid["accessKey"])
    assert (order["status"], len(order["goods"])) == ("DELIVERED", 1)
    assert await count("capture") == 2


async def test_another_total_than_expected_places_nothing(platform: Platform) -> None:
    of = await make.shop(price=PRICE)
    buyer = await saver(platform, of)
    agreed = {"amount": "10.50", "currency": "USD"}
    await reprice(of, Money(1_150, "USD"))

    changed = await buyer.again(key="tap", expectedTotal=agreed)
    other = await buyer.again(expectedTotal={"amount": "11.50", "currency": "EUR"})

    shown = {
        "variantId": ids.encode("var", of.variant_id),
        "quantity": 1,
        "unitPrice": agreed,
    }
    by_unit = await buyer.again(key="tap", lines=[shown])

    assert changed["code"] == other["code"] == by_unit["code"] == "PRICE_CHANGED"
    assert (changed["total"], changed["unitPrice"], changed["changes"]) == (
        {"amount": "11.50"},
        None,
        [],
    )
    assert (by_unit["total"], by_unit["unitPrice"], by_unit["changes"]) == (
        None,
        {"amount": "11.50"},
        [{"line": 0}],
    )
    assert await count("orders") == 1
    assert await count("payment_attempt") == 1
    assert await count("idempotency WHERE scope LIKE '%buyAgain%'") == 0
    await reprice(of, PRICE)
    assert (await buyer.again(key="tap", expectedTotal=agreed))["__typename"] == "Payment"


async def test_out_of_stock_before_the_order_places_nothing(platform: Platform) -> None:
    of = await make.shop(price=PRICE, keys=1)
    buyer = await saver(platform, of)

    refused = await buyer.again(key="tap")
    await make.stock(of.merchant_id, of.variant_id, 1)
    again = await buyer.again(key="tap")

    assert (refused["code"], again["__typename"]) == ("OUT_OF_STOCK", "Payment")
    assert await count("orders") == 2


async def test_a_charge_that_cannot_start_leaves_one_order_which_the_same_call_pays_later(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    buyer = await saver(platform, await make.shop(price=PRICE))
    assess = paying._assess

    async def decline(*_: Any) -> Any:
        raise checkout.RiskDeclined(reasons=["test"])

    monkeypatch.setattr(paying, "_assess", decline)
    refused = [await buyer.ask_again(key="tap") for _ in range(2)]
    waiting = await db.value("SELECT id FROM orders WHERE status = 'awaiting_payment'")
    monkeypatch.setattr(paying, "_assess", assess)
    await once.flush()
    paid = await buyer.ask_again(key="tap")
    await once.flush()
    again = await buyer.ask_again(key="tap")

    assert {one["data"]["buyAgain"]["code"] for one in refused} == {"RISK_DECLINED"}
    assert paid["data"]["buyAgain"]["order"]["id"] == ids.encode("ord", waiting)
    assert "idempotency" not in paid["extensions"]
    assert again["data"] == paid["data"]
    assert again["extensions"]["idempotency"] == {"replayed": True}
    assert await count("orders") == 2
    assert await count("payment_attempt") == 2


async def test_an_order_that_waits_is_paid_by_the_saved_method_with_pay(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    buyer = await saver(platform, await make.shop(price=PRICE))
    assess = paying._assess

    async def decline(*_: Any) -> Any:
        raise checkout.RiskDeclined(reasons=["test"])

    monkeypatch.setattr(paying, "_assess", decline)
    await buyer.again()
    monkeypatch.setattr(paying, "_assess", assess)
    waiting = await db.value("SELECT id FROM orders WHERE status = 'awaiting_payment'")
    order_id, access_key = ids.encode("ord", waiting), vault.access_key(waiting)

    both = await pay(platform, order_id, access_key, savedMethodId=buyer.saved_id, saveMethod=True)
    paid = await pay(platform, order_id, access_key, savedMethodId=buyer.saved_id)
    await platform.work()

    assert both["code"] == "INVALID_INPUT"
    assert (paid["status"], paid["nextAction"]) == ("PROCESSING", None)
    assert (await platform.order(order_id, access_key))["status"] == "DELIVERED"
    assert await count("saved_method") == 1


async def test_a_process_that_died_after_placing_is_gone_on_with(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    buyer = await saver(platform, await make.shop(price=PRICE))

    async def die(*_: object, **__: object) -> None:
        raise SystemError("killed between the order and its root")

    monkeypatch.setattr("domain.orders.descend", die)
    await buyer.ask_again(key="tap")
    monkeypatch.undo()
    once._waiting.clear()
    assert await count("orders") == 2
    assert await count("payment_attempt") == 1

    paid = await buyer.again(key="tap")
    await platform.work()

    order = await platform.order(paid["order"]["id"], paid["accessKey"])
    assert order["status"] == "DELIVERED"
    assert await count("orders") == 2


async def test_other_lines_another_currency_and_what_start_refuses(platform: Platform) -> None:
    of, elsewhere = await make.shop(price=PRICE), await make.shop(price=PRICE)
    buyer = await saver(platform, of)

    three = await buyer.again(lines=[line(of, 3)])
    dollars = await buyer.again(currency="HKD")
    foreign = await buyer.again(lines=[line(elsewhere, 1)])
    none = await buyer.again(lines=[])
    coupon = await buyer.again(coupon="NOPE")

    assert three["amount"] == {"amount": "31.50", "currency": "USD"}
    assert dollars["amount"]["currency"] == "HKD"
    assert (foreign["code"], none["code"]) == ("INVALID_INPUT", "INVALID_INPUT")
    assert coupon["code"] == "COUPON_INVALID"
    assert await count("orders") == 3


async def test_a_method_that_was_forgotten_while_the_charge_began_is_not_charged(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    buyer = await saver(platform, await make.shop(price=PRICE))
    assess = paying._assess

    async def meanwhile(subject: Any) -> Any:
        await buyer.forget()
        return await assess(subject)

    monkeypatch.setattr(paying, "_assess", meanwhile)
    refused = await buyer.again()

    assert refused["code"] == "NOT_FOUND"
    assert await count("payment_attempt") == 1
    assert await count("card_key WHERE state = 'reserved'") == 0


async def test_a_token_the_provider_no_longer_knows_is_declined_and_takes_nothing(
    platform: Platform,
) -> None:
    buyer = await saver(platform, await make.shop(price=PRICE))
    platform.sandbox.app.state.sandbox.book._sql.execute("UPDATE method SET is_forgotten = 1")

    refused = await buyer.again()

    assert refused["code"] == "PAYMENT_DECLINED"
    assert await count("capture") == 1
    assert await count("card_key WHERE state = 'reserved'") == 0


async def reprice(of: make.Shop, price: Money) -> None:
    """The merchant changes the price of a shop's variant."""
    version = await db.value("SELECT version FROM variant WHERE id = $1", of.variant_id)
    await catalogue.set_prices(
        of.merchant_id,
        of.variant_id,
        PriceList([price], price.currency),
        expected_version=version,
    )
