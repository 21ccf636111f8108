"""E06: an order is paid by hand: two people, a reason, the pipeline of every other payment, and one effect."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from domain import ledger
from domain.core import clock, db, ids
from domain.identity import OperatorRole
from domain.payments.ports import providers
from plugins.payment.manual import Manual
from tests import make
from tests.journeys.by_hand import (
    ANN,
    APPROVE,
    BEN,
    CLEO,
    PRICE,
    PROPOSE,
    WAITING,
    approve,
    clearing,
    hire,
    propose,
)
from tests.journeys.refunding import merchant, operator, refund, settle
from tests.platform import Platform, running, uuid_of

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


async def numbers() -> dict[str, int]:
    row = await db.row(
        "SELECT (SELECT count(*) FROM capture) AS captures, (SELECT count(*) FROM refund) AS refunds,"
        " (SELECT count(*) FROM inbox_event WHERE provider = 'manual') AS words,"
        " (SELECT count(*) FROM card_key WHERE state = 'sold') AS sold,"
        " (SELECT count(*) FROM ledger_journal) AS journals"
    )
    assert row is not None
    return dict(row)


NOTHING = {"captures": 0, "refunds": 0, "words": 0, "sold": 0, "journals": 0}


async def test_e06_two_people_make_an_order_paid_and_it_is_delivered(platform: Platform) -> None:
    of = await make.shop(price=PRICE)
    order_id, access_key, _ = await platform.bought(of)  # the callback never comes

    asked = await propose(platform, order_id)
    assert await numbers() == NOTHING
    [waits] = (await platform.data(WAITING, viewer=BEN))["approvals"]["nodes"]
    done = await approve(platform, waits)
    await platform.work()

    assert asked["request"] == {
        "orderId": order_id,
        "number": (await platform.order(order_id, access_key))["number"],
        "amount": "19.90",
        "currency": "USD",
        "reason": "the provider's portal shows it",
        "evidence": "statement 7, line 12",
    }
    assert done["__typename"] == "OrderHandled", done
    order = await platform.order(order_id, access_key)
    assert (order["status"], order["paymentState"]) == ("DELIVERED", "FULLY_CHARGED")
    assert len(order["goods"]) == 1
    kinds = [event["kind"] for event in order["timeline"]]
    assert kinds[-3:] == ["MANUAL", "PAID", "DELIVERED"]
    # Its money comes from an account of its own, so that reconciliation asks where it is.
    assert await clearing("manual") == -1_990
    assert await clearing("sandbox:main") == 0
    assert (await platform.data(WAITING, viewer=BEN))["approvals"]["nodes"] == []
    actions = await db.fetch("SELECT action, actor_id FROM audit_log ORDER BY no")
    assert [(row["action"], row["actor_id"]) for row in actions[:2]] == [
        ("payment.manual.asked", ids.encode("acc", ANN.account_id)),
        ("payment.manual.approved", ids.encode("acc", BEN.account_id)),
    ]


async def test_e06_h29_one_person_alone_pays_nothing(platform: Platform) -> None:
    of = await make.shop(price=PRICE)
    order_id, access_key, _ = await platform.bought(of)
    asked = await propose(platform, order_id)

    refused = await approve(platform, asked, ANN)
    other = await approve(platform, {**asked, "requestHash": "00" * 32})
    await platform.work()

    assert (refused["__typename"], refused["code"]) == ("SamePerson", "SAME_PERSON")
    assert (other["__typename"], other["code"]) == ("ApprovalRefused", "APPROVAL_DIFFERS")
    assert await numbers() == NOTHING
    assert (await platform.order(order_id, access_key))["status"] == "AWAITING_PAYMENT"


async def test_e06_after_a_day_nobody_approves_it(platform: Platform) -> None:
    of = await make.shop(price=PRICE)
    order_id, _, _ = await platform.bought(of)
    asked = await propose(platform, order_id)

    clock.shift(timedelta(hours=24, minutes=1))
    try:
        refused = await approve(platform, asked, CLEO)
    finally:
        clock.shift(timedelta())
    await platform.work()

    assert refused["code"] == "APPROVAL_CLOSED"
    assert await numbers() == NOTHING


async def test_e06_only_finance_asks_and_approves(platform: Platform) -> None:
    of = await make.shop(price=PRICE)
    order_id, _, _ = await platform.bought(of)
    asked = await propose(platform, order_id)
    for viewer in (operator(OperatorRole.SUPPORT), operator(OperatorRole.RISK), merchant(of), None):
        for document, given in (
            (PROPOSE, {"orderId": order_id, "reason": "r", "evidence": "e"}),
            (APPROVE, {"approvalId": asked["id"], "requestHash": asked["requestHash"]}),
        ):
            answer = await platform.ask(
                document, {"input": given, "key": f"no-{next(_keys)}"}, viewer=viewer
            )
            code = answer["errors"][0]["extensions"]["code"]
            assert code == ("FORBIDDEN" if viewer else "UNAUTHENTICATED")

    assert await db.value("SELECT count(*) FROM approval") == 1
    assert await numbers() == NOTHING


async def test_e06_asked_and_approved_again_under_the_same_keys_it_is_one(
    platform: Platform,
) -> None:
    of = await make.shop(price=PRICE)
    order_id, access_key, _ = await platform.bought(of)

    first, again = [await propose(platform, order_id, key="p") for _ in range(2)]
    done = [await approve(platform, first, key="a") for _ in range(2)]
    third = await approve(platform, first, CLEO)
    await platform.work()

    assert first == again
    assert [one["__typename"] for one in done] == ["OrderHandled", "OrderHandled"]
    assert third["code"] == "APPROVAL_CLOSED"
    assert (await platform.order(order_id, access_key))["status"] == "DELIVERED"
    assert (await numbers())["captures"] == 1


async def test_e06_the_real_callback_came_first_nothing_is_left_to_approve(
    platform: Platform,
) -> None:
    of = await make.shop(price=PRICE)
    order_id, access_key, paid = await platform.bought(of)
    asked = await propose(platform, order_id)
    await platform.sandbox.do(paid["id"], "confirm", account="main")
    await platform.heard(1)
    await platform.work()

    refused = await approve(platform, asked)
    late = await propose(platform, order_id, evidence="statement 8")
    await platform.work()

    assert (refused["code"], refused["status"]) == ("ORDER_STATE_CONFLICT", "DELIVERED")
    assert late["code"] == "ORDER_STATE_CONFLICT"
    assert await numbers() == {**NOTHING, "captures": 1, "sold": 1, "journals": 1}
    assert await clearing("manual") == 0
    assert len((await platform.order(order_id, access_key))["goods"]) == 1


@pytest.mark.parametrize("is_manual_first", [True, False])
async def test_e06_racing_the_real_callback_one_delivery_and_the_surplus_is_seen(
    platform: Platform, is_manual_first: bool
) -> None:
    of = await make.shop(price=PRICE)
    order_id, access_key, paid = await platform.bought(of)
    asked = await propose(platform, order_id)

    async def by_hand() -> None:
        assert (await approve(platform, asked))["__typename"] == "OrderHandled"

    async def by_provider() -> None:
        await platform.sandbox.do(paid["id"], "confirm", account="main")

    if is_manual_first:
        await by_hand()
        await platform.work()
        await by_provider()
    else:
        await asyncio.gather(by_hand(), by_provider())
    await platform.heard(2)
    await settle(platform)

    order = await platform.order(order_id, access_key)
    assert (order["status"], order["paymentState"]) == ("DELIVERED", "OVERPAID")
    assert len(order["goods"]) == 1
    assert await numbers() == {
        "captures": 2,
        "refunds": 0,  # perhaps the same money seen twice: nothing goes back by itself
        "words": 1,
        "sold": 1,
        "journals": 2,
    }
    kept = [await clearing(sub, "suspense") for sub in ("manual", "sandbox:main")]
    assert sorted(kept) == [0, 1_990]
    rows = await db.fetch("SELECT kind, state FROM money_exception")
    assert [(row["kind"], row["state"]) for row in rows] == [("surplus", "open")]


async def test_e06_one_evidence_pays_one_order(platform: Platform) -> None:
    of = await make.shop(price=PRICE)
    first, _, _ = await platform.bought(of)
    second, _, _ = await platform.bought(of)
    asked = [await propose(platform, order_id) for order_id in (first, second)]

    done = await asyncio.gather(*(approve(platform, one) for one in asked))
    third = await propose(platform, second)
    await platform.work()

    assert sorted(one["__typename"] for one in done) == ["EvidenceUsed", "OrderHandled"]
    assert (third["__typename"], third["code"]) == ("EvidenceUsed", "EVIDENCE_USED")
    assert (await numbers())["captures"] == 1


@pytest.mark.parametrize(
    "spelling", ["statement 7, line 12 ", "Statement  7, Line 12", "\uff53tatement 7, line 12"]
)
async def test_e06_evidence_in_another_spelling_is_the_same_evidence(
    platform: Platform, spelling: str
) -> None:
    of = await make.shop(price=PRICE)
    first, _, _ = await platform.bought(of)
    second, _, _ = await platform.bought(of)
    await approve(platform, await propose(platform, first))

    again = await propose(platform, second, evidence=spelling)

    assert again["code"] == "EVIDENCE_USED"
    assert await db.value("SELECT count(*) FROM approval") == 1


async def test_e06_two_approved_payments_of_one_order_are_not_both_money(
    platform: Platform,
) -> None:
    """The first one still waits for its set, and is paid all the same."""
    of = await make.shop(price=PRICE)
    order_id, access_key, _ = await platform.bought(of)
    asked = [await propose(platform, order_id, evidence=text) for text in ("line 1", "line 2")]

    done = await asyncio.gather(*(approve(platform, one) for one in asked))
    assert (await numbers())["words"] == 1
    await platform.work()

    [refused] = [one for one in done if one["__typename"] != "OrderHandled"]
    assert refused["code"] in ("ATTEMPT_LIVE", "ORDER_STATE_CONFLICT")
    order = await platform.order(order_id, access_key)
    assert (order["status"], order["paymentState"]) == ("DELIVERED", "FULLY_CHARGED")
    assert await clearing("manual") == -1_990
    assert await clearing("manual", "suspense") == 0


@pytest.mark.parametrize(
    "order_id",
    ["", "nonsense", ids.encode("pay", ANN.account_id)],
    ids=["empty", "nonsense", "other"],
)
async def test_e06_what_is_no_id_of_an_order_is_not_found_at_its_place(
    platform: Platform, order_id: str
) -> None:
    answer = await propose(platform, order_id)

    assert (answer["__typename"], answer["path"]) == ("NotFound", ["input", "orderId"])
    assert await numbers() == NOTHING


async def test_e06_an_expired_order_paid_by_hand_is_delivered_while_there_is_stock(
    platform: Platform,
) -> None:
    of = await make.shop(price=PRICE)
    begun = await platform.start(of)
    order_id, access_key = begun["order"]["id"], begun["accessKey"]
    await db.execute(
        "UPDATE orders SET status = 'expired', expires_at = now() - interval '1 h' WHERE id = $1",
        uuid_of(order_id),
    )

    asked = await propose(platform, order_id)
    await approve(platform, asked)
    await platform.work()

    order = await platform.order(order_id, access_key)
    assert order["status"] == "DELIVERED"
    assert "LATE" in [event["kind"] for event in order["timeline"]]


async def test_e06_money_put_in_by_hand_is_not_sent_back_by_a_machine(platform: Platform) -> None:
    of = await make.shop(price=PRICE, keys=1)
    order_id, access_key, _ = await platform.bought(of)
    await approve(platform, await propose(platform, order_id))
    await platform.work()

    answer = await refund(platform, of, order_id)
    await settle(platform)

    assert answer["__typename"] == "RefundRequested", answer
    order = await platform.order(order_id, access_key)
    assert order["paymentState"] == "FULLY_CHARGED"
    assert order["timeline"][-1]["kind"] == "REFUND_FAILED"
    assert await db.value("SELECT state FROM refund") == "failed"
    assert await db.value("SELECT kind FROM money_exception") == "refund_failed"
    assert await clearing("manual", "refund_clearing") == 0
    assert await clearing("manual") == -1_990


@pytest.mark.parametrize(
    ("field", "text"),
    [("reason", " "), ("reason", "x" * 501), ("evidence", ""), ("evidence", "a\u202eb")],
)
async def test_e06_without_reason_and_evidence_nothing_is_asked(
    platform: Platform, field: str, text: str
) -> None:
    of = await make.shop(price=PRICE)
    order_id, _, _ = await platform.bought(of)

    given: Any = {field: text}
    refused = await propose(platform, order_id, **given)

    assert refused["__typename"] == "InvalidInput"
    assert refused["path"] == ["input", field]
    assert await db.value("SELECT count(*) FROM approval") == 0
