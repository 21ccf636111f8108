"""The start of everything `make run` starts: cold (empty data folder), warm, and what it costs to do nothing.

python -m bench.start
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from bench.house import House, house
from bench.report import Report, hardware
from server import places

SETTLE_S = 8.0
IDLE_S = 20.0


def measure(report: Report, at: House) -> None:
    """Memory and CPU of a platform that nobody uses."""
    time.sleep(SETTLE_S)
    before, began = at.cpu(), time.perf_counter()
    time.sleep(IDLE_S)
    took, after = time.perf_counter() - began, at.cpu()
    memory = at.memory()
    idle = sum(after.values()) - sum(before.values())
    report.add("idle memory of all processes (PSS)", sum(memory.values()), "MiB", goal=700)
    report.add("idle CPU of all processes", idle * 100 / took, "% of a core")
    report.notes.append("PSS by process:")
    for name, mib in sorted(memory.items(), key=lambda item: -item[1]):
        report.notes.append(f"  {mib:6.1f} MiB  {name}")


def main() -> None:
    """Measure and write `bench/results/start.json`."""
    folder = Path(tempfile.mkdtemp(prefix="kami-bench-start-"))
    try:
        with house(folder) as at:
            cold_s, machine = at.started_s, asyncio.run(hardware(at.database_url))
        report = Report("start", "Start of the platform, installation apart", machine)
        report.add("cold start, empty data folder", cold_s, "s", goal=60)
        warm = []
        for _ in range(3):
            with house(folder) as at:
                warm.append(at.started_s)
        report.add("warm start, median of 3", sorted(warm)[1], "s", goal=6)
        with house(folder) as at:
            measure(report, at)
        report.write()
    finally:
        places.remove(folder)


if __name__ == "__main__":
    main()
