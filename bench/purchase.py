"""Whole purchases over HTTP and WebSocket against the real platform; the driver runs on the same cores.

python -m bench.purchase [--buyers 16 32 64] [--seconds 12] [--paced 20]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import uvloop

from bench import floors
from bench.buyers import Buyer, Trip, first_variant
from bench.house import House, house, stock
from bench.report import Report, hardware
from domain.core import db, ids

WARM_UP_S = 4.0
KEYS = 60_000


@dataclass(frozen=True, slots=True)
class Load:
    """One stretch of shopping."""

    trips: list[Trip]
    took_s: float
    cpu_s: dict[str, float]

    @property
    def rate(self) -> float:
        """Delivered purchases per second."""
        return len(self.trips) / self.took_s

    def goods_ms(self, share: float) -> float:
        """Milliseconds from the click to the goods that `share` of all purchases stay below."""
        took = sorted(trip.goods_s for trip in self.trips)
        return took[min(len(took) - 1, int(len(took) * share))] * 1000


@contextlib.asynccontextmanager
async def crowd(url: str, count: int) -> AsyncIterator[list[Buyer]]:
    """`count` buyers, each with a connection of its own for requests and one for events."""
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        contextlib.AsyncExitStack() as stack,
    ):
        yield [await stack.enter_async_context(Buyer(http, url)) for _ in range(count)]


async def closed(at: House, buyers: list[Buyer], variant_id: str, seconds: float) -> Load:
    """Everybody buys again as soon as the goods are there."""
    trips: list[Trip] = []
    until = time.perf_counter() + seconds

    async def shop(buyer: Buyer) -> None:
        while time.perf_counter() < until:
            trips.append(await buyer.buy(variant_id))

    before, own, began = at.cpu(), _own_cpu(), time.perf_counter()
    await asyncio.gather(*(shop(buyer) for buyer in buyers))
    return _load(at, trips, before, own, began)


async def paced(
    at: House, buyers: list[Buyer], variant_id: str, seconds: float, rate: float
) -> Load:
    """`rate` clicks per second, each by the next buyer, whatever the platform does meanwhile."""
    before, own, began = at.cpu(), _own_cpu(), time.perf_counter()
    tasks = []
    turns = itertools.cycle(buyers)
    for number in range(int(seconds * rate)):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(next(turns).buy(variant_id)))
    return _load(at, await asyncio.gather(*tasks), before, own, began)


def _load(at: House, trips: list[Trip], before: dict[str, float], own: float, began: float) -> Load:
    took = time.perf_counter() - began
    after = at.cpu()
    spent = {kind: seconds - before.get(kind, 0.0) for kind, seconds in after.items()}
    outcomes = Counter(trip.outcome for trip in trips)
    assert set(outcomes) == {"DELIVERED"}, outcomes
    assert len({good for trip in trips for good in trip.goods}) == len(trips), (
        "a key was sold twice"
    )
    return Load(trips, took, {**spent, "driver": _own_cpu() - own})


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(at: House, options: argparse.Namespace, report: Report) -> None:
    """All figures of the report."""
    await db.open(at.database_url, minsize=1, maxsize=2)
    try:
        async with crowd(at.url, max(options.buyers)) as buyers:
            variant_id = await first_variant(buyers[0])
            await stock(ids.decode(variant_id, "var"), KEYS)
            await closed(at, buyers[:16], variant_id, WARM_UP_S)
            calm = await paced(at, buyers, variant_id, options.seconds, options.paced)
            loads = {
                count: await closed(at, buyers[:count], variant_id, options.seconds)
                for count in options.buyers
            }
    finally:
        await db.close()
    best = max(loads.values(), key=lambda load: load.rate)
    for count, load in loads.items():
        report.add(
            f"purchases/s, {count} buyers", load.rate, "/s", goal=250, accepted=150, is_rate=True
        )
    report.add(f"click to goods at {options.paced:g}/s, p50", calm.goods_ms(0.5), "ms", goal=100)
    report.add(f"click to goods at {options.paced:g}/s, p99", calm.goods_ms(0.99), "ms")
    report.add("click to goods, most buyers, p50", loads[max(loads)].goods_ms(0.5), "ms")
    _split(report, best)
    bare, graphql = await floors.measure()
    report.add("floor: bare Starlette JSON, one request", bare, "ms")
    report.add("floor: bare strawberry, one request", graphql, "ms")
    api_ms = best.cpu_s.get("api", 0.0) * 1000 / len(best.trips)
    report.add("API per purchase / bare strawberry request", api_ms / graphql, "×")


def _split(report: Report, load: Load) -> None:
    """CPU per purchase by kind of process, in the fastest run."""
    count = len(load.trips)
    house_s = sum(seconds for kind, seconds in load.cpu_s.items() if kind != "driver")
    kami_s = sum(load.cpu_s.get(kind, 0.0) for kind in ("api", "worker", "postgres"))
    report.add("CPU per purchase: API + worker + PostgreSQL", kami_s * 1000 / count, "ms", goal=8)
    report.add("CPU per purchase: the whole platform", house_s * 1000 / count, "ms")
    for kind, seconds in sorted(load.cpu_s.items(), key=lambda item: -item[1]):
        report.add(f"CPU per purchase: {kind}", seconds * 1000 / count, "ms")


async def _main(options: argparse.Namespace) -> None:
    with house(KAMI_SANDBOX_AUTOCONFIRM_MS="1") as at:
        report = Report(
            "purchase",
            "Whole purchases: startCheckout → pay → signed callback → fulfil → goods on the WebSocket;"
            " the driver on the same cores",
            await hardware(at.database_url),
        )
        await measure(at, options, report)
    report.write()


def main() -> None:
    """Measure and write `bench/results/purchase.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--buyers", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--paced", type=float, default=20.0)
    uvloop.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
