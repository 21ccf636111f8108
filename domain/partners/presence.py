"""The connections of apps: they end within seconds when the token they were opened with is over, whatever ended it.

That is the token itself, its family or grant, the app, the person, or the person's place in the merchant.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from uuid import UUID

from domain.core import bell, db
from domain.core import presence as core
from domain.identity import Viewer
from domain.partners import queries, rules


class Presence(core.Presence[bytes]):
    """Access tokens, by their hash, and their connections."""

    def __init__(self) -> None:
        super().__init__(_alive, _forget, bell.APPS, bell.PEOPLE)

    def hold(
        self, viewer: Viewer, token: str, end: Callable[[], None]
    ) -> AbstractContextManager[None]:
        """While a connection is open: `end()` is called once when the app's `token` is over."""
        assert viewer.app is not None, "sessions are identity's"
        of = (viewer.app.grant_id, viewer.app.app_id, viewer.account_id)
        return self.hold_key(rules.hashed(token), of, end)


_forgetful: list[Callable[[UUID | None], None]] = [queries.forget]


def on_forget(forget: Callable[[UUID | None], None]) -> None:
    """Have `forget` called with each grant, app or person that changes, with None for all."""
    _forgetful.append(forget)


def _forget(of: UUID | None) -> None:
    for forget in _forgetful:
        forget(of)


async def _alive(hashes: list[bytes]) -> set[bytes]:
    return await queries.alive(hashes)


_presence: Presence | None = None


def connections() -> Presence:
    """The connections of this process."""
    global _presence
    if _presence is None:
        _presence = Presence()
    return _presence


async def tell(*of: UUID) -> None:
    """Say to every process that something about these grants or apps has ended, after the commit of what ended it.

    A ring that is lost is made good by the look every two seconds and by what is kept for four at most.
    """

    async def after() -> None:
        for one in of:
            _forget(one)
        await bell.ring(bell.APPS, *of)

    for one in of:
        _forget(one)
    if db.in_transaction():
        db.after_commit(after)
    else:
        await after()
