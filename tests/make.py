"""Builders: a merchant with a shop, things to sell, orders and payments, each in one call."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from domain import catalogue, merchants, orders, payments
from domain.catalogue import Delivery, Limits, PriceList, Source, Text
from domain.core import clock, db, ids, vault
from domain.core.money import Money
from domain.merchants import FeeTerms, ReserveKind, Scope, Speed
from domain.orders.models import Buyer, Line, Order, Placement
from domain.payments.models import Attempt
from domain.payments.ports import Fact

HUNDRED = Money(10_000, "USD")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Shop:
    """A merchant, its shop and one variant to sell."""

    merchant_id: UUID
    shop_id: UUID
    handle: str
    product_id: UUID
    variant_id: UUID
    price: Money


async def shop(
    *,
    keys: int = 10,
    price: Money = HUNDRED,
    delivery: Delivery = Delivery.STOCK,
    commission_bps: int = 600,
    reserve_bps: int = 0,
    speed: Speed = Speed.T0,
) -> Shop:
    """An open shop with `keys` card keys of one variant at `price`."""
    number = next(_numbers)
    merchant_id = await merchants.open_merchant(
        f"Shop {number}",
        base_ccy=price.currency,
        country="HK",
        contact_email=f"m{number}@example.com",
    )
    handle = f"shop-{number}-{ids.base32(ids.uuid7().int & (1 << 40) - 1, 8)}"
    shop_id = await merchants.open_shop(merchant_id, handle, {"en": f"Shop {number}"})
    await merchants.set_fee(
        FeeTerms(pct_bps=commission_bps, scope=Scope.MERCHANT, merchant_id=merchant_id)
    )
    days = {Speed.T0: 0, Speed.T1: 1, Speed.TN: 7}[speed]
    await merchants.set_settlement(merchant_id, speed, days=days)
    if reserve_bps:
        await merchants.set_reserve(
            merchant_id, ReserveKind.ROLLING, pct_bps=reserve_bps, days=30, reason="test"
        )
    product_id = await catalogue.add_product(merchant_id, shop_id, {"en": Text("Game card")})
    source = Source(delivery, "sim", "sku-1") if delivery is Delivery.SUPPLIER else Source(delivery)
    variant_id = await catalogue.add_variant(
        merchant_id,
        product_id,
        {"en": "One"},
        source,
        PriceList([price], price.currency),
        limits=Limits(max_quantity=5_000),
    )
    if keys:
        await stock(merchant_id, variant_id, keys)
    merchants.forget()
    return Shop(merchant_id, shop_id, handle, product_id, variant_id, price)


async def stock(merchant_id: UUID, variant_id: UUID, keys: int) -> None:
    """Put `keys` fresh card keys on the shelf."""
    async with db.transaction():
        lot_no = await db.value(
            "INSERT INTO stock_lot (merchant_id, variant_id) VALUES ($1, $2) RETURNING no",
            merchant_id,
            variant_id,
        )
        first = next(_numbers) * 1_000_000
        await catalogue.put(
            merchant_id, variant_id, lot_no, [f"KEY-{first + place:010d}" for place in range(keys)]
        )


def buyer(email: str = "buyer@example.com") -> Buyer:
    """A guest in Hong Kong."""
    return Buyer(email, vault.fingerprint("email", email), b"a" * 16, None, "HK", "en")


async def order(
    of: Shop,
    *,
    quantity: int = 1,
    expires_in: timedelta = timedelta(minutes=30),
    delivery: str = "stock",
) -> Order:
    """A placed, unpaid order of `quantity` units."""
    order_id = orders.new_id()
    total = of.price * quantity
    line = Line(
        ids.uuid7(),
        order_id,
        0,
        of.variant_id,
        delivery,
        "One",
        quantity,
        of.price.minor,
        0,
        total.minor,
        0,
    )
    placement = Placement(
        order_id,
        merchant_id=of.merchant_id,
        shop_id=of.shop_id,
        buyer=buyer(),
        total=total,
        discount_minor=0,
        lines=[line],
        expires_at=clock.now() + expires_in,
    )
    async with db.transaction():
        return (await orders.place([placement]))[order_id]


async def attempt(
    of: Order,
    *,
    amount: Money | None = None,
    reserve: bool = True,
    must_authenticate: bool = False,
) -> Attempt:
    """An attempt the provider has accepted, its goods reserved."""
    async with db.transaction():
        await orders.lock_one(of.id)
        opening = payments.Opening(
            payments.new_id(),
            order_id=of.id,
            merchant_id=of.merchant_id,
            lane=of.lane,
            provider="sandbox",
            account="main",
            method="sandbox",
            amount=amount or of.total,
            must_authenticate=must_authenticate,
        )
        made = (await payments.open_attempts([opening]))[of.id]
        if reserve:
            lines = (await orders.lines([of.id]))[of.id]
            wanted = [(line.id, line.variant_id, line.quantity) for line in lines]
            ask = catalogue.Ask(of.id, of.merchant_id, wanted)
            await catalogue.reserve([ask], clock.now() + timedelta(minutes=30))
        await db.execute(
            "UPDATE payment_attempt SET state = 'requires_action' WHERE id = $1", made.id
        )
    made.state = "requires_action"
    return made


async def word(
    of: Attempt,
    state: str = "captured",
    *,
    amount: Money | None = None,
    event_id: str | None = None,
    at: datetime | None = None,
    account: str | None = None,
    is_authenticated: bool = False,
) -> int:
    """The provider says `state` about an attempt; how many words were new."""
    fact = Fact(
        event_id=event_id or f"evt-{next(_numbers)}",
        subject="attempt",
        reference=ids.encode("pay", of.id),
        provider_ref=f"sb-{of.id}",
        state=state,
        amount=amount or of.requested,
        occurred_at=at or clock.now(),
        is_authenticated=is_authenticated,
    )
    return await payments.put(
        of.provider, account or of.provider_account, [fact], body=fact.event_id.encode()
    )


async def paid(of: Shop, *, quantity: int = 1) -> Order:
    """An order whose money has arrived and waits in the inbox."""
    placed = await order(of, quantity=quantity)
    await word(await attempt(placed))
    return placed


async def status(order_ids: Sequence[UUID]) -> list[str]:
    """The states of orders, in the order asked."""
    rows = await db.fetch("SELECT id, status FROM orders WHERE id = ANY($1)", list(order_ids))
    found = {row["id"]: row["status"] for row in rows}
    return [found[order_id] for order_id in order_ids]
