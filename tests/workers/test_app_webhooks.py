"""Webhooks of apps: told under each grant, with the rights of that moment, none after it (H14 H20 L33 M29)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web
from joserfc.jwk import ECKey

from domain import identity, partners, webhooks
from domain.core import clock, db, ids
from domain.identity import Role
from domain.partners import App, Asked, Manifest, Webhook
from domain.webhooks import EndpointState, Hook, granted
from tests import make
from tests.database import as_owner
from tests.receiver import (
    ACTOR,
    Receiver,
    collected,
    due_now,
    endpoint,
    find,
    happen,
    is_signed,
    states,
)
from tests.server.oauth_client import FAPI, SECRET
from tests.workers.running import sent
from workers import webhooks as work
from workers.webhooks import Dispatcher

SPLIT = "{ order { id fundsFlow { leg amount { amount } } } }"


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """Nothing of what a grant allowed is kept from before, and what is found holds no longer than a moment."""
    granted._kept.clear()


@dataclass
class Let:
    """A person who let an app in."""

    app: App
    merchant_id: UUID
    account_id: UUID
    grant_id: UUID


async def app_of(
    shop: make.Shop, *hooks: Webhook, manifest: Manifest = SECRET
) -> tuple[App, list[Hook]]:
    """An app of the shop's developers with these webhooks."""
    account_id = await identity.register(f"{ids.uuid7().hex}@dev.test", "correct horse battery")
    await identity.grant(shop.merchant_id, account_id, Role.DEVELOPER)
    app_id, _, made = await webhooks.register_app(
        shop.merchant_id, replace(manifest, webhooks=hooks), account_id=account_id, actor=ACTOR
    )
    return (await partners.apps([app_id]))[app_id], made


async def let(
    app: App,
    shop: make.Shop,
    *scopes: str,
    role: Role = Role.OWNER,
    expires_at: Any = None,
) -> Let:
    """Somebody new in the shop's merchant lets the app in."""
    account_id = await identity.register(f"{ids.uuid7().hex}@shop.test", "correct horse battery")
    await identity.grant(shop.merchant_id, account_id, role)
    if not await db.value(
        "SELECT 1 FROM membership WHERE merchant_id = $1 AND account_id <> $2 AND role = 'owner'",
        shop.merchant_id,
        account_id,
    ):
        boss = await identity.register(f"{ids.uuid7().hex}@boss.test", "correct horse battery")
        await identity.grant(shop.merchant_id, boss, Role.OWNER)
    asked = Asked(scopes or ("orders:read",), redirect_uri="x", expires_at=expires_at)
    handle = await partners.open_request(app, asked)
    waiting = await partners.waiting(handle)
    assert waiting is not None
    await partners.allow(
        handle,
        waiting,
        merchant_id=shop.merchant_id,
        account_id=account_id,
        auth_at=clock.now(),
    )
    grant_id = await db.value(
        "SELECT id FROM app_grant WHERE account_id = $1 ORDER BY id DESC LIMIT 1", account_id
    )
    return Let(app, shop.merchant_id, account_id, grant_id)


async def under(grant_id: UUID) -> list[tuple[int, str, str | None]]:
    """(sequence, state, error) of what was owed under a grant."""
    rows = await db.fetch(
        "SELECT sequence, state, error FROM webhook_delivery WHERE grant_id = $1 ORDER BY order_id, sequence",
        grant_id,
    )
    return [(row["sequence"], row["state"], row["error"]) for row in rows]


