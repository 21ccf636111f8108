"""What a sale costs its merchant and on which terms the merchant is paid: fees, reserves, speeds,
splits.

Source: MONEY.md sections 5 and 6. Every amount is in minor units of one currency, every cut rounds
down.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from domain.core import words
from domain.core.errors import DomainError, FieldInvalid, InputInvalid
from domain.core.money import MINOR_MAX, Money, UnsupportedCurrency, exponent

BPS = 10_000
RESERVE_DAYS_MAX = 180
SETTLEMENT_DAYS_MAX = 90
LEGS_MAX = 20

_HANDLE = re.compile(r"[a-z0-9](?:-?[a-z0-9])*", re.ASCII)
_HANDLE_MIN, _HANDLE_MAX = 3, 40
NAME_MAX = 120


class Scope(StrEnum):
    """Whom a fee schedule is for."""

    PLATFORM = "platform"
    MERCHANT = "merchant"
    METHOD = "method"
    COUNTRY = "country"


class Payer(StrEnum):
    """Who bears a fee."""

    BUYER = "buyer"
    MERCHANT = "merchant"
    PLATFORM = "platform"
    AFFILIATE = "affiliate"


class Speed(StrEnum):
    """When the merchant's part becomes available: at once, the next day, after `days`."""

    T0 = "t0"
    T1 = "t1"
    TN = "tn"


class ReserveKind(StrEnum):
    """How a reserve is cut: a share of every sale, up to a fixed sum, or everything."""

    ROLLING = "rolling"
    FIXED = "fixed"
    FULL = "full"


class ShopClosed(DomainError):
    """The merchant has closed: no new orders, open ones are still delivered or refunded."""

    code = "SHOP_CLOSED"


class HandleTaken(DomainError):
    """Another shop has this handle."""

    code = "HANDLE_TAKEN"


@dataclass(frozen=True, slots=True)
class FeeSchedule:
    """One version of a price: `pct_bps` of the amount plus `fixed_minor`, within `min_minor` and
    `max_minor`.

    `ccy` None serves every currency and has no fixed parts.
    """

    id: UUID
    scope: Scope
    version: int
    ccy: str | None
    pct_bps: int
    fixed_minor: int = 0
    min_minor: int = 0
    max_minor: int | None = None


@dataclass(frozen=True, slots=True)
class FeeTerms:
    """A fee schedule as it is asked for; `valid_from_at` None is now."""

    pct_bps: int
    ccy: str | None = None
    fixed_minor: int = 0
    min_minor: int = 0
    max_minor: int | None = None
    scope: Scope = Scope.PLATFORM
    merchant_id: UUID | None = None
    subject: str | None = None
    payer: Payer = Payer.MERCHANT
    valid_from_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SplitLeg:
    """One part of a split: a share, a fixed sum, or (exactly one leg) the remainder."""

    leg: str
    purpose: str
    owner: str
    pct_bps: int | None = None
    fixed_minor: int | None = None
    remainder: bool = False


@dataclass(frozen=True, slots=True)
class Plans:
    """The terms of one merchant now; a merchant without a settlement plan is paid the next day.

    `reserve_plan_id` is None when nothing is kept back.
    """

    merchant_id: UUID
    base_ccy: str
    fees: tuple[FeeSchedule, ...] = ()
    speed: Speed = Speed.T1
    days: int = 1
    zone: str = "UTC"
    cutoff_s: int = 0
    float_limit_minor: int = 0
    reserve_plan_id: UUID | None = None
    reserve_bps: int = 0
    reserve_days: int = 0

    def schedule(self, ccy: str) -> FeeSchedule | None:
        """The schedule for `ccy`: the merchant's own before the platform's, then the closer one."""
        fitting = [one for one in self.fees if one.ccy is None or one.ccy == ccy]
        if not fitting:
            return None
        return max(fitting, key=lambda one: (one.scope is Scope.MERCHANT, one.ccy is not None))

    def fee_minor(self, amount: Money) -> int:
        """The commission on `amount`, 0 when no schedule fits."""
        schedule = self.schedule(amount.currency)
        return fee(amount, schedule) if schedule else 0


def fee(amount: Money, schedule: FeeSchedule) -> int:
    """The fee on `amount` in its minor units.

    The percentage rounds down, the fixed part is added, the sum is held within the schedule's
    bounds and never exceeds the amount: 0 ≤ fee ≤ amount, monotone in the amount, recomputable from
    amount and version (L12, I10).
    """
    assert amount.minor >= 0, amount
    assert schedule.ccy in (None, amount.currency), (schedule, amount)
    wanted = amount.minor * schedule.pct_bps // BPS + schedule.fixed_minor
    if schedule.max_minor is not None:
        wanted = min(wanted, schedule.max_minor)
    return min(max(wanted, schedule.min_minor), amount.minor)


def check_fee(terms: FeeTerms) -> None:
    """Refuse a schedule that makes no sense. Errors: InputInvalid with a path per field (J37).

    The split takes fees out of the merchant's part by the platform's or the merchant's own schedule: another payer
    or a scope that no sale looks up would be kept and never charged, so both are refused (G04).
    """
    problems = [
        *_range("pctBps", terms.pct_bps, BPS),
        *_range("fixedMinor", terms.fixed_minor, MINOR_MAX),
        *_range("minMinor", terms.min_minor, MINOR_MAX),
    ]
    if terms.max_minor is not None:
        problems += _range("maxMinor", terms.max_minor, MINOR_MAX)
        if terms.max_minor < terms.min_minor:
            problems.append(_wrong("maxMinor", reason="below_min"))
    if terms.ccy is None:
        if terms.fixed_minor or terms.min_minor or terms.max_minor is not None:
            problems.append(_wrong("ccy", reason="fixed_parts_need_a_currency"))
    else:
        problems += _currency("ccy", terms.ccy)
    if (terms.scope is Scope.MERCHANT) != (terms.merchant_id is not None):
        problems.append(_wrong("merchantId", reason="scope"))
    if terms.scope in (Scope.METHOD, Scope.COUNTRY):
        problems.append(_wrong("scope", reason="not_offered"))
    elif terms.subject:
        problems.append(_wrong("subject", reason="scope"))
    if terms.payer is not Payer.MERCHANT:
        problems.append(_wrong("payer", reason="not_offered"))
    _raise(problems)


