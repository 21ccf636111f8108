"""Where a buyer is and what follows: `locate` an address, make a `market`, `rank_methods`."""

from domain.geo.queries import locate
from domain.geo.rules import (
    COUNTRIES,
    Market,
    Platform,
    Ranked,
    Source,
    currency_of,
    is_country,
    language_of,
    market,
    rank_methods,
)

__all__ = [
    "COUNTRIES",
    "Market",
    "Platform",
    "Ranked",
    "Source",
    "currency_of",
    "is_country",
    "language_of",
    "locate",
    "market",
    "rank_methods",
]
