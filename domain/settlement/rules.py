"""The split of a sale and the return of its legs: whole minor units, nothing lost, nothing negative.

Source: MONEY.md section 6. Cuts of the sale round down, the merchant takes what is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from zoneinfo import ZoneInfo

from domain.core.errors import DomainError

BPS = 10_000


class Leg(StrEnum):
    """Who a part of a sale belongs to, in the order in which the cuts are made."""

    TAX = "tax"
    COMMISSION = "commission"
    AFFILIATE = "affiliate"
    DEBT = "debt"
    RESERVE = "reserve"
    WITHHOLDING = "withholding"
    MERCHANT = "merchant"
    SURPLUS = "surplus"


def buyers_leg(leg: str) -> str:
    """What a buyer is told a leg is: how the seller's side divides its part is the seller's own affair."""
    return leg if leg in (Leg.TAX, Leg.SURPLUS) else Leg.MERCHANT.value


class RefundExceedsCaptured(DomainError):
    """More was asked back than was captured and not yet returned; `refundable` is what is left."""

    code = "REFUND_EXCEEDS_CAPTURED"


class Terms(NamedTuple):
    """What is cut from a sale. `commission_minor` is already assessed (domain/merchants); `_bps` of their base."""

    commission_minor: int
    affiliate_bps: int = 0
    tax_minor: int = 0
    reserve_bps: int = 0
    withhold_bps: int = 0


class Owed(NamedTuple):
    """What the merchant owes before this sale: recovered debt first, then credit up to the withheld part."""

    debt_minor: int = 0
    credit_minor: int = 0


_NOTHING = Owed()


def split(amount_minor: int, terms: Terms, owed: Owed = _NOTHING) -> dict[Leg, int]:
    """The legs of a sale of `amount_minor`, zero legs left out; they add up to it exactly.

    Tax, commission and affiliate are cut from the sale, each capped by what is left; then debt, reserve, credit
    (at most what is owed) and the merchant, each of what the one before left.
    """
    assert amount_minor > 0, amount_minor
    commission_minor, affiliate_bps, tax_minor, reserve_bps, withhold_bps = terms
    left = amount_minor
    legs: dict[Leg, int] = {}
    for leg, wanted in (
        (Leg.TAX, tax_minor),
        (Leg.COMMISSION, commission_minor),
        (Leg.AFFILIATE, amount_minor * affiliate_bps // BPS),
        (Leg.DEBT, owed.debt_minor),
    ):
        if wanted > 0 and left:
            legs[leg] = part = min(wanted, left)
            left -= part
    part = min(left, left * reserve_bps // BPS)
    if part > 0:
        legs[Leg.RESERVE] = part
        left -= part
    part = min(left, owed.credit_minor, left * withhold_bps // BPS)
    if part > 0:
        legs[Leg.WITHHOLDING] = part
        left -= part
    if left:
        legs[Leg.MERCHANT] = left
    return legs


@dataclass(frozen=True, slots=True)
class Part:
    """One stored leg of a capture: `free_minor` is neither returned nor locked by a dispute."""

    leg: str
    free_minor: int


def give_back(amount_minor: int, parts: Sequence[Part]) -> dict[str, int]:
    """Spread a refund over what each leg has not yet returned: largest remainder, ties by leg name.

    A refund of everything that is left empties every leg. Errors: RefundExceedsCaptured.
    """
    free = sum(part.free_minor for part in parts)
    if amount_minor > free:
        raise RefundExceedsCaptured(refundable_minor=free)
    shares = {
        part.leg: divmod(amount_minor * part.free_minor, free) for part in parts if part.free_minor
    }
    missing = amount_minor - sum(whole for whole, _ in shares.values())
    by_remainder = sorted(shares, key=lambda leg: (-shares[leg][1], leg))
    lucky = set(by_remainder[:missing])
    given = {leg: whole + (leg in lucky) for leg, (whole, _) in shares.items()}
    return {leg: minor for leg, minor in given.items() if minor}


def provider_cost(amount_minor: int, *, fee_bps: int, fixed_minor: int) -> int:
    """The provider's fee by estimate, rounded up: we would rather see the margin too small than too large."""
    return -(-amount_minor * fee_bps // BPS) + fixed_minor


def cover(wanted_minor: int, available: Mapping[str, int], order: Sequence[str]) -> dict[str, int]:
    """Which account pays how much of the merchant's part of a refund, in `order`; what is missing stays out."""
    paid: dict[str, int] = {}
    for account in order:
        part = max(0, min(wanted_minor - sum(paid.values()), available.get(account, 0)))
        if part:
            paid[account] = part
    return paid


def available_on(captured_at: datetime, *, days: int, cutoff_s: int, zone: str) -> date:
    """The day on which a sale becomes available: `days` after its day in `zone`, one more after the cut-off.

    Units: `cutoff_s` seconds after midnight, 0 for no cut-off.
    """
    local = captured_at.astimezone(ZoneInfo(zone))
    seconds = local.hour * 3600 + local.minute * 60 + local.second
    is_late = bool(cutoff_s) and seconds >= cutoff_s
    return local.date() + timedelta(days=days + is_late)
