"""People in the contract: the viewer, signing up, in and out, passwords and sessions."""

from datetime import datetime
from enum import Enum
from typing import Annotated

import strawberry

from domain import identity
from domain.core import ids
from resolvers import people as resolve
from resolvers.members import RoleName as Role
from resolvers.people import (
    Device,
    DevicesForgotten,
    LinkSent,
    Member,
    PasswordReset,
    SessionsEnded,
    SignedIn,
    SignedOut,
)
from schema.field import NEWEST_FIRST, Who, derived, field, mutation_field, object_type, query_field
from schema.orders import Order
from schema.page import Connection
from schema.payments import SavedMethod
from schema.problems import InvalidInput, NotFound, Problem, Unavailable, problem


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


@object_type(description="A device the viewer is signed in on.", rows=(Device,))
class OpenSession:
    """Ends when it rests too long, is too old, or is revoked."""

    id: strawberry.ID = derived(
        lambda one: ids.encode("ses", one.session.id), description="Opaque id, `ses_…`."
    )
    device: str | None = derived(
        lambda one: one.session.user_agent,
        description="What the device says it is (user agent); null when it says nothing.",
    )
    address: str | None = derived(
        lambda one: one.session.address,
        description="The address it signed in from; null when unknown.",
    )
    created_at: datetime = derived(
        lambda one: one.session.created_at, description="When it signed in."
    )
    last_seen_at: datetime = derived(
        lambda one: one.session.last_seen_at,
        description="When it last asked for something, to five minutes.",
    )
    expires_at: datetime = derived(
        lambda one: one.session.expires_at, description="When it ends at the latest."
    )
    is_current: bool = field(description="Whether this request came with it.")


