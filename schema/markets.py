"""Markets in the contract: country, currency, language, and the ways to pay."""

from datetime import datetime
from enum import Enum

import strawberry

from domain import geo
from domain.fx import Quote
from resolvers import markets as resolve
from schema.field import Who, derived, field, object_type, query_field
from schema.payments import PaymentMethod
from schema.scalars import CountryCode, CurrencyCode, Decimal, LanguageCode


@strawberry.enum(description="Who said where the buyer is; the strongest first.")
class MarketSource(Enum):
    """See domain.geo.Source."""

    EXPLICIT = "explicit"
    VIEWER = "viewer"
    GEOIP = "geoip"
    DEFAULT = "default"


@object_type(description="A rate locked for an order; both rates are shown.", rows=(Quote,))
class FxQuote:
    """The charged rate is within 0.3 % of the reference."""

    base: CurrencyCode = field(description="Currency of the price list.")
    target: CurrencyCode = field(description="Currency the buyer pays in.")
    rate: Decimal = field(description="Charged rate: units of target for one of base.")
    reference_rate: Decimal = field(description="The source's rate at the lock.")
    spread_bps: int = field(description="Difference of the two in basis points.")
    source: str = field(description="Where the reference comes from, with its date.")
    locked_until: datetime = field(description="Until when this rate holds, at least ten minutes.")


@object_type(description="Where a buyer shops, and what follows from it.", rows=(geo.Market,))
class Market:
    """A hint that preselects; the buyer may choose another."""

    country: CountryCode = field(description="ISO 3166-1 code of the country.")
    currency: CurrencyCode = field(
        description="What people pay in there; USD where their own currency cannot be converted."
    )
    language: LanguageCode = field(description="The offered language most people read there.")
    source: MarketSource = derived(
        lambda market: MarketSource(market.source), description="Who said so."
    )
    payment_methods: list[PaymentMethod] = field(
        resolver=resolve.methods,
        description="Ways to pay, the first is the recommendation; empty when none takes the currency.",
        args={
            "amount": "What is to be paid; its currency replaces the market's.",
            "platform": "Where the page is held: orders the methods.",
        },
    )


@strawberry.type
class MarketQuery:
    """Open to everyone."""

    market: Market = query_field(
        resolve.market,
        who=Who.ANYONE,
        description="A market: the caller's by address, or the one of `country`.",
        args={"country": "A chosen country; beats the address."},
    )
