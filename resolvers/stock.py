"""Lots of keys: looked at, taken off the shelf and put back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

import strawberry

from domain import catalogue
from domain.catalogue import Lot
from domain.core.audit import Actor
from domain.core.errors import NotFound
from resolvers import access, once
from resolvers.context import Asked
from resolvers.inputs import decode
from resolvers.page import Listing, Page

LOTS = Listing("variant.lots", int)
Move = Callable[[Lot, int | None, Actor, str], Awaitable[int]]


@strawberry.input(description="Keys of one lot that go off the shelf.")
class WithdrawCardsInput:
    """Reserved and sold keys stay their buyers'."""

    lot_id: strawberry.ID = strawberry.field(description="The lot, `lot_…`.")
    count: int | None = strawberry.field(
        default=None, description="How many at most; all that are available when omitted."
    )
    reason: str = strawberry.field(description="Why, for the records; 1 to 200 characters.")


@strawberry.input(description="Withdrawn keys of one lot that go back on the shelf.")
class RestoreCardsInput:
    """Keys that were exported stay off the shelf."""

    lot_id: strawberry.ID = strawberry.field(description="The lot, `lot_…`.")
    count: int | None = strawberry.field(
        default=None, description="How many at most; all that were withdrawn when omitted."
    )
    reason: str = strawberry.field(description="Why, for the records; 1 to 200 characters.")


@dataclass(frozen=True, slots=True)
class Moved:
    """A lot after keys of it were moved, and how many."""

    lot: Lot
    moved: int


async def withdraw(info: Asked, input: WithdrawCardsInput) -> Moved:
    """Take keys off the shelf."""
    return await _move(info, input, catalogue.withdraw)


async def restore(info: Asked, input: RestoreCardsInput) -> Moved:
    """Put keys back on the shelf."""
    return await _move(info, input, catalogue.restore)


async def _move(info: Asked, input: WithdrawCardsInput | RestoreCardsInput, move: Move) -> Moved:
    viewer = access.require_viewer(info.context)
    lot_id = decode(input.lot_id, "lot", "lotId")
    lot = await catalogue.find_lot(list(viewer.roles), lot_id)
    actor = access.stocker(info.context, lot, "lotId")
    assert lot is not None

    async def act() -> dict[str, object]:
        return {"moved": await move(lot, input.count, actor, input.reason)}

    done = await once.do(info, {"lot": lot.no}, act)
    found = await catalogue.find_lot([lot.merchant_id], lot_id)
    assert found is not None
    return Moved(found, done["moved"])


async def lots(
    info: Asked,
    variant_id: strawberry.ID,
    first: int | None = None,
    last: int | None = None,
    after: str | None = None,
    before: str | None = None,
) -> Page[Lot]:
    """The lots of a variant, newest first."""
    access.require_viewer(info.context)
    variant = decode(variant_id, "var", "variantId")
    merchant_id = await catalogue.owner_of(variant)
    access.shelf_reader(info.context, merchant_id)
    if merchant_id is None:
        raise NotFound()
    window = LOTS.window(variant, first=first, last=last, after=after, before=before)
    key = cast("tuple[int] | None", window.key)
    rows = await catalogue.lots_of(
        merchant_id,
        variant,
        beyond=key[0] if key else None,
        limit=window.limit + 1,
        backward=window.is_backward,
    )
    return window.page(rows, key=lambda one: (one.no,))
