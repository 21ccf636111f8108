"""What a client asks for, read from a decoded body, and the headers that matter to the front door."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from domain.core import ids
from resolvers.context import SESSION_COOKIE
from server.graphql.decode import Malformed
from server.graphql.persisted import ID_MAX

VERSION = "2026-11"
TOKEN_MAX = 8_192

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(slots=True)
class Asked:
    """One GraphQL request: a text, a hash of one, or the id of a registered one."""

    query: str | None
    operation: str | None = None
    variables: dict[str, Any] = field(default_factory=dict)
    sha256: str | None = None
    document_id: str | None = None


def read(body: Mapping[str, Any]) -> Asked:
    """The request in a decoded body. Errors: Malformed for a parameter of the wrong type, or nothing to run."""
    query = _typed(body, "query", str)
    extensions: dict[str, Any] = _typed(body, "extensions", dict) or {}
    asked = Asked(
        query,
        _typed(body, "operationName", str),
        _typed(body, "variables", dict) or {},
        _hash(extensions.get("persistedQuery")),
        _typed(body, "documentId", str),
    )
    if asked.document_id is not None and len(asked.document_id) > ID_MAX:
        raise Malformed("documentId is too long")
    if query is None and asked.sha256 is None and asked.document_id is None:
        raise Malformed("there is no query, documentId or extensions.persistedQuery")
    return asked


def _typed(body: Mapping[str, Any], name: str, kind: type) -> Any:
    value = body.get(name)
    if value is not None and not isinstance(value, kind):
        raise Malformed(f"{name} is not of type {'object' if kind is dict else 'string'}")
    return value


def _hash(given: Any) -> str | None:
    if given is None:
        return None
    if (
        isinstance(given, dict)
        and given.get("version") == 1
        and isinstance(sha256 := given.get("sha256Hash"), str)
        and _SHA256.fullmatch(sha256)
    ):
        return sha256
    raise Malformed("extensions.persistedQuery wants version 1 and a sha256Hash of 64 hex digits")


Headers = dict[bytes, bytes]


def headers(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Headers by lower-case name; of repeated ones the first counts."""
    found: Headers = {}
    for name, value in raw:
        found.setdefault(name, value)
    return found


def text(found: Headers, name: bytes) -> str | None:
    """One header as text, None when it is absent."""
    value = found.get(name)
    return None if value is None else value.decode("latin-1")


def request_id(found: Headers) -> str:
    """The caller's X-Request-Id when it looks like one, else a fresh one."""
    given = text(found, b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return ids.uuid7().hex


def bearer(authorization: str | None) -> str | None:
    """The token of `Authorization: Bearer …` (or `DPoP …`); "" when there is a header without a usable one."""
    if authorization is None:
        return None
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    return token if scheme.lower() in ("bearer", "dpop") and 0 < len(token) <= TOKEN_MAX else ""


def cookie_token(found: Headers) -> str | None:
    """The session token in the cookie of our own pages."""
    return cookie(found, SESSION_COOKIE)


def cookie(found: Headers, wanted: str) -> str | None:
    """One cookie, None when it is absent, empty or too long."""
    given = text(found, b"cookie")
    for part in given.split(";") if given else ():
        name, _, value = part.strip().partition("=")
        if name == wanted and 0 < len(value) <= TOKEN_MAX:
            return value
    return None


def set_cookie(name: str, value: str, lasts_s: int, *, is_secure: bool) -> bytes:
    """A `Set-Cookie` value that scripts cannot read and other sites' requests do not carry.

    Lax: a link that leads here arrives signed in, a form or script elsewhere does not. `is_secure` outside
    development, where there is no TLS.
    """
    secure = "; Secure" if is_secure else ""
    text = f"{name}={value}; Path=/; Max-Age={lasts_s}; HttpOnly; SameSite=Lax{secure}"
    return text.encode("latin-1")


def seems_from(found: Headers, query: bytes) -> str | None:
    """The country to look like, from `?from=HK` or `X-Kami-From: HK`; `geo.locate` heeds it in development only."""
    given = text(found, b"x-kami-from")
    if given is None and b"from=" in query:
        given = dict(parse_qsl(query.decode("latin-1"))).get("from")
    return given
