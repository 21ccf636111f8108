"""Money is a whole number of minor units and a currency; it never meets a float."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from domain.core.errors import DomainError

MINOR_MAX = 2**63 - 1
_DIGITS = re.compile(r"(0|[1-9][0-9]{0,17})(?:\.([0-9]{1,9}))?", re.ASCII)

# ISO 4217 minor-unit exponents that are not 2; every listed currency is one Kami can book.
_EXPONENTS = {
    **dict.fromkeys(
        [
            "BIF",
            "CLP",
            "DJF",
            "GNF",
            "ISK",
            "JPY",
            "KMF",
            "KRW",
            "PYG",
            "RWF",
            "UGX",
            "VND",
            "VUV",
            "XAF",
            "XOF",
            "XPF",
        ],
        0,
    ),
    **dict.fromkeys(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"], 3),
}
_TWO_DIGITS = """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY
    COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR
    ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK
    MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP
    SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST XCD YER ZAR ZMW
"""
_EXPONENTS.update(dict.fromkeys(_TWO_DIGITS.split(), 2))

CURRENCIES = frozenset(_EXPONENTS)


class MoneyInvalid(DomainError):
    """An amount that is not a plain decimal with at most the currency's digits."""

    code = "AMOUNT_INVALID"


class UnsupportedCurrency(DomainError):
    """A currency Kami, the shop or the payment method does not take."""

    code = "UNSUPPORTED_CURRENCY"


def exponent(currency: str) -> int:
    """Digits after the point of `currency` (ISO 4217). Errors: UnsupportedCurrency."""
    try:
        return _EXPONENTS[currency]
    except KeyError:
        raise UnsupportedCurrency(currency=currency) from None


@dataclass(frozen=True, slots=True, order=True)
class Money:
    """`minor` units of `currency`; may be negative only as a difference, never as a price."""

    minor: int
    currency: str

    @classmethod
    def parse(cls, text: str, currency: str) -> Money:
        """Exact decimal text to minor units: "19.90" USD is 1990. Errors: MoneyInvalid, UnsupportedCurrency.

        No sign, exponent, grouping or foreign digits; more digits than the currency has are refused.
        """
        digits = exponent(currency)
        found = _DIGITS.fullmatch(text)
        fraction = (found.group(2) or "") if found else ""
        if not found or len(fraction) > digits:
            raise MoneyInvalid(amount=text[:40], currency=currency)
        minor = int(found.group(1) + fraction.ljust(digits, "0"))
        if minor > MINOR_MAX:
            raise MoneyInvalid(amount=text[:40], currency=currency)
        return cls(minor, currency)

    def decimal(self) -> str:
        """Exact text with the currency's own number of digits: "19.90", "1200" for JPY."""
        digits = exponent(self.currency)
        sign, minor = ("-", -self.minor) if self.minor < 0 else ("", self.minor)
        if digits == 0:
            return f"{sign}{minor}"
        whole, part = divmod(minor, 10**digits)
        return f"{sign}{whole}.{part:0{digits}d}"

    def to_decimal(self) -> Decimal:
        """The same value as a Decimal in major units."""
        return Decimal(self.minor).scaleb(-exponent(self.currency))

    def __add__(self, other: Money) -> Money:
        assert self.currency == other.currency, (self, other)
        return Money(self.minor + other.minor, self.currency)

    def __sub__(self, other: Money) -> Money:
        assert self.currency == other.currency, (self, other)
        return Money(self.minor - other.minor, self.currency)

    def __mul__(self, count: int) -> Money:
        return Money(self.minor * count, self.currency)
