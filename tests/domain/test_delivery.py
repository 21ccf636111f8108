"""Goods that are not on the shelf: handed over by a person or a supplier, paid out only when complete."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from domain import checkout, delivery, ledger, orders
from domain.catalogue import Delivery
from domain.catalogue.ports import SupplyAnswer, SupplyRequest, SupplyState, suppliers
from domain.core import db
from domain.delivery import DeliveryInvalid, NotDelivered
from domain.ledger import AccountKey
from domain.orders import OrderStateConflict
from domain.orders.models import Order
from tests import make


@pytest.fixture(autouse=True)
async def _books(db: None) -> AsyncIterator[None]:
    yield
    assert await ledger.check() == []


class Supplier:
    """Says what it is told to say; counts what it is asked."""

    name = "sim"

    def __init__(self, *answers: SupplyAnswer) -> None:
        self.answers = list(answers)
        self.bought: list[SupplyRequest] = []
        self.queried: list[str] = []

    async def order(self, request: SupplyRequest) -> SupplyAnswer:
        self.bought.append(request)
        return self.answers.pop(0)

    async def query(self, reference: str, *, quantity: int) -> SupplyAnswer:
        self.queried.append(reference)
        return self.answers.pop(0)


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


async def test_i03_i05_a_supplier_is_asked_once_and_then_only_queried() -> None:
    of = await make.shop(keys=0, delivery=Delivery.SUPPLIER)
    supplier = Supplier(
        SupplyAnswer(SupplyState.UNKNOWN),
        SupplyAnswer(SupplyState.PENDING),
        SupplyAnswer(SupplyState.DONE, ("CODE-1", "CODE-2")),
    )
    suppliers["sim"] = supplier
    order = await sold(of, "supplier")
    await delivery.procure(order.id)
    await delivery.procure(order.id)
    supply_id = await db.value("SELECT id FROM supply")
    assert await db.value("SELECT count(*) FROM supply") == 1

    for _ in range(2):
        with pytest.raises(NotDelivered):
            await delivery.supply(supply_id)
    await delivery.supply(supply_id)
    await delivery.supply(supply_id)
    await checkout.fulfil(order.lane)

    assert (len(supplier.bought), len(supplier.queried)) == (1, 2)
    assert await make.status([order.id]) == ["delivered"]
    assert await money(of) == (0, 18_800)
    assert await db.value("SELECT count(*) FROM card_key WHERE state = 'sold'") == 2
