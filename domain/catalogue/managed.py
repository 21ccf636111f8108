"""The shelf as the people see it who run it: everything there is, in all languages and currencies, without N+1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.catalogue.models import ShelfState, ShopTier
from domain.core import db
from domain.core.money import Money


@dataclass(frozen=True, slots=True)
class Wording:
    """The words of something in one language; a variant has no description."""

    language: str
    title: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class ListPrice:
    """One entry of a price list; the base is converted for currencies without an entry."""

    price: Money
    is_base: bool


@dataclass(frozen=True, slots=True)
class ReusableStock:
    """How often a reusable key may be and was sold; None limits nothing."""

    use_limit: int | None
    used: int


@dataclass(frozen=True, slots=True)
class ManagedProduct:
    """A product with all its words."""

    id: UUID
    merchant_id: UUID
    shop_id: UUID
    state: str
    position: int
    version: int
    created_at: datetime
    texts: tuple[Wording, ...]


@dataclass(frozen=True, slots=True)
class ManagedVariant:
    """A variant with its whole price list."""

    id: UUID
    merchant_id: UUID
    product_id: UUID
    state: str
    delivery: str
    supplier: str | None
    supplier_sku: str | None
    region: str | None
    min_quantity: int
    max_quantity: int
    low_stock_at: int | None
    is_low: bool
    position: int
    version: int
    created_at: datetime
    titles: tuple[Wording, ...]
    prices: tuple[ListPrice, ...]
    tiers: tuple[ShopTier, ...]
    reusable: ReusableStock | None


_PRODUCTS = """
SELECT p.id, p.merchant_id, p.shop_id, p.state, p.position, p.version, p.created_at, (
    SELECT json_agg(json_build_array(w.language, w.title, w.description) ORDER BY w.language)
    FROM product_text w WHERE w.merchant_id = p.merchant_id AND w.product_id = p.id) AS texts
FROM product p WHERE
"""


def _product(row: Any) -> ManagedProduct:
    texts = tuple(Wording(*one) for one in row["texts"] or ())
    return ManagedProduct(**{**row, "texts": texts})


_FILTER = (
    "p.merchant_id = $1 AND ($2::uuid IS NULL OR p.shop_id = $2) AND"
    " ($3::text IS NULL OR p.state = $3)"
)


async def managed_products(
    merchant_id: UUID,
    *,
    shop_id: UUID | None = None,
    state: ShelfState | None = None,
    beyond: UUID | None = None,
    limit: int,
    backward: bool = False,
) -> list[ManagedProduct]:
    """A stretch of a merchant's products, newest first, from the id `beyond` on, or back from it."""
    order, sign = ("ASC", ">") if backward else ("DESC", "<")
    rows = await db.fetch(
        f"{_PRODUCTS} {_FILTER} AND ($4::uuid IS NULL OR p.id {sign} $4)"
        f" ORDER BY p.id {order} LIMIT $5",
        merchant_id,
        shop_id,
        state and state.value,
        beyond,
        limit,
    )
    return [_product(row) for row in rows]


async def count_managed_products(
    merchant_id: UUID, *, shop_id: UUID | None = None, state: ShelfState | None = None
) -> int:
    """How many products `managed_products` would go through."""
    sql = f"SELECT count(*) FROM product p WHERE {_FILTER}"
    return int(await db.value(sql, merchant_id, shop_id, state and state.value))


async def managed_products_by_id(product_ids: Sequence[UUID]) -> dict[UUID, ManagedProduct]:
    """Products of whatever merchant and state by id; unknown ones are left out."""
    rows = await db.fetch(f"{_PRODUCTS} p.id = ANY($1)", list(product_ids))
    return {row["id"]: _product(row) for row in rows}


_VARIANTS = """
SELECT v.id, v.merchant_id, v.product_id, v.state, v.delivery, v.supplier, v.supplier_sku, v.region,
    v.min_quantity, v.max_quantity, v.low_stock_at, v.is_low, v.position, v.version, v.created_at, (
    SELECT json_agg(json_build_array(w.language, w.title) ORDER BY w.language)
    FROM variant_text w WHERE w.merchant_id = v.merchant_id AND w.variant_id = v.id) AS titles, (
    SELECT json_agg(json_build_array(p.minor, p.currency, p.is_base)
        ORDER BY NOT p.is_base, p.currency)
    FROM price p WHERE p.merchant_id = v.merchant_id AND p.variant_id = v.id) AS prices, (
    SELECT json_agg(json_build_array(t.from_quantity, t.minor, t.currency)
        ORDER BY t.currency, t.from_quantity)
    FROM price_tier t WHERE t.merchant_id = v.merchant_id AND t.variant_id = v.id) AS tiers, (
    SELECT json_build_array(r.use_limit, r.used) FROM reusable_key r
    WHERE r.merchant_id = v.merchant_id AND r.variant_id = v.id AND r.state = 'active') AS reusable
FROM variant v WHERE
"""


def _variant(row: Any) -> ManagedVariant:
    read = {
        "titles": tuple(Wording(*one) for one in row["titles"] or ()),
        "prices": tuple(
            ListPrice(Money(minor, currency), is_base)
            for minor, currency, is_base in row["prices"] or ()
        ),
        "tiers": tuple(
            ShopTier(from_quantity, Money(minor, currency))
            for from_quantity, minor, currency in row["tiers"] or ()
        ),
        "reusable": ReusableStock(*row["reusable"]) if row["reusable"] else None,
    }
    return ManagedVariant(**{**row, **read})


async def managed_variants(
    products: Sequence[tuple[UUID, UUID]],
) -> dict[UUID, list[ManagedVariant]]:
    """All variants of many (merchant id, product id), in shelf order: one statement."""
    rows = await db.fetch(
        f"{_VARIANTS} v.merchant_id = ANY($1) AND v.product_id = ANY($2) ORDER BY v.position, v.id",
        list({merchant_id for merchant_id, _ in products}),
        [product_id for _, product_id in products],
    )
    found: dict[UUID, list[ManagedVariant]] = {product_id: [] for _, product_id in products}
    for row in rows:
        found[row["product_id"]].append(_variant(row))
    return found


async def managed_variants_by_id(variant_ids: Sequence[UUID]) -> dict[UUID, ManagedVariant]:
    """Variants of whatever merchant and state by id; unknown ones are left out."""
    rows = await db.fetch(f"{_VARIANTS} v.id = ANY($1)", list(variant_ids))
    return {row["id"]: _variant(row) for row in rows}
