"""Reads of the shelf: a cart in one statement, and the pages of a shop without N+1."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from domain import fx, merchants
from domain.catalogue.models import ShopProduct, ShopTier, ShopVariant
from domain.catalogue.rules import (
    TITLE_MAX,
    UNLIMITED,
    Cart,
    CartLine,
    Coupon,
    CouponInvalid,
    CouponKind,
    Delivery,
    Tier,
    check_limits,
    check_lines,
    coupon_code,
    fold,
    languages,
    unknown_variants,
)
from domain.core import clock, db
from domain.core.errors import NotFound
from domain.core.money import Money, UnsupportedCurrency
from domain.core.together import Together
from domain.merchants import ShopClosed

SEARCH_MAX = 200
WORDS_MAX = 10

# What can be sold of variant v: its keys, what a reusable key's limit leaves, NULL when it never
# runs out.
_AVAILABLE = """
    CASE v.delivery WHEN 'stock' THEN coalesce((
            SELECT sum(k.available) FROM variant_stock k WHERE k.merchant_id = v.merchant_id
            AND k.variant_id = v.id AND k.expires_at > {now}::timestamptz), 0)
        WHEN 'reusable' THEN (
            SELECT CASE WHEN count(*) = 0 THEN 0 ELSE min(r.use_limit - r.used) END
            FROM reusable_key r WHERE r.merchant_id = v.merchant_id AND r.variant_id = v.id
            AND r.state = 'active')
    END::int AS available"""
# The list entry in the asked currency, else the base entry; the tiers of the same list.
_PRICE = """
CROSS JOIN LATERAL (
    SELECT p.currency, p.minor FROM price p WHERE p.merchant_id = v.merchant_id
        AND p.variant_id = v.id AND (p.currency = {currency}::text OR p.is_base)
    ORDER BY p.currency <> {currency}::text LIMIT 1) AS price
CROSS JOIN LATERAL (
    SELECT array_agg(t.from_quantity ORDER BY t.from_quantity) AS from_quantities,
        array_agg(t.minor ORDER BY t.from_quantity) AS minors
    FROM price_tier t WHERE t.merchant_id = v.merchant_id AND t.variant_id = v.id
        AND t.currency = price.currency) AS tier"""
_TITLE = """
    (SELECT w.title FROM variant_text w
     WHERE w.merchant_id = v.merchant_id AND w.variant_id = v.id
     ORDER BY array_position({languages}::text[], w.language::text), w.language LIMIT 1) AS title"""

_CART = f"""
SELECT v.id, v.product_id, v.delivery, v.min_quantity, v.max_quantity, v.region,
    price.currency, price.minor, tier.from_quantities, tier.minors,
    {_AVAILABLE.format(now="$7")}, {_TITLE.format(languages="$5")},
    (SELECT w.title FROM product_text w
     WHERE w.merchant_id = p.merchant_id AND w.product_id = p.id
     ORDER BY array_position($5::text[], w.language::text), w.language LIMIT 1) AS product_title,
    c.id AS coupon_id, c.code, c.kind, c.percent_bps, c.product_ids,
    amount.currency AS coupon_currency, amount.minor AS coupon_minor, amount.min_total_minor
FROM unnest($3::uuid[]) AS asked(id)
JOIN variant v ON v.merchant_id = $1 AND v.id = asked.id AND v.state = 'active'
JOIN product p ON p.merchant_id = $1 AND p.id = v.product_id AND p.shop_id = $2
    AND p.state = 'active'
{_PRICE.format(currency="$4")}
LEFT JOIN coupon c ON c.merchant_id = $1 AND c.code = $6 AND c.state = 'active'
    AND (c.shop_id IS NULL OR c.shop_id = $2) AND c.starts_at <= $7 AND c.expires_at > $7
    AND (c.use_limit IS NULL OR c.used < c.use_limit)
LEFT JOIN LATERAL (
    SELECT a.currency, a.minor, a.min_total_minor FROM coupon_amount a
    WHERE a.merchant_id = c.merchant_id AND a.coupon_id = c.id
        AND (a.currency = $4::text OR a.is_base)
    ORDER BY a.currency <> $4::text LIMIT 1) AS amount ON true
