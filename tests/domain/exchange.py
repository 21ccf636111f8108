"""A feed that a test steers, and short ways to lock and consume a rate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from domain import fx
from domain.core import clock, db, ids
from domain.fx.ports import FeedFailed, Published

RATES = {"USD": "1.1172", "CNY": "7.4326", "HKD": "8.7652", "JPY": "175.68"}


@dataclass
class Feed:
    """A feed whose next answer a test chooses."""

    rates: dict[str, str]
    taken_at: datetime
    stale_after: timedelta | None = None
    provider: str = "ecb"
    name: str = "ecb"
    is_dead: bool = False

    async def fetch(self) -> Published:
        assert not db.in_transaction()
        if self.is_dead:
            raise FeedFailed(provider=self.provider, reason="dead")
        given = {currency: Decimal(rate) for currency, rate in self.rates.items()}
        stale_at = self.taken_at + self.stale_after if self.stale_after else None
        return Published(self.provider, "EUR", self.taken_at, stale_at, given)


def feed(**changed: str) -> Feed:
    """A table of an hour ago, good for six days."""
    return Feed({**RATES, **changed}, clock.now() - timedelta(hours=1), timedelta(days=6))


async def lock(base: str = "CNY", target: str = "HKD") -> fx.Quote:
    """A quote in a transaction of its own."""
    async with db.transaction():
        return await fx.quote(base, target)


async def consume(*quotes: UUID, by: UUID | None = None, at: datetime | None = None) -> fx.Consumed:
    """Consume in a transaction of its own, by a new consumer unless one is named."""
    async with db.transaction():
        return await fx.consume(
            quotes, [by or ids.uuid7() for _ in quotes], at=[at] * len(quotes) if at else None
        )
