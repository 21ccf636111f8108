"""The shelf as its merchant sees it, in the contract: products and variants in all states and languages."""

from datetime import datetime
from typing import Annotated

import strawberry

from domain.catalogue import (
    Counts,
    ListPrice,
    Lot,
    ManagedProduct,
    ManagedVariant,
    ReusableStock,
    Wording,
)
from domain.core import ids
from resolvers import products as resolve
from resolvers.product_inputs import DeliveryKind, ShelfState
from schema.catalogue import PriceTier, Shop, Translation
from schema.field import NEWEST_FIRST, Who, derived, field, mutation_field, object_type, query_field
from schema.money import Money
from schema.page import Connection
from schema.problems import Conflict, InvalidInput, NotFound, Unavailable
from schema.scalars import CountryCode, LanguageCode
from schema.versions import Versioned, aggregate


@object_type(description="The words of a product in one language.", rows=(Wording,))
class ProductText:
    """As they were given."""

    language: LanguageCode = field(description="Their language.")
    title: str = field(description="Its name.")
    description: str = field(description="What it is, plain text; may be empty.")


@object_type(description="One entry of a price list.", rows=(ListPrice,))
class ListedPrice:
    """Currencies without an entry are converted from the base."""

    price: Money = field(description="What one unit costs in this currency.")
    is_base: bool = field(description="Whether other currencies are converted from this one.")


@object_type(description="Keys by where they are.", rows=(Counts,))
class StockCounts:
    """Counted now."""

    available: int = field(description="For sale.")
    reserved: int = field(description="Held by orders that are being paid.")
    sold: int = field(description="Their buyers'.")
    locked: int = field(description="Off the shelf: withdrawn or exported.")
    expired: int = field(description="Never sold in time; never for sale again.")
    revoked: int = field(description="Taken back with a refund, or replaced by another key.")


@object_type(description="Keys that came in together.", rows=(Lot,))
class StockLot:
    """Its keys are sold first-expiring first."""

    id: strawberry.ID = derived(
        lambda one: ids.encode("lot", one.id), description="Opaque id, `lot_…`."
    )
    cost: Money | None = field(description="What one key cost; null when it was not said.")
    region: CountryCode | None = field(description="Where the keys work; null is everywhere.")
    expires_at: datetime | None = field(description="Until when they work; null is for ever.")
    note: str = field(description="What was noted when they came in.")
    created_at: datetime = field(description="When they came in.")
    counts: StockCounts = field(description="Where its keys are.")


@object_type(description="What is sold of a REUSABLE variant.", rows=(ReusableStock,))
class ReusableContent:
    """The content itself is never shown."""

    use_limit: int | None = field(description="How many units may be sold; null is any number.")
    used: int = field(description="How many are held or sold.")


@object_type(description="A variant as its merchant sees it.", rows=(ManagedVariant,))
class MerchantVariant(Versioned):
    """The same id as the `Variant` that buyers see."""

    id: strawberry.ID = derived(
        lambda one: ids.encode("var", one.id), description="Opaque id, `var_…`."
    )
    version: int = field(description="Send it as `expectedVersion` with a change.")
    product_id: strawberry.ID = derived(
        lambda one: ids.encode("prd", one.product_id), description="Its product, `prd_…`."
    )
    state: ShelfState = derived(
        lambda one: ShelfState(one.state), description="Whether it is for sale."
    )
    delivery: DeliveryKind = derived(
        lambda one: DeliveryKind(one.delivery), description="How its goods come to be."
    )
    supplier: str | None = field(description="Who delivers it; SUPPLIER only.")
    supplier_sku: str | None = field(description="The supplier's name of it; SUPPLIER only.")
    region: CountryCode | None = field(description="Where its goods work; null is everywhere.")
    min_quantity: int = field(description="Fewest units per line.")
    max_quantity: int = field(description="Most units per line.")
    low_stock_at: int | None = field(
        description="At how many keys left the merchant is told; null is never."
    )
    is_low: bool = field(description="Whether it has been told since stock last came in.")
    position: int = field(description="Its place within the product, lower ones first.")
    created_at: datetime = field(description="When it was created.")
    titles: list[Translation] = field(description="Its title in every language it has.")
    prices: list[ListedPrice] = field(description="Its whole price list, the base first.")
    tiers: list[PriceTier] = field(
        description="Its wholesale prices, by currency and quantity; `price` is in the tier's own currency."
    )
    reusable: ReusableContent | None = field(
        description="What is sold again and again; null until `setReusableContent`, and for other deliveries."
    )
    stock: StockCounts = field(
        description="Its keys over all lots.", resolver=resolve.stock, cost=2
    )
    lots: list[StockLot] = field(
        description="Its 20 newest lots, newest first; `stockLots` has them all.",
        resolver=resolve.lots,
        cost=5,
    )


