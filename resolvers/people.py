"""People: who asks, signing up, in and out, passwords and sessions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import strawberry

from domain import checkout, identity, orders, payments
from domain.core import clock, ids, vault
from domain.core.errors import NotFound
from domain.core.once import request_hash
from domain.identity import From, OpenSession, Viewer
from domain.merchants import merchants
from resolvers.access import require_viewer
from resolvers.context import DEVICE_COOKIE, SESSION_COOKIE, Asked, Context
from resolvers.errors import BadUserInput
from resolvers.orders import Seen, of_viewer
from resolvers.page import Listing, Page
from resolvers.scalars import LanguageCode

DEVICE_MAX = 100
DEVICE_COOKIE_S = 180 * 86_400


@strawberry.input(description="What somebody signs in with.")
class SignInInput:
    """Sent once, never stored or logged."""

    email: str = strawberry.field(description="E-mail address of the account.")
    password: str = strawberry.field(description="Its password, at most 256 characters.")
    device: str | None = strawberry.field(
        default=None,
        description="`Session.device` of an earlier sign-in from here: a known device gets in whatever others try.",
    )
    cookie: bool = strawberry.field(
        default=False,
        description="For pages of our own: keep the session in an HttpOnly cookie of this browser; `token` and "
        "`device` are then empty. Over HTTP only.",
    )


@strawberry.input(description="An account to be opened.")
class SignUpInput:
    """Sent once; the password is kept as a hash until the address is confirmed."""

    email: str = strawberry.field(description="The address; a link goes there.")
    password: str = strawberry.field(description="10 to 256 characters, not a few repeated ones.")
    locale: LanguageCode | None = strawberry.field(
        default=None, description="Language of its mails; that of the request when omitted."
    )


@strawberry.input(description="The link of a sign-up, and the password that was chosen with it.")
class VerifyEmailInput:
    """The link proves the mailbox, the password that its reader is who signed up."""

    token: str = strawberry.field(description="The token in the link; 24 hours, once.")
    password: str = strawberry.field(description="The password given to `signUp`.")
    cookie: bool = strawberry.field(default=False, description="As in `SignInInput`.")


@strawberry.input(description="The link of a reset and the password to have from now on.")
class ResetPasswordInput:
    """Ends every session of the account."""

    token: str = strawberry.field(description="The token in the link; one hour, once.")
    new_password: str = strawberry.field(description="10 to 256 characters.")


@strawberry.input(description="A new password for somebody who knows the old one.")
class ChangePasswordInput:
    """Ends every session of the account, this one included, and opens a new one."""

    current_password: str = strawberry.field(description="The password until now.")
    new_password: str = strawberry.field(description="10 to 256 characters.")
    cookie: bool = strawberry.field(default=False, description="As in `SignInInput`.")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A new session and who holds it."""

    token: str
    device: str
    expires_at: datetime
    viewer: Viewer


@dataclass(frozen=True, slots=True)
class SignedOut:
    """Whether a session ended; False when it was over already."""

    ended: bool


@dataclass(frozen=True, slots=True)
class LinkSent:
    """A mail is on its way to this address."""

    email: str


@dataclass(frozen=True, slots=True)
class PasswordReset:
    """The password is another one now; `device` makes the next sign-in from here one of a known device."""

    device: str
    signed_out: bool = True


@dataclass(frozen=True, slots=True)
class SessionsEnded:
    """How many sessions ended."""

    count: int


@dataclass(frozen=True, slots=True)
class DevicesForgotten:
    """How many devices are strangers now."""

    count: int


@dataclass(frozen=True, slots=True)
class Device:
    """An open session of the viewer."""

    session: OpenSession
    is_current: bool


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


async def devices(seen: strawberry.Parent[Viewer], info: Asked) -> list[Device]:
    """The open sessions of the viewer, newest first."""
    return [
        Device(one, one.id == seen.session_id)
        for one in await identity.sessions_of(seen.account_id)
    ]


async def known_devices(seen: strawberry.Parent[Viewer], info: Asked) -> int:
    """How many devices are known to the account."""
    return await identity.known_devices(seen.account_id)


async def forget_devices(info: Asked) -> DevicesForgotten:
    """Every device is a stranger again."""
    return DevicesForgotten(await identity.forget_devices(require_viewer(info.context).account_id))


ORDERS = Listing("viewer.orders", UUID)


async def bought(
    seen: strawberry.Parent[Viewer],
    info: Asked,
    first: int | None = None,
    last: int | None = None,
    after: str | None = None,
    before: str | None = None,
) -> Page[Seen]:
    """The orders of the viewer's addresses, newest first; none while an address is not proved (E19)."""
    window = ORDERS.window(seen.account_id, first=first, last=last, after=after, before=before)
    key = window.key[0] if window.key else None
    rows = await orders.of_addresses(
        seen.addresses, key, window.limit + 1, backward=window.is_backward
    )
    return window.page([of_viewer(info, row) for row in rows], key=lambda one: (one.order.id,))


