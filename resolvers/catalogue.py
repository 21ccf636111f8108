"""Shops and what they sell, and keys coming in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import cast
from uuid import UUID

import strawberry
from strawberry import Parent

from domain import catalogue, merchants
from domain.catalogue import Format, LotTerms, Report, ShopProduct, ShopVariant
from domain.core import db, ids, vault
from domain.core.errors import FieldInvalid, InputInvalid, NotFound
from domain.merchants import Shop
from resolvers import access
from resolvers.context import Asked
from resolvers.inputs import MoneyInput
from resolvers.page import Listing, Page
from resolvers.scalars import CountryCode

HANDLE_MAX = 40
PRODUCTS = Listing("shop.products", int, UUID)


async def shop(info: Asked, handle: str) -> Shop | None:
    """The shop behind a handle."""
    if len(handle) > HANDLE_MAX or not handle.isascii() or not handle.isprintable():
        return None
    return await merchants.shop_by_handle(handle)


async def shop_by_id(info: Asked, shop_id: UUID) -> Shop | None:
    """A shop by its id."""
    return (await merchants.shops([shop_id])).get(shop_id)


def shop_name(of: Parent[Shop], info: Asked) -> str:
    """The shop's name in the language of the operation."""
    return of.name(info.context.language)


async def products(
    of: Parent[Shop],
    info: Asked,
    first: int | None = None,
    last: int | None = None,
    after: str | None = None,
    before: str | None = None,
    search: str | None = None,
) -> Page[ShopProduct]:
    """A page of the shop's products in shelf order."""
    window = PRODUCTS.window(
        of.id, search or "", first=first, last=last, after=after, before=before
    )
    rows = await catalogue.products(
        of.merchant_id,
        of.id,
        language=info.context.language,
        search=search,
        beyond=cast("tuple[int, UUID] | None", window.key),
        limit=window.limit + 1,
        backward=window.is_backward,
    )
    return window.page(
        rows,
        key=lambda one: (one.position, one.id),
        total=lambda: catalogue.count_products(of.merchant_id, of.id, search),
    )


async def product_by_id(info: Asked, product_id: UUID) -> ShopProduct | None:
    """A product on sale by its id."""
    return (await catalogue.products_by_id([product_id], info.context.language)).get(product_id)


async def variants(of: Parent[ShopProduct], info: Asked) -> list[ShopVariant]:
    """The variants of a product on sale; those of all products of a page in one statement."""
    market = info.context.market
    key = (of.merchant_id, of.id, market.currency, market.language)
    return await info.context.load(_variants, key)


async def _variants(keys: list[tuple[UUID, UUID, str, str]]) -> Sequence[list[ShopVariant]]:
    found: dict[UUID, list[ShopVariant]] = {}
    for currency, language in {key[2:] for key in keys}:
        wanted = [key[:2] for key in keys if key[2:] == (currency, language)]
        found |= await catalogue.variants_of(wanted, currency=currency, language=language)
    return [found[product_id] for _, product_id, _, _ in keys]


async def variant_by_id(info: Asked, variant_id: UUID) -> ShopVariant | None:
    """A variant on sale by its id."""
    market = info.context.market
    found = await catalogue.variants_by_id(
        [variant_id], currency=market.currency, language=market.language
    )
    return found.get(variant_id)


@strawberry.enum(description="How a list of keys is written.")
class CardFormat(Enum):
    """See domain.catalogue.Format."""

    AUTO = "auto"
    TXT = "txt"
    CSV = "csv"


@strawberry.input(description="What is true of all keys of one import.")
class CardLotInput:
    """All optional."""

    cost: MoneyInput | None = strawberry.field(
        default=None, description="What one key cost; for reports."
    )
    expires_at: datetime | None = strawberry.field(
        default=None,
        description="Until when the keys work; sold first-expiring first, never after. Null: for ever.",
    )
    region: CountryCode | None = strawberry.field(
        default=None, description="Where the keys work; must be the variant's region if it has one."
    )
    note: str = strawberry.field(default="", description="A note, at most 200 characters.")


