"""The laws of the books as plain values: purposes, accounts, transfers, what a movement changes and
what refuses it.

Units: minor units. Balance = credits - debits: what we owe is >= 0, what we own or are owed is <=
0. Source: MONEY.md sections 1 and 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from domain.core.errors import DomainError
from domain.core.money import MINOR_MAX, Money

LINES_MAX = 1_000
SHARDS = 16
POSTED, PENDING, POST, VOID = "posted", "pending", "post", "void"


@dataclass(frozen=True, slots=True)
class Purpose:
    """What an account is for. A limit (floor or ceiling) needs one row; a shared account has
    `shards` rows.

    `owner` is the kind of owner it must have; "platform" accounts have none, "any" may have a
    merchant. `floor_minor`: available >= floor. `ceiling_minor`: credits - debits <= ceiling (a
    loan is not overpaid).
    """

    normal: str
    owner: str = "platform"
    shards: int = 1
    floor_minor: int | None = None
    ceiling_minor: int | None = None


_DEBIT = Purpose("debit")
_CREDIT = Purpose("credit")
_DEBIT_SHARED = Purpose("debit", shards=SHARDS)
_CREDIT_SHARED = Purpose("credit", shards=SHARDS)
_MERCHANT = Purpose("credit", "merchant", floor_minor=0)
_MERCHANT_OWES = Purpose("debit", "merchant", ceiling_minor=0)

PURPOSES: dict[str, Purpose] = {
    # Provider: owed to us, on its way, ours. `sub` is the provider account.
    "provider_clearing": _DEBIT_SHARED,
    "settlement_clearing": _DEBIT,
    "provider_fee": _DEBIT_SHARED,
    "dispute_clearing": _DEBIT,
    "dispute_fee": _DEBIT,
    "bank_cash": _DEBIT,
    "payout_clearing": _CREDIT,
    "suspense": _CREDIT,
    # Merchant: one row each, never below zero; the debt never overpaid.
    "merchant_pending": _MERCHANT,
    "merchant_available": _MERCHANT,
    "merchant_reserved": _MERCHANT,
    "merchant_disputed": _MERCHANT,
    "merchant_in_transit": _MERCHANT,
    "merchant_fund_pending": _MERCHANT,
    "merchant_debt": _MERCHANT_OWES,
    # What lies at the merchant's own provider account: theirs already, so nobody pays it out.
    "merchant_direct": _MERCHANT,
    # Others' money.
    "affiliate_payable": Purpose("credit", "affiliate", floor_minor=0),
    "affiliate_debt": Purpose("debit", "affiliate", ceiling_minor=0),
    "wallet": Purpose("credit", "buyer", floor_minor=0),
    "wallet_bonus": Purpose("credit", "buyer", floor_minor=0),
    "buyer_held": Purpose("credit", "any"),
    "sale_clearing": _CREDIT_SHARED,
    "refund_clearing": _CREDIT_SHARED,
    "tax_payable": _CREDIT_SHARED,
    "lender_payable": _CREDIT,
    # Platform.
    "platform_commission": _CREDIT_SHARED,
    "payout_fee": _CREDIT,
    "fx_spread": _CREDIT,
    "fx_liquidity": _CREDIT,
    "promo_expense": _DEBIT,
    "loss": _DEBIT,
    "rounding": _CREDIT,
    # Credit: `sub` of a receivable is the advance.
    "credit_receivable": _MERCHANT_OWES,
    "credit_fee_deferred": Purpose("credit", "any"),
    "credit_fee_income": _CREDIT,
    "credit_loss": _DEBIT,
    "note_receivable": Purpose("debit", "any"),
    # Funds: `sub` is the fund; units are an asset of their own.
    "fund_clearing": _DEBIT,
    "fast_pool": Purpose("credit", floor_minor=0),
    "fund_units_held": _DEBIT,
    "merchant_units": _MERCHANT,
    "pool_units": _CREDIT,
}


class InsufficientFunds(DomainError):
    """A floor: the account holds less than was asked. Facts: purpose, owner_id, sub, ccy,
    available_minor, asked_minor.
    """

    code = "INSUFFICIENT_FUNDS"


class CeilingExceeded(DomainError):
    """A ceiling: more would be paid in than is owed. Facts: purpose, owner_id, sub, ccy,
    room_minor, asked_minor.
    """

    code = "CEILING_EXCEEDED"


class KeyReused(DomainError):
    """The journal `key` exists with other content; it was not touched."""

    code = "KEY_REUSED"


class AccountClosed(DomainError):
    """The account takes no more entries. Facts: purpose, owner_id, sub, ccy."""

    code = "ACCOUNT_CLOSED"


class AccountInvalid(DomainError):
    """No such purpose, the owner is missing or not wanted, or a name is too long."""

    code = "ACCOUNT_INVALID"


class AccountInUse(DomainError):
    """An account with money or open holds cannot be closed."""

    code = "ACCOUNT_IN_USE"


class CurrencyMismatch(DomainError):
    """A transfer in another currency than its account: money changes currency through `fx` only."""

    code = "CURRENCY_MISMATCH"


class TransferInvalid(DomainError):
    """No transfer at all, too many, an amount that is not positive, or source and target are one
    account.
    """

    code = "TRANSFER_INVALID"


class HoldNotOpen(DomainError):
    """The hold was posted, voided or expired before, or its time is over. Facts: hold_id, state."""

    code = "HOLD_NOT_OPEN"


class NotReversible(DomainError):
    """A reversal, a reversed journal, a hold: none of them is reversed. Facts: journal_id, reason."""

    code = "NOT_REVERSIBLE"


class DayOpen(DomainError):
    """The day is not over, or a transaction that may belong to it still runs."""

    code = "DAY_OPEN"
    retryable = True


class AccountKey(NamedTuple):
    """The name of an account; `owner_id` None is the platform, `sub` a provider account, fund,
    lender or advance.
    """

    purpose: str
    owner_id: UUID | None
    sub: str
    ccy: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """Money leaves `source` (debit) and enters `target` (credit): always balanced."""

    source: AccountKey
    target: AccountKey
    amount: Money


class Leg(NamedTuple):
    """A transfer between numbered balance rows. `held_minor` is the whole hold a post or void takes
    off pending.
    """

    source_no: int
    target_no: int
    source_shard: int
    target_shard: int
    minor: int
    ccy: str
    phase: str = POSTED
    hold_id: UUID | None = None
    held_minor: int = 0


@dataclass(slots=True)
class Change:
    """What a set of transfers does to one balance row; only the pending sides may be negative."""

    ccy: str
    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0


@dataclass(frozen=True, slots=True)
class Balance:
    """One balance row, or the sum of an account's rows. Units: minor."""

    account_no: int
    shard: int = 0
    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0
    floor_minor: int | None = None
    ceiling_minor: int | None = None
    version: int = 0

    @property
    def posted(self) -> int:
        """Credits - debits: >= 0 is what we owe, <= 0 what is owed to us or ours."""
        return self.credits_posted - self.debits_posted

    @property
    def available(self) -> int:
        """Posted minus open holds: what may still leave a floored account."""
        return self.credits_posted - self.debits_posted - self.debits_pending

    @property
    def room(self) -> int | None:
        """What may still be paid into an account with a ceiling; None without one."""
        if self.ceiling_minor is None:
            return None
        return self.ceiling_minor - (
            self.credits_posted + self.credits_pending - self.debits_posted
        )


