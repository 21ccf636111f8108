"""A worker that only fulfils: runs its lanes until nothing waits and says what it cost, as one line of JSON.

python -m bench.lanes DSN LANE…   reads one line from stdin, then starts. With --profile FILE cProfile is written;
with --record FILE every statement and its arguments are (pickled), one lane after the other.
"""

from __future__ import annotations

import asyncio
import cProfile
import json
import pickle
import resource
import sys
import time
from typing import Any

import uvloop

from domain import checkout
from domain.core import db
from domain.core.settings import settings
from plugins import installed
from workers.main import calm_collector


async def drain(lane: int) -> int:
    """Fulfil until the lane is empty; words and captures dealt with."""
    total = 0
    while done := await checkout.fulfil(lane):
        total += done
    return total


class Meter:
    """Counts statements and their round trips, by the first words of the SQL."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self._call = db._call

    def watch(self, *, keep_calls: bool) -> None:
        """From now on every statement is timed (round trip) and, if wanted, kept with its arguments."""

        async def timed(name: str, sql: str, args: Any, **named: Any) -> Any:
            noted, values = sql, tuple(args)
            if "records" in named:
                noted = f"COPY {sql} ({', '.join(named['columns'])})"
                values = tuple(list(column) for column in zip(*named["records"], strict=True))
            if keep_calls:
                self.calls.append((noted, values))
            started = time.perf_counter()
            try:
                return await self._call(name, sql, args, **named)
            finally:
                times = self.seconds.setdefault(" ".join(noted.split())[:70], [])
                times.append(time.perf_counter() - started)

        db._call = timed


async def _run(dsn: str, lanes: list[int], record: str | None, *, timed: bool) -> dict[str, Any]:
    installed.load(settings())
    await db.open(dsn, minsize=len(lanes), maxsize=len(lanes))
    meter = Meter()
    if record or timed:
        meter.watch(keep_calls=bool(record))
    calm_collector()
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    if record:
        done, sets = 0, []
        for lane in lanes:
            while fresh := await checkout.fulfil(lane):
                done += fresh
                sets.append((lane, meter.calls))
                meter.calls = []
            meter.calls = []
        with open(record, "wb") as file:
            pickle.dump(sets, file)
    else:
        done = sum(await asyncio.gather(*(drain(lane) for lane in lanes)))
    took, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    await db.close()
    return {"done": done, "took_s": took, "cpu_s": cpu, "statements": meter.seconds}


def main(arguments: list[str]) -> None:
    """See the docstring of the module."""
    options = dict.fromkeys(("--record", "--profile"))
    for name in options:
        if name in arguments:
            place = arguments.index(name)
            options[name] = arguments.pop(place + 1)
            arguments.remove(name)
    timed = "--timed" in arguments
    if timed:
        arguments.remove("--timed")
    dsn, *lanes = arguments
    work = _run(dsn, [int(lane) for lane in lanes], options["--record"], timed=timed)
    if options["--profile"]:
        profile = cProfile.Profile()
        found = profile.runcall(uvloop.run, work)
        profile.dump_stats(options["--profile"])
    else:
        found = uvloop.run(work)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
