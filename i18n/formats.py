"""Money, numbers, dates and names as a reader of a language writes them; CLDR data from Babel."""

from __future__ import annotations

from copy import copy
from datetime import UTC, datetime
from datetime import date as Date
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal, Protocol, runtime_checkable
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date, format_time
from babel.numbers import format_decimal

from i18n.languages import TAGS, nearest

Style = Literal["short", "medium", "long", "full"]

_NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


@runtime_checkable
class MoneyLike(Protocol):
    """An amount: `decimal()` is its exact text with the currency's own number of digits."""

    @property
    def currency(self) -> str: ...

    def decimal(self) -> str: ...


@lru_cache(maxsize=64)
def cldr(locale: str) -> Locale:
    """CLDR data for any tag; without its region, so that one language reads the same everywhere."""
    return Locale.parse(TAGS[nearest(locale)], sep="-")


def money(amount: MoneyLike, locale: str) -> str:
    """An amount for people: `Money(1990, "USD")` is "$19.90" in English, "19,90 US$" in Spanish.

    Exactly the digits of `amount.decimal()`: CLDR would drop the decimals of IQD or MMK, ISO 4217
    does not.
    """
    return _money(amount.decimal(), amount.currency, cldr(locale))


@lru_cache(maxsize=4096)
def _money(text: str, currency: str, locale: Locale) -> str:
    digits = len(text.partition(".")[2])
    pattern = copy(locale.currency_formats["standard"])
    pattern.frac_prec = (digits, digits)
    written: str = pattern.apply(Decimal(text), locale, currency=currency, currency_digits=False)
    # CLDR currencySpacing, which Babel leaves out: letters never touch digits ("SGD 19.90").
    symbol = locale.currency_symbols.get(currency, currency)
    before, found, after = written.partition(symbol)
    if found and symbol[-1].isalpha() and symbol[-1].isascii() and after[:1].isdigit():
        return f"{before}{symbol}{_NO_BREAK_SPACE}{after}"
    return written


def number(value: int | Decimal, locale: str) -> str:
    """A number with the language's grouping and decimal mark."""
    if isinstance(value, int) and 0 <= value < 1000:
        return str(value)
    return _number(value, cldr(locale))


@lru_cache(maxsize=4096)
def _number(value: int | Decimal, locale: Locale) -> str:
    return format_decimal(value, locale=locale, decimal_quantization=False)


def date(value: datetime | Date, locale: str, *, style: Style = "medium", zone: str = "UTC") -> str:
    """A day, or a moment in `zone` (IANA name); UTC is named, because nobody lives there."""
    if not isinstance(value, datetime):
        return format_date(value, style, locale=cldr(locale))
    assert value.tzinfo is not None, "a moment without a zone is a guess"
    local = value.astimezone(UTC if zone == "UTC" else ZoneInfo(zone))
    day = format_date(local, style, locale=cldr(locale))
    # To the minute in every style: seconds help no reader.
    minute = format_time(local, "short", tzinfo=local.tzinfo, locale=cldr(locale))
    joined = str(cldr(locale).datetime_formats[style]).replace("{1}", day).replace("{0}", minute)
    return f"{joined} UTC" if zone == "UTC" else joined


def country(code: str, locale: str) -> str:
    """The name of an ISO 3166 country, its code when CLDR has none."""
    return str(cldr(locale).territories.get(code, code))


def currency(code: str, locale: str) -> str:
    """The name of an ISO 4217 currency, its code when CLDR has none."""
    return str(cldr(locale).currencies.get(code, code))


def language(code: str, locale: str) -> str:
    """The name of an offered language, written in `locale`."""
    return str(cldr(locale).languages.get(TAGS.get(code, code).replace("-", "_"), code))


def written(value: Any, locale: str) -> str:
    """A fact in a message: amounts, numbers and dates as its language does; the rest as it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | Decimal):
        return number(value, locale)
    if isinstance(value, MoneyLike):
        return money(value, locale)
    if isinstance(value, Date):
        return date(value, locale)
    return str(value)
