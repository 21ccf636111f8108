"""What a rule may ask: velocity, amount, list, country, throw-away e-mail; typed and frozen."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from domain.core.errors import FieldInvalid

BUCKET_S = 300
WINDOW_MAX_S = 86_400
COUNTRY_FIELDS = ("country", "geo_country", "card_country")
_DOMAIN = re.compile(r"[a-z0-9.-]{3,253}", re.ASCII)


class PivotKind(StrEnum):
    """What payments are counted and listed by; each is a keyed hash."""

    EMAIL = "email"
    ADDRESS = "address"
    DEVICE = "device"
    PAYER = "payer"


class EntryList(StrEnum):
    """What an entry says about a pivot."""

    BLOCK = "block"
    SANCTIONS = "sanctions"
    STOLEN_CARD = "stolen_card"
    WATCH = "watch"
    ALLOW = "allow"
    SNOOZE = "snooze"


class Measure(StrEnum):
    """What velocity adds up."""

    DECISIONS = "decisions"
    ORDERS = "orders"
    USD_MINOR = "usd_minor"


class RuleKind(StrEnum):
    """The condition of a rule."""

    VELOCITY = "velocity"
    AMOUNT = "amount"
    LISTED = "listed"
    COUNTRY_MISMATCH = "country_mismatch"
    DISPOSABLE_EMAIL = "disposable_email"


@dataclass(frozen=True, slots=True)
class Count:
    """What one pivot did inside one window before this payment."""

    decisions: int = 0
    orders: int = 0
    usd_minor: int = 0

    def __add__(self, more: Count) -> Count:
        return Count(
            self.decisions + more.decisions,
            self.orders + more.orders,
            self.usd_minor + more.usd_minor,
        )

    def to_json(self) -> list[int]:
        """The three numbers, nothing when all are zero."""
        return [self.decisions, self.orders, self.usd_minor] if self != _ZERO else []


_ZERO = Count()


@dataclass(frozen=True, slots=True)
class Velocity:
    """More than `limit` of `measure` by one pivot within `window_s`, this payment included.

    Windows are whole five-minute buckets, up to a day. `limit_development` replaces the limit
    outside production.
    """

    pivot: PivotKind
    measure: Measure
    window_s: int
    limit: int
    limit_development: int | None = None

    def is_passed(self, before: Count, usd_minor: int, is_first: bool, is_production: bool) -> bool:
        """Whether this payment goes above the limit; an order counts once."""
        limit = self.limit
        if not is_production and self.limit_development is not None:
            limit = self.limit_development
        match self.measure:
            case Measure.DECISIONS:
                return before.decisions + 1 > limit
            case Measure.ORDERS:
                return before.orders + is_first > limit
            case Measure.USD_MINOR:
                return before.usd_minor + usd_minor * is_first > limit


@dataclass(frozen=True, slots=True)
class Amount:
    """One order above so many US cents."""

    above_usd_minor: int


@dataclass(frozen=True, slots=True)
class Listed:
    """One of the payment's pivots is on `list`."""

    list: EntryList


@dataclass(frozen=True, slots=True)
class CountryMismatch:
    """Two known countries differ on an order above so many US cents; unknown ones never do."""

    left: str
    right: str
    above_usd_minor: int = 0


@dataclass(frozen=True, slots=True)
class DisposableEmail:
    """The e-mail's domain is one that anybody can read, on an order above so many US cents."""

    domains: frozenset[str]
    above_usd_minor: int = 0


Condition = Velocity | Amount | Listed | CountryMismatch | DisposableEmail


def parse(kind: str, params: Mapping[str, Any]) -> Condition:
    """A condition from the row of a rule. Errors: FieldInvalid (kind, parameters)."""
    read = _READ.get(kind)
    if read is None:
        raise FieldInvalid(path=("kind",), reason=f"no kind {kind!r}")
    left = dict(params)
    try:
        found = read(left)
    except (KeyError, ValueError, TypeError) as error:
        raise FieldInvalid(path=("params",), reason=f"{kind}: {error}") from None
    if left:
        raise FieldInvalid(path=("params",), reason=f"{kind} has no parameter {min(left)!r}")
    return found


def params(condition: Condition) -> tuple[RuleKind, dict[str, Any]]:
    """The kind and the JSON parameters that `parse` reads back."""
    match condition:
        case Velocity():
            found: dict[str, Any] = {
                "pivot": condition.pivot,
                "measure": condition.measure,
                "window_s": condition.window_s,
                "limit": condition.limit,
            }
            if condition.limit_development is not None:
                found["limit_development"] = condition.limit_development
            return RuleKind.VELOCITY, found
        case Amount():
            return RuleKind.AMOUNT, {"above_usd_minor": condition.above_usd_minor}
        case Listed():
            return RuleKind.LISTED, {"list": condition.list}
        case CountryMismatch():
            return RuleKind.COUNTRY_MISMATCH, {
                "left": condition.left,
                "right": condition.right,
                "above_usd_minor": condition.above_usd_minor,
            }
        case DisposableEmail():
            return RuleKind.DISPOSABLE_EMAIL, {
                "domains": sorted(condition.domains),
                "above_usd_minor": condition.above_usd_minor,
            }


def _whole(value: Any, *, least: int = 0) -> int:
    if type(value) is not int or value < least:
        raise ValueError(f"{value!r} is not a whole number of at least {least}")
    return value


def _velocity(left: dict[str, Any]) -> Velocity:
    window_s = _whole(left.pop("window_s"), least=BUCKET_S)
    if window_s > WINDOW_MAX_S or window_s % BUCKET_S:
        raise ValueError(f"window_s is a multiple of {BUCKET_S} up to {WINDOW_MAX_S}")
    development = left.pop("limit_development", None)
    return Velocity(
        PivotKind(left.pop("pivot")),
        Measure(left.pop("measure")),
        window_s,
        _whole(left.pop("limit")),
        None if development is None else _whole(development),
    )


def _country_mismatch(left: dict[str, Any]) -> CountryMismatch:
    names = left.pop("left"), left.pop("right")
    if any(name not in COUNTRY_FIELDS for name in names) or names[0] == names[1]:
        raise ValueError(f"left and right are two of {COUNTRY_FIELDS}")
    return CountryMismatch(*names, _whole(left.pop("above_usd_minor", 0)))


def _disposable_email(left: dict[str, Any]) -> DisposableEmail:
    domains = frozenset(str(domain) for domain in left.pop("domains"))
    if not domains or any(not _DOMAIN.fullmatch(domain) for domain in domains):
        raise ValueError("domains are lower-case host names")
    return DisposableEmail(domains, _whole(left.pop("above_usd_minor", 0)))


_READ: dict[str, Callable[[dict[str, Any]], Condition]] = {
    RuleKind.VELOCITY: _velocity,
    RuleKind.AMOUNT: lambda left: Amount(_whole(left.pop("above_usd_minor"))),
    RuleKind.LISTED: lambda left: Listed(EntryList(left.pop("list"))),
    RuleKind.COUNTRY_MISMATCH: _country_mismatch,
    RuleKind.DISPOSABLE_EMAIL: _disposable_email,
}
