"""Settlement: the split of every capture, reserves, releases, and what a person has to look at."""

from domain.settlement.actions import (
    close_exception,
    cover_merchant,
    draw_reserve,
    exceptions,
    legs_of,
    open_exception,
    release_due,
    release_reserves,
    return_legs,
    shrink_item,
    surplus_left,
    undo_cover,
)
from domain.settlement.booking import book, key_of
from domain.settlement.models import Booking, BookingKind, FundsLeg, StoredLeg
from domain.settlement.rules import Leg, RefundExceedsCaptured

__all__ = [
    "Booking",
    "BookingKind",
    "FundsLeg",
    "Leg",
    "RefundExceedsCaptured",
    "StoredLeg",
    "book",
    "close_exception",
    "cover_merchant",
    "draw_reserve",
    "exceptions",
    "key_of",
    "legs_of",
    "open_exception",
    "release_due",
    "release_reserves",
    "return_legs",
    "shrink_item",
    "surplus_left",
    "undo_cover",
]
