"""Writes of the shelf: products and variants are put there, and their words, places and limits changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from domain.catalogue import keys, pricing
from domain.catalogue.models import Product, ShelfState, Text, Variant
from domain.catalogue.rules import Delivery, fold
from domain.catalogue.terms import (
    INPUT,
    Keep,
    Limits,
    PriceList,
    ProductChange,
    Source,
    VariantChange,
    missing,
    text_faults,
    title_faults,
)
from domain.core import audit, db, ids, versions, words
from domain.core.audit import Actor
from domain.core.errors import FieldInvalid, InputInvalid, NotFound

# A product's page shows all of its variants at once.
VARIANTS_MAX = 200
_NO_LIMITS = Limits()


async def add_product(
    merchant_id: UUID,
    shop_id: UUID,
    texts: Mapping[str, Text],
    *,
    position: int = 0,
    state: ShelfState = ShelfState.ACTIVE,
    product_id: UUID | None = None,
    actor: Actor | None = None,
) -> UUID:
    """Put a product on the shelf; its id. `texts` by language. Errors: InputInvalid, NotFound
    (shop)."""
    path = (*INPUT, "texts")
    none = [] if texts else [missing(path)]
    words.refuse([*none, *text_faults(list(texts.items()), path)])
    made = product_id or ids.uuid7()
    async with db.transaction():
        owned = await db.value(
            "SELECT true FROM shop WHERE id = $1 AND merchant_id = $2", shop_id, merchant_id
        )
        if not owned:
            raise NotFound(path=(*INPUT, "shopId"))
        await Product.create(
            id=made, merchant_id=merchant_id, shop_id=shop_id, position=position, state=state.value
        )
        await _write_texts(merchant_id, made, texts)
        after = {"state": state.value, "position": position, "texts": _spoken(texts)}
        await audit.changed(merchant_id, actor, "product.create", made, {}, after)
    return made


async def change_product(
    merchant_id: UUID,
    product_id: UUID,
    change: ProductChange,
    *,
    expected_version: int,
    actor: Actor | None = None,
) -> int:
    """Change words, state or place of a product; its new version. Open orders go on to their end
    (case E16).

    Errors: InputInvalid, NotFound, Conflict.
    """
    words.refuse(text_faults(list(change.texts.items()), (*INPUT, "texts")))
    async with db.transaction():
        version = await versions.bump("prd", merchant_id, product_id, expected_version)
        row: Any = await db.row(_PRODUCT, merchant_id, product_id)
        before = dict(row)
        texts = {**before["texts"], **_spoken(change.texts)}
        after = {
            "state": change.state.value if change.state else row["state"],
            "position": row["position"] if change.position is None else change.position,
            "texts": _remaining(texts, change.without),
        }
        await _write_texts(merchant_id, product_id, change.texts)
        await _drop("product", merchant_id, product_id, change.without)
        await db.execute(
            "UPDATE product SET state = $3, position = $4 WHERE merchant_id = $1 AND id = $2",
            merchant_id,
            product_id,
            after["state"],
            after["position"],
        )
        await audit.changed(merchant_id, actor, "product.change", product_id, before, after)
    return version


_PRODUCT = """
SELECT p.state, p.position, (
    SELECT json_object_agg(w.language, json_build_object('title', w.title,
        'description', w.description)) FROM product_text w
    WHERE w.merchant_id = p.merchant_id AND w.product_id = p.id) AS texts
