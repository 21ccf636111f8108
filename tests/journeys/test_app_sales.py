"""An app sells in its merchant's own shop: with the scope, within its limit, seeing what it sold (H20)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from domain import partners
from domain.core import clock, ids, live, vault
from domain.core import db as core
from domain.core.errors import NotFound
from domain.core.money import Money
from domain.identity import Viewer
from domain.partners import Asked, Limit
from resolvers.context import Context
from server.graphql import watch
from server.graphql.request import Asked as Request
from server.graphql.watch import Stream
from tests import make
from tests.platform import Platform, running, uuid_of
from tests.server.oauth_client import SECRET, Browser, Partner, person, registered

BOTH = ("checkout:write", "orders:read")
START = """mutation ($input: StartCheckoutInput!, $key: String!) { startCheckout(input: $input) @idempotent(key: $key) {
  __typename ... on Checkout { accessKey order { id source { appId appName } } paymentMethods { code } }
  ... on Problem { code path } ... on InvalidInput { problems { code path } } } }"""
PAY = """mutation ($input: PayInput!, $key: String!) { pay(input: $input) @idempotent(key: $key) {
  __typename ... on Payment { id status nextAction { __typename } } ... on Problem { code path } } }"""
ORDER = """query ($id: ID!, $key: String) { order(id: $id, accessKey: $key) {
  status source { appId appName } goods { content } payments { nextAction { __typename } } } }"""
PLAIN = "query ($id: ID!, $key: String) { order(id: $id, accessKey: $key) { status } }"
WATCH = """subscription ($id: ID!, $key: String) { orderEvents(orderId: $id, accessKey: $key) {
  ... on OrderEvent { kind order { status goods { content } } } } }"""
_keys = itertools.count(1)


@asynccontextmanager
async def selling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Platform, make.Shop, Browser]]:
    async with running(tmp_path, monkeypatch) as platform:
        shop = await make.shop(price=Money(1_050, "USD"))
        yield platform, shop, await person(shop)


async def app_of(by: Browser) -> Partner:
    manifest = SECRET.__class__(
        name="Till",
        redirect_uris=SECRET.redirect_uris,
        scopes=BOTH,
        grant_types=SECRET.grant_types,
        auth_method=SECRET.auth_method,
    )
    return await registered(by, manifest)


async def allowed(by: Browser, app: Partner, *scopes: str, most: str | None = None) -> Viewer:
    """The app as the door knows it, under a new grant of this person."""
    found = await partners.app(app.client_id)
    assert found is not None
    limits = () if most is None else (Limit("checkout:write", Money.parse(most, "USD")),)
    await partners.allow_client(
        found,
        Asked(scopes, limits=limits),
        merchant_id=by.merchant_id,
        account_id=by.account_id,
        auth_at=clock.now(),
    )
    token = (await partners.as_itself(found, scope=None, jkt=None)).access_token
    viewer = await partners.viewer(token)
    assert viewer is not None
    return viewer


async def start(
    platform: Platform,
    shop: make.Shop,
    viewer: Viewer,
    *,
    key: str | None = None,
    handle: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """startCheckout; the union member, or the code of a top-level error."""
    line = {"variantId": ids.encode("var", shop.variant_id), "quantity": 1}
    contact = {"email": "buyer@example.com"}
    given = {
        "shop": handle or shop.handle,
        "lines": [line],
        "contact": contact,
        "country": "US",
        "currency": "USD",
        **more,
    }
    given = {name: value for name, value in given.items() if value is not None}
    answer = await platform.ask(
        START, {"input": given, "key": key or f"app-{next(_keys)}"}, viewer=viewer
    )
    return said(answer, "startCheckout")


def said(answer: dict[str, Any], name: str) -> dict[str, Any]:
    if "errors" in answer:
        return {"code": answer["errors"][0]["extensions"]["code"]}
    found: dict[str, Any] = answer["data"][name]
    return found


async def pay(
    platform: Platform, viewer: Viewer, order_id: str, key: str, **more: Any
) -> dict[str, Any]:
    given = {"orderId": order_id, "accessKey": key, "method": "sandbox", **more}
    variables = {"input": given, "key": f"app-pay-{next(_keys)}"}
    return said(await platform.ask(PAY, variables, viewer=viewer), "pay")


async def order(
    platform: Platform, viewer: Viewer, order_id: str, key: str | None, document: str = ORDER
) -> Any:
    answer = await platform.ask(document, {"id": order_id, "key": key}, viewer=viewer)
    return said(answer, "order") if "errors" in answer else answer["data"]["order"]


async def delivered(platform: Platform, payment_id: str) -> None:
    words = await core.value("SELECT count(*) FROM inbox_event")
    await platform.sandbox.do(payment_id, "confirm", account="main")
    await platform.heard(words + 1)
    await platform.work()


async def test_an_app_sells_takes_the_payment_and_sees_the_goods(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with selling(tmp_path, monkeypatch) as (platform, shop, by):
        app = await app_of(by)
        viewer = await allowed(by, app, "checkout:write")

        begun = await start(platform, shop, viewer)
        order_id, key = begun["order"]["id"], begun["accessKey"]
        hint = {"buyerAddress": "198.51.100.7"}
        paid = await pay(platform, viewer, order_id, key, signals=hint)
        await delivered(platform, paid["id"])
        found = await order(platform, viewer, order_id, key)

        source = {"appId": app.client_id, "appName": "Till"}
        assert begun["order"]["source"] == source
        assert [one["code"] for one in begun["paymentMethods"]] != []
        assert paid["nextAction"] == {"__typename": "RedirectAction"}
        assert (found["status"], found["source"]) == ("DELIVERED", source)
        assert len(found["goods"]) == 1
        assert found["goods"][0]["content"]
        told = await core.fetch(
            "SELECT action, actor_kind, actor_id FROM audit_log WHERE subject_id = $1 ORDER BY no",
            uuid_of(order_id),
        )
        grant = ids.encode("gnt", viewer.session_id)
        assert [tuple(row) for row in told if row["actor_kind"] == "app"] == [
            ("order.placed_by_app", "app", grant),
            ("goods.reveal", "app", grant),
        ]
        signals = await core.value("SELECT facts_json -> 'signals' FROM risk_decision LIMIT 1")
        assert signals["app"] == app.client_id
        assert signals["buyer_address"] == vault.fingerprint("address", "198.51.100.7").hex()
        assert "198.51.100.7" not in str(signals)


async def test_h20_another_merchants_shop_does_not_exist_for_it(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with selling(tmp_path, monkeypatch) as (platform, shop, by):
        viewer = await allowed(by, await app_of(by), *BOTH)
        other = await make.shop(price=Money(1_050, "USD"))

        theirs = await start(platform, other, viewer)
        none = await start(platform, shop, viewer, handle="no-such-shop")
        placeless = await start(platform, shop, viewer, country=None)

        assert (theirs["code"], theirs["path"]) == ("NOT_FOUND", ["input", "shop"])
        assert theirs == none
        assert [one["path"] for one in placeless["problems"]] == [["input", "country"]]
        assert await core.value("SELECT count(*) FROM orders") == 0


async def test_h20_a_key_of_an_order_it_did_not_place_opens_nothing(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not its merchant's either: with `orders:read` that order is read by right, never as its buyer."""
    async with selling(tmp_path, monkeypatch) as (platform, shop, by):
        app = await app_of(by)
        begun = await platform.start(shop)
        order_id, key = begun["order"]["id"], begun["accessKey"]
        paid = await platform.pay(order_id, key)
        await delivered(platform, paid["id"])
        seller = await allowed(by, app, "checkout:write")

        assert await order(platform, seller, order_id, key) is None
        assert await order(platform, seller, order_id, None) is None
        assert (await pay(platform, seller, order_id, key))["code"] == "NOT_FOUND"
        with pytest.raises(NotFound):
            await first_frame(platform, seller, order_id, key)

        both = await allowed(by, app, *BOTH)
        found = await order(platform, both, order_id, key)
        assert found["status"] == "DELIVERED"
        assert (found["goods"], found["source"]) == ([], None)
        assert [one["nextAction"] for one in found["payments"]] == [None]
        # A buyer of it sees all of that.
        assert (await platform.order(order_id, key))["status"] == "DELIVERED"


