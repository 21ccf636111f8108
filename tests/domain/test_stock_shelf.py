"""The shelf: the right number shown, first to expire first, hoarders stopped, dead keys replaced."""

from __future__ import annotations

import random
from datetime import timedelta
from uuid import UUID

import pytest

from domain import catalogue
from domain.catalogue import Ask, HoldLimit, OutOfStock
from domain.catalogue import keys as shelf_keys
from domain.core import clock, ids
from domain.core import db as core
from tests import make
from tests.domain.shelves import (
    LATER,
    WHO,
    in_transaction,
    line,
    refused,
    reserve,
    shown,
    states,
)


async def test_d10_shown_stock_is_the_count_after_any_sequence(db: None) -> None:
    shop = await make.shop(keys=30)
    chance = random.Random(7)
    held: list[UUID] = []
    sold: list[UUID] = []
    for _ in range(60):
        step = chance.choice(["reserve", "reserve", "sell", "release", "revoke", "import", "lock"])
        if step == "reserve":
            won, _ = await refused([reserve(shop, line(shop, chance.randint(1, 3)))])
            held += won
        elif step == "import":
            await make.stock(shop.merchant_id, shop.variant_id, 2)
        elif step == "lock":
            await move_some(shop, chance)
        elif held and step in ("sell", "release"):
            order = held.pop()
            async with core.transaction():
                if step == "sell":
                    await catalogue.allocate([order])
                    sold.append(order)
                else:
                    await catalogue.release([order])
        elif sold and step == "revoke":
            order = sold.pop()
            await in_transaction(lambda order=order: catalogue.revoke(order))  # type: ignore[misc]
        assert await shown(shop) == (await states(shop)).get("available", 0)
    await catalogue.fold()
    assert await shown(shop) == (await states(shop)).get("available", 0)
    assert await core.value("SELECT count(*) FROM variant_stock") == 1


async def move_some(shop: make.Shop, chance: random.Random) -> None:
    rows = await core.fetch("SELECT id FROM card_key WHERE state IN ('available', 'locked')")
    picked = [row["id"] for row in rows if chance.random() < 0.1]
    await catalogue.lock_keys(shop.merchant_id, picked, WHO, "look")
    await catalogue.unlock_keys(shop.merchant_id, picked[:1], WHO, "fine")


async def test_d10_counters_of_many_connections_add_up(db: None) -> None:
    shop = await make.shop(keys=60)

    won, short = await refused([reserve(shop, line(shop, 2)) for _ in range(40)])

    assert (len(won), short) == (30, 10)
    assert await shown(shop) == 0


async def lots(shop: make.Shop, *days: int | None) -> list[int]:
    """One key per lot that expires in so many days, None never; the lots' numbers."""
    numbers = []
    for left in days:
        async with core.transaction():
            lot_no = await core.value(
                "INSERT INTO stock_lot (merchant_id, variant_id, expires_at) VALUES ($1, $2,"
                " coalesce($3, 'infinity'::timestamptz)) RETURNING no",
                shop.merchant_id,
                shop.variant_id,
                None if left is None else clock.now() + timedelta(days=left),
            )
            await catalogue.put(shop.merchant_id, shop.variant_id, lot_no, [f"LOT-{lot_no}"])
        numbers.append(lot_no)
    return numbers


async def test_d11_first_to_expire_goes_first_and_expired_lots_never(db: None) -> None:
    shop = await make.shop(keys=0)
    never, month, week, gone = await lots(shop, None, 30, 7, -1)

    assert await shown(shop) == 3
    sold = []
    for _ in range(3):
        order = await reserve(shop, line(shop))
        sold.append(await core.value("SELECT lot_no FROM card_key WHERE order_id = $1", order))
    assert sold == [week, month, never]
    with pytest.raises(OutOfStock):
        await reserve(shop, line(shop))
    assert await states(shop) == {"reserved": 3, "available": 1}
    assert await core.value("SELECT lot_no FROM card_key WHERE state = 'available'") == gone


async def test_d11_one_order_takes_from_several_lots_in_order(db: None) -> None:
    shop = await make.shop(keys=0)
    numbers = await lots(shop, 3, 2, 1, None)

    order = await reserve(shop, line(shop, 3))

    rows = await core.fetch("SELECT lot_no FROM card_key WHERE order_id = $1", order)
    assert {row["lot_no"] for row in rows} == {numbers[0], numbers[1], numbers[2]}


