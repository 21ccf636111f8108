"""Trusted documents of apps: judged when registered, run by their own app alone, and by some nothing else (J26)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from domain import partners
from domain.core import clock, ids
from domain.core import db as core
from domain.core.settings import settings
from domain.identity import Forbidden, Role
from domain.partners import documents, ports
from domain.partners.documents import Kept, document_id
from resolvers import access
from resolvers.context import Context
from schema.root import schema
from server.graphql import trusted
from server.graphql.door import Answer, Door
from server.graphql.request import Asked
from server.graphql.trusted import Trusted, documents_only
from tests import make
from tests.api.desk import Desk, audited, member
from tests.domain.test_partner_presence import Held, held
from tests.server.oauth_client import SECRET

REGISTER = """mutation ($input: RegisterAppDocumentsInput!) { registerAppDocuments(input: $input) {
  __typename ... on AppDocumentsRegistered { documents { id text } }
  ... on DocumentsInvalid { code message problems { index code reason } } ... on Problem { code path }
  ... on InvalidInput { problems { code path } } } }"""
REMOVE = """mutation ($input: RemoveAppDocumentsInput!) { removeAppDocuments(input: $input) {
  __typename ... on AppDocumentsRemoved { count } ... on Problem { code } } }"""
LISTED = """query ($id: ID!, $after: String) { node(id: $id) { ... on PartnerApp { documentsOnly
  documents(first: 1, after: $after) { nodes { id text } pageInfo { hasNextPage endCursor } } } } }"""
FREE = "{ market { currency } }"
ORDERS = "query Mine($id: ID!) { orders(merchantId: $id, first: 1) { nodes { id } } }"
OURS = "{ market { country } }"


@pytest.fixture
async def contract() -> AsyncIterator[None]:
    """Somebody who judges documents, and nothing kept from elsewhere."""
    trusted.install()
    documents._kept.forget(None)
    try:
        yield
    finally:
        ports.contracts.clear()
        documents._kept.forget(None)


async def register(desk: Desk, app_id: UUID, *texts: str) -> Any:
    given = {"appId": ids.encode("app", app_id), "documents": list(texts)}
    return (await desk.data(REGISTER, {"input": given}))["registerAppDocuments"]


def door() -> Door:
    def only(context: Context) -> bool:
        return documents_only(context, is_production=True)

    return Door(schema, registered=Trusted({document_id(OURS): OURS}), documents_only=only)


async def ask(at: Door, one: Held | None, **asked: Any) -> Any:
    """What an app, or a guest, is answered: the code of the refusal, or the data."""
    context = Context(request_id="r", address="203.0.113.9")
    if one is not None:
        context.viewer = await partners.viewer(one.token)
        context.credential = one.token
    answer = await at.answer(Asked(asked.pop("query", None), **asked), context)
    assert isinstance(answer, Answer)
    body = orjson.loads(answer.body)
    return body["errors"][0]["extensions"]["code"] if "errors" in body else body["data"]


@pytest.mark.usefixtures("contract")
async def test_j26_an_app_runs_its_own_documents_and_nobody_elses(db: None) -> None:
    shop = await make.shop()
    desk = await member(shop, Role.DEVELOPER)
    one, other = await held(shop, "one"), await held(shop, "other")
    at, id = door(), document_id(ORDERS)
    merchant = ids.encode("mer", shop.merchant_id)

    before = await ask(at, one, document_id=id)
    made = await register(desk, one.app.id, ORDERS, FREE, ORDERS)

    assert made["documents"] == [
        {"id": document_id(text), "text": text} for text in (ORDERS, FREE, ORDERS)
    ]
    assert before == "PERSISTED_QUERY_NOT_FOUND"
    mine = await ask(at, one, document_id=id, variables={"id": merchant})
    assert mine == {"orders": {"nodes": []}}
    assert await ask(at, other, document_id=id) == "PERSISTED_QUERY_NOT_FOUND"
    assert await ask(at, None, document_id=id) == "PERSISTED_QUERY_NOT_FOUND"
    for who in (one, other, None):
        assert "market" in await ask(at, who, document_id=document_id(OURS))
        assert await ask(at, who, document_id="../x") == "PERSISTED_QUERY_NOT_FOUND"


@pytest.mark.usefixtures("contract")
async def test_j26_an_app_of_documents_only_runs_no_free_text(db: None) -> None:
    shop = await make.shop()
    desk = await member(shop, Role.DEVELOPER)
    strict = await held(shop, "one", replace(SECRET, documents_only=True))
    await register(desk, strict.app.id, FREE)
    free, at = await held(shop, "free"), door()

    assert await ask(at, strict, query=FREE) == "FORBIDDEN"
    assert await ask(at, strict, query=FREE, sha256=document_id(FREE)) == "FORBIDDEN"
    assert await ask(at, strict, query=None, sha256=document_id(FREE)) == "FORBIDDEN"
    assert "market" in await ask(at, strict, document_id=document_id(FREE))
    assert "market" in await ask(at, free, query=FREE)


BULK = """mutation ($id: ID!, $query: String!) {
  bulkExport(input: {merchantId: $id, query: $query}) @idempotent(key: "b") { __typename } }"""
ALL = "query ($merchantId: ID!) { orders(merchantId: $merchantId) { nodes { id } } }"


@pytest.mark.usefixtures("contract")
async def test_j26_bulk_work_is_no_way_around(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text inside of a registered document is a free text too, unless it is registered itself."""
    shop = await make.shop()
    desk = await member(shop, Role.DEVELOPER)
    strict = await held(shop, "one", replace(SECRET, documents_only=True))
    made = await register(desk, strict.app.id, BULK, ALL)
    assert made["__typename"] == "AppDocumentsRegistered"
    at, merchant = door(), ids.encode("mer", shop.merchant_id)
    other = ALL.replace("id }", "id number }")

    async def exported(query: str) -> Any:
        variables = {"id": merchant, "query": query}
        return await ask(at, strict, document_id=document_id(BULK), variables=variables)

    monkeypatch.setattr(
        access, "settings", lambda: settings().model_copy(update={"env": "production"})
    )
    ours = Context(viewer=replace(strict.viewer, app=None))
    ours.came_by_cookie = True

    assert await exported(other) == "FORBIDDEN"
    assert await exported(ALL) != "FORBIDDEN"
    with pytest.raises(Forbidden):
        await access.check_text(ours, ALL)
    ours.came_by_cookie = False
    await access.check_text(ours, ALL)


