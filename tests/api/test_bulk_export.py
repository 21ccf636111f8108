"""Lists read out whole: exactly what is there, in pieces that survive whatever happens on the way.

CASES J30, K02.
"""

from __future__ import annotations

from typing import Any

import pytest

from domain import bulk, orders
from domain.bulk import rules
from domain.bulk.ports import CONTRACT, runners
from domain.core import db as core
from domain.core import ids, once
from domain.core.errors import Unavailable
from resolvers.bulk import EXPORTABLE
from schema.root import schema
from tests import make
from tests.api import bulk_desk
from tests.api.bulk_desk import CANCEL, newest, person, work
from tests.database import as_owner


@pytest.fixture(autouse=True)
def _pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PAGE_MAX", 4)


async def test_an_export_holds_every_order_once_newest_first_and_says_how_far_it_is(
    db: None,
) -> None:
    of, other = await make.shop(), await make.shop()
    owner = await person(of)
    placed = await newest(of, 10)
    await make.order(other)

    begun = await owner.export()
    assert (begun["state"], begun["done"], begun["total"], begun["progress"]) == (
        "WAITING",
        0,
        None,
        0,
    )
    assert begun["url"] is None
    await work()
    job = await owner.job(begun["id"])
    lines = await owner.lines(begun["id"])

    assert [line["id"] for line in lines] == [ids.encode("ord", one.id) for one in placed]
    assert lines[0] == {
        "id": ids.encode("ord", placed[0].id),
        "version": 1,
        "status": "AWAITING_PAYMENT",
    }
    assert (job["kind"], job["state"], job["done"], job["total"], job["failed"]) == (
        "EXPORT",
        "DONE",
        10,
        10,
        0,
    )
    assert job["progress"] == 100
    assert job["size"] == len(await owner.result(begun["id"]))
    assert job["url"].endswith(f"/bulk/{begun['id']}.jsonl")
    assert job["problem"] is None
    assert job["startedAt"] <= job["finishedAt"] < job["expiresAt"]
    assert await bulk_desk.rows_of(begun["id"]) == {"bulk_piece": 3, "bulk_input": 0}


@pytest.mark.parametrize(
    "query",
    [
        "{ orders(merchantId: MERCHANT) { edges { node { number } } } }",
        "query A($merchantId: ID!) { a: orders(merchantId: $merchantId) { b: nodes { number } } }",
        "{ orders(merchantId: MERCHANT) { e: edges { n: node { ...f } } } } fragment f on Order { number }",
        'query @inContext(language: "ja") { orders(merchantId: MERCHANT) { nodes { number } } }',
    ],
)
async def test_rows_are_the_nodes_however_they_were_asked_for(db: None, query: str) -> None:
    of = await make.shop()
    owner = await person(of)
    numbers = [order.number for order in await newest(of, 5)]

    begun = await owner.export(query.replace("MERCHANT", f'"{owner.merchant}"'))
    await work()

    assert await owner.lines(begun["id"]) == [{"number": number} for number in numbers]


async def test_what_is_asked_of_the_list_holds_for_every_page(db: None) -> None:
    of = await make.shop()
    owner = await person(of)
    placed = await newest(of, 12)
    async with core.transaction():
        for one in (await orders.lock([order.id for order in placed[::2]])).values():
            await orders.move(one, orders.OrderStatus.CANCELLED, orders.EventKind.CANCELLED)

    begun = await owner.export(
        "query ($merchantId: ID!) { orders(merchantId: $merchantId, status: [CANCELLED]) { nodes { number } } }"
    )
    await work()

    numbers = [order.number for order in placed[::2]]
    assert [line["number"] for line in await owner.lines(begun["id"])] == numbers
    assert (await owner.job(begun["id"]))["total"] == 6


async def test_what_is_nested_is_there_and_goods_are_not(db: None) -> None:
    of = await make.shop()
    owner = await person(of)
    await make.order(of, quantity=2)
    # Whoever placed the order with their own address is its buyer elsewhere, not here.
    await core.execute(
        "UPDATE account SET email_verified_at = clock_timestamp() WHERE id = $1",
        owner.viewer.account_id,
    )
    await as_owner("UPDATE orders SET email = $1", owner.viewer.email)

    begun = await owner.export(
        "query ($merchantId: ID!) { orders(merchantId: $merchantId) { nodes {"
        " lines { title quantity } shop { name } goods { content } timeline { kind } } } }"
    )
    await work()

    assert await owner.lines(begun["id"]) == [
        {
            "lines": [{"title": "One", "quantity": 2}],
            "shop": {"name": (await owner.lines(begun["id"]))[0]["shop"]["name"]},
            "goods": [],
            "timeline": [{"kind": "PLACED"}],
        }
    ]


