"""The arithmetic of exchange: exact rates, floors for us, a table that crosses currencies.

Rates have 12 digits after the point. Every product is one of whole numbers and is rounded once: an
exchange rounds down (what is left stays with the house), a price rounds half up. No float, no
context.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from domain.core.errors import DomainError
from domain.core.money import CURRENCIES, MINOR_MAX, UnsupportedCurrency, exponent
from domain.fx.ports import FeedFailed, Published

PIVOT = "EUR"
BPS = 10_000

# The charged rate stays within 0.3 % of the reference, seen from either side: 1 / (1 − 0.0029) <
# 1.003.
FEE_BPS_MAX = 29

LOCK_MIN_S = 600
LOCK_S = 900
_LOCKS = ((0, "none"), (900, "15m"), (3_600, "1h"), (86_400, "24h"))

# The provider of rates that a person set.
BY_HAND = "by-hand"

_SCALE = 10**12
_NEVER = datetime.max.replace(tzinfo=UTC)
_RATE_MIN, _RATE_MAX = Decimal("1e-9"), Decimal("1e12")


class RateUnavailable(DomainError):
    """No current rate: the feed is dead or stale, or the rate jumped and nobody has looked at it.

    Facts: `base` and `target` currencies, `reason` one of `no_rates`, `stale`, `jump`.
    """

    code = "RATE_UNAVAILABLE"
    retryable = True


class RateState(StrEnum):
    """Whether a stored rate is in force."""

    LIVE = "live"
    SUSPECT = "suspect"


@dataclass(frozen=True, slots=True)
class Rate:
    """A stored reference rate: one unit of `from_ccy` is `value` units of `to_ccy`."""

    from_ccy: str
    to_ccy: str
    value: Decimal
    provider: str
    taken_at: datetime
    stale_at: datetime | None = None
    state: RateState = RateState.LIVE

    @property
    def source(self) -> str:
        """What people are shown: "ecb:2026-10-30"."""
        return f"{self.provider}:{self.taken_at:%Y-%m-%d}"


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference rate between two currencies, 12 digits, rounded down, and whose word it is."""

    value: Decimal
    source: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """What an exchange pays out and what the spread keeps, both in minor units of `to_ccy`."""

    to_minor: int
    spread_minor: int


@dataclass(frozen=True, slots=True)
class Terms:
    """A rate somebody may trade at: `from_ccy` is paid in, `to_ccy` is paid out or priced in."""

    from_ccy: str
    to_ccy: str
    reference_rate: Decimal
    fee_bps: int
    exchange_rate: Decimal

    def exchange(self, from_minor: int) -> Exchange:
        """`floor(from × exchange_rate × 10^(exp_to − exp_from))`, and the spread: the same at the
        reference, less that. Both are ≥ 0; together they never exceed the reference value.
        """
        to_minor = self._out(from_minor, self.exchange_rate)
        return Exchange(to_minor, self._out(from_minor, self.reference_rate) - to_minor)

    def price(self, to_minor: int) -> int:
        """What a price of `to_minor` costs in minor units of `from_ccy`: half up, never free.

        Half a minor unit is the most it is off the charged rate; below some hundred minor units
        that is more than the 0.3 % the rate itself keeps. Errors: UnsupportedCurrency beyond 2^63 −
        1 minor.
        """
        assert to_minor >= 0, to_minor
        above = to_minor * _SCALE * _units(self.from_ccy)
        below = whole(self.exchange_rate) * _units(self.to_ccy)
        found = (2 * above + below) // (2 * below)
        if found > MINOR_MAX:
            raise UnsupportedCurrency(currency=self.from_ccy)
        return max(found, 1) if to_minor else 0

    def _out(self, from_minor: int, rate: Decimal) -> int:
        assert from_minor >= 0, from_minor
        above = from_minor * whole(rate) * _units(self.to_ccy)
        return above // (_SCALE * _units(self.from_ccy))


