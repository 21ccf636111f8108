"""What holds for partner apps without asking anybody: scopes, addresses, PKCE, what a request may ask for, reuse.

Sources: OAuth 2.1 draft, RFC 6749, 7636 (S256 only), 8628, 8707, 9396, 9700, FAPI 2.0 security profile.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from domain.core import ids, words
from domain.core.errors import DomainError, FieldInvalid
from domain.core.money import Money

CODE_S = 60  # FAPI 2.0, 5.3.1.1
ACCESS_S = 600
REQUEST_S = 300  # a pushed request waits for its browser; FAPI 2.0 allows less than 600
CONSENT_S = 900  # a person reads, signs in, decides
DEVICE_S = 600
DEVICE_INTERVAL_S = 5
REFRESH_DAYS = 90
REFRESH_IDLE_DAYS = 30
GRACE_S = 10  # an answer that was lost on its way may be asked for again
SECRET_GRACE_H = 24

NAME_MAX = 80
URI_MAX = 500
URIS_MAX = 10
APPS_MAX = 50  # of one merchant
GRANTS_MAX = 20  # of one person for one app in one merchant: phones, tills, laptops
STATE_MAX = 1_024
PAGES_MAX = 10
WEBHOOKS_MAX = 10
DETAILS_TYPE = "kami_merchant"
# FAPI 2.0, 5.4.1; EdDSA by its full name (RFC 9864).
ALGORITHMS = ("ES256", "Ed25519")

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}", re.ASCII)
_SCHEME = re.compile(r"[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+", re.ASCII)
_PRINTED = re.compile(r"[\x21-\x7e]+", re.ASCII)
# No vowels: no words. 20 characters, eight of them: 34 bits, for ten minutes, behind a count of tries.
_USER_ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"


class OAuthRefused(Exception):
    """A refusal in the words of the RFCs: `error` is their code, `why` tells a developer what to change.

    Not a DomainError: clients of these endpoints know the RFC's vocabulary, not ours.
    """

    def __init__(self, error: str, why: str, *, status: int = 400) -> None:
        super().__init__(f"{error}: {why}")
        self.error = error
        self.why = why
        self.status = status


class AppLimitExceeded(DomainError):
    """More money than the app was allowed to move under its grant; nothing was moved."""

    code = "APP_LIMIT_EXCEEDED"


class DocumentsInvalid(DomainError):
    """Documents that cannot be registered; `problems` names each one of the `count` and why. None was registered."""

    code = "DOCUMENTS_INVALID"


class Scope(StrEnum):
    """What an app may be allowed; each opens named fields of the contract (schema/scopes.py)."""

    CATALOGUE_READ = "catalogue:read"
    CATALOGUE_WRITE = "catalogue:write"
    STOCK_WRITE = "stock:write"
    ORDERS_READ = "orders:read"
    ORDERS_WRITE = "orders:write"
    MONEY_READ = "money:read"
    REFUNDS_WRITE = "refunds:write"
    CHECKOUT_WRITE = "checkout:write"


# Money is for apps of the finance tier: pushed requests, own keys, bound tokens (FAPI 2.0).
FINANCE = frozenset({Scope.MONEY_READ, Scope.REFUNDS_WRITE})
LIMITED = frozenset({Scope.CHECKOUT_WRITE, Scope.REFUNDS_WRITE})  # what amounts can be limited of


class AuthMethod(StrEnum):
    """How an app proves to the token endpoint who it is; `none` is a public app (a phone, a page, a CLI)."""

    NONE = "none"
    SECRET = "client_secret_basic"
    KEY = "private_key_jwt"


class GrantType(StrEnum):
    """The ways to a token that there are."""

    CODE = "authorization_code"
    REFRESH = "refresh_token"
    CLIENT = "client_credentials"
    DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where an app wants to be told, of which kinds of events (empty is all), and in which shape."""

    url: str
    kinds: tuple[str, ...] = ()
    selection: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the app that the console may open: `place` says where it is offered."""

    place: str
    url: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an app says of itself; all of it can be changed by its developers."""

    name: str
    redirect_uris: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    grant_types: tuple[str, ...] = (GrantType.CODE, GrantType.REFRESH)
    auth_method: AuthMethod = AuthMethod.NONE
    jwks: Mapping[str, Any] | None = None
    requires_par: bool = False
    dpop_bound: bool = False
    documents_only: bool = False
    homepage: str | None = None
    webhooks: tuple[Webhook, ...] = ()
    pages: tuple[Page, ...] = ()


