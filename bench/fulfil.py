"""The fulfil engine alone: captured payments waiting → delivered, with the whole recipe of the books.

python -m bench.fulfil [--orders 24000] [--rounds 3] [--profile]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pickle
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import backlog, replay
from bench.ground import Ground, cpu_s, ground
from bench.report import Report, hardware
from domain import checkout, ledger, orders, payments
from domain.core import clock, db, ids
from domain.core.money import Money
from domain.payments.ports import Fact
from domain.payments.routing import MAIN_ACCOUNT

STANDS_PER_LANE = 4
SINGLES = 300
WARM_UP = 800
LANES = range(orders.LANES)


@dataclass(frozen=True, slots=True)
class Round:
    """One run over all waiting orders."""

    orders: int
    took_s: float
    python_cpu_s: float
    postgres_cpu_s: float
    statements: dict[str, list[float]]

    @property
    def rate(self) -> float:
        """Orders per second."""
        return self.orders / self.took_s

    def cpu_ms(self, seconds: float) -> float:
        """Milliseconds per order."""
        return seconds * 1000 / self.orders


async def engine(on: Ground, dsn: str, workers: list[list[int]], *more: str) -> Round:
    """Start one worker process per list of lanes, let them go together, wait until nothing waits."""
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.lanes",
            dsn,
            *(str(lane) for lane in lanes),
            *more,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 24,
        )
        for lanes in workers
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    before, started = cpu_s(on.postgres_pid, children=True), time.perf_counter()
    answers = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    took = time.perf_counter() - started
    assert not any(process.returncode for process in processes)
    found: list[dict[str, Any]] = [json.loads(answer[0]) for answer in answers]
    return Round(
        sum(one["done"] for one in found),
        max(one["took_s"] for one in found) if found else took,
        sum(one["cpu_s"] for one in found),
        cpu_s(on.postgres_pid, children=True) - before,
        found[0]["statements"],
    )


async def singles(count: int) -> list[float]:
    """Seconds from a provider's word to the commit of its order, one at a time; 4 of 5 in the first lane."""
    rows = await db.fetch(
        "SELECT id, lane, provider_ref, requested_minor FROM payment_attempt WHERE state = 'requires_action'"
        " ORDER BY id LIMIT $1",
        count,
    )
    took = []
    for row in rows:
        fact = Fact(
            event_id=f"single-{row['id']}",
            subject="attempt",
            reference=ids.encode("pay", row["id"]),
            provider_ref=row["provider_ref"],
            state="captured",
            amount=Money(row["requested_minor"], backlog.PRICE.currency),
            occurred_at=clock.now(),
        )
        started = time.perf_counter()
        await payments.put("sandbox", MAIN_ACCOUNT, [fact], body=b"{}")
        assert await checkout.fulfil(row["lane"]) == 1
        took.append(time.perf_counter() - started)
        await asyncio.sleep(0.002)
    return took


async def verify(dsn: str, expected: int) -> None:
    """Everything was delivered once, and every law of the books holds."""
    await db.open(dsn, minsize=1, maxsize=4)
    try:
        counted = await db.row(
            "SELECT (SELECT count(*) FROM orders WHERE status = 'delivered') AS orders,"
            " (SELECT count(*) FROM card_key WHERE state = 'sold') AS keys,"
            " (SELECT count(*) FROM capture WHERE state = 'settled') AS captures,"
            " (SELECT count(*) FROM ledger_journal) AS journals,"
            " (SELECT count(*) FROM event_log WHERE kind = 'order.delivered') AS events,"
            " (SELECT count(*) FROM inbox_event WHERE verdict = 'applied') AS words,"
            " (SELECT count(*) FROM payment_intent WHERE state = 'succeeded') AS intents,"
            " (SELECT count(*) FROM stock_hold) AS holds"
        )
        assert counted is not None
        assert dict(counted) == {**dict.fromkeys(counted.keys(), expected), "holds": 0}, dict(
            counted
        )
        faults = await ledger.check()
        assert faults == [], faults[:5]
    finally:
        await db.close()


async def prepare(on: Ground, count: int) -> None:
    """`base`: accounts opened by a first few orders, then `count` paid orders. `quiet`: orders without words."""
    dsn = await on.migrated("base")
    await db.open(dsn, minsize=1, maxsize=4)
    stands = await backlog.stands(STANDS_PER_LANE)
    await backlog.pile_up(WARM_UP, stands, tag="warm")
    await db.close()
    await engine(on, dsn, [list(LANES)])
    await on.clone("base", "quiet")
    for name, paid, orders_of in (("quiet", False, SINGLES + 50), ("base", True, count)):
        await db.open(on.dsn(name), minsize=1, maxsize=4)
        await backlog.pile_up(orders_of, stands, tag="pile", paid=paid)
        await backlog.settle_statistics()
        await db.close()


