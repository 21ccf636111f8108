"""What is true of people without asking anybody: addresses, passwords, tokens, roles and rights."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
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
LINK_PREFIX, DEVICE_PREFIX, HALF_PREFIX = "kami_l_", "kami_d_", "kami_h_"

# Tries within one window: of an account from one address, of an account from anywhere, and of one
# address that walks through many accounts. A known device has a budget that no stranger can use up.
TRIES_PAIR_MAX = 10
TRIES_ACCOUNT_MAX = 20
TRIES_ADDRESS_MAX = 100
TRIES_DEVICE_MAX = 10
TRIES_WINDOW_S = 900
# Mails with a link: to one address, and asked for from one address, per hour.
MAILS_TARGET_MAX = 4
MAILS_ADDRESS_MAX = 20
MAILS_WINDOW_S = 3600

# Codes of a second factor: five tries in a window, of an account and from one address.
CODE_TRIES_MAX = 5
DEVICE_CODES_MAX = 10  # of one person, in the time one is good and a little more
HALF_SIGN_IN_S, CHALLENGE_S = 300, 300

VERIFY_S, RESET_S, INVITATION_S = 24 * 3600, 3600, 7 * 24 * 3600
UNDO_S = 72 * 3600
DEVICE_DAYS, DEVICES_MAX = 180, 20


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


class Acr(StrEnum):
    """What a session has proved, the weakest first: a password; two factors; a passkey that verified its user."""

    PASSWORD = "pwd"
    MFA = "mfa"
    PHISHING_RESISTANT = "phr"


class Factor(StrEnum):
    """What may stand beside the password."""

    TOTP = "totp"
    PASSKEY = "passkey"
    RECOVERY_CODE = "recovery_code"


class CredentialsInvalid(DomainError):
    """Wrong password, no such account, closed account: the same words for all three."""

    code = "CREDENTIALS_INVALID"


class TooManyTries(DomainError):
    """Too many mails to this address, or too many tries from here; wait `retry_after` seconds."""

    code = "THROTTLED"
    retryable = True


class SignInThrottled(TooManyTries):
    """Too many tries from this address, for this account or at all."""


class MfaNeeded(DomainError):
    """The password was right; `sign_in_token` and one of `factors` open the session until `expires_at`."""

    code = "MFA_REQUIRED"

    def __str__(self) -> str:
        return self.code  # never the token


class TotpInvalid(DomainError):
    """Not the code of now, used before, not six digits, no such recovery code: the same words for all."""

    code = "TOTP_INVALID"


class SignInExpired(DomainError):
    """The half of a sign-in was finished, has expired, or never was one: the same words for all three."""

    code = "SIGN_IN_EXPIRED"


class FactorExists(DomainError):
    """The account has an authenticator app; switch it off before another one is enrolled."""

    code = "FACTOR_EXISTS"


class PasskeyInvalid(DomainError):
    """The answer of an authenticator does not fit: challenge, origin, key, counter, or account."""

    code = "PASSKEY_INVALID"


class LinkInvalid(DomainError):
    """The link was used, has expired or never was one: the same words for all three."""

    code = "LINK_INVALID"


class AlreadyMember(DomainError):
    """The address belongs to a member of this merchant; change the role instead."""

    code = "ALREADY_MEMBER"


class LastOwner(DomainError):
    """A merchant keeps at least one owner."""

    code = "LAST_OWNER"


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
    """A new session: `token` is shown this once, only its hash is stored.

    `device` makes the next sign-in from here one of a known device; it opens nothing by itself.
    """

    token: str
    session_id: UUID
    account_id: UUID
    expires_at: datetime
    device: str


@dataclass(frozen=True, slots=True)
class From:
    """Where somebody signs in from: client address, user agent, token of a known device."""

    address: str | None = None
    user_agent: str | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """How many tries a key has in a window of seconds."""

    key: bytes
    most: int
    window_s: int


@dataclass(frozen=True, slots=True)
class Proof:
    """What a session has proved last, and when; `has_factor` says whether its account has a second factor at all."""

    acr: Acr = Acr.PASSWORD
    at: datetime | None = None
    has_factor: bool = False

    def is_enough(self, wanted: Acr, max_age_s: int, now: datetime) -> bool:
        """Whether it is at least `wanted` and not older than `max_age_s`. Source: RFC 9470."""
        levels = list(Acr)
        return (
            levels.index(self.acr) >= levels.index(wanted)
            and self.at is not None
            and (now - self.at).total_seconds() <= max_age_s
        )


@dataclass(frozen=True, slots=True)
class AppPass:
    """The partner app that acts for the viewer: within these scopes, in this merchant, nowhere else.

    `auth_at` is when the person had signed in to allow it, `key` the thumbprint its token is bound to, `documents_only`
    whether it runs registered documents alone.
    """

    app_id: UUID
    grant_id: UUID
    merchant_id: UUID
    scopes: frozenset[str]
    auth_at: datetime
    key: str | None = None
    documents_only: bool = False


@dataclass(frozen=True, slots=True)
class HeldAddress:
    """An address that an account has proved to read, and from when until when what is placed with it is its own.

    `after` is when another holder left it, None for the first one: then also what was placed long before is its own.
    """

    email: str
    after: datetime | None = None
    until: datetime | None = None

    def holds(self, email: str, at: datetime) -> bool:
        """Whether what was placed with `email` at that moment belongs to who held this."""
        is_since = self.after is None or self.after < at
        return self.email == email and is_since and (self.until is None or at <= self.until)


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks: the account, its role per merchant, and whether it runs the platform.

    With `app` it is a partner app that asks: the account is who allowed it, `roles` holds the one
    merchant it was allowed for, and only fields that one of its scopes opens are its to call.
    """

    account_id: UUID
    email: str
    locale: str | None
    session_id: UUID
    expires_at: datetime
    roles: Mapping[UUID, Role] = field(default_factory=dict)
    operator: bool = False
    operator_roles: frozenset[OperatorRole] = frozenset()
    is_verified: bool = False  # has proved to read the mailbox
    addresses: tuple[HeldAddress, ...] = ()  # what was placed with them is the viewer's
    proof: Proof = Proof()
    app: AppPass | None = None

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


