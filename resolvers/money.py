"""A merchant's money and orders: balances by purpose, statements with the balance after each entry, orders by page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import cast
from uuid import UUID

import strawberry

from domain import identity, ledger, orders
from domain.core import clock, ids
from domain.core.errors import FieldInvalid, NotFound
from domain.core.money import Money
from domain.ledger import AccountKey, Entry
from domain.orders import OrderStatus, OrderView, Wanted
from resolvers import access
from resolvers.context import Asked
from resolvers.orders import Seen
from resolvers.page import Listing, Page
from resolvers.scalars import CurrencyCode

STATEMENT_DAYS_MAX = 366

ORDERS = Listing("merchant.orders", UUID)


@dataclass(frozen=True, slots=True)
class Pot:
    """What a merchant has in one account: `available` is what may leave it now."""

    purpose: str
    balance: Money
    available: Money


@dataclass(frozen=True, slots=True)
class Booked:
    """One entry of a statement."""

    key: str
    kind: str
    amount: Money
    balance: Money
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Sheet:
    """A stretch of a statement, oldest first; `has_more` when it was cut at the longest page."""

    opening: Money
    entries: list[Booked]
    has_more: bool


def _merchant(info: Asked, merchant_id: strawberry.ID) -> UUID:
    try:
        found = ids.decode(merchant_id, "mer")
    except ids.IdInvalid:
        raise NotFound(path=("merchantId",)) from None
    access.require_merchant(info.context, found, *access.MONEY_READERS)
    return found


async def pots(info: Asked, merchant_id: strawberry.ID) -> list[Pot]:
    """Every account of a merchant that was ever used."""
    found = await ledger.balances(_merchant(info, merchant_id))
    return [
        Pot(key.purpose, Money(held.posted, key.ccy), Money(held.available, key.ccy))
        for key, held in found.items()
    ]


async def sheet(
    info: Asked,
    merchant_id: strawberry.ID,
    purpose: str,
    currency: CurrencyCode,
    from_on: date | None = None,
    to_on: date | None = None,
) -> Sheet:
    """The entries of one account between two UTC days, the last 30 when they are omitted."""
    owner = _merchant(info, merchant_id)
    last = to_on or clock.now().date()
    first = from_on or last - timedelta(days=30)
    if not timedelta(0) <= last - first <= timedelta(days=STATEMENT_DAYS_MAX):
        raise FieldInvalid(path=("fromOn",), reason="range")
    if purpose not in ledger.PURPOSES:
        raise FieldInvalid(path=("purpose",), reason="unknown")
    read = await ledger.statement(AccountKey(purpose, owner, "", currency), first, last)
    return Sheet(
        Money(read.opening_minor, currency),
        [_booked(entry, currency) for entry in read.entries],
        read.has_more,
    )


def _booked(entry: Entry, currency: str) -> Booked:
    return Booked(
        entry.key,
        entry.kind,
        Money(entry.amount_minor, currency),
        Money(entry.balance_minor, currency),
        entry.recorded_at,
    )


async def of_merchant(
    info: Asked,
    merchant_id: strawberry.ID,
    first: int | None = None,
    last: int | None = None,
    after: str | None = None,
    before: str | None = None,
    status: list[OrderStatus] | None = None,
    number: str | None = None,
    email: str | None = None,
    placed_from: datetime | None = None,
    placed_before: datetime | None = None,
) -> Page[Seen]:
    """A merchant's orders, newest first; with conditions those that meet all of them. Errors: FieldInvalid (email)."""
    owner = _merchant(info, merchant_id)
    wanted = Wanted(
        frozenset(status or ()),
        number.strip().upper() if number is not None else None,
        identity.normalise_email(email, path=("email",)) if email is not None else None,
        placed_from,
        placed_before,
    )
    window = ORDERS.window(
        owner, *_scope(wanted), first=first, last=last, after=after, before=before
    )
    key = cast("tuple[UUID] | None", window.key)
    rows = await orders.of_merchant(
        owner, wanted, key[0] if key else None, window.limit + 1, backward=window.is_backward
    )
    seen = [Seen(OrderView(row), is_buyer=False, sees_split=True) for row in rows]
    return window.page(
        seen,
        key=lambda one: (one.order.id,),
        total=lambda: orders.count_of_merchant(owner, wanted),
    )


def _scope(wanted: Wanted) -> list[object]:
    """What a cursor is bound to."""
    return [
        sorted(wanted.statuses),
        wanted.number,
        wanted.email,
        wanted.placed_from,
        wanted.placed_before,
    ]
