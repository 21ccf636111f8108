"""The table of countries against CLDR: what Babel says today, and where we differ on purpose."""

from __future__ import annotations

from datetime import date

from babel.languages import get_official_languages
from babel.numbers import get_territory_currencies

from domain.core.money import CURRENCIES
from domain.geo import territories

TABLE_ON = date(2026, 11, 1)

# Country: what CLDR says there.
OURS = {
    "AQ": (),  # nobody's money: USD
    "BG": ("BGN",),  # euro since 2026-01-01, not yet in this CLDR
    "BT": ("INR", "BTN"),
    "CW": ("XCG",),  # cannot be booked yet; USD is taken everywhere
    "LS": ("ZAR", "LSL"),
    "NA": ("ZAR", "NAD"),
    "PA": ("PAB", "USD"),
    "SX": ("XCG",),
    "ZW": ("USD", "ZWG"),
}
OUR_LANGUAGES = {"AQ", "BV", "HM", "TF"}  # nobody lives there: the language of those who visit


def test_currencies_are_those_of_cldr() -> None:
    differ = {
        country: said
        for country in territories.COUNTRIES
        if (said := tuple(get_territory_currencies(country, TABLE_ON, tender=True)))
        != territories.CURRENCIES[country]
    }

    assert differ == OURS


def test_languages_are_those_of_cldr() -> None:
    differ = {
        country
        for country in territories.COUNTRIES
        if territories.LANGUAGES[country]
        != tuple(
            tag.replace("_", "-") for tag in get_official_languages(country, de_facto=True)[:3]
        )
    }

    assert differ == OUR_LANGUAGES


def test_every_iso_country_has_a_currency_that_can_be_booked() -> None:
    assert len(territories.COUNTRIES) == 250  # 249 of ISO 3166-1 and XK
    assert not {"UK", "EU", "ZZ", "AN", "SU"} & territories.COUNTRIES
    for country, currencies in territories.CURRENCIES.items():
        assert set(currencies) <= CURRENCIES, country
