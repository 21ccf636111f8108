"""What becomes of an order when money arrives: in time, late, short, over, out of stock, held, closed.

This is the one place that decides it. Money is always kept in view: every branch names where it rests.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from domain.orders.rules import CLOSED, OrderStatus


class Outcome(StrEnum):
    """What the set does with an order and its new money."""

    DELIVER = "deliver"  # keys sold, money split
    START_DELIVERY = "start_delivery"  # by hand or by a supplier: money waits in buyer_held until the goods exist
    SHORT = "short"  # paid, but no stock: buyer_held, restock or refund
    RETURN = "return"  # late and no stock: buyer_held, refunded without a person
    HOLD = "hold"  # risk looks at it: buyer_held, goods not revealed
    WAIT = "wait"  # paid in part: buyer_held, the remainder is asked
    SURPLUS = "surplus"  # nothing left to pay for: suspense, refunded without a person
    NOTHING = "nothing"  # no new money


class Arrival(NamedTuple):
    """An order and the money that arrived for it, in minor units of the order's currency.

    `is_plain` when nothing is left to deliver by hand or by a supplier.
    """

    status: OrderStatus
    total_minor: int
    kept_before_minor: int
    arrived_minor: int
    is_expired: bool
    is_held_by_risk: bool
    is_plain: bool

    @property
    def is_late(self) -> bool:
        """Whether the money came after the order was closed or its time was over."""
        return self.status in CLOSED or self.is_expired


# States in which an order still waits for something that money or goods can give it.
_OPEN = frozenset(
    {
        OrderStatus.AWAITING_PAYMENT,
        OrderStatus.PAID,
        OrderStatus.HELD,
        OrderStatus.SHORT,
        OrderStatus.EXPIRED,
        OrderStatus.CANCELLED,
    }
)


def wants_stock(arrival: Arrival) -> bool:
    """Whether this order should take its keys now: fully charged, open, and not held by risk."""
    whole = arrival.kept_before_minor + arrival.arrived_minor >= arrival.total_minor
    return arrival.status in _OPEN and whole and not arrival.is_held_by_risk


def outcome(arrival: Arrival, *, has_stock: bool) -> Outcome:
    """The rule of the sale. `has_stock` tells whether the keys of the order were taken in this set."""
    if arrival.status is OrderStatus.DELIVERING and not arrival.arrived_minor:
        return Outcome.DELIVER if arrival.is_plain else Outcome.NOTHING
    if arrival.status not in _OPEN:
        return Outcome.SURPLUS if arrival.arrived_minor else Outcome.NOTHING
    if arrival.kept_before_minor + arrival.arrived_minor < arrival.total_minor:
        return Outcome.WAIT if arrival.arrived_minor else Outcome.NOTHING
    if arrival.is_held_by_risk:
        return Outcome.HOLD
    if not has_stock:
        return Outcome.RETURN if arrival.is_late else Outcome.SHORT
    return Outcome.DELIVER if arrival.is_plain else Outcome.START_DELIVERY


def surplus_minor(arrival: Arrival) -> int:
    """How much of the arrived money is above what is still to pay."""
    missing = max(0, arrival.total_minor - arrival.kept_before_minor)
    return max(0, arrival.arrived_minor - missing)


STATUS = {
    Outcome.DELIVER: OrderStatus.DELIVERED,
    Outcome.START_DELIVERY: OrderStatus.DELIVERING,
    Outcome.SHORT: OrderStatus.SHORT,
    Outcome.RETURN: OrderStatus.SHORT,
    Outcome.HOLD: OrderStatus.HELD,
}
PARK_REASON = {
    Outcome.START_DELIVERY: "delivering",
    Outcome.SHORT: "short",
    Outcome.RETURN: "short",
    Outcome.HOLD: "held",
    Outcome.WAIT: "partial",
    Outcome.SURPLUS: "surplus",
}
WAITS_FOR = {
    OrderStatus.SHORT: "short",
    OrderStatus.HELD: "held",
    OrderStatus.DELIVERING: "delivering",
}
INTENT = {
    Outcome.DELIVER: "succeeded",
    Outcome.START_DELIVERY: "succeeded",
    Outcome.SHORT: "succeeded",
    Outcome.RETURN: "succeeded",
    Outcome.HOLD: "succeeded",
    Outcome.SURPLUS: "succeeded",
    Outcome.WAIT: "partially_captured",
}

# No new attempt may start: nothing is left to pay, or nobody may pay it any more.
CLOSED_FOR_PAY = frozenset(OrderStatus) - {OrderStatus.AWAITING_PAYMENT}
