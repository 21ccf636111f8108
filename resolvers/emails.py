"""Another e-mail address for an account: asked for, confirmed, taken back."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import strawberry

from domain import identity
from resolvers.access import require_viewer
from resolvers.context import Asked
from resolvers.mfa import prove_what_is_held
from resolvers.people import LinkSent, hash_beside_password


@strawberry.input(description="Another address for the viewer's account.")
class ChangeEmailInput:
    """Whoever only holds the session cannot take the account elsewhere."""

    email: str = strawberry.field(description="The new address; a link goes there.")
    password: str = strawberry.field(description="The password of the account.")


@strawberry.input(description="The link that went to the new address.")
class ConfirmEmailInput:
    """The link proves the mailbox, the password that its reader is who asked."""

    token: str = strawberry.field(description="The token in the link; 24 hours, once.")
    password: str = strawberry.field(description="The password of the account that asked.")


@strawberry.input(description="The link that went to the address of before.")
class UndoEmailInput:
    """Whoever changed the address knew the password, so there is a new one."""

    token: str = strawberry.field(description="The token in the link; 72 hours, once.")
    new_password: str = strawberry.field(description="10 to 256 characters.")


@dataclass(frozen=True, slots=True)
class Moved:
    """The account has another address."""

    email: str


@dataclass(frozen=True, slots=True)
class Restored:
    """The account has the address of before, and a new password."""

    email: str
    device: str


async def change(info: Asked, input: ChangeEmailInput) -> LinkSent:
    """Ask for another address: the same answer whoever it belongs to."""
    context = info.context
    viewer = require_viewer(context)
    await prove_what_is_held(context)
    once = context.once(info)
    once.request_hash = hash_beside_password(asdict(input), "change_email")
    email = await identity.change_email(
        viewer.account_id,
        input.email,
        input.password,
        session_id=viewer.session_id,
        locale=context.language,
        once=once,
    )
    return LinkSent(email)


async def confirm(info: Asked, input: ConfirmEmailInput) -> Moved:
    """Move the account to the address of the link."""
    address = info.context.address
    return Moved(await identity.confirm_email(input.token, input.password, address=address))


async def undo(info: Asked, input: UndoEmailInput) -> Restored:
    """Take a change back."""
    address = info.context.address
    return Restored(*await identity.undo_email(input.token, input.new_password, address=address))
