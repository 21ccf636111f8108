"""What may happen to an order, what an event is called, and what its payment state is."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

from domain.core import ids
from domain.core.errors import DomainError

LANES = 4
LINES_MAX = 100


class OrderStatus(StrEnum):
    """Where an order stands (CASES.md M05)."""

    AWAITING_PAYMENT = "awaiting_payment"
    PAID = "paid"
    DELIVERING = "delivering"
    DELIVERED = "delivered"
    HELD = "held"
    SHORT = "short"
    REFUNDED = "refunded"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DISPUTED = "disputed"


_S = OrderStatus

# The one table of order states. EXPIRED and CANCELLED are left by late money only.
NEXT: dict[OrderStatus, frozenset[OrderStatus]] = {
    _S.AWAITING_PAYMENT: frozenset(
        {
            _S.PAID,
            _S.DELIVERING,
            _S.DELIVERED,
            _S.HELD,
            _S.SHORT,
            _S.EXPIRED,
            _S.CANCELLED,
            _S.REFUNDED,
        }
    ),
    _S.PAID: frozenset({_S.DELIVERING, _S.DELIVERED, _S.HELD, _S.SHORT, _S.REFUNDED, _S.DISPUTED}),
    _S.HELD: frozenset({_S.DELIVERING, _S.DELIVERED, _S.SHORT, _S.REFUNDED, _S.DISPUTED}),
    _S.SHORT: frozenset({_S.DELIVERING, _S.DELIVERED, _S.HELD, _S.REFUNDED, _S.DISPUTED}),
    _S.DELIVERING: frozenset({_S.DELIVERED, _S.SHORT, _S.REFUNDED, _S.DISPUTED}),
    _S.DELIVERED: frozenset({_S.REFUNDED, _S.DISPUTED}),
    _S.DISPUTED: frozenset({_S.PAID, _S.DELIVERED, _S.REFUNDED}),
    _S.EXPIRED: frozenset({_S.PAID, _S.DELIVERING, _S.DELIVERED, _S.HELD, _S.SHORT, _S.REFUNDED}),
    _S.CANCELLED: frozenset({_S.PAID, _S.DELIVERING, _S.DELIVERED, _S.HELD, _S.SHORT, _S.REFUNDED}),
    _S.REFUNDED: frozenset(),
}

CLOSED = frozenset({_S.EXPIRED, _S.CANCELLED})


class OrderPaymentState(StrEnum):
    """Derived from facts, never set (CASES.md M06)."""

    NOT_CHARGED = "not_charged"
    PARTIALLY_CHARGED = "partially_charged"
    FULLY_CHARGED = "fully_charged"
    OVERPAID = "overpaid"
    PARTIALLY_REFUNDED = "partially_refunded"
    FULLY_REFUNDED = "fully_refunded"
    DISPUTED = "disputed"


class EventKind(StrEnum):
    """Everything that can happen to an order, as the event log spells it."""

    PLACED = "order.placed"
    STARTED = "payment.started"
    DECLINED = "payment.declined"
    FAILED = "payment.failed"
    VOIDED = "payment.voided"
    UNKNOWN = "payment.unknown"
    AUTHENTICATED = "payment.authenticated"
    UNAUTHENTICATED = "payment.unauthenticated"
    PARTIAL = "payment.partial"
    OVERPAID = "payment.overpaid"
    LATE = "payment.late"
    MANUAL = "payment.manual"
    MISMATCH = "payment.mismatch"
    PAID = "order.paid"
    HELD = "order.held"
    SHORT = "order.short"
    DELIVERING = "order.delivering"
    DELIVERED = "order.delivered"
    EXPIRED = "order.expired"
    CANCELLED = "order.cancelled"
    REFUND_STARTED = "refund.started"
    REFUND_SUCCEEDED = "refund.succeeded"
    REFUND_FAILED = "refund.failed"
    REFUNDED = "order.refunded"
    REVOKED = "goods.revoked"
    REPORTED = "goods.reported"
    REPORT_CONFIRMED = "goods.confirmed"
    REPORT_REFUSED = "goods.refused"
    REPLACED = "goods.replaced"
    RELEASED = "risk.released"
    RISK_DECLINED = "risk.declined"


class OrderStateConflict(DomainError):
    """The order is not in a state that allows this; `status` is the current one."""

    code = "ORDER_STATE_CONFLICT"


def may(source: OrderStatus, target: OrderStatus) -> bool:
    """Whether the table allows `source → target`."""
    return target in NEXT[source]


def payment_state(
    *, total_minor: int, captured_minor: int, returned_minor: int, disputes_open: int
) -> OrderPaymentState:
    """The payment state from its facts, all in minor units of the order's currency.

    Precedence: disputed, overpaid, fully and partially refunded, fully and partially charged, not charged.
    """
    kept = captured_minor - returned_minor
    if disputes_open:
        return OrderPaymentState.DISPUTED
    if kept > total_minor:
        return OrderPaymentState.OVERPAID
    if captured_minor and not kept:
        return OrderPaymentState.FULLY_REFUNDED
    if returned_minor and kept < total_minor:
        return OrderPaymentState.PARTIALLY_REFUNDED
    if captured_minor >= total_minor:
        return OrderPaymentState.FULLY_CHARGED
    if captured_minor:
        return OrderPaymentState.PARTIALLY_CHARGED
    return OrderPaymentState.NOT_CHARGED


def lane(merchant_id: UUID) -> int:
    """The writer that owns a merchant's money, 0 … LANES − 1."""
    return merchant_id.int % LANES


def number(order_id: UUID, day: str) -> str:
    """The order's serial on every later record: `K261122-7F3K9QZ2AB`, from the random part of its id."""
    return f"K{day}-{ids.base32(order_id.int & (1 << 50) - 1, 10).upper()}"
