"""People: who asks, signing in and out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import strawberry

from domain import identity
from domain.identity import Viewer
from domain.merchants import merchants
from resolvers.access import require_viewer
from resolvers.context import Asked


@strawberry.input(description="What somebody signs in with.")
class SignInInput:
    """Sent once, never stored or logged."""

    email: str = strawberry.field(description="E-mail address of the account.")
    password: str = strawberry.field(description="Its password, at most 256 characters.")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A new session and who holds it."""

    token: str
    expires_at: datetime
    viewer: Viewer


@dataclass(frozen=True, slots=True)
class SignedOut:
    """Whether a session ended; False when it was over already."""

    ended: bool


@dataclass(frozen=True, slots=True)
class Member:
    """One merchant the viewer belongs to."""

    merchant_id: UUID
    name: str
    role: identity.Role


async def viewer(info: Asked) -> Viewer | None:
    """Who asks; None for a guest."""
    return info.context.viewer


async def memberships(seen: strawberry.Parent[Viewer], info: Asked) -> list[Member]:
    """The merchants the viewer belongs to, oldest first, with their names in one statement."""
    if not seen.roles:
        return []
    found = await merchants(seen.roles)
    return [
        Member(merchant_id, found[merchant_id].name, role)
        for merchant_id, role in seen.roles.items()
        if merchant_id in found
    ]


async def sign_in(info: Asked, input: SignInInput) -> SignedIn:
    """Open a session for this caller's address."""
    context = info.context
    opened = await identity.sign_in(
        input.email, input.password, context.address, user_agent=context.user_agent
    )
    found = await identity.viewer(opened.token)
    assert found is not None, "a session that was just opened"
    return SignedIn(opened.token, opened.expires_at, found)


async def sign_out(info: Asked) -> SignedOut:
    """End the session this operation came with."""
    require_viewer(info.context)
    token = info.context.credential
    return SignedOut(token is not None and await identity.sign_out(token))