async def saved_methods(seen: strawberry.Parent[Viewer], info: Asked) -> list[payments.SavedMethod]:
    """What was saved with the viewer's orders."""
    return await checkout.saved_by(seen.addresses)


def came_from(context: Context, device: str | None = None) -> From:
    given = device or context.device
    return From(context.address, context.user_agent, given[:DEVICE_MAX] if given else None)


async def session_for(context: Context, opened: identity.SignIn, *, as_cookie: bool) -> SignedIn:
    """A new session as its holder gets it: by token, or in the cookies of this browser."""
    found = await identity.viewer(opened.token)
    assert found is not None, "a session that was just opened"
    if not as_cookie:
        return SignedIn(opened.token, opened.device, opened.expires_at, found)
    lasts_s = int((opened.expires_at - clock.now()).total_seconds())
    context.keep_cookie(SESSION_COOKIE, opened.token, lasts_s)
    context.keep_cookie(DEVICE_COOKIE, opened.device, DEVICE_COOKIE_S)
    return SignedIn("", "", opened.expires_at, found)


def check_cookie(context: Context, as_cookie: bool) -> None:
    if as_cookie and context.cookies is None:
        raise BadUserInput(reason="A cookie can be kept over HTTP only.")


async def sign_in(info: Asked, input: SignInInput) -> SignedIn:
    """Open a session for this caller's address; a session that came in a cookie is replaced by it."""
    context = info.context
    check_cookie(context, input.cookie)
    where = came_from(context, input.device)
    opened = await identity.sign_in(
        input.email,
        input.password,
        where.address,
        user_agent=where.user_agent,
        device=where.device,
    )
    if input.cookie and context.came_by_cookie and context.credential is not None:
        await identity.sign_out(context.credential)
    return await session_for(context, opened, as_cookie=input.cookie)


async def sign_out(info: Asked) -> SignedOut:
    """End the session this operation came with."""
    context = info.context
    require_viewer(context)
    token = context.credential
    ended = token is not None and await identity.sign_out(token)
    if context.came_by_cookie and context.cookies is not None:
        context.keep_cookie(SESSION_COOKIE, "", 0)
    return SignedOut(ended)


def hash_beside_password(given: dict[str, Any], purpose: str) -> bytes:
    """The hash of an input with a password. The usual one is fast: it would tell the password to whoever tries many."""
    kept = vault.fingerprint(purpose, given["password"]).hex()
    return request_hash({**given, "password": kept})


async def sign_up(info: Asked, input: SignUpInput) -> LinkSent:
    """Ask for an account: the same answer whether the address has one or not."""
    context = info.context
    once = context.once(info)
    once.request_hash = hash_beside_password(asdict(input), "sign_up")
    email = await identity.sign_up(
        input.email,
        input.password,
        input.locale or context.language,
        address=context.address,
        once=once,
    )
    return LinkSent(email)


async def verify_email(info: Asked, input: VerifyEmailInput) -> SignedIn:
    """Open the account and a session of it."""
    check_cookie(info.context, input.cookie)
    opened = await identity.verify_email(input.token, input.password, came_from(info.context))
    return await session_for(info.context, opened, as_cookie=input.cookie)


async def request_reset(info: Asked, email: str) -> LinkSent:
    """Ask for a new password: the same answer whether the address has an account or not."""
    context = info.context
    known = await identity.request_reset(
        email, context.language, address=context.address, once=context.once(info)
    )
    return LinkSent(known)


async def reset_password(info: Asked, input: ResetPasswordInput) -> PasswordReset:
    """A new password by a link."""
    context = info.context
    return PasswordReset(
        await identity.reset_password(input.token, input.new_password, address=context.address)
    )


async def change_password(info: Asked, input: ChangePasswordInput) -> SignedIn:
    """A new password by the old one, and a session under a new token."""
    context = info.context
    check_cookie(context, input.cookie)
    opened = await identity.change_password(
        require_viewer(context).account_id,
        input.current_password,
        input.new_password,
        came_from(context),
        request_id=context.request_id,
    )
    return await session_for(context, opened, as_cookie=input.cookie)


async def revoke_session(info: Asked, id: strawberry.ID) -> SessionsEnded:
    """End one session of the viewer."""
    found = require_viewer(info.context)
    try:
        session_id = ids.decode(id, "ses")
    except ids.IdInvalid:
        raise NotFound(path=("id",)) from None
    return SessionsEnded(await identity.revoke_session(found.account_id, session_id))


async def revoke_others(info: Asked) -> SessionsEnded:
    """End every session of the viewer but this one."""
    found = require_viewer(info.context)
    return SessionsEnded(await identity.revoke_others(found.account_id, found.session_id))