@dataclass(frozen=True, slots=True)
class App:
    """A registered app. `client_id` is its public id."""

    id: UUID
    merchant_id: UUID | None
    manifest: Manifest
    version: int
    created_at: datetime
    secret_hashes: tuple[bytes, ...] = field(default=(), repr=False)
    registration_hash: bytes | None = field(default=None, repr=False)

    @property
    def client_id(self) -> str:
        """`app_…`."""
        return ids.encode("app", self.id)

    @property
    def is_public(self) -> bool:
        """Whether it can keep no secret."""
        return self.manifest.auth_method is AuthMethod.NONE

    @property
    def rotates(self) -> bool:
        """Whether its refresh tokens change with each use, unless they are bound to a key (RFC 9700, 4.14.2)."""
        return self.is_public


@dataclass(frozen=True, slots=True)
class Limit:
    """The most an app may move within a scope, in all, under one grant."""

    scope: str
    most: Money


@dataclass(frozen=True, slots=True)
class Asked:
    """What an app asks a person for. `merchant_id` None lets the person choose; `expires_at` None never ends."""

    scopes: tuple[str, ...]
    redirect_uri: str = ""
    challenge: str = ""
    state: str | None = None
    jkt: str | None = None
    merchant_id: UUID | None = None
    limits: tuple[Limit, ...] = ()
    expires_at: datetime | None = None
    max_age_s: int | None = None
    acr: str | None = None


def hashed(secret: str) -> bytes:
    """What is stored of a token, code or secret of 256 random bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def make(prefix: str) -> str:
    """A new secret: 256 random bits behind a prefix by which a leaked one is recognised."""
    return f"kami_{prefix}_{secrets.token_urlsafe(32)}"


def user_code() -> str:
    """What a person types from a screen: `BCDF-GHJK`."""
    text = "".join(secrets.choice(_USER_ALPHABET) for _ in range(8))
    return f"{text[:4]}-{text[4:]}"


def user_key(typed: str) -> str:
    """A user code as it is compared: upper case, without what people put between."""
    return "".join(char for char in typed[:40].upper() if char in _USER_ALPHABET)


def pkce_matches(challenge: str, verifier: str) -> bool:
    """Whether `verifier` is what was promised (RFC 7636, S256)."""
    if not _VERIFIER.fullmatch(verifier):
        return False
    found = urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=")
    return hmac.compare_digest(found, challenge.encode("ascii", "replace"))


def check_challenge(challenge: str | None, method: str | None) -> str:
    """The challenge of a request. Errors: OAuthRefused without one, or with another method than S256."""
    if not challenge:
        raise OAuthRefused("invalid_request", "code_challenge is required")
    if method != "S256":
        raise OAuthRefused("invalid_request", "code_challenge_method must be S256")
    if not _CHALLENGE.fullmatch(challenge):
        raise OAuthRefused("invalid_request", "code_challenge is not a base64url SHA-256")
    return challenge


def check_response_type(text: str | None) -> None:
    """Errors: OAuthRefused for anything but `code`."""
    if text != "code":
        raise OAuthRefused("unsupported_response_type", "only response_type=code is served")


def check_state(text: str | None) -> str | None:
    """The app's own `state`, handed back as it came. Errors: OAuthRefused when it is too long or not printable."""
    if text is not None and (len(text) > STATE_MAX or not text.isprintable()):
        raise OAuthRefused("invalid_request", f"state has at most {STATE_MAX} printable characters")
    return text


def scopes_of(text: str | None, allowed: Collection[str]) -> tuple[str, ...]:
    """The scopes in a `scope` parameter, sorted; all of `allowed` without one.

    Errors: OAuthRefused for one that is not allowed.
    """
    wanted = sorted(set(text.split(" "))) if text else sorted(allowed)
    beyond = [one for one in wanted if one not in allowed]
    if beyond or not wanted:
        raise OAuthRefused("invalid_scope", "a scope is unknown or was not registered")
    return tuple(wanted)


def redirect_of(asked: str | None, registered: Sequence[str]) -> str:
    """Where to send the browser: character for character one that is registered (OAuth 2.1, 4.1.1).

    Errors: OAuthRefused; then nobody is redirected anywhere.
    """
    if asked is None and len(registered) == 1:
        return registered[0]
    if asked is None or asked not in registered:
        raise OAuthRefused("invalid_request", "redirect_uri is not a registered one")
    return asked


