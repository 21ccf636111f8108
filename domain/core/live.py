"""Live listeners of one process: the bell says which orders moved, one read brings what is new to all of them.

A listener holds no database connection, no task and no timer while it waits. A queue that its reader does not
empty is bounded: the listener is cut, comes back with its cursor and misses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

import asyncpg
import structlog

from domain.core import bell, db, trace
from domain.core.errors import DomainError
from domain.core.feed import Feed
from domain.core.settings import settings

QUEUE_MAX = 256
READ_MAX = 1_000
SWEEP_S = 30.0
RETRY_S = 0.5
LISTENERS_MAX = 50_000
TICKS = 15  # per heartbeat: so much earlier than asked for may one come

_log = structlog.get_logger(__name__)


class SlowConsumer(DomainError):
    """The reader did not keep up: connect again with the last cursor."""

    code = "SLOW_CONSUMER"
    retryable = True


class TooManyListeners(DomainError):
    """This process serves all the listeners it can: try another one."""

    code = "TOO_MANY_SUBSCRIPTIONS"
    retryable = True


class Sleeper(Protocol):
    """Somebody who waits, and wants to be woken for a heartbeat."""

    def wake(self) -> None:
        """End the wait."""


class News(Protocol):
    """Something that happened; `sequence` counts from 1 per order."""

    @property
    def sequence(self) -> int:
        """Its place in the order's stream."""


V = TypeVar("V")
N = TypeVar("N", bound=News)

# Orders with the sequence each is known to, and which of them are asked for the first time, to what they are now
# and what happened since, in order, all read at one moment. Nothing new is left out, and so is what does not exist.
Look = Callable[[Mapping[UUID, int], Collection[UUID]], Awaitable[Mapping[UUID, tuple[V, list[N]]]]]


