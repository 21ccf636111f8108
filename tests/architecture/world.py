"""A shop where a lot has happened, and everybody who may ask about it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from joserfc.jwk import ECKey

from domain import catalogue, identity, orders, partners, payments, settlement, webhooks
from domain.catalogue import Delivery, PriceList, Source
from domain.core import clock, db, ids, live
from domain.core.audit import Actor
from domain.core.money import Money
from domain.identity import AccountKind, OperatorRole, Role, Viewer, rules
from domain.partners import (
    Asked,
    AuthMethod,
    GrantType,
    Limit,
    Manifest,
    Page,
    Scope,
    Webhook,
)
from domain.webhooks import Result, Terms
from domain.webhooks.ports import Reply, carriers
from server.graphql import shaping, trusted
from server.graphql.limits import GENEROUS, LocalBuckets
from tests import horizon, make
from tests.architecture.bulk_jobs import jobs_of
from tests.architecture.destinations import accounts_of, alerts_of, destinations_of
from tests.platform import Platform, running, uuid_of

ADDRESS = "203.0.113.9"
PASSWORD = "correct horse battery"
IMPORT_KEY = "import-1"
_IMPORT = """
mutation ($input: ImportCardsInput!) {
  importCards(input: $input) @idempotent(key: "import-1") { __typename ... on CardImport { id }
    ... on Problem { code path message } }
}"""
_REFUND = """
mutation ($input: RequestRefundInput!) {
  requestRefund(input: $input) @idempotent(key: "refund-1") { __typename }
}"""
_PROPOSE = """
mutation ($input: ProposeManualPaymentInput!) {
  proposeManualPayment(input: $input) @idempotent(key: "propose-1") { __typename ... on Approval { id }
    ... on Problem { code path message } }
}"""


_COUPON = """
mutation ($input: CreateCouponInput!) {
  createCoupon(input: $input) @idempotent(key: "coupon-1") { __typename ... on Coupon { id }
    ... on Problem { code path message } }
}"""
_REPORT = """
mutation ($input: ReportGoodInput!) {
  reportGood(input: $input) @idempotent(key: "report-1") { __typename ... on GoodReport { id }
    ... on Problem { code path message } }
}"""
_PAY = """
mutation ($input: PayInput!) {
  pay(input: $input) @idempotent(key: "pay-saving") { __typename ... on Payment { id }
    ... on Problem { code path message } }
}"""
_REUSE = """
mutation ($input: SetReusableContentInput!) {
  setReusableContent(input: $input) @idempotent(key: "reuse-1") { __typename
    ... on Problem { code path message } }
}"""
_LOTS = "query ($id: ID!) { stockLots(variantId: $id, first: 1) { nodes { id } } }"


@dataclass(frozen=True, slots=True)
class Caller:
    """One kind of caller: signed in or not, with an access key or not."""

    name: str
    viewer: Viewer | None = None
    access_key: str | None = None
    order_id: str | None = None  # whose key it is


@dataclass(frozen=True)
class World:
    """Public ids of what there is; `order` is delivered and partly refunded, `unpaid` is being paid."""

    platform: Platform
    shop: make.Shop
    callers: tuple[Caller, ...]
    order: str
    unpaid: str
    unpaid_key: str
    line: str
    card_import: str
    approval: str
    alert: str
    change: str
    payout_method: str
    provider_account: str
    coupon: str
    lot: str
    report: str
    exception: str
    endpoint: str
    delivery: str
    app: str
    gone: str
    ended: str
    job: str

    @property
    def merchant(self) -> str:
        """The merchant all of it belongs to."""
        return ids.encode("mer", self.shop.merchant_id)

    @property
    def shop_id(self) -> str:
        """Its shop."""
        return ids.encode("shp", self.shop.shop_id)

    @property
    def product(self) -> str:
        """What the shop sells."""
        return ids.encode("prd", self.shop.product_id)

    @property
    def variant(self) -> str:
        """Its only variant."""
        return ids.encode("var", self.shop.variant_id)

    @property
    def saved(self) -> str:
        """A saved method that there is not."""
        return ids.encode("svm", self.shop.shop_id)


async def _signed_in(email: str) -> Viewer:
    signed = await identity.sign_in(email, PASSWORD, ADDRESS)
    viewer = await identity.viewer(signed.token)
    assert viewer is not None
    return viewer


async def _member(of: make.Shop, role: Role, name: str) -> Caller:
    account_id = await identity.register(f"{name}@example.com", PASSWORD)
    await identity.grant(of.merchant_id, account_id, role)
    return Caller(name, await _signed_in(f"{name}@example.com"))


async def _passkey(account_id: UUID) -> None:
    """A passkey that has been used, and was copied later."""
    await db.execute(
        "INSERT INTO passkey (id, account_id, credential_id, public_key, sign_count, name, is_synced,"
        " last_used_at, cloned_at) VALUES ($1, $2, 'id', 'key', 1, 'phone', true, clock_timestamp(),"
        " clock_timestamp())",
        ids.uuid7(),
        account_id,
    )


async def _buyer() -> Caller:
    """Somebody who has proved to read the address that the orders were placed with."""
    email = "buyer@example.com"
    account_id = await identity.register(email, PASSWORD)
    await db.execute(
        "UPDATE account SET email_verified_at = clock_timestamp() WHERE id = $1", account_id
    )
    signed_in = Caller("buyer_account", await _signed_in(email))
    await _passkey(account_id)
    return signed_in


async def _operator(role: OperatorRole) -> Caller:
    name = f"operator_{role}"
    account_id = await identity.register(f"{name}@example.com", PASSWORD, kind=AccountKind.OPERATOR)
    await identity.grant_operator(account_id, role)
    return Caller(name, await _signed_in(f"{name}@example.com"))


async def _delivered(platform: Platform, of: make.Shop, words: int, **more: Any) -> tuple[str, str]:
    begun = await platform.start(of)
    order_id, access_key = begun["order"]["id"], begun["accessKey"]
    wanted = {"orderId": order_id, "accessKey": access_key, "method": "sandbox", **more}
    paid = await platform.data(_PAY.replace("saving", order_id), {"input": wanted})
    await platform.sandbox.do(_id_of(paid, "pay"), "confirm", account="main")
    await platform.heard(words)
    await platform.work()
    return order_id, access_key


@asynccontextmanager
async def world(folder: Path, monkeypatch: Any) -> AsyncIterator[World]:
    """Needs the fixture `db`."""
    monkeypatch.setattr(rules, "CODE_TRIES_MAX", 1_000)  # everybody asks from one address
    async with running(folder, monkeypatch) as platform:
        # Guests share an address here, and everything is asked within a second: none may run dry.
        platform.door.buckets = LocalBuckets(GENEROUS)
        mine = await make.shop(price=Money(1_050, "USD"), reserve_bps=500)
        foreign = await make.shop(price=Money(2_050, "USD"))
        order, key = await _delivered(platform, mine, 1, saveMethod=True)
        other, other_key = await _delivered(platform, foreign, 2)
        begun = await platform.start(mine, currency="EUR")  # at a locked rate
        await platform.pay(begun["order"]["id"], begun["accessKey"])
        callers = (
            Caller("anonymous"),
            Caller("buyer", access_key=key, order_id=order),
            Caller("other_buyer", access_key=other_key, order_id=other),
            await _buyer(),
            *[await _member(mine, role, role.value) for role in Role],
            await _member(foreign, Role.OWNER, "other_owner"),
            *[await _operator(role) for role in OperatorRole],
        )
        viewers = {caller.name: caller.viewer for caller in callers}
        owner = viewers["owner"]
        assert owner is not None
        by = identity.Actor(owner.account_id)
        await identity.invite(mine.merchant_id, "new@example.com", Role.SUPPORT, locale="en", by=by)
        made = World(
            platform,
            mine,
            callers,
            order=order,
            unpaid=begun["order"]["id"],
            unpaid_key=begun["accessKey"],
            line=await _line(order),
            **await catalogue_of(platform, mine, viewers),
            **await trouble_of(platform, mine, order, key, viewers),
            **await destinations_of(mine, viewers),
            **await alerts_of(mine, viewers),
            **await accounts_of(platform, mine, viewers, monkeypatch),
            **await webhooks_of(mine, monkeypatch),
            **await apps_of(mine, viewers, uuid_of(order)),
            **await jobs_of(mine, owner),
        )
        live.forget()
        hub = asyncio.ensure_future(live.hub().run())
        try:
            yield made
        finally:
            hub.cancel()
            await asyncio.gather(hub, return_exceptions=True)
            live.forget()


async def catalogue_of(
    platform: Platform,
    of: make.Shop,
    viewers: dict[str, Viewer | None],
    cards: Sequence[str] = ("CARD-1", "CARD-2"),
) -> dict[str, str]:
    """A price tier, a reusable link, an import, a coupon; the ids of what was made."""
    await db.execute(
        "INSERT INTO price_tier (merchant_id, variant_id, currency, from_quantity, minor)"
        " VALUES ($1, $2, 'USD', 10, 950)",
        of.merchant_id,
        of.variant_id,
    )
    reusable = await catalogue.add_variant(
        of.merchant_id,
        of.product_id,
        {"en": "Link"},
        Source(Delivery.REUSABLE),
        PriceList([of.price], "USD"),
    )
    text = {"expectedVersion": 1, "content": "https://example.com"}
    link = {"variantId": ids.encode("var", reusable), **text}
    answer = await platform.data(_REUSE, {"input": link}, viewer=viewers["owner"])
    assert "code" not in answer["setReusableContent"], answer
    variant = ids.encode("var", of.variant_id)
    lines = "\n".join([*cards, cards[0]])
    given = {"variantId": variant, "text": lines, "skipBadLines": True}
    imported = await platform.data(_IMPORT, {"input": given}, viewer=viewers["catalogue"])
    tenth = {"code": "TENTH", "kind": "PERCENT", "percentBps": 1_000}
    off = {"merchantId": ids.encode("mer", of.merchant_id), **tenth}
    coupon = await platform.data(_COUPON, {"input": off}, viewer=viewers["owner"])
    lots = await platform.data(_LOTS, {"id": variant}, viewer=viewers["owner"])
    return {
        "card_import": _id_of(imported, "importCards"),
        "coupon": _id_of(coupon, "createCoupon"),
        "lot": lots["stockLots"]["nodes"][0]["id"],
    }


async def apps_of(
    of: make.Shop, viewers: dict[str, Viewer | None], sold: UUID | None = None
) -> dict[str, str]:
    """An app with all that can be said of one and a grant with a limit; an app and a grant that are over."""
    owner = viewers["owner"]
    assert owner is not None
    key = ECKey.generate_key("P-256").as_dict(private=False)
    manifest = Manifest(
        name="Till",
        redirect_uris=("https://till.example/cb",),
        scopes=tuple(Scope),
        grant_types=tuple(GrantType),
        auth_method=AuthMethod.KEY,
        jwks={"keys": [{**key, "kid": "k1"}]},
        requires_par=True,
        dpop_bound=True,
        homepage="https://till.example",
        webhooks=(Webhook("https://till.example/hook", ("order.paid",)),),
        pages=(Page("order", "https://till.example/order"),),
    )
    actor, made = Actor("merchant", "acc_matrix"), []
    for _ in range(2):
        app_id, _, _ = await webhooks.register_app(
            of.merchant_id, manifest, account_id=owner.account_id, actor=actor
        )
        made.append(app_id)
    asked = Asked(
        ("refunds:write",),
        limits=(Limit("refunds:write", Money(5_000, "USD")),),
        expires_at=clock.now() + timedelta(days=30),
    )
    for app in (await partners.apps(made)).values():
        grant_id = await partners.allow_client(
            app,
            asked,
            merchant_id=of.merchant_id,
            account_id=owner.account_id,
            auth_at=clock.now(),
        )
        if app.id == made[0] and sold is not None:
            async with db.transaction():
                await partners.sell([(sold, partners.Seller(app.id, grant_id, of.merchant_id))])
    trusted.install()
    await partners.register_documents(of.merchant_id, made[0], ["{ __typename }"], actor=actor)
    await partners.delete(of.merchant_id, made[1], actor=actor)
    ended = await db.value("SELECT id FROM app_grant WHERE revoked_at IS NOT NULL")
    return {
        "app": ids.encode("app", made[0]),
        "gone": ids.encode("app", made[1]),
        "ended": ids.encode("gnt", ended),
    }


async def trouble_of(
    platform: Platform, of: make.Shop, order: str, key: str, viewers: dict[str, Viewer | None]
) -> dict[str, str]:
    """A refund, a money exception, a payment put in by hand, a dead good; the ids of what waits."""
    refund = {"orderId": order, "amount": {"amount": "1.00", "currency": "USD"}}
    await platform.data(_REFUND, {"input": refund}, viewer=viewers["finance"])
    await platform.work()
    [capture] = await payments.captures_of(uuid_of(order))
    async with db.transaction():
        await settlement.open_exception("refund_failed", capture=capture, facts={"refund": "ref_x"})
    exception_id = await db.value("SELECT id FROM money_exception")
    placed = (await platform.start(of))["order"]["id"]
    asked = {"orderId": placed, "reason": "bank", "evidence": "line 7"}
    proposed = await platform.data(_PROPOSE, {"input": asked}, viewer=viewers["operator_finance"])
    dead = {"orderId": order, "accessKey": key, "lineId": await _line(order), "reason": "dead"}
    await platform.order(order, key)  # opened, so that it may be reported
    reported = await platform.data(_REPORT, {"input": dead})
    return {
        "approval": _id_of(proposed, "proposeManualPayment"),
        "report": _id_of(reported, "reportGood"),
        "exception": ids.encode("exc", exception_id),
    }


def _id_of(answer: dict[str, Any], name: str) -> str:
    assert "id" in answer[name], answer
    return str(answer[name]["id"])


async def webhooks_of(of: make.Shop, monkeypatch: Any) -> dict[str, str]:
    """An endpoint that took the one event it was told of; the ids of both."""
    monkeypatch.delitem(carriers, webhooks.CARRIER, raising=False)
    shaping.install()
    made = ids.uuid7()
    terms = webhooks.checked(Terms("https://hooks.example.com/", note="ERP", selection="{ kind }"))
    actor = catalogue.Actor("merchant", "acc_test")
    async with db.transaction():
        await webhooks.add(of.merchant_id, terms, endpoint_id=made, sees_split=True, actor=actor)
    await make.order(of)
    await horizon.passed()
    while await webhooks.collect():
        pass
    claimed = await webhooks.claim(1, free={}, each=1)
    ready, _ = await webhooks.write(claimed)
    await webhooks.finish([Result(one, Reply(200, text="thanks", took_ms=9)) for one in ready])
    assert len(ready) == 1
    return {"endpoint": ids.encode("whe", made), "delivery": ids.encode("whd", ready[0].id)}


async def _line(order_id: str) -> str:
    order = uuid_of(order_id)
    return ids.encode("lin", (await orders.lines([order]))[order][0].id)
