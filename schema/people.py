"""People in the contract: the viewer, signing in and out."""

from datetime import datetime
from enum import Enum
from typing import Annotated

import strawberry

from domain import identity
from domain.core import ids
from resolvers import people as resolve
from resolvers.people import Member, SignedIn, SignedOut
from schema.field import Who, derived, field, mutation_field, object_type, query_field
from schema.problems import InvalidInput, Problem, Unavailable, problem


@strawberry.enum(description="What somebody may do in a merchant; an owner may all of it.")
class Role(Enum):
    """One per person and merchant."""

    OWNER = "owner"
    CATALOGUE = "catalogue"
    SUPPORT = "support"
    FINANCE = "finance"
    DEVELOPER = "developer"
    READ_ONLY = "read_only"


@strawberry.enum(description="What an operator may do on the platform; an admin may all of it.")
class OperatorRole(Enum):
    """Held on top of each other."""

    RISK = "risk"
    FINANCE = "finance"
    SUPPORT = "support"
    ADMIN = "admin"


@object_type(description="A merchant the viewer belongs to, and as what.", rows=(Member,))
class Membership:
    """Takes effect within five seconds when it changes."""

    merchant_id: strawberry.ID = derived(
        lambda one: ids.encode("mer", one.merchant_id), description="The merchant, `mer_…`."
    )
    merchant_name: str = derived(lambda one: one.name, description="Its name.")
    role: Role = derived(lambda one: Role(one.role.value), description="The viewer's role in it.")


@object_type(description="Who is signed in.", rows=(identity.Viewer,))
class Viewer:
    """The caller's own account; nobody else's can be read."""

    account_id: strawberry.ID = derived(
        lambda seen: ids.encode("acc", seen.account_id), description="The account, `acc_…`."
    )
    email: str = field(description="Its e-mail address.")
    language: str | None = derived(
        lambda seen: seen.locale, description="The language it asked for; null when it never did."
    )
    expires_at: datetime = field(description="When this session ends.")
    memberships: list[Membership] = field(
        description="The merchants it belongs to, oldest first.", resolver=resolve.memberships
    )
    is_operator: bool = derived(
        lambda seen: seen.operator, description="Whether it runs the platform."
    )
    operator_roles: list[OperatorRole] = derived(
        lambda seen: [OperatorRole(role) for role in sorted(seen.operator_roles)],
        description="What it may do there; empty for everyone else.",
    )


@object_type(description="A new session.", rows=(SignedIn,))
class Session:
    """Send the token as `Authorization: Bearer …`, or as `authorization` in `connection_init`."""

    token: str = field(description="Opaque bearer token; shown this once.")
    expires_at: datetime = field(description="When it ends, two weeks from now.")
    viewer: Viewer = field(description="Who is signed in.")


@object_type(name="SignedOut", description="The session is over.", rows=(SignedOut,))
class SessionEnd:
    """Other processes forget the token within five seconds."""

    ended: bool = field(description="False when it was over already.")


@problem(
    identity.CredentialsInvalid,
    description="Wrong password or no such account: both in the same words and time.",
)
class CredentialsInvalid(Problem):
    """Code CREDENTIALS_INVALID."""


@problem(
    identity.SignInThrottled,
    description="Too many failed tries for this account from this address, or from this address.",
)
class SignInThrottled(Problem):
    """Code THROTTLED."""

    retry_after: int | None = field(description="Seconds until the next try.")


SignInResult = Annotated[
    Session | CredentialsInvalid | SignInThrottled | InvalidInput | Unavailable,
    strawberry.union("SignInResult", description="A session, or why not."),
]

SignOutResult = Annotated[
    SessionEnd | Unavailable,
    strawberry.union("SignOutResult", description="The end of a session, or why not."),
]


@strawberry.type
class PeopleQuery:
    """Reads."""

    viewer: Viewer | None = query_field(
        resolve.viewer, who=Who.ANYONE, description="Who is signed in; null for a guest."
    )


@strawberry.type
class PeopleMutation:
    """Writes."""

    sign_in: SignInResult = mutation_field(
        resolve.sign_in,
        who=Who.ANYONE,
        description="Open a session. Tries are counted per account and address before the password "
        "is looked at. Problems: CREDENTIALS_INVALID, THROTTLED.",
        args={"input": "Address and password."},
    )
    sign_out: SignOutResult = mutation_field(
        resolve.sign_out, who=Who.SIGNED_IN, description="End the session this request came with."
    )