@strawberry.input(description="A list of keys for one variant's stock: one key per line, or a CSV.")
class ImportCardsInput:
    """Either `text` or `upload`."""

    variant_id: strawberry.ID = strawberry.field(
        description="A variant that is sold by key from stock."
    )
    text: str | None = strawberry.field(
        default=None, description="The list itself, when it fits into a request (256 KiB)."
    )
    upload: strawberry.ID | None = strawberry.field(
        default=None, description="A file sent to POST /uploads by the same account, `upl_…`."
    )
    format: CardFormat = strawberry.field(
        default=CardFormat.AUTO,
        description="AUTO takes CSV when the first line is a header that names a key column.",
    )
    skip_bad_lines: bool = strawberry.field(
        default=False,
        description="Take the good lines and report the others; else one bad line refuses all.",
    )
    lot: CardLotInput | None = strawberry.field(
        default=None, description="Cost, expiry and region of these keys."
    )


async def import_cards(info: Asked, input: ImportCardsInput) -> Report:
    """Bring keys into a variant's stock, all or nothing; key and stock commit together."""
    context = info.context
    viewer = access.require_viewer(context)
    variant_id = _decode(input.variant_id, "var", "variantId")
    merchant_id = await catalogue.owner_of(variant_id)
    if merchant_id is None or not access.may_see(context, merchant_id):
        raise NotFound(path=("input", "variantId"))
    access.require_merchant(context, merchant_id, *access.STOCKERS)
    once = context.once(info)
    import_id = import_id_of(context.caller, once.key)
    upload_id = _decode(input.upload, "upl", "upload") if input.upload else None
    source = await _source(input, upload_id, viewer.account_id)
    async with db.transaction():
        earlier = await once.claim({"import_id": str(import_id)})
        if earlier is not None:
            return await _replayed(info, merchant_id, import_id)
        report = await catalogue.import_cards(
            merchant_id,
            variant_id,
            source,
            actor=access.actor(context, viewer),
            import_id=import_id,
            format=Format(input.format.value),
            lot=_lot(input.lot),
            skip_bad_lines=input.skip_bad_lines,
        )
    if upload_id is not None:
        await catalogue.forget_upload(upload_id)
    return report


async def _replayed(info: Asked, merchant_id: UUID, import_id: UUID) -> Report:
    if info.context.once(info).response is not None:
        return cast(Report, info.context.replay(info))
    info.context.replayed()
    report = await catalogue.report_of([merchant_id], import_id)
    assert report is not None, import_id
    return report


def import_id_of(caller: str, key: str) -> UUID:
    """The import that `caller` starts under an idempotency key: known beforehand, so it can be watched."""
    return UUID(bytes=vault.fingerprint("import", f"{caller}\0{key}"))


def _decode(text: str, prefix: str, name: str) -> UUID:
    try:
        return ids.decode(text, prefix)
    except ids.IdInvalid:
        raise NotFound(path=("input", name)) from None


async def _source(input: ImportCardsInput, upload_id: UUID | None, account_id: UUID) -> str | bytes:
    if (input.text is None) == (upload_id is None):
        raise InputInvalid(FieldInvalid(path=("input", "text"), reason="text_or_upload"))
    if upload_id is None:
        return input.text or ""
    try:
        return await catalogue.upload_content(upload_id, account_id)
    except NotFound as error:
        error.path = ("input", "upload")
        raise


def _lot(given: CardLotInput | None) -> LotTerms:
    if given is None:
        return LotTerms()
    cost = given.cost.parse("input", "lot", "cost") if given.cost else None
    return LotTerms(cost, given.expires_at, given.region, given.note)


async def card_import(info: Asked, key: str) -> Report | None:
    """The import the viewer has started under an idempotency key, also while it runs."""
    viewer = access.require_viewer(info.context)
    return await catalogue.report_of(list(viewer.roles), import_id_of(info.context.caller, key))


async def import_by_id(info: Asked, import_id: UUID) -> Report | None:
    """An import of one of the viewer's merchants."""
    viewer = info.context.viewer
    return await catalogue.report_of(list(viewer.roles), import_id) if viewer else None
