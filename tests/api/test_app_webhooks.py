"""An app's webhooks as its developers run them: secrets once, keys changed, a log without what merchants were told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain import partners
from domain.core import db, ids
from domain.identity import Role
from tests import make
from tests.api.desk import Desk, audited, member
from tests.api.test_partners import MANIFEST
from tests.api.webhook_desk import developer, sent
from tests.receiver import Receiver, is_signed, receiving
from tests.workers.test_app_webhooks import let

HOOK = "webhooks { url kinds selection newSecret endpoint { id appId version state reason publicKey } }"
CREATE = f"""mutation ($input: CreateAppInput!) {{ createApp(input: $input) {{ __typename
  ... on AppCredentials {{ app {{ id version {HOOK} }} }} ... on InvalidInput {{ problems {{ code path }} }} }} }}"""
UPDATE = f"""mutation ($input: UpdateAppInput!) {{ updateApp(input: $input) {{ __typename
  ... on PartnerApp {{ version {HOOK} }} ... on InvalidInput {{ problems {{ code path }} }} }} }}"""
READ = f"query ($id: ID!) {{ node(id: $id) {{ ... on PartnerApp {{ {HOOK} }} }} }}"
LOG = """query ($id: ID!) { node(id: $id) { ... on PartnerApp { webhooks { endpoint { deliveries(first: 10) { nodes {
  id kind sequence state code error body merchantId grantId orderId attempts { code answer } } } } } } } }"""
DELIVERY = "query ($id: ID!) { node(id: $id) { ... on WebhookDelivery { id } } }"


@pytest.fixture
async def at(db: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    async with receiving(monkeypatch) as found:
        yield found


async def made(desk: Desk, shop: make.Shop, *hooks: dict[str, Any]) -> dict[str, Any]:
    manifest = {**MANIFEST, "webhooks": list(hooks)}
    given = {"merchantId": ids.encode("mer", shop.merchant_id), "manifest": manifest}
    found: dict[str, Any] = (await desk.data(CREATE, {"input": given}))["createApp"]
    return found


async def test_a_secret_is_shown_by_the_call_that_made_it_and_by_no_other(at: Receiver) -> None:
    shop = await make.shop()
    desk = await developer(shop)
    one = {"url": f"{at.url}/one", "kinds": ["order.paid"]}
    app = (await made(desk, shop, one))["app"]
    two = {"url": f"{at.url}/two", "kinds": [], "selection": "{ order { id } }"}
    change = {
        "appId": app["id"],
        "expectedVersion": app["version"],
        "manifest": {**MANIFEST, "webhooks": [one, two]},
    }

    changed = (await desk.data(UPDATE, {"input": change}))["updateApp"]
    read = (await desk.data(READ, {"id": app["id"]}))["node"]

    (first,) = app["webhooks"]
    assert first["newSecret"].startswith("whsec_")
    assert (first["url"], first["kinds"], first["selection"]) == (one["url"], ["order.paid"], None)
    assert first["endpoint"]["appId"] == app["id"]
    assert [bool(hook["newSecret"]) for hook in changed["webhooks"]] == [False, True]
    assert [hook["newSecret"] for hook in read["webhooks"]] == [None, None]
    assert [hook["url"] for hook in read["webhooks"]] == [one["url"], two["url"]]
    log = str(await audited())
    assert first["newSecret"] not in log
    assert log.count("app.webhook_created") == 2


async def test_its_developers_rotate_test_and_switch_it_and_nothing_else(at: Receiver) -> None:
    shop = await make.shop()
    desk = await developer(shop)
    app = (await made(desk, shop, {"url": f"{at.url}/one", "kinds": []}))["app"]
    hook = app["webhooks"][0]
    this = {"endpointId": hook["endpoint"]["id"]}

    rotated = await desk.do("rotateWebhookSecret", {**this, "expectedVersion": 1})
    tried = await desk.plain("webhookTest", this)
    off = await desk.do("updateWebhookEndpoint", {**this, "expectedVersion": 2, "enabled": False})
    on = await desk.do("updateWebhookEndpoint", {**this, "expectedVersion": 3, "enabled": True})
    moved = await desk.do(
        "updateWebhookEndpoint", {**this, "expectedVersion": 4, "url": f"{at.url}/x"}
    )
    ended = await desk.do("deleteWebhookEndpoint", {**this, "expectedVersion": 4})
    by_order = await desk.do(
        "redeliverWebhook", {**this, "orderId": ids.encode("ord", ids.uuid7())}
    )
    listed = await desk.data(
        "query ($id: ID!) { merchantWebhookEndpoints(merchantId: $id) { id } }",
        {"id": ids.encode("mer", shop.merchant_id)},
    )

    assert rotated["secret"] not in ("", hook["newSecret"])
    assert tried["attempt"]["code"] == 204
    assert is_signed(at.got[0], rotated["secret"])
    assert is_signed(at.got[0], hook["newSecret"])  # for a day
    assert (off["state"], on["state"]) == ("DISABLED", "ACTIVE")
    for refused, path in ((moved, "url"), (ended, "endpointId"), (by_order, "orderId")):
        assert [one["path"] for one in refused["problems"]] == [["input", path]]
    assert listed == {"merchantWebhookEndpoints": []}


async def test_the_log_says_what_was_sent_to_whom_and_not_what_merchants_told(at: Receiver) -> None:
    home, shop = await make.shop(), await make.shop()
    desk = await developer(home)
    app = (await made(desk, home, {"url": f"{at.url}/one", "kinds": ["order.placed"]}))["app"]
    found = (await partners.apps([ids.decode(app["id"], "app")]))[ids.decode(app["id"], "app")]
    one = await let(found, shop)
    order = await make.order(shop)
    await sent()

    (hook,) = (await desk.data(LOG, {"id": app["id"]}))["node"]["webhooks"]
    (told,) = hook["endpoint"]["deliveries"]["nodes"]
    theirs = await member(shop, Role.OWNER)
    for them in (theirs, await member(home, Role.SUPPORT), Desk(None)):
        refused = await them.ask(DELIVERY, {"id": told["id"]})
        assert (refused.get("data") or {}).get("node") is None
    assert (await desk.data(DELIVERY, {"id": told["id"]}))["node"] == {"id": told["id"]}

    assert len(at.got) == 1
    assert order.number in at.got[0]["body"].decode()
    assert told["body"] is None
    assert {key: told[key] for key in ("kind", "sequence", "state", "code", "error")} == {
        "kind": "PLACED",
        "sequence": 1,
        "state": "DELIVERED",
        "code": 204,
        "error": None,
    }
    assert told["merchantId"] == ids.encode("mer", shop.merchant_id)
    assert told["grantId"] == ids.encode("gnt", one.grant_id)
    assert told["orderId"] == ids.encode("ord", order.id)
    assert order.number not in str(hook)


async def test_kinds_that_there_are_none_of_are_named(at: Receiver) -> None:
    shop = await make.shop()
    desk = await developer(shop)

    refused = await made(
        desk, shop, {"url": "https://a.example/x", "kinds": ["order.paid", "order.painted"]}
    )

    assert refused["problems"] == [
        {"code": "FIELD_INVALID", "path": ["input", "webhooks", "0", "kinds", "1"]}
    ]
    assert await db.value("SELECT count(*) FROM partner_app") == 0
