"""Who is connected: a long connection ends within seconds when the session behind it does (CASES H14).

A connection that carries no event is not asked for its token again, so somebody else has to look. The bell says
whose sessions have changed; where a ring is lost, every session with a connection is looked at every two seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID

import asyncpg
import structlog

from domain.core import bell, db
from domain.core.errors import DomainError
from domain.identity import queries, sessions
from domain.identity.rules import Viewer

SWEEP_S = 2.0
LOOK_MAX = 1_000

_log = structlog.get_logger(__name__)


class Presence:
    """The connections of this process; `run` is its one background task."""

    def __init__(self) -> None:
        self._ends: dict[UUID, list[Callable[[], None]]] = {}
        self._sessions: dict[UUID, set[UUID]] = {}

    @contextmanager
    def hold(self, viewer: Viewer, end: Callable[[], None]) -> Iterator[None]:
        """While a connection is open: `end()` is called once when the viewer's session is over."""
        session_id = viewer.session_id
        self._ends.setdefault(session_id, []).append(end)
        self._sessions.setdefault(viewer.account_id, set()).add(session_id)
        try:
            yield
        finally:
            rest = self._ends.get(session_id, [])
            if end in rest:
                rest.remove(end)
            if not rest:
                self._ends.pop(session_id, None)
                mine = self._sessions.get(viewer.account_id, set())
                mine.discard(session_id)
                if not mine:
                    self._sessions.pop(viewer.account_id, None)

    async def run(self) -> None:
        """Hear the bell and look until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hear())
            group.create_task(self._sweep())

    async def _hear(self) -> None:
        async for topic, account_ids in bell.listen(bell.PEOPLE):
            if not topic:  # rings may have been missed
                queries.forget_viewers()
                await self.look(list(self._ends))
                continue
            for account_id in map(UUID, account_ids):
                queries.forget_viewers(account_id)
                await self.look(self._sessions.get(account_id, ()))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            await self.look(list(self._ends))

    async def look(self, session_ids: Iterable[UUID]) -> None:
        """End the connections of those sessions that are over."""
        waiting = list(session_ids)
        while waiting:
            batch, waiting = waiting[:LOOK_MAX], waiting[LOOK_MAX:]
            try:
                alive = await sessions.alive(batch)
            except (DomainError, asyncpg.PostgresError, *db.LOST) as error:
                # Every event asks for the token again, so nothing is shown meanwhile.
                _log.warning("presence.unread", error=type(error).__name__, sessions=len(batch))
                return
            for session_id in set(batch) - alive:
                for end in self._ends.pop(session_id, ()):
                    end()


_presence: Presence | None = None


def connections() -> Presence:
    """The connections of this process."""
    global _presence
    if _presence is None:
        _presence = Presence()
    return _presence