@object_type(description="Who is signed in.", rows=(identity.Viewer,))
class Viewer:
    """The caller's own account; nobody else's can be read."""

    account_id: strawberry.ID = derived(
        lambda seen: ids.encode("acc", seen.account_id), description="The account, `acc_…`."
    )
    email: str = field(description="Its e-mail address.")
    is_verified: bool = field(
        description="Whether it has proved to read that mailbox, by a link in a mail."
    )
    language: str | None = derived(
        lambda seen: seen.locale, description="The language it asked for; null when it never did."
    )
    expires_at: datetime = field(description="When this session ends.")
    memberships: list[Membership] = field(
        description="The merchants it belongs to, oldest first.", resolver=resolve.memberships
    )
    sessions: list[OpenSession] = field(
        description="The devices it is signed in on, newest first, at most 100.",
        resolver=resolve.devices,
    )
    known_devices: int = field(
        description="How many devices have signed in lately; each keeps a count of tries that no stranger can use up.",
        resolver=resolve.known_devices,
    )
    orders: Connection[Order] = field(
        description="The orders placed with exactly its address, newest first; none before the address is proved. "
        "An account that moves to another address keeps what was placed with the one before until then.",
        resolver=resolve.bought,
        args={
            **NEWEST_FIRST,
        },
    )
    saved_methods: list[SavedMethod] = field(
        description="What was saved with its orders and can be charged, the newest first, at most 100.",
        resolver=resolve.saved_methods,
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

    token: str = field(
        description="Opaque bearer token; shown this once, empty when a cookie holds it."
    )
    device: str = field(
        description="Give it as `SignInInput.device` next time; opens nothing by itself. Empty with a cookie."
    )
    expires_at: datetime = field(
        description="When it ends, two weeks from now unless set otherwise."
    )
    viewer: Viewer = field(description="Who is signed in.")


@object_type(name="SignedOut", description="The session is over.", rows=(SignedOut,))
class SessionEnd:
    """Other processes forget the token within five seconds."""

    ended: bool = field(description="False when it was over already.")


@object_type(
    name="LinkSent",
    description="A mail is on its way; whether the address has an account, only its reader learns.",
    rows=(LinkSent,),
)
class MailSent:
    """The same for every address."""

    email: str = field(description="The address as it is stored: lower case, domain in punycode.")


@object_type(name="PasswordReset", description="The password was changed.", rows=(PasswordReset,))
class ResetDone:
    """Sign in with the new one."""

    device: str = field(
        description="Give it as `SignInInput.device`: who was locked out by others' tries gets in."
    )
    signed_out: bool = field(description="Always true: every session of the account has ended.")


@object_type(name="SessionsEnded", description="Sessions that are over.", rows=(SessionsEnded,))
class EndedSessions:
    """Their tokens, cookies and sockets are dead within five seconds."""

    count: int = field(description="How many ended.")


@object_type(
    name="DevicesForgotten",
    description="Devices that are strangers again.",
    rows=(DevicesForgotten,),
)
class ForgottenDevices:
    """Open sessions go on."""

    count: int = field(description="How many.")


@problem(
    identity.CredentialsInvalid,
    description="Wrong password or no such account: both in the same words and time.",
)
class CredentialsInvalid(Problem):
    """Code CREDENTIALS_INVALID."""


@strawberry.enum(description="What may stand beside the password.")
class MfaFactor(Enum):
    """Of an account, by what it has."""

    TOTP = strawberry.enum_value("totp", description="A code of the authenticator app.")
    PASSKEY = strawberry.enum_value("passkey", description="A passkey.")
    RECOVERY_CODE = strawberry.enum_value("recovery_code", description="A code from paper.")


@problem(
    identity.MfaNeeded,
    description="The password was right; the account has a second factor. `completeSignIn` opens the session.",
)
class MfaRequired(Problem):
    """Code MFA_REQUIRED."""

    sign_in_token: str = field(description="For `completeSignIn`; good for one session.")
    factors: list[MfaFactor] = field(description="What it can be completed with.")
    expires_at: datetime = field(description="Until when; five minutes.")


@problem(
    identity.SignInThrottled,
    description="Too many failed tries for this account from this address, for this account, or from this address.",
)
class SignInThrottled(Problem):
    """Code THROTTLED."""

    retry_after: int | None = field(description="Seconds until the next try.")


@problem(
    identity.TooManyTries,
    description="Too many mails to this address, or too many tries from here.",
)
class TooManyTries(Problem):
    """Code THROTTLED."""

    retry_after: int | None = field(description="Seconds until the next try.")


@problem(
    identity.LinkInvalid,
    description="The link was used, has expired or never was one: the same words for all three.",
)
class LinkInvalid(Problem):
    """Code LINK_INVALID."""


SignInResult = Annotated[
    Session | MfaRequired | CredentialsInvalid | SignInThrottled | InvalidInput | Unavailable,
    strawberry.union("SignInResult", description="A session, or why not."),
]
SignOutResult = Annotated[
    SessionEnd | Unavailable,
    strawberry.union("SignOutResult", description="The end of a session, or why not."),
]
SignUpResult = Annotated[
    MailSent | TooManyTries | InvalidInput | Unavailable,
    strawberry.union("SignUpResult", description="A mail on its way, or why not."),
]
VerifyEmailResult = Annotated[
    Session | LinkInvalid | CredentialsInvalid | TooManyTries | InvalidInput | Unavailable,
    strawberry.union("VerifyEmailResult", description="A session of the new account, or why not."),
]
RequestPasswordResetResult = Annotated[
    MailSent | TooManyTries | InvalidInput | Unavailable,
    strawberry.union("RequestPasswordResetResult", description="A mail on its way, or why not."),
]
ResetPasswordResult = Annotated[
    ResetDone | LinkInvalid | TooManyTries | InvalidInput | Unavailable,
    strawberry.union("ResetPasswordResult", description="A new password, or why not."),
]
ChangePasswordResult = Annotated[
    Session | CredentialsInvalid | TooManyTries | InvalidInput | Unavailable,
    strawberry.union(
        "ChangePasswordResult", description="A session under a new token, or why not."
    ),
]
RevokeSessionResult = Annotated[
    EndedSessions | NotFound | Unavailable,
    strawberry.union("RevokeSessionResult", description="The end of a session, or why not."),
]
RevokeOtherSessionsResult = Annotated[
    EndedSessions | Unavailable,
    strawberry.union("RevokeOtherSessionsResult", description="The end of sessions, or why not."),
]


ForgetDevicesResult = Annotated[
    ForgottenDevices | Unavailable,
    strawberry.union("ForgetDevicesResult", description="How many were forgotten, or why not."),
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
        description="Open a session. Tries are counted before the password is looked at: per account and address, "
        "per account, per address; a known device has its own count. Problems: CREDENTIALS_INVALID, THROTTLED; "
        "MFA_REQUIRED with a token when the account has a second factor.",
        args={"input": "Address and password."},
    )
    sign_out: SignOutResult = mutation_field(
        resolve.sign_out, who=Who.SIGNED_IN, description="End the session this request came with."
    )
    sign_up: SignUpResult = mutation_field(
        resolve.sign_up,
        who=Who.ANYONE,
        idempotent=True,
        description="Ask for an account. The answer is the same whether the address has one: what differs is the "
        "mail. `verifyEmail` opens it. Problems: THROTTLED, INVALID_INPUT.",
        args={"input": "Address and password."},
    )
    verify_email: VerifyEmailResult = mutation_field(
        resolve.verify_email,
        who=Who.ANYONE,
        description="Open the account of a sign-up and a session of it: by the link of the mail, once, and the "
        "password that was chosen. Problems: LINK_INVALID, CREDENTIALS_INVALID, THROTTLED.",
        args={"input": "The link's token and the password."},
    )
    request_password_reset: RequestPasswordResetResult = mutation_field(
        resolve.request_reset,
        who=Who.ANYONE,
        idempotent=True,
        description="Ask for a link to a new password. The answer is the same whether the address has an account. "
        "Problems: THROTTLED, INVALID_INPUT.",
        args={"email": "The address of the account."},
    )
    reset_password: ResetPasswordResult = mutation_field(
        resolve.reset_password,
        who=Who.ANYONE,
        description="Choose a new password by a link, once; ends every session of the account and proves the "
        "address. Problems: LINK_INVALID, THROTTLED, INVALID_INPUT.",
        args={"input": "The link's token and the new password."},
    )
    change_password: ChangePasswordResult = mutation_field(
        resolve.change_password,
        who=Who.SIGNED_IN,
        description="Choose a new password by the old one; ends every session, this one too, and opens a new one. "
        "Problems: CREDENTIALS_INVALID, THROTTLED, INVALID_INPUT.",
        args={"input": "The old and the new password."},
    )
    revoke_session: RevokeSessionResult = mutation_field(
        resolve.revoke_session,
        who=Who.SIGNED_IN,
        description="End one session of the viewer, its sockets too. Problems: NOT_FOUND.",
        args={"id": "The session, `ses_…` of `viewer.sessions`."},
    )
    revoke_other_sessions: RevokeOtherSessionsResult = mutation_field(
        resolve.revoke_others,
        who=Who.SIGNED_IN,
        description="End every session of the viewer but this one.",
    )
    forget_devices: ForgetDevicesResult = mutation_field(
        resolve.forget_devices,
        who=Who.SIGNED_IN,
        description="Make every device a stranger again: after the loss of one. Sessions go on.",
    )
