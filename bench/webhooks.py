"""The webhook worker against a local receiver: deliveries per second, what one costs, and whether memory stays flat.

python -m bench.webhooks [--deliveries 20000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from typing import Any

import uvloop

from bench import backlog
from bench.ground import cpu_s, ground, pss_mib
from bench.report import Report, hardware
from domain import webhooks
from domain.core import db, ids
from domain.core.audit import Actor
from domain.core.settings import settings
from domain.webhooks import Terms
from plugins import installed
from server.graphql import shaping
from workers.main import calm_collector
from workers.webhooks import Dispatcher

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
HANGING = 4


class Sink(asyncio.Protocol):
    """The cheapest receiver there is: counts requests and says 204; one of `/hang` is left waiting."""

    taken = 0

    def connection_made(self, transport: Any) -> None:
        """Someone connects."""
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer every complete request."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            if head.startswith(b"post /hang"):
                return
            Sink.taken += 1
            self._transport.write(ANSWER)


async def receive() -> None:
    """Serve the sink until stdin closes; prints its port, then how many requests it took."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    print(Sink.taken, flush=True)
    server.close()


async def prepare(dsn: str, port: int, count: int, *, merchants: int, hanging: int = 0) -> int:
    """`count` orders of `merchants` merchants with an endpoint each, their events owed; how many can arrive."""
    await db.open(dsn, minsize=1, maxsize=2)
    shaping.install()
    try:
        stands = (await backlog.stands(max(1, merchants // 4)))[:merchants]
        for place, stand in enumerate(stands):
            path = "hang" if place < hanging else "kami"
            terms = webhooks.checked(Terms(f"http://127.0.0.1:{port}/{path}"))
            async with db.transaction():
                await webhooks.add(
                    stand.merchant_id,
                    terms,
                    endpoint_id=ids.uuid7(),
                    sees_split=True,
                    actor=Actor("system", "bench"),
                )
        for first in range(0, count, 4_000):
            await backlog.pile_up(min(4_000, count - first), stands, tag=backlog.tag(), paid=False)
        while await webhooks.collect():
            pass
        return int(
            await db.value(
                "SELECT count(*) FROM webhook_delivery d JOIN webhook_endpoint e ON e.id = d.endpoint_id"
                " WHERE e.url LIKE '%/kami'"
            )
        )
    finally:
        await db.close()


_LEFT = """
SELECT count(*) FROM webhook_delivery d JOIN webhook_endpoint e ON e.id = d.endpoint_id
WHERE e.url LIKE '%/kami' AND d.state IN ('ready', 'leased')
"""


async def work(dsn: str, count: int) -> dict[str, float]:
    """Send everything, in this process; seconds, CPU, and memory early and late."""
    installed.load(settings())
    shaping.install()
    await db.open(dsn, minsize=1, maxsize=4)
    calm_collector()
    dispatcher = Dispatcher()
    used, began = cpu_s(os.getpid()), time.perf_counter()
    sending = asyncio.create_task(dispatcher.loop.keep_running())
    early = 0.0
    while left := await db.value(_LEFT):
        if not early and left < count * 3 // 4:
            early = pss_mib(os.getpid())
        await asyncio.sleep(0.1)
    took, cpu = time.perf_counter() - began, cpu_s(os.getpid()) - used
    late = pss_mib(os.getpid())
    dispatcher.loop.stop()
    await sending
    await dispatcher.close()
    dead = await db.value("SELECT count(*) FROM webhook_delivery WHERE state = 'dead'")
    assert dead == 0, dead
    await installed.close()
    await db.close()
    return {"took_s": took, "cpu_s": cpu, "early_mib": early, "late_mib": late}


async def _child(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.webhooks",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def _round(
    dsn: str, count: int, postgres: int, *, merchants: int, hanging: int = 0
) -> dict[str, float]:
    sink = await _child("--receive")
    assert sink.stdout is not None
    port = int(await sink.stdout.readline())
    owed = await prepare(dsn, port, count, merchants=merchants, hanging=hanging)
    before = cpu_s(postgres, children=True)
    worker = await _child("--work", dsn, "--deliveries", str(owed))
    found: dict[str, float] = json.loads((await worker.communicate())[0])
    found["postgres_s"] = cpu_s(postgres, children=True) - before
    found["count"] = owed
    taken = int((await sink.communicate(b"\n"))[0])
    assert taken == owed, (taken, owed)  # each once
    return found


async def _main(options: argparse.Namespace) -> None:
    os.environ["KAMI_WEBHOOKS_TO_LOOPBACK"] = "true"
    async with ground("webhooks") as on:
        os.environ["KAMI_WEBHOOKS_TO_LOOPBACK"] = "true"  # `ground` forgets the caller's settings
        settings.cache_clear()
        count, server = options.deliveries, on.postgres_pid
        many = await _round(await on.migrated("many"), count, server, merchants=16)
        one = await _round(await on.migrated("one"), count // 3, server, merchants=1)
        hung = await _round(
            await on.migrated("hung"), count // 3, server, merchants=16, hanging=HANGING
        )
        report = Report(
            "webhooks",
            f"{many['count']:,.0f} webhooks by one worker process to a receiver on the same machine",
            await hardware(on.dsn("postgres")),
        )
    report.add("sixteen endpoints", many["count"] / many["took_s"], "/s", goal=500, is_rate=True)
    report.add("one endpoint", one["count"] / one["took_s"], "/s", goal=500, is_rate=True)
    report.add(
        f"twelve endpoints beside {HANGING} that hang",
        hung["count"] / hung["took_s"],
        "/s",
        goal=500,
        is_rate=True,
    )
    report.add("CPU of the worker per webhook", many["cpu_s"] / many["count"] * 1000, "ms")
    report.add("CPU of PostgreSQL per webhook", many["postgres_s"] / many["count"] * 1000, "ms")
    report.add("memory after a quarter (PSS)", many["early_mib"], "MiB")
    report.add("memory at the end (PSS)", many["late_mib"], "MiB", goal=many["early_mib"] + 10)
    report.write()


def main() -> None:
    """Measure and write `bench/results/webhooks.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deliveries", type=int, default=20_000)
    parser.add_argument("--receive", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.receive:
        uvloop.run(receive())
    elif options.work:
        print(json.dumps(uvloop.run(work(options.work, options.deliveries))))
    else:
        uvloop.run(_main(options))


if __name__ == "__main__":
    main()