LISTS = {
    "merchantProducts": "{ merchantProducts(merchantId: M) { nodes { id variants { id } } } }",
    "merchantCoupons": "{ merchantCoupons(merchantId: M) { nodes { id } } }",
    "auditLog": "{ auditLog(merchantId: M) { nodes { action } } }",
    "appGrants": "{ appGrants(merchantId: M) { nodes { id } } }",
    "goodReports": "{ goodReports { nodes { id } } }",
    "moneyExceptions": "{ moneyExceptions { nodes { id } } }",
    "stockLots": "{ stockLots(variantId: V) { nodes { id note } } }",
}


@pytest.mark.parametrize("name", list(LISTS))
async def test_every_list_that_can_be_exported_is(db: None, name: str) -> None:
    of = await make.shop(keys=3)
    owner = await person(of)
    query = LISTS[name].replace("M)", f'"{owner.merchant}")')
    query = query.replace("V)", f'"{ids.encode("var", of.variant_id)}")')

    begun = await owner.export(query)
    assert begun["__typename"] == "BulkJob", begun
    await work()

    job, lines = await owner.job(begun["id"]), await owner.lines(begun["id"])
    assert job["state"] == "DONE"
    assert job["done"] == len(lines)
    assert len(lines) == {"auditLog": 1, "merchantProducts": 1, "stockLots": 1}.get(name, 0)


def test_lists_of_a_merchant_can_be_exported_or_it_was_decided_that_not() -> None:
    """A new list fails here: say in resolvers/bulk.py whether it can be exported."""
    query = schema._schema.query_type
    assert query is not None
    lists = {
        name
        for name, field in query.fields.items()
        if str(field.type).rstrip("!").endswith("Connection")
    }

    assert set(EXPORTABLE) == set(LISTS) | {"orders"}
    # What operators decide, what waits for a second person or look, and jobs themselves.
    assert lists - set(EXPORTABLE) == {"approvals", "goodsExports", "securityAlerts", "bulkJobs"}


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("{ shop(handle: 1) { id } }", "shop is not a list that can be exported."),
        ("{ viewer { email } }", "viewer is not a list that can be exported."),
        ("mutation { signOut { __typename } }", "It must be one query."),
        ("{ a: __typename b: __typename }", "It must have one field at the root of the query."),
        ("{ ...f } fragment f on Query { viewer { email } }", "It must have one field"),
        ("{ orders(merchantId: M, first: 3) { nodes { id } } }", "Paging is ours"),
        ('{ orders(merchantId: M, after: "x") { nodes { id } } }', "Paging is ours"),
        ("{ orders(merchantId: M) { nodes { id } totalCount } }", "Below the list select nodes"),
        ("{ orders(merchantId: M) { pageInfo { endCursor } } }", "Below the list select nodes"),
        ("{ orders(merchantId: M) { edges { cursor } } }", "Below edges select node"),
        ("{ orders(merchantId: M) { nodes @skip(if: true) { id } } }", "Below the list select"),
        ("{ orders(merchantId: M) @skip(if: true) { nodes { id } } }", "takes no directives"),
        ("{ orders(merchantId: M) { nodes { nothing } } }", "Cannot query field 'nothing'"),
        ("{ orders { nodes { id } } }", "Argument 'Query.orders(merchantId:)'"),
        ("{ orders(merchantId: N) { nodes { id } } }", "Its merchantId is another one."),
        ("query ($a: Int) { orders(merchantId: M) { nodes { id } } }", "The only variable is"),
        ("{ orders(merchantId: M) { nodes { shop { products { totalCount } } } } }", "products"),
        (
            "{ orders(merchantId: M) { nodes { shop {"
            + " ".join(
                f"p{n}: products(first: 100) {{ nodes {{ variants {{ id }} }} }}" for n in range(6)
            )
            + " } } } }",
            "One row costs",
        ),
        ("{", "Syntax Error"),
        ("", "Syntax Error"),
        ("{ orders(merchantId: M) { nodes { " + "shop { " * 13 + "id", "Syntax Error"),
        pytest.param("#" * 40_000, "It is longer than 32768 bytes.", id="long"),
    ],
)
async def test_what_cannot_be_exported_is_said_and_starts_nothing(
    db: None, query: str, reason: str
) -> None:
    of, other = await make.shop(), await make.shop()
    owner = await person(of)
    query = query.replace("M)", f'"{owner.merchant}")').replace("M,", f'"{owner.merchant}",')
    query = query.replace("N)", f'"{ids.encode("mer", other.merchant_id)}")')

    refused = await owner.export(query)

    assert refused["__typename"] == "QueryNotExportable"
    assert refused["code"] == "QUERY_NOT_EXPORTABLE"
    assert refused["path"] == ["input", "query"]
    assert reason in refused["reason"]
    assert refused["allowed"] == sorted(EXPORTABLE)
    assert await core.value("SELECT count(*) FROM bulk_job") == 0


