"""H28: what is read too fast rings, exports stop until an owner has looked, buyers never."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from domain import alarms, catalogue, checkout
from domain.alarms import AlertKind, ExportsStopped, counting
from domain.alarms.rules import crossed
from domain.core import audit, clock, db, four_eyes, ids
from domain.core.audit import Actor
from domain.core.four_eyes import Approver
from domain.core.settings import settings
from tests import horizon, make
from tests.database import as_owner
from tests.domain.alarmed import ANN, BEN, WHO, export, once, rung, states


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


async def test_h28_buyers_and_apps_that_sell_count_for_the_merchant_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits(monkeypatch, alarm_reveals_per_account=1, alarm_reveals_per_merchant=12)
    shop = await make.shop(keys=0)

    for number in range(9):
        await revealed(shop, 1, Actor("buyer", f"K-{number}"))
    await revealed(shop, 3, Actor("app", "gnt_till"))
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
