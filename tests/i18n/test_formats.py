"""Money, numbers and dates as readers of each language write them, with the currency's digits."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

import i18n
from domain.core.money import CURRENCIES, Money

GAP = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("minor", "currency", "expected"),
    [
        (1990, "USD", ("$19.90", "US$19.90", "$19.90", f"19,90{GAP}US$")),
        (1200, "JPY", ("¥1,200", "JP¥1,200", "￥1,200", f"1.200{GAP}JPY")),
        (
            19900,
            "KWD",
            (f"KWD{GAP}19.900", f"KWD{GAP}19.900", f"KWD{GAP}19.900", f"19,900{GAP}KWD"),
        ),
        (123456700, "SGD", (f"SGD{GAP}1,234,567.00",) * 3 + (f"1.234.567,00{GAP}SGD",)),
        (500, "CNY", ("CN¥5.00", "¥5.00", "元5.00", f"5,00{GAP}CNY")),
        (0, "EUR", ("€0.00", "€0.00", "€0.00", f"0,00{GAP}€")),
        (-500, "USD", ("-$5.00", "-US$5.00", "-$5.00", f"-5,00{GAP}US$")),
    ],
)
def test_money_in_every_language(minor: int, currency: str, expected: tuple[str, ...]) -> None:
    assert (
        tuple(i18n.money(Money(minor, currency), locale) for locale in i18n.LANGUAGES) == expected
    )


def test_money_keeps_the_digits_of_iso_4217() -> None:
    for currency in CURRENCIES:
        amount = Money(1234567, currency)
        digits = [char for char in i18n.money(amount, "en") if char.isdigit()]
        assert "".join(digits) == amount.decimal().replace(".", ""), currency


def test_money_is_exact_beyond_float() -> None:
    assert i18n.money(Money(2**53 * 100 + 1, "USD"), "en") == "$9,007,199,254,740,992.01"


def test_numbers_are_exact() -> None:
    assert i18n.number(Decimal("0.000049321411"), "en") == "0.000049321411"
    assert i18n.number(Decimal("1234.5"), "es") == "1.234,5"
    assert i18n.number(-5, "en") == "-5"


def test_dates_in_the_readers_zone() -> None:
    at = datetime(2026, 11, 22, 15, 4, 59, tzinfo=UTC)

    assert i18n.date(at, "zh") == "2026年11月22日 15:04 UTC"
    assert i18n.date(at, "ja", zone="Asia/Tokyo") == "2026/11/23 0:04"
    assert i18n.date(at.date(), "es", style="full") == "domingo, 22 de noviembre de 2026"


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(AssertionError):
        i18n.date(datetime(2026, 11, 22), "en")


def test_names_of_countries_currencies_and_languages() -> None:
    assert [i18n.country("JP", locale) for locale in i18n.LANGUAGES] == [
        "Japan",
        "日本",
        "日本",
        "Japón",
    ]
    assert i18n.currency("EUR", "es") == "euro"
    assert [i18n.language(code, code) for code in i18n.LANGUAGES] == [
        "English",
        "简体中文",
        "日本語",
        "español",
    ]
    assert i18n.country("ZZZ", "en") == "ZZZ"
