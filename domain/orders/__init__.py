"""Orders: what a buyer asked for, where it stands, and everything that happened to it."""

from domain.orders.actions import (
    change_many,
    due_to_expire,
    hold,
    line_done,
    lines,
    lines_done,
    lock,
    lock_one,
    move,
    new_id,
    place,
    returned,
    tell,
)
from domain.orders.models import Buyer, Change, Line, Order
from domain.orders.queries import PARTS, OrderView, came_late, of_merchant, view, views
from domain.orders.rules import (
    LANES,
    LINES_MAX,
    EventKind,
    OrderPaymentState,
    OrderStateConflict,
    OrderStatus,
)

__all__ = [
    "LANES",
    "LINES_MAX",
    "PARTS",
    "Buyer",
    "Change",
    "EventKind",
    "Line",
    "Order",
    "OrderPaymentState",
    "OrderStateConflict",
    "OrderStatus",
    "OrderView",
    "came_late",
    "change_many",
    "due_to_expire",
    "hold",
    "line_done",
    "lines",
    "lines_done",
    "lock",
    "lock_one",
    "move",
    "new_id",
    "of_merchant",
    "place",
    "returned",
    "tell",
    "view",
    "views",
]