"""


async def cart(
    shop_handle: str,
    lines: Sequence[tuple[UUID, int]],
    *,
    currency: str,
    language: str,
    coupon: str | None = None,
    shown: Sequence[Money | None] = (),
) -> Cart:
    """What these (variant, quantity) lines are in this shop now: one statement beside the shop's
    own.

    Prices are in `currency` where the list has an entry, else in the variant's base currency:
    convert them through `price`, which refuses what differs from the unit prices `shown` (one per
    line, or none at all). Stock is looked at, not taken. Errors: NotFound (shop),
    ShopClosed, InputInvalid with a path per line, OutOfStock, CouponInvalid.
    """
    check_lines(lines)
    shop = await merchants.shop_by_handle(shop_handle)
    if shop is None:
        raise NotFound(path=("input", "shop"))
    if not shop.is_open:
        raise ShopClosed(path=("input", "shop"))
    code = coupon_code(coupon) if coupon and coupon.strip() else None
    at = _Place(shop.merchant_id, shop.id, currency, tuple(languages(language, shop.locale)), code)
    rows = await _look((at, tuple(variant_id for variant_id, _ in lines)))
    missing = [place for place, row in enumerate(rows) if row is None]
    if missing:
        raise unknown_variants(missing)
    found = [row for row in rows if row is not None]
    if code is not None and found[0]["coupon_id"] is None:
        raise CouponInvalid(path=("input", "coupon"), reason="unknown")
    cart_lines = tuple(
        _cart_line(row, quantity, unit)
        for row, (_, quantity), unit in zip(found, lines, shown or [None] * len(found), strict=True)
    )
    check_limits(cart_lines)
    return Cart(shop.id, shop.merchant_id, currency, cart_lines, _coupon(found[0]))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a cart stands: who stands at the same place looks at the shelf together."""

    merchant_id: UUID
    shop_id: UUID
    currency: str
    languages: tuple[str, ...]
    coupon: str | None


async def _look_set(
    asks: Sequence[tuple[_Place, tuple[UUID, ...]]],
) -> list[list[db.Record | None]]:
    """Per cart its variants' rows, in its order, None for one that is not on sale: a statement per place."""
    wanted: dict[_Place, dict[UUID, None]] = {}
    for at, variant_ids in asks:
        wanted.setdefault(at, {}).update(dict.fromkeys(variant_ids))
    found: dict[_Place, dict[UUID, db.Record]] = {}
    for at, ids in wanted.items():
        rows = await db.fetch(
            _CART,
            at.merchant_id,
            at.shop_id,
            list(ids),
            at.currency,
            list(at.languages),
            at.coupon,
            clock.now(),
        )
        found[at] = {row["id"]: row for row in rows}
    return [[found[at].get(one) for one in variant_ids] for at, variant_ids in asks]


_look = Together("catalogue.cart", _look_set)


def _cart_line(row: Any, quantity: int, shown: Money | None) -> CartLine:
    words = [row["product_title"], row["title"]]
    return CartLine(
        variant_id=row["id"],
        product_id=row["product_id"],
        title=" · ".join(one for one in words if one)[:TITLE_MAX],
        quantity=quantity,
        unit=Money(row["minor"], row["currency"]),
        tiers=tuple(
            Tier(from_quantity, Money(minor, row["currency"]))
            for from_quantity, minor in _pairs(row)
        ),
        available=row["available"],
        delivery=Delivery(row["delivery"]),
        min_quantity=row["min_quantity"],
        max_quantity=row["max_quantity"],
        region=row["region"],
        shown=shown,
    )


def _pairs(row: Any) -> list[tuple[int, int]]:
    return list(zip(row["from_quantities"] or (), row["minors"] or (), strict=True))


def _coupon(row: Any) -> Coupon | None:
    if row["coupon_id"] is None:
        return None
    kind, currency = CouponKind(row["kind"]), row["coupon_currency"]
    least = row["min_total_minor"]
    return Coupon(
        id=row["coupon_id"],
        code=row["code"],
        kind=kind,
        percent_bps=row["percent_bps"] or 0,
        amount=Money(row["coupon_minor"], currency) if kind is CouponKind.FIXED else None,
        min_total=Money(least, currency) if least else None,
        product_ids=frozenset(row["product_ids"]),
    )


_PRODUCT = """
SELECT p.id, p.merchant_id, p.shop_id, p.position, w.title, w.description FROM product p
CROSS JOIN LATERAL (
    SELECT w.title, w.description FROM product_text w
    WHERE w.merchant_id = p.merchant_id AND w.product_id = p.id
    ORDER BY array_position({languages}::text[], w.language::text), w.language LIMIT 1) AS w
"""
# Every word is in one language's title or description; position() knows no wildcards to escape.
_MATCHES = """
EXISTS (SELECT FROM product_text t WHERE t.merchant_id = p.merchant_id AND t.product_id = p.id
    AND NOT EXISTS (SELECT FROM unnest({words}::text[]) AS word WHERE position(word IN t.search) =
    0))
"""
_SHELF = "p.merchant_id = $1 AND p.shop_id = $2 AND p.state = 'active' AND " + _MATCHES.format(
    words="$3"
)


def search_words(search: str | None) -> list[str]:
    """The words a search looks for, folded; at most ten."""
    text = (search or "")[:SEARCH_MAX].encode("utf-8", "ignore").decode().replace("\0", " ")
    return fold(text).split()[:WORDS_MAX]


