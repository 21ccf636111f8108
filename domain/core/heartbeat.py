"""Signs of life of the queues: each worker's poll loop writes one, readiness and alerts read them."""

from __future__ import annotations

import time

from domain.core import bell

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


async def ages_s() -> dict[str, float | None]:
    """Seconds since each queue's last sign of life; None when there was none within an hour.

    Errors: redis.exceptions.RedisError when the server cannot be reached.
    """
    now = time.time()
    found = await bell.server().mget([_PREFIX + queue for queue in QUEUES])
    return {
        queue: max(0.0, now - float(value)) if value is not None else None
        for queue, value in zip(QUEUES, found, strict=True)
    }
