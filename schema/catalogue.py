"""The shelf in the contract: shops, products, variants with their prices, and the import of keys."""

from enum import Enum
from typing import Annotated

import strawberry

from domain import catalogue
from domain.catalogue import LineProblem, Report, ShopProduct, ShopTier, ShopVariant, Wording
from domain.core import ids
from domain.merchants import Shop as ShopRow
from resolvers import catalogue as resolve
from resolvers.product_inputs import DeliveryKind
from schema.field import Who, derived, field, mutation_field, object_type, query_field
from schema.money import Money
from schema.node import Node, register
from schema.page import Connection
from schema.problems import InvalidInput, NotFound, Problem, Unavailable, problem
from schema.scalars import LanguageCode
from schema.versions import Versioned


@object_type(
    description="A wholesale price: from so many units on, each costs less.", rows=(ShopTier,)
)
class PriceTier:
    """The lowest price that a line reaches counts."""

    from_quantity: int = field(description="From how many units of the variant on.")
    price: Money = field(
        description="What each unit costs then, in the currency of the variant's price."
    )


@object_type(description="What a buyer puts into the cart.", rows=(ShopVariant,))
class Variant(Node):
    """Hidden variants are not found."""

    id: strawberry.ID = derived(
        lambda one: ids.encode("var", one.id), description="Opaque id, `var_…`."
    )
    title: str = field(description="Its name, in the request's language if there is one.")
    price: Money = field(
        description="What one unit costs in the market's currency; in the shop's own when there is no rate."
    )
    available: int = field(
        description="How many can be sold now; 1000000 for what never runs out. Exact, but not held."
    )
    min_quantity: int = field(description="Fewest units per line.")
    max_quantity: int = field(description="Most units per line.")
    tiers: list[PriceTier] = field(description="Wholesale prices by quantity, fewest units first.")
    delivery: DeliveryKind = derived(
        lambda one: DeliveryKind(one.delivery),
        description="STOCK and REUSABLE are delivered in seconds; MANUAL and SUPPLIER are made after payment.",
    )


@object_type(description="Something a shop sells, in one or more variants.", rows=(ShopProduct,))
class Product(Node):
    """Hidden products are not found."""

    id: strawberry.ID = derived(
        lambda one: ids.encode("prd", one.id), description="Opaque id, `prd_…`."
    )
    title: str = field(description="Its name, in the request's language if there is one.")
    description: str = field(description="What it is, plain text; may be empty.")
    variants: list[Variant] = field(
        description="What can be bought of it, in shelf order.", resolver=resolve.variants, cost=2
    )


@object_type(description="A short text in one language.", rows=(Wording,))
class Translation:
    """A name or a title."""

    language: LanguageCode = field(description="Its language.")
    text: str = derived(lambda one: one.title, description="The text.")


@object_type(description="A shop of one merchant.", rows=(ShopRow,))
class Shop(Node, Versioned):
    """Found by its handle."""

    id: strawberry.ID = derived(
        lambda one: ids.encode("shp", one.id), description="Opaque id, `shp_…`."
    )
    handle: str = field(description="Its name in addresses; unique and stable.")
    name: str = field(description="Its name in the request's language.", resolver=resolve.shop_name)
    names: list[Translation] = derived(
        lambda one: [Wording(*name) for name in sorted(one.names.items())],
        description="Its name in every language it has.",
    )
    version: int = field(description="Send it as `expectedVersion` with `updateShop`.")
    products: Connection[Product] = field(
        description="What it sells, in shelf order.",
        resolver=resolve.products,
        args={
            "first": "How many from the start, 1 to 100.",
            "last": "How many from the end, 1 to 100.",
            "after": "Cursor to continue behind.",
            "before": "Cursor to continue before.",
            "search": "Words that must all occur in title or description, in whatever language.",
        },
    )


@strawberry.enum(description="Where an import of keys stands.")
class CardImportState(Enum):
    """Only DONE has changed the stock."""

    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


