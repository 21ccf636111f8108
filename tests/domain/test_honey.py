"""H28: honey keys are nobody's and ring when used; a found key says where it came from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from domain import catalogue, checkout
from domain.catalogue import Origin
from domain.core import clock, db, vault
from domain.core.audit import Actor
from tests import make
from tests.database import as_owner, owner
from tests.domain.alarmed import ANN, BEN, WHO, export, honey, rung, states, trace


@pytest.fixture(autouse=True)
async def _clock(db: None) -> AsyncIterator[None]:
    yield
    clock.shift(timedelta())


async def test_h28_every_export_carries_a_honey_key_of_its_own() -> None:
    shop = await make.shop(keys=20)

    first, second = await export(shop, 4), await export(shop, 4)

    marks = await honey(shop)
    assert len(marks) == 2
    assert [marks[0] in first, marks[1] in second] == [True, True]
    assert len({*first, *second}) == 10
    assert all(len(one) == len("KEY-0000000000") for one in marks)
    assert await states() == {"available": 12, "locked": 8, "honey": 2}
    approvals = await db.fetch("SELECT export_id, made_by FROM honey_key ORDER BY made_at")
    assert len({row["export_id"] for row in approvals}) == 2
    assert {row["made_by"] for row in approvals} == {BEN}
    kept = "SELECT count(*) FROM card_key WHERE export_id IS NOT NULL AND state = 'locked'"
    assert await db.value(kept) == 8


async def test_h28_nothing_was_there_so_nothing_is_exported() -> None:
    shop = await make.shop(keys=0)

    assert await export(shop, 5) == []
    assert await states() == {}


async def test_h28_a_honey_key_is_on_no_shelf_and_in_no_count() -> None:
    shop = await make.shop(keys=3)
    [lot] = (await catalogue.newest_lots([(shop.merchant_id, shop.variant_id)]))[shop.variant_id]
    async with db.transaction():
        assert await catalogue.plant_honey(lot, 5, made_by=ANN, actor=WHO) == 5

    available = await db.value(
        "SELECT sum(available) FROM variant_stock WHERE variant_id = $1", shop.variant_id
    )
    assert available == 3
    counts = (await catalogue.stock_counts([(shop.merchant_id, shop.variant_id)]))[shop.variant_id]
    assert counts == catalogue.Counts(available=3)
    for _ in range(3):
        order = await make.paid(shop)
        await checkout.fulfil(order.lane)
        assert await make.status([order.id]) == ["delivered"]
    short = await make.order(shop)
    await make.word(await make.attempt(short, reserve=False))
    await checkout.fulfil(short.lane)
    assert await make.status([short.id]) == ["short"]
    assert await states() == {"sold": 3, "honey": 5}
    async with db.transaction():
        assert await catalogue.withdraw(lot, None, WHO, "all") == 0
        assert await catalogue.restore(lot, None, WHO, "all") == 0
    ids_ = [row["id"] for row in await db.fetch("SELECT id FROM card_key WHERE state = 'honey'")]
    assert await catalogue.lock_keys(shop.merchant_id, ids_, WHO, "x") == 0
    assert await catalogue.unlock_keys(shop.merchant_id, ids_, WHO, "x") == 0
    assert await catalogue.ring_for_used_honey() == 0
    assert await rung() == []


@pytest.mark.parametrize(
    "change",
    [
        "state = 'available'",
        "state = 'locked'",
        "state = 'sold', order_id = gen_random_uuid(), sold_at = now()",
        "state = 'reserved', order_id = gen_random_uuid()",
        "order_id = gen_random_uuid()",
        "revealed_at = now()",
        "sold_at = now()",
    ],
)
async def test_h28_the_table_refuses_to_use_a_honey_key_and_it_rings_all_the_same(
    change: str,
) -> None:
    """Whoever owns the tables and switches its guards off still does not go unnoticed."""
    shop = await make.shop(keys=2)
    await export(shop, 1)
    sql = f"UPDATE card_key SET {change} WHERE state = 'honey'"
    with pytest.raises((asyncpg.RestrictViolationError, asyncpg.CheckViolationError)):
        await as_owner(sql)
    assert await catalogue.ring_for_used_honey() == 0

    async def break_in() -> None:
        async with owner():
            for name in ("card_key_order_check", "card_key_honey_check"):
                await db.execute(f"ALTER TABLE card_key DROP CONSTRAINT {name}")
            await db.execute("ALTER TABLE card_key DISABLE TRIGGER card_key_transitions")
            await db.execute(sql)
            counts = [await catalogue.ring_for_used_honey() for _ in range(2)]
            assert counts == [1, 0]
            assert await rung() == [("honey_used", None)]
            assert "KEY-" not in await db.value("SELECT facts_json::text FROM security_alert")
            raise ZeroDivisionError  # takes all of it back

    with pytest.raises(ZeroDivisionError):
        await break_in()


async def test_h28_a_found_key_says_where_it_came_from() -> None:
    shop = await make.shop(keys=6)
    order = await make.paid(shop)
    await checkout.fulfil(order.lane)
    sold = (await catalogue.goods(order.id, shop.merchant_id, Actor("buyer", order.number)))[
        0
    ].content
    lines = await export(shop, 2)
    [bait] = await honey(shop)
    exported = next(one for one in lines if one != bait)

    of_sold, of_exported = await trace(shop, sold), await trace(shop, f"  {exported}\n")
    assert (of_sold.origin, of_sold.order_id) == (Origin.SOLD, order.id)
    assert of_sold.revealed_at is not None
    assert (of_exported.origin, of_exported.by, of_exported.asked_by) == (Origin.EXPORTED, BEN, ANN)
    assert of_exported.at is not None
    assert await rung() == []
    of_bait = await trace(shop, bait)
    assert (of_bait.origin, of_bait.by, of_bait.asked_by) == (Origin.HONEY_EXPORT, BEN, ANN)
    assert (await trace(shop, "never ours")).origin is Origin.UNKNOWN

    assert [kind for kind, _ in await rung()] == ["honey_found"]
    rows = await db.fetch(
        "SELECT facts_json FROM audit_log WHERE action = 'key.traced' ORDER BY no"
    )
    assert [row["facts_json"]["origin"] for row in rows] == [
        "sold",
        "exported",
        "honey_export",
        "unknown",
    ]
    for table in ("audit_log", "security_alert", "promise"):
        text = await db.value(f"SELECT coalesce(string_agg(t::text, ' '), '') FROM {table} t")
        assert not any(key in text for key in (sold, exported, bait, "never ours")), table


async def test_h28_a_key_nobody_should_have_seen_rings_once_a_day() -> None:
    shop = await make.shop(keys=3)
    await export(shop, 1)
    async with db.transaction():
        lot = (await catalogue.newest_lots([(shop.merchant_id, shop.variant_id)]))[shop.variant_id][
            0
        ]
        await catalogue.plant_honey(lot, 1, made_by=ANN, actor=WHO)
    [planted] = [
        one for one in await honey(shop) if (await trace(shop, one)).origin is Origin.HONEY_PLANTED
    ]
    sold = await make.paid(shop)
    await checkout.fulfil(sold.lane)  # delivered, never opened
    keys = await vault.of_merchant(shop.merchant_id)
    unseen = {
        row["state"]: keys.unseal(
            "card_key", row["id"], row["key_version"], row["ciphertext"]
        ).decode()
        for row in await db.fetch("SELECT * FROM card_key WHERE state IN ('available', 'sold')")
    }

    first, again = await trace(shop, unseen["available"]), await trace(shop, unseen["available"])
    of_sold, of_planted = await trace(shop, unseen["sold"]), await trace(shop, planted)

    assert (first.origin, first.alert_id is None, again.alert_id) == (Origin.ON_SHELF, False, None)
    assert (of_sold.origin, of_sold.revealed_at) == (Origin.SOLD, None)
    assert of_sold.alert_id is not None
    assert (of_planted.origin, of_planted.by, of_planted.asked_by) == (
        Origin.HONEY_PLANTED,
        ANN,
        None,
    )
    kinds = [kind for kind, _ in await rung()]
    assert (kinds.count("stock_leaked"), kinds.count("honey_found")) == (2, 2)


async def test_h01_another_merchants_key_is_unknown() -> None:
    shop, other = await make.shop(keys=1), await make.shop(keys=0)
    order = await make.paid(shop)
    await checkout.fulfil(order.lane)
    sold = (await catalogue.goods(order.id, shop.merchant_id, Actor("buyer", "x")))[0].content

    assert (await trace(other, sold)).origin is Origin.UNKNOWN
    assert await rung() == []
