"""Orders: read by their buyer or merchant, watched live, refunded."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import strawberry
from strawberry import Parent

from domain import catalogue, checkout, fx, merchants, orders, partners, payments
from domain.core import ids
from domain.core.errors import NotFound
from domain.core.money import Money
from domain.orders import OrderView
from domain.partners import Scope, Source
from domain.payments import Offer
from domain.settlement import FundsLeg
from domain.settlement.rules import buyers_leg
from resolvers import access, page, stepup
from resolvers.context import Asked
from resolvers.gather import Gathered
from resolvers.inputs import MoneyInput
from resolvers.selection import selected

# What a selected field of Order needs to be read.
_PART_OF = {"lines": "lines", "payments": "payments", "timeline": "timeline", "fundsFlow": "funds"}


@dataclass(slots=True)
class Seen:
    """An order as one caller may see it: its buyer is shown the goods, who reads the merchant's money its split.

    `account_id` is the buyer's, when a proved address opened it and not the access key; `grant_id` that of the app
    which placed it and stands in its buyer's place.
    """

    view: OrderView
    is_buyer: bool
    sees_split: bool
    account_id: UUID | None = None
    grant_id: UUID | None = None
    revealed: list[catalogue.Good] | None = None

    @property
    def order(self) -> orders.Order:
        """The row."""
        return self.view.order

    @property
    def goods(self) -> list[catalogue.Good] | None:
        """The goods as far as nobody has to be asked for them; None when they are yet to be revealed."""
        if not self.is_buyer or self.view.order.delivered_at is None:
            return []
        return self.revealed


@dataclass(frozen=True, slots=True)
class Paid:
    """One attempt as a buyer sees it."""

    id: UUID
    state: str
    offer: Offer
    amount: Money
    action: dict[str, Any] | None
    seen: Seen
    access_key: str | None = None  # of an order that this very call placed


@dataclass(slots=True)
class Happened:
    """One event and the order it happened to; `written` is what the door has written it out as."""

    order_id: UUID
    sequence: int
    kind: str
    recorded: str
    seen: Seen
    written: dict[Any, bytes] = field(default_factory=dict)
    _cursor: str | None = None

    @property
    def cursor(self) -> str:
        """The signed place of this event in its order's stream."""
        if self._cursor is None:
            self._cursor = cursor_of(self.order_id, self.sequence)
        return self._cursor

    @property
    def at(self) -> datetime:
        """When it was recorded."""
        return datetime.fromisoformat(self.recorded)


def scope(order_id: UUID) -> str:
    """What the cursors of one order are good for."""
    return f"order.events:{order_id}"


def cursor_of(order_id: UUID, sequence: int) -> str:
    """The signed place of an event in its order's stream."""
    return page.sign(scope(order_id), sequence)


def sequence_of(cursor: str, order_id: UUID) -> int:
    """The sequence behind a cursor of the order's stream. Errors: BadUserInput."""
    return int(page.read(cursor, scope(order_id), int)[0])


def parts_of(info: Asked, *path: str) -> frozenset[str]:
    """Which parts of an order the selection below `path` asks for."""
    return parts_for(selected(info, *path))


def parts_for(names: Iterable[str]) -> frozenset[str]:
    """Which parts of an order these of its fields need."""
    return frozenset(_PART_OF[name] for name in names if name in _PART_OF)


async def by_id(info: Asked, id: strawberry.ID, access_key: str | None = None) -> Seen | None:
    """An order for its buyer (access key, or proved address), its merchant's members or an operator; else None."""
    found = await _look_up(info, id, access_key, parts_of(info))
    if found is not None and not found.is_buyer and not access.reads_orders(info.context):
        return None
    return found


async def _look_up(
    info: Asked, public_id: str, access_key: str | None, parts: frozenset[str]
) -> Seen | None:
    try:
        order_id = ids.decode(public_id, "ord")
    except ids.IdInvalid:
        return None
    is_buyer = await access.is_buyer(info.context, order_id, access_key)
    if not is_buyer and info.context.viewer is None:
        return None
    grant_id = access.selling(info.context) if is_buyer else None
    view = await orders.view(order_id, parts)
    if view is None:
        return None
    account_id = None if is_buyer else access.buyer_of(info.context, view.order)
    is_buyer = is_buyer or account_id is not None
    if not (is_buyer or access.may_see(info.context, view.order.merchant_id)):
        return None
    sees_split = access.may_see_money(info.context, view.order.merchant_id)
    return Seen(view, is_buyer, sees_split, account_id, grant_id)