@object_type(description="A product as its merchant sees it.", rows=(ManagedProduct,))
class MerchantProduct(Versioned):
    """The same id as the `Product` that buyers see."""

    id: strawberry.ID = derived(
        lambda one: ids.encode("prd", one.id), description="Opaque id, `prd_…`."
    )
    version: int = field(description="Send it as `expectedVersion` with a change.")
    shop: Shop = field(description="The shop it is in.", resolver=resolve.shop)
    state: ShelfState = derived(
        lambda one: ShelfState(one.state), description="Whether it is for sale."
    )
    position: int = field(description="Its place on the shelf, lower ones first.")
    created_at: datetime = field(description="When it was created.")
    texts: list[ProductText] = field(description="Its words in every language it has.")
    variants: list[MerchantVariant] = field(
        description="All of them, at most 200, in shelf order.",
        resolver=resolve.variants,
        cost=2,
    )


CreateProductResult = Annotated[
    MerchantProduct | NotFound | InvalidInput | Unavailable,
    strawberry.union("CreateProductResult", description="The new product, or why there is none."),
]
UpdateProductResult = Annotated[
    MerchantProduct | Conflict | NotFound | InvalidInput | Unavailable,
    strawberry.union("UpdateProductResult", description="The changed product, or why not."),
]
CreateVariantResult = Annotated[
    MerchantVariant | NotFound | InvalidInput | Unavailable,
    strawberry.union("CreateVariantResult", description="The new variant, or why there is none."),
]
UpdateVariantResult = Annotated[
    MerchantVariant | Conflict | NotFound | InvalidInput | Unavailable,
    strawberry.union("UpdateVariantResult", description="The changed variant, or why not."),
]
SetReusableContentResult = Annotated[
    MerchantVariant | Conflict | NotFound | InvalidInput | Unavailable,
    strawberry.union("SetReusableContentResult", description="The variant, or why not."),
]


@strawberry.type
class ProductQuery:
    """Reads."""

    merchant_products: Connection[MerchantProduct] = query_field(
        resolve.of_merchant,
        who=(Who.MERCHANT, Who.OPERATOR),
        description="A merchant's products, hidden and archived ones too, newest first.",
        args={
            "merchantId": "The merchant, one the caller belongs to.",
            **NEWEST_FIRST,
            "shopId": "Those of one shop only.",
            "state": "Those in one state only.",
        },
    )
    merchant_product: MerchantProduct = query_field(
        resolve.product,
        who=(Who.MERCHANT, Who.OPERATOR),
        description="One product of a merchant the caller belongs to, in whatever state.",
        args={"id": "The product, `prd_…`."},
    )


@strawberry.type
class ProductMutation:
    """Writes; each is a row of the audit log."""

    create_product: CreateProductResult = mutation_field(
        resolve.create_product,
        who=Who.MERCHANT,
        idempotent=True,
        description="Put a product on a shop's shelf. Problems: NOT_FOUND, INVALID_INPUT.",
        args={"input": "The shop and the words."},
        cost=5,
    )
    update_product: UpdateProductResult = mutation_field(
        resolve.update_product,
        who=Who.MERCHANT,
        idempotent=True,
        description="Change a product's words, state or place. Problems: CONFLICT, NOT_FOUND, INVALID_INPUT.",
        args={"input": "What changes, and the version it is based on."},
        cost=5,
    )
    create_variant: CreateVariantResult = mutation_field(
        resolve.create_variant,
        who=Who.MERCHANT,
        idempotent=True,
        description="Add a variant with its price list to a product. Problems: NOT_FOUND, INVALID_INPUT.",
        args={"input": "The product, the words, the delivery and the prices."},
        cost=5,
    )
    update_variant: UpdateVariantResult = mutation_field(
        resolve.update_variant,
        who=Who.MERCHANT,
        idempotent=True,
        description="Change a variant's words, state, place, limits or supplier's article. "
        "Problems: CONFLICT, NOT_FOUND, INVALID_INPUT.",
        args={"input": "What changes, and the version it is based on."},
        cost=5,
    )
    set_reusable_content: SetReusableContentResult = mutation_field(
        resolve.set_content,
        who=Who.MERCHANT,
        idempotent=True,
        description="Give a REUSABLE variant the content that every buyer gets from now on. "
        "Problems: CONFLICT, NOT_FOUND, INVALID_INPUT.",
        args={"input": "The variant and the content."},
        cost=5,
    )


aggregate("prd", load=resolve.current_product)
aggregate("var", load=resolve.current_variant)
