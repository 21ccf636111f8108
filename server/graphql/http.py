"""GraphQL over HTTP, in plain ASGI: `POST /graphql`, and `GET` for persisted documents.

Status codes (PITFALLS W01): `application/json` gets 200 for every well-formed request; with
`application/graphql-response+json` a request that was not executed gets 400, one that was throttled 429.
Malformed bodies are 400, large ones 413, other types 415, other methods 405 for both.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.types import Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from domain.core.errors import DomainError, Unavailable
from domain.core.settings import settings
from domain.identity import Unauthenticated
from resolvers.context import DEVICE_COOKIE, SESSION_COOKIE, Context
from server.graphql import limits, masking, request
from server.graphql.decode import Malformed, decode
from server.graphql.door import Answer, Door, NotOverGet, refused
from server.graphql.limits import BODY_MAX_BYTES
from server.graphql.presented import Shown
from server.graphql.request import Asked, Headers

JSON = b"application/json"
RESPONSE = b"application/graphql-response+json"

# What a refusal is in HTTP, for clients that ask for the exact type; everything else is 400.
STATUS = {
    "THROTTLED": 429,
    "UNAUTHENTICATED": 401,
    "MFA_REQUIRED": 401,
    "FORBIDDEN": 403,
    "INSUFFICIENT_SCOPE": 403,
    "UNAVAILABLE": 503,
    masking.INTERNAL: 500,
}
_COMMON = [
    (b"x-kami-version", request.VERSION.encode()),
    (b"cache-control", b"no-store"),
    (b"vary", b"accept, accept-language"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]


class Stop(Exception):
    """The request ends here with an HTTP status of its own."""

    def __init__(
        self, status: int, reason: str, code: str = "BAD_USER_INPUT", allow: str = ""
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.code = code
        self.allow = allow


class Gone(Exception):
    """The client hung up before its request was complete."""


class Http:
    """The ASGI endpoint of `/graphql` for HTTP."""

    def __init__(self, door: Door) -> None:
        self.door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = request.headers(scope["headers"])
        context = context_of(scope, headers)
        context.cookies = []
        bind_contextvars(request_id=context.request_id)  # on every line this request logs
        kind = JSON
        try:
            check_version(headers)
            kind = accepted(headers)
            if scope["method"] == "POST":
                asked = await read_post(receive, headers)
                answer = await self._run(asked, context, headers, "POST")
            elif scope["method"] == "GET":
                asked = self._read_get(scope, headers)
                answer = await self._run(asked, context, headers, "GET")
            else:
                raise Stop(405, "Use POST.", allow=self._allowed())
        except Stop as stop:
            await send_stop(send, stop, context, kind)
        except NotOverGet:
            await send_stop(send, Stop(405, "Mutations go by POST.", allow="POST"), context, kind)
        except Gone:
            return
        else:
            await send_answer(send, answer, context, kind)

    async def _run(self, asked: Asked, context: Context, headers: Headers, method: str) -> Answer:
        try:
            await self._admit(context, headers, method)
            return await self.door.answer(asked, context, is_get=method == "GET")
        except DomainError as error:
            return self.door.refuse(error, context)
        except (NotOverGet, Stop):
            raise
        except OSError as error:
            return self.door.refuse(_late(error), context)
        except Exception as error:  # the last net: nothing leaves the door unmasked
            return refused([masking.internal(error, context)])

    async def _admit(self, context: Context, headers: Headers, method: str) -> None:
        """Let the holder of the token in. A cookie whose session is over makes a guest: nobody can send it away
        but the server, and signing in again has to be possible. Errors: Unauthenticated for a bad bearer token."""
        token = token_of(headers)
        context.came_by_cookie = token is not None and b"authorization" not in headers
        try:
            await self.door.admit(context, token, shown_of(headers, method))
        except Unauthenticated:
            if not context.came_by_cookie:
                raise
            context.keep_cookie(SESSION_COOKIE, "", 0)

    def _allowed(self) -> str:
        return "GET, POST"

    def _read_get(self, scope: Scope, headers: Headers) -> Asked:
        """A persisted document by GET; in development a text as well. Errors: Stop."""
        if b"cookie" in headers and b"graphql-require-preflight" not in headers:
            raise Stop(403, "Cookies need GraphQL-Require-Preflight.", "FORBIDDEN")
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = dict(pairs)
        if len(given) != len(pairs):
            raise Stop(400, "A parameter is given twice.")
        if "query" in given and not self.door.is_open:
            raise Stop(405, "Only persisted documents go by GET.", allow="POST")
        body: dict[str, Any] = {}
        try:
            for name in ("query", "operationName", "documentId"):
                if name in given:
                    body[name] = given[name]
            for name in ("variables", "extensions"):
                if given.get(name):
                    body[name] = decode(given[name])
            return request.read(body)
        except Malformed as error:
            raise Stop(400, str(error)) from None


def _late(error: Exception) -> Unavailable:
    late = Unavailable()
    late.__cause__ = error
    return late


def context_of(scope: Scope, headers: Headers) -> Context:
    """The context of one request. The address is the server's view of the peer, behind listed proxies only."""
    client = scope.get("client")
    context = Context(
        request_id=request.request_id(headers),
        address=client[0] if client else None,
        accept_language=request.text(headers, b"accept-language"),
        user_agent=request.text(headers, b"user-agent"),
        seems_from=request.seems_from(headers, scope.get("query_string", b"")),
    )
    context.device = request.cookie(headers, DEVICE_COOKIE)
    return context


