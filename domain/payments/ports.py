"""What Kami needs from a payment provider: a charge, a query, a void, a refund and proof of a callback.

A provider answers with *states*, never with the vendor's exceptions. Anything it cannot tell for sure is
`ChargeState.UNKNOWN`: only a query, a callback or a person may leave that state (MONEY.md section 4).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from domain.core.errors import DomainError
from domain.core.money import Money


class ChargeState(StrEnum):
    """What a provider says of one attempt."""

    REQUIRES_ACTION = "requires_action"
    PROCESSING = "processing"
    # A part of what was asked has been taken and the provider says so; CAPTURED with another amount is a contradiction.
    PARTIALLY_CAPTURED = "partially_captured"
    CAPTURED = "captured"
    DECLINED = "declined"
    FAILED = "failed"
    VOIDED = "voided"
    UNKNOWN = "unknown"


class RefundState(StrEnum):
    """What a provider says of one refund."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"


class MethodKind(StrEnum):
    """How a buyer pays with a method; named as in the GraphQL contract."""

    CARD = "card"
    WALLET = "wallet"
    QR = "qr"
    BANK = "bank"
    CRYPTO = "crypto"
    REDIRECT = "redirect"


@dataclass(frozen=True, slots=True)
class Redirect:
    """The buyer's browser goes to `url`."""

    url: str


@dataclass(frozen=True, slots=True)
class QrCode:
    """The buyer scans `content` before `expires_at`."""

    content: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class WalletSheet:
    """The device opens the wallet's own sheet with `payload` (JSON text)."""

    wallet: str
    payload: str


@dataclass(frozen=True, slots=True)
class BankTransfer:
    """The buyer sends exactly `amount` to `address` (an account or a chain address)."""

    address: str
    amount: Money
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Challenge:
    """The payer proves who they are at `url` (3-D Secure)."""

    url: str


NextAction = Redirect | QrCode | WalletSheet | BankTransfer | Challenge


@dataclass(frozen=True, slots=True)
class SavedToken:
    """What a provider charges a buyer's method by later: its `token`, never card data, and words for people.

    `label` names the method so that its buyer knows it again, at most its last four digits ("Sandbox ····4242").
    """

    token: str = field(repr=False)
    label: str


@dataclass(frozen=True, slots=True)
class ChargeRequest:
    """One attempt to take `amount`; `reference` is our attempt's id and the provider's idempotency key.

    `save`: the buyer wants to pay by this method again, a capture should bring a SavedToken. `token`: charge the
    saved method behind it, without the buyer. `must_authenticate`: take nothing before the payer has proved who
    they are, and say so with the money; only asked of a method that can.
    """

    reference: str
    account: str
    method: str
    amount: Money
    order_number: str
    return_url: str
    notify_url: str
    expires_at: datetime
    locale: str = "en"
    save: bool = False
    token: str | None = field(default=None, repr=False)
    must_authenticate: bool = False


@dataclass(frozen=True, slots=True)
class ChargeAnswer:
    """The provider's word on an attempt: `processed` is what it took, None while nothing was taken.

    `saved` comes with a capture of what was asked to be saved, `is_authenticated` with one whose payer has passed
    the provider's challenge.
    """

    state: ChargeState
    provider_ref: str | None = None
    action: NextAction | None = None
    processed: Money | None = None
    raw_code: str = ""
    raw_message: str = ""
    saved: SavedToken | None = None
    is_authenticated: bool = False


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """Return `amount` of the charge `provider_ref`; `reference` is our refund's id and the idempotency key."""

    reference: str
    account: str
    provider_ref: str
    amount: Money
    reason: str


