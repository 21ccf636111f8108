"""A worker process for tests that kill it: `mark` writes down when it begins and ends."""

from __future__ import annotations

import asyncio
from uuid import UUID

from domain.core import db, promises
from workers import cron, main, outbox
from workers.registry import tasks

LEASE_S = 3.0
FIRST_TAKES_S = 0.9


async def mark(subject_id: UUID) -> None:
    """Slow at the first try, quick at every later one."""
    tries = await db.value(
        "SELECT count(*) FROM event_reader WHERE name LIKE $1", f"{subject_id} begun %"
    )
    await _write(f"{subject_id} begun {tries}")
    await asyncio.sleep(0 if tries else FIRST_TAKES_S)
    await _write(f"{subject_id} ended {tries}")


async def _write(name: str) -> None:
    await db.execute("INSERT INTO event_reader (name, txid, no) VALUES ($1, '0', 0)", name)


def load() -> None:
    """Only our own task and the sweeper, with short leases."""
    outbox.HANDLER_TIMEOUT_S = 1.0
    promises.LEASE_S = LEASE_S  # type: ignore[assignment]
    tasks["mark"] = mark
    cron.EVERY[:] = [cron.Every("promises.sweep", 1, promises.sweep)]
    cron.DAILY.clear()


if __name__ == "__main__":
    main.load = load
    asyncio.run(main.run(["general"]))