async def measure(count: int, rounds: int, report: Report, on: Ground) -> None:
    """All figures of the report."""
    await prepare(on, count)
    await _alone(on, report)
    with tempfile.TemporaryDirectory(prefix="kami-bench-") as folder:
        recorded, script = Path(folder) / "calls", Path(folder) / "floor.sql"
        dsn = await on.clone("base", "recorded")
        noted = await engine(on, dsn, [list(LANES)], "--record", str(recorded))
        await verify(dsn, count + WARM_UP)
        await on.drop("recorded")
        sets = pickle.loads(recorded.read_bytes())
        await on.clone("base", "side")
        longest = await replay.prepare(on.dsn("side"), sets, script)
        statements = statistics.median(len(calls) for _, calls in sets)
        one, two, floors = [], [], []
        for _ in range(rounds):
            dsn = await on.clone("base", "one")
            one.append(await engine(on, dsn, [list(LANES)]))
            await verify(dsn, count + WARM_UP)
            dsn = await on.clone("base", "two")
            two.append(await engine(on, dsn, [list(LANES[::2]), list(LANES[1::2])]))
            await verify(dsn, count + WARM_UP)
            dsn = await on.clone("side", "floor")
            floors.append(await replay.run(on, dsn, script, clients=len(LANES), sets=longest))
        _tell(report, one, two, floors, statements)
        _where(report, noted, len(sets))


def _tell(
    report: Report,
    one: list[Round],
    two: list[Round],
    floors: list[replay.Floor],
    statements: float,
) -> None:
    floor = statistics.median(one[0].orders / floor.took_s for floor in floors)
    rate = statistics.median(found.rate for found in one)
    rate_two = statistics.median(found.rate for found in two)
    report.add("orders/s, one process", rate, "orders/s", goal=12_000, accepted=5_000, is_rate=True)
    report.add(
        "orders/s, two processes", rate_two, "orders/s", goal=12_000, accepted=5_000, is_rate=True
    )
    report.add("floor: pgbench, same statements", floor, "orders/s")
    report.add("ratio to the floor, one process", rate / floor, "", accepted=0.7, is_rate=True)
    report.add(
        "ratio to the floor, two processes", rate_two / floor, "", accepted=0.7, is_rate=True
    )
    for name, found in (("one process", one), ("two processes", two)):
        python = statistics.median(run.cpu_ms(run.python_cpu_s) for run in found)
        postgres = statistics.median(run.cpu_ms(run.postgres_cpu_s) for run in found)
        report.add(f"CPU of Python per order, {name}", python, "ms")
        report.add(f"CPU of PostgreSQL per order, {name}", postgres, "ms")
    floor_cpu = statistics.median(run.postgres_cpu_s for run in floors) * 1000 / one[0].orders
    report.add("CPU of PostgreSQL per order, floor", floor_cpu, "ms")
    report.add("statements per set (BEGIN, COMMIT apart)", statements, "")
    rounds = [
        f"{a.rate:,.0f} / {b.rate:,.0f} / {a.orders / c.took_s:,.0f}"
        for a, b, c in zip(one, two, floors, strict=True)
    ]
    report.notes.append("Rounds (one process / two / floor, orders/s): " + " · ".join(rounds))


def _where(report: Report, noted: Round, sets: int) -> None:
    """Round trips by statement, one lane at a time: the server's time per set of 200."""
    report.notes.append("Round trip per set, lanes one after the other:")
    for sql, seconds in sorted(noted.statements.items(), key=lambda item: -sum(item[1])):
        report.notes.append(
            f"  {sum(seconds) * 1000 / sets:6.2f} ms  {len(seconds) / sets:4.1f}×  {sql}"
        )


async def _alone(on: Ground, report: Report) -> None:
    await db.open(on.dsn("quiet"), minsize=2, maxsize=2)
    try:
        took = sorted((await singles(SINGLES + 50))[50:])
    finally:
        await db.close()
    report.add("one order alone, p50", took[len(took) // 2] * 1000, "ms")
    report.add("one order alone, p99", took[len(took) * 99 // 100] * 1000, "ms", accepted=15)
    await on.drop("quiet")


async def _profile(count: int) -> None:
    import pstats

    async with ground("fulfil") as on:
        await prepare(on, count)
        with tempfile.NamedTemporaryFile(suffix=".prof") as file:
            await engine(on, await on.clone("base", "one"), [list(LANES)], "--profile", file.name)
            stats = pstats.Stats(file.name)
            stats.sort_stats("tottime").print_stats(35)
            stats.sort_stats("cumulative").print_stats(45)


async def _main(options: argparse.Namespace) -> None:
    if options.profile:
        await _profile(options.orders)
        return
    async with ground("fulfil") as on:
        report = Report(
            "fulfil",
            f"Fulfil engine: {options.orders:,} paid orders of {len(LANES) * STANDS_PER_LANE} merchants in"
            f" {len(LANES)} lanes, sets of {checkout.SET_MAX}, median of {options.rounds} rounds",
            await hardware(on.dsn("postgres")),
        )
        await measure(options.orders, options.rounds, report, on)
    report.write()


def main() -> None:
    """Measure and write `bench/results/fulfil.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=24_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
