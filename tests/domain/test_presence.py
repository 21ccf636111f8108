"""Connections end with their sessions: when the bell rings, when it does not, and never by mistake (CASES H14)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from domain import identity
from domain.core import db as core
from domain.core import presence
from domain.core.errors import Unavailable
from domain.identity import Viewer, sessions
from domain.identity.presence import Presence

PASSWORD, ADDRESS = "correct horse battery", "203.0.113.9"


@pytest.fixture
async def here(db: None) -> AsyncIterator[Presence]:
    """The connections of a process that is running."""
    found = Presence()
    task = asyncio.ensure_future(found.run())
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def signed_in(email: str = "one@shop.test") -> Viewer:
    if not await core.value("SELECT 1 FROM account WHERE email = $1", email):
        await identity.register(email, PASSWORD)
    viewer = await identity.viewer((await identity.sign_in(email, PASSWORD, ADDRESS)).token)
    assert viewer is not None
    return viewer


async def test_h14_every_connection_of_the_session_ends_once_and_no_other(here: Presence) -> None:
    one, two, other = await signed_in(), await signed_in(), await signed_in("other@shop.test")
    ended: list[str] = []
    gone = asyncio.Event()

    def end(name: str) -> None:
        ended.append(name)
        if len(ended) == 2:
            gone.set()

    with (
        here.hold(one, lambda: end("one")),
        here.hold(one, lambda: end("one")),
        here.hold(two, lambda: end("two")),
        here.hold(other, lambda: end("other")),
    ):
        await identity.revoke_session(one.account_id, one.session_id)
        async with asyncio.timeout(presence.SWEEP_S * 2):
            await gone.wait()
        await here.look([one.session_id, two.session_id, other.session_id])

        assert ended == ["one", "one"]


async def test_h14_a_session_that_only_rests_too_long_ends_its_connections(here: Presence) -> None:
    one = await signed_in()
    await core.execute("UPDATE session SET last_seen_at = last_seen_at - interval '4 days'")
    gone = asyncio.Event()

    with here.hold(one, gone.set):
        async with asyncio.timeout(presence.SWEEP_S * 2):
            await gone.wait()


async def test_a_database_that_is_away_ends_nothing(
    here: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await signed_in()
    ended: list[str] = []

    async def away(*_: object) -> None:
        raise Unavailable(what="database")

    monkeypatch.setattr(sessions, "alive", away)
    with here.hold(one, lambda: ended.append("one")):
        await here.look([one.session_id])

        assert ended == []


async def test_who_has_hung_up_is_forgotten(here: Presence) -> None:
    one = await signed_in()
    with here.hold(one, lambda: None):
        with here.hold(one, lambda: None):
            pass
        assert set(here._ends) == {one.session_id}

    assert (here._ends, here._keys) == ({}, {})
    async with core.statements() as sent:
        await here.look([])
    assert sent == []
    await here.look([uuid4()])
