"""Stock under many hands: never two owners, never half an order, whole or not at all."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from domain import catalogue
from domain.catalogue import Ask, Delivery, OutOfStock
from domain.core import clock, ids
from domain.core import db as core
from tests import make
from tests.domain.shelves import (
    LATER,
    in_transaction,
    line,
    refused,
    reserve,
    shown,
    states,
)


@pytest.mark.parametrize(("buyers", "keys"), [(2, 1), (100, 10), (200, 1)])
async def test_d01_many_buyers_few_keys_each_key_one_owner(
    db: None, buyers: int, keys: int
) -> None:
    shop = await make.shop(keys=keys)

    won, short = await refused([reserve(shop, line(shop)) for _ in range(buyers)])

    assert (len(won), short) == (keys, buyers - keys)
    owners = await core.fetch("SELECT order_id FROM card_key WHERE state = 'reserved'")
    assert sorted(row["order_id"] for row in owners) == sorted(won)
    assert await states(shop) == {"reserved": keys}
    assert await shown(shop) == 0


async def test_d01_five_wanted_four_left_takes_none(db: None) -> None:
    shop = await make.shop(keys=4)

    with pytest.raises(OutOfStock) as caught:
        await reserve(shop, line(shop, 5))

    assert caught.value.facts["available"] == 4
    assert await states(shop) == {"available": 4}
    assert await core.value("SELECT count(*) FROM stock_hold") == 0
    assert await shown(shop) == 4


async def test_d01_an_order_of_two_variants_is_whole_or_nothing(db: None) -> None:
    shop = await make.shop(keys=5)
    scarce = await second_variant(shop, keys=1)

    with pytest.raises(OutOfStock):
        await reserve(shop, line(shop, 3), (ids.uuid7(), scarce, 2))

    assert await states(shop) == {"available": 5}
    order = await reserve(shop, line(shop, 3), (ids.uuid7(), scarce, 1))
    assert await core.value("SELECT count(*) FROM card_key WHERE order_id = $1", order) == 4


async def second_variant(shop: make.Shop, *, keys: int) -> UUID:
    variant_id = await catalogue.add_variant(
        shop.merchant_id,
        shop.product_id,
        {"en": "Two"},
        catalogue.Source(Delivery.STOCK),
        catalogue.PriceList([shop.price], shop.price.currency),
    )
    await make.stock(shop.merchant_id, variant_id, keys)
    return variant_id


async def test_d01_the_last_key_held_by_one_who_rolls_back_is_sold_to_the_next(db: None) -> None:
    shop = await make.shop(keys=1)
    entered = asyncio.Event()

    async def undecided() -> None:
        async with core.transaction():
            await catalogue.reserve(
                [Ask(ids.uuid7(), shop.merchant_id, [line(shop)])], clock.now() + LATER
            )
            entered.set()
            await asyncio.sleep(0.01)
            raise RuntimeError("changed their mind")

    async def next_one() -> UUID:
        await entered.wait()
        return await reserve(shop, line(shop))

    failed, won = await asyncio.gather(undecided(), next_one(), return_exceptions=True)

    assert isinstance(failed, RuntimeError)
    assert isinstance(won, UUID)
    assert await states(shop) == {"reserved": 1}


async def test_d01_sets_of_orders_share_what_is_there_and_none_is_cut(db: None) -> None:
    shop = await make.shop(keys=7)
    asks = [Ask(ids.uuid7(), shop.merchant_id, [line(shop, 3)]) for _ in range(4)]

    async with core.transaction():
        whole = await catalogue.sell(asks)

    assert whole == set(sorted(ask.order_id for ask in asks)[:2])
    assert await states(shop) == {"available": 1, "sold": 6}


async def test_reserving_twice_holds_once_and_moves_the_deadline(db: None) -> None:
    shop = await make.shop(keys=3)
    mine = line(shop, 2)
    order = await reserve(shop, mine)
    until = clock.now() + timedelta(hours=1)

    async with core.transaction():
        await catalogue.reserve([Ask(order, shop.merchant_id, [mine])], until)

    assert await states(shop) == {"available": 1, "reserved": 2}
    assert await core.value("SELECT held_until FROM stock_hold") == until


async def test_a_reservation_is_sold_released_or_neither(db: None) -> None:
    shop = await make.shop(keys=4)
    paid, left, open_ = [await reserve(shop, line(shop)) for _ in range(3)]

    async with core.transaction():
        assert await catalogue.allocate([paid]) == {paid: 1}
        assert await catalogue.allocate([paid]) == {}
        assert await catalogue.release([left, paid]) == 1

    assert await states(shop) == {"available": 2, "reserved": 1, "sold": 1}
    rows = await core.fetch("SELECT order_id FROM stock_hold")
    assert [row["order_id"] for row in rows] == [open_]
    assert await shown(shop) == 2


async def test_m07_a_sold_key_never_returns_whoever_writes_the_sql(db: None) -> None:
    shop = await make.shop(keys=1)
    order = await reserve(shop, line(shop))
    await in_transaction(lambda: catalogue.allocate([order]))

    with pytest.raises(asyncpg.RestrictViolationError):
        await core.execute("UPDATE card_key SET state = 'available', order_id = NULL")

    assert await states(shop) == {"sold": 1}
    assert await in_transaction(lambda: catalogue.revoke(order)) == 1
    with pytest.raises(asyncpg.RestrictViolationError):
        await core.execute("UPDATE card_key SET state = 'sold'")
    assert await states(shop) == {"revoked": 1}


async def test_late_money_claims_what_is_there_and_only_once(db: None) -> None:
    shop = await make.shop(keys=2)
    order, mine = ids.uuid7(), [line(shop, 2)]

    async def claim() -> object:
        return await in_transaction(lambda: catalogue.claim_sold(order, shop.merchant_id, mine))

    assert await claim() is True
    assert await claim() is True
    assert await states(shop) == {"sold": 2}
    other = [line(shop)]
    assert (
        await in_transaction(lambda: catalogue.claim_sold(ids.uuid7(), shop.merchant_id, other))
        is False
    )
    assert await states(shop) == {"sold": 2}


async def test_a_paid_order_that_lost_its_reservation_takes_what_is_missing(db: None) -> None:
    shop = await make.shop(keys=3)
    order, mine = ids.uuid7(), line(shop, 2)
    await reserve(shop, mine, order_id=order)
    clock.shift(timedelta(hours=1))
    try:
        assert await catalogue.sweep() == [order]
    finally:
        clock.shift(timedelta())

    async with core.transaction():
        assert await catalogue.allocate([order]) == {}
        assert await catalogue.claim_sold(order, shop.merchant_id, [mine]) is True

    assert await states(shop) == {"available": 1, "sold": 2}
    assert await core.value("SELECT count(*) FROM stock_hold") == 0


async def test_d09_expired_holds_are_swept_and_none_leaks(db: None) -> None:
    shop = await make.shop(keys=5)
    orders = [await reserve(shop, line(shop)) for _ in range(3)]
    async with core.transaction():
        await catalogue.extend(orders[:1], clock.now() + timedelta(hours=2))

    assert await catalogue.sweep() == []
    clock.shift(timedelta(hours=1))
    try:
        assert sorted(await catalogue.sweep()) == sorted(orders[1:])
        assert await catalogue.sweep() == []
    finally:
        clock.shift(timedelta())

    assert await states(shop) == {"available": 4, "reserved": 1}
    leaked = await core.value(
        "SELECT count(*) FROM card_key c WHERE state = 'reserved' AND NOT EXISTS"
        " (SELECT FROM stock_hold h WHERE h.order_id = c.order_id AND h.state = 'held')"
    )
    assert leaked == 0


async def test_d09_a_sweep_and_a_payment_of_one_order_agree(db: None) -> None:
    shop = await make.shop(keys=40)
    orders = [await reserve(shop, line(shop, 2)) for _ in range(20)]
    clock.shift(timedelta(hours=1))
    try:
        sold, swept = await asyncio.gather(
            in_transaction(lambda: catalogue.allocate(orders)), catalogue.sweep()
        )
    finally:
        clock.shift(timedelta())

    assert isinstance(sold, dict)
    assert set(sold) | set(swept) == set(orders)
    assert not set(sold) & set(swept)
    assert set(sold.values()) <= {2}
    expected = {"available": 2 * len(swept), "sold": 2 * len(sold)}
    assert await states(shop) == {state: n for state, n in expected.items() if n}
