"""The same call again, over the whole contract: one effect, the first answer, and nothing else (CASES C10 to C16)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from domain import catalogue, ledger
from domain.core import db, ids, once
from domain.core.money import Money
from tests import make
from tests.journeys import checker
from tests.platform import PAY, START, Platform, running, uuid_of


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    once._waiting.clear()  # answers of another test, under the same keys
    async with running(tmp_path, monkeypatch) as found:
        yield found
    assert await checker.faults() == []


def cart(of: make.Shop, quantity: int = 1) -> dict[str, Any]:
    return {
        "shop": of.handle,
        "lines": [{"variantId": ids.encode("var", of.variant_id), "quantity": quantity}],
        "contact": {"email": "buyer@example.com"},
        "currency": of.price.currency,
    }


async def count(table: str) -> int:
    found: int = await db.value(f"SELECT count(*) FROM {table}")
    return found


async def deliver(platform: Platform, payment_id: str) -> None:
    await platform.sandbox.do(payment_id, "confirm", account="main")
    await platform.heard(1)
    await platform.work()


async def test_c10_the_same_start_gives_the_same_bytes_and_one_order(platform: Platform) -> None:
    of = await make.shop()
    variables = {"input": cart(of), "key": "one-cart"}

    first = await platform.ask(START, variables)
    await once.flush()
    again = await platform.ask(START, variables)

    assert first["data"]["startCheckout"]["__typename"] == "Checkout"
    assert again["data"] == first["data"]
    assert again["extensions"]["idempotency"] == {"replayed": True}
    assert "idempotency" not in first["extensions"]
    assert await count("orders") == 1


async def test_c10_an_answer_that_was_never_written_down_is_built_again(platform: Platform) -> None:
    of = await make.shop()
    variables = {"input": cart(of), "key": "one-cart"}

    first = await platform.ask(START, variables)
    once._waiting.clear()  # the process died before it wrote the answer
    again = await platform.ask(START, variables)

    assert again["data"]["startCheckout"] == first["data"]["startCheckout"]
    assert again["extensions"]["idempotency"] == {"replayed": True}
    assert await count("orders") == 1


async def test_c11_j07_the_same_key_with_another_cart_is_refused_without_effect(
    platform: Platform,
) -> None:
    of = await make.shop()
    await platform.ask(START, {"input": cart(of), "key": "one-cart"})

    other = await platform.ask(START, {"input": cart(of, 2), "key": "one-cart"})

    assert other["errors"][0]["extensions"]["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert await count("orders") == 1


async def test_c12_the_same_key_while_it_runs_is_in_progress_at_once(platform: Platform) -> None:
    of = await make.shop()
    begun = await platform.start(of)
    await platform.sandbox.modes("main", fault="hang")
    wanted = {"orderId": begun["order"]["id"], "accessKey": begun["accessKey"], "method": "sandbox"}
    variables = {"input": wanted, "key": "one-payment"}

    running_first = asyncio.create_task(platform.ask(PAY, variables))
    while not await count("payment_attempt"):
        await asyncio.sleep(0.01)
    second = await platform.ask(PAY, variables)
    await running_first

    refusal = second["errors"][0]["extensions"]
    assert (refusal["code"], refusal["retryable"]) == ("IDEMPOTENCY_IN_PROGRESS", True)
    assert await count("payment_attempt") == 1


async def test_c12_the_same_key_of_another_caller_is_independent(platform: Platform) -> None:
    of = await make.shop()
    variables = {"input": cart(of), "key": "one-cart"}

    mine = await platform.ask(START, variables)
    theirs = await platform.ask(START, variables, address="198.51.100.9")

    orders = {one["data"]["startCheckout"]["order"]["id"] for one in (mine, theirs)}
    assert len(orders) == 2
    assert await count("orders") == 2


async def test_c13_the_same_pay_after_delivery_gives_the_first_answer(platform: Platform) -> None:
    of = await make.shop()
    begun = await platform.start(of)
    wanted = {"orderId": begun["order"]["id"], "accessKey": begun["accessKey"], "method": "sandbox"}
    variables = {"input": wanted, "key": "one-payment"}
    first = await platform.ask(PAY, variables)
    await once.flush()
    await deliver(platform, first["data"]["pay"]["id"])

    again = await platform.ask(PAY, variables)

    assert again["data"] == first["data"]
    assert again["extensions"]["idempotency"] == {"replayed": True}
    assert await count("payment_attempt") == 1
    assert await count("capture") == 1


async def test_c13_the_same_pay_of_an_unclear_attempt_is_answered_and_charges_once(
    platform: Platform,
) -> None:
    of = await make.shop(price=Money(1_002, "USD"))
    begun = await platform.start(of)
    order_id, access_key = begun["order"]["id"], begun["accessKey"]

    first = await platform.pay(order_id, access_key, key="one-payment")
    again = await platform.pay(order_id, access_key, key="one-payment")

    assert first["status"] == again["status"] == "UNKNOWN"
    assert first["id"] == again["id"]
    assert await count("payment_attempt") == 1


async def test_c13_the_same_start_finds_its_order_when_the_shelf_is_empty_by_now(
    platform: Platform,
) -> None:
    of = await make.shop(keys=1)
    first = await platform.start(of, key="one-cart")
    await db.execute("UPDATE card_key SET state = 'locked'")

    again = await platform.start(of, key="one-cart")
    other = await platform.start(of, key="other-cart")

    assert again["__typename"] == "Checkout"
    assert again["order"]["id"] == first["order"]["id"]
    assert other["code"] == "OUT_OF_STOCK"
    assert await count("orders") == 1


async def test_c14_a_refusal_stores_nothing_under_the_key(platform: Platform) -> None:
    of = await make.shop(keys=0)

    refused = await platform.start(of, key="one-cart")
    await make.stock(of.merchant_id, of.variant_id, 1)
    again = await platform.start(of, key="one-cart")

    assert (refused["code"], again["__typename"]) == ("OUT_OF_STOCK", "Checkout")
    assert await count("orders") == 1


async def test_c14_a_refusal_after_the_key_was_taken_is_never_given_as_the_later_success(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = await make.shop()
    variables = {"input": cart(of), "key": "one-cart"}
    place = catalogue.price

    def refuse(*_: Any) -> Any:
        raise catalogue.CouponInvalid(path=("input", "coupon"), reason="over")

    monkeypatch.setattr(catalogue, "price", refuse)
    refused = await platform.ask(START, variables)
    monkeypatch.setattr(catalogue, "price", place)
    placed = await platform.ask(START, variables)
    await once.flush()
    again = await platform.ask(START, variables)

    assert refused["data"]["startCheckout"]["code"] == "COUPON_INVALID"
    assert placed["data"]["startCheckout"]["__typename"] == "Checkout"
    assert again["data"] == placed["data"]


async def test_c16_double_click_and_two_tabs_make_one_attempt(platform: Platform) -> None:
    of = await make.shop()
    begun = await platform.start(of)
    order_id, access_key = begun["order"]["id"], begun["accessKey"]

    tabs = await asyncio.gather(*(platform.pay(order_id, access_key) for _ in range(8)))
    later = await platform.pay(order_id, access_key)

    won = {one["id"] for one in tabs if one["__typename"] == "Payment"}
    lost = {one["code"] for one in tabs if one["__typename"] != "Payment"}
    assert won == {later["id"]}
    assert lost <= {"ORDER_STATE_CONFLICT"}
    assert await count("payment_attempt") == 1
    assert await count("card_key WHERE state = 'reserved'") == 1
    await deliver(platform, later["id"])
    assert await count("capture") == 1
    assert await count("card_key WHERE state = 'sold'") == 1


async def test_out_of_stock_at_pay_is_said_again_under_the_same_key(platform: Platform) -> None:
    of = await make.shop(keys=1)
    begun = [await platform.start(of) for _ in range(2)]
    await platform.pay(begun[0]["order"]["id"], begun[0]["accessKey"])
    order_id, access_key = begun[1]["order"]["id"], begun[1]["accessKey"]

    first = await platform.pay(order_id, access_key, key="mine")
    again = await platform.pay(order_id, access_key, key="mine")

    assert first["code"] == again["code"] == "OUT_OF_STOCK"
    assert await count("capture") == 0


async def test_e04_another_attempt_while_one_is_unknown_is_refused(platform: Platform) -> None:
    of = await make.shop(price=Money(1_002, "USD"))
    order_id, access_key, paid = await platform.bought(of)
    refused = await platform.pay(order_id, access_key)

    assert (paid["status"], refused["code"]) == ("UNKNOWN", "ORDER_STATE_CONFLICT")
    assert await count("payment_attempt") == 1


async def test_j06_money_moves_only_under_a_good_key(platform: Platform) -> None:
    of = await make.shop()
    bare = START.replace(" @idempotent(key: $key)", "").replace(", $key: String!", "")

    missing = await platform.ask(bare, {"input": cart(of)})
    bad = [
        await platform.ask(START, {"input": cart(of), "key": key})
        for key in ("", "   ", "k" * 256, "a\0b")
    ]

    assert missing["errors"][0]["extensions"]["code"] == "IDEMPOTENCY_KEY_REQUIRED"
    assert {one["errors"][0]["extensions"]["code"] for one in bad} == {"BAD_USER_INPUT"}
    assert await count("orders") == 0
    assert await count("idempotency") == 0


@pytest.mark.parametrize("quantity", [0, -3, 2**31, 1.5])
async def test_j03_quantities_that_are_none(platform: Platform, quantity: Any) -> None:
    of = await make.shop()
    asked = {**cart(of), "lines": [{**cart(of)["lines"][0], "quantity": quantity}]}
    answer = await platform.ask(START, {"input": asked, "key": "k"})

    if quantity in (0, -3):
        found = answer["data"]["startCheckout"]
        assert found["code"] == "INVALID_INPUT"
        assert found["problems"][0]["path"] == ["input", "lines", "0", "quantity"]
    else:
        assert answer["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    assert await count("orders") == 0


async def test_j09_e18_a_delivered_or_expired_order_is_not_paid_again(platform: Platform) -> None:
    of = await make.shop()
    order_id, access_key, paid = await platform.bought(of)
    await deliver(platform, paid["id"])
    late = await platform.start(of)
    await db.execute(
        "UPDATE orders SET expires_at = clock_timestamp() - $1::interval WHERE id = $2",
        timedelta(hours=1),
        uuid_of(late["order"]["id"]),
    )

    delivered = await platform.ask(
        PAY.replace(
            "code message path retryable", "code ... on OrderStateConflict { now: status }"
        ),
        {"input": {"orderId": order_id, "accessKey": access_key, "method": "sandbox"}, "key": "k"},
    )
    expired = await platform.pay(late["order"]["id"], late["accessKey"])

    assert delivered["data"]["pay"]["code"] == "ORDER_STATE_CONFLICT"
    assert delivered["data"]["pay"]["now"] == "DELIVERED"
    assert expired["code"] == "ORDER_STATE_CONFLICT"
    assert await count("payment_attempt") == 1


async def test_j08_a_wrong_access_key_and_a_random_order_are_told_alike(platform: Platform) -> None:
    of = await make.shop()
    begun, other = await platform.start(of), await platform.start(of)
    order_id = begun["order"]["id"]

    refusals = [
        await platform.pay(order_id, other["accessKey"]),
        await platform.pay(order_id, ""),
        await platform.pay(ids.encode("ord", ids.uuid7()), begun["accessKey"]),
        await platform.pay("ord_" + "0" * 26, begun["accessKey"]),
    ]
    reads = [
        await platform.order(order_id, other["accessKey"]),
        await platform.order(order_id, None),
        await platform.order(ids.encode("ord", ids.uuid7()), begun["accessKey"]),
    ]

    assert {(one["code"], one["message"]) for one in refusals} == {
        ("NOT_FOUND", refusals[0]["message"])
    }
    assert reads == [None, None, None]
    assert await count("payment_attempt") == 0
    assert await ledger.check() == []
