"""Goods that are not on the shelf: handed over by a person or a supplier, paid out only when complete."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from domain import checkout, delivery, ledger, orders
from domain.catalogue import Delivery
from domain.core import db
from domain.delivery import DeliveryInvalid
from domain.ledger import AccountKey
from domain.orders import OrderStateConflict
from domain.orders.models import Order
from tests import make


@pytest.fixture(autouse=True)
async def _books(db: None) -> AsyncIterator[None]:
    yield
    assert await ledger.check() == []


async def sold(of: make.Shop, kind: str, *, quantity: int = 2) -> Order:
    order = await make.order(of, quantity=quantity, delivery=kind)
    await make.word(await make.attempt(order))
    await checkout.fulfil(order.lane)
    return order


async def money(of: make.Shop) -> tuple[int, int]:
    held = await ledger.balance(AccountKey("buyer_held", of.merchant_id, "", "USD"))
    paid = await ledger.balance(AccountKey("merchant_available", of.merchant_id, "", "USD"))
    return held.posted, paid.posted


async def test_goods_by_hand_pay_the_merchant_with_the_last_unit() -> None:
    of = await make.shop(keys=0, delivery=Delivery.MANUAL)
    order = await sold(of, "manual")
    [line] = (await orders.lines([order.id]))[order.id]
    assert await make.status([order.id]) == ["delivering"]

    await delivery.deliver(order.id, line.id, ["first"], note="by hand")
    await checkout.fulfil(order.lane)
    assert await make.status([order.id]) == ["delivering"]
    assert await money(of) == (20_000, 0)

    await delivery.deliver(order.id, line.id, ["second"], note="by hand")
    await checkout.fulfil(order.lane)
    assert await make.status([order.id]) == ["delivered"]
    assert await money(of) == (0, 18_800)

    with pytest.raises(OrderStateConflict):
        await delivery.deliver(order.id, line.id, ["third"], note="by hand")


async def test_more_goods_than_a_line_lacks_are_refused_whole() -> None:
    of = await make.shop(keys=0, delivery=Delivery.MANUAL)
    order = await sold(of, "manual")
    [line] = (await orders.lines([order.id]))[order.id]

    with pytest.raises(DeliveryInvalid):
        await delivery.deliver(order.id, line.id, ["a", "b", "c"], note="by hand")

    assert await db.value("SELECT count(*) FROM card_key") == 0
    assert (await orders.lines([order.id]))[order.id][0].done == 0