async def products(
    merchant_id: UUID,
    shop_id: UUID,
    *,
    language: str,
    search: str | None = None,
    beyond: tuple[int, UUID] | None = None,
    limit: int,
    backward: bool = False,
) -> list[ShopProduct]:
    """A stretch of a shop's products in shelf order from `beyond` (position, id) on, or back from
    it."""
    order, sign = ("DESC", "<") if backward else ("ASC", ">")
    rows: list[Any] = await db.fetch(
        f"{_PRODUCT.format(languages='$4')} WHERE {_SHELF}"
        f" AND ($5::int IS NULL OR (p.position, p.id) {sign} ($5, $6::uuid))"
        f" ORDER BY p.position {order}, p.id {order} LIMIT $7",
        merchant_id,
        shop_id,
        search_words(search),
        languages(language),
        *(beyond or (None, None)),
        limit,
    )
    return [ShopProduct(*row) for row in rows]


async def count_products(merchant_id: UUID, shop_id: UUID, search: str | None = None) -> int:
    """How many products `products` would go through."""
    return int(
        await db.value(
            f"SELECT count(*) FROM product p WHERE {_SHELF}",
            merchant_id,
            shop_id,
            search_words(search),
        )
    )


async def products_by_id(product_ids: Sequence[UUID], language: str) -> dict[UUID, ShopProduct]:
    """Products on sale, by id; hidden, archived and unknown ones are left out."""
    rows: list[Any] = await db.fetch(
        f"{_PRODUCT.format(languages='$2')} WHERE p.id = ANY($1) AND p.state = 'active'",
        list(product_ids),
        languages(language),
    )
    return {row["id"]: ShopProduct(*row) for row in rows}


_VARIANTS = f"""
SELECT v.id, v.product_id, v.merchant_id, v.delivery, v.min_quantity, v.max_quantity,
    price.currency, price.minor, tier.from_quantities, tier.minors,
    {_AVAILABLE.format(now="$4")}, {_TITLE.format(languages="$3")}
FROM variant v {_PRICE.format(currency="$2")}
WHERE v.state = 'active' AND {{which}} ORDER BY v.position, v.id
"""
_VARIANTS_OF = _VARIANTS.format(which="v.product_id = ANY($1) AND v.merchant_id = ANY($5)")
_VARIANTS_BY_ID = _VARIANTS.format(which="v.id = ANY($1)")


async def variants_of(
    products: Sequence[tuple[UUID, UUID]], *, currency: str, language: str
) -> dict[UUID, list[ShopVariant]]:
    """The variants on sale of many (merchant id, product id), in shelf order: one statement.

    Prices are in `currency`: the list's, else converted from the base as a checkout would now. Without a
    rate they stay in the base currency.
    """
    rows: list[Any] = await db.fetch(
        _VARIANTS_OF,
        [product_id for _, product_id in products],
        currency,
        languages(language),
        clock.now(),
        list({merchant_id for merchant_id, _ in products}),
    )
    found: dict[UUID, list[ShopVariant]] = {product_id: [] for _, product_id in products}
    for one in await _local([_variant(row) for row in rows], currency):
        found[one.product_id].append(one)
    return found


async def variants_by_id(
    variant_ids: Sequence[UUID], *, currency: str, language: str
) -> dict[UUID, ShopVariant]:
    """Variants on sale by id, whatever shop they are of; prices as in `variants_of`."""
    rows: list[Any] = await db.fetch(
        _VARIANTS_BY_ID,
        list(variant_ids),
        currency,
        languages(language),
        clock.now(),
    )
    return {one.id: one for one in await _local([_variant(row) for row in rows], currency)}


async def _local(variants: list[ShopVariant], currency: str) -> list[ShopVariant]:
    """The same with prices in `currency`, by one rate per base currency."""
    terms: dict[str, fx.Terms] = {}
    for base in {one.price.currency for one in variants} - {currency}:
        with contextlib.suppress(fx.RateUnavailable, UnsupportedCurrency):
            terms[base] = await fx.offer(base, currency)

    def local(amount: Money) -> Money:
        found = terms.get(amount.currency)
        return amount if found is None else Money(found.price(amount.minor), currency)

    if not terms:
        return variants
    return [
        replace(
            one,
            price=local(one.price),
            tiers=tuple(replace(tier, price=local(tier.price)) for tier in one.tiers),
        )
        for one in variants
    ]


def _variant(row: Any) -> ShopVariant:
    return ShopVariant(
        id=row["id"],
        product_id=row["product_id"],
        merchant_id=row["merchant_id"],
        title=row["title"] or "",
        price=Money(row["minor"], row["currency"]),
        tiers=tuple(
            ShopTier(from_quantity, Money(minor, row["currency"]))
            for from_quantity, minor in _pairs(row)
        ),
        available=UNLIMITED if row["available"] is None else max(0, row["available"]),
        delivery=row["delivery"],
        min_quantity=row["min_quantity"],
        max_quantity=row["max_quantity"],
    )


async def owner_of(variant_id: UUID) -> UUID | None:
    """The merchant whose variant this is; None when there is none."""
    found: UUID | None = await db.value("SELECT merchant_id FROM variant WHERE id = $1", variant_id)
    return found
