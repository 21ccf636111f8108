"""Refunds that people have sent: written down by two of them, booked out of an account of their own (E11, H29)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from domain import ledger, settlement
from domain.core import db as core
from domain.core import ids
from domain.core.money import Money
from domain.identity import OperatorRole, Viewer
from domain.ledger import AccountKey
from domain.payments.ports import providers
from plugins.payment.manual import Manual
from tests import make
from tests.journeys import checker
from tests.journeys.by_hand import ANN, BEN, PRICE, approve, clearing, hire, propose
from tests.journeys.refunding import available, operator, refund, settle, sold, states
from tests.platform import Platform, running, uuid_of

PROPOSE = """
mutation ($input: ProposeManualRefundInput!, $key: String!) {
  proposeManualRefund(input: $input) @idempotent(key: $key) {
    __typename
    ... on Approval { id kind request requestHash }
    ... on Problem { code path }
    ... on RefundExceedsCaptured { refundable }
  }
}"""
APPROVE = """
mutation ($input: ApproveManualRefundInput!, $key: String!) {
  approveManualRefund(input: $input) @idempotent(key: $key) {
    __typename
    ... on OrderHandled { order { id status paymentState } }
    ... on Problem { code path }
  }
}"""
WAITING = "{ approvals(first: 10) { nodes { id kind requestHash } } }"
_keys = itertools.count(1)


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    async with running(tmp_path, monkeypatch) as found:
        monkeypatch.setitem(providers, "manual", Manual())
        await hire()
        yield found
    assert await ledger.check() == []


async def asking(
    platform: Platform,
    order_id: str,
    amount: str = "19.90",
    *,
    evidence: str = "bank line 40",
    currency: str = "USD",
    reason: str = "card was closed",
    key: str | None = None,
) -> dict[str, Any]:
    given = {
        "orderId": order_id,
        "amount": {"amount": amount, "currency": currency},
        "reason": reason,
        "evidence": evidence,
    }
    variables = {"input": given, "key": key or f"sent-{next(_keys)}"}
    found: dict[str, Any] = (await platform.data(PROPOSE, variables, viewer=ANN))[
        "proposeManualRefund"
    ]
    return found


async def approving(
    platform: Platform, asked: dict[str, Any], viewer: Viewer = BEN, *, key: str | None = None
) -> dict[str, Any]:
    given = {"approvalId": asked["id"], "requestHash": asked["requestHash"]}
    variables = {"input": given, "key": key or f"yes-{next(_keys)}"}
    found: dict[str, Any] = (await platform.data(APPROVE, variables, viewer=viewer))[
        "approveManualRefund"
    ]
    return found


async def test_e11_money_put_in_by_hand_goes_back_by_hand_and_the_failed_refund_is_explained(
    platform: Platform,
) -> None:
    of = await make.shop(price=PRICE, keys=1)
    order_id, access_key, _ = await platform.bought(of)
    await approve(platform, await propose(platform, order_id))
    await platform.work()
    await refund(platform, of, order_id)
    await settle(platform)
    assert await states(order_id) == ["failed"]

    asked = await asking(platform, order_id)
    assert await states(order_id) == ["failed"]  # nothing is booked before the second person
    [waits] = (await platform.data(WAITING, viewer=BEN))["approvals"]["nodes"]
    done = await approving(platform, waits)

    assert (waits["kind"], waits["id"]) == ("refund.manual", asked["id"])
    assert done["order"] == {"id": order_id, "status": "REFUNDED", "paymentState": "FULLY_REFUNDED"}
    order = await platform.order(order_id, access_key)
    assert order["goods"] == []  # nobody has seen them, and nobody will
    kinds = [event["kind"] for event in order["timeline"]]
    assert kinds[-4:] == ["REFUND_FAILED", "REFUND_STARTED", "REFUND_SUCCEEDED", "REFUNDED"]
    assert await clearing("manual") == await clearing("manual", "refund_clearing") == 0
    assert await settlement.close_explained() == 1
    assert await core.value("SELECT count(*) FROM money_exception WHERE state = 'open'") == 0
    assert await checker.faults() == []


async def test_e11_a_part_of_a_providers_money_comes_out_of_the_account_of_what_people_do(
    platform: Platform,
) -> None:
    of = await make.shop(price=PRICE)
    order_id, access_key = await sold(platform, of)
    before, owed = await available(of), await clearing("sandbox:main")

    await approving(platform, await asking(platform, order_id, "9.95"))

    order = await platform.order(order_id, access_key)
    assert (order["status"], order["paymentState"]) == ("DELIVERED", "PARTIALLY_REFUNDED")
    assert [good["revoked"] for good in order["goods"]] == [False]
    assert await clearing("sandbox:main") == owed < 0  # the provider still owes all it took
    assert await clearing("manual") == 995
    assert await clearing("sandbox:main", "refund_clearing") == 0
    assert before - await available(of) == before // 2
    assert await core.value("SELECT count(*) FROM promise WHERE task = 'refund.send'") == 0


async def test_e11_what_has_left_is_booked_even_when_the_merchant_has_nothing(
    platform: Platform,
) -> None:
    of = await make.shop(price=PRICE)
    order_id, _ = await sold(platform, of)
    had = await available(of)
    here = AccountKey("merchant_available", of.merchant_id, "", "USD")
    away = AccountKey("bank_cash", None, "", "USD")
    await ledger.post("out:1", [ledger.Transfer(here, away, Money(had, "USD"))], kind="payout")

    done = await approving(platform, await asking(platform, order_id))

    assert done["__typename"] == "OrderHandled", done
    debt = AccountKey("merchant_debt", of.merchant_id, "", "USD")
    assert (await ledger.balance(debt)).posted == -had
    assert await available(of) == 0


async def test_h29_the_same_person_another_hash_and_a_second_time_change_nothing(
    platform: Platform,
) -> None:
    of = await make.shop(price=PRICE)
    order_id, _ = await sold(platform, of)
    asked = await asking(platform, order_id, "5.00")

    alone = await approving(platform, asked, ANN)
    other = await approving(platform, {**asked, "requestHash": "00" * 32})
    assert (alone["code"], other["code"]) == ("SAME_PERSON", "APPROVAL_DIFFERS")
    assert await states(order_id) == []

    answers = await asyncio.gather(*(approving(platform, asked) for _ in range(6)))
    assert sorted(one.get("code", "done") for one in answers) == ["APPROVAL_CLOSED"] * 5 + ["done"]
    assert await states(order_id) == ["succeeded"]
    assert await clearing("manual") == 500


async def test_h29_again_with_its_key_is_the_first_answer_and_books_once(
    platform: Platform,
) -> None:
    of = await make.shop(price=PRICE)
    order_id, _ = await sold(platform, of)
    asked = await asking(platform, order_id, "5.00", key="one")

    assert (await asking(platform, order_id, "5.00", key="one"))["id"] == asked["id"]
    first = await approving(platform, asked, key="two")
    assert await approving(platform, asked, key="two") == first
    assert await states(order_id) == ["succeeded"]


async def test_e11_one_transfer_is_one_refund_however_it_is_written(platform: Platform) -> None:
    of = await make.shop(price=PRICE)
    first, _ = await sold(platform, of)
    second, _ = await sold(platform, of)
    both = [await asking(platform, one, "5.00") for one in (first, second)]  # nobody noticed yet

    assert (await approving(platform, both[0]))["__typename"] == "OrderHandled"
    late = await approving(platform, both[1])
    again = await asking(platform, second, "5.00", evidence="  BANK  line 40 ")

    assert (late["code"], again["code"]) == ("EVIDENCE_USED", "EVIDENCE_USED")
    assert (await states(first), await states(second)) == (["succeeded"], [])


async def test_e08_never_more_than_is_left_when_asked_or_when_approved(platform: Platform) -> None:
    of = await make.shop(price=PRICE)
    order_id, _ = await sold(platform, of)

    over = await asking(platform, order_id, "19.91")
    assert (over["code"], over["refundable"]) == ("REFUND_EXCEEDS_CAPTURED", "19.90")
    assert (await asking(platform, order_id, currency="EUR"))["code"] == "UNSUPPORTED_CURRENCY"
    asked = await asking(platform, order_id)
    await refund(platform, of, order_id, "1.00")  # the provider was faster
    late = await approving(platform, asked)

    assert late["code"] == "REFUND_EXCEEDS_CAPTURED"
    await settle(platform)
    assert await states(order_id) == ["succeeded"]
    assert await clearing("manual") == 0
    sql = "SELECT state FROM approval WHERE subject_id = $1"
    assert await core.value(sql, uuid_of(order_id)) == "open"


async def test_h03_only_finance_of_the_platform_may(platform: Platform) -> None:
    of = await make.shop(price=PRICE)
    order_id, _ = await sold(platform, of)
    given = {
        "orderId": order_id,
        "amount": {"amount": "1.00", "currency": "USD"},
        "reason": "x",
        "evidence": "y",
    }
    unknown = {**given, "orderId": ids.encode("ord", ids.uuid7())}

    variables = {"input": given, "key": "no"}
    assert _code(await platform.ask(PROPOSE, variables)) == "UNAUTHENTICATED"
    support = operator(OperatorRole.SUPPORT)
    assert _code(await platform.ask(PROPOSE, variables, viewer=support)) == "FORBIDDEN"
    found = await platform.data(PROPOSE, {"input": unknown, "key": "no"}, viewer=ANN)
    assert found["proposeManualRefund"]["code"] == "NOT_FOUND"
    assert await core.value("SELECT count(*) FROM approval") == 0


def _code(answer: dict[str, Any]) -> str:
    return str(answer["errors"][0]["extensions"]["code"])
