"""Products and variants as rows, for the pages where people edit them; sales and stock use plain
SQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from tortoise import fields
from tortoise.models import Model

from domain.core.money import Money


class ShelfState(StrEnum):
    """Whether a product or variant is for sale; archived ones only live on in orders."""

    ACTIVE = "active"
    HIDDEN = "hidden"
    ARCHIVED = "archived"


class Product(Model):
    """What a shop lists; its words are in `product_text`."""

    id = fields.UUIDField(primary_key=True)
    merchant_id = fields.UUIDField()
    shop_id = fields.UUIDField()
    state = fields.CharField(max_length=32, default=ShelfState.ACTIVE.value)
    position = fields.IntField(default=0)
    version = fields.IntField(default=1)
    created_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        table = "product"


class Variant(Model):
    """What a buyer puts into the cart; `delivery` never changes."""

    id = fields.UUIDField(primary_key=True)
    merchant_id = fields.UUIDField()
    product_id = fields.UUIDField()
    delivery = fields.CharField(max_length=32)
    state = fields.CharField(max_length=32, default=ShelfState.ACTIVE.value)
    min_quantity = fields.IntField(default=1)
    max_quantity = fields.IntField(default=100)
    region = fields.CharField(max_length=2, null=True)
    supplier = fields.CharField(max_length=64, null=True)
    supplier_sku = fields.CharField(max_length=120, null=True)
    low_stock_at = fields.IntField(null=True)
    is_low = fields.BooleanField(default=False)
    position = fields.IntField(default=0)
    version = fields.IntField(default=1)
    created_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        table = "variant"


@dataclass(frozen=True, slots=True)
class Text:
    """The words of a product in one language."""

    title: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class ShopTier:
    """A wholesale price as a shop page shows it."""

    from_quantity: int
    price: Money


@dataclass(frozen=True, slots=True)
class ShopVariant:
    """A variant as a shop page shows it; `price` may be in its base currency, `available` as
    shown."""

    id: UUID
    product_id: UUID
    merchant_id: UUID
    title: str
    price: Money
    tiers: tuple[ShopTier, ...]
    available: int
    delivery: str
    min_quantity: int
    max_quantity: int


@dataclass(frozen=True, slots=True)
class ShopProduct:
    """A product as a shop page shows it, in one language."""

    id: UUID
    merchant_id: UUID
    shop_id: UUID
    position: int
    title: str
    description: str


@dataclass(frozen=True, slots=True)
class Good:
    """One revealed thing of an order line; `id` is its card key's, or its line's for reusable content.

    `report` is where its buyer's report that it does not work stands, None when there is none.
    """

    line_id: UUID
    content: str
    revealed_at: datetime
    revoked: bool
    id: UUID
    report: str | None = None
