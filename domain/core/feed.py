"""Followers of a merchant's whole log in one process: read together, each from its own place, at its own pace.

The log is the queue: who is slow is read for again when it has taken what it had, so nobody is cut and nothing is
kept for anybody. Followers at the same place share what was read for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

import asyncpg
import structlog

from domain.core import db, trace
from domain.core.errors import DomainError
from domain.core.events import Place

if TYPE_CHECKING:
    from domain.core.live import Hub

PLACES_MAX = 50  # in one read
READ_EVERY_S = 0.05
WAITING_S = 0.1
RETRY_S = 0.5

_log = structlog.get_logger(__name__)

N = TypeVar("N")


@dataclass(frozen=True, slots=True)
class Batch(Generic[N]):
    """What follows a place, ready to be told; see `events.Stretch`."""

    news: Sequence[N]
    upto: Place
    has_more: bool
    is_waiting: bool


# (merchant, place) of those who follow → what follows each, in the same order.
Look = Callable[[Sequence[tuple[UUID, Place]]], Awaitable[Sequence[Batch[N]]]]


class Follower(Generic[N]):
    """One reader of one merchant's log behind `place`."""

    __slots__ = ("_feed", "_queue", "_waiter", "is_due", "look", "merchant_id", "place")

    def __init__(self, feed: Feed, merchant_id: UUID, place: Place, look: Look[N]) -> None:
        self.merchant_id = merchant_id
        self.place = place
        self.look = look
        self.is_due = True  # there may be something to read
        self._feed = feed
        self._queue: deque[N] = deque()
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_hungry(self) -> bool:
        """Whether it is to be read for now."""
        return self.is_due and not self._queue

    def take(self, batch: Batch[N]) -> None:
        """Be told what was read for its place."""
        self.place = batch.upto
        self.is_due = batch.has_more or batch.is_waiting
        if batch.news:
            self._queue.extend(batch.news)
            self.wake()

    def wake(self) -> None:
        """End the wait of `next`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> N | None:
        """The next event, None when nothing happened for the time of a heartbeat."""
        if not self._queue:
            if self.is_due:
                self._feed.look_again()
            self._feed.hub.expect(self)
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
                self._feed.hub.expected.pop(self, None)
        return self._queue.popleft() if self._queue else None


class Feed:
    """All followers of this process; `run` is its one background task."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._followers: set[Follower[Any]] = set()
        self._bell = asyncio.Event()

    @contextlib.asynccontextmanager
    async def follow(
        self, merchant_id: UUID, place: Place, look: Look[N]
    ) -> AsyncIterator[Follower[N]]:
        """Join behind `place`. Followers with the same `look` are read for together. Errors: TooManyListeners."""
        self.hub.enter()
        follower = Follower(self, merchant_id, place, look)
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)
            self.hub.count -= 1

    def ring(self) -> None:
        """Something happened to some order: everybody is read for."""
        for follower in self._followers:
            follower.is_due = True
        if self._followers:
            self._bell.set()

    def look_again(self) -> None:
        """Read for those who wait for it."""
        self._bell.set()

    async def run(self) -> None:
        """Read for the followers until cancelled; never more often than every `READ_EVERY_S`, whoever rings."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            waves: dict[Hashable, list[Follower[Any]]] = {}
            for follower in self._followers:
                if follower.is_hungry:
                    waves.setdefault(follower.look, []).append(follower)
            for wave in waves.values():
                await self._read(wave)
            await asyncio.sleep(READ_EVERY_S)

    async def _read(self, wave: Sequence[Follower[Any]]) -> None:
        by_place: dict[tuple[UUID, Place], list[Follower[Any]]] = {}
        for follower in wave:
            by_place.setdefault((follower.merchant_id, follower.place), []).append(follower)
        places = list(by_place)
        for first in range(0, len(places), PLACES_MAX):
            some = places[first : first + PLACES_MAX]
            try:
                with trace.span("event", "feed"):
                    batches = await wave[0].look(some)
            except Exception as error:
                if isinstance(error, (DomainError, asyncpg.PostgresError, *db.LOST)):
                    _log.warning("feed.unread", error=type(error).__name__, places=len(some))
                else:
                    _log.exception("feed.broken", places=len(some))
                asyncio.get_running_loop().call_later(RETRY_S, self._bell.set)
                return
            for place, batch in zip(some, batches, strict=True):
                for follower in by_place[place]:
                    follower.take(batch)
                if batch.is_waiting and not batch.news:
                    # Nobody rings when the transaction that is in the way ends.
                    asyncio.get_running_loop().call_later(WAITING_S, self._bell.set)
