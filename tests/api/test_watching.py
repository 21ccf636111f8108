"""Orders watched by several callers at once: read together, written once, and nobody is shown another's goods.

CASES C21, C22, D12, H01.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from domain import catalogue, orders
from domain.core import db as core
from domain.core import live
from domain.core.errors import NotFound
from domain.core.money import Money
from domain.identity import Role, Viewer
from resolvers.context import Context
from server.graphql import watch
from server.graphql.request import Asked
from server.graphql.watch import Stream
from tests import make
from tests.api.test_merchant_views import member
from tests.platform import Platform, running, uuid_of

FIELDS = """
    __typename
    ... on OrderEvent { %s }
    ... on StreamGap { resumeCursor }
    ... on StreamHeartbeat { at }"""
WATCH = "subscription ($id: ID!, $key: String, $after: String) {"
WATCH += " orderEvents(orderId: $id, accessKey: $key, after: $after) {" + FIELDS + "} }"
GOODS = "sequence kind order { status goods { content revoked } }"
# A selection that depends on a variable is never compiled: the executor answers.
LONG = WATCH.replace("$after: String", "$after: String, $yes: Boolean = true").replace(
    "__typename", "__typename @include(if: $yes)"
)
EVERYTHING = """
    cursor sequence occurredAt kind
    order {
      id number status paymentState version createdAt expiresAt total { amount currency }
      lines { id title quantity delivered } payments { id status amount { amount } method { code name } }
      timeline { sequence kind occurredAt cursor }
      fundsFlow { leg amount { amount currency } } goods { lineId content revealedAt revoked }
    }"""


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    async with running(tmp_path, monkeypatch, autoconfirm_ms=1) as found:
        live.forget()
        task = asyncio.create_task(live.hub().run())
        yield found
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=0.2)
        live.forget()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """How many orders each read, and each reveal, was for."""
    seen: dict[str, list[int]] = {"moved": [], "reveal": []}
    moved, reveal = orders.moved, catalogue.reveal

    async def noted(after: Any, unmet: Any, parts: Any) -> Any:
        seen["moved"].append(len(after))
        return await moved(after, unmet, parts)

    async def revealed(asked: Any) -> Any:
        seen["reveal"].append(len(asked))
        return await reveal(asked)

    monkeypatch.setattr(orders, "moved", noted)
    monkeypatch.setattr("resolvers.orders._revealing._load", revealed)
    return seen


async def watching(
    platform: Platform,
    order_id: str,
    key: str | None = None,
    *,
    viewer: Viewer | None = None,
    document: str = WATCH % GOODS,
    after: str | None = None,
) -> Stream:
    """One open subscription."""
    context = Context(request_id="test", address=platform.address, viewer=viewer)
    asked = Asked(document, variables={"id": order_id, "key": key, "after": after})
    opened = await watch.watch(platform.door, asked, context)
    assert isinstance(opened, Stream), opened
    return opened


async def frames(stream: Stream, count: int) -> list[bytes]:
    """Its next events as they would be sent."""
    async with asyncio.timeout(10):
        return [(await anext(stream)).body for _ in range(count)]


def events(bodies: list[bytes]) -> list[dict[str, Any]]:
    found = [orjson.loads(body) for body in bodies]
    assert not [one for one in found if "errors" in one], found
    return [one["data"]["orderEvents"] for one in found]


async def audits() -> list[dict[str, Any]]:
    rows = await core.fetch("SELECT facts_json FROM audit_log WHERE action = 'goods.reveal'")
    return [row["facts_json"] for row in rows]


async def sold(platform: Platform, of: make.Shop, count: int) -> list[tuple[str, str]]:
    """Orders delivered; (id, access key) of each."""
    found = []
    for _ in range(count):
        order_id, key, _ = await platform.bought(of)
        found.append((order_id, key))
    await platform.heard(count)
    await platform.work()
    return found


async def test_d12_h01_tabs_of_the_buyer_share_a_frame_and_the_merchant_never_sees_the_goods(
    platform: Platform, reads: dict[str, list[int]]
) -> None:
    of = await make.shop(price=Money(1_050, "USD"))
    owner = await member(of, Role.OWNER)
    [(order_id, key)] = await sold(platform, of, 1)
    tabs = [await watching(platform, order_id, key) for _ in range(3)]
    shop = [await watching(platform, order_id, viewer=owner) for _ in range(2)]

    told = await asyncio.gather(*(frames(one, 4) for one in (*shop[:1], *tabs, *shop[1:])))
    for stream in (*tabs, *shop):
        await stream.close()

    by_shop, by_buyer = [told[0], told[4]], told[1:4]
    assert by_buyer == [by_buyer[0]] * 3
    assert by_shop == [by_shop[0]] * 2
    [good] = events(by_buyer[0])[-1]["order"]["goods"]
    assert good["content"].startswith("KEY-")
    assert all(event["order"]["goods"] == [] for event in events(by_shop[0]))
    assert all(good["content"].encode() not in body for bodies in by_shop for body in bodies)
    assert await audits() == [{"goods": 1, "first": 1}]
    assert reads["moved"] == [1]


async def test_h01_the_split_is_shown_to_who_reads_the_money_though_all_watch_together(
    platform: Platform,
) -> None:
    of = await make.shop(price=Money(1_050, "USD"))
    owner, helper = await member(of, Role.OWNER), await member(of, Role.CATALOGUE)
    [(order_id, key)] = await sold(platform, of, 1)
    document = WATCH % "order { fundsFlow { leg } payments { id } goods { content } }"
    callers: list[dict[str, Any]] = [{"key": key}, {"viewer": owner}, {"viewer": helper}]
    callers.append({"key": key, "viewer": owner})
    streams = [await watching(platform, order_id, document=document, **one) for one in callers]

    told = await asyncio.gather(*(frames(stream, 4) for stream in streams))
    for stream in streams:
        await stream.close()

    shown = [events(bodies)[-1]["order"] for bodies in told]
    buyer, money, shelf, both = [{leg["leg"] for leg in one["fundsFlow"]} for one in shown]
    assert "merchant" in money
    assert "commission" in money
    assert both == money
    assert buyer == shelf
    assert "commission" not in buyer
    assert [len(one["goods"]) for one in shown] == [1, 0, 0, 1]
    assert len(await audits()) == 1


async def test_d12_orders_of_one_wave_are_read_and_revealed_together_with_a_row_each(
    platform: Platform, reads: dict[str, list[int]]
) -> None:
    of = await make.shop(price=Money(1_050, "USD"))
    bought = await sold(platform, of, 4)
    streams = [await watching(platform, *one) for one in bought]

    told = await asyncio.gather(*(frames(stream, 4) for stream in streams))
    for stream in streams:
        await stream.close()

    goods = [events(bodies)[-1]["order"]["goods"][0]["content"] for bodies in told]
    assert len(set(goods)) == 4
    assert reads == {"moved": [4], "reveal": [4]}
    assert await audits() == [{"goods": 1, "first": 1}] * 4


async def test_d12_goods_nobody_asks_for_stay_unseen(platform: Platform) -> None:
    of = await make.shop(price=Money(1_050, "USD"))
    [(order_id, key)] = await sold(platform, of, 1)
    stream = await watching(
        platform,
        order_id,
        key,
        document=WATCH % "kind order { status goods @skip(if: true) { content } }",
    )

    told = events(await frames(stream, 4))
    await stream.close()

    assert told[-1] == {
        "__typename": "OrderEvent",
        "kind": "DELIVERED",
        "order": {"status": "DELIVERED"},
    }
    assert await audits() == []


@pytest.mark.parametrize("selection", ["cursor kind order { version }", GOODS, EVERYTHING])
async def test_c22_a_compiled_selection_says_what_the_executor_says(
    platform: Platform, selection: str
) -> None:
    of = await make.shop(price=Money(1_050, "USD"))
    [(order_id, key)] = await sold(platform, of, 1)
    short = await watching(platform, order_id, key, document=WATCH % selection)
    long = await watching(platform, order_id, key, document=LONG % selection)

    told = [events(await frames(stream, 4)) for stream in (short, long)]
    for stream in (short, long):
        await stream.close()

    assert told[0] == told[1]
    assert [event["kind"] for event in told[0]] == ["PLACED", "STARTED", "PAID", "DELIVERED"]


async def test_c22_an_event_that_comes_later_shows_the_order_as_it_is_then(
    platform: Platform, reads: dict[str, list[int]]
) -> None:
    of = await make.shop(price=Money(1_050, "USD"))
    begun = await platform.start(of)
    order_id, key = begun["order"]["id"], begun["accessKey"]
    stream = await watching(platform, order_id, key)

    [placed] = events(await frames(stream, 1))
    await platform.pay(order_id, key)
    [started] = events(await frames(stream, 1))
    await platform.heard(1)
    await platform.work()
    rest = events(await frames(stream, 2))
    await stream.close()

    assert [one["order"]["status"] for one in (placed, started, *rest)] == [
        "AWAITING_PAYMENT",
        "AWAITING_PAYMENT",
        "DELIVERED",
        "DELIVERED",
    ]
    assert [len(one["order"]["goods"]) for one in (placed, started, *rest)] == [0, 0, 1, 1]
    # A whole sale costs its watcher four statements: joining, two commits, and the goods.
    assert reads == {"moved": [1, 1, 1], "reveal": [1]}
    assert await audits() == [{"goods": 1, "first": 1}]


async def test_h01_a_stranger_who_is_signed_in_watches_nothing(platform: Platform) -> None:
    of, other = await make.shop(price=Money(1_050, "USD")), await make.shop()
    stranger = await member(other, Role.OWNER)
    begun = await platform.start(of)
    stream = await watching(platform, begun["order"]["id"], viewer=stranger)

    with pytest.raises(NotFound):
        await anext(stream)
    await stream.close()

    assert live.hub().count == 0
    assert uuid_of(begun["order"]["id"]) not in live.hub()._listeners
