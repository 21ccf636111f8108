"""The market query: by address, by choice, in words; and the ways to pay, ranked."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from domain import fx
from domain.core.money import CURRENCIES
from domain.geo import queries
from domain.geo.ports import locators
from domain.payments.ports import Method, MethodKind, providers
from resolvers.context import Context
from schema.build import build
from schema.markets import MarketQuery
from server.graphql.door import Door
from server.graphql.request import Asked

MARKET = "query ($country: CountryCode) { market(country: $country) {"
FACTS = MARKET + " country currency language source } }"
METHODS = """
query ($country: CountryCode, $amount: MoneyInput, $platform: Platform) {
  market(country: $country) { paymentMethods(amount: $amount, platform: $platform) {
    code name kind currencies reasons surcharge { amount }
  } }
}
"""
HOME = {"203.0.113.1": "HK", "203.0.113.2": "JP"}


class Atlas:
    """A locator of two addresses."""

    name = "atlas"

    def country(self, address: str) -> str | None:
        return HOME.get(address)


FPS = Method("fps", MethodKind.QR, ("HKD",), ("HK",), fee_bps=80)
CARD = Method("card", MethodKind.CARD, ("HKD", "JPY", "USD"), fee_bps=290)
SANDBOX = Method("sandbox", MethodKind.REDIRECT, tuple(sorted(CURRENCIES)), fee_bps=300)


@pytest.fixture(scope="module")
def door() -> Door:
    return Door(build([MarketQuery]))


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """One locator, one provider with three methods, no rates, and an environment a test may set."""
    settings = SimpleNamespace(in_development=True)
    monkeypatch.setattr(queries, "settings", lambda: settings)
    were = dict(locators), dict(providers)
    locators.clear()
    providers.clear()
    locators["atlas"] = Atlas()
    offered: Any = SimpleNamespace(name="house", methods=(CARD, SANDBOX, FPS))
    providers["house"] = offered
    fx.forget()
    yield settings
    for registry, before in zip((locators, providers), were, strict=True):
        registry.clear()  # type: ignore[attr-defined]
        registry.update(before)  # type: ignore[attr-defined]


async def ask(door: Door, query: str, **given: Any) -> dict[str, Any]:
    about = {"address": "203.0.113.1", "accept_language": None, "seems_from": None}
    context = Context(
        request_id="test", **{name: given.pop(name, value) for name, value in about.items()}
    )
    await door.admit(context, None)
    answer = await door.answer(Asked(query, variables=given), context)
    body: dict[str, Any] = orjson.loads(answer.body)
    return body


async def market(door: Door, query: str = FACTS, **given: Any) -> Any:
    body = await ask(door, query, **given)
    assert "errors" not in body, body
    return body["data"]["market"]


def facts(*values: str) -> dict[str, str]:
    return dict(zip(("country", "currency", "language", "source"), values, strict=True))


async def test_the_callers_market_is_found_by_address(door: Door) -> None:
    assert await market(door) == facts("HK", "HKD", "zh", "GEOIP")
    assert await market(door, address="203.0.113.2") == facts("JP", "JPY", "ja", "GEOIP")
    assert await market(door, address="10.0.0.1") == facts("US", "USD", "en", "DEFAULT")
    assert await market(door, address=None) == facts("US", "USD", "en", "DEFAULT")


async def test_an_explicit_country_beats_the_address(door: Door) -> None:
    assert await market(door, country="ES") == facts("ES", "EUR", "es", "EXPLICIT")
    directive = 'query @inContext(country: "SG") { market { country currency language source } }'
    assert await market(door, directive) == facts("SG", "SGD", "en", "EXPLICIT")


async def test_the_readers_language_beats_the_countrys(door: Door) -> None:
    assert (await market(door, accept_language="ja,en;q=0.5"))["language"] == "ja"
    assert (await market(door, accept_language="fr"))["language"] == "zh"
    assert (await market(door, accept_language="ja", country="ES"))["language"] == "es"
    asked = "query @inContext(language: EN) { market(country: JP) { language } }"
    found = await ask(door, asked.replace("EN", '"en"').replace("JP", '"JP"'))
    assert found["data"]["market"] == {"language": "en"}


async def test_one_may_look_like_anywhere_in_development_only(
    door: Door, world: SimpleNamespace
) -> None:
    assert await market(door, seems_from="jp") == facts("JP", "JPY", "ja", "GEOIP")
    world.in_development = False
    assert (await market(door, seems_from="jp"))["country"] == "HK"


@pytest.mark.parametrize("country", ["UK", "ZZ", "hk", ""])
async def test_j29_an_unknown_country_is_bad_input(door: Door, country: str) -> None:
    body = await ask(door, FACTS, country=country)

    assert [error["extensions"]["code"] for error in body["errors"]] == ["BAD_USER_INPUT"]


async def test_methods_are_ranked_with_reasons(door: Door) -> None:
    found = (await market(door, METHODS))["paymentMethods"]

    assert [one["code"] for one in found] == ["fps", "card", "sandbox"]
    assert [one["reasons"] for one in found] == [
        ["LOCAL", "LOWEST_COST"],
        ["WORLDWIDE"],
        ["WORLDWIDE"],
    ]
    assert found[0]["kind"] == "QR"
    assert found[0]["surcharge"] is None
    assert found[2]["name"] == "测试支付（沙盒）"


async def test_an_amount_and_a_platform_change_the_offer(door: Door) -> None:
    async def codes(**given: Any) -> list[str]:
        found = (await market(door, METHODS, **given))["paymentMethods"]
        return [one["code"] for one in found]

    assert await codes(amount={"amount": "10.00", "currency": "USD"}) == ["card", "sandbox"]
    assert await codes(country="TH") == ["sandbox"]
    assert await codes(platform="IOS") == ["fps", "card", "sandbox"]


@pytest.mark.parametrize("amount", ["10.505", "99999999999999999999"])
async def test_j01_an_amount_its_currency_cannot_have_is_bad_input(door: Door, amount: str) -> None:
    body = await ask(door, METHODS, amount={"amount": amount, "currency": "USD"})

    assert [error["extensions"]["code"] for error in body["errors"]] == ["BAD_USER_INPUT"]


async def test_j02_yen_have_no_decimals_and_an_asset_nobody_books_is_unsupported(
    door: Door,
) -> None:
    yen = await ask(door, METHODS, amount={"amount": "10.50", "currency": "JPY"})
    coin = await ask(door, METHODS, amount={"amount": "10.50", "currency": "USDT"})

    assert yen["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    assert coin["errors"][0]["extensions"]["code"] == "UNSUPPORTED_CURRENCY"
