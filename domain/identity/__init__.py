"""Who is there: accounts, passwords, sessions, memberships of merchants, and the viewer they add up
to."""

from __future__ import annotations

from domain.identity.actions import (
    close,
    grant,
    grant_operator,
    prune,
    register,
    revoke,
    set_password,
    sign_in,
    sign_out,
)
from domain.identity.models import Account, AccountKind, Membership
from domain.identity.queries import account_by_email, forget_viewers, viewer
from domain.identity.rules import (
    CredentialsInvalid,
    EmailTaken,
    Forbidden,
    OperatorRole,
    Role,
    SignIn,
    SignInThrottled,
    Unauthenticated,
    Viewer,
    normalise_email,
)

__all__ = [
    "Account",
    "AccountKind",
    "CredentialsInvalid",
    "EmailTaken",
    "Forbidden",
    "Membership",
    "OperatorRole",
    "Role",
    "SignIn",
    "SignInThrottled",
    "Unauthenticated",
    "Viewer",
    "account_by_email",
    "close",
    "forget_viewers",
    "grant",
    "grant_operator",
    "normalise_email",
    "prune",
    "register",
    "revoke",
    "set_password",
    "sign_in",
    "sign_out",
    "viewer",
]
