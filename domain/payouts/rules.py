"""What a payout destination must look like, and how much of it people are shown afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from domain.core.errors import DomainError, FieldInvalid, InputInvalid
from domain.core.money import CURRENCIES
from domain.payouts import checksums

HOLDER_MAX = 140
ACCOUNT_MAX = 64
_SHOWN, _SHORT = 4, 8


class MethodKind(StrEnum):
    """How money is sent there; only kinds whose details carry a check."""

    IBAN = "iban"
    US_BANK = "us_bank"
    CN_CARD = "cn_card"
    TRC20 = "trc20"
    ERC20 = "erc20"


# What each kind can receive. Stablecoins by the networks they are issued on.
CURRENCIES_OF: dict[MethodKind, frozenset[str]] = {
    MethodKind.IBAN: CURRENCIES,
    MethodKind.US_BANK: frozenset({"USD"}),
    MethodKind.CN_CARD: frozenset({"CNY"}),
    MethodKind.TRC20: frozenset({"USDT"}),
    MethodKind.ERC20: frozenset({"USDT", "USDC"}),
}
_WITH_HOLDER = {MethodKind.IBAN, MethodKind.US_BANK, MethodKind.CN_CARD}


@dataclass(frozen=True, slots=True)
class Destination:
    """Where money goes: `account` is the IBAN, account or card number, or address; `routing` of a US bank alone."""

    kind: MethodKind
    currency: str
    account: str = field(repr=False)
    holder: str | None = field(default=None, repr=False)
    routing: str | None = field(default=None, repr=False)

    @property
    def details(self) -> dict[str, str | None]:
        """What is sealed."""
        return {"account": self.account, "holder": self.holder, "routing": self.routing}

    @property
    def identity(self) -> str:
        """What makes two destinations the same one: spelling and holder do not."""
        return f"{self.kind}:{self.routing or ''}:{self.account}"

    @property
    def masked(self) -> str:
        """What people are shown of it: the country of an IBAN and the last four characters, "DE ····3000"; of a number
        so short that these would be most of it the last two."""
        place = f"{self.account[:2]} " if self.kind is MethodKind.IBAN else ""
        shown = _SHOWN if len(self.account) >= _SHORT else _SHOWN // 2
        return f"{place}····{self.account[-shown:]}"


def checked(given: Destination) -> Destination:
    """The destination in its one spelling: no spaces, an IBAN in capitals.

    Errors: InputInvalid with a path below `input` for each faulty field: account, currency, holder, routing.
    """
    account = _compact(given.account) if given.kind in _WITH_HOLDER else given.account.strip()
    routing = None if given.routing is None else _compact(given.routing)
    holder = None if given.holder is None else given.holder.strip()
    found = Destination(given.kind, given.currency, account, holder or None, routing or None)
    problems = [*_account_faults(found), *_currency_faults(found), *_holder_faults(found)]
    if found.kind is MethodKind.US_BANK:
        if not checksums.is_routing(found.routing or ""):
            problems.append(_wrong("routing", reason="checksum"))
    elif found.routing is not None:
        problems.append(_wrong("routing", reason="not_used"))
    if problems:
        raise InputInvalid(*problems)
    return found


def _account_faults(of: Destination) -> list[DomainError]:
    match of.kind:
        case MethodKind.IBAN:
            is_right = checksums.is_iban(of.account)
        case MethodKind.US_BANK:
            is_right = of.account.isascii() and of.account.isdigit() and 4 <= len(of.account) <= 17
        case MethodKind.CN_CARD:
            is_right = 16 <= len(of.account) <= 19 and checksums.is_luhn(of.account)
        case MethodKind.TRC20:
            is_right = checksums.is_tron(of.account)
        case MethodKind.ERC20:
            is_right = checksums.is_ethereum(of.account)
    return [] if is_right else [_wrong("account", reason="checksum")]


def _currency_faults(of: Destination) -> list[DomainError]:
    if of.currency in CURRENCIES_OF[of.kind]:
        return []
    return [_wrong("currency", reason="currency")]


def _holder_faults(of: Destination) -> list[DomainError]:
    if of.kind not in _WITH_HOLDER:
        return [] if of.holder is None else [_wrong("holder", reason="not_used")]
    holder = of.holder or ""
    if not holder or len(holder) > HOLDER_MAX or not holder.isprintable():
        return [_wrong("holder", reason="length", max=HOLDER_MAX)]
    return []


def _compact(text: str) -> str:
    """Without the spaces and hyphens people group digits with."""
    return text.replace(" ", "").replace("-", "").upper()


def _wrong(name: str, **facts: object) -> FieldInvalid:
    return FieldInvalid(path=("input", name), **facts)