class Listener(Generic[V, N]):
    """One reader of one order's events after `sequence`; `value` is the order as it was read with the newest."""

    __slots__ = (
        "_hub",
        "_queue",
        "_waiter",
        "error",
        "is_cut",
        "is_met",
        "look",
        "order_id",
        "sequence",
        "value",
    )

    def __init__(self, hub: Hub, order_id: UUID, sequence: int, look: Look[V, N]) -> None:
        self.order_id = order_id
        self.sequence = sequence
        self.look = look
        self.value: V | None = None
        self.is_cut = self.is_met = False
        self.error: Exception | None = None
        self._hub = hub
        self._queue: deque[N] | None = None  # made when needed: most listeners wait
        self._waiter: asyncio.Future[None] | None = None

    def offer(self, value: V, news: Iterable[N]) -> None:
        """Queue what follows the last event; anything older has been seen."""
        fresh = [one for one in news if one.sequence > self.sequence]
        if fresh:
            self.sequence = fresh[-1].sequence
            if self._queue is None:
                self._queue = deque()
            # A long past is read in one go and cuts nobody; what counts is what was left when more comes.
            self.is_cut = len(self._queue) > QUEUE_MAX
            self._queue.extend(fresh)
        elif self.is_met:
            return
        self.is_met = True
        self.value = value
        self.wake()

    def refuse(self, error: Exception | None) -> None:
        """The first read came to nothing: there is no such order, or the database is away."""
        self.is_met = True
        self.error = error
        self.wake()

    def wake(self) -> None:
        """End the wait of `first` or `next`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def first(self) -> V | None:
        """The order as it is now, None when it does not exist. Errors: whatever the read raised."""
        while not self.is_met:
            await self._wait()
        if self.error is not None:
            # One error for all who joined: none of them is to carry the others' traces.
            raise self.error.with_traceback(None)
        return self.value

    async def next(self) -> N | None:
        """The next event, or None when nothing happened for the time of a heartbeat. Errors: SlowConsumer."""
        if self.is_cut:
            raise SlowConsumer()
        if not self._queue:
            # Nothing of an order stays in memory while nothing happens to it.
            self.value = self._queue = None
            self._hub.expect(self)
            try:
                await self._wait()
            finally:
                self._hub.expected.pop(self, None)
        return self._queue.popleft() if self._queue else None

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


@dataclass(slots=True)
class _Wave:
    """What one look is asked, and for whom: who joins while it is being read waits for the next."""

    after: dict[UUID, int] = field(default_factory=dict)
    unmet: set[UUID] = field(default_factory=set)
    listeners: list[Listener[Any, Any]] = field(default_factory=list)

    def add(self, listener: Listener[Any, Any]) -> None:
        order_id = listener.order_id
        self.after[order_id] = min(listener.sequence, self.after.get(order_id, listener.sequence))
        if not listener.is_met:
            self.unmet.add(order_id)
        self.listeners.append(listener)


class Hub:
    """All listeners of this process; `run` is its one background task."""

    def __init__(self) -> None:
        self._listeners: dict[UUID, list[Listener[Any, Any]]] = {}
        self._moved: set[UUID] = set()
        self._bell = asyncio.Event()
        self._beat_s = settings().live_heartbeat_s
        # Who waits, and until when; all wait equally long, so the first is the next to hear a heartbeat.
        self.expected: dict[Sleeper, float] = {}
        self.count = 0
        self.feed = Feed(self)

    @contextlib.asynccontextmanager
    async def listen(
        self, order_id: UUID, *, after: int, look: Look[V, N]
    ) -> AsyncIterator[Listener[V, N]]:
        """Join before reading the past: what happens in between comes by both ways and is given once.

        Listeners with the same `look` are read for together. Errors: TooManyListeners.
        """
        self.enter()
        listener = Listener(self, order_id, after, look)
        self._listeners.setdefault(order_id, []).append(listener)
        try:
            # The past is read by the same path as the present: the order counts as moved now.
            self._touch([order_id])
            yield listener
        finally:
            self.count -= 1
            rest = self._listeners[order_id]
            rest.remove(listener)
            if not rest:
                del self._listeners[order_id]

    def enter(self) -> None:
        """Count one more who listens. Errors: TooManyListeners."""
        if self.count >= LISTENERS_MAX:
            raise TooManyListeners()
        self.count += 1

    def expect(self, listener: Sleeper) -> None:
        """Wake `listener` at the end of a heartbeat's time; it leaves `expected` when it wakes."""
        tick_s = self._beat_s / TICKS
        self.expected[listener] = asyncio.get_running_loop().time() + self._beat_s - tick_s

    def _touch(self, order_ids: Iterable[UUID]) -> None:
        self._moved.update(order_id for order_id in order_ids if order_id in self._listeners)
        if self._moved:
            self._bell.set()

    async def run(self) -> None:
        """Hear the bell and serve the listeners until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hear())
            group.create_task(self._sweep())
            group.create_task(self._beat())
            group.create_task(self._serve())
            group.create_task(self.feed.run())

    async def _hear(self) -> None:
        async for topic, order_ids in bell.listen(bell.ORDERS):
            if topic:
                self._touch(UUID(order_id) for order_id in order_ids)
            else:
                self._touch(list(self._listeners))
            self.feed.ring()

    async def _sweep(self) -> None:
        """Rings may be lost: look at every order now and then."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self._touch(list(self._listeners))
            self.feed.ring()

    async def _beat(self) -> None:
        """One clock for all heartbeats: whoever is due within a tick is woken together."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._beat_s / TICKS)
            now = loop.time()
            while self.expected:
                listener, due_at = next(iter(self.expected.items()))
                if due_at > now:
                    break
                del self.expected[listener]
                listener.wake()

    async def _serve(self) -> None:
        while True:
            await self._bell.wait()
            self._bell.clear()
            while self._moved:
                batch = [self._moved.pop() for _ in range(min(READ_MAX, len(self._moved)))]
                waves: dict[Any, _Wave] = {}
                for order_id in batch:
                    for listener in self._listeners.get(order_id, ()):
                        waves.setdefault(listener.look, _Wave()).add(listener)
                for look, wave in waves.items():
                    await self._read(look, wave)

    async def _read(self, look: Look[Any, Any], wave: _Wave) -> None:
        try:
            with trace.span("event", "wave"):
                found = await look(wave.after, wave.unmet)
        except Exception as error:
            if isinstance(error, (DomainError, asyncpg.PostgresError, *db.LOST)):
                _log.warning("live.unread", error=type(error).__name__, orders=len(wave.after))
            else:
                _log.exception("live.broken", orders=len(wave.after))
            self._moved.update(wave.after)
            for listener in wave.listeners:
                if not listener.is_met:
                    listener.refuse(error)
            await asyncio.sleep(RETRY_S)
            return
        for listener in wave.listeners:
            what = found.get(listener.order_id)
            if what is not None:
                listener.offer(*what)
            elif not listener.is_met:
                listener.refuse(None)


_hub: Hub | None = None


def hub() -> Hub:
    """The hub of this process."""
    global _hub
    if _hub is None:
        _hub = Hub()
    return _hub


def forget() -> None:
    """Drop the hub: a new event loop needs a new one."""
    global _hub
    _hub = None