@dataclass(frozen=True, slots=True)
class RefundAnswer:
    """The provider's word on a refund."""

    state: RefundState
    provider_ref: str | None = None
    raw_code: str = ""
    raw_message: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """One verified statement of a provider: attempt or refund `reference` is in `state` with `amount`.

    `amount` is the total taken on the attempt so far (or returned by the refund), zero while nothing was.
    `event_id` is unique per provider and account. For a refund `subject` is "refund" and `state` a RefundState value.
    `saved` is part of what was proved; it comes with a capture of what was asked to be saved. So is
    `is_authenticated`: the payer of this capture has passed the provider's challenge.
    """

    event_id: str
    subject: str
    reference: str
    provider_ref: str
    state: str
    amount: Money
    occurred_at: datetime
    saved: SavedToken | None = None
    is_authenticated: bool = False


class CallbackRefused(DomainError):
    """A callback that proves nothing: bad signature (401) or not readable at all (400). Changes nothing."""

    code = "CALLBACK_REFUSED"


@dataclass(frozen=True, slots=True)
class Method:
    """A way to pay that a provider offers.

    `currencies` it can take; `countries` where buyers know it, empty = everywhere; amounts in minor units of
    each currency are bounded by `min_minor`/`max_minor` when given. `fee_bps`/`fee_fixed_minor` estimate our cost.
    `can_save`: the provider gives a token for it, by which it is charged again without the buyer.
    `can_authenticate`: it can have the payer prove who they are before it takes anything (3-D Secure).
    """

    code: str
    kind: MethodKind
    currencies: tuple[str, ...]
    countries: tuple[str, ...] = ()
    fee_bps: int = 0
    fee_fixed_minor: Mapping[str, int] = field(default_factory=dict)
    can_save: bool = False
    can_authenticate: bool = False


class Provider(Protocol):
    """A payment provider. Every call is bounded by its own timeout and never raises for the network."""

    # Read-only, so that a provider may be a frozen dataclass.
    @property
    def name(self) -> str: ...
    @property
    def methods(self) -> tuple[Method, ...]: ...
    @property
    def success_word(self) -> bytes: ...
    @property
    def failure_word(self) -> bytes: ...

    async def charge(self, request: ChargeRequest) -> ChargeAnswer:
        """Open or take a payment; the same `reference` is charged at most once."""
        ...

    async def query(self, *, account: str, reference: str) -> ChargeAnswer:
        """Where the attempt stands; UNKNOWN when the provider cannot be read, FAILED when it never saw it."""
        ...

    async def void(self, *, account: str, reference: str) -> ChargeAnswer:
        """Cancel what is not captured yet; CAPTURED when it is too late."""
        ...

    async def refund(self, request: RefundRequest) -> RefundAnswer:
        """Return money; the same `reference` refunds at most once."""
        ...

    async def query_refund(self, *, account: str, reference: str) -> RefundAnswer:
        """Where the refund stands."""
        ...

    async def forget(self, *, account: str, token: str) -> bool:
        """Delete a saved method; true once the provider will never charge it again, false while that is unclear."""
        ...

    def verify(self, *, account: str, headers: Mapping[str, str], body: bytes) -> list[Fact]:
        """Prove a callback on its raw bytes (lower-case header names). Raises CallbackRefused."""
        ...


@dataclass(frozen=True, slots=True)
class CredentialField:
    """One field of what a merchant's own account is reached with; `pattern` is what it must match whole.

    `is_secret`: sealed and shown to nobody. `is_identity`: tells the account from others, and is never secret.
    """

    name: str
    description: str
    pattern: re.Pattern[str]
    is_secret: bool = False
    is_identity: bool = False


class OwnAccount(Provider, Protocol):
    """A provider as seen from a merchant's own account."""

    async def prove(self) -> bool | None:
        """Whether the provider takes these credentials; None when it does not answer."""
        ...


class TakesAccounts(Protocol):
    """What a provider's plugin offers whose merchants may have accounts of their own."""

    @property
    def credentials(self) -> tuple[CredentialField, ...]: ...

    def bound(self, account: str, values: Mapping[str, str]) -> OwnAccount:
        """The provider as seen from the account that we call `account`, by credentials with every field."""
        ...


providers: dict[str, Provider] = {}
own_accounts: dict[str, TakesAccounts] = {}
