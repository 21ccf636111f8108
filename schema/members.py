"""A merchant and its staff in the contract: members, invitations, roles."""

from datetime import datetime
from typing import Annotated

import strawberry

from domain import identity, merchants
from domain.core import ids
from resolvers import members as resolve
from resolvers.members import Joined, Left, RoleName, Withdrawn
from resolvers.stepup import FRESH
from schema.field import Who, derived, field, mutation_field, object_type, query_field
from schema.node import Node, register
from schema.people import LinkInvalid, TooManyTries
from schema.problems import InvalidInput, NotFound, Problem, Unavailable, problem


@object_type(description="Somebody who works for a merchant.", rows=(identity.Colleague,))
class MerchantMember:
    """Seen by the other members."""

    account_id: strawberry.ID = derived(
        lambda one: ids.encode("acc", one.account_id), description="The account, `acc_…`."
    )
    email: str = field(description="Its e-mail address.")
    role: RoleName = derived(
        lambda one: RoleName(one.role.value), description="What it may do here."
    )
    granted_at: datetime = field(description="Since when it has this role.")


@object_type(description="An invitation to a merchant's staff.", rows=(identity.Invitation,))
class Invitation:
    """Waits for its reader."""

    id: strawberry.ID = derived(
        lambda one: ids.encode("inv", one.id), description="Opaque id, `inv_…`."
    )
    email: str = field(description="Where its link was sent.")
    role: RoleName = derived(
        lambda one: RoleName(one.role.value), description="What its reader may do once accepted."
    )
    created_at: datetime = field(description="When it was sent.")
    expires_at: datetime = field(description="Until when it can be accepted.")


@object_type(description="Who sells: shops, staff, money.", rows=(merchants.Merchant,))
class Merchant(Node):
    """Seen by its members and by operators."""

    id: strawberry.ID = derived(
        lambda one: ids.encode("mer", one.id), description="Opaque id, `mer_…`."
    )
    name: str = field(description="Its name.")
    members: list[MerchantMember] = field(
        description="Who works here, oldest first.", resolver=resolve.members, cost=5
    )
    invitations: list[Invitation] = field(
        description="Invitations not accepted yet, oldest first; empty for anyone but its owners.",
        resolver=resolve.invitations,
        cost=5,
    )


@object_type(name="MemberChanged", description="A member after a change.", rows=(Joined,))
class ChangedMember:
    """Holds at once in every process."""

    member: MerchantMember = field(description="The member.")


@object_type(name="MemberRemoved", description="Somebody who was a member.", rows=(Left,))
class RemovedMember:
    """Their sessions have ended."""

    account_id: strawberry.ID = derived(
        lambda one: ids.encode("acc", one.account_id), description="The account, `acc_…`."
    )


@object_type(
    name="InvitationWithdrawn", description="An invitation that is over.", rows=(Withdrawn,)
)
class WithdrawnInvitation:
    """Its link opens nothing any more."""

    invitation_id: strawberry.ID = derived(
        lambda one: ids.encode("inv", one.id), description="The invitation, `inv_…`."
    )


@problem(identity.AlreadyMember, description="The address belongs to a member of this merchant.")
class AlreadyMember(Problem):
    """Code ALREADY_MEMBER."""


@problem(identity.LastOwner, description="A merchant keeps at least one owner.")
class LastOwner(Problem):
    """Code LAST_OWNER."""


InviteMemberResult = Annotated[
    Invitation | AlreadyMember | TooManyTries | NotFound | InvalidInput | Unavailable,
    strawberry.union("InviteMemberResult", description="An invitation, or why not."),
]
WithdrawInvitationResult = Annotated[
    WithdrawnInvitation | NotFound | Unavailable,
    strawberry.union(
        "WithdrawInvitationResult", description="The end of an invitation, or why not."
    ),
]
AcceptInvitationResult = Annotated[
    ChangedMember | LinkInvalid | TooManyTries | InvalidInput | Unavailable,
    strawberry.union("AcceptInvitationResult", description="A new member, or why not."),
]
ChangeMemberRoleResult = Annotated[
    ChangedMember | LastOwner | NotFound | Unavailable,
    strawberry.union("ChangeMemberRoleResult", description="A member's new role, or why not."),
]
RemoveMemberResult = Annotated[
    RemovedMember | LastOwner | NotFound | Unavailable,
    strawberry.union("RemoveMemberResult", description="The end of a membership, or why not."),
]

register("mer", Merchant, resolve.node)


@strawberry.type
class MemberQuery:
    """Reads."""

    merchant: Merchant | None = query_field(
        resolve.by_id,
        who=(Who.MERCHANT, Who.OPERATOR),
        description="One merchant, for its members and operators. Null for everyone else.",
        args={"id": "The merchant, `mer_…`."},
    )


@strawberry.type
class MemberMutation:
    """Writes. Each change is on the audit log with what was before and after."""

    invite_member: InviteMemberResult = mutation_field(
        resolve.invite,
        who=Who.MERCHANT,
        idempotent=True,
        step_up=FRESH,
        description="Send a link that makes its reader a member, for seven days; by an owner. "
        "Problems: ALREADY_MEMBER, THROTTLED, NOT_FOUND, INVALID_INPUT.",
        args={"input": "Whom, and as what."},
    )
    withdraw_invitation: WithdrawInvitationResult = mutation_field(
        resolve.withdraw,
        who=Who.MERCHANT,
        description="End an invitation before it is accepted; by an owner. Problems: NOT_FOUND.",
        args={"input": "The invitation."},
    )
    accept_invitation: AcceptInvitationResult = mutation_field(
        resolve.accept,
        who=Who.ANYONE,
        description="Become a member by the link of a mail, once; an address without an account gets one. "
        "Problems: LINK_INVALID, THROTTLED, INVALID_INPUT.",
        args={"input": "The link's token, and a password for a new account."},
    )
    change_member_role: ChangeMemberRoleResult = mutation_field(
        resolve.change_role,
        who=Who.MERCHANT,
        step_up=FRESH,
        description="Give a member another role, by an owner; their sessions end. Problems: LAST_OWNER, NOT_FOUND.",
        args={"input": "The member and the role."},
    )
    remove_member: RemoveMemberResult = mutation_field(
        resolve.remove,
        who=Who.MERCHANT,
        step_up=FRESH,
        description="End a membership and the member's sessions: an owner anyone's, everybody their own. "
        "Problems: LAST_OWNER, NOT_FOUND.",
        args={"input": "The member."},
    )
