"""The floor of the fulfil engine: pgbench sends the very statements the engine sent, with the same values.

The engine's statements are recorded on one copy of a database; on another copy their arguments lie in side
tables, one row per set, and pgbench runs the sets, as many at a time as the engine has lanes.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from bench.ground import Ground, cpu_s

Call = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Floor:
    """What pgbench reached."""

    took_s: float
    postgres_cpu_s: float


async def prepare(dsn: str, sets: list[tuple[int, list[Call]]], script: Path) -> int:
    """Put the recorded arguments into side tables and write the pgbench script; the sets of the longest lane.

    Sets that sent another sequence of statements than most (the first of a process looks things up) are cut to
    the common one.
    """
    common = Counter(tuple(sql for sql, _ in calls) for _, calls in sets).most_common(1)[0][0]
    connection = await asyncpg.connect(dsn)
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=_json, decoder=_json)
    counts: Counter[int] = Counter()
    rows: list[tuple[int, list[Call]]] = []
    for lane, calls in sets:
        rows.append((lane * 100_000 + counts[lane], _matching(calls, common)))
        counts[lane] += 1
    lines = ["\\set place :client_id * 100000 + :n", "\\set n :n + 1", "BEGIN;"]
    try:
        for number, noted in enumerate(common):
            sql = await _as_insert(connection, noted)
            arguments = [(no, calls[number][1]) for no, calls in rows]
            lines.append(await _side_table(connection, number, sql, arguments) + ";")
    finally:
        await connection.execute("VACUUM ANALYZE")
        await connection.close()
    script.write_text("\n".join([*lines, "COMMIT;", ""]), "utf-8")
    return max(counts.values())


def _matching(calls: list[Call], common: tuple[str, ...]) -> list[Call]:
    left = iter(calls)
    return [next(call for call in left if call[0] == sql) for sql in common]


async def _as_insert(connection: Any, sql: str) -> str:
    """pgbench cannot feed a COPY: the same rows as arrays, which costs the server as much."""
    found = re.fullmatch(r"COPY (\w+) \((.*)\)", sql)
    if found is None:
        return sql
    table, names = found[1], found[2].split(", ")
    types = dict(
        await connection.fetch(
            "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute"
            " WHERE attrelid = $1::regclass AND attnum > 0",
            table,
        )
    )
    arrays = ", ".join(f"${place}::{types[name]}[]" for place, name in enumerate(names, 1))
    return f"INSERT INTO {table} ({found[2]}) SELECT * FROM unnest({arrays})"


async def _side_table(
    connection: Any, number: int, sql: str, rows: list[tuple[int, tuple[Any, ...]]]
) -> str:
    """One column per argument, one row per set; the statement that reads its arguments from there."""
    types = [one.name for one in (await connection.prepare(sql)).get_parameters()]
    columns = "".join(f", a{place} {kind}" for place, kind in enumerate(types, 1))
    await connection.execute(f"CREATE UNLOGGED TABLE floor_{number} (no INT PRIMARY KEY{columns})")
    marks = "".join(f", ${place + 1}" for place in range(1, len(types) + 1))
    await connection.executemany(
        f"INSERT INTO floor_{number} VALUES ($1{marks})", [(no, *args) for no, args in rows]
    )

    def argument(mark: re.Match[str]) -> str:
        place = int(mark[1])
        # The cast makes it a value: `= ANY ((SELECT …))` alone would be a comparison with rows.
        return f"(SELECT a{place} FROM floor_{number} WHERE no = :place)::{types[place - 1]}"

    # On one line, as pgbench wants it.
    return re.sub(r"\$(\d+)", argument, " ".join(re.sub(r"--[^\n]*", "", sql).split()))


def _json(value: Any) -> Any:
    return value if isinstance(value, str) else orjson.dumps(dict(value)).decode()


async def run(ground: Ground, dsn: str, script: Path, *, clients: int, sets: int) -> Floor:
    """Let pgbench run `sets` sets per client."""
    before, started = cpu_s(ground.postgres_pid, children=True), time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        str(ground.program("pgbench")),
        *(
            "-n",
            "-M",
            "prepared",
            "-f",
            str(script),
            "-c",
            str(clients),
            "-j",
            "1",
            "-t",
            str(sets),
            "-D",
            "n=0",
        ),
        dsn,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    took = time.perf_counter() - started
    assert process.returncode == 0 and "failed transactions: 0 " in output, output
    return Floor(took, cpu_s(ground.postgres_pid, children=True) - before)