async def first_frame(platform: Platform, viewer: Viewer, order_id: str, key: str) -> bytes:
    """The first thing a subscription says."""
    context = Context(request_id="app", address="203.0.113.7", viewer=viewer)
    hub = asyncio.create_task(live.hub().run())
    asked = Request(WATCH, variables={"id": order_id, "key": key})
    stream = await watch.watch(platform.door, asked, context)
    assert isinstance(stream, Stream)
    try:
        async with asyncio.timeout(10):
            return (await anext(stream)).body
    finally:
        await stream.close()
        while not hub.done():
            hub.cancel()
            await asyncio.wait([hub], timeout=0.2)
        live.forget()


async def test_an_app_watches_what_it_sold(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with selling(tmp_path, monkeypatch) as (platform, shop, by):
        viewer = await allowed(by, await app_of(by), "checkout:write")
        begun = await start(platform, shop, viewer)

        first = await first_frame(platform, viewer, begun["order"]["id"], begun["accessKey"])

        assert b'"kind":"PLACED"' in first


@pytest.mark.parametrize(
    ("scopes", "name", "refusal"),
    [
        (("orders:read",), "start", "INSUFFICIENT_SCOPE"),
        (("orders:read",), "pay", "INSUFFICIENT_SCOPE"),
        (("checkout:write",), "saved", "FORBIDDEN"),
        (("checkout:write",), "save", "FORBIDDEN"),
    ],
)
async def test_h20_what_a_selling_app_may_not(
    db: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scopes: tuple[str, ...],
    name: str,
    refusal: str,
) -> None:
    async with selling(tmp_path, monkeypatch) as (platform, shop, by):
        app = await app_of(by)
        begun = await start(platform, shop, await allowed(by, app, "checkout:write"))
        viewer = await allowed(by, app, *scopes)
        order_id, key = begun["order"]["id"], begun["accessKey"]
        more: dict[str, dict[str, Any]] = {
            "saved": {"savedMethodId": ids.encode("svm", ids.uuid7())},
            "save": {"saveMethod": True},
        }

        if name == "start":
            refused = await start(platform, shop, viewer)
        else:
            refused = await pay(platform, viewer, order_id, key, **more.get(name, {}))

        assert refused["code"] == refusal
        assert await core.value("SELECT count(*) FROM orders") == 1
        assert await core.value("SELECT count(*) FROM payment_attempt") == 0


async def test_many_sales_at_once_never_pass_the_limit(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three of 10.50 are within 35.00; a repeated call counts once, and a buyer beside them is not held up."""
    async with selling(tmp_path, monkeypatch) as (platform, shop, by):
        viewer = await allowed(by, await app_of(by), "checkout:write", most="35.00")

        answers = await asyncio.gather(
            *(start(platform, shop, viewer, key=f"k{number % 6}") for number in range(9)),
            platform.start(shop),
        )
        euros = await start(platform, shop, viewer, currency="EUR")

        assert "order" in answers[-1]
        placed = {one["order"]["id"] for one in answers[:-1] if "order" in one}
        assert len(placed) == 3
        assert await core.value("SELECT used_minor FROM app_limit") == 3_150
        assert await core.value("SELECT count(*) FROM app_sale") == 3
        assert await core.value("SELECT count(*) FROM orders") == 4
        assert {"APP_LIMIT_EXCEEDED"} == {one["code"] for one in answers[:-1] if "code" in one} - {
            "IDEMPOTENCY_IN_PROGRESS"
        }
        assert euros["code"] in ("APP_LIMIT_EXCEEDED", "RATE_UNAVAILABLE", "UNSUPPORTED_CURRENCY")


async def test_the_app_of_another_grant_in_the_same_merchant_goes_on_with_its_sales(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A till that was let in anew; another app of the merchant's is still a stranger."""
    async with selling(tmp_path, monkeypatch) as (platform, shop, by):
        app, other = await app_of(by), await app_of(by)
        begun = await start(platform, shop, await allowed(by, app, "checkout:write"))
        order_id, key = begun["order"]["id"], begun["accessKey"]

        renewed = await allowed(by, app, "checkout:write")
        stranger = await allowed(by, other, "checkout:write")

        assert (await order(platform, renewed, order_id, key, PLAIN)) is not None
        assert (await order(platform, stranger, order_id, key, PLAIN)) is None
