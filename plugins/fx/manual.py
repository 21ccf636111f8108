"""Rates that the operator sets: `KAMI_FX_MANUAL_RATES` for one euro, or by hand with `fx.set_rate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from domain.core import clock
from domain.fx.ports import FeedFailed, Published


@dataclass(frozen=True, slots=True)
class Manual:
    """The configured table, as of the moment this process read its settings; it does not age.

    `{"USD": "1.08"}`: one euro is 1.08 dollars.
    """

    rates: Mapping[str, Decimal]
    taken_at: datetime
    name: str = "manual"

    async def fetch(self) -> Published:
        """The configured rates. Errors: FeedFailed when there are none: those set by hand stay."""
        if not self.rates:
            raise FeedFailed(provider="manual", reason="KAMI_FX_MANUAL_RATES is empty")
        return Published("manual", "EUR", self.taken_at, None, self.rates)


def manual(rates: Mapping[str, Decimal]) -> Manual:
    """The feed of this process."""
    return Manual(dict(rates), clock.now())
