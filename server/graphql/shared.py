"""Cost buckets that all processes share, without asking anybody before a request is served.

A process charges its own bucket. Once a caller has spent a twentieth of a bucket here since it was last told of, a
task tells Redis, together with all others that have, and learns what the caller spends elsewhere. Whoever spends
little costs no message; whoever drains a bucket drains the same one everywhere within `SYNC_EVERY_S`.

Redis away: every process goes on with its own buckets, so a caller has at most one per process. Source:
docs/decisions/0013-shared-cost-buckets.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from contextvars import Context
from math import ceil

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from domain.core import bell, clock
from server.graphql.limits import Level, LocalBuckets, Size

SYNC_EVERY_S = 0.1
AWAY_S = 1.0
SYNC_MAX = 500
SHARE = 20  # a caller is told of after each such part of a bucket
STEPS = 20  # so many slices of time fill a bucket; twice as many are kept, for one deep in debt

_PREFIX = "kami:cost:"
_log = structlog.get_logger(__name__)


class SharedBuckets(LocalBuckets):
    """Buckets of this process that follow those of the others. `server` gives the Redis client of the process."""

    def __init__(
        self,
        size: Size,
        server: Callable[[], Redis] = bell.server,
        now: Callable[[], float] = clock.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(size, now)
        self._server = server
        self._wall = wall
        self._step_s = size.capacity / size.refill / STEPS
        self._untold: dict[str, float] = {}
        self._loud: set[str] = set()  # those of `_untold` that are worth a message
        self._teller: asyncio.Task[None] | None = None
        self.is_alone = False

    async def take(self, key: str, cost: float) -> Level:
        """See Buckets."""
        level = await super().take(key, cost)
        if level.retry_after_s is None and cost:
            self._note(key, cost)
        return level

    async def settle(self, key: str, cost: float) -> Level:
        """See Buckets."""
        if cost:
            self._note(key, cost)
        return await super().settle(key, cost)

    def _note(self, key: str, cost: float) -> None:
        untold = self._untold.get(key, 0.0) + cost
        self._untold[key] = untold
        if untold * SHARE >= self.size.capacity or key in self._loud:
            self._loud.add(key)
            loop, teller = asyncio.get_running_loop(), self._teller
            if teller is None or teller.done() or teller.get_loop() is not loop:
                self._teller = loop.create_task(
                    self._tell(), name="buckets.tell", context=Context()
                )
        elif len(self._untold) > len(self._kept) + SYNC_MAX:
            # Of a bucket that was dropped because it is full nothing needs to be told.
            for gone in [one for one in self._untold if one not in self._kept]:
                del self._untold[gone]

    async def _tell(self) -> None:
        """Tell and learn until nobody is left who spends; one task a process, ended when there is nothing to say."""
        while self._loud:
            try:
                await self.sync()
            except (RedisError, OSError, TimeoutError) as error:
                if not self.is_alone:
                    _log.warning("buckets.alone", error=type(error).__name__)
                self.is_alone = True
                await asyncio.sleep(AWAY_S)
                continue
            if self.is_alone:
                _log.info("buckets.together")
            self.is_alone = False
            await asyncio.sleep(SYNC_EVERY_S)

    async def close(self) -> None:
        """End the task that tells; what is untold is lost, and with it a part of a bucket."""
        if self._teller is not None and self._teller.get_loop() is asyncio.get_running_loop():
            self._teller.cancel()
            await asyncio.gather(self._teller, return_exceptions=True)

    async def sync(self) -> None:
        """Tell what is untold and take over what others spent. Errors: those of Redis; what was not told stays."""
        now = self._wall() / self._step_s
        told = {key: self._untold.pop(key, 0.0) for key in list(self._loud)[:SYNC_MAX]}
        self._loud.difference_update(told)
        try:
            async with self._server().pipeline(transaction=False) as pipe:
                for key, cost in told.items():
                    name = _name(key)
                    pipe.hincrby(name, str(int(now)), round(cost))
                    pipe.hgetall(name)
                    pipe.expire(name, ceil(self._step_s * STEPS * 2))
                found = await pipe.execute()
        except BaseException:
            for key, cost in told.items():
                self._untold[key] = self._untold.get(key, 0.0) + cost
                self._loud.add(key)
            raise
        old: dict[str, list[str]] = {}
        for number, key in enumerate(told):
            spent = {int(at): int(cost) for at, cost in found[number * 3 + 1].items()}
            self._follow(key, replay(spent, now, self._step_s, self.size))
            gone = [str(at) for at in spent if at < now - STEPS * 2]
            if gone:
                old[key] = gone
        if old:
            async with self._server().pipeline(transaction=False) as pipe:
                for key, fields in old.items():
                    pipe.hdel(_name(key), *fields)
                await pipe.execute()

    def _follow(self, key: str, shared: float) -> None:
        """Lower this process's bucket to the shared one, less what was spent meanwhile; it is never raised."""
        available = min(self._fill(key), shared - self._untold.get(key, 0.0))
        self._keep(key, available)


def replay(spent: Mapping[int, int], now: float, step_s: float, size: Size) -> float:
    """What a bucket holds now, from what was spent in each slice of time by anybody.

    `spent` maps the number of a slice (`step_s` seconds each, counted from 1970) to cost points, `now` is counted
    in slices as well. A cost counts from the beginning of its slice: the result is right or up to one slice's refill
    too high, never too low.
    """
    available, at = size.capacity, now
    for one in sorted(spent):
        if one < now - STEPS * 2:
            continue
        available += max(0.0, one - at) * step_s * size.refill
        available = min(available, size.capacity) - spent[one]
        available, at = max(min(available, size.capacity), -size.capacity), float(one)
    return min(size.capacity, available + max(0.0, now - at) * step_s * size.refill)


def _name(key: str) -> str:
    """Redis holds who spends as a hash only: an address is nobody else's business."""
    return _PREFIX + hashlib.sha256(key.encode()).hexdigest()[:32]
