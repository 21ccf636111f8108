"""The documents an app has registered, as the developers of its merchant manage them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import strawberry

from domain import partners
from domain.partners import App, Document
from resolvers import access
from resolvers.context import Asked as Info
from resolvers.page import Listing, Page
from resolvers.partners import own

DOCUMENTS = Listing("app.documents", str)


@strawberry.input(description="Documents that an app wants to run by their id.")
class RegisterAppDocumentsInput:
    """All of them or none."""

    app_id: strawberry.ID = strawberry.field(description="The app, `app_…`.")
    documents: list[str] = strawberry.field(
        description="GraphQL texts exactly as they are hashed, 1 to 50 of at most 16,384 characters; an app has at "
        "most 500."
    )


@strawberry.input(description="Documents that an app runs no more.")
class RemoveAppDocumentsInput:
    """Ids it does not have are left out."""

    app_id: strawberry.ID = strawberry.field(description="The app, `app_…`.")
    ids: list[str] = strawberry.field(description="Their ids, 1 to 50.")


@dataclass(frozen=True, slots=True)
class Registered:
    """Documents in the order they were sent."""

    documents: list[Document]


@dataclass(frozen=True, slots=True)
class Removed:
    """How many there were."""

    count: int


async def register(info: Info, input: RegisterAppDocumentsInput) -> Registered:
    """Register documents of an app."""
    found, owner, viewer = await own(info, input.app_id)
    actor = access.actor(info.context, viewer)
    made = await partners.register_documents(owner, found.id, input.documents, actor=actor)
    return Registered(made)


async def remove(info: Info, input: RemoveAppDocumentsInput) -> Removed:
    """Take documents away."""
    found, owner, viewer = await own(info, input.app_id)
    actor = access.actor(info.context, viewer)
    return Removed(await partners.unregister(owner, found.id, input.ids, actor=actor))


async def of_app(
    row: strawberry.Parent[App],
    first: int | None = None,
    last: int | None = None,
    after: str | None = None,
    before: str | None = None,
) -> Page[Document]:
    """An app's documents by their ids."""
    window = DOCUMENTS.window(row.id, first=first, last=last, after=after, before=before)
    key = cast("tuple[str] | None", window.key)
    rows = await partners.registered(
        row.id, key[0] if key else None, window.limit + 1, backward=window.is_backward
    )
    return window.page(rows, key=lambda one: (one.id,))
