"""A hundred thousand card keys in one import: seconds, memory of the process, what the database keeps.

python -m bench.imports [--keys 100000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import secrets
import sys
import time

import uvloop

from bench import backlog
from bench.ground import cpu_s, ground
from bench.report import Report, hardware
from domain import catalogue
from domain.core import db
from domain.core.settings import settings
from plugins import installed


def text_of(count: int) -> str:
    """A file as merchants send it: CRLF, a byte order mark, keys of 25 characters."""
    lines = (f"{secrets.token_hex(10).upper()}-{place:04X}" for place in range(count))
    return "\ufeff" + "\r\n".join(lines)


async def bring(dsn: str, count: int) -> dict[str, float]:
    """Import into a fresh variant, in this process."""
    installed.load(settings())
    await db.open(dsn, minsize=1, maxsize=4)
    try:
        stand = (await backlog.stands(1))[0]
        text = text_of(count)
        before = resource.getrusage(resource.RUSAGE_SELF)
        started = time.perf_counter()
        report = await catalogue.import_cards(
            stand.merchant_id, stand.variant_id, text, actor=catalogue.Actor("system", "bench")
        )
        took = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_SELF)
        assert report.added == count, report
        there = await catalogue.available(stand.merchant_id, [stand.variant_id])
        assert there == {stand.variant_id: count}, there
    finally:
        await db.close()
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return {
        "took_s": took,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_mib": after.ru_maxrss / unit,
    }


async def _main(options: argparse.Namespace) -> None:
    async with ground("imports") as on:
        dsn = await on.migrated("imports")
        report = Report(
            "imports", f"Import of {options.keys:,} card keys in one call", await hardware(dsn)
        )
        before = cpu_s(on.postgres_pid, children=True)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.imports", "--into", dsn, "--keys", str(options.keys)),
            stdout=asyncio.subprocess.PIPE,
        )
        found = json.loads((await process.communicate())[0])
        server = cpu_s(on.postgres_pid, children=True) - before
    report.add("time", found["took_s"], "s", goal=10)
    report.add("peak memory of the process (RSS)", found["peak_mib"], "MiB", goal=300)
    report.add("CPU of Python", found["cpu_s"], "s")
    report.add("CPU of PostgreSQL", server, "s")
    report.add("keys per second", options.keys / found["took_s"], "/s")
    report.write()


def main() -> None:
    """Measure and write `bench/results/imports.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--into", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.into:
        print(json.dumps(uvloop.run(bring(options.into, options.keys))))
    else:
        uvloop.run(_main(options))


if __name__ == "__main__":
    main()
