"""A payout destination as people see it: never its details."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from domain.payouts.rules import MethodKind


class MethodState(StrEnum):
    """pending → cooling → usable → removed; what is declined, stopped or too late is removed without having held."""

    PENDING = "pending"
    COOLING = "cooling"
    USABLE = "usable"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class PayoutMethod:
    """Where a merchant's money may be sent; `usable_at` is set once it was approved."""

    merchant_id: UUID
    id: UUID
    kind: MethodKind
    ccy: str
    state: MethodState
    masked: str
    replaces_id: UUID | None
    changed_by: UUID
    approved_by: UUID | None
    version: int
    created_at: datetime
    usable_at: datetime | None
    removed_at: datetime | None


COLUMNS = (
    "merchant_id, id, kind, ccy, state, masked, replaces_id, changed_by, approved_by, version, created_at,"
    " usable_at, removed_at"
)


def method_of(row: Sequence[Any]) -> PayoutMethod:
    """The destination of one row of `COLUMNS`."""
    merchant_id, id_, kind, ccy, state, *rest = row
    return PayoutMethod(merchant_id, id_, MethodKind(kind), ccy, MethodState(state), *rest)
