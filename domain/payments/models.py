"""The rows of a payment as plain values: attempts, words of a provider, captures, refunds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from domain.core.money import Money


@dataclass(slots=True)
class Attempt:
    """One try to take money for an order; its id is the provider's idempotency key."""

    id: UUID
    order_id: UUID
    merchant_id: UUID
    lane: int
    seq: int
    provider: str
    provider_account: str
    provider_ref: str | None
    method: str
    requested_minor: int
    ccy: str
    processed_minor: int | None
    processed_ccy: str | None
    state: str
    action_json: dict[str, Any] | None
    raw_code: str
    checks: int
    must_authenticate: bool

    @property
    def requested(self) -> Money:
        """What was asked for."""
        return Money(self.requested_minor, self.ccy)


ATTEMPT_COLUMNS = (
    "id, order_id, merchant_id, lane, seq, provider, provider_account, provider_ref, method, requested_minor, ccy,"
    " processed_minor, processed_ccy, state, action_json, raw_code, checks, must_authenticate"
)


class Word(NamedTuple):
    """One statement of a provider waiting in the inbox; `order_id` when it speaks of an attempt of ours.

    `sealed` is a saved method's token as it stands in the inbox, `label` the words for its buyer. `is_authenticated`:
    its money comes from a payer who has passed the provider's challenge.
    """

    no: int
    provider: str
    provider_account: str
    subject: str
    reference_id: UUID | None
    order_id: UUID | None
    provider_ref: str
    state: str
    amount: Money
    occurred_at: datetime
    sealed: str | None = None
    label: str = ""
    is_authenticated: bool = False


def sub_of(provider: str, account: str) -> str:
    """A provider account as the ledger's `sub`; the bare name for a provider without accounts."""
    return f"{provider}:{account}" if account else provider


@dataclass(slots=True)
class Capture:
    """Money a provider has taken for an order, on its way through the books."""

    id: UUID
    attempt_id: UUID
    order_id: UUID
    merchant_id: UUID
    lane: int
    provider: str
    provider_account: str
    taken_minor: int
    amount_minor: int
    returned_minor: int
    ccy: str
    source_purpose: str
    state: str
    park_reason: str | None
    journal_id: UUID | None
    captured_at: datetime
    is_new: bool = False

    @property
    def account(self) -> str:
        """The provider account as the ledger's `sub`."""
        return sub_of(self.provider, self.provider_account)

    @property
    def kept_minor(self) -> int:
        """What has not gone back to the buyer."""
        return self.amount_minor - self.returned_minor


CAPTURE_COLUMNS = (
    "id, attempt_id, order_id, merchant_id, lane, provider, provider_account, taken_minor, amount_minor,"
    " returned_minor, ccy, source_purpose, state, park_reason, journal_id, captured_at"
)


@dataclass(slots=True)
class Refund:
    """Money on its way back to a buyer; `cover_json` says which account paid which part."""

    id: UUID
    capture_id: UUID
    order_id: UUID
    merchant_id: UUID
    amount_minor: int
    ccy: str
    reason: str
    asked_by: str
    state: str
    provider_ref: str | None
    cover_json: dict[str, Any]
    created_at: datetime

    @property
    def amount(self) -> Money:
        """What goes back."""
        return Money(self.amount_minor, self.ccy)


REFUND_COLUMNS = (
    "id, capture_id, order_id, merchant_id, amount_minor, ccy, reason, asked_by, state, provider_ref, cover_json,"
    " created_at"
)