def terms(from_ccy: str, to_ccy: str, reference_rate: Decimal, fee_bps: int) -> Terms:
    """`exchange_rate = reference_rate × (1 − fee_bps/10⁴)`, 12 digits, rounded down."""
    assert 0 <= fee_bps <= FEE_BPS_MAX, fee_bps
    assert from_ccy != to_ccy, from_ccy
    charged = whole(reference_rate) * (BPS - fee_bps) // BPS
    if charged == 0:
        raise UnsupportedCurrency(currency=to_ccy)
    return Terms(from_ccy, to_ccy, reference_rate, fee_bps, _rate(charged))


def whole(rate: Decimal) -> int:
    """A rate as a whole number of 10⁻¹²; exact, or an AssertionError for a longer one."""
    sign, digits, power = rate.as_tuple()
    assert isinstance(power, int), rate
    assert not sign, rate
    number = int("".join(map(str, digits)))
    shift = power + 12
    if shift >= 0:
        return number * int(10**shift)
    found, rest = divmod(number, int(10**-shift))
    assert rest == 0, rate
    return found


def _units(currency: str) -> int:
    """Minor units in one major unit."""
    return int(10 ** exponent(currency))


def _rate(scaled: int) -> Decimal:
    return Decimal(f"{scaled // _SCALE}.{scaled % _SCALE:012d}")