async def test_the_same_key_starts_one_job(db: None) -> None:
    of = await make.shop()
    owner = await person(of)

    first = await owner.export(key="same")
    await once.flush()
    await work()
    again = await owner.export(key="same")

    assert again == first  # what was answered, to the byte
    assert await core.value("SELECT count(*) FROM bulk_job") == 1


async def test_a_cancelled_export_stops_and_leaves_nothing(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "TURN_S", 0.0)  # a page is a turn
    of = await make.shop()
    owner = await person(of)
    for _ in range(10):
        await make.order(of)
    begun = await owner.export()
    assert await bulk.turn()
    assert (await owner.job(begun["id"]))["progress"] == 40

    ended = await owner.data(CANCEL, {"input": {"jobId": begun["id"]}})
    again = await owner.data(CANCEL, {"input": {"jobId": begun["id"]}})

    assert (ended["state"], ended["done"], ended["url"]) == ("CANCELLED", 4, None)
    assert again == ended
    assert await work() == 0
    assert await bulk_desk.rows_of(begun["id"]) == {"bulk_piece": 0, "bulk_input": 0}


async def test_a_database_that_is_away_costs_a_try_and_no_line(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = await make.shop()
    owner = await person(of)
    for _ in range(10):
        await make.order(of)
    begun = await owner.export()
    real, calls = orders.of_merchant, 0

    async def flaky(*args: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in (2, 3):
            raise Unavailable(what="database")
        return await real(*args, **named)

    monkeypatch.setattr(orders, "of_merchant", flaky)
    await work()
    waiting = await owner.job(begun["id"])
    while (await owner.job(begun["id"]))["state"] == "RUNNING":
        await core.execute("UPDATE bulk_job SET due_at = clock_timestamp()")
        await work()

    assert (waiting["state"], waiting["done"]) == ("RUNNING", 4)
    assert len({line["id"] for line in await owner.lines(begun["id"])}) == 10
    assert (await owner.job(begun["id"]))["done"] == 10


async def test_what_never_comes_through_is_given_up_after_twelve_tries(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = await make.shop()
    owner = await person(of)
    begun = await owner.export()

    async def away(*args: Any, **named: Any) -> Any:
        raise Unavailable(what="database")

    monkeypatch.setattr(orders, "of_merchant", away)
    tries = 0
    while (await owner.job(begun["id"]))["state"] in ("WAITING", "RUNNING"):
        await core.execute("UPDATE bulk_job SET due_at = clock_timestamp()")
        tries += await work()

    assert tries == 12
    assert (await owner.job(begun["id"]))["problem"]["code"] == "UNAVAILABLE"


async def test_a_worker_without_the_contract_leaves_what_is_owed(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = await make.shop()
    owner = await person(of)
    begun = await owner.export()

    with monkeypatch.context() as without:
        without.delitem(runners, CONTRACT)
        assert await bulk.turn() is False
    assert (await owner.job(begun["id"]))["state"] == "WAITING"
    await work()

    assert (await owner.job(begun["id"]))["state"] == "DONE"


async def test_a_result_that_grows_beyond_its_bound_is_given_up(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "SIZE_MAX", 200)
    of = await make.shop()
    owner = await person(of)
    for _ in range(10):
        await make.order(of)

    begun = await owner.export()
    await work()
    job = await owner.job(begun["id"])

    assert (job["state"], job["problem"]["code"], job["url"]) == ("FAILED", "BULK_TOO_LARGE", None)
    assert await bulk_desk.rows_of(begun["id"]) == {"bulk_piece": 0, "bulk_input": 0}


async def test_what_expired_is_gone_and_the_job_stays_for_a_month(db: None) -> None:
    of = await make.shop()
    owner = await person(of)
    await make.order(of)
    begun = await owner.export()
    await work()

    await core.execute("UPDATE bulk_job SET expires_at = clock_timestamp() - interval '1 s'")
    with pytest.raises(bulk.ResultExpired):
        await owner.result(begun["id"])
    assert await bulk.prune() == 0
    pieces = await bulk_desk.rows_of(begun["id"])
    still = await owner.job(begun["id"])
    await core.execute("UPDATE bulk_job SET expires_at = clock_timestamp() - interval '31 days'")

    assert pieces == {"bulk_piece": 0, "bulk_input": 0}
    assert still["state"] == "DONE"
    assert await bulk.prune() == 1
