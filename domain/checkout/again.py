"""Buying again: one call prices today's catalogue, places the order and charges a saved method.

It is `start` and `pay` one after the other, each found again under its own step of the caller's key: whatever
refuses there refuses here, and a call that died in between goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from domain import fx, geo, merchants, orders
from domain.checkout import saving
from domain.checkout.paying import Paying, pay
from domain.checkout.starting import Cart, Started, Visitor, start
from domain.core import vault
from domain.core.errors import DomainError, NotFound
from domain.core.money import Money
from domain.core.once import Once
from domain.orders import OrderView
from domain.payments import SavedMethod

STEP = "pay"


@dataclass(frozen=True, slots=True)
class Wish:
    """An earlier order, opened by its key, and what is bought now: `lines` None are those of that order.

    `currency` None is that order's; `expected` is the total the buyer agreed to, `shown` the unit prices of `lines`,
    when it has to be those.
    """

    order_id: UUID
    access_key: str
    saved_id: UUID
    lines: Sequence[tuple[UUID, int]] | None = None
    shown: Sequence[Money | None] = ()
    coupon: str | None = None
    currency: str | None = None
    expected: Money | None = None


@dataclass(frozen=True, slots=True)
class Bought:
    """The new order's attempt, and the key that opens it."""

    paying: Paying
    access_key: str


async def buy_again(wish: Wish, visitor: Visitor, once: Once) -> Bought:
    """Place a new order at today's prices and charge it by a saved method of the earlier order's buyer.

    Idempotent by `once`. A refusal before an order is placed changes nothing; when the charge cannot start, the new
    order waits for payment, and the same call again pays that one. Errors: those of `start` and `pay`, NotFound for
    a wrong key, another buyer's method and a revoked one, catalogue.PriceChanged (`expected`).
    """
    view = await orders.view(wish.order_id, ("lines",))
    if view is None or not vault.is_access_key(wish.order_id, wish.access_key):
        raise NotFound()
    earlier = await once.find()
    saved = await saving.find(wish.order_id, wish.saved_id)
    if earlier is None:
        if saved.revoked_at is not None:
            raise NotFound()
        order_id = (await _place(view, wish, visitor, once)).order.id
    else:
        order_id = UUID(earlier["order_id"])
    await orders.descend(order_id, wish.order_id)
    return await _charge(order_id, saved, visitor, once)


async def _place(view: OrderView, wish: Wish, visitor: Visitor, once: Once) -> Started:
    earlier = view.order
    shop = (await merchants.shops([earlier.shop_id]))[earlier.shop_id]
    market = geo.market(
        explicit=earlier.country,
        currency=wish.currency or earlier.ccy,
        language=earlier.locale,
        payable=fx.payable(),
    )
    same = [(line.variant_id, line.quantity) for line in view.lines]
    cart = Cart(
        shop=shop.handle,
        lines=same if wish.lines is None else wish.lines,
        email=earlier.email,
        locale=earlier.locale,
        market=market,
        coupon=wish.coupon,
        expected=wish.expected,
        shown=wish.shown,
    )
    return await start(cart, visitor, once)


async def _charge(order_id: UUID, saved: SavedMethod, visitor: Visitor, once: Once) -> Bought:
    """Pay the placed order; what the caller's key remembers is what came of the charge, never that none began."""
    access_key, step = vault.access_key(order_id), once.step(STEP)
    try:
        paying = await pay(
            order_id, saved.method, visitor, step, access_key=access_key, saved_id=saved.id
        )
    except DomainError:
        _remember(once, step)
        raise
    _remember(once, step)
    return Bought(paying, access_key)


def _remember(once: Once, step: Once) -> None:
    if step.is_claimed:
        once.goes_on()
    elif not step.is_replay:
        once.stays_open()