@strawberry.enum(description="What is wrong with a line of an import.")
class CardLineFault(Enum):
    """See domain.catalogue.lines.Fault."""

    NOT_TEXT = "not_text"
    CONTROL_CHARACTER = "control_character"
    INVISIBLE_CHARACTER = "invisible_character"
    TOO_LONG = "too_long"
    COLUMN_MISSING = "column_missing"
    DUPLICATE_IN_FILE = "duplicate_in_file"
    DUPLICATE_IN_STOCK = "duplicate_in_stock"
    DUPLICATE_SOLD = "duplicate_sold"


@object_type(description="One line of an import that cannot be taken.", rows=(LineProblem,))
class CardLineProblem:
    """Never repeats the key itself."""

    line: int = field(description="Number of the line in the list, from 1.")
    fault: CardLineFault = derived(
        lambda one: CardLineFault(one.fault), description="What is wrong with it."
    )
    first_line: int | None = field(
        description="The earlier line it repeats; null when the repeated key is not in the same list."
    )


@object_type(description="An import of keys, running or done.", rows=(Report,))
class CardImport(Node):
    """Members of its merchant see it."""

    id: strawberry.ID = derived(
        lambda one: ids.encode("imp", one.id), description="Opaque id, `imp_…`."
    )
    state: CardImportState = derived(
        lambda one: CardImportState(one.state), description="Where it stands."
    )
    done_lines: int = field(description="Lines read so far; moves while it is RUNNING.")
    total_lines: int = field(description="Lines of the list, blank ones included.")
    added: int = field(description="Keys that came into stock.")
    problem_count: int = field(description="Lines that were left out or refused.")
    problems: list[CardLineProblem] = field(
        description="The first thousand of them, in line order."
    )


@problem(
    catalogue.ImportRefused, description="At least one line is bad, so nothing came into stock."
)
class ImportRefused(Problem):
    """Code IMPORT_REFUSED."""

    lines: int = field(description="Lines that were read, blank ones left out.")
    problem_count: int = field(description="How many of them are bad.")
    problems: list[CardLineProblem] = field(
        description="The first thousand of them, in line order."
    )


@problem(catalogue.FileUnreadable, description="The list cannot be read at all.")
class FileUnreadable(Problem):
    """Code FILE_UNREADABLE."""

    reason: str = field(
        description="empty, lines (too many) or encoding (neither UTF-8 nor UTF-16)."
    )


ImportCardsResult = Annotated[
    CardImport | ImportRefused | FileUnreadable | NotFound | InvalidInput | Unavailable,
    strawberry.union(
        "ImportCardsResult", description="The import's report, or why nothing came in."
    ),
]


@strawberry.type
class CatalogueQuery:
    """Reads."""

    shop: Shop | None = query_field(
        resolve.shop,
        who=Who.ANYONE,
        description="A shop by its handle; null when there is none.",
        args={"handle": "The shop's handle, as in its address."},
    )
    card_import: CardImport | None = query_field(
        resolve.card_import,
        who=Who.MERCHANT,
        description="The import the viewer started under an idempotency key, also while it runs; null before.",
        args={"key": "The key given to `importCards @idempotent(key:)`."},
    )


@strawberry.type
class CatalogueMutation:
    """Writes."""

    import_cards: ImportCardsResult = mutation_field(
        resolve.import_cards,
        who=Who.MERCHANT,
        idempotent=True,
        description="Bring a list of keys into stock: all lines, or none. A key is unique within its merchant "
        "for ever. Problems: IMPORT_REFUSED, FILE_UNREADABLE, NOT_FOUND, INVALID_INPUT.",
        args={"input": "The list, its variant and its lot."},
        cost=20,
    )


register("shp", Shop, load=resolve.shop_by_id)
register("prd", Product, load=resolve.product_by_id)
register("var", Variant, load=resolve.variant_by_id)
register("imp", CardImport, load=resolve.import_by_id)