FROM product p WHERE p.merchant_id = $1 AND p.id = $2
"""


def _spoken(texts: Mapping[str, Text]) -> dict[str, dict[str, str]]:
    return {
        words.tag(language): {"title": text.title.strip(), "description": text.description}
        for language, text in texts.items()
    }


def _remaining(spoken: Mapping[str, Any], without: Sequence[str]) -> dict[str, Any]:
    """What is left without some languages: never nothing, never more than a page can carry."""
    gone = {words.tag(one) for one in without}
    left = {language: text for language, text in spoken.items() if language not in gone}
    if not left:
        raise InputInvalid(FieldInvalid(path=(*INPUT, "removeLanguages"), reason="last"))
    if len(left) > words.LANGUAGES_MAX:
        most = words.LANGUAGES_MAX
        raise InputInvalid(FieldInvalid(path=(*INPUT, "texts"), reason="count", max=most))
    return left


async def _drop(noun: str, merchant_id: UUID, row_id: UUID, languages: Sequence[str]) -> None:
    if languages:
        await db.execute(
            f"DELETE FROM {noun}_text WHERE merchant_id = $1 AND {noun}_id = $2"
            " AND language = ANY($3)",
            merchant_id,
            row_id,
            [words.tag(one) for one in languages],
        )


async def _write_texts(merchant_id: UUID, product_id: UUID, texts: Mapping[str, Text]) -> None:
    spoken = _spoken(texts)
    if not spoken:
        return
    await db.execute(
        "INSERT INTO product_text (merchant_id, product_id, language, title, description, search)"
        " SELECT $1, $2, l, t, d, s FROM unnest($3::text[], $4::text[], $5::text[], $6::text[])"
        " AS x(l, t, d, s) ON CONFLICT (merchant_id, product_id, language) DO UPDATE"
        " SET title = excluded.title, description = excluded.description, search = excluded.search",
        merchant_id,
        product_id,
        list(spoken),
        [text["title"] for text in spoken.values()],
        [text["description"] for text in spoken.values()],
        [fold(f"{text['title']}\n{text['description']}") for text in spoken.values()],
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
    state: ShelfState = ShelfState.ACTIVE,
    variant_id: UUID | None = None,
    actor: Actor | None = None,
) -> UUID:
    """Add a variant with its prices; its id. Errors: InputInvalid, NotFound (product)."""
    path = (*INPUT, "titles")
    faults = [*title_faults(list(titles.items()), path), *source.faults()]
    none = [] if titles else [missing(path)]
    words.refuse([*none, *faults, *prices.faults(), *limits.faults()])
    made = variant_id or ids.uuid7()
    async with db.transaction():
        await _room(merchant_id, product_id)
        await Variant.create(
            id=made,
            merchant_id=merchant_id,
            product_id=product_id,
            delivery=source.delivery.value,
            state=state.value,
            supplier=source.supplier,
            supplier_sku=source.sku,
            region=source.region,
            min_quantity=limits.min_quantity,
            max_quantity=limits.max_quantity,
            low_stock_at=limits.low_stock_at,
            position=position,
        )
        await _write_titles(merchant_id, made, titles)
        await pricing.write(merchant_id, {made: prices})
        after = {
            "state": state.value,
            "delivery": source.delivery.value,
            "titles": dict(titles),
            "prices": pricing.spoken(prices),
        }
        await audit.changed(merchant_id, actor, "variant.create", made, {}, after)
    return made


async def _room(merchant_id: UUID, product_id: UUID) -> None:
    """Take the product's lock and see that it has room for one variant more."""
    found = await db.value(
        "SELECT true FROM product WHERE merchant_id = $1 AND id = $2 FOR NO KEY UPDATE",
        merchant_id,
        product_id,
    )
    if not found:
        raise NotFound(path=(*INPUT, "productId"))
    count = await db.value(
        "SELECT count(*) FROM variant WHERE merchant_id = $1 AND product_id = $2",
        merchant_id,
        product_id,
    )
    if count >= VARIANTS_MAX:
        path = (*INPUT, "productId")
        raise InputInvalid(FieldInvalid(path=path, reason="variants", max=VARIANTS_MAX))


async def _write_titles(merchant_id: UUID, variant_id: UUID, titles: Mapping[str, str]) -> None:
    if not titles:
        return
    await db.execute(
        "INSERT INTO variant_text (merchant_id, variant_id, language, title)"
        " SELECT $1, $2, l, t FROM unnest($3::text[], $4::text[]) AS x(l, t)"
        " ON CONFLICT (merchant_id, variant_id, language) DO UPDATE SET title = excluded.title",
        merchant_id,
        variant_id,
        [words.tag(one) for one in titles],
        [title.strip() for title in titles.values()],
    )


async def change_variant(
    merchant_id: UUID,
    variant_id: UUID,
    change: VariantChange,
    *,
    expected_version: int,
    actor: Actor | None = None,
) -> int:
    """Change words, state, place, limits or supplier's article of a variant; its new version. Open
    orders go on to their end (case E16). Errors: InputInvalid, NotFound, Conflict."""
    words.refuse(title_faults(list(change.titles.items()), (*INPUT, "titles")))
    async with db.transaction():
        version = await versions.bump("var", merchant_id, variant_id, expected_version)
        row: Any = await db.row(_VARIANT, merchant_id, variant_id)
        before = {name: value for name, value in row.items() if name != "delivery"}
        after = _changed(before, change)
        limits = Limits(after["min_quantity"], after["max_quantity"], after["low_stock_at"])
        source = Source(Delivery(row["delivery"]), after["supplier"], after["supplier_sku"])
        words.refuse([*limits.faults(), *source.faults()])
        await _write_titles(merchant_id, variant_id, change.titles)
        await _drop("variant", merchant_id, variant_id, change.without)
        columns = [name for name in after if name != "titles"]
        await db.execute(
            f"UPDATE variant SET {', '.join(f'{name} = ${no}' for no, name in enumerate(columns, 3))}"
            " WHERE merchant_id = $1 AND id = $2",
            merchant_id,
            variant_id,
            *(after[name] for name in columns),
        )
        if after["low_stock_at"] != before["low_stock_at"]:
            await keys.refilled(merchant_id, variant_id)
        await audit.changed(merchant_id, actor, "variant.change", variant_id, before, after)
    return version


_VARIANT = """
SELECT v.state, v.position, v.min_quantity, v.max_quantity, v.low_stock_at, v.supplier,
    v.supplier_sku, v.delivery, (
    SELECT json_object_agg(w.language, w.title) FROM variant_text w
    WHERE w.merchant_id = v.merchant_id AND w.variant_id = v.id) AS titles
FROM variant v WHERE v.merchant_id = $1 AND v.id = $2
"""


def _changed(before: Mapping[str, Any], change: VariantChange) -> dict[str, Any]:
    asked = {
        "state": change.state.value if change.state else None,
        "position": change.position,
        "min_quantity": change.min_quantity,
        "max_quantity": change.max_quantity,
        "supplier": change.supplier,
        "supplier_sku": change.sku,
    }
    after = {**before, **{name: value for name, value in asked.items() if value is not None}}
    if change.low_stock_at is not Keep.KEEP:
        after["low_stock_at"] = change.low_stock_at
    spoken = {words.tag(one): title.strip() for one, title in change.titles.items()}
    after["titles"] = _remaining({**(before["titles"] or {}), **spoken}, change.without)
    return after
