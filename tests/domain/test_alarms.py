"""H28: what is read too fast rings, honey keys are nobody's and ring when used, a found key says where from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from domain import alarms, catalogue, checkout
from domain.alarms import AlertKind, ExportsStopped, counting
from domain.alarms.rules import crossed
from domain.catalogue import Origin, Trace
from domain.core import audit, clock, db, four_eyes, ids, vault
from domain.core.audit import Actor
from domain.core.four_eyes import Approver
from domain.core.once import Once, request_hash
from domain.core.settings import settings
from tests import horizon, make
from tests.database import as_owner, owner

ANN, BEN = ids.uuid7(), ids.uuid7()
WHO = Actor("merchant", ids.encode("acc", BEN))


@pytest.fixture(autouse=True)
async def _clock(db: None) -> AsyncIterator[None]:
    yield
    clock.shift(timedelta())


def limits(monkeypatch: pytest.MonkeyPatch, **values: int) -> None:
    none = {
        f"alarm_{what}_per_{whom}": 0
        for what in ("reveals", "exported")
        for whom in ("account", "merchant")
    }
    changed = settings().model_copy(update={**none, **values})
    monkeypatch.setattr(counting, "settings", lambda: changed)


def once() -> Once:
    key = ids.uuid7().hex
    return Once("test", key, request_hash(key))


async def export(of: make.Shop, count: int, actor: Actor = WHO) -> list[str]:
    """An export asked for, approved and fetched: its lines."""
    asked = await catalogue.propose_export(
        of.merchant_id, of.variant_id, count, "audit", asked_by=ANN, once=once()
    )
    eyes = Approver(BEN, clock.now() - timedelta(days=9))
    await catalogue.approve_export(asked.id, asked.request_hash, approved_by=eyes, once=once())
    return (await catalogue.fetch_export(asked.id, BEN, actor)).split()


async def honey(of: make.Shop) -> list[str]:
    """The plaintext of the honey keys, as only this test knows how to get it."""
    rows = await db.fetch("SELECT * FROM card_key WHERE state = 'honey' ORDER BY id")
    keys = await vault.of_merchant(of.merchant_id)
    return [
        keys.unseal("card_key", row["id"], row["key_version"], row["ciphertext"]).decode()
        for row in rows
    ]


async def rung() -> list[tuple[str, str | None]]:
    rows = await db.fetch("SELECT kind, actor_id FROM security_alert ORDER BY raised_at, id")
    return [(row["kind"], row["actor_id"]) for row in rows]


async def states() -> dict[str, int]:
    rows = await db.fetch("SELECT state, count(*) AS n FROM card_key GROUP BY 1")
    return {row["state"]: row["n"] for row in rows}


async def trace(of: make.Shop, content: str) -> Trace:
    return await catalogue.trace(of.merchant_id, content, Actor("merchant", "acc_owner"))


async def revealed(of: make.Shop, count: int, actor: Actor) -> None:
    """So many orders opened, as the audit log has it."""
    async with db.transaction():
        for _ in range(count):
            await audit.record(of.merchant_id, actor, "goods.reveal", ids.uuid7(), goods=1, first=1)
    await horizon.passed()


async def watched() -> None:
    while await alarms.watch_reveals(limit=50):
        pass


async def test_h28_an_account_that_opens_too_many_orders_rings_once_a_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits(monkeypatch, alarm_reveals_per_account=10)
    shop, other = await make.shop(keys=0), await make.shop(keys=0)
    one, two = Actor("account", "acc_one"), Actor("account", "acc_two")

    await revealed(shop, 10, one)
    await revealed(shop, 10, two)
    await revealed(other, 10, one)
    await watched()
    assert await rung() == []
    await revealed(shop, 1, one)
    await asyncio.gather(*(alarms.watch_reveals() for _ in range(5)))
    await watched()
    assert await rung() == [("reveal_rate", "acc_one")]
    await revealed(shop, 9, one)
    await watched()
    assert len(await rung()) == 1
    await revealed(shop, 1, one)
    await watched()

    assert await rung() == [("reveal_rate", "acc_one")] * 2
    actions = await db.fetch(
        "SELECT merchant_id, facts_json FROM audit_log WHERE action = 'alarm.reveal_rate'"
    )
    assert [tuple(row) for row in actions] == [
        (shop.merchant_id, {"count": count, "limit": 10, "per": "account"}) for count in (11, 21)
    ]
    tasks = await db.value("SELECT count(*) FROM promise WHERE task = 'alarm.raised'")
    assert tasks == 2


async def test_h28_buyers_count_for_the_merchant_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    limits(monkeypatch, alarm_reveals_per_account=1, alarm_reveals_per_merchant=12)
    shop = await make.shop(keys=0)

    for number in range(12):
        await revealed(shop, 1, Actor("buyer", f"K-{number}"))
    await watched()
    assert await rung() == []
    await revealed(shop, 1, Actor("buyer", "K-12"))
    await watched()

    assert await rung() == [("reveal_rate", None)]
    assert await db.value("SELECT count(*) FROM read_count WHERE actor <> ''") == 0


async def test_h28_an_alarm_never_blocks_a_paid_buyer(monkeypatch: pytest.MonkeyPatch) -> None:
    limits(monkeypatch, alarm_reveals_per_merchant=1)
    shop = await make.shop(keys=5)
    orders = [await make.paid(shop) for _ in range(3)]
    for order in orders:
        while await checkout.fulfil(order.lane):
            pass

    for order in orders:
        assert (
            len(await catalogue.goods(order.id, shop.merchant_id, Actor("buyer", order.number)))
            == 1
        )
        await horizon.passed()
        await watched()

    assert [kind for kind, _ in await rung()] == ["reveal_rate", "reveal_rate"]
    with pytest.raises(ExportsStopped):
        await export(shop, 1)
    again = await catalogue.goods(orders[0].id, shop.merchant_id, Actor("buyer", "x"))
    assert len(again) == 1


async def test_h28_reads_of_long_ago_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    limits(monkeypatch, alarm_exported_per_merchant=3)
    shop = await make.shop(keys=20)

    await export(shop, 3)
    clock.shift(timedelta(hours=1, minutes=11))
    await export(shop, 3)

    assert await rung() == []
    await alarms.prune()
    assert await db.value("SELECT count(DISTINCT bucket_at) FROM read_count") == 2


async def test_h28_the_export_that_crosses_a_limit_rings_and_the_next_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits(monkeypatch, alarm_exported_per_account=3)
    shop, other = await make.shop(keys=20), await make.shop(keys=20)

    assert len(await export(shop, 4)) == 5
    assert await rung() == [("export_rate", WHO.id)]
    before = await states()
    with pytest.raises(ExportsStopped):
        await export(shop, 1)
    assert await states() == before
    assert len(await export(other, 2)) == 3  # another merchant goes on
    [alert] = await alarms.alerts(shop.merchant_id, None, 9)
    await alarms.acknowledge(alert.id, by=ANN, note="stocktaking", actor=WHO)

    assert len(await export(shop, 1)) == 2
    assert await rung() == [("export_rate", WHO.id)]
    await export(shop, 2)  # the seventh key: twice the limit
    assert len(await rung()) == 2


async def test_h28_exports_at_once_are_counted_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Approved before it rang: of five that are fetched together one crosses the limit and the others stay."""
    limits(monkeypatch, alarm_exported_per_merchant=1)
    shop = await make.shop(keys=50)
    ready = []
    for _ in range(5):
        asked = await catalogue.propose_export(
            shop.merchant_id, shop.variant_id, 2, "audit", asked_by=ANN, once=once()
        )
        eyes = Approver(BEN, clock.now() - timedelta(days=9))
        await catalogue.approve_export(asked.id, asked.request_hash, approved_by=eyes, once=once())
        ready.append(asked.id)

    said = await asyncio.gather(
        *(catalogue.fetch_export(one, BEN, WHO) for one in ready), return_exceptions=True
    )

    assert sum(isinstance(one, str) for one in said) == 1
    assert sum(isinstance(one, ExportsStopped) for one in said) == 4
    assert await states() == {"available": 48, "locked": 2, "honey": 1}
    assert await db.value("SELECT sum(n) FROM read_count WHERE actor = ''") == 2
    assert len(await rung()) == 1


