"""What a merchant says of a product, a variant, its prices and limits, and what may be wrong with it; pure.

`faults()` names every field at fault, so that a form shows them all at once; actions refuse what has any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from domain.catalogue.models import ShelfState, Text
from domain.catalogue.rules import QUANTITY_MAX, Delivery, Tier
from domain.core import words
from domain.core.errors import DomainError, FieldInvalid
from domain.core.money import CURRENCIES, MINOR_MAX, Money, UnsupportedCurrency

TITLE_MAX, DESCRIPTION_MAX = 200, 20_000
PRICES_MAX, TIERS_MAX = 60, 200
SUPPLIER_MAX, SKU_MAX = 64, 120
INPUT = ("input",)

Path = tuple[str, ...]


class Keep(Enum):
    """The value of what a change leaves as it is, where None has a meaning of its own."""

    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class PriceList:
    """What a variant costs: at most one price per currency, `base` names the one that is
    converted for the others, tiers in listed currencies only."""

    prices: Sequence[Money]
    base: str
    tiers: Sequence[Tier] = ()

    def faults(self, path: Path = INPUT) -> list[DomainError]:
        """Every field at fault below `path`: prices, baseCurrency, tiers."""
        faults: list[DomainError] = []
        listed = [price.currency for price in self.prices]
        if not 1 <= len(listed) <= PRICES_MAX:
            faults.append(_wrong((*path, "prices"), reason="count", min=1, max=PRICES_MAX))
        if self.base not in listed:
            faults.append(_wrong((*path, "baseCurrency"), reason="not_listed"))
        for place, price in enumerate(self.prices):
            where = (*path, "prices", str(place))
            if price.currency not in CURRENCIES:
                error = UnsupportedCurrency(path=(*where, "currency"), currency=price.currency)
                faults.append(error)
            elif price.currency in listed[:place]:
                faults.append(_wrong((*where, "currency"), reason="twice"))
            elif not 1 <= price.minor <= MINOR_MAX:
                faults.append(_wrong((*where, "amount"), reason="amount"))
        return [*faults, *self._tier_faults((*path, "tiers"), listed)]

    def _tier_faults(self, path: Path, listed: Sequence[str]) -> list[DomainError]:
        faults: list[DomainError] = []
        if len(self.tiers) > TIERS_MAX:
            faults.append(_wrong(path, reason="count", max=TIERS_MAX))
        seen = set()
        for place, tier in enumerate(self.tiers):
            where = (*path, str(place))
            key = (tier.unit.currency, tier.from_quantity)
            if key in seen or not 2 <= tier.from_quantity <= QUANTITY_MAX:
                faults.append(_wrong((*where, "fromQuantity"), reason="range", max=QUANTITY_MAX))
            if tier.unit.currency not in listed:
                faults.append(_wrong((*where, "price", "currency"), reason="not_listed"))
            elif not 1 <= tier.unit.minor <= MINOR_MAX:
                faults.append(_wrong((*where, "price", "amount"), reason="amount"))
            seen.add(key)
        return faults


@dataclass(frozen=True, slots=True)
class Limits:
    """How many of a variant one line may hold, and below how many the merchant is told."""

    min_quantity: int = 1
    max_quantity: int = 100
    low_stock_at: int | None = None

    def faults(self) -> list[DomainError]:
        """minQuantity, maxQuantity, lowStockAt."""
        faults: list[DomainError] = []
        if not 1 <= self.min_quantity <= QUANTITY_MAX:
            faults.append(_wrong((*INPUT, "minQuantity"), reason="range", min=1, max=QUANTITY_MAX))
        if not 1 <= self.max_quantity <= QUANTITY_MAX:
            faults.append(_wrong((*INPUT, "maxQuantity"), reason="range", min=1, max=QUANTITY_MAX))
        elif self.max_quantity < self.min_quantity:
            faults.append(_wrong((*INPUT, "maxQuantity"), reason="below_min"))
        if self.low_stock_at is not None and self.low_stock_at < 0:
            faults.append(_wrong((*INPUT, "lowStockAt"), reason="range", min=0))
        return faults


@dataclass(frozen=True, slots=True)
class Source:
    """Where a variant's goods come from; `supplier` and `sku` for Delivery.SUPPLIER only."""

    delivery: Delivery
    supplier: str | None = None
    sku: str | None = None
    region: str | None = None

    def faults(self) -> list[DomainError]:
        """supplier, supplierSku."""
        is_supplied = self.delivery is Delivery.SUPPLIER
        given = (("supplier", self.supplier, SUPPLIER_MAX), ("supplierSku", self.sku, SKU_MAX))
        return [
            _wrong((*INPUT, name), reason="supplier", max=most)
            for name, value, most in given
            if is_supplied != bool(value) or (value and not words.is_line(value, most))
        ]


@dataclass(frozen=True, slots=True)
class ProductChange:
    """What changes of a product: `texts` by language replace or add, `without` names languages to
    drop; None stays as it is."""

    texts: Mapping[str, Text] = field(default_factory=dict)
    without: Sequence[str] = ()
    state: ShelfState | None = None
    position: int | None = None


@dataclass(frozen=True, slots=True)
class VariantChange:
    """What changes of a variant. Its delivery never does: orders, stock and suppliers rely on it."""

    titles: Mapping[str, str] = field(default_factory=dict)
    without: Sequence[str] = ()
    state: ShelfState | None = None
    position: int | None = None
    min_quantity: int | None = None
    max_quantity: int | None = None
    low_stock_at: int | Keep | None = Keep.KEEP
    supplier: str | None = None
    sku: str | None = None


def title_faults(titles: Sequence[tuple[str, str]], path: Path) -> list[DomainError]:
    """What is wrong with (language, title) pairs."""
    return words.line_faults(titles, path, "text", TITLE_MAX)


def text_faults(texts: Sequence[tuple[str, Text]], path: Path) -> list[DomainError]:
    """What is wrong with (language, text) pairs of a product."""
    titles = [(language, text.title) for language, text in texts]
    return [
        *words.line_faults(titles, path, "title", TITLE_MAX),
        *(
            _wrong((*path, str(place), "description"), reason="text", max=DESCRIPTION_MAX)
            for place, (_, text) in enumerate(texts)
            if not words.is_text(text.description, DESCRIPTION_MAX)
        ),
    ]


def missing(path: Path) -> FieldInvalid:
    """The fault of having no words at all."""
    return _wrong(path, reason="missing")


def _wrong(path: Path, **facts: object) -> FieldInvalid:
    return FieldInvalid(path=path, **facts)