def purpose(key: AccountKey) -> Purpose:
    """The rules of an account. Errors: AccountInvalid."""
    found = PURPOSES.get(key.purpose)
    if found is None:
        raise AccountInvalid(purpose=key.purpose, reason="unknown purpose")
    if found.owner != "any" and (found.owner == "platform") != (key.owner_id is None):
        raise AccountInvalid(purpose=key.purpose, reason=f"the owner is a {found.owner}")
    if len(key.sub) > 40 or not 0 < len(key.ccy) <= 12:
        raise AccountInvalid(purpose=key.purpose, reason="name too long")
    return found


def owner_kind(key: AccountKey) -> str:
    """Whose account it is: platform, merchant, affiliate or buyer."""
    owner = purpose(key).owner
    if owner == "any":
        return "platform" if key.owner_id is None else "merchant"
    return owner


def check(transfers: Sequence[Transfer]) -> None:
    """Refuse what no table would take. Errors: TransferInvalid, CurrencyMismatch, AccountInvalid."""
    if not 0 < len(transfers) <= LINES_MAX:
        raise TransferInvalid(lines=len(transfers))
    for transfer in transfers:
        amount = transfer.amount
        if not 0 < amount.minor <= MINOR_MAX:
            raise TransferInvalid(amount_minor=amount.minor)
        if transfer.source == transfer.target:
            raise TransferInvalid(purpose=transfer.source.purpose, reason="source is target")
        for key in (transfer.source, transfer.target):
            purpose(key)
            if key.ccy != amount.currency:
                raise CurrencyMismatch(**named(key), currency=amount.currency)


def digest(kind: str, transfers: Iterable[Transfer], *facts: object) -> bytes:
    """SHA-256 of what a key stands for: same key with another digest is `KeyReused`. Legs in their
    order.
    """
    legs = [[*t.source, *t.target, t.amount.minor, t.amount.currency] for t in transfers]
    return hashlib.sha256(orjson.dumps([kind, legs, *facts], default=str)).digest()


def changes(legs: Iterable[Leg]) -> dict[tuple[int, int], Change]:
    """What `legs` do to each (account_no, shard). Errors: CurrencyMismatch when one row meets two
    currencies.
    """
    found: dict[tuple[int, int], Change] = {}
    for leg in legs:
        source = _change(found, (leg.source_no, leg.source_shard), leg.ccy)
        target = _change(found, (leg.target_no, leg.target_shard), leg.ccy)
        if leg.phase == PENDING:
            source.debits_pending += leg.minor
            target.credits_pending += leg.minor
            continue
        source.debits_pending -= leg.held_minor
        target.credits_pending -= leg.held_minor
        if leg.phase != VOID:
            source.debits_posted += leg.minor
            target.credits_posted += leg.minor
    return found


def _change(found: dict[tuple[int, int], Change], row: tuple[int, int], ccy: str) -> Change:
    change = found.get(row)
    if change is None:
        change = found[row] = Change(ccy)
    if change.ccy != ccy:
        raise CurrencyMismatch(account_no=row[0], currency=ccy)
    return change


def refusal(balance: Balance, change: Change) -> tuple[type[DomainError], dict[str, Any]] | None:
    """The limit of a locked row that `change` would break, with its numbers; None when it fits."""
    if balance.floor_minor is not None:
        left = balance.available - balance.floor_minor
        asked = change.debits_posted + change.debits_pending - change.credits_posted
        if asked > left:
            return InsufficientFunds, {"available_minor": left, "asked_minor": asked}
    room = balance.room
    if room is not None:
        asked = change.credits_posted + change.credits_pending - change.debits_posted
        if asked > room:
            return CeilingExceeded, {"room_minor": room, "asked_minor": asked}
    return None


def named(key: AccountKey) -> dict[str, Any]:
    """An account as facts of an error."""
    owner = None if key.owner_id is None else str(key.owner_id)
    return {"purpose": key.purpose, "owner_id": owner, "sub": key.sub, "ccy": key.ccy}
