"""Orders watched live over two API processes: drop, come back with a cursor, miss nothing, see nothing twice.

CASES C21, C22, J30, L33; WebSocket and SSE tell the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import aiohttp
import orjson
import pytest

from domain.core import db, ids
from tests import database, make
from tests.journeys.shoppers import WATCH, Shoppers, Trip, Watching
from tests.live import LiveServer, start

WATCHERS = 24


@pytest.fixture(scope="module")
def server(servers: database.Servers) -> Iterator[LiveServer]:
    """A platform with a quick heartbeat whose provider waits for a click."""
    chosen = {"KAMI_LIVE_HEARTBEAT_S": "1", "KAMI_SANDBOX_AUTOCONFIRM_MS": "0"}
    with start(servers, "kami_stream", **chosen) as live:
        yield live


async def begun(crowd: Shoppers) -> Trip:
    """An order that waits for its payment."""
    of = await make.shop(keys=3)
    found = await crowd.start(of)
    return Trip("", found["order"]["id"], found["accessKey"])


async def click(crowd: Shoppers, page: str) -> None:
    """Press pay on the provider's page."""
    async with crowd.http.post(f"{page}/pay", allow_redirects=False) as answer:
        assert answer.status in (302, 303)


async def delivered(crowd: Shoppers) -> Trip:
    """An order with its four events."""
    trip = await begun(crowd)
    paid = await crowd.pay(trip.order_id, trip.access_key)
    await click(crowd, paid["nextAction"]["url"])
    await crowd.until(trip, "DELIVERED")
    return trip


class Reader:
    """One watcher that comes back with its last cursor whenever it is dropped."""

    def __init__(self, server: LiveServer, http: aiohttp.ClientSession, trip: Trip) -> None:
        self.watching = Watching(server, http)
        self.trip = trip
        self.seen: list[dict[str, Any]] = []
        self.drops = 0

    async def read_to(self, sequence: int) -> None:
        """Read until the event `sequence`; a cut connection is opened again behind the last one."""
        async with asyncio.timeout(20):
            while not self.seen or self.seen[-1]["sequence"] < sequence:
                try:
                    self.seen += await self.watching.events(1)
                except (TypeError, OSError, aiohttp.ClientError):  # closed by a death
                    self.drops += 1
                    await self.reopen()

    async def reopen(self) -> None:
        """Subscribe behind the last event seen."""
        while True:
            try:
                after = self.seen[-1]["cursor"] if self.seen else None
                await self.watching.open(self.trip, after=after)
                return
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.1)


