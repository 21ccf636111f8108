"""Staff of a merchant: who works there, invitations, roles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

import strawberry

from domain import identity, merchants
from domain.core import ids
from domain.core.errors import NotFound
from domain.identity import Actor, Colleague, Invitation, Role
from resolvers import access
from resolvers.context import Asked, Context


@strawberry.enum(
    name="Role", description="What somebody may do in a merchant; an owner may all of it."
)
class RoleName(Enum):
    """One per person and merchant."""

    OWNER = "owner"
    CATALOGUE = "catalogue"
    SUPPORT = "support"
    FINANCE = "finance"
    DEVELOPER = "developer"
    READ_ONLY = "read_only"


@strawberry.input(description="Somebody to be invited.")
class InviteMemberInput:
    """A link goes to the address."""

    merchant_id: strawberry.ID = strawberry.field(description="A merchant the caller owns.")
    email: str = strawberry.field(description="The address of the invited person.")
    role: RoleName = strawberry.field(description="What they may do once they accept.")


@strawberry.input(description="An invitation to end before it is accepted.")
class WithdrawInvitationInput:
    """Its link stops working."""

    merchant_id: strawberry.ID = strawberry.field(description="A merchant the caller owns.")
    invitation_id: strawberry.ID = strawberry.field(description="The invitation, `inv_…`.")


@strawberry.input(description="The link of an invitation.")
class AcceptInvitationInput:
    """The link proves the mailbox."""

    token: str = strawberry.field(description="The token in the link; seven days, once.")
    password: str | None = strawberry.field(
        default=None,
        description="Of the account that is opened; not needed when the address has an account.",
    )


@strawberry.input(description="A member and the role to have from now on.")
class ChangeMemberRoleInput:
    """Ends the member's sessions, so that nothing open keeps the rights of before."""

    merchant_id: strawberry.ID = strawberry.field(description="A merchant the caller owns.")
    account_id: strawberry.ID = strawberry.field(description="The member, `acc_…`.")
    role: RoleName = strawberry.field(description="The new role.")


@strawberry.input(description="A member who is to go.")
class RemoveMemberInput:
    """An owner removes anyone, everybody may leave."""

    merchant_id: strawberry.ID = strawberry.field(description="The merchant.")
    account_id: strawberry.ID = strawberry.field(description="The member, `acc_…`.")


@dataclass(frozen=True, slots=True)
class Joined:
    """A member of a merchant after a change."""

    member: Colleague


@dataclass(frozen=True, slots=True)
class Left:
    """Somebody who was a member."""

    account_id: UUID


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """An invitation that is over."""

    id: UUID


def _decoded(public_id: str, prefix: str, name: str) -> UUID:
    try:
        return ids.decode(public_id, prefix)
    except ids.IdInvalid:
        raise NotFound(path=("input", name)) from None


def _actor(context: Context) -> Actor:
    return Actor(access.require_viewer(context).account_id, context.request_id)


def _owned(context: Context, merchant_id: strawberry.ID) -> UUID:
    """The merchant, when the viewer owns it. Errors: NotFound for somebody else's, Forbidden."""
    found = _decoded(merchant_id, "mer", "merchantId")
    access.require_merchant(context, found, Role.OWNER)
    return found


async def by_id(info: Asked, id: strawberry.ID) -> merchants.Merchant | None:
    """A merchant for its members and for operators; None for everyone else."""
    try:
        return await node(info, ids.decode(id, "mer"))
    except ids.IdInvalid:
        return None


async def node(info: Asked, merchant_id: UUID) -> merchants.Merchant | None:
    """A merchant by its node id."""
    if not access.may_see(info.context, merchant_id):
        return None
    return (await merchants.merchants([merchant_id])).get(merchant_id)


async def _members(merchant_ids: list[UUID]) -> Sequence[list[Colleague]]:
    return await identity.members_of(merchant_ids)


async def _invitations(merchant_ids: list[UUID]) -> Sequence[list[Invitation]]:
    return await identity.invitations_of(merchant_ids)


async def members(of: strawberry.Parent[merchants.Merchant], info: Asked) -> list[Colleague]:
    """The members of a merchant, oldest first."""
    return await info.context.load(_members, of.id)


async def invitations(of: strawberry.Parent[merchants.Merchant], info: Asked) -> list[Invitation]:
    """The open invitations of a merchant; shown to its owners alone."""
    viewer = info.context.viewer
    if viewer is None or not viewer.may(of.id, Role.OWNER):
        return []
    return await info.context.load(_invitations, of.id)


async def invite(info: Asked, input: InviteMemberInput) -> Invitation:
    """Send somebody a link that makes them a member."""
    context = info.context
    merchant_id = _owned(context, input.merchant_id)
    return await identity.invite(
        merchant_id,
        input.email,
        Role(input.role.value),
        locale=context.language,
        by=_actor(context),
        once=context.once(info),
    )


async def withdraw(info: Asked, input: WithdrawInvitationInput) -> Withdrawn:
    """End an invitation."""
    merchant_id = _owned(info.context, input.merchant_id)
    link_id = _decoded(input.invitation_id, "inv", "invitationId")
    await identity.withdraw_invitation(merchant_id, link_id, by=_actor(info.context))
    return Withdrawn(link_id)


async def accept(info: Asked, input: AcceptInvitationInput) -> Joined:
    """Become a member by a link."""
    context = info.context
    return Joined(
        await identity.accept_invitation(
            input.token,
            input.password,
            locale=context.language,
            address=context.address,
            request_id=context.request_id,
        )
    )


async def change_role(info: Asked, input: ChangeMemberRoleInput) -> Joined:
    """Give a member another role."""
    merchant_id = _owned(info.context, input.merchant_id)
    account_id = _decoded(input.account_id, "acc", "accountId")
    role = Role(input.role.value)
    return Joined(
        await identity.change_role(merchant_id, account_id, role, by=_actor(info.context))
    )


async def remove(info: Asked, input: RemoveMemberInput) -> Left:
    """End a membership: an owner anyone's, everybody their own."""
    context = info.context
    is_own = input.account_id == ids.encode("acc", access.require_viewer(context).account_id)
    merchant_id = _decoded(input.merchant_id, "mer", "merchantId")
    access.require_merchant(context, merchant_id, *([] if is_own else [Role.OWNER]))
    account_id = _decoded(input.account_id, "acc", "accountId")
    gone = await identity.remove_member(merchant_id, account_id, by=_actor(context))
    return Left(gone.account_id)
