"""Live listeners of one process: the bell says which orders moved, one query reads what is new for all of them.

A listener holds no database connection and no task of its own while it waits. A queue that its reader does not
empty is bounded: the listener is cut, comes back with its cursor and misses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterable
from uuid import UUID

import asyncpg
import structlog

from domain.core import bell, db, events
from domain.core.errors import DomainError
from domain.core.events import Event

QUEUE_MAX = 256
READ_MAX = 1_000
SWEEP_S = 30.0
LISTENERS_MAX = 50_000

_log = structlog.get_logger(__name__)


class SlowConsumer(DomainError):
    """The reader did not keep up: connect again with the last cursor."""

    code = "SLOW_CONSUMER"
    retryable = True


class TooManyListeners(DomainError):
    """This process serves all the listeners it can: try another one."""

    code = "TOO_MANY_SUBSCRIPTIONS"
    retryable = True


class Listener:
    """One reader of one order's events after `sequence`."""

    __slots__ = ("_queue", "_waiter", "is_cut", "order_id", "sequence")

    def __init__(self, order_id: UUID, sequence: int) -> None:
        self.order_id = order_id
        self.sequence = sequence
        self.is_cut = False
        self._queue: deque[Event] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def offer(self, event: Event) -> None:
        """Queue an event that follows the last one; anything older has been seen."""
        if event.sequence <= self.sequence:
            return
        self.sequence = event.sequence
        self._queue.append(event)
        if len(self._queue) > QUEUE_MAX:
            self.is_cut = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def has_more(self) -> bool:
        """Whether the next event is here already."""
        return bool(self._queue)

    async def next(self, timeout_s: float) -> Event | None:
        """The next event, or None when nothing happened for `timeout_s`. Errors: SlowConsumer."""
        if self.is_cut:
            raise SlowConsumer()
        if not self._queue:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(timeout_s, _wake, self._waiter)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        return self._queue.popleft() if self._queue else None


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Hub:
    """All listeners of this process; `run` is its one background task."""

    def __init__(self) -> None:
        self._listeners: dict[UUID, list[Listener]] = {}
        self._moved: set[UUID] = set()
        self._bell = asyncio.Event()
        self.count = 0

    @contextlib.asynccontextmanager
    async def listen(self, order_id: UUID, *, after: int) -> AsyncIterator[Listener]:
        """Join before reading the past: what happens in between comes by both ways and is given once.

        Errors: TooManyListeners.
        """
        if self.count >= LISTENERS_MAX:
            raise TooManyListeners()
        listener = Listener(order_id, after)
        self._listeners.setdefault(order_id, []).append(listener)
        self.count += 1
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

    def _touch(self, order_ids: Iterable[UUID]) -> None:
        self._moved.update(order_id for order_id in order_ids if order_id in self._listeners)
        if self._moved:
            self._bell.set()

    async def run(self) -> None:
        """Hear the bell and serve the listeners until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hear())
            group.create_task(self._sweep())
            group.create_task(self._serve())

    async def _hear(self) -> None:
        async for topic, order_ids in bell.listen(bell.ORDERS):
            if topic:
                self._touch(UUID(order_id) for order_id in order_ids)
            else:
                self._touch(list(self._listeners))

    async def _sweep(self) -> None:
        """Rings may be lost: look at every order now and then."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self._touch(list(self._listeners))

    async def _serve(self) -> None:
        while True:
            await self._bell.wait()
            self._bell.clear()
            while self._moved:
                batch = [self._moved.pop() for _ in range(min(READ_MAX, len(self._moved)))]
                try:
                    await self._read(batch)
                except (DomainError, asyncpg.PostgresError, *db.LOST) as error:
                    _log.warning("live.unread", error=type(error).__name__, orders=len(batch))
                    self._moved.update(batch)
                    await asyncio.sleep(0.5)

    async def _read(self, order_ids: list[UUID]) -> None:
        after = {
            order_id: min(listener.sequence for listener in listeners)
            for order_id in order_ids
            if (listeners := self._listeners.get(order_id))
        }
        if not after:
            return
        for event in await events.of_orders(after):
            for listener in self._listeners.get(event.order_id, ()):
                listener.offer(event)


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
