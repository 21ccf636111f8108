"""The bounds of the front door, and the leaky bucket that query cost is paid from (API.md rule 8)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol

from domain.core import clock

BODY_MAX_BYTES = 262_144
TOKENS_MAX = 2_000
DEPTH_MAX = 12
ALIASES_MAX = 30
MUTATIONS_MAX = 4
COST_MAX = 1_000
QUERY_TIMEOUT_S = 5.0
MUTATION_TIMEOUT_S = 30.0

HEADERS_MAX = 100
HEAD_MAX_BYTES = 32_768
HEAD_TIMEOUT_S = 20.0
BODY_TIMEOUT_S = 30.0
# What a client must at least send or take in `SLOW_CLIENT_S` while its turn lasts: 500 bytes a second.
PACE_BYTES = 10_000

SOCKET_MESSAGE_MAX_BYTES = 65_536
SOCKET_INIT_TIMEOUT_S = 10.0
SOCKET_OPERATIONS_MAX = 100
SOCKET_IDLE_S = 300.0
# Live streams of one account or address in one process, over all its sockets; the second is for development.
STREAMS_MAX = 500
STREAMS_GENEROUS = 50_000
SLOW_CLIENT_S = 20.0
HEARTBEAT_S = 12.0

BUCKETS_MAX = 50_000

# An ASGI extension of `server.sockets`: ends a connection whose client does not read, which ASGI alone cannot.
CUT = "kami.cut"
# Another one: writes a whole text message at once, without a coroutine; False when that has to wait.
TELL = "kami.tell"
# Set by an open event stream, so that a server that stops ends it at once.
STREAM = "kami.stream"


@dataclass(frozen=True, slots=True)
class Size:
    """A bucket holds `capacity` cost points and gets `refill` of them back per second."""

    capacity: float
    refill: float


STRICT = Size(1_000, 100)
# One machine often plays all the buyers of a load test: in development nobody is meant to run dry.
GENEROUS = Size(1_000_000, 100_000)


@dataclass(frozen=True, slots=True)
class Level:
    """A bucket after a charge; `retry_after_s` is None when the charge was taken."""

    available: float
    size: Size
    retry_after_s: int | None = None

    def status(self) -> dict[str, Any]:
        """`throttleStatus` of `extensions.cost`."""
        return {
            "maximumAvailable": int(self.size.capacity),
            "currentlyAvailable": max(0, int(self.available)),
            "restoreRate": int(self.size.refill),
        }


class Streams:
    """How many live streams each caller has open in this process, at most `per_caller`."""

    def __init__(self, per_caller: int) -> None:
        self.per_caller = per_caller
        self._open: dict[str, int] = {}

    def enter(self, caller: str) -> bool:
        """Count one more, unless there are as many as allowed."""
        found = self._open.get(caller, 0)
        if found >= self.per_caller:
            return False
        self._open[caller] = found + 1
        return True

    def leave(self, caller: str) -> None:
        """One has ended; a caller without any is forgotten."""
        left = self._open.pop(caller) - 1
        assert left >= 0, caller
        if left:
            self._open[caller] = left

    def count(self, caller: str) -> int:
        """How many are open."""
        return self._open.get(caller, 0)


class Buckets(Protocol):
    """Where buckets are kept; one shared by all processes may take this place."""

    async def take(self, key: str, cost: float) -> Level:
        """Charge `cost` when the bucket holds as much, else nothing."""

    async def settle(self, key: str, cost: float) -> Level:
        """Charge without asking, or give back when `cost` is negative: what was used differs from what was asked."""


class LocalBuckets:
    """Buckets of this process. A bucket that is full again is the same as none, so old ones are dropped."""

    def __init__(self, size: Size, now: Callable[[], float] = clock.monotonic) -> None:
        self.size = size
        self._now = now
        self._kept: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def take(self, key: str, cost: float) -> Level:
        """See Buckets."""
        available = self._fill(key)
        if cost > available:
            missing = cost - available
            return Level(available, self.size, max(1, ceil(missing / self.size.refill)))
        return self._keep(key, available - cost)

    async def settle(self, key: str, cost: float) -> Level:
        """See Buckets."""
        return self._keep(key, min(self.size.capacity, self._fill(key) - cost))

    def _fill(self, key: str) -> float:
        kept = self._kept.get(key)
        if kept is None:
            return self.size.capacity
        available, at = kept
        return min(self.size.capacity, available + (self._now() - at) * self.size.refill)

    def _keep(self, key: str, available: float) -> Level:
        # Debt is bounded, so that a burst of events never locks a caller out for long.
        available = max(available, -self.size.capacity)
        self._kept[key] = (available, self._now())
        self._kept.move_to_end(key)
        if len(self._kept) > BUCKETS_MAX:
            self._kept.popitem(last=False)
        return Level(available, self.size)
