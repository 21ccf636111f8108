"""Settlement: the split of every capture, reserves, releases, and what a person has to look at."""

from domain.settlement.actions import (
    cover_merchant,
    draw_reserve,
    legs_of,
    release_due,
    release_reserves,
    return_legs,
    shrink_item,
    surplus_left,
    undo_cover,
)
from domain.settlement.booking import book, key_of
from domain.settlement.exceptions import (
    Closing,
    ExceptionClosed,
    close_exception,
    close_explained,
    exceptions,
    find_exception,
    open_exception,
)
from domain.settlement.models import Booking, BookingKind, FundsLeg, MoneyException, StoredLeg
from domain.settlement.rules import Leg, RefundExceedsCaptured

__all__ = [
    "Booking",
    "BookingKind",
    "Closing",
    "ExceptionClosed",
    "FundsLeg",
    "Leg",
    "MoneyException",
    "RefundExceedsCaptured",
    "StoredLeg",
    "book",
    "close_exception",
    "close_explained",
    "cover_merchant",
    "draw_reserve",
    "exceptions",
    "find_exception",
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
