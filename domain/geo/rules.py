"""From a country to a market: currency, language, and the ways to pay that people there use."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

import i18n
from domain.core.money import CURRENCIES, Money, exponent
from domain.geo import territories

DEFAULT_COUNTRY = "US"
DEFAULT_CURRENCY = "USD"
COUNTRIES = territories.COUNTRIES

# Costs are compared at this many major units while nobody has named an amount.
_TYPICAL_MAJOR = 20


class Source(StrEnum):
    """Why a market is what it is; the strongest first."""

    EXPLICIT = "explicit"
    VIEWER = "viewer"
    GEOIP = "geoip"
    DEFAULT = "default"


class Platform(StrEnum):
    """Where the buyer holds the page: a hint for ranking and risk, never an authority."""

    WEB = "web"
    IOS = "ios"
    ANDROID = "android"
    DESKTOP = "desktop"


@dataclass(frozen=True, slots=True)
class Market:
    """Where a buyer shops: ISO 3166 country, ISO 4217 currency, language, and who said so."""

    country: str
    currency: str
    language: str
    source: Source


def market(
    *,
    explicit: str | None = None,
    viewer: str | None = None,
    located: str | None = None,
    currency: str | None = None,
    language: str | None = None,
    payable: Collection[str] = CURRENCIES,
) -> Market:
    """The market of a caller: a chosen country beats the viewer's setting, that beats GeoIP.

    Shape: countries are upper-case alpha-2 codes; one that is unknown counts as not given, so a new
    or private address lands in the default market and never on an error page. `currency` and
    `language` replace the country's own. The currency is the country's first one in `payable`, else
    USD.
    """
    said = ((explicit, Source.EXPLICIT), (viewer, Source.VIEWER), (located, Source.GEOIP))
    known = ((country, source) for country, source in said if country and is_country(country))
    country, source = next(known, (DEFAULT_COUNTRY, Source.DEFAULT))
    return Market(
        country=country,
        currency=currency or currency_of(country, payable),
        language=language or language_of(country),
        source=source,
    )


def is_country(code: str) -> bool:
    """Whether `code` is an ISO 3166-1 alpha-2 code ("GB", not "UK", "gb" or "ZZ")."""
    return code in COUNTRIES


def currency_of(country: str, payable: Collection[str] = CURRENCIES) -> str:
    """The first currency of `country` in `payable`, else USD."""
    own = territories.CURRENCIES.get(country, ())
    return next((currency for currency in own if currency in payable), DEFAULT_CURRENCY)


def language_of(country: str) -> str:
    """The offered language that most people of `country` read, else English."""
    for tag in territories.LANGUAGES.get(country, ()):
        found = i18n.nearest(tag, default="")
        if found:
            return found
    return i18n.DEFAULT


class Method(Protocol):
    """What ranking reads of a payment method (`domain.payments.ports.Method` has this shape)."""

    @property
    def code(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def currencies(self) -> tuple[str, ...]: ...
    @property
    def countries(self) -> tuple[str, ...]: ...
    @property
    def fee_bps(self) -> int: ...
    @property
    def fee_fixed_minor(self) -> Mapping[str, int]: ...


M = TypeVar("M", bound=Method)


@dataclass(frozen=True, slots=True)
class Ranked(Generic[M]):
    """A method and why it stands where it does: `reasons` are codes, strongest first."""

    method: M
    reasons: tuple[str, ...]


LOCAL = "LOCAL"
ON_DEVICE = "ON_DEVICE"
FITS_PLATFORM = "FITS_PLATFORM"
LOWEST_COST = "LOWEST_COST"
WORLDWIDE = "WORLDWIDE"

# A code cannot be scanned from the screen that shows it, and a wallet app is not on a desktop.
_AWKWARD: Mapping[Platform, frozenset[str]] = {
    Platform.WEB: frozenset(),
    Platform.DESKTOP: frozenset({"wallet"}),
    Platform.IOS: frozenset({"qr"}),
    Platform.ANDROID: frozenset({"qr"}),
}


def rank_methods(
    market: Market,
    methods: Iterable[M],
    *,
    amount: Money | None = None,
    platform: Platform | None = None,
    wallets: Collection[str] = (),
) -> list[Ranked[M]]:
    """The methods a buyer of `market` can use, best first; the first is the recommendation.

    Eligible is what takes the currency of `amount` (else the market's) and is known in the country.
    Order: local ones, wallets on the device, fitting the platform, cheaper for us, then by code, so
    that the same question always gets the same answer. Units: `amount` in minor units.
    """
    asked = amount or Money(_TYPICAL_MAJOR * 10 ** exponent(market.currency), market.currency)
    fit = [method for method in methods if _is_eligible(method, market, asked.currency)]
    costs = [cost_minor(method, asked) for method in fit]
    lowest = min(costs, default=0)
    order: list[tuple[tuple[bool | int | str, ...], Ranked[M]]] = []
    for method, cost in zip(fit, costs, strict=True):
        is_local = market.country in method.countries
        is_ready = method.code in wallets
        is_fitting = platform is None or method.kind not in _AWKWARD[platform]
        reasons = _reasons(
            (LOCAL, is_local),
            (ON_DEVICE, is_ready),
            (FITS_PLATFORM, is_fitting and platform is not None),
            (LOWEST_COST, cost == lowest and len(fit) > 1),
            (WORLDWIDE, not method.countries),
        )
        key = (not is_local, not is_ready, not is_fitting, cost, method.code)
        order.append((key, Ranked(method, reasons)))
    return [ranked for _, ranked in sorted(order, key=lambda pair: pair[0])]


def cost_minor(method: Method, amount: Money) -> int:
    """Our estimated cost of taking `amount`, in its minor units, rounded up."""
    fixed = method.fee_fixed_minor.get(amount.currency, 0)
    return -(-amount.minor * method.fee_bps // 10_000) + fixed


def _is_eligible(method: Method, market: Market, currency: str) -> bool:
    is_known = not method.countries or market.country in method.countries
    return is_known and currency in method.currencies


def _reasons(*said: tuple[str, bool]) -> tuple[str, ...]:
    return tuple(code for code, is_true in said if is_true)
