"""Webhooks tried out and sent again at the front door; deliveries page by page (L33)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest

from domain.core import db, ids
from tests import make
from tests.api.desk import code, refused
from tests.api.webhook_desk import LIST, deliveries, developer, sent, terms
from tests.receiver import Receiver, collected, happen, is_signed, receiving


@pytest.fixture
async def at(db: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    async with receiving(monkeypatch) as found:
        yield found


async def test_a_test_is_signed_sent_now_and_changes_nothing(at: Receiver) -> None:
    shop = await make.shop()
    desk = await developer(shop)
    made = await desk.do("createWebhookEndpoint", terms(shop, f"{at.url}/a"))
    at.says("/a", 410)

    tried = await desk.plain("webhookTest", {"endpointId": made["endpoint"]["id"]})

    (got,) = at.got
    assert is_signed(got, made["secret"])
    assert got["type"] == "webhook.test"
    assert tried["messageId"] == got["headers"]["webhook-id"]
    assert tried["signature"] == got["headers"]["webhook-signature"]
    assert (tried["attempt"]["code"], tried["attempt"]["error"]) == (410, None)
    listed = await desk.data(LIST, {"id": ids.encode("mer", shop.merchant_id)})
    assert listed["merchantWebhookEndpoints"][0]["state"] == "ACTIVE"
    assert await db.value("SELECT count(*) FROM webhook_delivery") == 0


async def test_a_dry_run_shows_what_the_webhook_carries_and_sends_nothing(at: Receiver) -> None:
    shop = await make.shop()
    desk = await developer(shop)
    await desk.do(
        "createWebhookEndpoint", terms(shop, f"{at.url}/a", selection="{ kind order { number } }")
    )
    order = await make.order(shop)
    asked = {"orderId": ids.encode("ord", order.id), "sequence": 1}

    dry = await desk.plain("webhookDryRun", {**asked, "selection": "{ kind order { number } }"})
    assert at.got == []
    await sent()
    cursor = at.got[0]["data"]["cursor"]
    by_cursor = await desk.plain("webhookDryRun", {"orderId": asked["orderId"], "cursor": cursor})
    wrong = await desk.plain("webhookDryRun", {**asked, "selection": "{ nothing }"})
    trigger = await desk.plain("webhookDryRun", {**asked, "triggers": ["nothing"]})
    missing = await desk.plain("webhookDryRun", {**asked, "sequence": 9})

    assert dry["payload"].encode() == at.got[0]["body"]
    assert orjson.loads(by_cursor["payload"])["data"]["order"]["status"] == "AWAITING_PAYMENT"
    assert wrong["__typename"] == "SelectionInvalid"
    assert refused(trigger) == {("triggers", "0"): "FIELD_INVALID"}
    assert (missing["__typename"], missing["path"]) == ("NotFound", ["input", "sequence"])
    assert len(at.got) == 1


async def test_one_delivery_is_sent_again_under_its_id(at: Receiver) -> None:
    shop = await make.shop()
    desk = await developer(shop)
    made = await desk.do("createWebhookEndpoint", terms(shop, f"{at.url}/a"))
    await make.order(shop)
    await sent()
    (edge,) = (await deliveries(desk, made["endpoint"]["id"]))["edges"]
    asked = {"endpointId": made["endpoint"]["id"], "deliveryId": edge["node"]["id"]}

    first = await desk.do("redeliverWebhook", asked, "again")
    same = await desk.do("redeliverWebhook", asked, "again")
    await sent()

    assert first == same == {"__typename": "WebhooksRedelivered", "count": 1, "resumeCursor": None}
    assert len(at.got) == 2
    assert len({one["headers"]["webhook-id"] for one in at.got}) == 1
    (edge,) = (await deliveries(desk, made["endpoint"]["id"]))["edges"]
    assert [one["number"] for one in edge["node"]["attempts"]] == [1, 1]


async def test_l33_cursors_of_the_stream_name_what_is_sent_again_also_what_was_never_owed(
    at: Receiver,
) -> None:
    shop = await make.shop()
    desk = await developer(shop)
    order = await make.order(shop)
    await happen(order, "payment.started", "order.paid", "order.delivered")
    await collected()
    made = await desk.do("createWebhookEndpoint", terms(shop, f"{at.url}/a"))
    timeline = await desk.data(
        "query ($id: ID!) { order(id: $id) { timeline { cursor sequence } } }",
        {"id": ids.encode("ord", order.id)},
    )
    cursors = {one["sequence"]: one["cursor"] for one in timeline["order"]["timeline"]}
    asked = {"endpointId": made["endpoint"]["id"], "orderId": ids.encode("ord", order.id)}

    done = await desk.do("redeliverWebhook", {**asked, "after": cursors[1], "until": cursors[3]})
    await sent()
    forged = await desk.post("redeliverWebhook", {**asked, "after": "AAAA"})

    assert done["count"] == 2
    assert [one["data"]["sequence"] for one in at.got] == [2, 3]
    assert [one["data"]["cursor"] for one in at.got] == [cursors[2], cursors[3]]
    assert code(forged) == "BAD_USER_INPUT"


async def test_a_stretch_of_the_list_is_sent_again(at: Receiver) -> None:
    shop = await make.shop()
    desk = await developer(shop)
    made = await desk.do("createWebhookEndpoint", terms(shop, f"{at.url}/a"))
    for _ in range(4):
        await make.order(shop)
    await sent()
    at.got.clear()
    newest_first = (await deliveries(desk, made["endpoint"]["id"]))["edges"]
    cursors = [edge["cursor"] for edge in reversed(newest_first)]
    asked = {"endpointId": made["endpoint"]["id"], "after": cursors[0], "until": cursors[2]}

    done = await desk.do("redeliverWebhook", asked)
    await sent()

    assert done["count"] == 2
    wanted = {edge["node"]["messageId"] for edge in newest_first[1:3]}
    assert {one["headers"]["webhook-id"] for one in at.got} == wanted


async def test_deliveries_are_paged_and_filtered(at: Receiver) -> None:
    shop = await make.shop()
    desk = await developer(shop)
    made = await desk.do("createWebhookEndpoint", terms(shop, f"{at.url}/a"))
    for _ in range(3):
        await make.order(shop)
    await sent()
    await make.order(shop)
    await collected()

    first = await deliveries(desk, made["endpoint"]["id"], first=2)
    rest = await deliveries(desk, made["endpoint"]["id"], after=first["pageInfo"]["endCursor"])
    waiting = await deliveries(desk, made["endpoint"]["id"], state="READY")

    assert [len(first["edges"]), len(rest["edges"])] == [2, 2]
    assert first["pageInfo"]["hasNextPage"] is True
    assert [edge["node"]["state"] for edge in waiting["edges"]] == ["READY"]
    assert waiting["edges"][0]["node"]["body"] is None
    assert len({edge["node"]["id"] for edge in first["edges"] + rest["edges"]}) == 4
