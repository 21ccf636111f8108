"""What a set sends to the database: few statements for one order, no more for many, none twice."""

from __future__ import annotations

from uuid import uuid4

import pytest

from domain import catalogue, checkout
from domain.core import bell, bulk, clock, db
from domain.merchants import Speed
from domain.orders.models import Order
from tests import make
from workers import sale

pytestmark = pytest.mark.usefixtures("db")


async def sent_for(count: int, shop: make.Shop) -> list[str]:
    placed = [await make.paid(shop) for _ in range(count)]
    async with db.statements() as sent:
        assert await checkout.fulfil(placed[0].lane) == count
    assert set(await make.status([order.id for order in placed])) == {"delivered"}
    return [" ".join(sql.split())[:40] for sql in sent]


async def test_a_set_of_one_takes_fifteen_statements_and_one_of_many_two_more() -> None:
    shop = await make.shop(keys=40, reserve_bps=500, speed=Speed.T1)
    await sent_for(1, shop)  # accounts are opened, plans read

    one, many = await sent_for(1, shop), await sent_for(30, shop)

    # BEGIN, words, orders, attempts, keys, balances locked and moved, journals, transfers, legs with reserve and
    # item (three for many), captures, conclusion, orders, events, COMMIT.
    assert len(one) == 15
    assert len(many) == 17
    assert one[0] == "BEGIN" and one[-1] == "COMMIT"


@pytest.mark.parametrize("count", [0, 1, bulk.PLAIN_ROWS_MAX, bulk.PLAIN_ROWS_MAX + 1])
async def test_rows_arrive_the_same_whether_few_or_many(count: int) -> None:
    columns = ("order_id", "merchant_id", "sequence", "kind", "facts_json", "recorded_at")
    rows = [
        (
            uuid4(),
            bulk.uuid7s(1)[0],
            place,
            "order.paid",
            {"minor": place, "ccy": None},
            clock.now(),
        )
        for place in range(count)
    ]

    async with db.statements() as sent:
        assert await bulk.append("event_log", columns, rows) == count

    assert len(sent) == min(count, 1)
    stored = await db.fetch(f"SELECT {', '.join(columns)} FROM event_log ORDER BY no")
    assert [tuple(row) for row in stored] == rows


@pytest.mark.parametrize(
    "counts", [(1, 0, 3), (0, 0, 0), (2, 1, 1), (3, bulk.PLAIN_ROWS_MAX + 1, 0)]
)
async def test_rows_of_several_tables_arrive_together(counts: tuple[int, int, int]) -> None:
    events, lots, items = counts
    order_id, variant_id = uuid4(), uuid4()
    parts = (
        bulk.Part(
            "event_log",
            ("order_id", "merchant_id", "sequence", "kind", "facts_json"),
            [(order_id, uuid4(), place, "order.paid", {"at": place}) for place in range(events)],
        ),
        bulk.Part("reserve_hold", ("capture_id",), []),
        bulk.Part(
            "stock_lot",
            ("merchant_id", "variant_id"),
            [(uuid4(), variant_id) for _ in range(lots)],
        ),
        bulk.Part(
            "settlement_item",
            ("capture_id", "merchant_id", "amount_minor", "ccy", "available_on"),
            [(uuid4(), uuid4(), place, "USD", clock.now().date()) for place in range(items)],
        ),
    )
    few = max(counts) <= bulk.PLAIN_ROWS_MAX

    async with db.statements() as sent:
        await bulk.append_all(*parts)

    assert len(sent) == (min(1, sum(counts)) if few else sum(1 for one in counts if one))
    for part in parts:
        if part.rows:
            stored = await db.fetch(f"SELECT {', '.join(part.columns)} FROM {part.table}")
            assert sorted(map(repr, map(tuple, stored))) == sorted(map(repr, part.rows))


async def rung(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    heard: list[tuple[str, ...]] = []

    async def ring(topic: str, *ids: object) -> None:
        heard.append((topic, *(str(one) for one in ids)))

    monkeypatch.setattr(bell, "ring", ring)
    return heard


async def turn(order: Order) -> float | None:
    return await sale.lane_loop(order.lane).run()


async def test_a_lane_looks_again_at_once_only_after_a_full_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = await make.shop(keys=10)
    placed = [await make.paid(shop) for _ in range(3)]
    monkeypatch.setattr(checkout, "SET_MAX", 3)

    assert await turn(placed[0]) == 0
    assert await turn(placed[0]) is None

    await make.paid(shop)
    assert await turn(placed[0]) is None


async def test_what_a_halved_set_left_out_is_rung_for(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = await make.shop(keys=10)
    placed = [await make.paid(shop) for _ in range(4)]
    allocate = catalogue.allocate

    async def fails(order_ids: list[object]) -> object:
        if placed[3].id in order_ids:
            raise AssertionError("this one")
        return await allocate(order_ids)  # type: ignore[arg-type]

    monkeypatch.setattr(catalogue, "allocate", fails)
    heard = await rung(monkeypatch)

    assert await checkout.fulfil(placed[0].lane, limit=4) == 2

    lane = str(placed[0].lane)
    assert (bell.CAPTURES, lane) in heard
    heard.clear()
    assert await checkout.fulfil(placed[0].lane, limit=1) == 1
    assert (bell.CAPTURES, lane) not in heard
