"""Short ways to reserve from a shop and to look at its keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from uuid import UUID

from domain import catalogue
from domain.catalogue import Actor, Ask, OutOfStock
from domain.core import clock, ids
from domain.core import db as core
from domain.core.money import Money
from tests import make

LATER = timedelta(minutes=15)
WHO = Actor("merchant", "acc_test", session="s1")
Line = tuple[UUID, UUID, int]
USD = "USD"


def line(shop: make.Shop, quantity: int = 1) -> Line:
    return ids.uuid7(), shop.variant_id, quantity


async def reserve(shop: make.Shop, *lines: Line, order_id: UUID | None = None) -> UUID:
    """Reserve for a new order in a transaction of its own."""
    order = order_id or ids.uuid7()
    async with core.transaction():
        await catalogue.reserve([Ask(order, shop.merchant_id, lines)], clock.now() + LATER)
    return order


async def in_transaction(action: Callable[[], Awaitable[object]]) -> object:
    async with core.transaction():
        return await action()


async def refused(many: Sequence[Awaitable[UUID]]) -> tuple[list[UUID], int]:
    """Run all at once: who got through, and how many were OutOfStock; anything else fails the
    test."""
    results = await asyncio.gather(*many, return_exceptions=True)
    short = [one for one in results if isinstance(one, OutOfStock)]
    won = [one for one in results if isinstance(one, UUID)]
    assert len(short) + len(won) == len(results), results
    return won, len(short)


async def states(shop: make.Shop) -> dict[str, int]:
    rows = await core.fetch(
        "SELECT state, count(*)::int AS n FROM card_key WHERE variant_id = $1 GROUP BY 1",
        shop.variant_id,
    )
    return {row["state"]: row["n"] for row in rows}


async def shown(shop: make.Shop) -> int:
    found = await catalogue.available(shop.merchant_id, [shop.variant_id])
    return found.get(shop.variant_id, 0)


def usd(minor: int) -> Money:
    return Money(minor, USD)


async def cart(
    shop: make.Shop,
    lines: Sequence[tuple[UUID, int]] | None = None,
    *,
    currency: str = USD,
    language: str = "en",
    coupon: str | None = None,
) -> catalogue.Cart:
    """Price one unit of the shop's variant, or `lines`."""
    return await catalogue.cart(
        shop.handle,
        lines or [(shop.variant_id, 1)],
        currency=currency,
        language=language,
        coupon=coupon,
    )
