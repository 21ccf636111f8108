"""Exchange: what currencies are worth (`refresh`, `rates`), prices in others, locked rates.

`convert_price` for the shelf, `quote` locks a rate for a cart, `exchange` one for a known amount,
and `consume` uses a lock up, once. Arithmetic is in `rules`: 12 digits, whole numbers, floors.
"""

from domain.fx.actions import (
    accept,
    consume,
    exchange,
    expire_due,
    keep_current,
    quote,
    refresh,
    set_rate,
)
from domain.fx.models import Consumed, Health, Quote, QuoteState, Refreshed
from domain.fx.ports import FeedFailed
from domain.fx.queries import (
    are_locked,
    convert_price,
    find,
    find_many,
    forget,
    health,
    keep_fresh,
    load,
    offer,
    payable,
    rates,
    reference_minor,
)
from domain.fx.rules import RateUnavailable, Terms

__all__ = [
    "Consumed",
    "FeedFailed",
    "Health",
    "Quote",
    "QuoteState",
    "RateUnavailable",
    "Refreshed",
    "Terms",
    "accept",
    "are_locked",
    "consume",
    "convert_price",
    "exchange",
    "expire_due",
    "find",
    "find_many",
    "forget",
    "health",
    "keep_current",
    "keep_fresh",
    "load",
    "offer",
    "payable",
    "quote",
    "rates",
    "reference_minor",
    "refresh",
    "set_rate",
]
