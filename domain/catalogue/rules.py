"""What things cost and who may have how many: prices, wholesale tiers, coupons, limits, hold
quotas.

**Precedence (case B14), the same in cart and charge, always the best for the buyer:**
1. The unit price is the lowest of the list price and every wholesale tier whose quantity the line
reaches.
2. A price list of one currency is complete in itself: its price and its tiers. Without an entry
   in the buyer's currency the base currency's price and tiers count, converted unit by unit.
3. One coupon comes off the sum of the lines it is for. A percentage rounds down to whole minor
   units; a fixed amount is at most that sum. It is spread over the lines in proportion and adds
   up exactly.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from domain.core.errors import DomainError, FieldInvalid, InputInvalid
from domain.core.money import MINOR_MAX, Money

LINES_MAX = 100
QUANTITY_MAX = 10_000
TITLE_MAX = 240
BPS = 10_000
# Shown as stock of what never runs out: reusable keys without a limit, goods made by hand or by a
# supplier.
UNLIMITED = 1_000_000


class Delivery(StrEnum):
    """How a variant's goods come to be."""

    STOCK = "stock"  # one key of ours per unit
    REUSABLE = "reusable"  # one content for every buyer
    MANUAL = "manual"  # a person writes it
    SUPPLIER = "supplier"  # bought when sold


class CouponKind(StrEnum):
    """What a coupon takes off."""

    FIXED = "fixed"
    PERCENT = "percent"


class OutOfStock(DomainError):
    """Fewer than asked are left; `available` could be ordered now. Stock may come back:
    retryable."""

    code = "OUT_OF_STOCK"
    retryable = True


class CouponInvalid(DomainError):
    """The coupon cannot be used for this order; `reason` is a fact for logs, never for guessing
    codes."""

    code = "COUPON_INVALID"


class PriceChanged(DomainError):
    """The catalogue's price is not the one the buyer was shown (B09, J04): `changes` has each new
    one, `unit_price` the first."""

    code = "PRICE_CHANGED"


class HoldLimit(DomainError):
    """This buyer holds, or let lapse, too much unpaid stock already (case D05)."""

    code = "HOLD_LIMIT"
    retryable = True


@dataclass(frozen=True, slots=True)
class Tier:
    """From `from_quantity` units on, each costs `unit`."""

    from_quantity: int
    unit: Money


@dataclass(frozen=True, slots=True)
class CartLine:
    """One line as the catalogue knows it now. `unit` and `tiers` are in the cart's currency, or
    in the variant's base currency when its list has no entry there. `available` None never runs
    out. `shown` is the unit price the buyer saw, None when the client did not say."""

    variant_id: UUID
    product_id: UUID
    title: str
    quantity: int
    unit: Money
    tiers: tuple[Tier, ...]
    available: int | None
    delivery: Delivery
    min_quantity: int
    max_quantity: int
    region: str | None = None
    shown: Money | None = None


@dataclass(frozen=True, slots=True)
class NewPrice:
    """What a unit costs now, where a buyer was shown another price; `place` counts lines from 0."""

    place: int
    variant_id: UUID
    unit: Money


@dataclass(frozen=True, slots=True)
class Coupon:
    """A coupon that may be used now. `amount` (fixed ones) and `min_total` as in CartLine.unit."""

    id: UUID
    code: str
    kind: CouponKind
    percent_bps: int = 0
    amount: Money | None = None
    min_total: Money | None = None
    product_ids: frozenset[UUID] = frozenset()

    def covers(self, line: CartLine) -> bool:
        """Whether the line is one the coupon is for; a coupon without products is for all."""
        return not self.product_ids or line.product_id in self.product_ids


@dataclass(frozen=True, slots=True)
class Cart:
    """What a buyer wants of one shop, with everything a price needs."""

    shop_id: UUID
    merchant_id: UUID
    currency: str
    lines: tuple[CartLine, ...]
    coupon: Coupon | None = None

    @property
    def foreign(self) -> frozenset[str]:
        """Base currencies that must be converted before this cart can be priced."""
        amounts = [line.unit for line in self.lines]
        if self.coupon:
            amounts += [one for one in (self.coupon.amount, self.coupon.min_total) if one]
        return frozenset(one.currency for one in amounts) - {self.currency}