async def test_h28_a_stopped_export_is_not_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    limits(monkeypatch)
    shop = await make.shop(keys=5)
    await alarms.ring(shop.merchant_id, AlertKind.STOCK_LEAKED, "x", {})
    with pytest.raises(ExportsStopped):
        await catalogue.propose_export(
            shop.merchant_id, shop.variant_id, 1, "audit", asked_by=ANN, once=once()
        )
    assert await db.value("SELECT count(*) FROM approval") == 0
    [alert] = await alarms.alerts(shop.merchant_id, None, 9)
    await alarms.acknowledge(alert.id, by=ANN, note="ours", actor=WHO)
    asked = await catalogue.propose_export(
        shop.merchant_id, shop.variant_id, 1, "audit", asked_by=ANN, once=once()
    )
    await alarms.ring(shop.merchant_id, AlertKind.STOCK_LEAKED, "y", {})
    eyes = Approver(BEN, clock.now() - timedelta(days=9))

    with pytest.raises(ExportsStopped):
        await catalogue.approve_export(asked.id, asked.request_hash, approved_by=eyes, once=once())

    found = await four_eyes.find(asked.id)
    assert found is not None
    assert found.state == "open"


async def test_an_alert_is_acknowledged_once_and_never_changed() -> None:
    shop = await make.shop(keys=0)
    alert_id = await alarms.ring(shop.merchant_id, AlertKind.HONEY_FOUND, "x", {"lot": 1})
    assert alert_id is not None
    assert await alarms.ring(shop.merchant_id, AlertKind.HONEY_FOUND, "x", {"lot": 2}) is None

    said = await asyncio.gather(
        *(alarms.acknowledge(alert_id, by=ANN, note="looked", actor=WHO) for _ in range(5)),
        return_exceptions=True,
    )

    assert sum(isinstance(one, alarms.Alert) for one in said) == 1
    assert sum(isinstance(one, alarms.AlertClosed) for one in said) == 4
    for change in (
        "facts_json = '{}'",
        "note = 'x'",
        "acknowledged_at = NULL, acknowledged_by = NULL",
    ):
        with pytest.raises(asyncpg.RestrictViolationError):
            await as_owner(f"UPDATE security_alert SET {change}")
    with pytest.raises(asyncpg.RestrictViolationError):
        await as_owner("DELETE FROM security_alert")


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


@pytest.mark.parametrize(
    ("total", "added", "limit", "level"),
    [
        (10, 1, 10, 0),
        (11, 1, 10, 1),
        (12, 1, 10, 0),
        (21, 1, 10, 2),
        (25, 20, 10, 2),
        (5, 5, 0, 0),
        (0, 0, 10, 0),
    ],
)
def test_a_limit_is_crossed_once_per_multiple(
    total: int, added: int, limit: int, level: int
) -> None:
    assert crossed(total, added, limit) == level
