"""E17: a dead good is reported once, replaced once from the shelf, and never sold again; its supplier owes for it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from domain import catalogue, checkout, delivery, ledger, notifications
from domain.catalogue import Delivery
from domain.catalogue.ports import SupplyAnswer, SupplyState, suppliers
from domain.core import db, ids, saga, vault
from domain.core.money import Money
from domain.identity import OperatorRole, Role, Viewer
from tests import make
from tests.domain.test_supply_saga import Supplier
from tests.horizon import passed
from tests.journeys.refunding import merchant, operator, refund, settle, sold
from tests.journeys.reporting import REPLACE, Bought, decide
from tests.platform import Platform, running, uuid_of

WAITING = "{ goodReports(first: 10) { nodes { id state reason } } }"
PRICE = Money(1_990, "USD")
_keys = itertools.count(1)


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    async with running(tmp_path, monkeypatch) as found:
        yield found
    assert await ledger.check() == []


async def bought(platform: Platform, *, keys: int = 3, quantity: int = 1) -> Bought:
    of = await make.shop(price=PRICE, keys=keys)
    order_id, key = await sold(platform, of, quantity=quantity)
    return Bought(platform, of, order_id, key)


async def states(of: Bought) -> dict[str, int]:
    rows = await db.fetch(
        "SELECT state, count(*)::int AS n FROM card_key WHERE merchant_id = $1 GROUP BY 1",
        of.of.merchant_id,
    )
    return {row["state"]: row["n"] for row in rows}


async def audits(action: str) -> int:
    return int(await db.value("SELECT count(*) FROM audit_log WHERE action = $1", action))


async def test_e17_m07_a_dead_key_is_replaced_once_and_never_sold_again(platform: Platform) -> None:
    of = await bought(platform)
    [dead] = (await of.seen())["goods"]

    report = await of.report()
    before = await states(of)
    done = await decide(of, report)
    reveals = await audits("goods.reveal")
    goods = (await of.seen())["goods"]

    assert (report["state"], report["goodId"], report["orderId"]) == (
        "OPEN",
        dead["id"],
        of.order_id,
    )
    assert before == {"available": 2, "sold": 1}
    assert done == {"__typename": "GoodReport", "id": report["id"], "state": "REPLACED"}
    assert await states(of) == {"available": 1, "sold": 1, "replaced": 1}
    assert [one["content"] for one in goods if one["revoked"]] == [dead["content"]]
    [new] = [one for one in goods if not one["revoked"]]
    assert new["content"] != dead["content"]
    # The new key was revealed under an audit row of its own; no money moved.
    assert await audits("goods.reveal") == reveals + 1
    assert await audits("goods.report.replaced") == 1
    assert await db.value("SELECT count(*) FROM ledger_journal") == 1
    assert (await of.kinds())[-2:] == ["REPORTED", "REPLACED"]
    # The shelf is sold out: the dead key is not among what others get.
    await sold(platform, of.of)
    assert await states(of) == {"sold": 2, "replaced": 1}
    assert await db.value("SELECT state FROM card_key WHERE id = $1", uuid_of(dead["id"])) == (
        "replaced"
    )


async def test_e17_told_by_event_and_mail(platform: Platform) -> None:
    of = await bought(platform)
    report = await of.report()
    await decide(of, report)
    await passed()

    while await notifications.collect():
        pass

    rows = await db.fetch(
        "SELECT template, audience, facts_json::text AS facts FROM notification"
        " WHERE template IN ('reported', 'replaced') ORDER BY sequence"
    )
    assert [(row["template"], row["audience"]) for row in rows] == [
        ("reported", "merchant"),
        ("replaced", "buyer"),
    ]
    codes = [good["content"] for good in (await of.seen())["goods"]]
    assert not any(code in row["facts"] for row in rows for code in codes)


async def test_e17_reported_again_or_at_once_it_is_one_report(platform: Platform) -> None:
    of = await bought(platform)
    await of.seen()

    said = await asyncio.gather(*(of.report(key=f"k{place % 3}") for place in range(9)))
    said += [await of.report(key="k0"), await of.report(reason="still dead")]

    assert {one["id"] for one in said if one["__typename"] == "GoodReport"} == {said[-1]["id"]}
    assert await db.value("SELECT count(*) FROM good_report") == 1
    assert (await of.kinds()).count("REPORTED") == 1


@pytest.mark.parametrize("key", [None, "same"])
async def test_e17_decided_by_many_at_once_it_is_replaced_once(
    platform: Platform, key: str | None
) -> None:
    of = await bought(platform, keys=9)
    report = await of.report()

    said = await asyncio.gather(
        *(decide(of, report, key=key) for _ in range(6)), return_exceptions=True
    )
    again = await decide(of, report)

    assert again["state"] == "REPLACED"
    assert any(isinstance(one, dict) and one.get("state") == "REPLACED" for one in said)
    assert await states(of) == {"available": 7, "sold": 1, "replaced": 1}
    assert (await of.kinds()).count("REPLACED") == 1
    assert await audits("goods.replace") == 1


async def test_e17_out_of_stock_changes_nothing_and_a_refund_is_the_way_out(
    platform: Platform,
) -> None:
    of = await bought(platform, keys=1)
    report = await of.report()

    refused = await decide(of, report, key="later")
    assert (refused["__typename"], refused["available"]) == ("OutOfStock", 0)
    assert await states(of) == {"sold": 1}
    assert (await platform.data(WAITING, viewer=merchant(of.of)))["goodReports"]["nodes"] == [
        {"id": report["id"], "state": "OPEN", "reason": "invalid code"}
    ]
    confirmed = await decide(of, report, "CONFIRM")
    await refund(platform, of.of, of.order_id)
    await settle(platform)
    late = await decide(of, report)

    assert confirmed["state"] == "CONFIRMED"
    assert (late["code"], late["status"]) == ("ORDER_STATE_CONFLICT", "REFUNDED")
    assert await states(of) == {"revoked": 1}
    kinds = await of.kinds()
    assert "REPORT_CONFIRMED" in kinds
    assert "REPLACED" not in kinds


async def test_e17_stock_that_comes_later_replaces_a_confirmed_one(platform: Platform) -> None:
    of = await bought(platform, keys=1)
    report = await of.report()
    await decide(of, report, "CONFIRM")
    await make.stock(of.of.merchant_id, of.of.variant_id, 1)

    done = await decide(of, report)

    assert done["state"] == "REPLACED"
    assert await states(of) == {"sold": 1, "replaced": 1}


async def test_e17_a_refused_report_gives_nothing_and_stays_refused(platform: Platform) -> None:
    of = await bought(platform)
    report = await of.report()

    refused = await decide(of, report, "REFUSE")
    late = await decide(of, report)
    again = await of.report()

    assert refused["state"] == "REFUSED"
    assert (late["__typename"], late["decided"]) == ("ReportClosed", "REFUSED")
    assert (again["id"], again["state"]) == (report["id"], "REFUSED")
    assert await states(of) == {"available": 2, "sold": 1}
    assert (await of.kinds())[-1] == "REPORT_REFUSED"


async def test_e17_a_refund_racing_the_replacement_leaves_the_buyer_one_of_them(
    platform: Platform,
) -> None:
    of = await bought(platform)
    report = await of.report()

    both = await asyncio.gather(decide(of, report), refund(platform, of.of, of.order_id))
    await settle(platform)

    goods = (await of.seen())["goods"]
    assert [one for one in goods if not one["revoked"]] == []
    assert (await platform.order(of.order_id, of.key))["status"] == "REFUNDED"
    left = await states(of)
    assert "sold" not in left
    assert left["available"] == (1 if both[0]["__typename"] == "GoodReport" else 2)


async def test_e17_only_what_its_buyer_saw_and_still_has_is_reported(platform: Platform) -> None:
    shop = await make.shop(price=PRICE, keys=5)
    order = await make.paid(shop, quantity=2)
    await checkout.fulfil(order.lane)
    of = Bought(platform, shop, ids.encode("ord", order.id), vault.access_key(order.id))
    unopened = "query ($id: ID!, $key: String) { order(id: $id, accessKey: $key) { lines { id } } }"
    found = await platform.data(unopened, {"id": of.order_id, "key": of.key})
    line = found["order"]["lines"][0]["id"]

    unseen = await of.report(lineId=line)
    goods = (await of.seen())["goods"]
    which = await of.report(lineId=line)
    foreign = await of.report(lineId=line, goodId=ids.encode("god", ids.uuid7()))
    wrong_key = await of.report(lineId=line, accessKey="guess")
    empty = await of.report(lineId=line, goodId=goods[0]["id"], reason="  ")
    report = await of.report(lineId=line, goodId=goods[0]["id"])
    await decide(of, report)
    replaced = await of.report(lineId=line, goodId=goods[0]["id"])

    assert unseen["code"] == "GOOD_NOT_REPORTABLE"
    assert (which["__typename"], which["path"]) == ("InvalidInput", ["input", "goodId"])
    assert foreign["code"] == "GOOD_NOT_REPORTABLE"
    assert wrong_key["code"] == "NOT_FOUND"
    assert (empty["__typename"], empty["path"]) == ("InvalidInput", ["input", "reason"])
    assert replaced["code"] == "GOOD_NOT_REPORTABLE"
    assert await db.value("SELECT count(*) FROM good_report") == 1


async def test_e17_h03_only_its_merchant_and_support_decide(platform: Platform) -> None:
    of = await bought(platform)
    other = await make.shop()
    report = await of.report()
    given = {"reportId": report["id"], "note": "x"}

    async def code(viewer: Viewer | None) -> str:
        answer = await platform.ask(
            REPLACE, {"input": given, "key": f"n-{next(_keys)}"}, viewer=viewer
        )
        if "errors" in answer:
            return str(answer["errors"][0]["extensions"]["code"])
        return str(answer["data"]["replaceGood"].get("code", "done"))

    assert await code(None) == "UNAUTHENTICATED"
    assert await code(merchant(other, Role.OWNER)) == "NOT_FOUND"
    assert await code(merchant(of.of, Role.FINANCE)) == "FORBIDDEN"
    assert await code(operator(OperatorRole.FINANCE)) == "FORBIDDEN"
    assert (await platform.data(WAITING, viewer=merchant(other)))["goodReports"]["nodes"] == []
    assert await states(of) == {"available": 2, "sold": 1}
    assert await code(operator(OperatorRole.SUPPORT)) == "done"
    row = await db.row("SELECT actor_kind FROM audit_log WHERE action = 'goods.report.replaced'")
    assert row is not None
    assert row["actor_kind"] == "operator"


async def _bought_elsewhere(platform: Platform, of: make.Shop, kind: str) -> Bought:
    """A delivered order whose goods are no keys from the shelf; nobody has looked at them yet."""
    order = await make.order(of, delivery=kind)
    await make.word(await make.attempt(order, reserve=False))
    await checkout.fulfil(order.lane)
    await delivery.procure(order.id)
    for row in await db.fetch("SELECT id FROM saga"):
        assert await saga.advance(row["id"]) is None
    await checkout.fulfil(order.lane)
    assert await make.status([order.id]) == ["delivered"]
    return Bought(platform, of, ids.encode("ord", order.id), vault.access_key(order.id))


async def test_e17_the_supplier_of_a_dead_key_is_noted_once(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    bought_for = Money(700, "USD")
    answer = SupplyAnswer(SupplyState.DONE, codes=("SUP-1",), cost=bought_for)
    monkeypatch.setitem(suppliers, "sim", Supplier(answer))
    of = await make.shop(price=PRICE, keys=0, delivery=Delivery.SUPPLIER)
    buyer = await _bought_elsewhere(platform, of, "supplier")
    supply_id = await db.value("SELECT id FROM supply")
    await buyer.seen()
    report = await buyer.report()

    refused = await decide(buyer, report)
    assert refused["code"] == "OUT_OF_STOCK"
    assert await db.value("SELECT count(*) FROM money_exception") == 0
    for _ in range(2):
        assert (await decide(buyer, report, "CONFIRM"))["state"] == "CONFIRMED"
    await make.stock(of.merchant_id, of.variant_id, 1)
    assert (await decide(buyer, report))["state"] == "REPLACED"

    rows = await db.fetch(
        "SELECT kind, order_id, amount_minor, ccy, facts_json FROM money_exception"
    )
    facts = {
        "report": report["id"],
        "supplier": "sim",
        "supply": ids.encode("sup", supply_id),
    }
    assert [tuple(row) for row in rows] == [
        ("supplier_claim", uuid_of(buyer.order_id), 700, "USD", facts)
    ]


async def test_e17_content_that_everybody_gets_has_no_other_one(platform: Platform) -> None:
    of = await make.shop(price=PRICE, keys=0, delivery=Delivery.REUSABLE)
    await catalogue.set_reusable(of.merchant_id, of.variant_id, "the same for all")
    buyer = await _bought_elsewhere(platform, of, "reusable")
    await buyer.seen()
    report = await buyer.report()

    refused = await decide(buyer, report)
    confirmed = await decide(buyer, report, "CONFIRM")

    assert (refused["__typename"], confirmed["state"]) == ("OutOfStock", "CONFIRMED")
    assert [one["revoked"] for one in (await buyer.seen())["goods"]] == [False]
    assert await db.value("SELECT count(*) FROM money_exception") == 0