def is_token(text: str, prefix: str = TOKEN_PREFIX) -> bool:
    """Whether `text` has the form of a token at all; anything else needs no look-up."""
    return len(text) == len(prefix) + 43 and text.startswith(prefix) and text.isascii()


def new_token(prefix: str = TOKEN_PREFIX) -> str:
    """A token of 32 random bytes; a leaked one is recognisable by its prefix."""
    return prefix + secrets.token_urlsafe(32)


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


def sign_in_budgets(email: str, address: str | None, device: bytes | None) -> list[Budget]:
    """The budgets of one sign-in try, the first one cleared by a success.

    `device` is the hash of a device that is known to the account: it has its own, and nothing that others do
    counts against it (H10).
    """
    if device is not None:
        key = _key("device", email, device.hex())
        return [Budget(key, TRIES_DEVICE_MAX, TRIES_WINDOW_S)]
    bucket = address_bucket(address)
    return [
        Budget(_key("pair", email, bucket), TRIES_PAIR_MAX, TRIES_WINDOW_S),
        Budget(_key("account", email), TRIES_ACCOUNT_MAX, TRIES_WINDOW_S),
        Budget(_key("address", bucket), TRIES_ADDRESS_MAX, TRIES_WINDOW_S),
    ]


def mail_budgets(email: str, sender: str) -> list[Budget]:
    """The budgets of one mail with a link: to `email`, and asked for by `sender` (an address bucket or account)."""
    return [
        Budget(_key("mail.to", email), MAILS_TARGET_MAX, MAILS_WINDOW_S),
        Budget(_key("mail.by", sender), MAILS_ADDRESS_MAX, MAILS_WINDOW_S),
    ]


def link_budgets(token: str, address: str | None) -> list[Budget]:
    """The budgets of one try to use a link."""
    return [
        Budget(_key("link", token), TRIES_PAIR_MAX, TRIES_WINDOW_S),
        Budget(_key("link.from", address_bucket(address)), TRIES_ADDRESS_MAX, TRIES_WINDOW_S),
    ]


def password_budgets(account_id: UUID) -> list[Budget]:
    """The budget of somebody signed in who names the password again."""
    return [Budget(_key("password", str(account_id)), TRIES_PAIR_MAX, TRIES_WINDOW_S)]


def code_budgets(account_id: UUID, address: str | None) -> list[Budget]:
    """The budgets of one code of a second factor, the first one cleared by a success."""
    return [
        Budget(_key("code", str(account_id)), CODE_TRIES_MAX, TRIES_WINDOW_S),
        Budget(_key("code.from", address_bucket(address)), CODE_TRIES_MAX, TRIES_WINDOW_S),
    ]


def device_budgets(account_id: UUID) -> list[Budget]:
    """The budget of codes of devices that somebody signed in may try: as long as one is good (RFC 8628, 5.1)."""
    return [Budget(_key("device.code", str(account_id)), DEVICE_CODES_MAX, TRIES_WINDOW_S)]


def passkey_budgets(address: str | None) -> list[Budget]:
    """The budget of questions to authenticators asked for from one address."""
    return [
        Budget(_key("passkey.from", address_bucket(address)), TRIES_ADDRESS_MAX, TRIES_WINDOW_S)
    ]


def _key(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
