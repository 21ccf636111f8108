"""Signs of life of the queues, and what waits in them; readiness, metrics and alerts read both."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from domain.core import bell, db

QUEUES = ("settlement", "risk", "delivery", "general")
LATE_S = 30.0
_PREFIX = "kami:heartbeat:"
_KEEP_S = 3600


async def beat(*queues: str) -> None:
    """Say that the poll loop of `queues` turns; called by the loop itself, every ten seconds or so.

    Errors: redis.exceptions.RedisError when the server cannot be reached.
    """
    now = str(time.time())
    async with bell.server().pipeline(transaction=False) as pipe:
        for queue in queues:
            pipe.set(_PREFIX + queue, now, ex=_KEEP_S)
        await pipe.execute()


async def ages_s(client: Any = None) -> dict[str, float | None]:
    """Seconds since each queue's last sign of life; None when there was none within an hour.

    Read with the process's own connection, or with `client`.
    Errors: redis.exceptions.RedisError when the server cannot be reached.
    """
    now = time.time()
    found = await (client or bell.server()).mget([_PREFIX + queue for queue in QUEUES])
    return {
        queue: max(0.0, now - float(value)) if value is not None else None
        for queue, value in zip(QUEUES, found, strict=True)
    }


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in one queue: promises that are due now, the age of the oldest, dead letters."""

    queue: str
    due: int
    oldest_s: float
    dead: int


async def backlogs() -> list[Backlog]:
    """One per queue, empty ones too; reads only the partial indexes of `promise`."""
    rows = await db.fetch(
        "SELECT queue, count(*) FILTER (WHERE state = 'ready') AS due,"
        " coalesce(extract(epoch FROM clock_timestamp() - min(due_at) FILTER (WHERE state = 'ready')), 0)"
        " AS oldest_s, count(*) FILTER (WHERE state = 'dead') AS dead FROM promise"
        " WHERE (state = 'ready' AND due_at <= clock_timestamp()) OR state = 'dead' GROUP BY queue"
    )
    found = {row["queue"]: row for row in rows}
    return [
        Backlog(queue, row["due"], float(row["oldest_s"]), row["dead"])
        if (row := found.get(queue)) is not None
        else Backlog(queue, 0, 0.0, 0)
        for queue in QUEUES
    ]
