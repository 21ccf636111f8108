"""Rows of `fx_rate` and `fx_quote`, as the rest of the house sees them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from domain.fx import rules


class QuoteState(StrEnum):
    """active → consumed / expired; both are final."""

    ACTIVE = "active"
    CONSUMED = "consumed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Quote:
    """A locked rate, and the amounts when they were known at the lock.

    Seen from a price: one unit of `base` (what the price is in) costs `rate` units of `target`
    (what the buyer pays); `reference_rate` is the same without our spread. `convert` turns a price
    around.
    """

    id: UUID
    terms: rules.Terms
    source: str
    lock_kind: str
    expires_at: datetime
    state: QuoteState
    from_minor: int | None = None
    to_minor: int | None = None
    consumed_by: UUID | None = None

    @property
    def base(self) -> str:
        """The currency that is converted: the price's, or what an exchange pays out."""
        return self.terms.to_ccy

    @property
    def target(self) -> str:
        """The currency that is paid."""
        return self.terms.from_ccy

    @property
    def rate(self) -> Decimal:
        """Units of `target` charged for one of `base`, 12 digits."""
        return rules.inverse(self.terms.exchange_rate)

    @property
    def reference_rate(self) -> Decimal:
        """Units of `target` for one of `base` at the reference, 12 digits."""
        return rules.inverse(self.terms.reference_rate)

    @property
    def spread_bps(self) -> int:
        """Our fee in basis points of what is paid."""
        return self.terms.fee_bps

    @property
    def locked_until(self) -> datetime:
        """The same as `expires_at`, by its name in the contract."""
        return self.expires_at

    def convert(self, base_minor: int) -> int:
        """A price in minor units of `base` to minor units of `target`; see `Terms.price`."""
        return self.terms.price(base_minor)


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh did: pairs stored, and pairs whose jump is under suspicion."""

    provider: str
    taken_at: datetime
    stored: tuple[str, ...]
    suspect: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Consumed:
    """What became of quotes that were to be consumed.

    `done` now or earlier by the same consumer · `expired` before the money came · `refused`:
    consumed by somebody else, or no such quote.
    """

    done: frozenset[UUID]
    expired: frozenset[UUID]
    refused: frozenset[UUID]


@dataclass(frozen=True, slots=True)
class Health:
    """How the rates stand: the newest row's number and time, and what cannot be quoted."""

    newest_no: int
    taken_at: datetime | None
    stale: tuple[str, ...]
    suspect: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """Whether every known pair can be quoted."""
        return self.newest_no > 0 and not self.stale and not self.suspect