def of_viewer(info: Asked, row: orders.Order) -> Seen:
    """An order placed with an address that the viewer has proved to read."""
    account_id = access.buyer_of(info.context, row)
    assert account_id is not None, row.id
    sees_split = access.may_see_money(info.context, row.merchant_id)
    return Seen(OrderView(row), is_buyer=True, sees_split=sees_split, account_id=account_id)


async def node(info: Asked, order_id: UUID) -> Seen | None:
    """An order by its node id: members, operators and who has proved its address; a guest needs the access key."""
    return await by_id(info, strawberry.ID(ids.encode("ord", order_id)))


async def _views(pairs: list[tuple[UUID, str]]) -> Sequence[list[list[Any]]]:
    """Missing parts of orders, for fields that were not foreseen from the selection."""
    by_part: dict[str, list[UUID]] = {}
    for order_id, part in pairs:
        by_part.setdefault(part, []).append(order_id)
    found = {part: await orders.views(order_ids, (part,)) for part, order_ids in by_part.items()}
    return [
        view.parts[part] if (view := found[part].get(order_id)) is not None else []
        for order_id, part in pairs
    ]


async def _sources(order_ids: list[UUID]) -> Sequence[Source | None]:
    found = await partners.sources(order_ids)
    return [found.get(order_id) for order_id in order_ids]


async def source(seen: Parent[Seen], info: Asked) -> Source | None:
    """The app that placed an order; None when its buyer did."""
    return await info.context.load(_sources, seen.order.id)


async def part(info: Asked, seen: Seen, name: str) -> list[list[Any]]:
    """A part of an order: read with it, or loaded now together with its siblings."""
    known = seen.view.parts.get(name)
    if known is None:
        known = seen.view.parts[name] = await info.context.load(_views, (seen.order.id, name))
    return known


async def lines(seen: Parent[Seen], info: Asked) -> list[orders.Line]:
    """The lines of an order, by position."""
    return [
        orders.Line(UUID(row[0]), seen.order.id, row[1], UUID(row[2]), *row[3:])
        for row in await part(info, seen, "lines")
    ]


async def _shops(shop_ids: list[UUID]) -> Sequence[merchants.Shop]:
    found = await merchants.shops(shop_ids)
    return [found[shop_id] for shop_id in shop_ids]


async def shop(seen: Parent[Seen], info: Asked) -> merchants.Shop:
    """The shop an order was placed in."""
    return await info.context.load(_shops, seen.order.shop_id)


async def quote(seen: Parent[Seen], info: Asked) -> fx.Quote | None:
    """The rate that was locked for an order; None when its prices were listed in its currency."""
    if seen.order.quote_id is None:
        return None
    return await info.context.load(fx.find_many, seen.order.quote_id)


async def paid(seen: Parent[Seen], info: Asked) -> list[Paid]:
    """The attempts of an order, oldest first."""
    return [
        Paid(
            UUID(row[0]),
            row[1],
            offer_of(row[6], row[2]),
            Money(row[3], row[4]),
            row[5] if seen.is_buyer else None,  # the way to pay is the buyer's
            seen,
        )
        for row in await part(info, seen, "payments")
    ]


async def saved(seen: Parent[Seen], info: Asked) -> list[payments.SavedMethod]:
    """What the buyer can pay by at once; nobody else is shown it."""
    if not seen.is_buyer:
        return []
    if seen.account_id is not None:
        # Whoever was given the key has the whole chain; an address shows what was saved with it only (E19).
        root = await info.context.load(_roots, seen.order.id)
        if root is None or access.buyer_of(info.context, root) is None:
            return []
    return await info.context.load(checkout.saved_methods, seen.order.id)


