"""The ledger: the one truth about money. Everything that moves money posts here, balanced, once per
key.

Call sites read `ledger.post(...)`, `ledger.hold(...)`, `ledger.balance(...)`. Sets of captures use
`accounts → open_many → lock → write` inside one transaction. Units: minor units of the account's
currency; balance = credits - debits. Rules: MONEY.md section 3.
"""

from __future__ import annotations

from domain.ledger.actions import close, post, reverse, reverse_key
from domain.ledger.batch import lock, lock_now, open_many, open_new, write
from domain.ledger.book import accounts, forget
from domain.ledger.days import snapshot_day
from domain.ledger.holds import expire, hold, read_hold, resolve
from domain.ledger.invariants import check
from domain.ledger.models import (
    Entry,
    Hold,
    HoldState,
    Journal,
    JournalDraft,
    Opened,
    Statement,
    TransferLines,
)
from domain.ledger.queries import as_of, available, balance, balances, statement
from domain.ledger.rules import (
    PURPOSES,
    AccountClosed,
    AccountInUse,
    AccountInvalid,
    AccountKey,
    Balance,
    CeilingExceeded,
    CurrencyMismatch,
    DayOpen,
    HoldNotOpen,
    InsufficientFunds,
    KeyReused,
    NotReversible,
    Transfer,
    TransferInvalid,
    digest,
)
from domain.ledger.seals import chain, head, seal, verify

__all__ = [
    "PURPOSES",
    "AccountClosed",
    "AccountInUse",
    "AccountInvalid",
    "AccountKey",
    "Balance",
    "CeilingExceeded",
    "CurrencyMismatch",
    "DayOpen",
    "Entry",
    "Hold",
    "HoldNotOpen",
    "HoldState",
    "InsufficientFunds",
    "Journal",
    "JournalDraft",
    "KeyReused",
    "NotReversible",
    "Opened",
    "Statement",
    "Transfer",
    "TransferInvalid",
    "TransferLines",
    "accounts",
    "as_of",
    "available",
    "balance",
    "balances",
    "chain",
    "check",
    "close",
    "digest",
    "expire",
    "forget",
    "head",
    "hold",
    "lock",
    "lock_now",
    "open_many",
    "open_new",
    "post",
    "read_hold",
    "resolve",
    "reverse",
    "reverse_key",
    "seal",
    "snapshot_day",
    "statement",
    "verify",
    "write",
]
