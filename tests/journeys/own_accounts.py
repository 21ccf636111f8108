"""Steps of merchants' own accounts at the sandbox, shared by journeys: opened, asked for, approved, paid through."""

from __future__ import annotations

from typing import Any

from domain import ledger
from domain.core import db, ids
from domain.ledger import AccountKey
from tests import make
from tests.api.desk import Desk
from tests.platform import Platform, uuid_of

PROBLEM = "... on Problem { code path } ... on InvalidInput { problems { code path } }"
APPROVAL = "... on Approval { id state request requestHash }"
PROPOSE = f"""mutation ($input: ProposeProviderAccountInput!, $key: String!) {{
  proposeProviderAccount(input: $input) @idempotent(key: $key) {{ __typename {APPROVAL} {PROBLEM} }} }}"""
REMOVE = f"""mutation ($input: ProposeProviderAccountRemovalInput!, $key: String!) {{
  proposeProviderAccountRemoval(input: $input) @idempotent(key: $key) {{
    __typename {APPROVAL} {PROBLEM} }} }}"""
APPROVE = f"""mutation ($input: ApproveChangeInput!) {{
  approveChange(input: $input) {{ __typename {APPROVAL} {PROBLEM} }} }}"""
DECLINE = f"""mutation ($input: DeclineApprovalInput!) {{
  declineApproval(input: $input) {{ __typename {APPROVAL} {PROBLEM} }} }}"""
LIST = """query ($id: ID!) { providerAccounts(merchantId: $id) {
  id version provider account state secretFingerprint fields { name value } activeAt endedAt } }"""
KINDS = "{ providerAccountKinds { provider fields { name isSecret isIdentity pattern } } }"


async def opened(platform: Platform, name: str) -> str:
    """A new account at the sandbox: its secret."""
    asked = {"account": name}
    found = await platform.sandbox.api("POST", "/v1/accounts", asked, account="main")
    secret: str = found["secret"]
    return secret


async def propose(desk: Desk, of: make.Shop, account: str, secret: str) -> dict[str, Any]:
    values = {"account": account, "secret": secret}
    fields = [{"name": name, "value": value} for name, value in values.items()]
    given = {"merchantId": ids.encode("mer", of.merchant_id), "provider": "sandbox"}
    body = await desk.data(PROPOSE, {"input": {**given, "fields": fields}, "key": ids.uuid7().hex})
    found: dict[str, Any] = body["proposeProviderAccount"]
    return found


async def remove(desk: Desk, account: dict[str, Any]) -> dict[str, Any]:
    given = {"providerAccountId": account["id"], "expectedVersion": account["version"]}
    body = await desk.data(REMOVE, {"input": given, "key": ids.uuid7().hex})
    found: dict[str, Any] = body["proposeProviderAccountRemoval"]
    return found


async def approve(desk: Desk, asked: dict[str, Any]) -> dict[str, Any]:
    given = {"approvalId": asked["id"], "requestHash": asked["requestHash"]}
    found: dict[str, Any] = (await desk.data(APPROVE, {"input": given}))["approveChange"]
    return found


async def listed(desk: Desk, of: make.Shop) -> list[dict[str, Any]]:
    found = await desk.data(LIST, {"id": ids.encode("mer", of.merchant_id)})
    rows: list[dict[str, Any]] = found["providerAccounts"]
    return rows


async def clearing(account: str) -> int:
    key = AccountKey("provider_clearing", None, f"sandbox:{account}", "USD")
    return (await ledger.balance(key)).posted


async def through(order_id: str) -> str:
    """The account an order's payment goes through."""
    found: str = await db.value(
        "SELECT provider_account FROM payment_attempt WHERE order_id = $1", uuid_of(order_id)
    )
    return found


async def paid(platform: Platform, of: make.Shop) -> tuple[str, str]:
    """An order paid on the sandbox's page and fulfilled: (order id, account it went through)."""
    before = await db.value("SELECT count(*) FROM inbox_event")
    order_id, access_key, payment = await platform.bought(of)
    await platform.sandbox.click(payment["nextAction"]["url"])
    await platform.heard(before + 1)
    await platform.work()
    assert (await platform.order(order_id, access_key))["status"] == "DELIVERED"
    return order_id, await through(order_id)