@pytest.mark.usefixtures("contract")
async def test_h20_a_registered_document_still_takes_its_scopes(db: None) -> None:
    shop = await make.shop()
    desk = await member(shop, Role.DEVELOPER)
    one = await held(shop, "one")  # orders:read alone
    stock = "query ($id: ID!) { merchantCoupons(merchantId: $id, first: 1) { nodes { code } } }"

    await register(desk, one.app.id, stock)

    assert await ask(door(), one, document_id=document_id(stock)) == "INSUFFICIENT_SCOPE"


@pytest.mark.usefixtures("contract")
async def test_every_faulty_document_is_named_and_none_is_registered(db: None) -> None:
    shop = await make.shop()
    desk = await member(shop, Role.DEVELOPER)
    one = await held(shop, "one")
    deep = "{ order(id: 1) { " + "timeline { order { " * 6 + "id" + " } }" * 7
    page = "orders(merchantId: 1, first: 100) { nodes { id total { amount } } }"
    dear = f"{{ {' '.join(f'{name}: {page}' for name in 'abcdef')} }}"

    refused = await register(
        desk,
        one.app.id,
        FREE,
        "{ market",
        "{ nothing }",
        "{ order(id: 1) { savedMethods { id } } }",
        "{ viewer { email } }",
        deep,
        dear,
        "{ orders(merchantId: 1) { nodes { id } } }",
    )

    faults = [(one["index"], one["code"]) for one in refused["problems"]]
    assert (refused["__typename"], refused["code"]) == ("DocumentsInvalid", "DOCUMENTS_INVALID")
    assert refused["message"].startswith("7 of the documents")
    assert faults == [
        (1, "GRAPHQL_PARSE_FAILED"),
        (2, "GRAPHQL_VALIDATION_FAILED"),
        (3, "INSUFFICIENT_SCOPE"),
        (4, "INSUFFICIENT_SCOPE"),
        (5, "MAX_DEPTH_EXCEEDED"),
        (6, "MAX_COST_EXCEEDED"),
        (7, "BAD_USER_INPUT"),
    ]
    assert refused["problems"][1]["reason"].endswith("(1:3)")
    assert await core.value("SELECT count(*) FROM app_document") == 0
    assert "app.documents_registered" not in [action for action, _ in await audited()]


