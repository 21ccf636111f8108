"""Writes of the shelf: products, variants, their words, prices and wholesale tiers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from tortoise.expressions import F

from domain.catalogue.models import Product, ShelfState, Text, Variant
from domain.catalogue.rules import QUANTITY_MAX, Delivery, Tier, fold
from domain.core import db, ids
from domain.core.errors import Conflict, DomainError, FieldInvalid, InputInvalid, NotFound
from domain.core.money import MINOR_MAX, Money, exponent

TITLE_MAX, DESCRIPTION_MAX = 200, 20_000
PRICES_MAX, TIERS_MAX = 60, 200
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PriceList:
    """What a variant costs: at most one price per currency, `base` names the one that is
    converted for the others, tiers in listed currencies only."""

    prices: Sequence[Money]
    base: str
    tiers: Sequence[Tier] = ()

    def check(self) -> None:
        """Errors: InputInvalid."""
        faults: list[DomainError] = []
        listed = [price.currency for price in self.prices]
        if not 1 <= len(listed) <= PRICES_MAX or len(set(listed)) != len(listed):
            faults.append(FieldInvalid(path=("input", "prices"), reason="currencies"))
        if self.base not in listed:
            faults.append(FieldInvalid(path=("input", "base"), reason="not_listed"))
        for place, price in enumerate(self.prices):
            exponent(price.currency)
            if not 0 <= price.minor <= MINOR_MAX:
                faults.append(FieldInvalid(path=("input", "prices", str(place)), reason="amount"))
        seen = set()
        for place, tier in enumerate(self.tiers):
            key = (tier.unit.currency, tier.from_quantity)
            fits = 2 <= tier.from_quantity <= QUANTITY_MAX and 0 <= tier.unit.minor <= MINOR_MAX
            if key in seen or tier.unit.currency not in listed or not fits:
                faults.append(FieldInvalid(path=("input", "tiers", str(place)), reason="tier"))
            seen.add(key)
        if len(self.tiers) > TIERS_MAX:
            faults.append(FieldInvalid(path=("input", "tiers"), reason="count", max=TIERS_MAX))
        if faults:
            raise InputInvalid(*faults)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many of a variant one line may hold, and below how many the merchant is told."""

    min_quantity: int = 1
    max_quantity: int = 100
    low_stock_at: int | None = None

    def check(self) -> None:
        """Errors: InputInvalid."""
        if not 1 <= self.min_quantity <= self.max_quantity <= QUANTITY_MAX:
            raise InputInvalid(
                FieldInvalid(path=("input", "maxQuantity"), reason="range", max=QUANTITY_MAX)
            )
        if self.low_stock_at is not None and self.low_stock_at < 0:
            raise InputInvalid(FieldInvalid(path=("input", "lowStockAt"), reason="range"))


@dataclass(frozen=True, slots=True)
class Source:
    """Where a variant's goods come from; `supplier` and `sku` for Delivery.SUPPLIER only."""

    delivery: Delivery
    supplier: str | None = None
    sku: str | None = None
    region: str | None = None

    def check(self) -> None:
        """Errors: InputInvalid."""
        is_supplied = self.delivery is Delivery.SUPPLIER
        if is_supplied != bool(self.supplier) or is_supplied != bool(self.sku):
            raise InputInvalid(FieldInvalid(path=("input", "supplier"), reason="supplier"))


_NO_LIMITS = Limits()


def _check_titles(titles: Mapping[str, str]) -> None:
    faults: list[DomainError] = []
    if not titles:
        faults.append(FieldInvalid(path=("input", "texts"), reason="missing"))
    for language, title in titles.items():
        path = ("input", "texts", language[:16])
        if not _LANGUAGE.fullmatch(language) or len(language) > 16:
            faults.append(FieldInvalid(path=path, reason="language"))
        if not title.strip() or len(title) > TITLE_MAX or "\0" in title:
            faults.append(FieldInvalid(path=(*path, "title"), reason="length", max=TITLE_MAX))
    if faults:
        raise InputInvalid(*faults)


async def add_product(
    merchant_id: UUID, shop_id: UUID, texts: Mapping[str, Text], *, position: int = 0
) -> UUID:
    """Put a product on the shelf; its id. `texts` by language. Errors: InputInvalid, NotFound
    (shop)."""
    _check_titles({language: text.title for language, text in texts.items()})
    product_id = ids.uuid7()
    async with db.transaction():
        owned = await db.value(
            "SELECT true FROM shop WHERE id = $1 AND merchant_id = $2", shop_id, merchant_id
        )
        if not owned:
            raise NotFound()
        await Product.create(
            id=product_id, merchant_id=merchant_id, shop_id=shop_id, position=position
        )
        await _write_texts(merchant_id, product_id, texts)
    return product_id


async def describe_product(
    merchant_id: UUID, product_id: UUID, texts: Mapping[str, Text], *, expected_version: int
) -> int:
    """Replace the words of the given languages; the new version. Errors: InputInvalid, NotFound,
    Conflict."""
    _check_titles({language: text.title for language, text in texts.items()})
    async with db.transaction():
        version = await _bump(Product, merchant_id, product_id, expected_version)
        await _write_texts(merchant_id, product_id, texts)
    return version


