"""Choosing: a cart is priced, its rate locked, its order placed; nothing is reserved and nobody is charged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain import catalogue, fx, geo, identity, orders, partners
from domain.core import audit, clock, db, failpoint, ids, vault
from domain.core.audit import Actor
from domain.core.errors import DomainError, NotFound
from domain.core.money import Money, UnsupportedCurrency
from domain.core.once import Once, claim_many
from domain.core.together import Together
from domain.orders.models import Buyer, Line, Order

ORDER_TTL = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who is at the door, as far as a guest is known; hints for ranking and risk, never authority."""

    address: str
    geo_country: str | None = None
    device_id: str | None = None
    platform: str = ""
    signals: Mapping[str, Any] = field(default_factory=dict)

    @property
    def address_hash(self) -> bytes:
        """The keyed hash of the client's address."""
        return vault.fingerprint("address", self.address)

    @property
    def device_hash(self) -> bytes | None:
        """The keyed hash of the device id the client claims."""
        return vault.fingerprint("device", self.device_id) if self.device_id else None


@dataclass(frozen=True, slots=True)
class Cart:
    """What a buyer asks for: shop handle, (variant, quantity) pairs, contact, market, coupon.

    `expected` is the total the buyer agreed to, `shown` the unit prices (one per line, or none at all), when it has
    to be those. `seller` is the app that places it for the buyer, in its own merchant's shops.
    """

    shop: str
    lines: Sequence[tuple[UUID, int]]
    email: str
    locale: str
    market: geo.Market
    coupon: str | None = None
    expected: Money | None = None
    shown: Sequence[Money | None] = ()
    seller: partners.Seller | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """A placed order, the key that opens it, and the locked rate when prices were converted."""

    order: Order
    access_key: str
    quote: fx.Quote | None


@dataclass(frozen=True, slots=True)
class _Choice:
    """A cart as the shelf has it now, and whose it is."""

    order_id: UUID
    cart: Cart
    found: catalogue.Cart
    email: str
    visitor: Visitor
    once: Once


async def start(cart: Cart, visitor: Visitor, once: Once) -> Started:
    """Price the cart, lock the rate and place the order; nothing is reserved and nobody is charged.

    Idempotent by `once`. Errors: InputInvalid, OutOfStock, PriceChanged, CouponInvalid, UnsupportedCurrency,
    partners.AppLimitExceeded, fx.RateUnavailable, NotFound (shop), once.KeyReused, once.InProgress.
    """
    email = identity.normalise_email(cart.email, path=("input", "contact", "email"))
    try:
        found = await catalogue.cart(
            cart.shop,
            cart.lines,
            currency=cart.market.currency,
            language=cart.market.language,
            coupon=cart.coupon,
            shown=cart.shown,
        )
    except DomainError:
        # The shelf has changed since the first call with this key: its order stands.
        earlier = await once.find()
        if earlier is None:
            raise
        return await started(UUID(earlier["order_id"]))
    placed = await _place(_Choice(orders.new_id(), cart, found, email, visitor, once))
    return placed if isinstance(placed, Started) else await started(placed)


async def _place_set(choices: Sequence[_Choice]) -> list[Started | UUID]:
    """Place the orders of many buyers; for a repeated call the id of the order it made."""
    async with db.transaction():
        earlier = await claim_many([(one.once, {"order_id": str(one.order_id)}) for one in choices])
        fresh = [one for one, known in zip(choices, earlier, strict=True) if known is None]
        quotes: dict[UUID, fx.Quote | None] = {}
        placements = []
        # In the order of their coupons: sets that share two of them never wait for each other in a circle.
        for one in sorted(fresh, key=_coupon):
            priced, quotes[one.order_id] = await _price(one.found)
            if one.cart.expected not in (None, priced.total):
                path = ("input", "expectedTotal")
                raise catalogue.PriceChanged(path=path, total=priced.total, changes=[])
            await _redeem(one)
            placements.append(_placement(one, priced, quotes[one.order_id]))
        sales = await _spend(fresh, placements)
        placed = await orders.place(placements) if placements else {}
        if sales:
            await _note(sales)
        failpoint.reach("place.in_tx")
    failpoint.reach("place.after_commit")
    return [
        Started(placed[one.order_id], vault.access_key(one.order_id), quotes[one.order_id])
        if known is None
        else UUID(known["order_id"])
        for one, known in zip(choices, earlier, strict=True)
    ]


