"""What the books should make of a capture, and the rows settlement keeps of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from domain.core.money import Money
from domain.payments.models import Capture


class BookingKind(StrEnum):
    """The recipe (MONEY.md section 8) a capture is posted by; the first word of its journal's key."""

    SALE = "sale"
    HELD = "held"
    SURPLUS = "surplus"
    CONFLICT = "conflict"


@dataclass(slots=True)
class Booking:
    """One capture and its recipe: `keep_minor` pays for the order, what is above goes back to the buyer."""

    capture: Capture
    kind: BookingKind
    keep_minor: int
    park_reason: str | None = None

    @classmethod
    def sale(cls, capture: Capture, keep_minor: int) -> Booking:
        """Split `keep_minor` of the capture; the capture is settled."""
        return cls(capture, BookingKind.SALE, keep_minor)

    @classmethod
    def park(cls, capture: Capture, reason: str) -> Booking:
        """Keep the money in view without paying anyone: buyer_held, or suspense when nothing is owed for it."""
        kind = BookingKind.SURPLUS if reason == "surplus" else BookingKind.HELD
        return cls(capture, kind, capture.kept_minor, reason)

    @classmethod
    def conflict(cls, capture: Capture) -> Booking:
        """Money that contradicts its attempt: suspense until a person or a statement explains it."""
        return cls(capture, BookingKind.CONFLICT, capture.kept_minor, "conflicted")

    @property
    def moves(self) -> bool:
        """Whether the books change: money parked before and parked again rests where it is."""
        return self.kind is BookingKind.SALE or self.capture.is_new


@dataclass(frozen=True, slots=True)
class FundsLeg:
    """One part of a sale as people read it."""

    leg: str
    amount: Money
    returned: Money


@dataclass(frozen=True, slots=True)
class StoredLeg:
    """A leg of a settled capture; what is neither returned nor locked may still go back."""

    capture_id: UUID
    leg: str
    account_no: int
    amount_minor: int
    returned_minor: int
    locked_minor: int

    @property
    def free_minor(self) -> int:
        """What may still go back to the buyer."""
        return self.amount_minor - self.returned_minor - self.locked_minor


@dataclass(frozen=True, slots=True)
class MoneyException:
    """A money fact that is or was doubtful. `state` is "open", "resolved" or "accepted"; `note` is a person's."""

    id: UUID
    kind: str
    merchant_id: UUID | None
    order_id: UUID | None
    amount_minor: int | None
    ccy: str | None
    facts: dict[str, Any]
    state: str
    note: str
    opened_at: datetime
    closed_at: datetime | None
    closed_by: str | None

    @property
    def amount(self) -> Money | None:
        """The money concerned; None when none was booked."""
        if self.amount_minor is None or self.ccy is None:
            return None
        return Money(self.amount_minor, self.ccy)
