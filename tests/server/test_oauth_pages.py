"""What people read before they decide: who may do what, in which shop, how much, until when; in their language."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import orjson
import pyotp
import pytest

from domain import identity, merchants, webhooks
from domain.core import clock, ids
from domain.core import db as core
from domain.core.audit import Actor
from domain.core.settings import settings
from domain.identity import Role
from domain.partners import Webhook
from server.graphql import shaping
from tests import make
from tests.server.oauth_client import (
    FAPI,
    PASSWORD,
    PUBLIC,
    SECRET,
    Browser,
    Partner,
    person,
    registered,
)
from tests.server.test_oauth_tokens import tokens

YEAR = 365


def details(by: Browser, **more: Any) -> str:
    one = {"type": "kami_merchant", "merchant": ids.encode("mer", by.merchant_id), **more}
    return orjson.dumps([one]).decode()


async def test_the_page_says_what_where_how_much_and_until_when(db: None) -> None:
    shop = await make.shop(keys=1)
    by = await person(shop)
    app = await registered(by, FAPI)
    until = (clock.now() + timedelta(days=YEAR)).replace(microsecond=0)
    asked = details(
        by,
        actions=["refunds:write", "orders:read"],
        limits=[{"scope": "refunds:write", "amount": "1500.00", "currency": "USD"}],
        expires_at=until.isoformat(),
    )

    given = await app.pushed(authorization_details=asked)
    page = await by.open(given)
    name = (await merchants.merchants([shop.merchant_id]))[shop.merchant_id].name
    back = await by.submit(page, word="yes", merchant=ids.encode("mer", by.merchant_id))
    told = (await app.of_code(back.query["code"])).json

    assert "Allow Books?" in page.text
    assert "<li>Refund orders</li>" in page.text
    assert "<li>Read orders with" in page.text
    assert "Refund orders: in all at most $1,500.00." in page.text
    assert "This holds until" in page.text
    assert str(until.year) in page.text
    assert f"It acts in the name of {by.email}" in page.text
    assert name in page.text
    assert "Read balances" not in page.text
    (one,) = told["authorization_details"]
    assert one["actions"] == ["orders:read", "refunds:write"]
    assert one["limits"] == [{"scope": "refunds:write", "amount": "1500.00", "currency": "USD"}]
    assert one["expires_at"] == until.isoformat().replace("+00:00", "Z")
    stored = await core.row("SELECT ccy, max_minor, used_minor FROM app_limit")
    assert stored is not None
    assert tuple(stored) == ("USD", 150_000, 0)


async def test_the_page_says_who_is_told_and_what_a_till_may_see(db: None) -> None:
    shaping.install()
    by = await person(await make.shop(keys=1))
    manifest = replace(
        PUBLIC,
        scopes=("catalogue:read", "checkout:write", "orders:read"),
        webhooks=(Webhook("https://till.example/hook"), Webhook("https://log.example/hook")),
    )
    app_id, _, _ = await webhooks.register_app(
        by.merchant_id, manifest, account_id=by.account_id, actor=Actor("merchant", "acc_test")
    )
    app = Partner(app_id, ids.encode("app", app_id), manifest)

    orders = await by.open(app.asking(scope="orders:read"))
    till = await by.open(app.asking(scope="checkout:write"))

    told = "told of everything that happens to orders, at log.example, till.example."
    assert told in orders.text
    assert "told of everything" not in till.text
    assert "of orders it placed itself it sees what the buyer sees, the goods too" in till.text


@pytest.mark.parametrize(
    ("language", "title", "scope"),
    [
        ("zh-CN", "允许 Till 吗？", "读取商品、价格、优惠券和库存数量"),
        ("ja", "Till を許可しますか？", "商品・価格・クーポン・在庫数を読む"),
        ("es-MX", "¿Permitir Till?", "Leer productos, precios, cupones y existencias"),
        ("xx", "Allow Till?", "Read products, prices, coupons and stock counts"),
    ],
)
async def test_it_says_so_in_the_readers_language(
    db: None, language: str, title: str, scope: str
) -> None:
    by = replace(await person(await make.shop(keys=1)), language=language)
    app = await registered(by, PUBLIC)

    page = await by.open(app.asking())

    assert title in page.text
    assert scope in page.text
    assert "oauth." not in page.text.partition("</style>")[2].replace("/oauth/", "")


async def test_a_person_with_two_merchants_chooses_unless_the_app_named_one(db: None) -> None:
    mine, other = await make.shop(keys=1), await make.shop(keys=1)
    by = await person(mine)
    await identity.grant(other.merchant_id, by.account_id, Role.OWNER)
    app = await registered(by, PUBLIC)
    foreign = ids.encode("mer", other.merchant_id)

    choice = await by.open(app.asking())
    named = await by.open(app.asking(authorization_details=details(by)))
    forged = await by.submit(named, word="yes", merchant=foreign)

    assert choice.text.count('type="radio"') == 2
    assert "checked" not in choice.text
    assert named.text.count('type="radio"') == 1
    assert forged.status == 400
    assert await core.value("SELECT count(*) FROM app_grant") == 0


async def test_who_belongs_to_no_such_merchant_can_allow_nothing(db: None) -> None:
    mine, other = await make.shop(keys=1), await make.shop(keys=1)
    by, stranger = await person(mine), await person(other)
    app = await registered(by, PUBLIC)

    page = await stranger.open(app.asking(authorization_details=details(by)))

    assert page.status == 403
    assert 'name="word"' not in page.text


async def test_a_wrong_password_says_so_and_opens_nothing(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, PUBLIC)
    led = await by.get(_asking(app.asking()))
    page = await by.get(led.headers["location"])

    wrong = await by.submit(page, email=by.email, password="not the password")
    elsewhere = await by.submit(page, origin="null", email=by.email, password=PASSWORD)

    assert wrong.status == 400
    assert "The e-mail address or the password is wrong." in wrong.text
    assert elsewhere.status == 403
    assert by.cookie is None
    assert await core.value("SELECT count(*) FROM session") == 0


async def test_where_a_sign_in_leads_cannot_be_changed(db: None) -> None:
    by = await person(await make.shop(keys=1))
    page = await by.get("/oauth/device")

    forged = await by.submit(page, to="https://evil.test/", email=by.email, password=PASSWORD)

    assert (forged.status, "location" in forged.headers) == (400, False)
    assert await core.value("SELECT count(*) FROM session") == 0


async def test_h21_an_app_may_want_a_fresh_sign_in(db: None) -> None:
    """RFC 9470, RFC 9396: `max_age` asks again when the session is older."""
    by = await person(await make.shop(keys=1))
    app = await registered(by, SECRET)
    await by.arrive("/oauth/device")
    fresh = await by.get((await by.get(_asking(app.asking(max_age="60")))).headers["location"])
    await core.execute("UPDATE session SET auth_at = auth_at - interval '61 seconds'")

    stale = await by.get((await by.get(_asking(app.asking(max_age="60")))).headers["location"])
    told = await tokens(by, app, max_age="60")
    seen = (await app.call("/oauth/introspect", {"token": told["access_token"]})).json

    assert 'name="word"' in fresh.text
    assert 'name="password"' in stale.text
    assert clock.now().timestamp() - seen["auth_time"] < 60


def _asking(given: dict[str, str]) -> str:
    return f"/oauth/authorize?{urlencode(given)}"


async def enrolled(by: Browser) -> pyotp.TOTP:
    """A second factor of the person."""
    begun = await identity.mfa.enrol(by.account_id, PASSWORD)
    opened = await identity.sign_in(by.email, PASSWORD, "203.0.113.9")
    app = pyotp.TOTP(begun.secret)
    me = identity.mfa.By(by.account_id, opened.session_id)
    await identity.mfa.confirm(me, app.now())
    await core.execute("UPDATE mfa SET last_timecode = last_timecode - 5")
    by.cookie = opened.token
    return app


async def test_a_second_factor_is_asked_for_and_goes_with_the_grant(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, FAPI)
    codes = await enrolled(by)
    by.cookie = None
    led = await by.get(_asking(await app.pushed(scope="refunds:write")))
    page = await by.get(led.headers["location"])

    half = await by.submit(page, email=by.email, password=PASSWORD)
    wrong = await by.submit(half, code="000000")
    assert by.cookie is None
    led = await by.submit(half, code=codes.now())
    consent = await by.get(led.headers["location"])
    back = await by.submit(consent, word="yes", merchant=ids.encode("mer", by.merchant_id))
    told = (await app.of_code(back.query["code"])).json
    seen = (await app.call("/oauth/introspect", {"token": told["access_token"]})).json

    assert 'name="code"' in half.text
    assert (wrong.status, 'role="alert"' in wrong.text) == (400, True)
    assert led.status == 303
    assert seen["acr"] == "mfa"


async def test_money_takes_a_fresh_factor_and_reading_orders_does_not(db: None) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, FAPI)
    await enrolled(by)
    await core.execute("UPDATE session SET auth_at = auth_at - interval '16 minutes'")

    asked = [await app.pushed(scope=scope) for scope in ("orders:read", "refunds:write")]
    orders, refunds = [
        await by.get((await by.get(_asking(one))).headers["location"]) for one in asked
    ]

    assert 'name="word"' in orders.text
    assert 'name="password"' in refunds.text
    assert 'name="word"' not in refunds.text


async def test_who_has_no_factor_allows_no_money_where_one_is_demanded(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, FAPI)
    monkeypatch.setenv("KAMI_MFA_REQUIRED", "true")
    settings.cache_clear()

    page = await by.open(await app.pushed(scope="refunds:write"))

    assert page.status == 403
    assert "takes a second factor" in page.text
    assert await core.value("SELECT count(*) FROM app_grant") == 0


@pytest.mark.parametrize("acr", ["gold", "urn:x"])
async def test_a_level_we_do_not_know_is_said_to_be_unmet(db: None, acr: str) -> None:
    by = await person(await make.shop(keys=1))
    app = await registered(by, PUBLIC)

    back = await by.get(_asking(app.asking(acr_values=acr)))

    assert back.query["error"] == "unmet_authentication_requirements"
