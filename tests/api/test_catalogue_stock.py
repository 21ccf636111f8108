"""Lots off the shelf and back: only what nobody holds, counted, once per key, and never what has been seen."""

from __future__ import annotations

import asyncio
from typing import Any

from domain import catalogue
from domain.catalogue import Actor
from domain.catalogue import keys as shelf_keys
from domain.core import db as core
from domain.core import ids
from tests import make
from tests.api.desk import Desk, audited, member, refused
from tests.domain.shelves import line, reserve, shown, states

ACTOR = Actor("merchant", "acc_test")


async def lot_of(shop: make.Shop) -> str:
    lots = await catalogue.lots_of(shop.merchant_id, shop.variant_id, limit=1)
    return ids.encode("lot", lots[0].id)


async def move(desk: Desk, name: str, lot: str, key: str | None = None, **more: Any) -> Any:
    return await desk.do(name, {"lotId": lot, "reason": "recalled", **more}, key)


async def test_m07_a_lot_goes_off_the_shelf_and_back_and_orders_keep_theirs(db: None) -> None:
    shop = await make.shop(keys=6)
    desk, lot = await member(shop), await lot_of(shop)
    await reserve(shop, line(shop, 2))

    some = await move(desk, "withdrawCards", lot, count=1)
    rest = await move(desk, "withdrawCards", lot, "all")
    again = await move(desk, "withdrawCards", lot, "all")
    off = await shown(shop)
    back = await move(desk, "restoreCards", lot, count=3)

    assert some["moved"] == 1
    assert rest == again
    assert rest == {
        "__typename": "CardsMoved",
        "moved": 3,
        "lot": {
            "counts": {
                "available": 0,
                "reserved": 2,
                "sold": 0,
                "locked": 4,
                "expired": 0,
                "revoked": 0,
            }
        },
    }
    assert off == 0
    assert (back["moved"], await shown(shop)) == (3, 3)
    assert await states(shop) == {"available": 3, "locked": 1, "reserved": 2}
    number = await core.value("SELECT no FROM stock_lot")
    assert await audited() == [
        (f"stock.{state}", {"keys": keys, "lot": number, "reason": "recalled"})
        for state, keys in (("locked", 1), ("locked", 3), ("available", 3))
    ]
    # Orders that are paid and short are served from what came back.
    assert await core.value("SELECT count(*) FROM promise WHERE task = 'stock.arrived'") == 1


async def test_a_withdrawn_lot_and_its_buyers_never_share_a_key(db: None) -> None:
    shop = await make.shop(keys=30)
    desk, lot = await member(shop), await lot_of(shop)

    answers = await asyncio.gather(
        *(reserve(shop, line(shop)) for _ in range(5)),
        move(desk, "withdrawCards", lot),
        *(reserve(shop, line(shop)) for _ in range(5)),
        return_exceptions=True,
    )

    moved = next(one["moved"] for one in answers if isinstance(one, dict))
    held = len([one for one in answers if not isinstance(one, dict | BaseException)])
    assert (await states(shop)).get("reserved", 0) == held
    assert (await states(shop))["locked"] == moved == 30 - held
    assert await shown(shop) == 0


async def test_exported_keys_are_not_put_back_with_their_lot(db: None) -> None:
    shop = await make.shop(keys=5)
    desk, lot = await member(shop), await lot_of(shop)
    await shelf_keys.export_keys(shop.merchant_id, shop.variant_id, 2, ACTOR)
    await move(desk, "withdrawCards", lot)

    back = await move(desk, "restoreCards", lot)

    assert back["moved"] == 3
    assert await states(shop) == {"available": 3, "locked": 2}


async def test_what_is_asked_of_a_lot_is_checked(db: None) -> None:
    shop = await make.shop(keys=1)
    desk, lot = await member(shop), await lot_of(shop)

    wrong = await move(desk, "withdrawCards", lot, count=0, reason="a\u202eb")

    assert refused(wrong) == {("count",): "FIELD_INVALID", ("reason",): "FIELD_INVALID"}
    assert await states(shop) == {"available": 1}
    assert await audited() == []
