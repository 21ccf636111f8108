"""Row types of the ledger: what goes into the books in sets and what comes back. Plain SQL, no ORM:
every path is hot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from domain.core.money import Money
from domain.ledger.rules import AccountKey


class HoldState(StrEnum):
    """open → posted / voided / expired; the last three are final."""

    OPEN = "open"
    POSTED = "posted"
    VOIDED = "voided"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Journal:
    """One posting; `is_new` is false when the key had been posted before and nothing moved now."""

    id: UUID
    key: str
    kind: str
    effective_at: datetime
    recorded_at: datetime
    is_new: bool


@dataclass(frozen=True, slots=True)
class Hold:
    """A promise of `amount` from source to target that may lapse; its id is the id of the journal
    that made it.
    """

    id: UUID
    amount: Money
    expires_at: datetime
    state: HoldState


class JournalDraft(NamedTuple):
    """A journal to open under a fresh `id`; `input_hash` is 32 bytes of what `key` stands for, no `effective_at` means
    now.
    """

    id: UUID
    key: str
    input_hash: bytes
    kind: str
    effective_at: datetime | None = None
    correlation_id: UUID | None = None
    reverses_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """Which drafts are to be written (`new`), were before (`done`), or clash with other content
    (`reused`).

    `found` is the id of the journal that stands behind each key of `done` and `reused`.
    """

    new: set[UUID]
    done: set[str]
    reused: set[str]
    found: dict[str, UUID]


@dataclass(slots=True)
class TransferLines:
    """Posted transfers of many journals in columns of equal length; accounts by number, amounts in
    minor units.
    """

    journal_ids: list[UUID] = field(default_factory=list)
    line_nos: list[int] = field(default_factory=list)
    source_nos: list[int] = field(default_factory=list)
    target_nos: list[int] = field(default_factory=list)
    amounts_minor: list[int] = field(default_factory=list)
    ccys: list[str] = field(default_factory=list)
    _counts: dict[UUID, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.amounts_minor)

    def add(
        self, journal_id: UUID, source_no: int, target_no: int, amount_minor: int, ccy: str
    ) -> None:
        """Append one transfer; a journal's transfers are numbered from 1 as they come."""
        self.add_all(journal_id, [source_no], [target_no], [amount_minor], ccy)

    def add_all(
        self,
        journal_id: UUID,
        source_nos: Sequence[int],
        target_nos: Sequence[int],
        amounts_minor: Sequence[int],
        ccy: str,
    ) -> None:
        """`add` for several transfers of one journal, all in `ccy`."""
        count, last = len(amounts_minor), self._counts.get(journal_id, 0)
        self._counts[journal_id] = last + count
        self.journal_ids += [journal_id] * count
        self.line_nos += range(last + 1, last + count + 1)
        self.source_nos += source_nos
        self.target_nos += target_nos
        self.amounts_minor += amounts_minor
        self.ccys += [ccy] * count


class Entry(NamedTuple):
    """One line of a statement: `amount_minor` > 0 came in (credit), < 0 went out; `balance_minor`
    is after it.
    """

    no: int
    journal_id: UUID
    key: str
    kind: str
    amount_minor: int
    balance_minor: int
    other_no: int
    effective_at: datetime
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Statement:
    """A page of an account's posted entries; `opening_minor` stands before the first of them."""

    account: AccountKey
    opening_minor: int
    entries: list[Entry]
    has_more: bool
