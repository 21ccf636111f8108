"""The scalars of the contract: exact, strict, and never a float. What does not fit is BAD_USER_INPUT.

Use the names here as annotations: `amount: Decimal`, `country: CountryCode | None`, `at: datetime`. Schema files
import them from `schema.scalars`.
"""

from __future__ import annotations

import datetime as dt
import decimal
import re
from collections.abc import Callable
from typing import Any, NewType, cast

import strawberry
from graphql import GraphQLError
from strawberry.scalars import JSON
from strawberry.types.scalar import ScalarDefinition

from domain import geo
from domain.core.money import CURRENCIES

BIG_DIGITS_MAX = 38
DECIMAL_CHARS_MAX = 40
JSON_DEPTH_MAX = 16
# Currencies people pay in that are not in ISO 4217; whether one is taken is the shop's business.
CRYPTO = frozenset({"BTC", "DAI", "ETH", "LTC", "SOL", "TRX", "USDC", "USDT"})

_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", re.ASCII)
_INTEGER = re.compile(rf"-?(0|[1-9][0-9]{{0,{BIG_DIGITS_MAX - 1}}})", re.ASCII)
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)

Decimal = NewType("Decimal", str)
BigInt = NewType("BigInt", int)
CountryCode = NewType("CountryCode", str)
CurrencyCode = NewType("CurrencyCode", str)
LanguageCode = NewType("LanguageCode", str)


def refuse(name: str, wanted: str) -> GraphQLError:
    """The error of a value that does not fit: says what is wanted, never repeats what was sent."""
    return GraphQLError(f"{name} wants {wanted}.", extensions={"code": "BAD_USER_INPUT"})


def _text(name: str, wanted: str, fits: Callable[[str], object]) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if not isinstance(value, str) or not fits(value):
            raise refuse(name, wanted)
        return value

    return parse


def _parse_big(value: Any) -> int:
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or not _INTEGER.fullmatch(text):
        raise refuse("BigInt", f"a whole number of at most {BIG_DIGITS_MAX} digits as a string")
    return int(text)


def _parse_moment(value: Any) -> dt.datetime:
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        try:
            return dt.datetime.fromisoformat(value.upper()).astimezone(dt.UTC)
        except (ValueError, OverflowError):
            pass
    raise refuse("DateTime", "an RFC 3339 time with a zone, such as 2026-11-01T12:00:00Z")


def _write_moment(value: dt.datetime) -> str:
    moment = value.astimezone(dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _write_decimal(value: Any) -> str:
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if not isinstance(value, str):
        raise TypeError("a Decimal field takes exact text or decimal.Decimal, never a float")
    return value


def _parse_json(value: Any) -> Any:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > JSON_DEPTH_MAX:
            raise refuse("JSON", f"a value nested at most {JSON_DEPTH_MAX} deep")
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below.extend(one.values())
            elif isinstance(one, list):
                below.extend(one)
        level = below
    return value


def _fits_decimal(text: str) -> bool:
    return len(text) <= DECIMAL_CHARS_MAX and _DECIMAL.fullmatch(text) is not None


def _scalar(name: str, description: str, **functions: Any) -> ScalarDefinition:
    made: Any = strawberry.scalar(name=name, description=description, **functions)
    return cast(ScalarDefinition, made)


_DECIMAL_SCALAR = _scalar(
    "Decimal",
    'An exact decimal number as a string: plain digits, no exponent, no grouping, e.g. "19.90".',
    serialize=_write_decimal,
    parse_value=_text(
        "Decimal", 'a plain decimal number as a string, such as "19.90"', _fits_decimal
    ),
)
_MOMENT_SCALAR = _scalar(
    "DateTime",
    "A point in time by RFC 3339; answers are in UTC with milliseconds, e.g. 2026-11-01T12:00:00.000Z.",
    serialize=_write_moment,
    parse_value=_parse_moment,
)

# Read by `schema.root.build`; every type of the contract that is not built in.
SCALARS: dict[object, ScalarDefinition] = {
    Decimal: _DECIMAL_SCALAR,
    decimal.Decimal: _DECIMAL_SCALAR,
    dt.datetime: _MOMENT_SCALAR,
    BigInt: _scalar(
        "BigInt",
        "A whole number that may not fit 32 bits, as a string of digits.",
        serialize=str,
        parse_value=_parse_big,
    ),
    CountryCode: _scalar(
        "CountryCode",
        "A country by its ISO 3166-1 alpha-2 code in capitals, e.g. HK.",
        serialize=str,
        parse_value=_text("CountryCode", "an ISO 3166-1 alpha-2 code", geo.is_country),
    ),
    CurrencyCode: _scalar(
        "CurrencyCode",
        "A currency by its ISO 4217 code in capitals, e.g. CNY, or a crypto currency such as USDT.",
        serialize=str,
        parse_value=_text(
            "CurrencyCode", "an ISO 4217 code in capitals", (CURRENCIES | CRYPTO).__contains__
        ),
    ),
    LanguageCode: _scalar(
        "LanguageCode",
        "A language by its BCP 47 tag, e.g. en, zh, ja, es. One that is not offered falls back to another.",
        serialize=str,
        parse_value=_text("LanguageCode", "a BCP 47 language tag", _LANGUAGE.fullmatch),
    ),
    JSON: _scalar(
        "JSON",
        f"Any JSON value, nested at most {JSON_DEPTH_MAX} deep.",
        serialize=lambda value: value,
        parse_value=_parse_json,
    ),
}
