"""H28 through the front door: alerts, the stop of exports, honey keys, traced keys, mails, the metric."""

from __future__ import annotations

from typing import Any

import pytest

from domain import alarms, identity, notifications
from domain.alarms import AlertKind, counting
from domain.core import db as core
from domain.core import ids, vault
from domain.core.audit import Actor
from domain.core.settings import settings
from domain.identity import AccountKind, OperatorRole, Role
from server import telemetry
from tests import letters, make
from tests.api.desk import Desk, code, member
from tests.api.test_exports import approve, body_of, fetch, propose

PROBLEM = "... on Problem { code path } ... on InvalidInput { problems { code path } }"
ALERTS = """query ($id: ID) { securityAlerts(merchantId: $id, first: 9) { nodes {
  id kind facts actorId acknowledgedAt acknowledgedBy note } } }"""
ACKNOWLEDGE = f"""mutation ($input: AcknowledgeAlertInput!) {{ acknowledgeAlert(input: $input) {{
  __typename ... on SecurityAlert {{ id note acknowledgedAt }} {PROBLEM} }} }}"""
PLANT = f"""mutation ($input: PlantHoneyKeysInput!) {{
  plantHoneyKeys(input: $input) @idempotent(key: "plant") {{
    __typename ... on HoneyPlanted {{ lotId planted }} {PROBLEM} }} }}"""
TRACE = f"""mutation ($input: TraceKeyInput!) {{ traceKey(input: $input) {{
  __typename ... on TracedKey {{ origin variantId orderId at by askedBy revealedAt alertId }} {PROBLEM} }} }}"""
LOTS = "query ($id: ID!) { stockLots(variantId: $id, first: 1) { nodes { id counts { available locked } } } }"


async def listed(desk: Desk, of: make.Shop | None) -> list[dict[str, Any]]:
    given = {"id": of and ids.encode("mer", of.merchant_id)}
    found: list[dict[str, Any]] = (await desk.data(ALERTS, given))["securityAlerts"]["nodes"]
    return found


async def acknowledge(desk: Desk, alert_id: str, note: str = "a stocktaking") -> dict[str, Any]:
    given = {"input": {"alertId": alert_id, "note": note}}
    found: dict[str, Any] = (await desk.data(ACKNOWLEDGE, given))["acknowledgeAlert"]
    return found


async def trace(desk: Desk, of: make.Shop, content: str) -> dict[str, Any]:
    given = {"merchantId": ids.encode("mer", of.merchant_id), "content": content}
    found: dict[str, Any] = (await desk.data(TRACE, {"input": given}))["traceKey"]
    return found


async def account(desk: Desk) -> str:
    viewer = await identity.viewer(desk.token or "")
    assert viewer is not None
    return ids.encode("acc", viewer.account_id)


async def operator(role: OperatorRole) -> Desk:
    email = f"{ids.uuid7().hex}@platform.test"
    found = await identity.register(email, "correct horse battery", kind=AccountKind.OPERATOR)
    await identity.grant_operator(found, role)
    return Desk((await identity.sign_in(email, "correct horse battery", "203.0.113.9")).token)


