"""A merchant reads its own part of the audit log through the GraphQL door."""

from __future__ import annotations

from typing import Any

from domain import identity
from domain.core import audit, audit_chain, ids
from domain.core import db as core
from domain.identity import AccountKind, OperatorRole, Role
from tests import horizon, make
from tests.api.desk import Desk, code, member

LOG = """query ($id: ID!, $first: Int, $after: String) { auditLog(merchantId: $id, first: $first, after: $after) {
  nodes { at action actorKind actorId actorEmail subjectId address requestId before after facts isSealed }
  pageInfo { hasNextPage endCursor } } }"""
INVITE = """mutation ($input: InviteMemberInput!) { inviteMember(input: $input) @idempotent(key: "k") {
  __typename } }"""


async def read(desk: Desk, of: make.Shop, **page: Any) -> dict[str, Any]:
    """One page of the log; the connection."""
    wanted = {"id": ids.encode("mer", of.merchant_id), "first": 10, **page}
    found: dict[str, Any] = (await desk.data(LOG, wanted))["auditLog"]
    return found


async def test_who_what_from_where_before_and_after(db: None) -> None:
    shop, other = await make.shop(), await make.shop()
    owner = await member(shop, Role.OWNER)
    catalogue = await member(shop, Role.CATALOGUE)
    made = await catalogue.do(
        "createProduct",
        {
            "shopId": ids.encode("shp", shop.shop_id),
            "texts": [{"language": "en", "title": "Card", "description": ""}],
        },
    )
    await catalogue.do(
        "updateProduct",
        {"productId": made["id"], "expectedVersion": made["version"], "state": "HIDDEN"},
    )
    async with core.transaction():
        elsewhere = audit.Actor("merchant", "acc_x")
        await audit.record(other.merchant_id, elsewhere, "thing.change", other.shop_id)
    await horizon.passed()
    before = await read(owner, shop)
    await audit_chain.seal()

    change, creation = (await read(owner, shop))["nodes"]

    assert [change["action"], creation["action"]] == ["product.change", "product.create"]
    assert (change["before"]["state"], change["after"]["state"]) == ("active", "hidden")
    assert creation["before"] == {}
    assert change["address"] == "203.0.113.9"
    assert change["requestId"] == "req-1"
    assert change["actorKind"] == "merchant"
    assert change["actorEmail"].endswith("@shop.test")
    assert change["actorId"].startswith("acc_")
    assert change["facts"] == {}
    assert change["subjectId"] == str(ids.decode(made["id"], "prd"))
    assert [one["isSealed"] for one in before["nodes"]] == [False, False]
    assert [change["isSealed"], creation["isSealed"]] == [True, True]


async def test_staff_changes_carry_the_address(db: None) -> None:
    shop = await make.shop()
    owner = await member(shop, Role.OWNER)
    asked = {"merchantId": ids.encode("mer", shop.merchant_id), "email": "new@shop.test"}
    await owner.data(INVITE, {"input": {**asked, "role": "SUPPORT"}})

    [entry] = (await read(owner, shop))["nodes"]

    assert (entry["action"], entry["address"], entry["after"]) == (
        "member.invite",
        "203.0.113.9",
        "support",
    )
    assert entry["before"] is None
    assert entry["facts"] == {"email": "new@shop.test"}
    assert entry["actorId"].startswith("acc_")


async def test_pages_follow_each_other_and_end(db: None) -> None:
    shop = await make.shop()
    owner = await member(shop, Role.OWNER)
    async with core.transaction():
        for number in range(5):
            actor = audit.Actor("system", "test")
            await audit.record(shop.merchant_id, actor, f"thing.{number}", shop.shop_id)

    seen, after = [], None
    while True:
        page = await read(owner, shop, first=2, after=after)
        seen += [one["action"] for one in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break

    assert seen == [f"thing.{number}" for number in (4, 3, 2, 1, 0)]


async def test_operators_and_buyers_are_not_told_of(db: None) -> None:
    shop = await make.shop()
    owner = await member(shop, Role.OWNER)
    operator = await identity.register(
        "op@kami.test", "correct horse battery", kind=AccountKind.OPERATOR
    )
    await identity.grant_operator(operator, OperatorRole.FINANCE)
    buyer = await identity.register("buyer@shop.test", "correct horse battery")
    audit.comes_from("198.51.100.7")
    async with core.transaction():
        for kind, actor, action in (
            ("account", ids.encode("acc", operator), "payment.manual.asked"),
            ("operator", str(operator), "risk.review"),
            ("account", ids.encode("acc", buyer), "goods.reveal"),
            ("buyer", "KM-1", "goods.reveal"),
        ):
            await audit.record(shop.merchant_id, audit.Actor(kind, actor), action, shop.shop_id)
    audit.comes_from(None)

    nodes = (await read(owner, shop))["nodes"]

    assert await core.value("SELECT count(*) FROM audit_log WHERE address IS NOT NULL") == 4
    assert len(nodes) == 4
    assert {(one["actorId"], one["actorEmail"], one["address"]) for one in nodes} == {
        (None, None, None)
    }


async def test_h01_only_an_owner_reads_it(db: None) -> None:
    shop, other = await make.shop(), await make.shop()
    wanted = {"id": ids.encode("mer", shop.merchant_id), "first": 5}

    for role in Role:
        if role is not Role.OWNER:
            assert code(await (await member(shop, role)).ask(LOG, wanted)) == "FORBIDDEN"
    assert code(await (await member(other, Role.OWNER)).ask(LOG, wanted)) == "NOT_FOUND"
    assert code(await Desk(None).ask(LOG, wanted)) == "UNAUTHENTICATED"
    owner = await member(shop, Role.OWNER)
    assert code(await owner.ask(LOG, {**wanted, "id": "mer_?"})) == "NOT_FOUND"
    assert code(await owner.ask(LOG, {**wanted, "first": 101})) == "BAD_USER_INPUT"