@pytest.mark.usefixtures("contract")
async def test_documents_have_bounds(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "DOCUMENTS_MAX", 3)
    shop = await make.shop()
    desk = await member(shop, Role.DEVELOPER)
    one = await held(shop, "one")

    none = await register(desk, one.app.id)
    many = await register(desk, one.app.id, *[FREE] * 51)
    long = await register(desk, one.app.id, FREE, "#" * 16_385)
    full = await register(desk, one.app.id, *[f"# {number}\n{FREE}" for number in range(4)])
    three = await register(desk, one.app.id, *[f"# {number}\n{FREE}" for number in range(3)])
    again = await register(desk, one.app.id, f"# 0\n{FREE}")

    for refused, path in ((none, []), (many, []), (long, ["1"]), (full, [])):
        (problem,) = refused["problems"]
        assert problem["path"] == ["input", "documents", *path]
    assert len(three["documents"]) == 3
    assert again["__typename"] == "AppDocumentsRegistered"
    assert await core.value("SELECT count(*) FROM app_document") == 3


@pytest.mark.usefixtures("contract")
async def test_documents_are_listed_by_page_and_taken_away_at_once(db: None) -> None:
    shop = await make.shop()
    desk = await member(shop, Role.DEVELOPER)
    one, at = await held(shop, "one"), door()
    app = ids.encode("app", one.app.id)
    await register(desk, one.app.id, FREE, ORDERS)
    assert "market" in await ask(at, one, document_id=document_id(FREE))

    first = (await desk.data(LISTED, {"id": app}))["node"]["documents"]
    after = first["pageInfo"]["endCursor"]
    second = (await desk.data(LISTED, {"id": app, "after": after}))["node"]["documents"]
    given = {"input": {"appId": app, "ids": [document_id(FREE), "f" * 64, "no id"]}}
    gone = (await desk.data(REMOVE, given))["removeAppDocuments"]

    listed = [one["id"] for one in (*first["nodes"], *second["nodes"])]
    assert listed == sorted([document_id(FREE), document_id(ORDERS)])
    assert (first["pageInfo"]["hasNextPage"], second["pageInfo"]["hasNextPage"]) == (True, False)
    assert gone == {"__typename": "AppDocumentsRemoved", "count": 1}
    assert await ask(at, one, document_id=document_id(FREE)) == "PERSISTED_QUERY_NOT_FOUND"
    assert [action for action, _ in await audited()][-2:] == [
        "app.documents_registered",
        "app.documents_removed",
    ]


@pytest.mark.usefixtures("contract")
async def test_a_kept_document_asks_nobody_until_the_bell_or_time_says_so(db: None) -> None:
    shop = await make.shop()
    desk = await member(shop, Role.DEVELOPER)
    one, at = await held(shop, "one"), door()
    await register(desk, one.app.id, FREE)
    await ask(at, one, document_id=document_id(FREE))
    made = at.documents.misses

    async with core.statements() as sent:
        for _ in range(5):
            await ask(at, one, document_id=document_id(FREE))
    assert sent == []
    assert at.documents.misses == made  # parsed and validated once

    here = partners.connections()
    here._forget(uuid4())
    async with core.statements() as sent:
        await ask(at, one, document_id=document_id(FREE))
    assert sent == []
    documents._kept.forget(one.app.id)
    async with core.statements() as sent:
        await ask(at, one, document_id=document_id(FREE))
    assert len(sent) == 1


def test_what_is_kept_is_bounded_and_ages(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, app, now = Kept(bytes_max=2_000), uuid4(), 100.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    for number in range(10):
        kept.put(app, str(number), "x" * 300)
    kept.put(app, "none", None)

    assert [kept.get(app, str(number)) is not None for number in range(10)] == [
        number > 7 for number in range(10)
    ]
    assert kept.get(app, "none") == (None,)
    assert kept.get(uuid4(), "9") is None
    now = 100.0 + documents.MISSED_S + 0.1
    assert kept.get(app, "none") is None
    assert kept.get(app, "9") == ("x" * 300,)
    now = 100.0 + documents.KEPT_S + 0.1
    assert kept.get(app, "9") is None
    kept.forget(app)
    assert (len(kept._kept), kept._bytes) == (0, 0)