async def test_d08_two_thousand_keys_arrive_complete_and_are_replaced(db: None) -> None:
    shop = await make.shop(keys=3_400)
    order = await reserve(shop, line(shop, 2_000))
    await in_transaction(lambda: catalogue.allocate([order]))

    seen = await catalogue.goods(order, shop.merchant_id, WHO)

    assert len({good.content for good in seen}) == 2_000
    rows = await core.fetch("SELECT id FROM card_key WHERE order_id = $1 LIMIT 1300", order)
    dead = [row["id"] for row in rows]
    assert await catalogue.replace(shop.merchant_id, order, dead, WHO, "dead") == 1_300
    assert await catalogue.replace(shop.merchant_id, order, dead, WHO, "again") == 0
    again = await catalogue.goods(order, shop.merchant_id, WHO)
    assert len([good for good in again if not good.revoked]) == 2_000
    assert await states(shop) == {"available": 100, "sold": 2_000, "replaced": 1_300}
    with pytest.raises(OutOfStock):
        await catalogue.replace(shop.merchant_id, order, await sold_keys(order, 101), WHO, "more")
    assert await states(shop) == {"available": 100, "sold": 2_000, "replaced": 1_300}


async def sold_keys(order: UUID, count: int) -> list[UUID]:
    rows = await core.fetch(
        "SELECT id FROM card_key WHERE order_id = $1 AND state = 'sold' LIMIT $2", order, count
    )
    return [row["id"] for row in rows]


async def test_d05_a_hoarder_is_stopped_and_the_shop_stays_buyable(db: None) -> None:
    shop = await make.shop(keys=50)
    prints = {"email": b"m" * 16, "device": b"d" * 16, "address": b"a" * 16}

    async def hold(**other: bytes) -> UUID:
        order = ids.uuid7()
        async with core.transaction():
            ask = Ask(order, shop.merchant_id, [line(shop)], {**prints, **other})
            await catalogue.reserve([ask], clock.now() + LATER)
        return order

    for _ in range(5):
        await hold()
    with pytest.raises(HoldLimit) as caught:
        await hold()
    assert caught.value.facts["by"] == "email"
    with pytest.raises(HoldLimit):
        await hold(email=b"x" * 16)
    await hold(email=b"x" * 16, device=b"y" * 16)
    assert await states(shop) == {"available": 44, "reserved": 6}


async def test_d05_what_a_set_holds_together_counts_inside_the_set(db: None) -> None:
    shop = await make.shop(keys=50)
    prints = {"email": b"m" * 16}
    asks = [Ask(ids.uuid7(), shop.merchant_id, [line(shop)], prints) for _ in range(6)]

    with pytest.raises(HoldLimit) as caught:
        async with core.transaction():
            await catalogue.reserve(asks, clock.now() + LATER)
    assert caught.value.facts["by"] == "email"
    assert await states(shop) == {"available": 50}
    async with core.transaction():
        await catalogue.reserve(asks[:5], clock.now() + LATER)
    assert await states(shop) == {"available": 45, "reserved": 5}


async def test_d01_a_set_in_which_one_is_short_holds_nothing_for_anybody(db: None) -> None:
    shop = await make.shop(keys=4)
    asks = [Ask(ids.uuid7(), shop.merchant_id, [line(shop, 2)]) for _ in range(3)]

    with pytest.raises(OutOfStock):
        async with core.transaction():
            await catalogue.reserve(asks, clock.now() + LATER)

    assert await states(shop) == {"available": 4}
    assert await core.value("SELECT count(*) FROM stock_hold") == 0


async def test_d05_letting_holds_lapse_again_and_again_ends(db: None) -> None:
    shop = await make.shop(keys=5)
    prints = {"email": b"m" * 16}
    for _ in range(10):
        order = ids.uuid7()
        async with core.transaction():
            ask = Ask(order, shop.merchant_id, [line(shop)], prints)
            await catalogue.reserve([ask], clock.now() + LATER)
        async with core.transaction():
            await catalogue.release([order], lapsed=True)

    ask = Ask(ids.uuid7(), shop.merchant_id, [line(shop)], prints)
    with pytest.raises(HoldLimit):
        async with core.transaction():
            await catalogue.reserve([ask], clock.now() + LATER)

    assert await states(shop) == {"available": 5}
    clock.shift(timedelta(days=2))
    try:
        assert await catalogue.prune() == 10
    finally:
        clock.shift(timedelta())


async def test_d02_a_reserved_key_cannot_be_locked_or_exported(db: None) -> None:
    shop = await make.shop(keys=2)
    order = await reserve(shop, line(shop))
    rows = await core.fetch("SELECT id FROM card_key")

    locked = await catalogue.lock_keys(
        shop.merchant_id, [row["id"] for row in rows], WHO, "suspicious"
    )
    exported = await shelf_keys.export_keys(shop.merchant_id, shop.variant_id, 10, WHO)

    assert (locked, exported) == (1, [])
    assert await states(shop) == {"locked": 1, "reserved": 1}
    async with core.transaction():
        assert await catalogue.allocate([order]) == {order: 1}
    audit = await core.fetch("SELECT action, facts_json FROM audit_log ORDER BY no")
    assert [row["action"] for row in audit] == ["stock.locked", "stock.export"]
    assert audit[0]["facts_json"] == {"keys": 1, "reason": "suspicious"}
