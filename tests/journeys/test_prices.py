"""Prices are the server's, currencies are refused before anybody is charged, one number names an order everywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from domain import catalogue
from domain.catalogue import PriceList, Tier
from domain.core import db as core_db
from domain.core import ids
from domain.core.money import Money
from domain.payments.ports import providers
from tests import make
from tests.platform import START, Platform, running, uuid_of


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    async with running(tmp_path, monkeypatch, autoconfirm_ms=1) as found:
        yield found


def test_b03_nineteen_ninety_nine_is_1999_cents() -> None:
    assert Money.parse("19.99", "USD").minor == 1999
    assert Money(1999, "USD").decimal() == "19.99"


async def test_b09_h02_a_price_from_the_client_is_refused_by_the_schema(platform: Platform) -> None:
    of = await make.shop(price=Money(1_050, "USD"))
    line = {"variantId": ids.encode("var", of.variant_id), "quantity": 1, "price": "0.01"}
    cart = {"shop": of.handle, "lines": [line], "contact": {"email": "a@example.com"}}

    answer = await platform.ask(START, {"input": cart, "key": "b09"})

    assert [error["extensions"]["code"] for error in answer["errors"]] == ["BAD_USER_INPUT"]
    assert await core_db.value("SELECT count(*) FROM orders") == 0


async def test_b13_a_method_without_the_currency_is_refused_before_any_attempt(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dollars:
        """The sandbox, taking dollars only."""

        def __init__(self) -> None:
            self._sandbox = providers["sandbox"]
            self.methods = tuple(
                replace(method, currencies=("USD",)) for method in self._sandbox.methods
            )

        def __getattr__(self, name: str) -> object:
            return getattr(self._sandbox, name)

    monkeypatch.setitem(providers, "sandbox", Dollars())
    begun = await platform.start(await make.shop(price=Money(1_050, "CNY")))

    paid = await platform.pay(begun["order"]["id"], begun["accessKey"])

    assert (paid["__typename"], paid["code"]) == ("UnsupportedCurrency", "UNSUPPORTED_CURRENCY")
    assert await core_db.value("SELECT count(*) FROM payment_attempt") == 0


async def test_e20_one_order_is_one_number_for_buyer_provider_and_books(platform: Platform) -> None:
    of = await make.shop(price=Money(1_050, "USD"))
    order_id, access_key, paid = await platform.bought(of)
    await platform.heard(1)
    await platform.work()

    number = (await platform.order(order_id, access_key))["number"]
    _, _, page = await platform.sandbox.get(paid["nextAction"]["url"])
    assert number in page
    found = await core_db.value(
        "SELECT o.number FROM ledger_journal j JOIN orders o ON o.id = j.correlation_id"
        " WHERE o.id = $1",
        uuid_of(order_id),
    )
    assert found == number


async def test_m01_the_intent_follows_the_money(platform: Platform) -> None:
    seen = {}
    for cents, words in ((50, 1), (1, 2), (4, 3), (6, 4)):
        of = await make.shop(price=Money(1_000 + cents, "USD"))
        order_id, _, _ = await platform.bought(of)
        await platform.heard(words)
        await platform.work()
        seen[cents] = await core_db.value(
            "SELECT state FROM payment_intent WHERE order_id = $1", uuid_of(order_id)
        )

    assert seen == {
        50: "succeeded",
        1: "requires_method",
        4: "conflicted",
        6: "partially_captured",
    }


def shown(of: make.Shop, amount: str, currency: str = "USD", quantity: int = 1) -> dict[str, Any]:
    """A cart line with the unit price its buyer was shown."""
    price = {"amount": amount, "currency": currency}
    variant = ids.encode("var", of.variant_id)
    return {"variantId": variant, "quantity": quantity, "unitPrice": price}


CHANGED = """
mutation ($input: StartCheckoutInput!, $key: String!) {
  startCheckout(input: $input) @idempotent(key: $key) {
    __typename
    ... on Checkout { order { total { amount currency } } }
    ... on PriceChanged {
      code path retryable unitPrice { amount currency }
      changes { line variantId unitPrice { amount currency } }
    }
    ... on InvalidInput { problems { path code } }
  }
}"""


async def start(platform: Platform, of: make.Shop, line: dict[str, Any], key: str) -> Any:
    cart = {
        "shop": of.handle,
        "lines": [line],
        "contact": {"email": "a@example.com"},
        "currency": "USD",
    }
    return (await platform.data(CHANGED, {"input": cart, "key": key}))["startCheckout"]


async def test_j04_b09_another_price_than_shown_places_no_order(platform: Platform) -> None:
    of = await make.shop(price=Money(1_050, "USD"))

    changed = await start(platform, of, shown(of, "10.49"), "j04")
    elsewhere = await start(platform, of, shown(of, "10.50", "EUR"), "j04-eur")

    now = {"amount": "10.50", "currency": "USD"}
    assert changed == {
        "__typename": "PriceChanged",
        "code": "PRICE_CHANGED",
        "path": ["input", "lines", "0", "unitPrice"],
        "retryable": False,
        "unitPrice": now,
        "changes": [
            {"line": 0, "variantId": ids.encode("var", of.variant_id), "unitPrice": now},
        ],
    }
    assert elsewhere == changed
    assert await core_db.value("SELECT count(*) FROM orders") == 0
    assert await core_db.value("SELECT count(*) FROM idempotency") == 0


async def test_j04_the_price_shown_is_the_price_paid_and_the_key_of_a_refusal_is_free(
    platform: Platform,
) -> None:
    of = await make.shop(price=Money(1_050, "USD"))
    tiers = [Tier(5, Money(1_000, "USD"))]
    prices = PriceList([Money(1_050, "USD")], "USD", tiers)
    await catalogue.set_prices(of.merchant_id, of.variant_id, prices, expected_version=1)

    list_price = await start(platform, of, shown(of, "10.50", quantity=5), "tier")
    tier_price = await start(platform, of, shown(of, "10.00", quantity=5), "tier")
    malformed = await start(platform, of, shown(of, "10.501"), "odd")

    assert (list_price["__typename"], list_price["unitPrice"]["amount"]) == (
        "PriceChanged",
        "10.00",
    )
    assert tier_price["order"]["total"] == {"amount": "50.00", "currency": "USD"}
    assert malformed["problems"] == [
        {"path": ["input", "lines", "0", "unitPrice", "amount"], "code": "AMOUNT_INVALID"}
    ]
    assert await core_db.value("SELECT count(*) FROM orders") == 1