async def test_an_app_is_told_of_every_merchant_that_let_it_in_and_of_no_other(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    home, one, two, other = [await make.shop() for _ in range(4)]
    app, (hook,) = await app_of(home, Webhook(f"{at.url}/app", ("order.placed",)))
    first, second = await let(app, one), await let(app, two)
    again = await let(app, one)
    order = await make.order(one)
    await happen(order, "order.paid")  # no kind of this webhook's
    for shop in (two, other, home):
        await make.order(shop)

    for _ in range(2):
        await sent(dispatcher)

    told = {(got["data"]["merchantId"], got["data"]["grantId"]) for got in at.got}
    assert len(at.got) == 3
    assert told == {
        (ids.encode("mer", one.merchant_id), ids.encode("gnt", first.grant_id)),
        (ids.encode("mer", one.merchant_id), ids.encode("gnt", again.grant_id)),
        (ids.encode("mer", two.merchant_id), ids.encode("gnt", second.grant_id)),
    }
    assert hook.new_secret is not None
    assert hook.new_secret.startswith("whsec_")
    for got in at.got:
        assert is_signed(got, hook.new_secret)
        assert got["type"] == "order.placed"
        assert list(got["data"])[-5:] == ["sequence", "state", "cursor", "merchantId", "grantId"]
    # Told twice of the same order under two grants, it can tell them apart.
    assert len({got["headers"]["webhook-id"] for got in at.got}) == 3


async def test_an_app_is_told_from_its_grant_on(at: Receiver, dispatcher: Dispatcher) -> None:
    shop = await make.shop()
    app, _ = await app_of(shop, Webhook(f"{at.url}/app"))
    order = await make.order(shop)  # before anybody let the app in, and not yet read by the worker
    one = await let(app, shop)
    await happen(order, "order.paid")

    await sent(dispatcher)

    assert [got["data"]["sequence"] for got in at.got] == [2]
    assert await under(one.grant_id) == [(2, "delivered", None)]


async def _revoke(one: Let) -> None:
    await partners.revoke(one.merchant_id, one.grant_id, actor=ACTOR)


async def _expire(one: Let) -> None:
    await as_owner(
        "UPDATE app_grant SET expires_at = clock_timestamp() WHERE id = $1", one.grant_id
    )


async def _remove(one: Let) -> None:
    by = identity.Actor(one.account_id)
    await identity.remove_member(one.merchant_id, one.account_id, by=by)


async def _close(one: Let) -> None:
    await identity.close(one.account_id)


async def _delete(one: Let) -> None:
    assert one.app.merchant_id is not None
    await webhooks.delete_app(one.app.merchant_id, one.app.id, actor=ACTOR)


@pytest.mark.parametrize("end", [_revoke, _expire, _remove, _close, _delete])
async def test_h14_nothing_is_told_under_a_grant_that_is_over(
    at: Receiver, dispatcher: Dispatcher, end: Callable[[Let], Awaitable[None]]
) -> None:
    """Neither what happens later, nor what is owed and not yet sent, nor what is to be tried again."""
    home, shop = await make.shop(), await make.shop()
    app, (hook,) = await app_of(home, Webhook(f"{at.url}/app"))
    one = await let(app, shop)
    at.says("/app", 500)
    order = await make.order(shop)
    await sent(dispatcher)  # tried once, to be tried again
    await happen(order, "order.paid")
    await collected()  # owed, not yet sent
    assert [state for _, state, _ in await under(one.grant_id)] == ["ready", "ready"]
    at.got.clear()

    await end(one)
    granted._kept.clear()
    await due_now()
    await make.order(shop)
    await sent(dispatcher)
    await sent(dispatcher)
    await webhooks.sweep()

    assert at.got == []
    left = await under(one.grant_id)
    assert [sequence for sequence, _, _ in left] == [1, 2]
    assert {(state, error) for _, state, error in left} == {("skipped", "grant_over")}
    if end is not _delete:  # nothing of it is the receiver's fault
        assert (await find(hook.endpoint.id)).state is EndpointState.FAILING
        assert await db.value("SELECT dead_in_row FROM webhook_endpoint") == 0


async def test_h14_what_waits_behind_a_slow_answer_is_looked_at_again_before_it_goes(
    at: Receiver, dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(granted, "FRESH_S", 0.0)
    monkeypatch.setattr(work, "SLOTS", 1)
    shop = await make.shop()
    app, _ = await app_of(shop, Webhook(f"{at.url}/app"))
    one = await let(app, shop)
    for _ in range(3):
        await make.order(shop)

    async def slow(request: web.Request) -> web.Response:
        await _revoke(one)
        return web.Response(status=204)

    at.answers["/app"] = slow
    await sent(dispatcher)

    assert len(at.got) == 1
    assert sorted(state for _, state, _ in await under(one.grant_id)) == [
        "delivered",
        "skipped",
        "skipped",
    ]


async def test_h20_a_webhook_takes_its_scopes_of_every_grant(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    home, rich, poor = [await make.shop() for _ in range(3)]
    app, _ = await app_of(home, Webhook(f"{at.url}/split", (), SPLIT), manifest=fapi())
    await let(app, rich, "orders:read", "money:read")
    await let(app, poor, "orders:read")
    await make.order(rich)
    await make.order(poor)

    await sent(dispatcher)

    assert [got["data"]["merchantId"] for got in at.got] == [ids.encode("mer", rich.merchant_id)]


def fapi() -> Manifest:
    """An app of the finance tier."""
    key = {**ECKey.generate_key("P-256").as_dict(private=False), "kid": "k1"}
    return replace(FAPI, jwks={"keys": [key]})


async def test_h20_a_scope_that_went_between_owing_and_telling_is_not_told(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    shop = await make.shop()
    manifest = fapi()
    hook = Webhook(f"{at.url}/split", (), SPLIT)
    app, _ = await app_of(shop, hook, manifest=manifest)
    one = await let(app, shop, "orders:read", "money:read")
    await make.order(shop)
    await collected()
    await db.execute("UPDATE partner_app SET scopes = '{orders:read}' WHERE id = $1", app.id)

    await sent(dispatcher)

    assert at.got == []
    assert await under(one.grant_id) == [(1, "skipped", "scope_gone")]


async def test_h20_whose_role_lost_the_money_is_told_no_split_not_even_an_old_body(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    shop = await make.shop()
    app, _ = await app_of(shop, Webhook(f"{at.url}/split", (), SPLIT), manifest=fapi())
    one = await let(app, shop, "orders:read", "money:read", role=Role.FINANCE)
    at.says("/split", 500)
    await make.order(shop)
    await sent(dispatcher)
    assert await db.value("SELECT sees_split FROM webhook_delivery") is True
    before = await db.value("SELECT body FROM webhook_delivery")

    await identity.change_role(
        one.merchant_id, one.account_id, Role.CATALOGUE, by=identity.Actor(one.account_id)
    )
    await db.execute("UPDATE webhook_delivery SET body = replace(body, '}}', ',\"old\":1}}')")
    granted._kept.clear()
    at.says("/split", 204)
    await due_now()
    await sent(dispatcher)

    assert await db.value("SELECT sees_split FROM webhook_delivery") is False
    assert '"old"' not in at.got[-1]["body"].decode()
    assert before is not None
    assert await under(one.grant_id) == [(1, "delivered", None)]


async def test_l33_a_slow_app_delays_no_merchants_own_endpoint(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    """However many merchants let it in, an app's webhook is one lane."""
    home = await make.shop()
    app, (hook,) = await app_of(home, Webhook(f"{at.url}/app"))
    shops = [await make.shop() for _ in range(3)]
    for shop in shops:
        for _ in range(4):
            await let(app, shop)
    release = asyncio.Event()
    open_at_once = most = 0

    async def hang(request: web.Request) -> web.Response:
        nonlocal open_at_once, most
        open_at_once += 1
        most = max(most, open_at_once)
        await release.wait()
        open_at_once -= 1
        return web.Response(status=204)

    at.answers["/app"] = hang
    own = [await endpoint(shop.merchant_id, f"{at.url}/own") for shop in shops]
    for shop in shops:
        for _ in range(5):
            await make.order(shop)
    await collected()

    try:
        async with asyncio.timeout(10):
            while len(at.at("/own")) < 15:
                await dispatcher.turn()
                await asyncio.sleep(0.01)
        assert [await states(one.id) for one in own] != []
        assert most == work.SLOTS
        assert len(at.at("/app")) == work.SLOTS
    finally:
        release.set()
    await dispatcher.idle()

    assert len(at.at("/app")) == 60
    assert (await find(hook.endpoint.id)).state is EndpointState.ACTIVE


async def test_m29_410_switches_it_off_for_all_grants_and_its_developers_are_told(
    at: Receiver, dispatcher: Dispatcher
) -> None:
    home, shop = await make.shop(), await make.shop()
    app, (hook,) = await app_of(home, Webhook(f"{at.url}/app"))
    await let(app, shop)
    at.says("/app", 410)
    await make.order(shop)

    await sent(dispatcher)
    await make.order(shop)
    await sent(dispatcher)
    await work.tell_disabled(hook.endpoint.id)

    assert len(at.got) == 1
    gone = await find(hook.endpoint.id)
    assert (gone.state, str(gone.reason)) == (EndpointState.DISABLED, "gone")
    mail = await db.fetch(
        "SELECT merchant_id, template FROM notification WHERE order_id = $1", gone.id
    )
    assert [(row["merchant_id"], row["template"]) for row in mail] == [
        (home.merchant_id, "webhook_disabled")
    ]
    assert (
        await db.value("SELECT count(*) FROM promise WHERE task = $1", webhooks.DISABLED_TASK) == 1
    )
