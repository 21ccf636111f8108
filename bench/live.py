"""Live subscribers: thousands on one API process, what one costs, and how soon an event reaches all of them.

python -m bench.live [--subscribers 5000]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import time
from uuid import UUID

import aiohttp
import orjson
import uvloop

from bench import backlog
from bench.ground import cpu_s, pss_mib
from bench.house import House, house
from bench.report import Report, hardware
from domain.core import bell, db, ids, vault

WATCH = """
subscription Watch($id: ID!, $key: String!) {
  orderEvents(orderId: $id, accessKey: $key) {
    __typename ... on OrderEvent { cursor sequence kind order { status version } }
  }
}"""
OPEN_AT_ONCE = 50
IDLE_S = 30.0
WAVES = 5
WARM = 50


class Arrivals:
    """When each event came to each of `count` subscribers, in seconds of the driver's clock."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._came: dict[int, list[float]] = {}
        self._whole: dict[int, asyncio.Event] = {}
        self._error: BaseException | None = None

    def note(self, sequence: int) -> None:
        """The event `sequence` has come to one more of them."""
        came = self._came.setdefault(sequence, [])
        came.append(time.perf_counter())
        if len(came) == self._count:
            self._whole.setdefault(sequence, asyncio.Event()).set()

    def ended(self, reader: asyncio.Task[None]) -> None:
        """A reader is over: before the end of the run that is a failure of the run."""
        if not reader.cancelled():
            self._error = reader.exception() or RuntimeError("a connection was closed")
            for event in self._whole.values():
                event.set()

    async def of(self, sequence: int) -> list[float]:
        """Wait until everybody has it; when it came."""
        await self._whole.setdefault(sequence, asyncio.Event()).wait()
        if self._error is not None:
            raise self._error
        return self._came[sequence]


class Subscriber:
    """One connection that watches one order: every event once, in order, with the order as it is behind it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, arrivals: Arrivals) -> None:
        self._socket = socket
        self._arrivals = arrivals

    async def watch(self, order_id: UUID) -> None:
        """Subscribe, then read until the connection ends."""
        variables = {"id": ids.encode("ord", order_id), "key": vault.access_key(order_id)}
        payload = {"query": WATCH, "variables": variables}
        message = orjson.dumps({"id": "1", "type": "subscribe", "payload": payload})
        await self._socket.send_str(message.decode())
        last = version = 0
        async for frame in self._socket:
            found = orjson.loads(frame.data)
            if found["type"] == "next":
                assert "errors" not in found["payload"], found
                event = found["payload"]["data"]["orderEvents"]
                if "sequence" in event:
                    assert event["sequence"] == last + 1, (event, last)
                    assert event["order"]["version"] > version, (event, version)
                    last, version = event["sequence"], event["order"]["version"]
                    self._arrivals.note(last)


async def connect(http: aiohttp.ClientSession, url: str, arrivals: Arrivals) -> Subscriber:
    """Open one connection."""
    socket = await http.ws_connect(
        url.replace("http", "ws", 1) + "/graphql", protocols=("graphql-transport-ws",)
    )
    await socket.send_json({"type": "connection_init"})
    hello = await socket.receive_json()
    assert hello["type"] == "connection_ack", hello
    return Subscriber(socket, arrivals)


async def place(count: int) -> list[UUID]:
    """`count` orders of one merchant; their ids."""
    stands = await backlog.stands(1)
    await backlog.pile_up(count, stands[:1], tag=backlog.tag(), paid=False)
    rows = await db.fetch("SELECT id FROM orders WHERE shop_id = $1 ORDER BY id", stands[0].shop_id)
    return [row["id"] for row in rows]


async def tell_all(order_ids: list[UUID], sequence: int) -> float:
    """One more event for every order, one commit, one ring; when it had committed."""
    async with db.transaction():
        await db.execute(
            "UPDATE orders SET event_seq = $2, version = version + 1 WHERE id = ANY($1)",
            order_ids,
            sequence,
        )
        await db.execute(
            "INSERT INTO event_log (order_id, merchant_id, sequence, kind, facts_json)"
            " SELECT id, merchant_id, $2, 'payment.unknown', '{}' FROM orders WHERE id = ANY($1)",
            order_ids,
            sequence,
        )
    committed = time.perf_counter()
    for first in range(0, len(order_ids), bell.IDS_MAX):
        await bell.ring(bell.ORDERS, *order_ids[first : first + bell.IDS_MAX])
    return committed


async def measure(at: House, count: int, report: Report) -> None:
    """All figures of the report."""
    await db.open(at.database_url, minsize=1, maxsize=2)
    bell.open(at.redis_url)
    api = at.pids()["api-1"]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        order_ids = await place(count + WARM)
        readers: list[asyncio.Task[None]] = []
        # A few first, so that what every process needs once is not charged to the subscribers.
        warm = Arrivals(WARM)
        await _join(http, at.url, order_ids[count:], readers, warm)
        await warm.of(1)
        before = pss_mib(api)
        arrivals = Arrivals(count)
        await _join(http, at.url, order_ids[:count], readers, arrivals)
        await arrivals.of(1)
        gc.freeze()  # the driver's pauses are not the platform's
        await asyncio.sleep(2)
        joined = pss_mib(api)
        used, began = cpu_s(api), time.perf_counter()
        await asyncio.sleep(IDLE_S)
        idle = (cpu_s(api) - used) / (time.perf_counter() - began)
        late: list[float] = []
        used = cpu_s(api)
        for sequence in range(2, 2 + WAVES):
            committed = await tell_all(order_ids[:count], sequence)
            late += [at_s - committed for at_s in await arrivals.of(sequence)]
            await asyncio.sleep(0.5)
        spent_s = cpu_s(api) - used
        after = pss_mib(api)
        for task in readers:
            task.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    await bell.close()
    await db.close()
    late.sort()
    report.add("memory per subscriber (PSS)", (joined - before) * 1024 / count, "KiB", goal=40)
    report.add("the same after all events", (after - before) * 1024 / count, "KiB")
    report.add("event to each of them, p50", late[len(late) // 2], "s")
    report.add("event to each of them, p99", late[len(late) * 99 // 100], "s", goal=1)
    report.add("CPU of the API process per event", spent_s * 1000 / len(late), "ms")
    report.add("idle CPU of the API process", idle * 100, "%", goal=5)
    report.add("API process before they came (PSS)", before, "MiB")


async def _join(
    http: aiohttp.ClientSession,
    url: str,
    order_ids: list[UUID],
    readers: list[asyncio.Task[None]],
    arrivals: Arrivals,
) -> None:
    for first in range(0, len(order_ids), OPEN_AT_ONCE):
        some = order_ids[first : first + OPEN_AT_ONCE]
        fresh = await asyncio.gather(*(connect(http, url, arrivals) for _ in some))
        for one, order_id in zip(fresh, some, strict=True):
            reader = asyncio.create_task(one.watch(order_id))
            reader.add_done_callback(arrivals.ended)
            readers.append(reader)


async def _main(options: argparse.Namespace) -> None:
    wanted = options.subscribers + 200
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(wanted, 1024)), hard))
    with house(KAMI_API_PROCESSES="1") as at:
        report = Report(
            "live",
            f"{options.subscribers:,} subscribers, a connection each, on one API process; the driver beside it",
            await hardware(at.database_url),
        )
        await measure(at, options.subscribers, report)
    report.write()


def main() -> None:
    """Measure and write `bench/results/live.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subscribers", type=int, default=5_000)
    uvloop.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
