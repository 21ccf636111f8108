"""Tokens of partner apps at the door: how one was shown, whether it is its holder who shows it, what a refusal says.

Source: RFC 6750 (bearer), RFC 9449 section 7 (DPoP: the proof is for this method, address and token, once, and holds
one of our nonces), RFC 9470 (step-up).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphql import GraphQLError

from domain import identity, partners
from domain.core import clock
from domain.core.errors import DomainError
from domain.core.settings import settings
from domain.identity import Unauthenticated
from domain.partners import OAuthRefused
from resolvers.context import Context
from server.graphql import masking

if TYPE_CHECKING:
    from domain.identity import Viewer


@dataclass(frozen=True, slots=True)
class Shown:
    """How a token came: the scheme in lower case, the DPoP proof, and of which request."""

    scheme: str
    proof: str | None = None
    method: str = ""
    path: str = ""


# A connection whose first message was proven: its token is looked at again, its proof is not.
BEFORE = Shown("before")


class TokenRefused(Unauthenticated):
    """An app's token that is not good, or not its holder's; facts `error`, `why`, `nonce` for the challenge."""


async def viewer(token: str, shown: Shown | None) -> Viewer:
    """Who an app's token stands for. Errors: TokenRefused."""
    found = await partners.viewer(token)
    if found is None or found.app is None or shown is None:
        raise TokenRefused(error="invalid_token", why="the token is unknown or over")
    if shown is BEFORE:
        return found
    key = found.app.key
    if (shown.scheme == "dpop") != (key is not None):
        raise TokenRefused(error="invalid_token", why="the token goes by another scheme")
    if key is not None:
        await _prove(token, key, shown)
    return found


async def _prove(token: str, key: str, shown: Shown) -> None:
    now = clock.now()
    nonces = partners.nonces(now)
    try:
        proven = partners.dpop(
            shown.proof or "",
            method=shown.method,
            url=settings().public_url + shown.path,
            nonces=nonces,
            now=now,
            token=token,
        )
        if proven.jkt != key:
            raise OAuthRefused("invalid_token", "the token is bound to another key")
        await partners.prove_once("dpop", proven)
    except OAuthRefused as error:
        raise TokenRefused(error=error.error, why=error.why, nonce=nonces[0]) from None


def hold(context: Context, end: Callable[[], None]) -> AbstractContextManager[None]:
    """While a connection is open: `end()` is called once when the token it was opened with is over (CASES H14)."""
    viewer, token = context.viewer, context.credential
    if viewer is None or token is None:
        return nullcontext()
    if viewer.app is not None:
        return partners.connections().hold(viewer, token, end)
    return identity.connections().hold(viewer, end)


def challenge(error: Exception, context: Context) -> list[tuple[bytes, bytes]] | None:
    """The headers of a refusal that an app can do something about; None for every other."""
    app = context.viewer.app if context.viewer is not None else None
    if isinstance(error, TokenRefused):
        facts = error.facts
        parts = [f'error="{facts["error"]}"', f'error_description="{_quoted(facts["why"])}"']
        headers = [(b"www-authenticate", _schemes(*parts).encode())]
        if "nonce" in facts:
            headers.append((b"dpop-nonce", facts["nonce"].encode()))
        return headers
    if app is None or not isinstance(error, DomainError):
        return None
    if error.code == "INSUFFICIENT_SCOPE":
        parts = ['error="insufficient_scope"']
        if "scope" in error.facts:
            parts.append(f'scope="{error.facts["scope"]}"')
        return [(b"www-authenticate", _schemes(*parts, bound=app.key is not None).encode())]
    if error.code == "MFA_REQUIRED":
        parts = ['error="insufficient_user_authentication"']
        if "acr_values" in error.facts:
            parts.append(f'acr_values="{" ".join(error.facts["acr_values"])}"')
        if "max_age" in error.facts:
            parts.append(f"max_age={error.facts['max_age']}")
        return [(b"www-authenticate", _schemes(*parts, bound=app.key is not None).encode())]
    return None


def of_fields(errors: Sequence[GraphQLError], context: Context) -> list[tuple[bytes, bytes]] | None:
    """The headers of a field that wants a fresher or stronger sign-in of the person behind the app."""
    for error in errors:
        behind = masking.cause(error)
        if isinstance(behind, DomainError) and behind.code == "MFA_REQUIRED":
            return challenge(behind, context)
    return None


def _quoted(text: str) -> str:
    return "".join(char for char in text if " " <= char <= "~" and char not in '"\\')


def _schemes(*parts: str, bound: bool | None = None) -> str:
    inner = ", ".join(parts)
    bearer, dpop = f"Bearer {inner}", f'DPoP {inner}, algs="ES256 Ed25519"'
    if bound is None:
        return f"{dpop}, {bearer}"
    return dpop if bound else bearer
