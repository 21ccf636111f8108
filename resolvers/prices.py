"""Price lists: of one variant, or of hundreds in one call with a verdict on each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

import strawberry
from strawberry import Parent

from domain import catalogue
from domain.catalogue import ManagedVariant, PriceList, PriceRow, RowVerdict, Tier
from domain.core import ids, words
from resolvers import access, once
from resolvers.context import Asked
from resolvers.inputs import Faults, MoneyInput, decode
from resolvers.scalars import CurrencyCode


@strawberry.input(description="A wholesale price: from so many units on, each costs this.")
class PriceTierInput:
    """A tier that is dearer than the list is never taken."""

    from_quantity: int = strawberry.field(
        description="From how many units of the variant on, 2 or more."
    )
    price: MoneyInput = strawberry.field(description="What each unit costs then, above zero.")


@strawberry.input(description="A whole new price list for a variant: what is not in it is gone.")
class SetPricesInput:
    """Orders that were placed keep their price."""

    variant_id: strawberry.ID = strawberry.field(description="The variant, `var_…`.")
    expected_version: int = strawberry.field(description="The version it had when it was read.")
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


@strawberry.enum(
    description="ALL_OR_NOTHING changes nothing when one row is bad, SKIP_BAD the good rows."
)
class BulkErrorPolicy(Enum):
    """Asked for, never guessed."""

    ALL_OR_NOTHING = "all_or_nothing"
    SKIP_BAD = "skip_bad"


@strawberry.input(description="Whole new price lists for up to 500 variants of one merchant.")
class UpdatePricesInput:
    """Each row is a `setPrices`."""

    merchant_id: strawberry.ID = strawberry.field(description="The merchant, `mer_…`.")
    error_policy: BulkErrorPolicy = strawberry.field(
        description="What becomes of the good rows when there are bad ones."
    )
    rows: list[SetPricesInput] = strawberry.field(description="1 to 500 rows, each variant once.")


@dataclass(frozen=True, slots=True)
class Repriced:
    """The verdicts on the rows of one call."""

    rows: list[RowVerdict]

    @property
    def changed(self) -> int:
        """How many price lists are new."""
        return sum(row.is_changed for row in self.rows)


def price_list(
    faults: Faults,
    prices: Sequence[MoneyInput],
    base: str | None,
    tiers: Sequence[PriceTierInput] | None,
    *path: str,
) -> PriceList:
    """The price list given; amounts that cannot be read are noted in `faults`."""
    listed = [
        faults.money(price, *path, "prices", str(place)) for place, price in enumerate(prices)
    ]
    read = [
        Tier(tier.from_quantity, faults.money(tier.price, *path, "tiers", str(place), "price"))
        for place, tier in enumerate(tiers or ())
    ]
    return PriceList(listed, base or (listed[0].currency if listed else ""), read)


async def set_prices(info: Asked, input: SetPricesInput) -> ManagedVariant:
    """Replace a variant's price list."""
    variant_id = decode(input.variant_id, "var", "variantId")
    merchant_id = await catalogue.owner_of(variant_id)
    actor = access.stocker(info.context, merchant_id, "variantId")
    assert merchant_id is not None
    faults = Faults()
    prices = price_list(faults, input.prices, input.base_currency, input.tiers, "input")
    words.refuse([*faults, *prices.faults()])

    async def act() -> None:
        await catalogue.set_prices(
            merchant_id, variant_id, prices, expected_version=input.expected_version, actor=actor
        )

    await once.do(info, {"id": str(variant_id)}, act)
    return (await catalogue.managed_variants_by_id([variant_id]))[variant_id]


async def update_prices(info: Asked, input: UpdatePricesInput) -> Repriced:
    """Replace many price lists."""
    merchant_id = decode(input.merchant_id, "mer", "merchantId")
    actor = access.stocker(info.context, merchant_id, "merchantId")
    rows = [_row(row, place) for place, row in enumerate(input.rows)]

    async def act() -> dict[str, object]:
        verdicts = await catalogue.change_prices(
            merchant_id,
            rows,
            skip_bad=input.error_policy is BulkErrorPolicy.SKIP_BAD,
            actor=actor,
        )
        return {"rows": [verdict.plain() for verdict in verdicts]}

    done = await once.do(info, {"merchant_id": str(merchant_id)}, act)
    return Repriced([RowVerdict.read(plain) for plain in done["rows"]])


def _row(given: SetPricesInput, place: int) -> PriceRow:
    faults = Faults()
    path = ("input", "rows", str(place))
    prices = price_list(faults, given.prices, given.base_currency, given.tiers, *path)
    try:
        variant_id = ids.decode(given.variant_id, "var")
    except ids.IdInvalid:
        variant_id = None
    return PriceRow(variant_id, prices, given.expected_version, tuple(faults))


async def variant_of(row: Parent[RowVerdict], info: Asked) -> ManagedVariant | None:
    """The variant of a row as it is now; None when the merchant has no such variant."""
    if row.variant_id is None:
        return None
    return await info.context.load(_variants, (row.merchant_id, row.variant_id))


async def _variants(keys: list[tuple[UUID, UUID]]) -> Sequence[ManagedVariant | None]:
    found = await catalogue.managed_variants_by_id([variant_id for _, variant_id in keys])
    return [
        one if (one := found.get(variant_id)) and one.merchant_id == merchant_id else None
        for merchant_id, variant_id in keys
    ]
