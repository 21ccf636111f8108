"""Money exceptions end: those that explain themselves without a person, the others by one (CASES M18, E03, E11)."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from domain import checkout, settlement
from domain.core import db as core
from domain.core import ids
from domain.identity import OperatorRole, Role, Viewer
from domain.payments.ports import RefundAnswer, RefundState
from tests import make
from tests.journeys import checker
from tests.journeys.refunding import merchant, operator, refund, settle, short, sold
from tests.platform import Platform, running

CLOSE = """
mutation ($input: CloseMoneyExceptionInput!, $key: String!) {
  closeMoneyException(input: $input) @idempotent(key: $key) {
    __typename
    ... on MoneyException { id kind state note closedAt orderId amount { amount } }
    ... on ExceptionClosed { closedAs }
    ... on Problem { code path }
  }
}"""
OPEN = "{ moneyExceptions(first: 20) { nodes { id kind state note closedAt } } }"
FINANCE = operator()
_keys = itertools.count(1)


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    async with running(tmp_path, monkeypatch) as found:
        yield found
    assert await checker.faults() == []


async def stored() -> list[tuple[str, str]]:
    rows = await core.fetch("SELECT kind, state FROM money_exception ORDER BY id")
    return [(row["kind"], row["state"]) for row in rows]


async def test_e03_surplus_closes_when_the_money_is_back_and_not_before(db: None) -> None:
    shop = await make.shop()
    order = await make.order(shop)
    first = await make.attempt(order)
    await core.execute("UPDATE payment_attempt SET state = 'declined' WHERE id = $1", first.id)
    second = await make.attempt(order, reserve=False)
    for attempt in (first, second):
        await make.word(attempt)
        await checkout.fulfil(order.lane)
    await checkout.return_surplus(order.id)

    assert await settlement.close_explained() == 0
    assert await stored() == [("surplus", "open")]
    [refund_id] = await ids_of("SELECT id FROM refund")
    await checkout.hear(refund_id, RefundAnswer(RefundState.SUCCEEDED))
    assert await settlement.close_explained() == 1
    assert await settlement.close_explained() == 0

    row = await core.row("SELECT state, closed_by, note FROM money_exception")
    assert row is not None
    assert tuple(row) == ("resolved", "system", "")
    assert await checker.faults() == []


async def ids_of(sql: str) -> list[UUID]:
    return [row["id"] for row in await core.fetch(sql)]


async def test_m18_short_closes_when_the_order_is_refunded_not_while_it_waits(
    platform: Platform,
) -> None:
    of = await make.shop(keys=1)
    order_id, _ = await short(platform, of)

    assert await settlement.close_explained() == 0
    await refund(platform, of, order_id)
    await settle(platform)
    assert await settlement.close_explained() == 1

    assert await stored() == [("short", "resolved")]


async def test_e11_a_failed_refund_is_the_orders_and_closes_when_as_much_went_back_after_all(
    platform: Platform,
) -> None:
    of = await make.shop()
    order_id, _ = await sold(platform, of)
    await platform.sandbox.modes("main", refunds="fail")
    await refund(platform, of, order_id, "40.00")
    await settle(platform)
    [found] = (await platform.data(OPEN, viewer=merchant(of)))["moneyExceptions"]["nodes"]
    assert (found["kind"], found["state"], found["closedAt"]) == ("refund_failed", "OPEN", None)

    await platform.sandbox.modes("main", refunds="succeed")
    await refund(platform, of, order_id, "39.99")
    await settle(platform)
    assert await settlement.close_explained() == 0  # a smaller one explains nothing
    await refund(platform, of, order_id, "40.00")
    await settle(platform)
    assert await settlement.close_explained() == 1

    assert (await platform.data(OPEN, viewer=merchant(of)))["moneyExceptions"]["nodes"] == []


async def opened(of: make.Shop, kind: str) -> str:
    """An exception of the merchant; its public id."""
    async with core.transaction():
        await settlement.open_exception(kind, merchant_id=of.merchant_id, facts={"n": next(_keys)})
    newest = await ids_of("SELECT id FROM money_exception ORDER BY id DESC LIMIT 1")
    return ids.encode("exc", newest[0])


async def closing(
    platform: Platform, viewer: Viewer | None, exception_id: str, *, key: str | None = None
) -> dict[str, Any]:
    """closeMoneyException; the union member, or `{"code": …}` of a top-level error."""
    given = {"id": exception_id, "verdict": "ACCEPTED", "note": "seen on the statement"}
    variables = {"input": given, "key": key or f"close-{next(_keys)}"}
    answer = await platform.ask(CLOSE, variables, viewer=viewer)
    if answer.get("errors"):
        return {"code": answer["errors"][0]["extensions"]["code"]}
    found: dict[str, Any] = answer["data"]["closeMoneyException"]
    return found


async def test_m18_finance_closes_with_a_note_once_and_the_same_call_again_is_the_same(
    platform: Platform,
) -> None:
    of = await make.shop()
    exception_id = await opened(of, "conflicted")

    first = await closing(platform, FINANCE, exception_id, key="one")
    again = await closing(platform, FINANCE, exception_id, key="one")
    late = await closing(platform, operator(), exception_id)

    assert (first["state"], first["note"]) == ("ACCEPTED", "seen on the statement")
    assert first["closedAt"] is not None
    assert again == first
    assert (late["code"], late["closedAs"]) == ("EXCEPTION_CLOSED", "ACCEPTED")
    assert await stored() == [("conflicted", "accepted")]
    rows = await core.fetch("SELECT merchant_id, actor_id, action FROM audit_log")
    actor = ids.encode("acc", FINANCE.account_id)
    assert [tuple(row) for row in rows] == [(of.merchant_id, actor, "exception.close")]


async def test_h03_who_may_close_which_exception(platform: Platform) -> None:
    of, other = await make.shop(), await make.shop()
    money = await opened(of, "surplus")
    claim = await opened(of, "supplier_claim")
    nobody = ids.encode("exc", ids.uuid7())

    async def code(viewer: Viewer | None, exception_id: str) -> str:
        return str((await closing(platform, viewer, exception_id)).get("code"))

    assert await code(None, money) == "UNAUTHENTICATED"
    assert await code(merchant(other), money) == await code(merchant(other), nobody) == "NOT_FOUND"
    assert await code(merchant(of), money) == "FORBIDDEN"  # the platform's to explain
    assert await code(merchant(of, Role.SUPPORT), claim) == "FORBIDDEN"
    assert await code(operator(OperatorRole.SUPPORT), money) == "FORBIDDEN"
    assert await code(FINANCE, nobody) == "NOT_FOUND"
    assert await stored() == [("surplus", "open"), ("supplier_claim", "open")]

    assert (await closing(platform, merchant(of), claim))["state"] == "ACCEPTED"
    assert await stored() == [("surplus", "open"), ("supplier_claim", "accepted")]
