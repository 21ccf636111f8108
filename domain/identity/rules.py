"""What is true of people without asking anybody: addresses, passwords, tokens, roles and rights."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from email_validator import EmailNotValidError, validate_email

from domain.core.errors import DomainError, FieldInvalid

EMAIL_MAX = 320
PASSWORD_MIN, PASSWORD_MAX = 10, 256
TOKEN_PREFIX = "kami_s_"  # a leaked one is recognisable
TOKEN_LENGTH = len(TOKEN_PREFIX) + 43

# Tries within one window; the second bound stops one address that walks through many accounts.
TRIES_PAIR_MAX = 10
TRIES_ADDRESS_MAX = 100
TRIES_WINDOW_S = 900


class Role(StrEnum):
    """What somebody may do in a merchant; an owner may all of it."""

    OWNER = "owner"
    CATALOGUE = "catalogue"
    SUPPORT = "support"
    FINANCE = "finance"
    DEVELOPER = "developer"
    READ_ONLY = "read_only"


class OperatorRole(StrEnum):
    """What an operator may do on the platform; an admin may all of it."""

    RISK = "risk"
    FINANCE = "finance"
    SUPPORT = "support"
    ADMIN = "admin"


class CredentialsInvalid(DomainError):
    """Wrong password, no such account, closed account: the same words for all three."""

    code = "CREDENTIALS_INVALID"


class SignInThrottled(DomainError):
    """Too many tries from this address, for this account or at all; wait `retry_after` seconds."""

    code = "THROTTLED"
    retryable = True


class EmailTaken(DomainError):
    """Another account has this address. Never shown to somebody who is not signed in."""

    code = "EMAIL_TAKEN"


class Unauthenticated(DomainError):
    """Nobody is signed in, or the session is over."""

    code = "UNAUTHENTICATED"


class Forbidden(DomainError):
    """Signed in, but without the role that this takes."""

    code = "FORBIDDEN"


@dataclass(frozen=True, slots=True)
class SignIn:
    """A new session: `token` is shown this once, only its hash is stored."""

    token: str
    session_id: UUID
    account_id: UUID
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks: the account, its role per merchant, and whether it runs the platform."""

    account_id: UUID
    email: str
    locale: str | None
    session_id: UUID
    expires_at: datetime
    roles: Mapping[UUID, Role] = field(default_factory=dict)
    operator: bool = False
    operator_roles: frozenset[OperatorRole] = frozenset()

    def may(self, merchant_id: UUID, *roles: Role) -> bool:
        """Whether the viewer is a member of the merchant in one of `roles` (any, without)."""
        held = self.roles.get(merchant_id)
        return held is not None and (not roles or held is Role.OWNER or held in roles)

    def may_operate(self, *roles: OperatorRole) -> bool:
        """Whether the viewer is an operator in one of `roles`; without roles any operator is."""
        if not self.operator:
            return False
        return not roles or bool(self.operator_roles & {OperatorRole.ADMIN, *roles})


def normalise_email(text: str, *, path: tuple[str, ...] = ("input", "email")) -> str:
    """The one form in which an address is stored and compared: lower case, domain in punycode.

    Errors: FieldInvalid for anything that is not a plain ASCII-mailbox address: line breaks, two @,
    over 320 characters, quoted or Unicode local parts (they cannot be mailed everywhere). Source:
    RFC 5321, IDNA 2008.
    """
    if len(text) > EMAIL_MAX:
        raise FieldInvalid(path=path, reason="email_too_long")
    try:
        # Deliverability is for mail servers to say; `.test` and one-box names are fine here.
        found = validate_email(
            text, check_deliverability=False, allow_smtputf8=False, test_environment=True
        )
    except EmailNotValidError:
        raise FieldInvalid(path=path, reason="email") from None
    assert found.ascii_email is not None
    return found.ascii_email.lower()


def check_password(text: str, *, path: tuple[str, ...] = ("input", "password")) -> None:
    """Refuse a new password that is too short or too long to hash. Errors: FieldInvalid."""
    if not PASSWORD_MIN <= len(text) <= PASSWORD_MAX or len(set(text)) < PASSWORD_MIN // 2:
        raise FieldInvalid(path=path, reason="password", min=PASSWORD_MIN, max=PASSWORD_MAX)


def token_hash(token: str) -> bytes:
    """What is stored of a token. It carries 256 random bits, so one plain hash is enough."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def is_token(text: str) -> bool:
    """Whether `text` has the form of a session token at all; anything else needs no look-up."""
    return len(text) == TOKEN_LENGTH and text.startswith(TOKEN_PREFIX) and text.isascii()


def address_bucket(address: str | None) -> str:
    """The part of a client address that one person controls: IPv4 whole, IPv6 by its /64."""
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False).network_address) + "/64"
    return str(found)


def try_keys(email: str, address: str | None) -> dict[bytes, int]:
    """The counters of one sign-in try and the bound of each: (account, address) and address."""
    bucket = address_bucket(address)
    return {_key("pair", email, bucket): TRIES_PAIR_MAX, _key("address", bucket): TRIES_ADDRESS_MAX}


def _key(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