async def test_c21_c22_l33_drops_and_a_killed_process_lose_and_repeat_nothing(
    server: LiveServer, crowd: Shoppers
) -> None:
    trip = await begun(crowd)
    readers = [Reader(server, crowd.http, trip) for _ in range(WATCHERS)]
    for reader in readers:
        await reader.reopen()
    await asyncio.gather(*(reader.read_to(1) for reader in readers))

    paid = await crowd.pay(trip.order_id, trip.access_key)
    for reader in readers[: WATCHERS // 3]:  # gone before the event, or in the middle of it
        await reader.watching.drop()
    killed = server.kill("api-1")
    await asyncio.gather(*(reader.read_to(2) for reader in readers))
    await click(crowd, paid["nextAction"]["url"])
    await asyncio.gather(*(reader.read_to(4) for reader in readers))
    server.wait_back("api-1", killed)

    for reader in readers:
        assert [event["sequence"] for event in reader.seen] == [1, 2, 3, 4]
        assert [event["kind"] for event in reader.seen] == [
            "PLACED",
            "STARTED",
            "PAID",
            "DELIVERED",
        ]
        # Fresh values with each event, never those of the first.
        assert reader.seen[0]["order"]["status"] == "AWAITING_PAYMENT"
        assert reader.seen[0]["order"]["goods"] == []
        assert reader.seen[-1]["order"]["status"] == "DELIVERED"
        assert len(reader.seen[-1]["order"]["goods"]) == 1
        await reader.watching.drop()
    cursors = {tuple(event["cursor"] for event in reader.seen) for reader in readers}
    assert len(cursors) == 1
    by_death = [reader.drops for reader in readers[WATCHERS // 3 :]]
    assert 0 < sum(map(bool, by_death)) < len(by_death), "both processes had watchers"


async def test_c21_a_quiet_stream_beats(server: LiveServer, crowd: Shoppers) -> None:
    trip = await begun(crowd)
    watching = Watching(server, crowd.http)
    await watching.open(trip)
    await watching.events(1)

    beats = [await watching.next(3) for _ in range(2)]
    await watching.drop()

    assert [beat["__typename"] for beat in beats] == ["StreamHeartbeat"] * 2


async def test_c21_j30_pruned_history_is_a_gap_with_a_cursor_to_resume(
    server: LiveServer, crowd: Shoppers
) -> None:
    trip = await delivered(crowd)
    whole = await events(server, crowd, trip, 4)
    async with db.transaction():
        await db.execute("SET LOCAL ROLE NONE; SET LOCAL session_replication_role = replica")
        gone = "DELETE FROM event_log WHERE order_id = $1 AND sequence <= 2"
        await db.execute(gone, ids.decode(trip.order_id, "ord"))

    frames: list[dict[str, Any]] = []
    watching = Watching(server, crowd.http)
    await watching.open(trip, after=whole[0]["cursor"])
    while len(frames) < 3:
        frames.append(await watching.next())
    await watching.drop()
    resumed = await events(server, crowd, trip, 2, after=frames[0]["resumeCursor"])
    behind = await events(server, crowd, trip, 1, after=whole[2]["cursor"])

    assert [frame["__typename"] for frame in frames] == ["StreamGap", "OrderEvent", "OrderEvent"]
    assert [frame["sequence"] for frame in frames[1:]] == [3, 4]
    assert [event["sequence"] for event in resumed] == [3, 4]
    assert [event["sequence"] for event in behind] == [4]
    # Put back, so that the laws below see what was really written.
    for event in whole[:2]:
        await db.execute(
            "INSERT INTO event_log (order_id, merchant_id, sequence, kind, facts_json)"
            " SELECT id, merchant_id, $2, $3, '{}' FROM orders WHERE id = $1",
            ids.decode(trip.order_id, "ord"),
            event["sequence"],
            "order.placed",
        )


async def events(
    server: LiveServer, crowd: Shoppers, trip: Trip, count: int, *, after: str | None = None
) -> list[dict[str, Any]]:
    """The next events behind a cursor."""
    watching = Watching(server, crowd.http)
    await watching.open(trip, after=after)
    try:
        return await watching.events(count)
    finally:
        await watching.drop()


async def test_j30_a_forged_cursor_is_bad_user_input(server: LiveServer, crowd: Shoppers) -> None:
    mine, other = await begun(crowd), await begun(crowd)
    good = (await events(server, crowd, mine, 1))[0]["cursor"]
    others = (await events(server, crowd, other, 1))[0]["cursor"]
    forged = [
        others,
        "",
        "x",
        good[:-1] + ("A" if good[-1] != "A" else "B"),
        "AAAA" * 5,
        good + "A",
    ]

    for cursor in forged[:1] + forged[2:]:
        watching = Watching(server, crowd.http)
        await watching.open(mine, after=cursor)
        refusal = await watching.next()
        assert refusal["type"] == "error", (cursor, refusal)
        assert refusal["payload"][0]["extensions"]["code"] == "BAD_USER_INPUT"
        await watching.drop()


async def test_h01_without_the_key_there_is_no_such_order(
    server: LiveServer, crowd: Shoppers
) -> None:
    mine, other = await begun(crowd), await begun(crowd)

    told = []
    for order_id, key in ((mine.order_id, other.access_key), (ids.encode("ord", ids.uuid7()), "x")):
        watching = Watching(server, crowd.http)
        await watching.open(Trip("", order_id, key))
        refusal = await watching.next()
        told.append((refusal["type"], refusal["payload"][0]["message"]))
        assert refusal["payload"][0]["extensions"]["code"] == "NOT_FOUND"
        await watching.drop()
    assert told[0] == told[1]


async def sse(
    server: LiveServer, crowd: Shoppers, trip: Trip, count: int, **headers: str
) -> list[tuple[str, dict[str, Any]]]:
    """(id, data) of the next events over SSE; heartbeats have no id and are passed over."""
    body = {"query": WATCH, "variables": {"id": trip.order_id, "key": trip.access_key}}
    sent = {"content-type": "application/json", "accept": "text/event-stream", **headers}
    found: list[tuple[str, dict[str, Any]]] = []
    mark = ""
    async with crowd.http.post(
        f"{server.url}/graphql/stream", data=orjson.dumps(body), headers=sent
    ) as answer:
        async for raw in answer.content:
            line = raw.decode().rstrip("\n")
            if line.startswith("id: "):
                mark = line[4:]
            elif line.startswith("data: ") and mark:
                found.append((mark, orjson.loads(line[6:])["data"]["orderEvents"]))
                mark = ""
                if len(found) == count:
                    return found
    raise AssertionError(found)


async def test_l33_sse_shows_the_same_and_resumes_with_last_event_id(
    server: LiveServer, crowd: Shoppers
) -> None:
    trip = await delivered(crowd)
    over_ws = await events(server, crowd, trip, 4)

    over_sse = await sse(server, crowd, trip, 4)
    rest = await sse(server, crowd, trip, 2, **{"Last-Event-ID": over_sse[1][0]})

    assert [event for _, event in over_sse] == over_ws
    assert [mark for mark, _ in over_sse] == [event["cursor"] for event in over_ws]
    assert [event["sequence"] for _, event in rest] == [3, 4]
