"""What a merchant sends to create and change products and variants."""

from enum import Enum

import strawberry

from resolvers.inputs import MoneyInput, TranslationInput
from resolvers.prices import PriceTierInput
from resolvers.scalars import CountryCode, CurrencyCode, LanguageCode


@strawberry.enum(
    description="ACTIVE is shown and sold, HIDDEN neither for now, ARCHIVED only lives on in its orders."
)
class ShelfState(Enum):
    """See domain.catalogue.ShelfState."""

    ACTIVE = "active"
    HIDDEN = "hidden"
    ARCHIVED = "archived"


@strawberry.enum(description="How a variant's goods come to be.")
class DeliveryKind(Enum):
    """See domain.catalogue.Delivery."""

    STOCK = "stock"
    REUSABLE = "reusable"
    MANUAL = "manual"
    SUPPLIER = "supplier"


@strawberry.input(description="The words of a product in one language.")
class ProductTextInput:
    """Plain text: nothing in it is run or rendered."""

    language: LanguageCode = strawberry.field(description="Their language, each one once.")
    title: str = strawberry.field(description="1 to 200 characters on one line.")
    description: str = strawberry.field(
        default="", description="Any number of lines, at most 20,000 characters."
    )


@strawberry.input(description="A new product of a shop.")
class CreateProductInput:
    """Its variants follow with `createVariant`."""

    shop_id: strawberry.ID = strawberry.field(description="The shop, `shp_…`.")
    texts: list[ProductTextInput] = strawberry.field(
        description="Its words, at least one language."
    )
    state: ShelfState = strawberry.field(
        default=ShelfState.ACTIVE, description="HIDDEN to finish it first."
    )
    position: int = strawberry.field(
        default=0, description="Its place on the shelf, lower ones first."
    )


@strawberry.input(description="A change of a product; what is left out stays.")
class UpdateProductInput:
    """Open orders go on to their end whatever happens to the product."""

    product_id: strawberry.ID = strawberry.field(description="The product, `prd_…`.")
    expected_version: int = strawberry.field(description="The version it had when it was read.")
    texts: list[ProductTextInput] | None = strawberry.field(
        default=None, description="Words of the languages named, whole; others stay."
    )
    remove_languages: list[LanguageCode] | None = strawberry.field(
        default=None, description="Languages to drop; one must be left."
    )
    state: ShelfState | None = strawberry.field(
        default=None, description="Show, hide or archive it."
    )
    position: int | None = strawberry.field(default=None, description="Its place on the shelf.")


@strawberry.input(description="A new variant of a product, with its price list.")
class CreateVariantInput:
    """What a buyer puts into the cart."""

    product_id: strawberry.ID = strawberry.field(description="The product, `prd_…`.")
    titles: list[TranslationInput] = strawberry.field(
        description="Its title, at least one language; 1 to 200 characters on one line."
    )
    delivery: DeliveryKind = strawberry.field(
        description="How its goods come to be; never changes afterwards."
    )
    prices: list[MoneyInput] = strawberry.field(
        description="1 to 60 prices, one per currency, above zero."
    )
    base_currency: CurrencyCode | None = strawberry.field(
        default=None,
        description="The listed currency that is converted for all others; the first price's when omitted.",
    )
    tiers: list[PriceTierInput] | None = strawberry.field(
        default=None, description="Wholesale prices, at most 200, in listed currencies."
    )
    supplier: str | None = strawberry.field(
        default=None, description="An installed supplier; SUPPLIER only, and required then."
    )
    supplier_sku: str | None = strawberry.field(
        default=None, description="The supplier's name of the article; goes with `supplier`."
    )
    region: CountryCode | None = strawberry.field(
        default=None, description="Where its goods work; null is everywhere."
    )
    min_quantity: int = strawberry.field(default=1, description="Fewest units per line, from 1.")
    max_quantity: int = strawberry.field(
        default=100, description="Most units per line, at most 10,000."
    )
    low_stock_at: int | None = strawberry.field(
        default=None, description="At how many keys left the merchant is told; null is never."
    )
    state: ShelfState = strawberry.field(
        default=ShelfState.ACTIVE, description="HIDDEN to stock it first."
    )
    position: int = strawberry.field(default=0, description="Its place within the product.")


@strawberry.input(description="A change of a variant; what is left out stays.")
class UpdateVariantInput:
    """Prices are changed with `setPrices` and `updatePrices`."""

    variant_id: strawberry.ID = strawberry.field(description="The variant, `var_…`.")
    expected_version: int = strawberry.field(description="The version it had when it was read.")
    titles: list[TranslationInput] | None = strawberry.field(
        default=None, description="Titles of the languages named; others stay."
    )
    remove_languages: list[LanguageCode] | None = strawberry.field(
        default=None, description="Languages to drop; one must be left."
    )
    state: ShelfState | None = strawberry.field(
        default=None, description="Show, hide or archive it."
    )
    position: int | None = strawberry.field(default=None, description="Its place in the product.")
    min_quantity: int | None = strawberry.field(default=None, description="Fewest units per line.")
    max_quantity: int | None = strawberry.field(default=None, description="Most units per line.")
    low_stock_at: int | None = strawberry.field(
        default=strawberry.UNSET,
        description="At how many keys left the merchant is told; null is never, left out stays.",
    )
    supplier: str | None = strawberry.field(
        default=None, description="Another installed supplier; SUPPLIER only."
    )
    supplier_sku: str | None = strawberry.field(
        default=None, description="Another article of the supplier; SUPPLIER only."
    )


@strawberry.input(description="What every buyer of a REUSABLE variant gets from now on.")
class SetReusableContentInput:
    """Sealed at once; orders keep what they were sold."""

    variant_id: strawberry.ID = strawberry.field(description="The variant, `var_…`.")
    expected_version: int = strawberry.field(description="The version it had when it was read.")
    content: str = strawberry.field(description="1 to 4,000 bytes; never shown here again.")
    use_limit: int | None = strawberry.field(
        default=None, description="How many units may be sold of it; null is any number."
    )