async def _roots(order_ids: list[UUID]) -> Sequence[orders.Order | None]:
    """The first orders of the chains that these belong to."""
    roots = await orders.roots(order_ids)
    found = await orders.views(set(roots.values()))
    return [
        view.order if (view := found.get(roots[order_id])) is not None else None
        for order_id in order_ids
    ]


def offer_of(provider: str, code: str) -> Offer:
    """The method something was paid or saved by, also when its provider was uninstalled since."""
    for offer in payments.offers():
        if offer.provider == provider and offer.method.code == code:
            return offer
    return payments.retired(provider, code)


async def timeline(seen: Parent[Seen], info: Asked) -> list[Happened]:
    """Everything that happened to an order, in order."""
    return [
        Happened(seen.order.id, row[0], row[1], row[3], seen)
        for row in await part(info, seen, "timeline")
    ]


async def funds(seen: Parent[Seen], info: Asked) -> list[FundsLeg]:
    """Where the money of an order went; the seller's parts are one for who may not read the seller's money."""
    found: dict[tuple[str, str], FundsLeg] = {}
    for row in await part(info, seen, "funds"):
        leg, minor, returned_minor, ccy = row[:4]
        name = leg if seen.sees_split else buyers_leg(leg)
        amount, returned = Money(minor, ccy), Money(returned_minor, ccy)
        if (before := found.get((name, ccy))) is not None:
            amount, returned = before.amount + amount, before.returned + returned
        found[name, ccy] = FundsLeg(name, amount, returned)
    return list(found.values())


def goods(
    seen: Parent[Seen], info: Asked
) -> list[catalogue.Good] | Awaitable[list[catalogue.Good]]:
    """The goods, revealed under audit to the buyer alone; empty before delivery."""
    known = seen.goods
    return known if known is not None else _reveal(seen, info.context.request_id)


async def _reveal(seen: Seen, request_id: str) -> list[catalogue.Good]:
    order = seen.order
    actor = _visitor(seen, request_id)
    found = await _revealing.load(catalogue.Reveal(order.id, order.merchant_id, actor))
    seen.revealed = found
    return found


def _visitor(seen: Seen, request_id: str) -> catalogue.Actor:
    """Who is shown goods. Key, account and app are one visitor each, however often: one reveal, one audit row."""
    if seen.grant_id is not None:
        grant = ids.encode("gnt", seen.grant_id)
        return catalogue.Actor("app", grant, session=f"app:{grant}", request_id=request_id)
    if seen.account_id is None:
        return catalogue.Actor("buyer", seen.order.number, session="buyer", request_id=request_id)
    account = str(seen.account_id)
    return catalogue.Actor("account", account, session=f"account:{account}", request_id=request_id)


_revealing = Gathered(catalogue.reveal)


@strawberry.input(description="Give money back to the buyer of an order.")
class RequestRefundInput:
    """Without an amount everything that is left goes back."""

    order_id: strawberry.ID = strawberry.field(description="The order.")
    amount: MoneyInput | None = strawberry.field(
        default=None,
        description="How much; everything that is left when omitted. In the order's currency.",
    )
    reason: str = strawberry.field(
        default="requested", description="Why, for the records; up to 64 characters."
    )


@dataclass(frozen=True, slots=True)
class Refunded:
    """Refunds that are under way for an order."""

    seen: Seen
    refunds: list[payments.Refund]


async def request_refund(info: Asked, input: RequestRefundInput) -> Refunded:
    """Book a refund and send it to the provider; its progress is on the order's timeline."""
    seen = await _look_up(info, input.order_id, None, parts_of(info))
    if seen is None:
        raise NotFound(path=("input", "orderId"))
    access.require_merchant(info.context, seen.order.merchant_id, *access.REFUNDERS)
    amount = input.amount.parse("input", "amount") if input.amount else None
    await stepup.for_refund(info.context, seen.order, amount)
    refunds = await checkout.request_refund(
        seen.order.id,
        amount,
        reason=input.reason[:64] or "requested",
        asked_by=info.context.caller,
        once=info.context.once(info),
        allowed=access.limit(info.context, Scope.REFUNDS_WRITE),
    )
    view = await orders.view(seen.order.id, parts_of(info, "order"))
    assert view is not None
    return Refunded(Seen(view, is_buyer=False, sees_split=True), refunds)