def is_redirect(text: str) -> bool:
    """Whether an address may be registered: https, http on this very machine, or a private scheme of an app."""
    parts = _split(text)
    if parts is None or "#" in text or "@" in parts.netloc or ".." in parts.path.split("/"):
        return False
    if parts.scheme == "https":
        return bool(parts.hostname)
    if parts.scheme == "http":
        return parts.hostname in ("127.0.0.1", "::1")
    return bool(_SCHEME.fullmatch(parts.scheme)) and not parts.netloc


def is_https(text: str) -> bool:
    """Whether an address is a plain https one, without credentials and fragment."""
    parts = _split(text)
    return (
        parts is not None
        and parts.scheme == "https"
        and bool(parts.hostname)
        and "@" not in parts.netloc
        and "#" not in text
    )


def _split(text: str) -> Any:
    if len(text) > URI_MAX or not _PRINTED.fullmatch(text) or set(text) & set('\\"<>^`{|}*'):
        return None
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises for a port that is no number
    except ValueError:
        return None
    return parts


def faults(manifest: Manifest, *, at: str = "input") -> list[DomainError]:
    """Everything that is wrong with a manifest; each fault at its field."""

    def wrong(*path: str, reason: str, **facts: Any) -> DomainError:
        return FieldInvalid(path=(at, *path), reason=reason, **facts)

    found: list[DomainError] = []
    kinds = set(manifest.grant_types)
    if not words.is_line(manifest.name, NAME_MAX):
        found.append(wrong("name", reason="text", min=1, max=NAME_MAX))
    if not kinds - {GrantType.REFRESH} or kinds - set(GrantType):
        found.append(wrong("grantTypes", reason="grant_type"))
    if len(manifest.redirect_uris) > URIS_MAX:
        found.append(wrong("redirectUris", reason="count", max=URIS_MAX))
    found += [
        wrong("redirectUris", str(place), reason="redirect_uri")
        for place, uri in enumerate(manifest.redirect_uris[:URIS_MAX])
        if not is_redirect(uri)
    ]
    if (GrantType.CODE in kinds) != bool(manifest.redirect_uris):
        found.append(wrong("redirectUris", reason="redirect_uris_go_with_codes"))
    if not manifest.scopes or set(manifest.scopes) - set(Scope):
        found.append(wrong("scopes", reason="scope"))
    if GrantType.CLIENT in kinds and manifest.auth_method is AuthMethod.NONE:
        found.append(wrong("grantTypes", reason="a_public_app_has_no_credentials"))
    if (manifest.auth_method is AuthMethod.KEY) != (manifest.jwks is not None):
        found.append(wrong("jwks", reason="keys_go_with_private_key_jwt"))
    if set(manifest.scopes) & FINANCE and not is_finance_grade(manifest):
        found.append(wrong("scopes", reason="finance_scopes_take_par_dpop_private_key_jwt"))
    if manifest.homepage is not None and not is_https(manifest.homepage):
        found.append(wrong("homepage", reason="https"))
    for name, count, most in (
        ("webhooks", len(manifest.webhooks), WEBHOOKS_MAX),
        ("pages", len(manifest.pages), PAGES_MAX),
    ):
        if count > most:
            found.append(wrong(name, reason="count", max=most))
    found += [
        wrong("pages", str(place), "url", reason="https")
        for place, page in enumerate(manifest.pages[:PAGES_MAX])
        if not is_https(page.url)
    ]
    return found


def is_finance_grade(manifest: Manifest) -> bool:
    """Whether an app is held to the FAPI 2.0 security profile."""
    return manifest.auth_method is AuthMethod.KEY and manifest.requires_par and manifest.dpop_bound


class Turn(StrEnum):
    """What a refresh token that is shown means."""

    GOOD = "good"
    AGAIN = "again"  # the answer to its first use was lost: its unused successor is replaced
    REUSED = "reused"  # somebody else has it too: the family ends


def turn(*, used_at: datetime | None, has_next: bool, is_next_used: bool, now: datetime) -> Turn:
    """What showing a refresh token of a rotating family means (RFC 9700, 4.14.2).

    `has_next` says that it was exchanged (not put out of use by another try), `is_next_used` that its successor, or
    one of them, was used or put out of use.
    """
    if used_at is None:
        return Turn.GOOD
    if has_next and not is_next_used and now - used_at <= timedelta(seconds=GRACE_S):
        return Turn.AGAIN
    return Turn.REUSED
