"""The rows of an order as plain values; written with set-based SQL, so they are no active records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from domain.core.money import Money
from domain.orders.rules import OrderPaymentState, OrderStatus, payment_state


@dataclass(slots=True)
class Order:
    """One order; `captured_minor` and `returned_minor` are sums of facts kept under the row's lock.

    `key_units` stock keys complete it; `is_plain` when it has no line that is not a stock key.
    """

    id: UUID
    number: str
    merchant_id: UUID
    shop_id: UUID
    lane: int
    email: str
    country: str
    locale: str
    total_minor: int
    discount_minor: int
    ccy: str
    settle_ccy: str
    quote_id: UUID | None
    coupon_id: UUID | None
    status: OrderStatus
    captured_minor: int
    returned_minor: int
    disputes_open: int
    risk_hold: bool
    key_units: int
    is_plain: bool
    version: int
    event_seq: int
    expires_at: datetime
    created_at: datetime
    paid_at: datetime | None
    delivered_at: datetime | None

    @property
    def total(self) -> Money:
        """What the buyer is asked to pay."""
        return Money(self.total_minor, self.ccy)

    @property
    def payment_state(self) -> OrderPaymentState:
        """Derived from the facts, never stored."""
        return payment_state(
            total_minor=self.total_minor,
            captured_minor=self.captured_minor,
            returned_minor=self.returned_minor,
            disputes_open=self.disputes_open,
        )


COLUMNS = (
    "id, number, merchant_id, shop_id, lane, email, country, locale, total_minor, discount_minor, ccy,"
    " settle_ccy, quote_id, coupon_id, status, captured_minor, returned_minor, disputes_open, risk_hold, key_units,"
    " is_plain, version,"
    " event_seq, expires_at, created_at, paid_at, delivered_at"
)
_PLACES = {name.strip(): place for place, name in enumerate(COLUMNS.split(","))}
_STATUSES = {status.value: status for status in OrderStatus}


def order(row: Any) -> Order:
    """An Order from a record that starts with COLUMNS."""
    found = Order(*row[: len(_PLACES)])
    found.status = _STATUSES[found.status]
    return found


@dataclass(slots=True)
class Held:
    """An order under its lock as a set of sales sees it: half the columns cost a set half as much."""

    id: UUID
    merchant_id: UUID
    total_minor: int
    ccy: str
    quote_id: UUID | None
    coupon_id: UUID | None
    status: OrderStatus
    captured_minor: int
    risk_hold: bool
    key_units: int
    is_plain: bool
    event_seq: int
    expires_at: datetime
    is_paid: bool


HELD_COLUMNS = (
    "id, merchant_id, total_minor, ccy, quote_id, coupon_id, status, captured_minor, risk_hold, key_units,"
    " is_plain, event_seq, expires_at, paid_at IS NOT NULL"
)


def held(row: Any) -> Held:
    """A Held from a record of HELD_COLUMNS."""
    found = Held(*row)
    found.status = _STATUSES[found.status]
    return found


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an order; `done` of `quantity` units are delivered."""

    id: UUID
    order_id: UUID
    position: int
    variant_id: UUID
    delivery: str
    title: str
    quantity: int
    unit_minor: int
    discount_minor: int
    total_minor: int
    done: int


LINE_COLUMNS = (
    "id, order_id, position, variant_id, delivery, title, quantity, unit_minor, discount_minor,"
    " total_minor, done"
)


@dataclass(frozen=True, slots=True)
class Buyer:
    """Who orders, as far as a guest is known: contact and keyed hashes of what recognises them."""

    email: str
    email_hash: bytes
    address_hash: bytes
    device_hash: bytes | None
    country: str
    locale: str


@dataclass(frozen=True, slots=True)
class Placement:
    """An order about to be placed: who buys which lines from whom, for how much, until when.

    Units: minor units of `total.currency`.
    """

    id: UUID
    merchant_id: UUID
    shop_id: UUID
    buyer: Buyer
    total: Money
    discount_minor: int
    lines: Sequence[Line]
    expires_at: datetime
    quote_id: UUID | None = None
    coupon_id: UUID | None = None

    @property
    def key_units(self) -> int:
        """How many stock keys complete it."""
        return sum(line.quantity for line in self.lines if line.delivery == "stock")

    @property
    def is_plain(self) -> bool:
        """Whether stock keys are all it takes."""
        return all(line.delivery == "stock" for line in self.lines)


class Change(NamedTuple):
    """What one order becomes at the end of a set: absolute values, the row is locked."""

    id: UUID
    status: OrderStatus
    captured_minor: int
    event_seq: int
