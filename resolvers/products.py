"""A merchant's products and variants: read whole, created and changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast
from uuid import UUID

import strawberry
from strawberry import Parent

from domain import catalogue, merchants
from domain.catalogue import (
    Counts,
    Keep,
    Limits,
    Lot,
    ManagedProduct,
    ManagedVariant,
    ProductChange,
    Source,
    Text,
    VariantChange,
)
from domain.catalogue.ports import suppliers
from domain.core import ids, words
from domain.core.errors import FieldInvalid, NotFound
from domain.merchants import Shop
from resolvers import access, once
from resolvers.context import Asked
from resolvers.inputs import Faults, decode, spoken
from resolvers.page import Listing, Page
from resolvers.prices import price_list
from resolvers.product_inputs import (
    CreateProductInput,
    CreateVariantInput,
    ProductTextInput,
    SetReusableContentInput,
    ShelfState,
    UpdateProductInput,
    UpdateVariantInput,
)

PRODUCTS = Listing("merchant.products", UUID)


def _texts(given: Sequence[ProductTextInput] | None) -> list[tuple[str, Text]]:
    return [(one.language, Text(one.title, one.description)) for one in given or ()]


async def create_product(info: Asked, input: CreateProductInput) -> ManagedProduct:
    """Put a product on a shop's shelf."""
    shop_id = decode(input.shop_id, "shp", "shopId")
    shop = (await merchants.shops([shop_id])).get(shop_id)
    actor = access.stocker(info.context, shop, "shopId")
    assert shop is not None
    texts = _texts(input.texts)
    words.refuse(catalogue.text_faults(texts, ("input", "texts")))
    made = ids.uuid7()

    async def act() -> None:
        await catalogue.add_product(
            shop.merchant_id,
            shop_id,
            dict(texts),
            position=input.position,
            state=catalogue.ShelfState(input.state.value),
            product_id=made,
            actor=actor,
        )

    done = await once.do(info, {"id": str(made)}, act)
    return await _product(UUID(done["id"]))


async def update_product(info: Asked, input: UpdateProductInput) -> ManagedProduct:
    """Change a product's words, state or place."""
    product_id = decode(input.product_id, "prd", "productId")
    found = (await catalogue.managed_products_by_id([product_id])).get(product_id)
    actor = access.stocker(info.context, found, "productId")
    assert found is not None
    texts, without = _texts(input.texts), list[str](input.remove_languages or ())
    languages = words.language_faults(without, ("input", "removeLanguages"))
    words.refuse([*catalogue.text_faults(texts, ("input", "texts")), *languages])
    state = catalogue.ShelfState(input.state.value) if input.state else None
    change = ProductChange(dict(texts), without, state, input.position)

    async def act() -> None:
        await catalogue.change_product(
            found.merchant_id,
            product_id,
            change,
            expected_version=input.expected_version,
            actor=actor,
        )

    await once.do(info, {"id": str(product_id)}, act)
    return await _product(product_id)


async def _product(product_id: UUID) -> ManagedProduct:
    return (await catalogue.managed_products_by_id([product_id]))[product_id]


async def create_variant(info: Asked, input: CreateVariantInput) -> ManagedVariant:
    """Add a variant to a product."""
    product_id = decode(input.product_id, "prd", "productId")
    product = (await catalogue.managed_products_by_id([product_id])).get(product_id)
    actor = access.stocker(info.context, product, "productId")
    assert product is not None
    faults = Faults()
    titles = spoken(input.titles)
    prices = price_list(faults, input.prices, input.base_currency, input.tiers, "input")
    limits = Limits(input.min_quantity, input.max_quantity, input.low_stock_at)
    source = Source(
        catalogue.Delivery(input.delivery.value), input.supplier, input.supplier_sku, input.region
    )
    faults += catalogue.title_faults(titles, ("input", "titles"))
    faults += _installed(input.supplier)
    words.refuse([*faults, *source.faults(), *prices.faults(), *limits.faults()])
    made = ids.uuid7()

    async def act() -> None:
        await catalogue.add_variant(
            product.merchant_id,
            product_id,
            dict(titles),
            source,
            prices,
            limits=limits,
            position=input.position,
            state=catalogue.ShelfState(input.state.value),
            variant_id=made,
            actor=actor,
        )

    done = await once.do(info, {"id": str(made)}, act)
    return await variant(UUID(done["id"]))


def _installed(supplier: str | None) -> list[FieldInvalid]:
    if supplier is None or supplier in suppliers:
        return []
    return [FieldInvalid(path=("input", "supplier"), reason="not_installed")]


async def update_variant(info: Asked, input: UpdateVariantInput) -> ManagedVariant:
    """Change a variant's words, state, place, limits or article."""
    variant_id = decode(input.variant_id, "var", "variantId")
    merchant_id = await catalogue.owner_of(variant_id)
    actor = access.stocker(info.context, merchant_id, "variantId")
    assert merchant_id is not None
    titles, without = spoken(input.titles), list[str](input.remove_languages or ())
    languages = words.language_faults(without, ("input", "removeLanguages"))
    faults = catalogue.title_faults(titles, ("input", "titles"))
    words.refuse([*faults, *languages, *_installed(input.supplier)])
    low = input.low_stock_at
    change = VariantChange(
        titles=dict(titles),
        without=without,
        state=catalogue.ShelfState(input.state.value) if input.state else None,
        position=input.position,
        min_quantity=input.min_quantity,
        max_quantity=input.max_quantity,
        low_stock_at=Keep.KEEP if low is strawberry.UNSET else low,
        supplier=input.supplier,
        sku=input.supplier_sku,
    )

    async def act() -> None:
        await catalogue.change_variant(
            merchant_id, variant_id, change, expected_version=input.expected_version, actor=actor
        )

    await once.do(info, {"id": str(variant_id)}, act)
    return await variant(variant_id)