@dataclass(frozen=True, slots=True)
class PricedLine:
    """A line with its price: `total` = `unit` × quantity − `discount`, all in the cart's
    currency."""

    line: CartLine
    unit: Money
    discount: Money
    total: Money


@dataclass(frozen=True, slots=True)
class Priced:
    """What a cart costs: `total` = Σ line totals = `subtotal` − `discount`, never below zero."""

    lines: tuple[PricedLine, ...]
    subtotal: Money
    discount: Money
    total: Money


def check_lines(lines: Sequence[tuple[UUID, int]]) -> None:
    """Refuse no lines, too many, a variant twice, a quantity that is none (J03, J28). Errors:
    InputInvalid."""
    if not 1 <= len(lines) <= LINES_MAX:
        raise InputInvalid(
            FieldInvalid(path=("input", "lines"), reason="count", min=1, max=LINES_MAX)
        )
    faults: list[DomainError] = []
    seen: set[UUID] = set()
    for place, (variant_id, quantity) in enumerate(lines):
        if variant_id in seen:
            faults.append(FieldInvalid(path=_path(place, "variantId"), reason="twice"))
        seen.add(variant_id)
        if not 1 <= quantity <= QUANTITY_MAX:
            faults.append(
                FieldInvalid(path=_path(place, "quantity"), reason="range", min=1, max=QUANTITY_MAX)
            )
    if faults:
        raise InputInvalid(*faults)


def check_limits(lines: Sequence[CartLine]) -> None:
    """Refuse quantities outside a variant's limits, then what is not there.

    Errors: InputInvalid with every line at fault; OutOfStock of the first line that is short.
    """
    faults: list[DomainError] = [
        FieldInvalid(
            path=_path(place, "quantity"),
            reason="limits",
            min=line.min_quantity,
            max=line.max_quantity,
        )
        for place, line in enumerate(lines)
        if not line.min_quantity <= line.quantity <= line.max_quantity
    ]
    if faults:
        raise InputInvalid(*faults)
    for place, line in enumerate(lines):
        if line.available is not None and line.quantity > line.available:
            raise OutOfStock(
                path=_path(place, "quantity"),
                variant_id=line.variant_id,
                available=max(0, line.available),
            )


def unknown_variants(places: Sequence[int]) -> InputInvalid:
    """The refusal of variants that this shop does not sell, each with its path."""
    return InputInvalid(
        *(FieldInvalid(path=_path(place, "variantId"), reason="unknown") for place in places)
    )


def _path(place: int, name: str) -> tuple[str, ...]:
    return ("input", "lines", str(place), name)


def best_unit(unit: Money, tiers: Sequence[Tier], quantity: int) -> Money:
    """The lowest of the list price and the tiers that `quantity` reaches; all in one currency."""
    return min([unit, *(tier.unit for tier in tiers if tier.from_quantity <= quantity)])


def price(cart: Cart, convert: Callable[[Money], Money]) -> Priced:
    """What the cart costs, by the precedence above.

    `convert` turns an amount of a base currency (`cart.foreign`) into the cart's; it is not asked
    about amounts that are in the cart's already. Errors: PriceChanged when a buyer was shown
    another unit price, CouponInvalid when the coupon does not fit the lines, InputInvalid when the
    total cannot be booked.
    """

    def local(amount: Money) -> Money:
        return amount if amount.currency == cart.currency else convert(amount)

    units = [local(best_unit(line.unit, line.tiers, line.quantity)) for line in cart.lines]
    _check_shown(cart.lines, units)
    gross = [unit.minor * line.quantity for unit, line in zip(units, cart.lines, strict=True)]
    off = [0] * len(gross)
    if cart.coupon is not None:
        off = _discounts(cart.coupon, cart.lines, gross, local)
    if sum(gross) > MINOR_MAX:
        raise InputInvalid(FieldInvalid(path=("input", "lines"), reason="total"))
    lines = tuple(
        PricedLine(
            line,
            unit,
            Money(less, cart.currency),
            Money(full - less, cart.currency),
        )
        for line, unit, full, less in zip(cart.lines, units, gross, off, strict=True)
    )
    return Priced(
        lines,
        Money(sum(gross), cart.currency),
        Money(sum(off), cart.currency),
        Money(sum(gross) - sum(off), cart.currency),
    )


