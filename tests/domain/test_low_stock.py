"""The merchant hears once that a variant runs low, and again only after a refill."""

from __future__ import annotations

from domain import catalogue, checkout, notifications
from domain.core import db as core_db
from tests import horizon, make


async def _sell(shop: make.Shop, count: int) -> None:
    for _ in range(count):
        order = await make.paid(shop)
        await checkout.fulfil(order.lane)
    await horizon.passed()
    while await notifications.collect():
        pass


async def _told() -> list[int]:
    rows = await core_db.fetch(
        "SELECT facts_json FROM notification WHERE template = 'stock_low' ORDER BY created_at"
    )
    return [row["facts_json"]["left"] for row in rows]


async def test_low_stock_is_told_once_when_the_threshold_is_reached(db: None) -> None:
    shop = await make.shop(keys=4)
    await core_db.execute("UPDATE variant SET low_stock_at = 2 WHERE id = $1", shop.variant_id)

    await _sell(shop, 1)
    assert await _told() == []

    await _sell(shop, 1)
    assert await _told() == [2]

    await _sell(shop, 1)
    assert await _told() == [2]
    row = await core_db.row(
        "SELECT audience, recipient FROM notification WHERE template = 'stock_low'"
    )
    assert row is not None
    assert row["audience"] == "merchant"


async def test_after_a_refill_the_next_fall_is_told_again(db: None) -> None:
    shop = await make.shop(keys=3)
    await core_db.execute("UPDATE variant SET low_stock_at = 2 WHERE id = $1", shop.variant_id)
    await _sell(shop, 1)
    await make.stock(shop.merchant_id, shop.variant_id, 2)
    await catalogue.refilled(shop.merchant_id, shop.variant_id)
    await core_db.execute("UPDATE notification SET created_at = created_at - interval '2 days'")

    await _sell(shop, 2)

    assert await _told() == [2, 2]
