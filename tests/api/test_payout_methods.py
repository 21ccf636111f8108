"""Payout destinations through the front door: who may, what is shown, step-up, mails to the owners (H29, G11)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from domain import identity, notifications, payouts
from domain.core import clock, four_eyes, ids
from domain.core import db as core
from domain.core.settings import settings
from domain.identity import Role
from tests import letters, make
from tests.api import second_factor as two
from tests.api.desk import Desk, code, member, refused

PROBLEM = "... on Problem { code path } ... on InvalidInput { problems { code path } }"
APPROVAL = "... on Approval { id kind state request requestHash usableAt coolDownHours }"
PROPOSE = f"""mutation ($input: ProposePayoutMethodInput!, $key: String!) {{
  proposePayoutMethod(input: $input) @idempotent(key: $key) {{
    __typename {APPROVAL} {PROBLEM} }} }}"""
REMOVE = f"""mutation ($input: ProposePayoutMethodRemovalInput!, $key: String!) {{
  proposePayoutMethodRemoval(input: $input) @idempotent(key: $key) {{
    __typename {APPROVAL} ... on Conflict {{ current {{ __typename id version }} }} {PROBLEM} }} }}"""
APPROVE = f"""mutation ($input: ApproveChangeInput!) {{
  approveChange(input: $input) {{ __typename {APPROVAL}
    ... on ApproverTooNew {{ until }} {PROBLEM} }} }}"""
DECLINE = f"""mutation ($input: DeclineApprovalInput!) {{
  declineApproval(input: $input) {{ __typename {APPROVAL} {PROBLEM} }} }}"""
METHODS = """query ($id: ID!) { payoutMethods(merchantId: $id) {
  id version kind currency state account replaces approvedBy usableAt removedAt } }"""
WAITING = (
    "query ($id: ID!) { approvals(merchantId: $id, first: 5) { nodes { id kind state usableAt } } }"
)
IBAN = "DE89 3704 0044 0532 0130 00"


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    yield
    two.restore()


def bank(of: make.Shop, **more: Any) -> dict[str, Any]:
    given = {"merchantId": ids.encode("mer", of.merchant_id), "kind": "IBAN", "currency": "EUR"}
    return {**given, "account": IBAN, "holder": "Lantern Ltd", **more}


async def propose(desk: Desk, given: dict[str, Any]) -> dict[str, Any]:
    body = await desk.data(PROPOSE, {"input": given, "key": ids.uuid7().hex})
    found: dict[str, Any] = body["proposePayoutMethod"]
    return found


async def approve(desk: Desk, asked: dict[str, Any]) -> dict[str, Any]:
    given = {"approvalId": asked["id"], "requestHash": asked["requestHash"]}
    found: dict[str, Any] = (await desk.data(APPROVE, {"input": given}))["approveChange"]
    return found


async def decline(desk: Desk, asked: dict[str, Any], note: str | None = None) -> dict[str, Any]:
    given = {"approvalId": asked["id"], "note": note}
    found: dict[str, Any] = (await desk.data(DECLINE, {"input": given}))["declineApproval"]
    return found


async def listed(desk: Desk, of: make.Shop) -> list[dict[str, Any]]:
    found = await desk.data(METHODS, {"id": ids.encode("mer", of.merchant_id)})
    rows: list[dict[str, Any]] = found["payoutMethods"]
    return rows


async def test_h29_from_asking_to_usable(db: None) -> None:
    shop = await make.shop(keys=0)
    ann, ben = await member(shop, Role.FINANCE), await member(shop, Role.OWNER)

    asked = await propose(ann, bank(shop))
    assert asked["request"]["account"] == "DE ····3000"
    assert (asked["state"], asked["usableAt"], asked["coolDownHours"]) == ("OPEN", None, 72)
    [waits] = await listed(ben, shop)
    assert (waits["state"], waits["approvedBy"]) == ("PENDING_APPROVAL", None)
    done = await approve(ben, asked)
    [cools] = await listed(ann, shop)
    assert (done["state"], cools["state"]) == ("APPROVED", "COOLING")
    assert cools["usableAt"] == done["usableAt"]
    nodes = (await ben.data(WAITING, {"id": ids.encode("mer", shop.merchant_id)}))["approvals"]
    assert [(one["id"], one["state"]) for one in nodes["nodes"]] == [(asked["id"], "APPROVED")]
    clock.shift(timedelta(hours=72, minutes=1))
    await payouts.settle_methods()

    [holds] = await listed(await member(shop, Role.READ_ONLY), shop)
    assert (holds["state"], holds["account"], holds["version"]) == ("USABLE", "DE ····3000", 3)
    stale = {"payoutMethodId": holds["id"], "expectedVersion": 2}
    conflict = (await ann.data(REMOVE, {"input": stale, "key": "k"}))["proposePayoutMethodRemoval"]
    assert conflict["current"] == {"__typename": "PayoutMethod", "id": holds["id"], "version": 3}


async def test_h29_the_asker_is_refused_and_an_owner_stops_it(db: None) -> None:
    shop = await make.shop(keys=0)
    ann, ben = await member(shop, Role.OWNER), await member(shop, Role.FINANCE)
    cleo = await member(shop, Role.OWNER)
    asked = await propose(ann, bank(shop))

    assert (await approve(ann, asked))["code"] == "SAME_PERSON"
    assert (await approve(ben, {**asked, "requestHash": "00" * 32}))["code"] == "APPROVAL_DIFFERS"
    assert (await approve(ben, asked))["state"] == "APPROVED"
    stopped = await decline(cleo, asked, "we did not ask for this")

    assert stopped["state"] == "STOPPED"
    assert [one["state"] for one in await listed(ben, shop)] == ["REMOVED"]
    assert (await decline(ann, asked))["code"] == "APPROVAL_CLOSED"
    assert (await approve(ben, asked))["code"] == "APPROVAL_CLOSED"
    withdrawn = await propose(ann, bank(shop))
    assert (await decline(ann, withdrawn))["state"] == "WITHDRAWN"
    assert (await decline(ben, await propose(ann, bank(shop))))["state"] == "DECLINED"


async def test_every_faulty_field_is_named(db: None) -> None:
    shop = await make.shop(keys=0)
    ann = await member(shop, Role.OWNER)

    wrong = await propose(ann, bank(shop, account="DE00", currency="USDT", routing="1", holder=""))
    assert set(refused(wrong)) == {("account",), ("currency",), ("routing",), ("holder",)}
    other = await propose(ann, bank(shop, replaces=ids.encode("pom", ids.uuid7())))
    assert other["code"] == "NOT_FOUND"
    await propose(ann, bank(shop))
    assert (await propose(ann, bank(shop)))["code"] == "PAYOUT_METHOD_KNOWN"
    assert await core.value("SELECT count(*) FROM approval") == 1


@pytest.mark.parametrize("role", [Role.CATALOGUE, Role.SUPPORT, Role.DEVELOPER, Role.READ_ONLY])
async def test_h29_only_owners_and_finance(db: None, role: Role) -> None:
    shop = await make.shop(keys=0)
    owner, other = await member(shop, Role.OWNER), await member(shop, role)
    asked = await propose(owner, bank(shop))
    given = {"approvalId": asked["id"], "requestHash": asked["requestHash"]}

    assert code(await other.ask(PROPOSE, {"input": bank(shop), "key": "k"})) == "FORBIDDEN"
    assert code(await other.ask(APPROVE, {"input": given})) == "FORBIDDEN"
    assert code(await other.ask(DECLINE, {"input": {"approvalId": asked["id"]}})) == "FORBIDDEN"
    assert [one["state"] for one in await listed(owner, shop)] == ["PENDING_APPROVAL"]


async def test_h01_another_merchants_owner_finds_nothing(db: None) -> None:
    shop, other = await make.shop(keys=0), await make.shop(keys=0)
    owner, stranger = await member(shop, Role.OWNER), await member(other, Role.OWNER)
    asked = await propose(owner, bank(shop))

    assert (await propose(stranger, bank(shop)))["code"] == "NOT_FOUND"
    assert (await approve(stranger, asked))["code"] == "NOT_FOUND"
    assert (await decline(stranger, asked))["code"] == "NOT_FOUND"
    for document in (METHODS, WAITING):
        body = await stranger.ask(document, {"id": ids.encode("mer", shop.merchant_id)})
        assert code(body) == "NOT_FOUND"


async def test_h29_an_export_is_not_approved_as_a_change(db: None) -> None:
    """A kind whose approval hands something out is approved by its own mutation alone."""
    shop = await make.shop(keys=3)
    owner, ben = await member(shop, Role.OWNER), await member(shop, Role.OWNER)
    propose_export = """mutation ($input: ProposeGoodsExportInput!) {
      proposeGoodsExport(input: $input) @idempotent(key: "k") { ... on Approval { id requestHash } } }"""
    given = {"variantId": ids.encode("var", shop.variant_id), "count": 2, "reason": "audit"}
    asked = (await owner.data(propose_export, {"input": given}))["proposeGoodsExport"]

    assert (await approve(ben, asked))["code"] == "NOT_FOUND"
    assert (await decline(ben, asked))["state"] == "DECLINED"


async def test_h29_who_was_changed_a_short_while_ago_approves_nothing(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = await make.shop(keys=0)
    ann, ben = await member(shop, Role.OWNER), await member(shop, Role.FINANCE)
    changed = settings().model_copy(update={"four_eyes_settle_hours": 24})
    monkeypatch.setattr(four_eyes, "settings", lambda: changed)
    asked = await propose(ann, bank(shop))

    fresh = await approve(ben, asked)  # became a member just now
    assert (fresh["code"], fresh["__typename"]) == ("APPROVER_TOO_NEW", "ApproverTooNew")
    viewer = await identity.viewer(ben.token or "")
    assert viewer is not None
    await core.execute("UPDATE membership SET granted_at = granted_at - interval '2 days'")
    await core.execute("UPDATE account SET created_at = created_at - interval '2 days'")
    await identity.set_password(viewer.account_id, "another correct horse")
    again = await identity.sign_in(viewer.email, "another correct horse", "203.0.113.9")
    assert (await approve(Desk(again.token), asked))["code"] == "APPROVER_TOO_NEW"
    await core.execute(
        "UPDATE account SET credentials_changed_at = credentials_changed_at - interval '1 day'"
    )
    assert (await approve(Desk(again.token), asked))["state"] == "APPROVED"


@pytest.mark.parametrize("change", ["enrol", "recovery"])
async def test_h29_a_changed_factor_starts_the_time_again(db: None, change: str) -> None:
    person = await two.protected()
    account = await identity.account_by_email(two.EMAIL)
    assert account is not None
    enrolled = (await identity.approver(account.id)).settled_at
    await core.execute("UPDATE account SET created_at = created_at - interval '2 days'")
    if change == "recovery":
        await person.do(two.VERIFY, code=person.codes[0])

    settled = (await identity.approver(account.id)).settled_at

    assert (settled > enrolled) == (change == "recovery")
    assert enrolled > account.created_at
    assert abs((settled - clock.now()).total_seconds()) < 600


async def test_h29_all_owners_are_told_how_to_stop_it(db: None) -> None:
    shop = await make.shop(keys=0)
    ann, ben = await member(shop, Role.FINANCE), await member(shop, Role.OWNER)
    cleo = await member(shop, Role.OWNER)
    asked = await propose(ann, bank(shop))
    approval_id = ids.decode(asked["id"], "apr")
    emails = {}
    for name, desk in (("ann", ann), ("ben", ben), ("cleo", cleo)):
        viewer = await identity.viewer(desk.token or "")
        assert viewer is not None
        emails[name] = viewer.email

    async def told(what: str) -> set[str]:
        """Who hears of it, however often the job runs."""
        before = await core.fetch("SELECT id FROM notification")
        for _ in range(2):
            await notifications.tell_approval(what, approval_id)
        new = "SELECT recipient FROM notification WHERE id <> ALL($1)"
        return {row["recipient"] for row in await core.fetch(new, [row["id"] for row in before])}

    assert await told("asked") == set(emails.values())  # who asked hears of it too
    assert await told("due") == set()
    await approve(ben, asked)
    assert await told("approved") == {emails["ben"], emails["cleo"]}
    assert await told("due") == {emails["ben"], emails["cleo"]}
    await decline(cleo, asked)
    assert await told("ended") == {emails["ben"], emails["cleo"]}
    rows = await core.fetch("SELECT facts_json FROM notification ORDER BY created_at")
    assert [row["facts_json"]["what"] for row in rows] == [
        *("asked",) * 3,
        *("cooling",) * 2,
        *("due",) * 2,
        *("stopped",) * 2,
    ]
    facts = rows[0]["facts_json"]
    assert (facts["detail"], facts["id"]) == ("DE ····3000 EUR", asked["id"])
    written = notifications.rules.words("approval", "account", "en", facts, None)
    assert asked["id"] in written.text
    assert "declineApproval" in written.text
    assert emails["ann"] in written.text
    assert "3704" not in written.text


async def test_h29_what_is_over_is_not_told_as_due(db: None) -> None:
    shop = await make.shop(keys=0)
    ann, ben = await member(shop, Role.FINANCE), await member(shop, Role.OWNER)
    asked = await propose(ann, bank(shop))
    await approve(ben, asked)
    approval_id = ids.decode(asked["id"], "apr")

    clock.shift(timedelta(hours=73))
    assert await notifications.tell_approval("due", approval_id) == 0
    clock.shift(timedelta())
    await decline(ben, asked)
    assert await notifications.tell_approval("due", approval_id) == 0
    assert await notifications.tell_approval("asked", ids.uuid7()) == 0
    assert await letters.owed() == []
