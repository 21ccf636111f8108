"""Webhooks at the front door: rights, URL rules, secrets, selections, tests, dry runs, sending again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from domain.core import db, ids
from domain.core.settings import settings
from domain.identity import Role
from tests import make
from tests.api.desk import audited, code, refused
from tests.api.webhook_desk import LIST, deliveries, developer, sent, terms
from tests.receiver import Receiver, is_signed, receiving


@pytest.fixture
async def at(db: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    async with receiving(monkeypatch) as found:
        yield found


async def test_an_endpoint_is_made_told_and_read(at: Receiver) -> None:
    shop = await make.shop()
    desk = await developer(shop)

    made = await desk.do(
        "createWebhookEndpoint",
        terms(shop, f"{at.url}/a", kinds=["PLACED", "PAID"], note="ERP", selection="{ kind }"),
    )
    order = await make.order(shop)
    await sent()

    endpoint = made["endpoint"]
    assert made["secret"].startswith("whsec_")
    assert endpoint["publicKey"].startswith("whpk_")
    assert (endpoint["version"], endpoint["state"], endpoint["reason"]) == (1, "ACTIVE", None)
    assert (endpoint["kinds"], endpoint["note"]) == (["PLACED", "PAID"], "ERP")
    (got,) = at.got
    assert is_signed(got, made["secret"])
    listed = await desk.data(LIST, {"id": ids.encode("mer", shop.merchant_id)})
    assert [one["id"] for one in listed["merchantWebhookEndpoints"]] == [endpoint["id"]]
    (edge,) = (await deliveries(desk, endpoint["id"]))["edges"]
    node = edge["node"]
    assert (node["state"], node["tries"], node["code"], node["dueAt"]) == (
        "DELIVERED",
        1,
        204,
        None,
    )
    assert node["messageId"] == got["headers"]["webhook-id"]
    assert node["body"].encode() == got["body"]
    assert node["cursor"] == got["data"]["cursor"]
    assert node["attempts"] == [{"number": 1, "code": 204, "error": None, "answer": ""}]
    assert orjson.loads(node["body"])["data"]["kind"] == "PLACED"
    assert order.number not in node["body"]
    stored = await db.row("SELECT keys_cipher FROM webhook_endpoint")
    assert stored is not None and made["secret"].encode() not in stored["keys_cipher"]
    actions = [action for action, facts in await audited() if made["secret"] not in str(facts)]
    assert actions == ["webhook.create"]


async def test_the_same_key_makes_one_endpoint(at: Receiver) -> None:
    shop = await make.shop()
    desk = await developer(shop)
    first = await desk.do("createWebhookEndpoint", terms(shop, f"{at.url}/a"), "k")
    again = await desk.do("createWebhookEndpoint", terms(shop, f"{at.url}/a"), "k")

    assert again == first
    assert await db.value("SELECT count(*) FROM webhook_endpoint") == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "https://10.0.0.1/",
        "https://user:pass@example.com/",
        "https://example.com/" + "a" * 3_000,
        "https://example.com:6379/",
        "https://2130706433/",
        "javascript:alert(1)",
        "",
    ],
)
async def test_j16_a_url_that_must_not_be_called_is_url_not_allowed(
    at: Receiver, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("KAMI_WEBHOOKS_TO_LOOPBACK", "false")
    settings.cache_clear()
    shop = await make.shop()
    desk = await developer(shop)

    answer = await desk.do("createWebhookEndpoint", terms(shop, url))
    loopback = await desk.do("createWebhookEndpoint", terms(shop, f"{at.url}/a"))

    for one in (answer, loopback):
        assert one["__typename"] == "UrlNotAllowed"
        assert (one["code"], one["path"]) == ("URL_NOT_ALLOWED", ["input", "url"])
    assert await db.value("SELECT count(*) FROM webhook_endpoint") == 0
    assert at.got == []


async def test_a_selection_is_held_to_the_contract_and_the_limits_of_the_door(at: Receiver) -> None:
    shop = await make.shop()
    desk = await developer(shop)
    deep = "{ " + "order { timeline { " * 7 + "kind" + " } }" * 7 + " }"
    page = "products(first: 100) { nodes { variants { price { amount } } } }"
    dear = " ".join(f"{alias}: {page}" for alias in "abcd")
    wrong = {
        "kind": "start with {",
        "{ nothing }": "Cannot query field 'nothing'",
        "{ kind } fragment X on Order { id }": "one selection",
        "{ kind } } mutation { signOut { __typename } } query X { viewer { id }": "Syntax Error",
        "{ kind ...Event }": "itself",
        "{ order { id(x: $y) } }": "",
        "{ __schema { types { name } } }": "",
        deep: "nested",
        "{ order { timeline { o: order { id } } } }": "inside of the order",
        "{ order { payments { ... on Payment { order { timeline { kind } } } } } }": "inside of",
        "{ " + " ".join(f"a{number}: kind" for number in range(40)) + " }": "",
        "{ order { shop { " + dear + " } } }": "costs",
    }
    for selection, words in wrong.items():
        answer = await desk.do(
            "createWebhookEndpoint", terms(shop, f"{at.url}/a", selection=selection)
        )
        assert answer["__typename"] == "SelectionInvalid", (selection, answer)
        assert answer["path"] == ["input", "selection"]
        assert words in answer["reason"], (selection, answer["reason"])
    both = await desk.do(
        "createWebhookEndpoint",
        terms(
            shop,
            "https://10.0.0.1/",
            selection="{ kind }",
            triggers=["order.status", "kind", "kind."],
        ),
    )

    assert refused(both) == {
        ("url",): "URL_NOT_ALLOWED",
        ("triggers", "0"): "FIELD_INVALID",
        ("triggers", "2"): "FIELD_INVALID",
    }
    assert await db.value("SELECT count(*) FROM webhook_endpoint") == 0


@pytest.mark.parametrize("role", list(Role))
async def test_h03_owners_and_developers_alone_run_webhooks(at: Receiver, role: Role) -> None:
    shop = await make.shop()
    mine = await developer(shop)
    made = await mine.do("createWebhookEndpoint", terms(shop, f"{at.url}/a"))
    endpoint_id = made["endpoint"]["id"]
    order = await make.order(shop)
    other, stranger = await developer(shop, role), await developer(await make.shop(), role)
    versioned = {"endpointId": endpoint_id, "expectedVersion": 9}
    asked: dict[str, dict[str, Any]] = {
        "createWebhookEndpoint": terms(shop, f"{at.url}/b"),
        "updateWebhookEndpoint": versioned,
        "rotateWebhookSecret": versioned,
        "deleteWebhookEndpoint": versioned,
        "redeliverWebhook": {
            "endpointId": endpoint_id,
            "deliveryId": ids.encode("whd", ids.uuid7()),
        },
    }

    for name, input in asked.items():
        theirs = await stranger.do(name, input)
        assert theirs["__typename"] == "NotFound", name
        body = await other.post(name, input)
        if role in (Role.OWNER, Role.DEVELOPER):
            assert body["data"][name]["__typename"] in (
                "WebhookEndpointSecret",
                "Conflict",
                "NotFound",
            )
        else:
            assert code(body) == "FORBIDDEN", name
    shown = await other.ask(LIST, {"id": ids.encode("mer", shop.merchant_id)})
    assert ("errors" in shown) is (role not in (Role.OWNER, Role.DEVELOPER))
    assert (
        code(await stranger.ask(LIST, {"id": ids.encode("mer", shop.merchant_id)})) == "NOT_FOUND"
    )
    dry = {"orderId": ids.encode("ord", order.id), "sequence": 1}
    assert (await stranger.plain("webhookDryRun", dry))["code"] == "NOT_FOUND"
    assert (await stranger.plain("webhookTest", {"endpointId": endpoint_id}))["code"] == "NOT_FOUND"
    assert at.got == []


async def test_updates_name_their_version_and_keep_what_they_leave_out(at: Receiver) -> None:
    shop = await make.shop()
    desk = await developer(shop)
    made = await desk.do(
        "createWebhookEndpoint",
        terms(shop, f"{at.url}/a", kinds=["PAID"], selection="{ kind }", triggers=["kind"]),
    )
    endpoint_id = made["endpoint"]["id"]
    change = {"endpointId": endpoint_id, "expectedVersion": 1, "note": "shop two"}

    changed = await desk.do("updateWebhookEndpoint", change)
    stale = await desk.do("updateWebhookEndpoint", change)
    cleared = await desk.do(
        "updateWebhookEndpoint",
        {
            "endpointId": endpoint_id,
            "expectedVersion": 2,
            "kinds": None,
            "triggers": None,
            "selection": None,
            "enabled": False,
        },
    )
    back = await desk.do(
        "updateWebhookEndpoint", {"endpointId": endpoint_id, "expectedVersion": 3, "enabled": True}
    )
    bad = await desk.do(
        "updateWebhookEndpoint",
        {"endpointId": endpoint_id, "expectedVersion": 4, "url": "https://127.1/"},
    )

    assert (changed["version"], changed["note"], changed["kinds"]) == (2, "shop two", ["PAID"])
    assert (changed["selection"], changed["triggers"]) == ("{ kind }", ["kind"])
    assert stale["__typename"] == "Conflict"
    assert stale["current"]["version"] == 2
    assert (cleared["kinds"], cleared["triggers"], cleared["selection"]) == ([], [], None)
    assert (cleared["state"], cleared["reason"]) == ("DISABLED", "OWNER")
    assert (back["state"], back["reason"], back["version"]) == ("ACTIVE", None, 4)
    assert bad["code"] == "URL_NOT_ALLOWED"
    assert [action for action, _ in await audited()] == ["webhook.create"] + ["webhook.update"] * 3


async def test_h25_a_rotated_secret_is_shown_once_and_the_old_one_signs_beside_it(
    at: Receiver,
) -> None:
    shop = await make.shop()
    desk = await developer(shop)
    made = await desk.do("createWebhookEndpoint", terms(shop, f"{at.url}/a"))
    asked = {"endpointId": made["endpoint"]["id"], "expectedVersion": 1}

    rotated = await desk.do("rotateWebhookSecret", asked, "r")
    again = await desk.do("rotateWebhookSecret", asked, "r")
    stale = await desk.do("rotateWebhookSecret", asked)
    await make.order(shop)
    await sent()

    assert again == rotated
    assert stale["__typename"] == "Conflict"
    assert rotated["secret"] != made["secret"]
    assert rotated["endpoint"]["publicKey"] != made["endpoint"]["publicKey"]
    assert rotated["endpoint"]["previousSecretUntil"] is not None
    (got,) = at.got
    assert is_signed(got, made["secret"]) and is_signed(got, rotated["secret"])
    shown = orjson.dumps(await desk.data(LIST, {"id": ids.encode("mer", shop.merchant_id)}))
    assert b"whsec_" not in shown


async def test_a_deleted_endpoint_is_gone_and_deleting_it_again_says_the_same(at: Receiver) -> None:
    shop = await make.shop()
    desk = await developer(shop)
    made = await desk.do("createWebhookEndpoint", terms(shop, f"{at.url}/a"))
    asked = {"endpointId": made["endpoint"]["id"], "expectedVersion": 1}

    gone = await desk.do("deleteWebhookEndpoint", asked, "d")
    again = await desk.do("deleteWebhookEndpoint", asked, "d")
    other = await desk.do("deleteWebhookEndpoint", asked, "e")
    await make.order(shop)
    await sent()

    assert gone == again == {"__typename": "WebhookEndpointDeleted", "id": asked["endpointId"]}
    assert other["__typename"] == "NotFound"
    assert at.got == []


async def test_a_merchant_has_sixteen_endpoints_at_most(at: Receiver) -> None:
    shop = await make.shop()
    desk = await developer(shop)
    answers = [
        await desk.do("createWebhookEndpoint", terms(shop, f"{at.url}/{number}"))
        for number in range(17)
    ]

    assert [one["__typename"] for one in answers] == ["WebhookEndpointSecret"] * 16 + [
        "EndpointLimit"
    ]
    assert answers[-1]["max"] == 16


async def test_an_endpoint_is_told_no_more_than_who_set_it_up_may_see(at: Receiver) -> None:
    """A developer reads no money: neither does the endpoint they point somewhere."""
    shop = await make.shop()
    owner, hired = await developer(shop, Role.OWNER), await developer(shop)
    made = await owner.do("createWebhookEndpoint", terms(shop, f"{at.url}/a"))
    sees = "SELECT sees_split FROM webhook_endpoint"
    assert await db.value(sees) is True

    await hired.do(
        "updateWebhookEndpoint",
        {"endpointId": made["endpoint"]["id"], "expectedVersion": 1, "url": f"{at.url}/b"},
    )

    assert await db.value(sees) is False