async def _write_texts(merchant_id: UUID, product_id: UUID, texts: Mapping[str, Text]) -> None:
    for language, text in texts.items():
        if len(text.description) > DESCRIPTION_MAX or "\0" in text.description:
            path = ("input", "texts", language, "description")
            raise InputInvalid(FieldInvalid(path=path, reason="length", max=DESCRIPTION_MAX))
    await db.execute(
        "INSERT INTO product_text (merchant_id, product_id, language, title, description, search)"
        " SELECT $1, $2, l, t, d, s FROM unnest($3::text[], $4::text[], $5::text[], $6::text[])"
        " AS x(l, t, d, s) ON CONFLICT (merchant_id, product_id, language) DO UPDATE"
        " SET title = excluded.title, description = excluded.description, search = excluded.search",
        merchant_id,
        product_id,
        list(texts),
        [text.title for text in texts.values()],
        [text.description for text in texts.values()],
        [fold(f"{text.title}\n{text.description}") for text in texts.values()],
    )


async def add_variant(
    merchant_id: UUID,
    product_id: UUID,
    titles: Mapping[str, str],
    source: Source,
    prices: PriceList,
    *,
    limits: Limits = _NO_LIMITS,
    position: int = 0,
) -> UUID:
    """Add a variant with its prices; its id. Errors: InputInvalid, UnsupportedCurrency,
    NotFound."""
    _check_titles(titles)
    source.check()
    prices.check()
    limits.check()
    variant_id = ids.uuid7()
    async with db.transaction():
        if not await Product.filter(id=product_id, merchant_id=merchant_id).exists():
            raise NotFound()
        await Variant.create(
            id=variant_id,
            merchant_id=merchant_id,
            product_id=product_id,
            delivery=source.delivery.value,
            supplier=source.supplier,
            supplier_sku=source.sku,
            region=source.region,
            min_quantity=limits.min_quantity,
            max_quantity=limits.max_quantity,
            low_stock_at=limits.low_stock_at,
            position=position,
        )
        await db.execute(
            "INSERT INTO variant_text (merchant_id, variant_id, language, title)"
            " SELECT $1, $2, l, t FROM unnest($3::text[], $4::text[]) AS x(l, t)",
            merchant_id,
            variant_id,
            list(titles),
            list(titles.values()),
        )
        await _write_prices(merchant_id, variant_id, prices)
    return variant_id


async def set_prices(
    merchant_id: UUID, variant_id: UUID, prices: PriceList, *, expected_version: int
) -> int:
    """Replace the whole price list; the variant's new version. Errors: InputInvalid, NotFound,
    Conflict."""
    prices.check()
    async with db.transaction():
        version = await _bump(Variant, merchant_id, variant_id, expected_version)
        for table in ("price", "price_tier"):
            await db.execute(
                f"DELETE FROM {table} WHERE merchant_id = $1 AND variant_id = $2",
                merchant_id,
                variant_id,
            )
        await _write_prices(merchant_id, variant_id, prices)
    return version


async def _write_prices(merchant_id: UUID, variant_id: UUID, prices: PriceList) -> None:
    await db.execute(
        "INSERT INTO price (merchant_id, variant_id, currency, minor, is_base)"
        " SELECT $1, $2, c, m, c = $5 FROM unnest($3::text[], $4::bigint[]) AS x(c, m)",
        merchant_id,
        variant_id,
        [price.currency for price in prices.prices],
        [price.minor for price in prices.prices],
        prices.base,
    )
    if prices.tiers:
        await db.execute(
            "INSERT INTO price_tier (merchant_id, variant_id, currency, from_quantity, minor)"
            " SELECT $1, $2, c, q, m FROM unnest($3::text[], $4::int[], $5::bigint[])"
            " AS x(c, q, m)",
            merchant_id,
            variant_id,
            [tier.unit.currency for tier in prices.tiers],
            [tier.from_quantity for tier in prices.tiers],
            [tier.unit.minor for tier in prices.tiers],
        )


async def shelve(
    kind: type[Product] | type[Variant],
    merchant_id: UUID,
    row_id: UUID,
    state: ShelfState,
    *,
    expected_version: int,
) -> int:
    """Show, hide or archive; open orders go on to their end (case E16). Errors: NotFound,
    Conflict."""
    async with db.transaction():
        version = await _bump(kind, merchant_id, row_id, expected_version)
        await kind.filter(id=row_id, merchant_id=merchant_id).update(state=state.value)
    return version


async def _bump(
    kind: type[Product] | type[Variant], merchant_id: UUID, row_id: UUID, expected: int
) -> int:
    """The conditional update every edit begins with: the row's lock and its version check in
    one."""
    found = kind.filter(id=row_id, merchant_id=merchant_id)
    if not await found.filter(version=expected).update(version=F("version") + 1):
        current = await found.first().values_list("version", flat=True)
        if current is None:
            raise NotFound()
        raise Conflict(current=current)
    return expected + 1
