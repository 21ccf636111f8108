"""The connections that were opened with sessions: they end within seconds when their session does (CASES H14)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from uuid import UUID

from domain.core import bell
from domain.core import presence as core
from domain.identity import queries, sessions
from domain.identity.rules import Viewer


class Presence(core.Presence[UUID]):
    """Sessions and their connections."""

    def __init__(self) -> None:
        super().__init__(_alive, queries.forget_viewers, bell.PEOPLE)

    def hold(self, viewer: Viewer, end: Callable[[], None]) -> AbstractContextManager[None]:
        """While a connection is open: `end()` is called once when the viewer's session is over."""
        return self.hold_key(viewer.session_id, (viewer.account_id,), end)


async def _alive(session_ids: list[UUID]) -> set[UUID]:
    return await sessions.alive(session_ids)


_presence: Presence | None = None


def connections() -> Presence:
    """The connections of this process."""
    global _presence
    if _presence is None:
        _presence = Presence()
    return _presence