def inverse(rate: Decimal) -> Decimal:
    """1 ÷ rate to the nearest 12th digit: for eyes, never for arithmetic."""
    scaled = whole(rate)
    return _rate((2 * _SCALE * _SCALE + scaled) // (2 * scaled))


def lock_kind(lock_s: int) -> str:
    """The smallest named lock that covers `lock_s` seconds."""
    return next(name for seconds, name in _LOCKS if lock_s <= seconds)


class Table:
    """All rates in force at once: direct, reverse and crossed through the euro.

    `newest_no` is the number of the newest stored row. Build one per change; look-ups are
    remembered.
    """

    def __init__(self, rates: Iterable[Rate], newest_no: int = 0) -> None:
        self.rates: Mapping[tuple[str, str], Rate] = {
            (rate.from_ccy, rate.to_ccy): rate for rate in rates
        }
        self.newest_no = newest_no
        self.currencies = frozenset(ccy for pair in self.rates for ccy in pair)
        self._usable = _NEVER, _NEVER, frozenset[str]()
        self._paths: dict[tuple[str, str], tuple[Reference, tuple[Rate, ...]]] = {}

    def reference(self, from_ccy: str, to_ccy: str, at: datetime) -> Reference:
        """The reference rate at a time.

        Errors: RateUnavailable, UnsupportedCurrency for a currency no
        feed knows.
        """
        found, legs = self._path(from_ccy, to_ccy)
        for leg in legs:
            if leg.state is not RateState.LIVE:
                raise RateUnavailable(base=to_ccy, target=from_ccy, reason="jump")
            if leg.stale_at is not None and at >= leg.stale_at:
                raise RateUnavailable(base=to_ccy, target=from_ccy, reason="stale")
        return found

    def last_known(self, from_ccy: str, to_ccy: str) -> Reference:
        """The reference rate however old: to weigh risk by, never to charge by."""
        return self._path(from_ccy, to_ccy)[0]

    def usable(self, at: datetime) -> frozenset[str]:
        """The currencies that can be converted into one another at a time; asked in every request."""
        from_at, until_at, found = self._usable
        if not from_at <= at < until_at:
            found = frozenset(ccy for ccy in self.currencies if self._is_usable(ccy, at))
            ends = (rate.stale_at for rate in self.rates.values())
            until_at = min((end for end in ends if end is not None and end > at), default=_NEVER)
            self._usable = at, until_at, found
        return found

    def _is_usable(self, currency: str, at: datetime) -> bool:
        try:
            self.reference(currency, PIVOT, at)
        except (RateUnavailable, UnsupportedCurrency):
            return False
        return True

    def _path(self, from_ccy: str, to_ccy: str) -> tuple[Reference, tuple[Rate, ...]]:
        found = self._paths.get((from_ccy, to_ccy))
        if found is None:
            found = self._paths[from_ccy, to_ccy] = self._find(from_ccy, to_ccy)
        return found

    def _find(self, from_ccy: str, to_ccy: str) -> tuple[Reference, tuple[Rate, ...]]:
        if not self.rates:
            raise RateUnavailable(base=to_ccy, target=from_ccy, reason="no_rates")
        legs = self._leg(from_ccy, to_ccy)
        if legs is None:
            inward, outward = self._leg(from_ccy, PIVOT), self._leg(PIVOT, to_ccy)
            if inward is None or outward is None:
                raise UnsupportedCurrency(currency=from_ccy if inward is None else to_ccy)
            legs = (inward[0] * outward[0], inward[1] + outward[1])
        exact, used = legs
        scaled = exact.numerator * _SCALE // exact.denominator
        if scaled == 0:
            raise UnsupportedCurrency(currency=to_ccy)
        source = "+".join(dict.fromkeys(rate.source for rate in used)) or "same"
        return Reference(_rate(scaled), source), used

    def _leg(self, from_ccy: str, to_ccy: str) -> tuple[Fraction, tuple[Rate, ...]] | None:
        if from_ccy == to_ccy:
            return Fraction(1), ()
        direct = self.rates.get((from_ccy, to_ccy))
        if direct is not None:
            return Fraction(direct.value), (direct,)
        reverse = self.rates.get((to_ccy, from_ccy))
        return (1 / Fraction(reverse.value), (reverse,)) if reverse is not None else None


def checked(published: Published) -> dict[str, Decimal]:
    """The usable rates of an answer: known currencies, positive, finite, cut to 12 digits.

    Errors: FeedFailed when the base is unknown or nothing is left; one bad entry spoils the answer.
    """
    if published.base not in CURRENCIES:
        raise FeedFailed(provider=published.provider, reason="base")
    found: dict[str, Decimal] = {}
    for currency, rate in published.rates.items():
        if not rate.is_finite() or not _RATE_MIN <= rate <= _RATE_MAX:
            raise FeedFailed(provider=published.provider, reason=f"rate of {currency[:12]}")
        if currency in CURRENCIES and currency != published.base:
            exact = Fraction(rate)
            found[currency] = _rate(exact.numerator * _SCALE // exact.denominator)
    if not found:
        raise FeedFailed(provider=published.provider, reason="no rates")
    return found


def is_jump(last: Decimal, new: Decimal, jump_bps: int) -> bool:
    """Whether `new` is further than `jump_bps` from `last`."""
    return abs(whole(new) - whole(last)) * BPS > whole(last) * jump_bps


def sift(
    published: Published,
    newest: Mapping[tuple[str, str], Rate],
    live: Mapping[tuple[str, str], Rate],
    jump_bps: int,
) -> list[Rate]:
    """The rows a feed's answer adds: what is new, and what jumped so far that a person must look.

    `newest` and `live` are the newest row and the newest live row of each pair. Left out: what is
    stored already, and an answer older than the last one of the same provider.
    """
    rows = []
    for currency, value in sorted(checked(published).items()):
        pair = (published.base, currency)
        last, good = newest.get(pair), live.get(pair)
        jumped = good is not None and is_jump(good.value, value, jump_bps)
        rate = Rate(
            *pair,
            value,
            published.provider,
            published.taken_at,
            published.stale_at,
            RateState.SUSPECT if jumped else RateState.LIVE,
        )
        if last is None or not _is_known(last, rate):
            rows.append(rate)
    return rows


def _is_known(last: Rate, rate: Rate) -> bool:
    if last.provider == BY_HAND:  # a person's rate gives way to a newer table, not to the same one
        return rate.taken_at <= last.taken_at
    if last.provider != rate.provider:
        return False
    is_same = (last.value, last.stale_at) == (rate.value, rate.stale_at)
    return rate.taken_at < last.taken_at or (is_same and last.state is rate.state)