async def test_h28_exports_stop_until_an_owner_has_looked(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = settings().model_copy(update={"alarm_exported_per_account": 2})
    monkeypatch.setattr(counting, "settings", lambda: changed)
    shop = await make.shop(keys=9)
    ann, ben, owner = await member(shop), await member(shop), await member(shop, Role.OWNER)
    ready = await approve(ben, await propose(ann, shop, 3))
    late = await approve(ben, await propose(ann, shop, 2))

    assert (await fetch(ben, body_of(ready["token"])))[0] == 200
    stopped = await fetch(ben, body_of(late["token"]))
    assert stopped[::2] == (423, '{"code":"EXPORTS_STOPPED"}')
    assert (await propose(ann, shop))["code"] == "EXPORTS_STOPPED"
    [alert] = await listed(owner, shop)
    assert (alert["kind"], alert["actorId"]) == ("EXPORT_RATE", await account(ben))
    assert alert["facts"] == {"count": 3, "limit": 2, "per": "account"}
    assert (await acknowledge(owner, alert["id"], " "))["problems"][0]["path"] == ["input", "note"]
    assert (await acknowledge(owner, alert["id"]))["note"] == "a stocktaking"
    assert (await acknowledge(owner, alert["id"]))["code"] == "ALERT_CLOSED"

    assert (await fetch(ben, body_of(late["token"])))[0] == 200  # it was not used up
    [_, seen] = await listed(owner, shop)
    assert seen["acknowledgedBy"] == await account(owner)


async def test_h28_who_sees_an_alert_and_whose_name(db: None) -> None:
    shop, other = await make.shop(keys=0), await make.shop(keys=0)
    owner, stranger = await member(shop, Role.OWNER), await member(other, Role.OWNER)
    buyer = ids.encode("acc", ids.uuid7())
    await alarms.ring(shop.merchant_id, AlertKind.REVEAL_RATE, "x", {}, by=Actor("account", buyer))
    risk = await operator(OperatorRole.RISK)

    assert [one["actorId"] for one in await listed(owner, shop)] == [None]  # buyers stay nameless
    assert [one["actorId"] for one in await listed(risk, None)] == [buyer]
    assert [one["actorId"] for one in await listed(risk, shop)] == [buyer]
    assert await listed(stranger, other) == []
    merchant = {"id": ids.encode("mer", shop.merchant_id)}
    assert code(await stranger.ask(ALERTS, merchant)) == "NOT_FOUND"
    assert code(await owner.ask(ALERTS, {"id": None})) == "FORBIDDEN"
    for desk in (await member(shop), await operator(OperatorRole.FINANCE)):
        assert code(await desk.ask(ALERTS, merchant)) == "FORBIDDEN"
    alert = (await listed(owner, shop))[0]["id"]
    assert (await acknowledge(stranger, alert))["code"] == "NOT_FOUND"
    given = {"input": {"alertId": alert, "note": "x"}}
    assert code(await (await member(shop)).ask(ACKNOWLEDGE, given)) == "FORBIDDEN"


async def test_h28_honey_is_planted_by_an_owner_and_found_again(db: None) -> None:
    shop = await make.shop(keys=3)
    owner, ann = await member(shop, Role.OWNER), await member(shop)
    lot = (await ann.data(LOTS, {"id": ids.encode("var", shop.variant_id)}))["stockLots"]["nodes"][
        0
    ]
    given = {"input": {"lotId": lot["id"], "count": 2}}

    assert code(await ann.ask(PLANT, given)) == "FORBIDDEN"
    first = await owner.data(PLANT, given)
    assert first["plantHoneyKeys"] == {
        "__typename": "HoneyPlanted",
        "lotId": lot["id"],
        "planted": 2,
    }
    assert await owner.data(PLANT, given) == first  # the same call
    assert await core.value("SELECT count(*) FROM card_key WHERE state = 'honey'") == 2
    after = (await ann.data(LOTS, {"id": ids.encode("var", shop.variant_id)}))["stockLots"][
        "nodes"
    ][0]
    assert after == lot  # nobody sees them
    row = await core.row("SELECT * FROM card_key WHERE state = 'honey' LIMIT 1")
    assert row is not None
    keys = await vault.of_merchant(shop.merchant_id)
    content = keys.unseal("card_key", row["id"], row["key_version"], row["ciphertext"]).decode()
    found = await trace(owner, shop, content)

    assert (found["origin"], found["by"]) == ("HONEY_PLANTED", await account(owner))
    assert found["alertId"] == (await listed(owner, shop))[0]["id"]
    assert (await trace(owner, shop, "nobody's"))["origin"] == "UNKNOWN"
    assert (await trace(owner, shop, ""))["__typename"] == "InvalidInput"
    asked = {"merchantId": ids.encode("mer", shop.merchant_id), "content": content}
    assert code(await ann.ask(TRACE, {"input": asked})) == "FORBIDDEN"
    text = await core.value("SELECT string_agg(a::text, ' ') FROM audit_log a")
    assert content not in text


async def test_h28_owners_are_told_by_mail_and_the_metric_shows_it(db: None) -> None:
    shop = await make.shop(keys=0)
    owners = [await member(shop, Role.OWNER) for _ in range(2)]
    await member(shop)
    facts = {"count": 201, "limit": 200, "per": "account"}
    alert_id = await alarms.ring(shop.merchant_id, AlertKind.REVEAL_RATE, "x", facts)
    assert alert_id is not None

    assert [await notifications.tell_alarm(alert_id) for _ in range(2)] == [2, 2]
    assert await notifications.tell_alarm(ids.uuid7()) == 0

    mails = await letters.owed()
    assert len(mails) == 2
    emails = set()
    for desk in owners:
        viewer = await identity.viewer(desk.token or "")
        assert viewer is not None
        emails.add(viewer.email)
    assert {one.recipient for one in mails} == emails
    told = await core.value("SELECT facts_json FROM notification LIMIT 1")
    written = notifications.rules.words("alarm", "account", "en", told, None)
    assert "201 orders were opened within an hour, the limit is 200" in written.text
    assert ids.encode("alr", alert_id) in written.text
    text = telemetry.render([], await alarms.open_alerts()).decode()
    assert 'kami_security_alerts{kind="reveal_rate"} 1.0' in text
    assert 'kami_security_alerts{kind="honey_used"} 0.0' in text
    assert "kami_security_alerts{" not in telemetry.render([]).decode()
