"""The set path of the ledger alone: journals opened, rows locked, transfers written, balances moved.

python -m bench.ledger_set [--sets 100] [--journals 200] [--rounds 3]

One connection. The recipe is the card-key sale: five transfers a journal; a set of 200 touches 12 balance rows. The
floor is pgbench sending the very same statements with the same values; then the price of each index of the transfers,
and the speed of the sealer and of its check.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import uvloop

from bench import replay
from bench.ground import Ground, cpu_s, ground
from bench.lanes import Meter
from bench.replay import Call
from bench.report import Report, hardware
from domain import ledger
from domain.core import db, ids
from domain.ledger import AccountKey, JournalDraft, TransferLines

MERCHANTS = 400
MERCHANTS_A_SET = 4
WARM_UP = 5
CCY = "USD"
CLEARING = AccountKey("provider_clearing", None, "bench", CCY)
FEE = AccountKey("provider_fee", None, "bench", CCY)
COMMISSION = AccountKey("platform_commission", None, "", CCY)
TAX = AccountKey("tax_payable", None, "", CCY)
INDEXES = {
    "account and number, both sides": ("ledger_transfer_source", "ledger_transfer_target"),
    "journal and line": ("ledger_transfer_line",),
    "day (brin)": ("ledger_transfer_day",),
}
GROUPS = {
    "ledger_journal (": "journals",
    "SELECT account_no, shard": "locks",
    "ledger_transfer (": "transfers",
    "UPDATE ledger_balance": "balances",
}


@dataclass(frozen=True, slots=True)
class Run:
    """What some sets took, in seconds: each set without BEGIN and COMMIT, and all of them together."""

    sets_s: list[float]
    took_s: float
    python_cpu_s: float

    @property
    def set_ms(self) -> float:
        """The median set."""
        return statistics.median(self.sets_s) * 1000


def _keys(owners: Sequence[UUID], number: int) -> tuple[AccountKey, AccountKey]:
    owner = owners[number % len(owners)]
    return (
        AccountKey("merchant_available", owner, "", CCY),
        AccountKey("merchant_reserved", owner, "", CCY),
    )


async def post_set(owners: Sequence[UUID], count: int) -> float:
    """Post `count` sales of these merchants in one transaction; the seconds between BEGIN and COMMIT."""
    async with db.transaction():
        started = time.perf_counter()
        drafts = []
        for _ in range(count):
            journal_id = ids.uuid7()
            asked = hashlib.sha256(journal_id.bytes).digest()
            drafts.append(JournalDraft(journal_id, f"sale:{journal_id}", asked, "sale"))
        opened = await ledger.open_many(drafts)
        assert len(opened.new) == count
        shared = (CLEARING, FEE, COMMISSION, TAX)
        numbers = await ledger.accounts(
            [*shared, *(key for number in range(count) for key in _keys(owners, number))]
        )
        await ledger.lock(list(numbers.values()))
        lines = TransferLines()
        clearing, fee, commission, tax = (numbers[key] for key in shared)
        for number, draft in enumerate(drafts):
            available, reserved = _keys(owners, number)
            lines.add(draft.id, clearing, tax, 500, CCY)
            lines.add(draft.id, clearing, commission, 570, CCY)
            lines.add(draft.id, clearing, numbers[reserved], 420, CCY)
            lines.add(draft.id, clearing, numbers[available], 8_510, CCY)
            lines.add(draft.id, fee, clearing, 320, CCY)
        await ledger.write(lines)
        return time.perf_counter() - started


async def run_sets(dsn: str, owners: Sequence[UUID], sets: int, count: int) -> Run:
    """`sets` sets of `count` journals, one after the other on one connection."""
    await db.open(dsn, minsize=1, maxsize=1)
    for number in range(WARM_UP):
        await post_set(_some(owners, number), count)
    took: list[float] = []
    cpu, started = time.process_time(), time.perf_counter()
    for number in range(sets):
        took.append(await post_set(_some(owners, number), count))
    found = Run(took, time.perf_counter() - started, time.process_time() - cpu)
    await db.close()
    return found


def _some(owners: Sequence[UUID], number: int) -> list[UUID]:
    at = number * MERCHANTS_A_SET
    return [owners[(at + place) % len(owners)] for place in range(MERCHANTS_A_SET)]


async def prepare(on: Ground) -> list[UUID]:
    """`base`: a migrated database with every account open."""
    dsn = await on.migrated("base")
    owners = [ids.uuid7() for _ in range(MERCHANTS)]
    await db.open(dsn, minsize=1, maxsize=1)
    await ledger.accounts(
        [
            CLEARING,
            FEE,
            COMMISSION,
            TAX,
            *(key for n in range(MERCHANTS) for key in _keys(owners, n)),
        ]
    )
    async with db.transaction():
        await db.execute("SET LOCAL ROLE NONE; ANALYZE ledger_account, ledger_balance")
    await db.close()
    return owners


async def record(
    dsn: str, owners: Sequence[UUID], sets: int, count: int
) -> tuple[list[list[Call]], Meter]:
    """The statements of `sets` sets with their arguments, and their round trips."""
    await db.open(dsn, minsize=1, maxsize=1)
    for number in range(WARM_UP):
        await post_set(_some(owners, number), count)
    meter = Meter()
    usual = db._call
    meter.watch(keep_calls=True)
    calls: list[list[Call]] = []
    for number in range(sets):
        await post_set(_some(owners, number), count)
        calls.append(meter.calls)
        meter.calls = []
    db._call = usual
    await db.close()
    return calls, meter


async def floor(on: Ground, calls: list[list[Call]]) -> float | None:
    """Seconds pgbench needs for the same sets on one connection; None without pgbench."""
    if not on.program("pgbench").exists():
        return None
    with tempfile.TemporaryDirectory(prefix="kami-bench-") as folder:
        script = Path(folder) / "floor.sql"
        sets = await replay.prepare(
            await on.clone("base", "side"), [(0, one) for one in calls], script
        )
        found = await replay.run(on, on.dsn("side"), script, clients=1, sets=sets)
        await on.drop("side")
        return found.took_s


async def seal_all(dsn: str) -> tuple[int, float, float]:
    """Journals sealed, seconds for sealing and for checking them; the books are whole."""
    await db.open(dsn, minsize=1, maxsize=1)
    started, total = time.perf_counter(), 0
    while done := await ledger.seal():
        total += done
    sealed = time.perf_counter()
    assert await ledger.verify() is None
    verified = time.perf_counter()
    assert await ledger.check() == []
    await db.close()
    return total, sealed - started, verified - sealed


async def price(on: Ground, owners: Sequence[UUID], sets: int, count: int, report: Report) -> None:
    """What a set takes without one of the indexes: the difference is its price."""
    for name, indexes in {"all indexes": (), **INDEXES}.items():
        dsn = await on.clone("base", "priced")
        await db.open(dsn, minsize=1, maxsize=1)
        for index in indexes:
            await db.execute(f"DROP INDEX {index}")
        await db.close()
        _, meter = await record(dsn, owners, sets, count)
        (took,) = [seconds for sql, seconds in meter.seconds.items() if "ledger_transfer (" in sql]
        label = f"without {name}" if indexes else f"with {name}"
        report.notes.append(f"  {min(took) * 1000:6.2f} ms  transfers of the fastest set {label}")


async def measure(sets: int, count: int, rounds: int) -> Report:
    """All figures."""
    async with ground("ledger") as on:
        owners = await prepare(on)
        title = f"Ledger, set path: {sets} sets of {count} journals × 5 transfers, one connection"
        report = Report(
            "ledger_set", f"{title}, median of {rounds}", await hardware(on.dsn("base"))
        )
        runs, floors, server = [], [], []
        for _ in range(rounds):
            dsn = await on.clone("base", "own")
            before = cpu_s(on.postgres_pid, children=True)
            runs.append(await run_sets(dsn, owners, sets, count))
            server.append(cpu_s(on.postgres_pid, children=True) - before)
            calls, meter = await record(await on.clone("base", "recorded"), owners, sets, count)
            took = await floor(on, calls)
            floors += [] if took is None else [took]
        journals = sets * count
        rate = statistics.median(journals / run.took_s for run in runs)
        set_ms = statistics.median(run.set_ms for run in runs)
        report.add("a set, BEGIN to before COMMIT", set_ms, "ms", accepted=12 * count / 200)
        report.add("orders/s with COMMIT", rate, "orders/s", accepted=10_000, is_rate=True)
        if floors:
            below = statistics.median(journals / took for took in floors)
            report.add("floor: pgbench, same statements", below, "orders/s")
            report.add("ratio to the floor", rate / below, "", accepted=0.7, is_rate=True)
        else:
            report.notes.append("No floor: this PostgreSQL comes without pgbench.")
        python = statistics.median(run.python_cpu_s for run in runs) / journals
        report.add("CPU of Python per order", python * 1000, "ms")
        of_server = statistics.median(server) / (journals + WARM_UP * count)
        report.add("CPU of PostgreSQL per order", of_server * 1000, "ms")
        sealed, seal_s, verify_s = await seal_all(on.dsn("own"))
        report.add("journals sealed", sealed / seal_s, "1/s", accepted=5_000, is_rate=True)
        report.add("journals verified", sealed / verify_s, "1/s")
        report.notes.append("Round trips of a set:")
        for sql, seconds in meter.seconds.items():
            name = next((word for part, word in GROUPS.items() if part in sql), sql)
            report.notes.append(f"  {statistics.median(seconds) * 1000:6.2f} ms  {name}")
        report.notes.append("The price of the indexes:")
        await price(on, owners, min(sets, 60), count, report)
        return report


def main() -> None:
    """See the docstring of the module."""
    parser = argparse.ArgumentParser(prog="python -m bench.ledger_set")
    parser.add_argument("--sets", type=int, default=100)
    parser.add_argument("--journals", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    uvloop.run(measure(asked.sets, asked.journals, asked.rounds)).write()


if __name__ == "__main__":
    main()
