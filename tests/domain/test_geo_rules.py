"""Markets and the order of payment methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from domain import geo
from domain.core.money import Money
from domain.geo import queries, rules
from domain.geo.ports import locators
from domain.geo.rules import Market, Platform, Source, market, rank_methods


def test_the_market_of_a_country() -> None:
    assert market(located="HK") == Market("HK", "HKD", "zh", Source.GEOIP)
    assert market(located="JP") == Market("JP", "JPY", "ja", Source.GEOIP)
    assert market(located="MX") == Market("MX", "MXN", "es", Source.GEOIP)
    assert market(located="SG") == Market("SG", "SGD", "en", Source.GEOIP)
    assert market(located="CH") == Market("CH", "CHF", "en", Source.GEOIP)


def test_explicit_beats_viewer_beats_geoip_beats_default() -> None:
    said = {"explicit": "JP", "viewer": "ES", "located": "HK"}

    assert market(**said) == Market("JP", "JPY", "ja", Source.EXPLICIT)
    assert market(viewer="ES", located="HK") == Market("ES", "EUR", "es", Source.VIEWER)
    assert market(located="HK").source is Source.GEOIP
    assert market() == Market("US", "USD", "en", Source.DEFAULT)


@pytest.mark.parametrize("country", ["ZZ", "UK", "EU", "hk", "", "HKG"])
def test_x02_j29_an_unknown_country_is_the_default_market(country: str) -> None:
    assert market(located=country) == Market("US", "USD", "en", Source.DEFAULT)
    assert market(explicit=country, located="HK").source is Source.GEOIP


def test_chosen_currency_and_language_replace_the_countrys() -> None:
    chosen = market(located="JP", currency="EUR", language="es")

    assert (chosen.country, chosen.currency, chosen.language) == ("JP", "EUR", "es")


def test_a_currency_nobody_can_convert_becomes_usd() -> None:
    assert market(located="MR", payable={"USD", "EUR"}).currency == "USD"
    assert market(located="HT", payable={"USD", "EUR"}).currency == "USD"
    assert market(located="HT", payable={"HTG", "USD"}).currency == "HTG"


def test_every_country_has_a_market_in_an_offered_language() -> None:
    for country in geo.COUNTRIES:
        found = market(located=country)
        assert (found.country, found.source) == (country, Source.GEOIP)
        assert found.language in {"en", "zh", "ja", "es"}


@dataclass(frozen=True)
class Way:
    """A payment method as its port has it."""

    code: str
    kind: str = "redirect"
    currencies: tuple[str, ...] = ("HKD", "USD", "JPY")
    countries: tuple[str, ...] = ()
    fee_bps: int = 0
    fee_fixed_minor: Mapping[str, int] = field(default_factory=dict)


def codes(ranked: list[rules.Ranked[Way]]) -> list[str]:
    return [one.method.code for one in ranked]


HK = market(located="HK")
CARD = Way("card", "card", fee_bps=290, fee_fixed_minor={"HKD": 235})
FPS = Way("fps", "qr", currencies=("HKD",), countries=("HK",), fee_bps=80)
OCTOPUS = Way("octopus", "wallet", currencies=("HKD",), countries=("HK",), fee_bps=150)
KONBINI = Way("konbini", "bank", currencies=("JPY",), countries=("JP",))
USDT = Way("usdt", "crypto", currencies=("USD",))
ALL = [CARD, FPS, OCTOPUS, KONBINI, USDT]


def test_only_what_takes_the_currency_and_is_known_there_is_offered() -> None:
    assert set(codes(rank_methods(HK, ALL))) == {"card", "fps", "octopus"}
    assert set(codes(rank_methods(HK, ALL, amount=Money(1000, "USD")))) == {"card", "usdt"}
    assert codes(rank_methods(market(located="JP"), ALL)) == ["konbini", "card"]
    assert rank_methods(market(located="TH"), ALL) == []


def test_local_methods_come_first_then_the_cheaper() -> None:
    ranked = rank_methods(HK, ALL, amount=Money(10_000, "HKD"))

    assert codes(ranked) == ["fps", "octopus", "card"]
    assert [one.reasons for one in ranked] == [
        ("LOCAL", "LOWEST_COST"),
        ("LOCAL",),
        ("WORLDWIDE",),
    ]


def test_the_platform_reorders_what_is_awkward_on_it() -> None:
    on_phone = rank_methods(HK, ALL, platform=Platform.IOS)
    on_desktop = rank_methods(HK, ALL, platform=Platform.DESKTOP)

    assert codes(on_phone) == ["octopus", "fps", "card"]
    assert on_phone[0].reasons == ("LOCAL", "FITS_PLATFORM")
    assert codes(on_desktop) == ["fps", "octopus", "card"]


def test_a_wallet_on_the_device_is_first_among_equals_but_not_before_local_ones() -> None:
    ranked = rank_methods(HK, ALL, wallets=["octopus", "card"])

    assert codes(ranked) == ["octopus", "fps", "card"]
    assert ranked[0].reasons == ("LOCAL", "ON_DEVICE")


def test_the_order_does_not_depend_on_the_order_given() -> None:
    assert codes(rank_methods(HK, ALL)) == codes(rank_methods(HK, ALL[::-1]))


def test_costs_are_whole_minor_units_rounded_up() -> None:
    assert rules.cost_minor(CARD, Money(1, "HKD")) == 1 + 235
    assert rules.cost_minor(CARD, Money(10_000, "USD")) == 290


class Fixed:
    """A locator that knows one address."""

    name = "fixed"

    def country(self, address: str) -> str | None:
        return {"203.0.113.1": "HK", "203.0.113.2": "AN"}.get(address)


@pytest.fixture
def located(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """One fixed locator, and settings whose environment a test may set."""
    settings = SimpleNamespace(in_development=True)
    monkeypatch.setattr(queries, "settings", lambda: settings)
    before = dict(locators)
    locators.clear()
    locators["fixed"] = Fixed()
    yield settings
    locators.clear()
    locators.update(before)


def test_locate_asks_the_locator(located: SimpleNamespace) -> None:
    assert geo.locate("203.0.113.1") == "HK"
    assert geo.locate("203.0.113.9") is None
    assert geo.locate("203.0.113.2") is None  # a code that is no country
    assert geo.locate(None) is None


def test_simulation_works_in_development_only(located: SimpleNamespace) -> None:
    assert geo.locate("203.0.113.1", "jp") == "JP"
    assert geo.locate("203.0.113.1", "ZZ") == "HK"
    located.in_development = False
    assert geo.locate("203.0.113.1", "JP") == "HK"


def test_without_a_locator_nobody_is_anywhere(located: SimpleNamespace) -> None:
    locators.clear()
    assert geo.locate("203.0.113.1") is None
