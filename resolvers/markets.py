"""Markets: what a country pays with and reads, and the ways to pay there."""

from __future__ import annotations

import i18n
from domain import fx, geo
from domain.core.money import MoneyInvalid
from resolvers import payments
from resolvers.context import Asked
from resolvers.errors import BadUserInput
from resolvers.inputs import MoneyInput
from resolvers.payments import Offered
from resolvers.scalars import CountryCode
from resolvers.visitors import Platform


async def market(info: Asked, country: CountryCode | None = None) -> geo.Market:
    """The market of the caller, or of a chosen country in its own language."""
    if country is None:
        return info.context.market
    return geo.market(
        explicit=country,
        language=i18n.negotiate(info.context.asked_language),
        payable=fx.payable(),
    )


def methods(
    root: geo.Market,
    info: Asked,
    amount: MoneyInput | None = None,
    platform: Platform | None = None,
) -> list[Offered]:
    """The ways to pay in a market, the recommendation first.

    Errors: BadUserInput for an amount its currency cannot have, UnsupportedCurrency.
    """
    try:
        asked = amount.parse("amount") if amount else None
    except MoneyInvalid as error:
        raise BadUserInput(reason="amount does not fit its currency") from error
    return payments.ranked(
        info,
        amount=asked,
        currency=root.currency,
        country=root.country,
        platform=geo.Platform(platform.value) if platform else None,
    )
