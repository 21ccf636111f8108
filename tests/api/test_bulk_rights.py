"""Bulk work at the rights of that moment: whose it is, how much of it, and what ends it on the way.

CASES H01, H14, H20.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from domain import bulk, identity, partners
from domain.bulk import rules
from domain.core import db as core
from domain.core.audit import Actor
from domain.identity import Role
from server.graphql import trusted
from tests import make
from tests.api import bulk_desk
from tests.api.bulk_desk import CANCEL, JOBS, NODE, ORDERS, Caller, app, person, work


@pytest.fixture(autouse=True)
def _pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PAGE_MAX", 4)


async def test_h01_a_merchant_that_is_not_ones_own_is_not_found(db: None) -> None:
    of, other = await make.shop(), await make.shop()
    owner, stranger = await person(of), await person(other)
    begun = await owner.export()

    refused = [
        await stranger.export(merchantId=owner.merchant),
        await owner.export(merchantId="mer_nothing"),
    ]
    hidden = await stranger.ask(NODE, {"id": begun["id"]})
    kept = await stranger.data(CANCEL, {"input": {"jobId": begun["id"]}})
    listed = await stranger.ask(JOBS, {"merchant": owner.merchant, "first": 5})
    colleague = await person(of)
    unseen = await colleague.data(JOBS, {"merchant": owner.merchant, "first": 5})

    assert [one["code"] for one in refused] == ["NOT_FOUND", "NOT_FOUND"]
    assert refused[0]["path"] == ["input", "merchantId"]
    assert hidden["errors"][0]["extensions"]["code"] == "NOT_FOUND"
    assert kept["code"] == "NOT_FOUND"
    assert listed["errors"][0]["extensions"]["code"] == "NOT_FOUND"
    assert unseen["nodes"] == []
    assert (await owner.job(begun["id"]))["state"] == "WAITING"


async def test_who_may_not_read_the_list_starts_nothing(db: None) -> None:
    of = await make.shop()
    clerk = await person(of, Role.CATALOGUE)

    answer = await clerk.ask(
        bulk_desk.EXPORT, {"input": {"merchantId": clerk.merchant, "query": ORDERS}, "key": "k"}
    )

    assert answer["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    assert await core.value("SELECT count(*) FROM bulk_job") == 0


async def test_the_sixth_unfinished_job_is_refused_until_one_is_over(db: None) -> None:
    of = await make.shop()
    owner, finance = await person(of), await person(of, Role.FINANCE)
    till = await app(of, "orders:read")
    begun = [await owner.export() for _ in range(5)]

    refused = await owner.export()
    others = [await finance.export(), await till.export()]
    await owner.data(CANCEL, {"input": {"jobId": begun[0]["id"]}})
    after = await owner.export()

    assert (refused["__typename"], refused["code"], refused["max"]) == (
        "BulkLimit",
        "BULK_LIMIT",
        5,
    )
    assert [one["__typename"] for one in others] == ["BulkJob", "BulkJob"]
    assert after["__typename"] == "BulkJob"


async def test_the_limit_holds_for_calls_that_come_together(db: None) -> None:
    of = await make.shop()
    owner = await person(of)

    found = await asyncio.gather(*(owner.export() for _ in range(8)))

    assert sorted(one["__typename"] for one in found) == ["BulkJob"] * 5 + ["BulkLimit"] * 3


@pytest.mark.parametrize("how", ["role", "member", "account"])
async def test_h14_a_right_that_is_lost_on_the_way_ends_the_export(
    db: None, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "TURN_S", 0.0)
    of = await make.shop()
    finance = await person(of, Role.FINANCE)
    for _ in range(10):
        await make.order(of)
    begun = await finance.export()
    await bulk.turn()
    account = finance.viewer.account_id

    if how == "role":
        await core.execute(
            "UPDATE membership SET role = 'catalogue' WHERE account_id = $1", account
        )
    elif how == "member":
        await core.execute("DELETE FROM membership WHERE account_id = $1", account)
    else:
        await core.execute("UPDATE account SET state = 'closed' WHERE id = $1", account)
    await work()
    job = await finance.job(begun["id"])

    assert (job["state"], job["done"], job["problem"]["code"], job["url"]) == (
        "FAILED",
        4,
        "FORBIDDEN",
        None,
    )
    assert job["problem"]["message"]
    assert await bulk_desk.rows_of(begun["id"]) == {"bulk_piece": 0, "bulk_input": 0}


@pytest.mark.parametrize("how", ["grant", "scope", "app"])
async def test_h20_an_app_exports_within_its_grant_and_as_long_as_it_lasts(
    db: None, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "TURN_S", 0.0)
    of = await make.shop()
    till = await app(of, "orders:read", "catalogue:read")
    for _ in range(10):
        await make.order(of)
    begun = await till.export()
    await bulk.turn()
    pass_ = till.viewer.app
    assert pass_ is not None

    if how == "grant":
        await partners.revoke(of.merchant_id, pass_.grant_id, actor=Actor("merchant", "acc_test"))
    elif how == "scope":
        await core.execute("UPDATE partner_app SET scopes = '{catalogue:read}'")
    else:
        await core.execute("UPDATE partner_app SET state = 'deleted'")
    await work()
    job = await till.job(begun["id"])

    assert (job["state"], job["done"], job["problem"]["code"]) == ("FAILED", 4, "FORBIDDEN")
    assert await bulk_desk.rows_of(begun["id"]) == {"bulk_piece": 0, "bulk_input": 0}


async def test_h20_an_app_needs_the_scopes_of_what_it_reads(db: None) -> None:
    of = await make.shop()
    till = await app(of, "orders:read")
    funds = ORDERS.replace("status", "fundsFlow { leg }")
    goods = ORDERS.replace("status", "goods { content }")

    async def refused(query: str) -> dict[str, Any]:
        given = {"input": {"merchantId": till.merchant, "query": query}, "key": query[-200:]}
        answer = await till.ask(bulk_desk.EXPORT, given)
        return dict(answer["errors"][0]["extensions"])

    money, closed = await refused(funds), await refused(goods)
    taken = await till.export()
    # Its jobs are its own: not the person's behind it.
    behind = Caller((await identity.standing(till.viewer.account_id)) or till.viewer, of)
    unseen = await behind.ask(NODE, {"id": taken["id"]})
    await work()

    assert (money["code"], money["scope"]) == ("INSUFFICIENT_SCOPE", "money:read")
    assert (closed["code"], closed.get("scope")) == ("INSUFFICIENT_SCOPE", None)
    assert (await till.job(taken["id"]))["state"] == "DONE"
    assert unseen["errors"][0]["extensions"]["code"] == "NOT_FOUND"
    assert await core.value("SELECT count(*) FROM bulk_job") == 1


async def test_jobs_are_listed_newest_first_in_pages(db: None) -> None:
    of = await make.shop()
    owner = await person(of)
    begun = [(await owner.export())["id"] for _ in range(3)]

    first = await owner.data(JOBS, {"merchant": owner.merchant, "first": 2})
    after = first["pageInfo"]["endCursor"]
    rest = await owner.data(JOBS, {"merchant": owner.merchant, "first": 2, "after": after})

    assert [one["id"] for one in first["nodes"] + rest["nodes"]] == begun[::-1]
    assert (first["pageInfo"]["hasNextPage"], rest["pageInfo"]["hasNextPage"]) == (True, False)


async def test_merchants_take_turns_whoever_has_more_to_do(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "TURN_S", 0.0)
    big, small = await make.shop(), await make.shop()
    first, second = await person(big), await person(small)
    for _ in range(9):
        await make.order(big)
    for _ in range(6):
        await make.order(small)
    for _ in range(3):
        await first.export()
    await second.export()

    served = []
    while True:
        before = dict(await core.fetch("SELECT merchant_id, sum(done) FROM bulk_job GROUP BY 1"))
        if not await bulk.turn():
            break
        after = dict(await core.fetch("SELECT merchant_id, sum(done) FROM bulk_job GROUP BY 1"))
        (moved,) = [one for one in after if after[one] != before[one]]
        served.append("big" if moved == big.merchant_id else "small")

    assert served[:4] == ["big", "small", "big", "small"]
    assert served.count("big") == 9
    assert set(served[4:]) == {"big"}


async def test_j26_an_app_with_registered_documents_alone_exports_no_other(db: None) -> None:
    of = await make.shop()
    till = await app(of, "orders:read")
    pass_ = till.viewer.app
    assert pass_ is not None
    till.viewer = replace(till.viewer, app=replace(pass_, documents_only=True))

    free = await till.ask(
        bulk_desk.EXPORT, {"input": {"merchantId": till.merchant, "query": ORDERS}, "key": "k"}
    )
    trusted.install()
    await partners.register_documents(
        of.merchant_id, pass_.app_id, [ORDERS], actor=Actor("merchant", "acc_test")
    )
    begun = await till.export()

    assert free["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    assert begun["__typename"] == "BulkJob"
