"""Who is connected: a long connection ends within seconds when what it was opened with does (CASES H14).

A connection that carries no event is not asked for its token again, so somebody else has to look. The bell says
whose rights have changed; where a ring is lost, every connection is looked at every two seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar
from uuid import UUID

import asyncpg
import structlog

from domain.core import bell, db
from domain.core.errors import DomainError

SWEEP_S = 2.0
LOOK_MAX = 1_000

K = TypeVar("K", bound=Hashable)
_log = structlog.get_logger(__name__)


class Presence(Generic[K]):
    """The connections of this process by what they were opened with; `run` is its one background task.

    `alive` says which of some keys are not over, `forget` drops what this process keeps of an id the bell names, or
    of all without one; `topics` are the bells whose ids are those that `hold` was given.
    """

    def __init__(
        self,
        alive: Callable[[list[K]], Awaitable[set[K]]],
        forget: Callable[[UUID | None], None],
        *topics: str,
    ) -> None:
        self._alive = alive
        self._forget = forget
        self._topics = topics
        self._ends: dict[K, list[Callable[[], None]]] = {}
        self._keys: dict[UUID, set[K]] = {}

    @contextmanager
    def hold_key(self, key: K, of: Sequence[UUID], end: Callable[[], None]) -> Iterator[None]:
        """While a connection is open: `end()` is called once when `key` is over; `of` are ids that rings name."""
        self._ends.setdefault(key, []).append(end)
        for one in of:
            self._keys.setdefault(one, set()).add(key)
        try:
            yield
        finally:
            rest = self._ends.get(key, [])
            if end in rest:
                rest.remove(end)
            if not rest:
                self._ends.pop(key, None)
                for one in of:
                    mine = self._keys.get(one, set())
                    mine.discard(key)
                    if not mine:
                        self._keys.pop(one, None)

    async def run(self) -> None:
        """Hear the bell and look until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hear())
            group.create_task(self._sweep())

    async def _hear(self) -> None:
        async for topic, named in bell.listen(*self._topics):
            if not topic or not named:  # rings may have been missed, or everybody is meant
                self._forget(None)
                await self.look(list(self._ends))
                continue
            for one in map(UUID, named):
                self._forget(one)
                await self.look(self._keys.get(one, ()))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            await self.look(list(self._ends))

    async def look(self, keys: Iterable[K]) -> None:
        """End the connections of those keys that are over."""
        waiting = list(keys)
        while waiting:
            batch, waiting = waiting[:LOOK_MAX], waiting[LOOK_MAX:]
            try:
                alive = await self._alive(batch)
            except (DomainError, asyncpg.PostgresError, *db.LOST) as error:
                # Every event asks for the token again, so nothing is shown meanwhile.
                _log.warning("presence.unread", error=type(error).__name__, keys=len(batch))
                return
            for key in set(batch) - alive:
                for end in self._ends.pop(key, ()):
                    end()
