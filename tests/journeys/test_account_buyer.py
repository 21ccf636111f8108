"""Somebody signed in with a proved address acts for their orders without a key; nobody else's orders move (E19)."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from domain.core import clock, db, ids, once
from domain.identity import HeldAddress, Viewer
from tests import make
from tests.journeys.again import AGAIN, FORGET, count, saver
from tests.journeys.reporting import REPORT
from tests.platform import PAY, Platform, running, uuid_of

ORDER = """query ($id: ID!) { order(id: $id) {
  status lines { id } savedMethods { id orderId } goods { id content } } }"""
SAVED = "{ viewer { savedMethods { id orderId label } } }"
_keys = itertools.count(1)


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    once._waiting.clear()  # answers of another test, under the same keys
    async with running(tmp_path, monkeypatch) as found:
        yield found


def account(*addresses: HeldAddress) -> Viewer:
    """Somebody with these proved addresses."""
    later = clock.now() + timedelta(hours=1)
    return Viewer(
        ids.uuid7(),
        "a@example.com",
        None,
        ids.uuid7(),
        later,
        is_verified=True,
        addresses=addresses,
    )


def owner() -> Viewer:
    """Whose address the orders of this platform's buyers were placed with."""
    return account(HeldAddress("buyer@example.com"))


async def do(
    platform: Platform, document: str, viewer: Viewer | None, **given: Any
) -> dict[str, Any]:
    """One mutation; the union member."""
    variables = {"input": given, "key": f"a-{next(_keys)}"}
    if document is FORGET:
        del variables["key"]
    (found,) = (await platform.data(document, variables, viewer=viewer)).values()
    result: dict[str, Any] = found
    return result


async def test_e19_an_account_buys_again_reports_and_forgets_without_a_key(
    platform: Platform,
) -> None:
    of = await make.shop(keys=5)
    buyer = await saver(platform, of)
    me = owner()

    seen = (await platform.data(ORDER, {"id": buyer.order_id}, viewer=me))["order"]
    (saved,) = (await platform.data(SAVED, {}, viewer=me))["viewer"]["savedMethods"]
    again = await do(platform, AGAIN, me, orderId=saved["orderId"], savedMethodId=saved["id"])
    await platform.work()
    second = (await platform.data(ORDER, {"id": again["order"]["id"]}, viewer=me))["order"]
    told = await do(
        platform,
        REPORT,
        me,
        orderId=buyer.order_id,
        lineId=seen["lines"][0]["id"],
        reason="invalid code",
    )
    gone = await do(platform, FORGET, me, orderId=saved["orderId"], savedMethodId=saved["id"])

    assert saved == {
        "id": buyer.saved_id,
        "orderId": buyer.order_id,
        "label": saved["label"],
    }
    assert (
        seen["savedMethods"]
        == second["savedMethods"]
        == [{"id": buyer.saved_id, "orderId": buyer.order_id}]
    )
    assert again["__typename"] == "Payment"
    assert second["status"] == "DELIVERED" and len(second["goods"]) == 1
    assert (told["__typename"], told["state"]) == ("GoodReport", "OPEN")
    assert gone["__typename"] == "MethodForgotten"
    assert (await platform.data(SAVED, {}, viewer=me))["viewer"]["savedMethods"] == []


async def test_e19_an_account_pays_its_order_without_a_key(platform: Platform) -> None:
    of = await make.shop()
    begun = await platform.start(of)

    stranger = account(HeldAddress("uyer@example.com"))
    refused = await do(platform, PAY, stranger, orderId=begun["order"]["id"], method="sandbox")
    guest = await do(platform, PAY, None, orderId=begun["order"]["id"], method="sandbox")
    paid = await do(platform, PAY, owner(), orderId=begun["order"]["id"], method="sandbox")

    assert refused["code"] == guest["code"] == "NOT_FOUND"
    assert refused == guest
    assert paid["__typename"] == "Payment"
    assert await count("payment_attempt") == 1


async def test_e19_who_proves_an_address_later_never_charges_the_former_holders_method(
    platform: Platform,
) -> None:
    """A chain that began in one holder's time and went on, by its key, in the next one's."""
    of = await make.shop(keys=5)
    buyer = await saver(platform, of)
    left_at = await db.value("SELECT clock_timestamp()")
    former = account(HeldAddress("buyer@example.com", until=left_at))
    present = account(HeldAddress("buyer@example.com", after=left_at))
    later = (await buyer.again())["order"]["id"]
    await platform.work()

    wish = {"savedMethodId": buyer.saved_id}
    seen = (await platform.data(ORDER, {"id": later}, viewer=present))["order"]
    listed = (await platform.data(SAVED, {}, viewer=present))["viewer"]["savedMethods"]
    refusals = [
        await do(platform, AGAIN, present, orderId=later, **wish),
        await do(platform, AGAIN, present, orderId=buyer.order_id, **wish),
        await do(platform, FORGET, present, orderId=later, **wish),
        await do(platform, AGAIN, former, orderId=later, **wish),
    ]
    theirs = (await platform.data(SAVED, {}, viewer=former))["viewer"]["savedMethods"]

    assert seen["status"] == "DELIVERED"
    assert (seen["savedMethods"], listed) == ([], [])
    assert [one["code"] for one in refusals] == ["NOT_FOUND"] * 4
    assert [one["id"] for one in theirs] == [buyer.saved_id]
    assert await count("orders") == 2
    assert await db.value("SELECT count(*) FROM saved_method WHERE revoked_at IS NULL") == 1
    assert uuid_of(later) != uuid_of(buyer.order_id)
