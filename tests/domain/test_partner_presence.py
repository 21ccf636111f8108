"""Connections of an app end with its token, whatever ended that, and no others' do (CASES H14)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import pytest

from domain import identity, partners
from domain.core import bell, clock, presence
from domain.core import db as core
from domain.core.audit import Actor
from domain.identity import Viewer
from domain.partners import App, Asked, Manifest
from domain.partners.presence import Presence
from tests import make
from tests.domain.test_bell import hearing
from tests.server.oauth_client import SECRET

ACTOR = Actor("merchant", "acc_test")


@dataclass
class Held:
    """An app that acts by itself: its grant, its token, and who let it in."""

    app: App
    merchant_id: UUID
    account_id: UUID
    grant_id: UUID
    token: str
    viewer: Viewer


async def held(shop: make.Shop, name: str, manifest: Manifest = SECRET) -> Held:
    account_id = await identity.register(f"{name}@shop.test", "correct horse battery")
    await identity.grant(shop.merchant_id, account_id, identity.Role.OWNER)
    app_id, _ = await partners.register(
        shop.merchant_id, manifest, account_id=account_id, actor=ACTOR
    )
    app = (await partners.apps([app_id]))[app_id]
    grant_id = await partners.allow_client(
        app,
        Asked(("orders:read",)),
        merchant_id=shop.merchant_id,
        account_id=account_id,
        auth_at=clock.now(),
    )
    token = (await partners.as_itself(app, scope=None, jkt=None)).access_token
    viewer = await partners.viewer(token)
    assert viewer is not None
    return Held(app, shop.merchant_id, account_id, grant_id, token, viewer)


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


async def _revoke(one: Held) -> None:
    await partners.revoke(one.merchant_id, one.grant_id, actor=ACTOR)


async def _token(one: Held) -> None:
    await partners.revoke_token(one.app, one.token)


async def _delete(one: Held) -> None:
    await partners.delete(one.merchant_id, one.app.id, actor=ACTOR)


async def _replace(one: Held) -> None:
    asked = Asked(("orders:read",))
    await partners.allow_client(
        one.app,
        asked,
        merchant_id=one.merchant_id,
        account_id=one.account_id,
        auth_at=clock.now(),
    )


async def _remove(one: Held) -> None:
    by = identity.Actor(one.account_id)
    await identity.remove_member(one.merchant_id, one.account_id, by=by)


async def _close(one: Held) -> None:
    await identity.close(one.account_id)


async def _over(one: Held) -> None:
    """Nobody rings: a token's time."""
    await core.execute(
        "UPDATE app_token SET expires_at = clock_timestamp() WHERE grant_id = $1", one.grant_id
    )


async def _lost(one: Held) -> None:
    """What a lost ring looks like."""
    await core.execute(
        "UPDATE app_grant SET revoked_at = clock_timestamp(), revoked_for = 'revoked' WHERE id = $1",
        one.grant_id,
    )


@pytest.mark.parametrize("end", [_revoke, _token, _delete, _replace, _remove, _close, _over, _lost])
async def test_h14_every_connection_of_a_dead_app_token_ends_once_and_no_other(
    here: Presence, end: Callable[[Held], Awaitable[None]]
) -> None:
    shop = await make.shop()
    one, other = await held(shop, "one"), await held(shop, "other")
    ended: list[str] = []
    gone = asyncio.Event()

    def over(name: str) -> None:
        ended.append(name)
        if len(ended) == 2:
            gone.set()

    with (
        here.hold(one.viewer, one.token, lambda: over("one")),
        here.hold(one.viewer, one.token, lambda: over("one")),
        here.hold(other.viewer, other.token, lambda: over("other")),
    ):
        await end(one)
        async with asyncio.timeout(presence.SWEEP_S * 2):
            await gone.wait()
        await here.look(list(here._ends))

        assert ended == ["one", "one"]
    assert (here._ends, here._keys) == ({}, {})


async def test_h14_the_end_of_a_grant_is_rung_after_its_commit_and_names_it(db: None) -> None:
    one = await held(await make.shop(), "one")

    async def undone() -> None:
        async with core.transaction():
            await partners.revoke(one.merchant_id, one.grant_id, actor=ACTOR)
            raise RuntimeError

    async with hearing(bell.APPS) as (heard, until):
        with pytest.raises(RuntimeError):
            await undone()
        await asyncio.sleep(0.05)
        assert heard == []
        assert await partners.revoke(one.merchant_id, one.grant_id, actor=ACTOR)
        await until(1)

    assert heard == [(bell.APPS, [str(one.grant_id)])]


async def test_h14_another_process_drops_what_it_kept_when_the_bell_rings(here: Presence) -> None:
    one = await held(await make.shop(), "one")
    await _lost(one)
    assert await partners.viewer(one.token) is not None  # kept for four seconds

    await bell.ring(bell.APPS, one.grant_id)
    async with asyncio.timeout(2):
        while await partners.viewer(one.token) is not None:
            await asyncio.sleep(0.01)
