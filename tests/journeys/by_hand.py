"""Steps of what two people do by hand, shared by the journeys: a payment that was seen, a transfer that was sent."""

from __future__ import annotations

import itertools
from typing import Any

from domain import ledger
from domain.core import db
from domain.core.money import Money
from domain.identity import Viewer
from domain.ledger import AccountKey
from tests.journeys.refunding import operator
from tests.platform import Platform

PROPOSE = """
mutation ($input: ProposeManualPaymentInput!, $key: String!) {
  proposeManualPayment(input: $input) @idempotent(key: $key) {
    __typename
    ... on Approval { id kind request requestHash askedBy expiresAt }
    ... on Problem { code path }
    ... on OrderStateConflict { status }
  }
}"""
APPROVE = """
mutation ($input: ApproveManualPaymentInput!, $key: String!) {
  approveManualPayment(input: $input) @idempotent(key: $key) {
    __typename
    ... on OrderHandled { order { id status } }
    ... on Problem { code path }
    ... on OrderStateConflict { status }
  }
}"""
WAITING = "{ approvals(first: 10) { nodes { id requestHash request askedBy } } }"
PRICE = Money(1_990, "USD")
_keys = itertools.count(1)
ANN, BEN, CLEO = (operator() for _ in range(3))


async def hire() -> None:
    """Their accounts, as old as this test."""
    sql = "INSERT INTO account (id, email, password_hash, kind) VALUES ($1, $2, '', 'operator')"
    for one in (ANN, BEN, CLEO):
        await db.execute(sql, one.account_id, f"{one.account_id}@platform.test")


async def propose(
    platform: Platform,
    order_id: str,
    viewer: Viewer = ANN,
    *,
    evidence: str = "statement 7, line 12",
    reason: str = "the provider's portal shows it",
    key: str | None = None,
) -> dict[str, Any]:
    asked = {"orderId": order_id, "reason": reason, "evidence": evidence}
    variables = {"input": asked, "key": key or f"propose-{next(_keys)}"}
    found: dict[str, Any] = (await platform.data(PROPOSE, variables, viewer=viewer))[
        "proposeManualPayment"
    ]
    return found


async def approve(
    platform: Platform, asked: dict[str, Any], viewer: Viewer = BEN, *, key: str | None = None
) -> dict[str, Any]:
    variables = {
        "input": {"approvalId": asked["id"], "requestHash": asked["requestHash"]},
        "key": key or f"approve-{next(_keys)}",
    }
    found: dict[str, Any] = (await platform.data(APPROVE, variables, viewer=viewer))[
        "approveManualPayment"
    ]
    return found


async def clearing(sub: str, purpose: str = "provider_clearing", ccy: str = "USD") -> int:
    return (await ledger.balance(AccountKey(purpose, None, sub, ccy))).posted