_place = Together("checkout.place", _place_set)


_Sale = tuple[orders.Placement, "partners.Seller", Cart]


async def _spend(choices: Sequence[_Choice], placements: Sequence[orders.Placement]) -> list[_Sale]:
    """Count what apps place against their limits, in the order of their grants: no circle of sets that wait.

    Errors: AppLimitExceeded.
    """
    carts = {one.order_id: one.cart for one in choices if one.cart.seller is not None}
    sales = [
        (placement, seller, cart)
        for placement in placements
        if (cart := carts.get(placement.id)) is not None and (seller := cart.seller) is not None
    ]
    for placement, seller, _ in sorted(sales, key=lambda sale: sale[1].grant_id):
        await partners.spend(seller.grant_id, partners.Scope.CHECKOUT_WRITE, placement.total)
    return sales


async def _note(sales: Sequence[_Sale]) -> None:
    await partners.sell([(placement.id, seller) for placement, seller, _ in sales])
    for placement, seller, cart in sales:
        actor = Actor("app", ids.encode("gnt", seller.grant_id), request_id=cart.request_id)
        await audit.record(
            placement.merchant_id,
            actor,
            "order.placed_by_app",
            placement.id,
            app=ids.encode("app", seller.app_id),
            total_minor=placement.total.minor,
            currency=placement.total.currency,
        )


def _coupon(one: _Choice) -> bytes:
    return one.found.coupon.id.bytes if one.found.coupon else b""


async def _redeem(one: _Choice) -> None:
    if one.found.coupon is not None:
        await catalogue.redeem(
            one.found.merchant_id,
            one.found.coupon.id,
            one.order_id,
            buyer_hash=vault.fingerprint("email", one.email),
        )


def _placement(one: _Choice, priced: catalogue.Priced, quote: fx.Quote | None) -> orders.Placement:
    return orders.Placement(
        one.order_id,
        merchant_id=one.found.merchant_id,
        shop_id=one.found.shop_id,
        buyer=Buyer(
            email=one.email,
            email_hash=vault.fingerprint("email", one.email),
            address_hash=one.visitor.address_hash,
            device_hash=one.visitor.device_hash,
            country=one.cart.market.country,
            locale=one.cart.locale,
        ),
        total=priced.total,
        discount_minor=priced.discount.minor,
        lines=_lines(one.order_id, priced),
        expires_at=clock.now() + ORDER_TTL,
        quote_id=quote.id if quote else None,
        coupon_id=one.found.coupon.id if one.found.coupon else None,
    )


async def _price(found: catalogue.Cart) -> tuple[catalogue.Priced, fx.Quote | None]:
    """List prices as they are; prices without an entry in the cart's currency by one locked rate."""
    if len(found.foreign) > 1:
        raise UnsupportedCurrency(path=("input", "currency"), currency=found.currency)
    quote = None
    for base in found.foreign:
        quote = await fx.quote(base, found.currency)

    def convert(amount: Money) -> Money:
        assert quote is not None, amount
        assert amount.currency == quote.base, amount
        return Money(quote.convert(amount.minor), found.currency)

    priced = catalogue.price(found, convert)
    if priced.total.minor == 0:
        # Nothing to pay is nothing to sell: a coupon may lower a price, not replace the payment.
        raise catalogue.CouponInvalid(path=("input", "coupon"), reason="whole_total")
    return priced, quote


def _lines(order_id: UUID, priced: catalogue.Priced) -> list[Line]:
    return [
        Line(
            id=ids.uuid7(),
            order_id=order_id,
            position=place,
            variant_id=one.line.variant_id,
            delivery=one.line.delivery,
            title=one.line.title,
            quantity=one.line.quantity,
            unit_minor=one.unit.minor,
            discount_minor=one.discount.minor,
            total_minor=one.total.minor,
            done=0,
        )
        for place, one in enumerate(priced.lines)
    ]


async def started(order_id: UUID) -> Started:
    """The answer of an earlier `start`, built again from what it made."""
    view = await orders.view(order_id)
    if view is None:
        raise NotFound()
    quote = await fx.find(view.order.quote_id) if view.order.quote_id else None
    return Started(view.order, vault.access_key(order_id), quote)


def locked_until(quote: fx.Quote | None, order: Order) -> datetime:
    """Until when the shown amount can be paid."""
    return min(order.expires_at, quote.expires_at) if quote else order.expires_at
