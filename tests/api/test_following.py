"""All orders of a merchant followed: from a cursor on, then live; read together, and only by who may read orders.

CASES C21, C22, H01, H20, L33.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from domain import identity, orders
from domain.core import clock, db, events, ids, live
from domain.core.errors import NotFound
from domain.core.money import Money
from domain.identity import AppPass, Forbidden, Role, Viewer
from domain.orders import EventKind
from resolvers import following
from resolvers.context import Context
from resolvers.errors import BadUserInput
from server.graphql import watch
from server.graphql.door import Answer
from server.graphql.request import Asked
from server.graphql.sse import EventStreams
from server.graphql.watch import Stream
from tests import make
from tests.api.test_merchant_views import member
from tests.platform import Platform, running, uuid_of

FOLLOW = """subscription ($id: ID!, $after: String) { merchantEvents(merchantId: $id, after: $after) {
    __typename
    ... on OrderEvent { cursor sequence kind
      order { id version status goods { content } timeline { sequence cursor } } }
    ... on StreamGap { resumeCursor }
    ... on StreamHeartbeat { at } } }"""


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


async def following_of(
    platform: Platform,
    of: make.Shop,
    viewer: Viewer | None,
    *,
    after: str | None = None,
    document: str = FOLLOW,
) -> Stream | Answer:
    context = Context(request_id="test", address=platform.address, viewer=viewer)
    variables = {"id": ids.encode("mer", of.merchant_id), "after": after}
    return await watch.watch(platform.door, Asked(document, variables=variables), context)


async def told(stream: Stream | Answer, count: int) -> list[dict[str, Any]]:
    """The next events, heartbeats passed over."""
    assert isinstance(stream, Stream), stream
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            frame = orjson.loads((await anext(stream)).body)["data"]["merchantEvents"]
            if frame["__typename"] != "StreamHeartbeat":
                found.append(frame)
    return found


def short(frames: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(frame["order"]["id"], frame["sequence"]) for frame in frames]


async def sold(platform: Platform, of: make.Shop, heard: int = 1) -> str:
    order_id, _, _ = await platform.bought(of)
    await platform.heard(heard)
    await platform.work()
    return order_id


async def test_c21_every_order_of_the_merchant_is_told_live_and_again_from_any_cursor(
    platform: Platform,
) -> None:
    of, other = await make.shop(price=Money(1_050, "USD")), await make.shop()
    owner = await member(of, Role.OWNER)
    stream = await following_of(platform, of, owner)
    assert isinstance(stream, Stream)
    joined = asyncio.ensure_future(told(stream, 8))
    await asyncio.sleep(0.05)

    await make.order(other)
    first = await sold(platform, of)
    second = await sold(platform, of, 2)
    frames = await joined
    cursors = [frame["cursor"] for frame in frames]
    again = await following_of(platform, of, owner, after=cursors[2])
    rest = await told(again, 5)
    for one in (stream, again):
        assert isinstance(one, Stream)
        await one.close()

    assert sorted(short(frames)) == sorted(
        (one, no) for one in (first, second) for no in range(1, 5)
    )
    assert [no for one, no in short(frames) if one == first] == [1, 2, 3, 4]
    assert len(set(cursors)) == 8
    assert [frame["cursor"] for frame in rest] == cursors[3:]
    assert all(frame["order"]["goods"] == [] for frame in frames)
    # What is below an event keeps its own order's cursors.
    assert orders_cursor(frames[0], first) == 1
    assert live.hub().count == 0


def orders_cursor(frame: dict[str, Any], order_id: str) -> int:
    from resolvers.orders import sequence_of

    return sequence_of(frame["order"]["timeline"][0]["cursor"], uuid_of(order_id))


async def test_c22_followers_of_one_place_are_read_for_together_and_told_the_same_bytes(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = await make.shop()
    owner, finance = await member(of, Role.OWNER), await member(of, Role.FINANCE)
    reads: list[int] = []
    views = orders.views

    async def noted(order_ids: Any, parts: Any = ()) -> Any:
        reads.append(len(set(order_ids)))
        return await views(order_ids, parts)

    monkeypatch.setattr(orders, "views", noted)
    start = await following.cursor_of_now(of.merchant_id)
    placed = [(await make.order(of)).id for _ in range(5)]
    streams = [
        await following_of(platform, of, viewer, after=start)
        for viewer in (owner, finance, owner, finance)
    ]

    async def bodies(stream: Stream | Answer) -> list[bytes]:
        assert isinstance(stream, Stream)
        async with asyncio.timeout(10):
            return [(await anext(stream)).body for _ in range(5)]

    past = await asyncio.gather(*map(bodies, streams))
    reads.clear()
    async with db.transaction():
        held = await orders.lock(placed)
        await orders.tell_many([(one, EventKind.HELD, {}) for one in held.values()])
    present = await asyncio.gather(*map(bodies, streams))
    for stream in streams:
        assert isinstance(stream, Stream)
        await stream.close()

    assert past == [past[0]] * 4
    assert present == [present[0]] * 4
    assert [b'"sequence":2' in body for body in present[0]] == [True] * 5
    assert reads == [5]


async def test_h01_only_who_may_read_the_orders_follows_them(platform: Platform) -> None:
    of, other = await make.shop(), await make.shop()
    stranger, catalogue = await member(other, Role.OWNER), await member(of, Role.CATALOGUE)

    async def refused(viewer: Viewer | None) -> str:
        opened = await following_of(platform, of, viewer)
        if isinstance(opened, Answer):
            return str(opened.code)
        with pytest.raises((NotFound, Forbidden)) as error:
            await anext(opened)
        await opened.close()
        return error.value.code

    assert await refused(None) == "UNAUTHENTICATED"
    assert await refused(stranger) == "NOT_FOUND"
    assert await refused(catalogue) == "FORBIDDEN"
    assert live.hub().count == 0


@pytest.mark.parametrize("role", [Role.OWNER, Role.FINANCE, Role.SUPPORT, Role.READ_ONLY])
async def test_members_who_read_orders_follow_them(platform: Platform, role: Role) -> None:
    of = await make.shop()
    viewer = await member(of, role)
    start = await following.cursor_of_now(of.merchant_id)
    await make.order(of)

    stream = await following_of(platform, of, viewer, after=start)
    frames = await told(stream, 1)
    assert isinstance(stream, Stream)
    await stream.close()

    assert [(one["kind"], one["sequence"]) for one in frames] == [("PLACED", 1)]


async def test_h20_an_app_needs_orders_read_and_follows_its_merchant_alone(
    platform: Platform,
) -> None:
    of, other = await make.shop(), await make.shop()
    owner = await member(of, Role.OWNER)

    def app(*granted: str) -> Viewer:
        grant = AppPass(
            ids.uuid7(), owner.session_id, of.merchant_id, frozenset(granted), clock.now()
        )
        return replace(owner, app=grant, roles={of.merchant_id: Role.OWNER})

    start = await following.cursor_of_now(of.merchant_id)
    await make.order(of)
    closed = await following_of(platform, of, app("catalogue:read"))
    goods = FOLLOW.replace(" goods { content }", "")
    opened = await following_of(platform, of, app("orders:read"), after=start, document=goods)
    foreign = await following_of(platform, other, app("orders:read"), document=goods)
    shown = await following_of(platform, of, app("orders:read"))
    frames = await told(opened, 1)
    assert isinstance(foreign, Stream)
    with pytest.raises(NotFound):
        await anext(foreign)
    for one in (opened, foreign):
        assert isinstance(one, Stream)
        await one.close()

    assert isinstance(closed, Answer)
    assert closed.code == "INSUFFICIENT_SCOPE"
    assert isinstance(shown, Answer)  # goods are the buyer's
    assert shown.code == "INSUFFICIENT_SCOPE"
    assert short(frames) == [(frames[0]["order"]["id"], 1)]


async def test_h14_a_right_that_is_lost_ends_the_stream_before_the_next_event(
    platform: Platform,
) -> None:
    of = await make.shop()
    await member(of, Role.FINANCE)
    signed = await identity.sign_in(
        f"{Role.FINANCE}-{of.handle}@example.com", "correct horse battery", "203.0.113.9"
    )
    context = Context(request_id="test", address=platform.address)
    await platform.door.admit(context, signed.token)
    start = await following.cursor_of_now(of.merchant_id)
    await make.order(of)
    variables = {"id": ids.encode("mer", of.merchant_id), "after": start}
    stream = await watch.watch(platform.door, Asked(FOLLOW, variables=variables), context)
    assert len(await told(stream, 1)) == 1

    await db.execute(
        "UPDATE membership SET role = 'catalogue' WHERE account_id = $1", signed.account_id
    )
    identity.forget_viewers()
    await make.order(of)
    with pytest.raises(Forbidden):
        await told(stream, 1)
    assert isinstance(stream, Stream)
    await stream.close()


async def test_c21_forged_and_foreign_cursors_are_refused(platform: Platform) -> None:
    of, other = await make.shop(), await make.shop()
    owner = await member(of, Role.OWNER)
    placed = await make.order(of)
    good = await following.cursor_of_now(of.merchant_id)
    from resolvers.orders import cursor_of

    foreign = [
        await following.cursor_of_now(other.merchant_id),
        cursor_of(placed.id, 1),
        good[:-2] + ("AA" if good[-2:] != "AA" else "BB"),
        "",
        "x",
    ]

    for cursor in foreign:
        stream = await following_of(platform, of, owner, after=cursor)
        assert isinstance(stream, Stream)
        with pytest.raises(BadUserInput):
            await anext(stream)
        await stream.close()


async def test_c21_a_cursor_into_a_dropped_month_is_told_so_and_goes_on_without_a_gap(
    platform: Platform,
) -> None:
    of = await make.shop()
    owner = await member(of, Role.OWNER)
    place = await events.edge()
    placed = await make.order(of)
    floor = await events.floor()
    old = following.cursor_of(of.merchant_id, place, floor.replace(year=floor.year - 1))

    stream = await following_of(platform, of, owner, after=old)
    gap, event = await told(stream, 2)
    resumed = await following_of(platform, of, owner, after=gap["resumeCursor"])
    again = await told(resumed, 1)
    for one in (stream, resumed):
        assert isinstance(one, Stream)
        await one.close()

    assert gap["__typename"] == "StreamGap"
    assert event["order"]["id"] == ids.encode("ord", placed.id)
    assert again == [event]


async def test_c22_a_long_past_comes_in_stretches_and_a_slow_reader_is_never_cut(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "READ_MAX", 3)
    of = await make.shop(keys=1)
    owner = await member(of, Role.OWNER)
    start = await following.cursor_of_now(of.merchant_id)
    placed = [ids.encode("ord", (await make.order(of)).id) for _ in range(10)]
    stream = await following_of(platform, of, owner, after=start)
    head = await told(stream, 1)
    async with db.transaction():
        held = await orders.lock_one(uuid_of(placed[0]))
        assert held is not None
        await orders.tell(held, EventKind.HELD)
    await asyncio.sleep(0.2)

    rest = await told(stream, 10)
    assert isinstance(stream, Stream)
    await stream.close()

    assert short(head + rest) == [*((one, 1) for one in placed), (placed[0], 2)]


async def test_c21_over_sse_the_last_event_id_takes_the_place_of_after(platform: Platform) -> None:
    of = await make.shop()
    await member(of, Role.OWNER)
    signed = await identity.sign_in(
        f"{Role.OWNER}-{of.handle}@example.com", "correct horse battery", "203.0.113.9"
    )
    start = await following.cursor_of_now(of.merchant_id)
    for _ in range(3):
        await make.order(of)

    async def stream(cursor: str, count: int) -> list[tuple[str, str]]:
        """(id of the event, cursor in it)."""
        variables = {"id": ids.encode("mer", of.merchant_id)}
        body = orjson.dumps({"query": FOLLOW, "variables": variables})
        headers = {
            "content-type": "application/json",
            "accept": "text/event-stream",
            "authorization": f"Bearer {signed.token}",
            "last-event-id": cursor,
        }
        over, sent, is_read = asyncio.Event(), b"", False

        async def receive() -> dict[str, Any]:
            nonlocal is_read
            if not is_read:
                is_read = True
                return {"type": "http.request", "body": body, "more_body": False}
            await over.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal sent
            sent += message.get("body", b"")
            if sent.count(b"event: next") >= count:
                over.set()

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/graphql/stream",
            "query_string": b"",
            "client": ("203.0.113.9", 1),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        async with asyncio.timeout(10):
            await EventStreams(platform.door)(scope, receive, send)
        found = []
        for part in sent.split(b"\n\n"):
            if part.startswith(b"id: "):
                head, _, data = part.split(b"\n")
                event = orjson.loads(data.removeprefix(b"data: "))["data"]["merchantEvents"]
                found.append((head.removeprefix(b"id: ").decode(), event["cursor"]))
        return found

    whole = await stream(start, 3)
    rest = await stream(whole[0][0], 2)

    assert len(whole) == 3
    assert all(head == cursor for head, cursor in whole)
    assert rest == whole[1:]