def check_settlement(speed: Speed, days: int) -> None:
    """Refuse a speed that its days contradict. Errors: InputInvalid."""
    expected = {Speed.T0: range(1), Speed.T1: range(1, 2)}
    if days not in expected.get(speed, range(1, SETTLEMENT_DAYS_MAX + 1)):
        _raise([_wrong("days", reason="speed")])


def check_reserve(kind: ReserveKind, pct_bps: int, days: int) -> None:
    """Refuse a reserve over 100 % or 180 days. Errors: InputInvalid.

    A fixed-sum reserve is refused too: the split cuts shares, nothing would be kept back.
    """
    problems = _range("pctBps", pct_bps, BPS)
    if not 1 <= days <= RESERVE_DAYS_MAX:
        problems.append(_wrong("days", reason="range", min=1, max=RESERVE_DAYS_MAX))
    if kind is ReserveKind.FIXED:
        problems.append(_wrong("kind", reason="not_offered"))
    _raise(problems)


def check_split(legs: Sequence[SplitLeg]) -> None:
    """Refuse a split that does not add up. Errors: InputInvalid with the path of the leg (J37).

    With a remainder leg the shares stay within 10,000 bps; without one they are exactly 10,000 and
    nothing is fixed, so that an amount always has an owner to its last unit.
    """
    if not 1 <= len(legs) <= LEGS_MAX:
        _raise([_wrong("legs", reason="count", min=1, max=LEGS_MAX)])
    problems = []
    for place, leg in enumerate(legs):
        kinds = (leg.pct_bps is not None) + (leg.fixed_minor is not None) + leg.remainder
        if kinds != 1:
            problems.append(_wrong("legs", str(place), reason="one_of"))
        if leg.pct_bps is not None:
            problems += _range("legs", leg.pct_bps, BPS, str(place), "pctBps")
        if leg.fixed_minor is not None:
            problems += _range("legs", leg.fixed_minor, MINOR_MAX, str(place), "fixedMinor")
    names = [leg.leg for leg in legs]
    problems += [
        _wrong("legs", str(place), "leg", reason="twice")
        for place, name in enumerate(names)
        if name in names[:place]
    ]
    remainders = sum(leg.remainder for leg in legs)
    shares = sum(leg.pct_bps or 0 for leg in legs)
    has_fixed = any(leg.fixed_minor is not None for leg in legs)
    if remainders > 1:
        problems.append(_wrong("legs", reason="one_remainder"))
    if shares > BPS or (not remainders and (shares != BPS or has_fixed)):
        problems.append(_wrong("legs", reason="sum", bps=shares))
    _raise(problems)


def check_shop(handle: str, names: Mapping[str, str]) -> None:
    """Refuse a handle that is no plain word of a URL, or no name. Errors: InputInvalid."""
    problems = [*handle_faults(handle), *name_faults(list(names.items()))]
    _raise(problems if names else [*problems, _wrong("names", reason="missing")])


def handle_faults(handle: str) -> list[DomainError]:
    """What is wrong with a handle: it is 3 to 40 letters and digits, with single hyphens inside."""
    if _HANDLE_MIN <= len(handle) <= _HANDLE_MAX and _HANDLE.fullmatch(handle):
        return []
    return [_wrong("handle", reason="handle", min=_HANDLE_MIN, max=_HANDLE_MAX)]


def name_faults(names: Sequence[tuple[str, str]]) -> list[DomainError]:
    """What is wrong with the (language, name) pairs of a shop."""
    return words.line_faults(names, ("input", "names"), "text", NAME_MAX)


def check_merchant(name: str, base_ccy: str, country: str) -> None:
    """Refuse a merchant without a usable name, currency or country. Errors: InputInvalid."""
    problems = [] if _is_line(name, 120) else [_wrong("name", reason="text", max=120)]
    problems += _currency("baseCurrency", base_ccy)
    if not re.fullmatch(r"[A-Z]{2}", country, re.ASCII):
        problems.append(_wrong("country", reason="country"))
    _raise(problems)


def _is_line(text: str, length_max: int) -> bool:
    """One line that people can read: nothing that could forge a mail header or a log line."""
    return bool(text.strip()) and len(text) <= length_max and text.isprintable()


def _wrong(*path: str, **facts: object) -> FieldInvalid:
    return FieldInvalid(path=("input", *path), **facts)


def _range(name: str, value: int, largest: int, *rest: str) -> list[FieldInvalid]:
    if 0 <= value <= largest:
        return []
    return [_wrong(name, *rest, reason="range", min=0, max=largest)]


def _currency(name: str, ccy: str) -> list[FieldInvalid]:
    try:
        exponent(ccy)
    except UnsupportedCurrency:
        return [_wrong(name, reason="currency")]
    return []


def _raise(problems: Sequence[DomainError]) -> None:
    if problems:
        raise InputInvalid(*problems)
