"""What a benchmark found: figures with their goals and one hardware line, as JSON and as a table people read."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number: `goal` and `accepted` are bounds, lower ones when `is_rate` (more is better)."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    accepted: float | None = None
    is_rate: bool = False

    @property
    def verdict(self) -> str:
        """How it stands against its bounds; empty without any."""
        for word, bound in (("goal", self.goal), ("accepted", self.accepted)):
            if bound is not None and (self.value >= bound if self.is_rate else self.value <= bound):
                return word
        return "missed" if (self.goal, self.accepted) != (None, None) else ""


@dataclass
class Report:
    """Everything one benchmark says; `notes` are lines below the table, e.g. where the time goes."""

    name: str
    title: str
    hardware: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        goal: float | None = None,
        accepted: float | None = None,
        is_rate: bool = False,
    ) -> None:
        """Add one figure."""
        self.figures.append(Figure(name, round(value, 4), unit, goal, accepted, is_rate))

    def table(self) -> str:
        """The report as text."""
        wide = max((len(figure.name) for figure in self.figures), default=0)
        lines = [self.title, self.hardware, ""]
        for one in self.figures:
            bounds = [
                f"{word} {'≥' if one.is_rate else '≤'} {bound:g}"
                for word, bound in (("goal", one.goal), ("accepted", one.accepted))
                if bound is not None
            ]
            verdict = f"  {one.verdict.upper():<8} {', '.join(bounds)}" if bounds else ""
            lines.append(
                f"{one.name:<{wide}}  {_number(one.value):>10} {one.unit:<12}{verdict}".rstrip()
            )
        return "\n".join([*lines, "", *self.notes]).rstrip() + "\n"

    def write(self) -> None:
        """Print it and keep it in `bench/results/<name>.json` and `.txt`."""
        RESULTS.mkdir(exist_ok=True)
        found = asdict(self)
        for figure, row in zip(self.figures, found["figures"], strict=True):
            row["verdict"] = figure.verdict
        (RESULTS / f"{self.name}.json").write_text(
            json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8"
        )
        (RESULTS / f"{self.name}.txt").write_text(self.table(), "utf-8")
        print(self.table(), flush=True)


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 100 else f"{value:.3g}"


async def hardware(dsn: str | None = None) -> str:
    """CPU, cores, kernel, Python, PostgreSQL (of `dsn`), and the day: what a number means nothing without."""
    parts = [f"{_cpu()}, {os.cpu_count()} cores", f"{platform.system()} {platform.release()}"]
    parts.append(f"Python {platform.python_version()}")
    if dsn is not None:
        connection = await asyncpg.connect(dsn)
        try:
            parts.append(f"PostgreSQL {await connection.fetchval('SHOW server_version')}")
        finally:
            await connection.close()
    return " · ".join([*parts, datetime.now(UTC).strftime("%Y-%m-%d")])


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    models = [
        line.partition(":")[2].strip()
        for line in text.splitlines()
        if line.startswith("model name")
    ]
    return models[0] if models else platform.machine()
