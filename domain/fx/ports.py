"""What Kami needs from a source of exchange rates: a dated table of reference rates, or a no."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from domain.core.errors import DomainError


class FeedFailed(DomainError):
    """The feed is unreachable or said something that is no table of rates; stored rates stay."""

    code = "FX_FEED_FAILED"
    retryable = True


@dataclass(frozen=True, slots=True)
class Published:
    """What a feed says: one unit of `base` is `rates[currency]` units of each currency.

    `provider` names the source without its date, `taken_at` is when the source took the rates,
    `stale_at` until when they may be used, None for ever.
    """

    provider: str
    base: str
    taken_at: datetime
    stale_at: datetime | None
    rates: Mapping[str, Decimal]


class Feed(Protocol):
    """A source of reference rates."""

    # Read-only, so that a feed may be a frozen dataclass.
    @property
    def name(self) -> str: ...

    async def fetch(self) -> Published:
        """The newest table, within the feed's timeout and size. Errors: FeedFailed only."""
        ...


feeds: dict[str, Feed] = {}
