"""The demo shops of a fresh machine: merchants, terms, products, coupons, card keys and logins.

Everything is made in one transaction or found as it is, so it may run at every start and from
several places at once. There is none of it in production: no login exists by default (CASES H44).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from domain import catalogue, identity, merchants
from domain.catalogue import (
    CouponKind,
    CouponTerms,
    Delivery,
    Limits,
    PriceList,
    Source,
    Text,
    Tier,
)
from domain.core import db
from domain.core.money import Money
from domain.core.settings import SettingsWrong, settings
from domain.identity import AccountKind, OperatorRole, Role
from domain.merchants import FeeTerms, ReserveKind, Speed
from server import demo_goods, demo_logins
from server.demo_goods import DemoProduct, DemoVariant

COMMISSION_BPS = 600
OPERATOR = "operator@demo.test"
_LOCK = 0x64656D6F  # "demo"
_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # nothing that looks like something else
_ACTOR = catalogue.Actor("system", "seed")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DemoShop:
    """A merchant with one shop. `reserve_bps` of each sale is kept back for 30 days."""

    handle: str
    merchant: str
    names: dict[str, str]
    owner: str
    base_ccy: str
    country: str
    zone: str
    speed: Speed
    reserve_bps: int
    products: Sequence[DemoProduct]


SHOPS = (
    DemoShop(
        "demo",
        "Lantern Digital Goods",
        {"en": "Lantern", "zh": "灯笼小店", "ja": "ランタン", "es": "Lantern"},
        "merchant@demo.test",
        "USD",
        "SG",
        "Asia/Singapore",
        Speed.T0,
        500,
        demo_goods.DEMO,
    ),
    DemoShop(
        "demo-t1",
        "Moon Garden Studio",
        {"en": "Moon Garden", "zh": "月光花园", "ja": "月の庭", "es": "Jardín lunar"},
        "merchant-t1@demo.test",
        "EUR",
        "ES",
        "Europe/Madrid",
        Speed.T1,
        0,
        demo_goods.DEMO_T1,
    ),
)


async def demo() -> dict[str, str]:
    """Make what is missing of the demo; e-mail → password of the logins made now.

    Idempotent. A login whose password this data folder does not know gets a new one, so that what
    is printed at start always works; they are kept there (0600). Errors: SettingsWrong in
    production.
    """
    if not settings().in_development:
        raise SettingsWrong(["The demo shop is not made in production: its logins are known."])
    logins: dict[str, str] = {}
    async with db.transaction():
        await db.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        known = demo_logins.read(settings().data_dir)
        operator = await _account(OPERATOR, AccountKind.OPERATOR, known, logins)
        await identity.grant_operator(operator, *OperatorRole)
        for shop in SHOPS:
            owner = await _account(shop.owner, AccountKind.PERSON, known, logins)
            if await merchants.shop_by_handle(shop.handle) is None:
                await _open(shop, owner)
        # Before the commit: whoever waits for the lock must find the passwords of these accounts.
        demo_logins.keep(settings().data_dir, logins)
    return logins


async def _account(
    email: str, kind: AccountKind, known: dict[str, str], logins: dict[str, str]
) -> UUID:
    account = await identity.account_by_email(email)
    if account is not None and email in known:
        return account.id
    logins[email] = secrets.token_urlsafe(12)
    if account is None:
        return await identity.register(email, logins[email], kind=kind)
    await identity.set_password(account.id, logins[email])
    return account.id


async def _open(shop: DemoShop, owner: UUID) -> None:
    merchant_id = await merchants.open_merchant(
        shop.merchant,
        base_ccy=shop.base_ccy,
        country=shop.country,
        contact_email=shop.owner,
        zone=shop.zone,
    )
    await identity.grant(merchant_id, owner, Role.OWNER)
    await _agree(merchant_id, shop)
    shop_id = await merchants.open_shop(merchant_id, shop.handle, shop.names)
    keys = 0
    for position, product in enumerate(shop.products):
        keys += await _add(merchant_id, shop_id, product, position)
    await _issue_coupons(merchant_id)
    _log.info("demo.made", shop=shop.handle, products=len(shop.products), keys=keys)


async def _agree(merchant_id: UUID, shop: DemoShop) -> None:
    """The worked sale of MONEY: 6 % commission for everyone, a reserve for the first merchant."""
    plans = await merchants.plans([merchant_id])
    if plans[merchant_id].schedule(shop.base_ccy) is None:
        await merchants.set_fee(FeeTerms(COMMISSION_BPS))
    await merchants.set_settlement(
        merchant_id, shop.speed, days=0 if shop.speed is Speed.T0 else 1, zone=shop.zone
    )
    if shop.reserve_bps:
        await merchants.set_reserve(
            merchant_id,
            ReserveKind.ROLLING,
            pct_bps=shop.reserve_bps,
            days=30,
            reason="new merchant",
        )


async def _add(merchant_id: UUID, shop_id: UUID, product: DemoProduct, position: int) -> int:
    """Put a product with its variants and keys on the shelf; how many keys."""
    texts = {
        language: Text(title, product.descriptions[language])
        for language, title in product.titles.items()
    }
    product_id = await catalogue.add_product(merchant_id, shop_id, texts, position=position)
    keys = 0
    for place, variant in enumerate(product.variants):
        variant_id = await catalogue.add_variant(
            merchant_id,
            product_id,
            variant.titles,
            Source(variant.delivery),
            price_list(variant),
            limits=Limits(max_quantity=variant.max_quantity, low_stock_at=variant.low_stock_at),
            position=place,
        )
        if variant.delivery is Delivery.REUSABLE:
            await catalogue.set_reusable(merchant_id, variant_id, variant.content)
        if variant.keys:
            codes = "\n".join(_code(variant.prefix) for _ in range(variant.keys))
            report = await catalogue.import_cards(merchant_id, variant_id, codes, actor=_ACTOR)
            keys += report.added
    return keys


def price_list(variant: DemoVariant) -> PriceList:
    """The prices of a variant and its wholesale tiers, rounded down to full ten minor units."""
    parts = variant.prices.split()
    prices = [
        Money.parse(amount, currency)
        for currency, amount in zip(parts[::2], parts[1::2], strict=True)
    ]
    tiers = [
        Tier(quantity, Money(price.minor * (100 - percent) // 1_000 * 10, price.currency))
        for quantity, percent in (variant.tiers or {}).items()
        for price in prices
    ]
    return PriceList(prices, prices[0].currency, tiers)


def _code(prefix: str) -> str:
    """A card key as printed on cards, with 80 random bits: `STAR-7K2M-…`."""
    drawn = "".join(secrets.choice(_ALPHABET) for _ in range(16))
    return "-".join([prefix, *(drawn[at : at + 4] for at in range(0, 16, 4))])


async def _issue_coupons(merchant_id: UUID) -> None:
    """A percentage for everyone, a fixed amount above a total, and one that is soon used up."""
    off = [Money.parse(amount, ccy) for ccy, amount in _FIVE_OFF.items()]
    least = [Money(amount.minor * 6, amount.currency) for amount in off]
    await catalogue.add_coupon(
        merchant_id, CouponTerms("WELCOME10", CouponKind.PERCENT, percent_bps=1_000)
    )
    await catalogue.add_coupon(
        merchant_id, CouponTerms("SAVE5", CouponKind.FIXED, amounts=off, min_totals=least)
    )
    await catalogue.add_coupon(
        merchant_id, CouponTerms("FIRST3", CouponKind.PERCENT, percent_bps=2_000, use_limit=3)
    )


_FIVE_OFF = {
    "USD": "5.00",
    "CNY": "35.00",
    "EUR": "4.50",
    "HKD": "39.00",
    "SGD": "6.50",
    "JPY": "750",
}
