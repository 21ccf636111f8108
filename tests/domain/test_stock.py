"""Stock under many hands: never two owners, never half an order, always the right number on the
shelf."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from domain import catalogue
from domain.catalogue import Actor, Ask, Delivery, HoldLimit, OutOfStock
from domain.core import clock, ids
from domain.core import db as core
from tests import make

LATER = timedelta(minutes=15)
WHO = Actor("merchant", "acc_test", session="s1")
Line = tuple[UUID, UUID, int]


def line(shop: make.Shop, quantity: int = 1) -> Line:
    return ids.uuid7(), shop.variant_id, quantity


async def reserve(shop: make.Shop, *lines: Line, order_id: UUID | None = None) -> UUID:
    """Reserve for a new order in a transaction of its own."""
    order = order_id or ids.uuid7()
    async with core.transaction():
        await catalogue.reserve(order, shop.merchant_id, lines, clock.now() + LATER)
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
                ids.uuid7(), shop.merchant_id, [line(shop)], clock.now() + LATER
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
        await catalogue.reserve(order, shop.merchant_id, [mine], until)

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

    async def hold(**other: bytes | None) -> UUID:
        order = ids.uuid7()
        async with core.transaction():
            await catalogue.reserve(
                order,
                shop.merchant_id,
                [line(shop)],
                clock.now() + LATER,
                fingerprints={**prints, **other},
            )
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


async def test_d05_letting_holds_lapse_again_and_again_ends(db: None) -> None:
    shop = await make.shop(keys=5)
    prints = {"email": b"m" * 16}
    for _ in range(10):
        order = ids.uuid7()
        async with core.transaction():
            await catalogue.reserve(
                order, shop.merchant_id, [line(shop)], clock.now() + LATER, fingerprints=prints
            )
        async with core.transaction():
            await catalogue.release([order], lapsed=True)

    with pytest.raises(HoldLimit):
        async with core.transaction():
            await catalogue.reserve(
                ids.uuid7(),
                shop.merchant_id,
                [line(shop)],
                clock.now() + LATER,
                fingerprints=prints,
            )

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
    exported = await catalogue.export_keys(shop.merchant_id, shop.variant_id, 10, WHO)

    assert (locked, exported) == (1, "")
    assert await states(shop) == {"locked": 1, "reserved": 1}
    async with core.transaction():
        assert await catalogue.allocate([order]) == {order: 1}
    audit = await core.fetch("SELECT action, facts_json FROM audit_log ORDER BY no")
    assert [row["action"] for row in audit] == ["stock.locked", "stock.export"]
    assert audit[0]["facts_json"] == {"keys": 1, "reason": "suspicious"}
