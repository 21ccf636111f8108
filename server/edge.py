"""The outermost layer: whose host this is, which pages may call it, and what every response carries.

Plain ASGI. A request of the GraphQL door passes with two looks at its headers; only answers to foreign pages and
to other paths are wrapped, for the door writes these headers itself.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from domain.core.settings import Settings
from server.graphql import request

# Balancers and scrapers ask by address; what these answer is the same for every name.
_ANY_HOST = frozenset(["/healthz", "/readyz", "/metrics"])
_SHARED = frozenset(["/graphql", "/graphql/stream", "/uploads"])

HARDENED = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
HSTS = ("Strict-Transport-Security", "max-age=31536000")

# Apps that live in a browser call these from wherever they are served. None of them looks at a cookie, so everybody may
# read their answers; where people sign in and decide no page may (OAuth 2.0 for Browser-Based Applications, 6.3.2.1).
_PUBLIC = frozenset(["/oauth/token", "/oauth/par", "/oauth/revoke"])
_WELL_KNOWN = "/.well-known/"
_PUBLIC_ALLOWED = (b"access-control-allow-origin", b"*")
_PUBLIC_PREFLIGHT = [
    _PUBLIC_ALLOWED,
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-allow-headers", b"authorization, content-type, dpop"),
    (b"access-control-max-age", b"600"),
]
_PUBLIC_EXPOSED = [
    _PUBLIC_ALLOWED,
    (b"access-control-expose-headers", b"dpop-nonce, retry-after, www-authenticate"),
]

_PREFLIGHT = [
    (b"access-control-allow-methods", b"POST, GET"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, dpop, graphql-require-preflight, last-event-id, x-kami-version, x-request-id",
    ),
    (b"access-control-max-age", b"600"),
    (b"vary", b"origin"),
]


class Edge:
    """Wraps `app`. `hosts` are the names it is reached by, `origins` the foreign pages that may read its answers.

    `is_open` is for development, where localhost and every numeric address are ours as well: a page elsewhere can
    point its own name here (DNS rebinding), but not an address.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str],
        origins: Collection[str] = (),
        is_open: bool = False,
    ) -> None:
        self.app = app
        self._hosts = {name.lower().encode() for name in hosts}
        self._origins = {origin.encode("latin-1") for origin in origins}
        self._is_open = is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, or the lifespan."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        host = origin = None
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
        path = scope["path"]
        if host is not None and not self._is_ours(host) and path not in _ANY_HOST:
            await _misdirected(scope, receive, send)
            return
        if scope["type"] == "http":
            is_shared = path in _SHARED
            is_listed = is_shared and origin is not None and origin in self._origins
            if is_listed and scope["method"] == "OPTIONS":
                await _answer(send, 204, b"", [*_allowed(origin), *_PREFLIGHT])
                return
            if is_listed:
                send = _sharing(send, origin)
            if path in _PUBLIC or path.startswith(_WELL_KNOWN):
                if scope["method"] == "OPTIONS":
                    await _answer(send, 204, b"", _PUBLIC_PREFLIGHT)
                    return
                send = _adding(send, _PUBLIC_EXPOSED)
            if not is_shared or path == "/uploads":
                send = _hardening(scope, send)
        await self.app(scope, receive, send)

    def _is_ours(self, host: bytes) -> bool:
        name = _name(host)
        if name in self._hosts:
            return True
        if not self._is_open:
            return False
        text = name.decode("latin-1").strip("[]")
        if text == "localhost" or text.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(text)
        except ValueError:
            return False
        return True


def hosts(found: Settings) -> set[str]:
    """The names of KAMI_PUBLIC_URL and KAMI_ALLOWED_HOSTS, without ports: a balancer may map those."""
    return {urlsplit(found.public_url).hostname or "", *found.allowed_hosts} - {""}


def _name(host: bytes) -> bytes:
    """The host without its port, in lower case; an IPv6 address without its brackets."""
    if host.startswith(b"["):
        return host[1:].partition(b"]")[0].lower()
    return host.partition(b":")[0].lower()


def _allowed(origin: bytes | None) -> list[tuple[bytes, bytes]]:
    assert origin is not None
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
    ]


def _sharing(send: Send, origin: bytes | None) -> Send:
    """Lets a listed page read the answer."""
    more = [
        *_allowed(origin),
        (
            b"access-control-expose-headers",
            b"dpop-nonce, retry-after, www-authenticate, x-kami-version, x-request-id",
        ),
        (b"vary", b"origin"),
    ]
    return _adding(send, more)


def _adding(send: Send, more: list[tuple[bytes, bytes]]) -> Send:
    async def shared(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *more]
        await send(message)

    return shared


def _hardening(scope: Scope, send: Send) -> Send:
    """Adds what the answer does not say itself; its request id is on every line logged meanwhile."""
    request_id = request.request_id(request.headers(scope["headers"]))
    bind_contextvars(request_id=request_id)
    more = [*HARDENED, (b"x-request-id", request_id.encode())]

    async def hardened(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = list(message["headers"])
            said = {name.lower() for name, _ in own}
            message["headers"] = [*own, *(one for one in more if one[0] not in said)]
        await send(message)

    return hardened


async def _misdirected(scope: Scope, receive: Receive, send: Send) -> None:
    """421 (RFC 9110 section 15.5.20): whatever the host names, it is not served here."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 4403})  # before accept: HTTP 403
        return
    request_id = request.request_id(request.headers(scope["headers"]))
    await _answer(
        send, 421, b"This host is not served here.\n", [(b"x-request-id", request_id.encode())]
    )


async def _answer(send: Send, status: int, body: bytes, more: list[tuple[bytes, bytes]]) -> None:
    headers = [*HARDENED, (b"cache-control", b"no-store"), *more]
    if status != 204:
        headers += [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
        ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