async def set_content(info: Asked, input: SetReusableContentInput) -> ManagedVariant:
    """Seal what buyers of a reusable variant get."""
    variant_id = decode(input.variant_id, "var", "variantId")
    found = (await catalogue.managed_variants_by_id([variant_id])).get(variant_id)
    actor = access.stocker(info.context, found, "variantId")
    assert found is not None
    if found.delivery != catalogue.Delivery.REUSABLE:
        raise FieldInvalid(path=("input", "variantId"), reason="delivery")

    async def act() -> None:
        await catalogue.set_reusable(
            found.merchant_id,
            variant_id,
            input.content,
            use_limit=input.use_limit,
            expected_version=input.expected_version,
            actor=actor,
        )

    await once.do(info, {"id": str(variant_id)}, act)
    return await variant(variant_id)


async def variant(variant_id: UUID) -> ManagedVariant:
    """A variant that is known to be there."""
    return (await catalogue.managed_variants_by_id([variant_id]))[variant_id]


async def of_merchant(
    info: Asked,
    merchant_id: strawberry.ID,
    first: int | None = None,
    last: int | None = None,
    after: str | None = None,
    before: str | None = None,
    shop_id: strawberry.ID | None = None,
    state: ShelfState | None = None,
) -> Page[ManagedProduct]:
    """A merchant's products in all states, newest first."""
    owner = merchant_of(info, merchant_id)
    shop = decode(shop_id, "shp", "shopId") if shop_id else None
    wanted = catalogue.ShelfState(state.value) if state else None
    window = PRODUCTS.window(
        owner, shop, wanted, first=first, last=last, after=after, before=before
    )
    key = cast("tuple[UUID] | None", window.key)
    rows = await catalogue.managed_products(
        owner,
        shop_id=shop,
        state=wanted,
        beyond=key[0] if key else None,
        limit=window.limit + 1,
        backward=window.is_backward,
    )
    return window.page(
        rows,
        key=lambda one: (one.id,),
        total=lambda: catalogue.count_managed_products(owner, shop_id=shop, state=wanted),
    )


def merchant_of(info: Asked, merchant_id: str) -> UUID:
    """The merchant whose shelf the caller may read. Errors: Unauthenticated, NotFound, Forbidden."""
    access.require_viewer(info.context)
    try:
        owner = ids.decode(merchant_id, "mer")
    except ids.IdInvalid:
        raise NotFound() from None
    access.shelf_reader(info.context, owner)
    return owner


async def product(info: Asked, id: strawberry.ID) -> ManagedProduct:
    """One product of a merchant the caller belongs to."""
    access.require_viewer(info.context)
    product_id = decode(id, "prd", "id")
    found = (await catalogue.managed_products_by_id([product_id])).get(product_id)
    access.shelf_reader(info.context, found)
    assert found is not None
    return found


async def current_product(info: Asked, product_id: UUID) -> ManagedProduct | None:
    """A product as it is now."""
    return (await catalogue.managed_products_by_id([product_id])).get(product_id)


async def current_variant(info: Asked, variant_id: UUID) -> ManagedVariant | None:
    """A variant as it is now."""
    return (await catalogue.managed_variants_by_id([variant_id])).get(variant_id)


async def variants(of: Parent[ManagedProduct], info: Asked) -> list[ManagedVariant]:
    """All variants of a product; those of all products of a page in one statement."""
    return await info.context.load(_variants, (of.merchant_id, of.id))


async def _variants(keys: list[tuple[UUID, UUID]]) -> Sequence[list[ManagedVariant]]:
    found = await catalogue.managed_variants(keys)
    return [found[product_id] for _, product_id in keys]


async def shop(of: Parent[ManagedProduct], info: Asked) -> Shop:
    """The shop of a product."""
    return await info.context.load(_shops, of.shop_id)


async def _shops(shop_ids: list[UUID]) -> Sequence[Shop]:
    found = await merchants.shops(shop_ids)
    return [found[shop_id] for shop_id in shop_ids]


async def lots(of: Parent[ManagedVariant], info: Asked) -> list[Lot]:
    """The newest lots of a variant; those of all variants of a page in one statement."""
    return await info.context.load(_lots, (of.merchant_id, of.id))


async def _lots(keys: list[tuple[UUID, UUID]]) -> Sequence[list[Lot]]:
    found = await catalogue.newest_lots(keys)
    return [found[variant_id] for _, variant_id in keys]


async def stock(of: Parent[ManagedVariant], info: Asked) -> Counts:
    """The keys of a variant over all its lots; those of all variants of a page in one statement."""
    return await info.context.load(_stock, (of.merchant_id, of.id))


async def _stock(keys: list[tuple[UUID, UUID]]) -> Sequence[Counts]:
    found = await catalogue.stock_counts(keys)
    return [found[variant_id] for _, variant_id in keys]