def token_of(headers: Headers) -> str | None:
    """The bearer token, or the session cookie of our own pages."""
    token = request.bearer(request.text(headers, b"authorization"))
    return token if token is not None else request.cookie_token(headers)


def shown_of(headers: Headers, method: str, path: str = "/graphql") -> Shown:
    """How a token came: its scheme, and the DPoP proof beside it."""
    authorization = request.text(headers, b"authorization") or ""
    proof = request.text(headers, b"dpop")
    return Shown(authorization.partition(" ")[0].lower(), proof, method, path)


def check_version(headers: Headers) -> None:
    """Refuse a contract version that is not served. Errors: Stop."""
    wanted = request.text(headers, b"x-kami-version")
    if wanted is not None and wanted != request.VERSION:
        raise Stop(400, f"X-Kami-Version {request.VERSION} is served here.")


def accepted(headers: Headers) -> bytes:
    """The response type: the first of ours in `Accept`, JSON for anything. Errors: Stop (406)."""
    accept = headers.get(b"accept")
    if accept is None or accept in (b"*/*", JSON):
        return JSON
    for part in accept.lower().split(b","):
        kind = part.partition(b";")[0].strip()
        if kind == RESPONSE:
            return RESPONSE
        if kind in (JSON, b"*/*", b"application/*"):
            return JSON
    raise Stop(406, "Accept application/graphql-response+json or application/json.")


async def read_post(receive: Receive, headers: Headers) -> Asked:
    """The request in a JSON body. Errors: Stop (400, 413, 415), Gone."""
    kind, _, parameters = headers.get(b"content-type", b"").partition(b";")
    # Other types would need no preflight from a foreign page (PITFALLS W02).
    if kind.strip().lower() != JSON:
        raise Stop(415, "Send application/json.")
    charset = parameters.strip().lower().replace(b'"', b"")
    if charset and charset not in (b"charset=utf-8", b"charset=utf8"):
        raise Stop(415, "Send UTF-8.")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Stop(415, "Send the body without Content-Encoding.")
    try:
        return request.read(decode(await read_body(receive, headers)))
    except Malformed as error:
        raise Stop(400, str(error)) from None


async def read_body(receive: Receive, headers: Headers) -> bytes:
    """The whole body, read up to the bound. Errors: Stop (408, 413), Gone."""
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length[:12]) > BODY_MAX_BYTES:
        raise Stop(413, f"A body has at most {BODY_MAX_BYTES} bytes.")
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body"):
        if len(body) > BODY_MAX_BYTES:
            raise Stop(413, f"A body has at most {BODY_MAX_BYTES} bytes.")
        return body
    try:
        async with asyncio.timeout(limits.BODY_TIMEOUT_S):
            return await _read_on(receive, message)
    except TimeoutError:
        raise Stop(408, f"A body is sent within {limits.BODY_TIMEOUT_S:.0f} s.") from None


async def _read_on(receive: Receive, message: Message) -> bytes:
    parts, size = [], 0
    while True:
        if message["type"] == "http.disconnect":
            raise Gone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > BODY_MAX_BYTES:
            raise Stop(413, f"A body has at most {BODY_MAX_BYTES} bytes.")
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


async def send_answer(send: Send, answer: Answer, context: Context, kind: bytes) -> None:
    """Put an answer on the wire."""
    status = 200
    extra: list[tuple[bytes, bytes]] = []
    if answer.code is not None and kind == RESPONSE:
        status = STATUS.get(answer.code, 400)
    elif answer.code == masking.INTERNAL:
        status = 500
    for cookie in context.cookies or ():
        extra.append(
            (b"set-cookie", request.set_cookie(*cookie, is_secure=not settings().in_development))
        )
    if answer.challenge:
        extra += answer.challenge
        if answer.code == "UNAUTHENTICATED":
            status = 401  # an app's token: RFC 6750 and 9449 want it, whatever the response type
    if answer.retry_after_s is not None:
        extra.append((b"retry-after", b"%d" % answer.retry_after_s))
    await send_body(send, status, answer.body, context, kind, extra)


async def send_stop(send: Send, stop: Stop, context: Context, kind: bytes) -> None:
    """Answer a request that is refused by HTTP itself, as a GraphQL error with its status."""
    error = {
        "message": context.text(stop.code),
        "extensions": {
            "code": stop.code,
            "requestId": context.request_id,
            "reason": stop.reason,
        },
    }
    extra = [(b"allow", stop.allow.encode())] if stop.allow else []
    if stop.status in (408, 413):
        # The rest of a body that is too large or too late is not read: the connection cannot be used again.
        extra.append((b"connection", b"close"))
    await send_body(send, stop.status, orjson.dumps({"errors": [error]}), context, kind, extra)


async def send_body(
    send: Send,
    status: int,
    body: bytes,
    context: Context,
    kind: bytes,
    extra: list[tuple[bytes, bytes]],
) -> None:
    """One complete response."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", kind + b"; charset=utf-8"),
                (b"content-length", b"%d" % len(body)),
                (b"x-request-id", context.request_id.encode()),
                *_COMMON,
                *extra,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})