def _check_shown(lines: Sequence[CartLine], units: Sequence[Money]) -> None:
    changes = [
        NewPrice(place, line.variant_id, unit)
        for place, (line, unit) in enumerate(zip(lines, units, strict=True))
        if line.shown is not None and line.shown != unit
    ]
    if changes:
        first = changes[0]
        path = _path(first.place, "unitPrice")
        raise PriceChanged(path=path, unit_price=first.unit, changes=changes)


def _discounts(
    coupon: Coupon,
    lines: Sequence[CartLine],
    gross: Sequence[int],
    local: Callable[[Money], Money],
) -> list[int]:
    eligible = [
        minor if coupon.covers(line) else 0 for line, minor in zip(lines, gross, strict=True)
    ]
    base = sum(eligible)
    least = local(coupon.min_total).minor if coupon.min_total else 0
    if not any(coupon.covers(line) for line in lines):
        raise CouponInvalid(path=("input", "coupon"), reason="products")
    if base < least:
        raise CouponInvalid(path=("input", "coupon"), reason="min_total")
    if coupon.kind is CouponKind.PERCENT:
        off = base * coupon.percent_bps // BPS
    else:
        assert coupon.amount is not None, coupon
        off = min(base, local(coupon.amount).minor)
    return spread(off, eligible)


def spread(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in parts proportional to `weights`: they add up exactly and none exceeds its weight.

    Units: minor. `total` is at most Σ weights; each part is its weight's share, less than one
    unit off.
    """
    base = sum(weights)
    assert 0 <= total <= base, (total, weights)
    parts: list[int] = []
    reached = given = 0
    for weight in weights:
        reached += weight
        upto = total * reached // base if base else 0
        parts.append(upto - given)
        given = upto
    return parts


def languages(asked: str, *fallbacks: str) -> list[str]:
    """In which order to look for a text: as asked, its base language, then the fallbacks; no
    doubles."""
    wanted = [asked, asked.partition("-")[0], *fallbacks, "en"]
    return list(dict.fromkeys(one for one in wanted if one))


def fold(text: str) -> str:
    """The form in which texts are searched: compatibility forms and case do not matter."""
    return unicodedata.normalize("NFKC", text).casefold()


def coupon_code(text: str) -> str:
    """The form in which coupon codes are stored and compared."""
    return unicodedata.normalize("NFKC", text).strip().upper()


@dataclass(frozen=True, slots=True)
class Holding:
    """What one fingerprint of a buyer holds unpaid now, and how often it let a hold lapse in a
    day."""

    orders: int = 0
    units: int = 0
    lapsed: int = 0

    def __add__(self, more: Holding) -> Holding:
        return Holding(
            self.orders + more.orders, self.units + more.units, self.lapsed + more.lapsed
        )


NOTHING_HELD = Holding()


@dataclass(frozen=True, slots=True)
class HoldLimits:
    """How much unpaid stock of one merchant may wait on one buyer. An address may be a whole
    office."""

    orders: Mapping[str, int] = field(
        default_factory=lambda: {"email": 5, "device": 5, "address": 200}
    )
    units: Mapping[str, int] = field(
        default_factory=lambda: {"email": 2_500, "device": 2_500, "address": 20_000}
    )
    lapsed: Mapping[str, int] = field(
        default_factory=lambda: {"email": 10, "device": 10, "address": 400}
    )


HOLD_LIMITS = HoldLimits()


def check_hold(held: Mapping[str, Holding], units: int, limits: HoldLimits = HOLD_LIMITS) -> None:
    """Refuse one more hold of `units` for a buyer who holds too much (case D05).

    `held` maps "email", "device" and "address" to what that fingerprint holds. A first hold of
    any size is always allowed, so that a big honest order is. Errors: HoldLimit with the
    fingerprint's name.
    """
    for name, holding in held.items():
        is_over = (
            holding.orders >= limits.orders[name]
            or (holding.orders > 0 and holding.units + units > limits.units[name])
            or holding.lapsed >= limits.lapsed[name]
        )
        if is_over:
            raise HoldLimit(by=name)
