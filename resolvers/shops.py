"""Shops: opened and renamed by their merchant."""

from __future__ import annotations

from uuid import UUID

import strawberry

from domain import merchants
from domain.core import ids, words
from domain.identity import Role
from domain.merchants import Shop
from domain.merchants.rules import handle_faults, name_faults
from resolvers import access, once
from resolvers.context import Asked
from resolvers.inputs import TranslationInput, decode, spoken
from resolvers.scalars import LanguageCode


@strawberry.input(description="A new shop of a merchant.")
class CreateShopInput:
    """By an owner."""

    merchant_id: strawberry.ID = strawberry.field(description="The merchant, `mer_…`.")
    handle: str = strawberry.field(
        description="Its name in addresses: 3 to 40 of a-z, 0-9 and single hyphens; never changes."
    )
    names: list[TranslationInput] = strawberry.field(
        description="Its name, at least one language; 1 to 120 characters."
    )


@strawberry.input(description="A change of a shop; what is left out stays.")
class UpdateShopInput:
    """Its handle never changes: links to it live for ever."""

    shop_id: strawberry.ID = strawberry.field(description="The shop, `shp_…`.")
    expected_version: int = strawberry.field(description="The version it had when it was read.")
    names: list[TranslationInput] | None = strawberry.field(
        default=None, description="Names of the languages named; others stay."
    )
    remove_languages: list[LanguageCode] | None = strawberry.field(
        default=None, description="Languages to drop; one must be left."
    )


async def create(info: Asked, input: CreateShopInput) -> Shop:
    """Open a shop."""
    merchant_id = decode(input.merchant_id, "mer", "merchantId")
    actor = access.stocker(info.context, merchant_id, "merchantId")
    access.require_merchant(info.context, merchant_id, Role.OWNER)
    names = spoken(input.names)
    words.refuse([*handle_faults(input.handle), *name_faults(names)])
    made = ids.uuid7()

    async def act() -> None:
        await merchants.open_shop(merchant_id, input.handle, dict(names), shop_id=made, actor=actor)

    done = await once.do(info, {"id": str(made)}, act)
    return await _shop(UUID(done["id"]))


async def update(info: Asked, input: UpdateShopInput) -> Shop:
    """Change a shop's names."""
    shop_id = decode(input.shop_id, "shp", "shopId")
    found = (await merchants.shops([shop_id])).get(shop_id)
    actor = access.stocker(info.context, found, "shopId")
    assert found is not None
    names, without = spoken(input.names), list[str](input.remove_languages or ())
    languages = words.language_faults(without, ("input", "removeLanguages"))
    words.refuse([*name_faults(names), *languages])

    async def act() -> None:
        await merchants.rename_shop(
            found.merchant_id,
            shop_id,
            dict(names),
            without=without,
            expected_version=input.expected_version,
            actor=actor,
        )

    await once.do(info, {"id": str(shop_id)}, act)
    return await _shop(shop_id)


async def _shop(shop_id: UUID) -> Shop:
    return (await merchants.shops([shop_id]))[shop_id]


async def current(info: Asked, shop_id: UUID) -> Shop | None:
    """A shop as it is now, past what this process keeps."""
    merchants.forget()
    return (await merchants.shops([shop_id])).get(shop_id)
