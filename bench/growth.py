"""Growth: what an order costs the engine on top of a long history, against the empty database.

python -m bench.growth [--history 100000] [--orders 16000] [--rounds 3]

The history is made by the engine itself, so it is real in every table: a million orders take about four minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics

from bench import backlog
from bench.fulfil import LANES, STANDS_PER_LANE, Round, engine, verify
from bench.ground import Ground, ground
from bench.report import Report, hardware
from domain.core import db

PILE = 50_000


async def prepare(on: Ground, history: int, orders: int) -> int:
    """`young`: accounts and a few orders; `old`: `history` delivered orders; both with `orders` waiting.

    The transfers in the books of `old`.
    """
    dsn = await on.migrated("young")
    await db.open(dsn, minsize=1, maxsize=4)
    stands = await backlog.stands(STANDS_PER_LANE)
    await backlog.pile_up(800, stands, tag="warm")
    await db.close()
    await engine(on, dsn, [list(LANES)])
    await on.clone("young", "old")
    for first in range(0, history, PILE):
        await _pile(on, "old", stands, min(PILE, history - first), f"past{first}")
        await engine(on, on.dsn("old"), [list(LANES)])
    for name in ("young", "old"):
        await _pile(on, name, stands, orders, "pile")
    await db.open(on.dsn("old"), minsize=1, maxsize=1)
    lines: int = await db.value("SELECT count(*) FROM ledger_transfer")
    await db.close()
    return lines


async def _pile(on: Ground, name: str, stands: list[backlog.Stand], count: int, tag: str) -> None:
    await db.open(on.dsn(name), minsize=1, maxsize=1)
    await backlog.pile_up(count, stands, tag=tag)
    await backlog.settle_statistics()
    await db.close()


async def measure(on: Ground, options: argparse.Namespace, report: Report) -> None:
    """All figures of the report."""
    lines = await prepare(on, options.history, options.orders)
    found: dict[str, list[Round]] = {"young": [], "old": []}
    for _ in range(options.rounds):
        for name, rounds in found.items():
            dsn = await on.clone(name, "now")
            rounds.append(await engine(on, dsn, [list(LANES)]))
    await verify(dsn, 800 + options.history + options.orders)
    cost = {
        name: statistics.median(one.cpu_ms(one.python_cpu_s + one.postgres_cpu_s) for one in rounds)
        for name, rounds in found.items()
    }
    rate = {name: statistics.median(one.rate for one in rounds) for name, rounds in found.items()}
    report.add("orders in the history", options.history, "")
    report.add("transfers in the books (two lines each)", lines, "")
    report.add("CPU per order, empty database", cost["young"], "ms")
    report.add("CPU per order, on the history", cost["old"], "ms")
    report.add("growth of the cost", cost["old"] / cost["young"], "×", goal=1.3)
    report.add("orders/s, empty database", rate["young"], "orders/s")
    report.add("orders/s, on the history", rate["old"], "orders/s")


async def _main(options: argparse.Namespace) -> None:
    async with ground("growth") as on:
        report = Report(
            "growth",
            f"Cost per order with {options.history:,} orders behind it; median of {options.rounds} rounds",
            await hardware(on.dsn("postgres")),
        )
        await measure(on, options, report)
    report.write()


def main() -> None:
    """Measure and write `bench/results/growth.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--history", type=int, default=100_000)
    parser.add_argument("--orders", type=int, default=16_000)
    parser.add_argument("--rounds", type=int, default=3)
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
