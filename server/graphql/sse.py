"""GraphQL over Server-Sent Events: `POST /graphql/stream`, one operation per connection (distinct connections mode).

Each event carries the cursor of its payload as `id:`; a client that comes back sends it as `Last-Event-ID`, and it
takes the place of the argument `after`. Whatever a validator says comes as a `next` event, as the protocol wants.
Comments keep a quiet connection alive. Source: PROTOCOL.md of graphql-sse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack

import orjson
from starlette.types import Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from domain.core.errors import DomainError
from resolvers.context import Context
from resolvers.page import CURSOR_MAX
from server.graphql import limits, masking, presented, request
from server.graphql.door import Answer, Door, SessionOver, refused
from server.graphql.http import (
    JSON,
    Gone,
    Stop,
    check_version,
    context_of,
    read_post,
    send_stop,
    shown_of,
    token_of,
)
from server.graphql.limits import CUT, STREAM
from server.graphql.request import Asked, Headers
from server.graphql.watch import Frame, Stream, failure, watch

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-kami-version", request.VERSION.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
_COMPLETE = b"event: complete\ndata:\n\n"
_COMMENT = b":\n\n"


class EventStreams:
    """The ASGI endpoint of `/graphql/stream`."""

    def __init__(self, door: Door) -> None:
        self.door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one stream to its end."""
        headers = request.headers(scope["headers"])
        context = context_of(scope, headers)
        bind_contextvars(request_id=context.request_id)
        try:
            check_version(headers)
            if scope["method"] != "POST":
                raise Stop(405, "Use POST.", allow="POST")
            if not _takes_events(headers):
                raise Stop(406, "Accept text/event-stream.")
            asked = await read_post(receive, headers)
        except Stop as stop:
            await send_stop(send, stop, context, JSON)
            return
        except Gone:
            return
        extensions = scope.setdefault("extensions", {})
        extensions[STREAM] = True
        out = _Out(send, extensions.get(CUT))
        await out.start(context)
        opened = await self._open(asked, context, headers)
        if isinstance(opened, Answer):
            await out.write(_event(opened.body, None) + _COMPLETE)
            await out.end()
            return
        await self._pump(opened, receive, out)

    async def _open(self, asked: Asked, context: Context, headers: Headers) -> Stream | Answer:
        last = request.text(headers, b"last-event-id")
        context.resume = last[:CURSOR_MAX] if last else None
        try:
            token, shown = token_of(headers), shown_of(headers, "POST", "/graphql/stream")
            context.came_by_cookie = token is not None and b"authorization" not in headers
            await self.door.admit(context, token, shown)
            return await watch(self.door, asked, context)
        except DomainError as error:
            return self.door.refuse(error, context)
        except Exception as error:  # the last net
            return refused([masking.internal(error, context)])

    async def _pump(self, stream: Stream, receive: Receive, out: _Out) -> None:
        """Send events as they come and comments while none do, until one side ends."""
        gone = asyncio.ensure_future(receive())
        over = asyncio.Event()
        ended = asyncio.ensure_future(over.wait())
        upcoming: asyncio.Future[Frame] | None = None
        held = ExitStack()
        try:
            held.enter_context(presented.hold(stream.context, over.set))
            while not out.is_gone:
                if upcoming is None:
                    upcoming = asyncio.ensure_future(stream.__anext__())
                await asyncio.wait(
                    (upcoming, gone, ended),
                    timeout=limits.HEARTBEAT_S,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if gone.done():
                    return
                if ended.done():
                    raise SessionOver
                if not upcoming.done():
                    await out.write(_COMMENT)
                    continue
                frame, upcoming = upcoming.result(), None
                await out.write(_event(frame.body, frame.cursor))
        except StopAsyncIteration:
            await out.write(_COMPLETE)
            await out.end()
        except Exception as error:
            body = orjson.dumps({"errors": failure(error, stream.context)})
            await out.write(_event(body, None) + _COMPLETE)
            await out.end()
        finally:
            held.close()
            gone.cancel()
            ended.cancel()
            if upcoming is not None:
                upcoming.cancel()
                await asyncio.gather(upcoming, return_exceptions=True)
            await stream.close()


class _Out:
    """The response being written; a client that does not read for 20 s is cut."""

    def __init__(self, send: Send, cut: Callable[[int, str], None] | None) -> None:
        self._send = send
        self._cut = cut
        self.is_gone = False

    async def start(self, context: Context) -> None:
        headers = [*_HEADERS, (b"x-request-id", context.request_id.encode())]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.write(_COMMENT)

    async def write(self, body: bytes) -> None:
        late = asyncio.get_running_loop().call_later(limits.SLOW_CLIENT_S, self._is_slow)
        try:
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
        except OSError:
            self.is_gone = True
        finally:
            late.cancel()

    async def end(self) -> None:
        if not self.is_gone:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _is_slow(self) -> None:
        self.is_gone = True
        if self._cut is not None:
            self._cut(4408, "Too slow")


def _takes_events(headers: Headers) -> bool:
    accept = headers.get(b"accept", b"*/*")
    kinds = {part.partition(b";")[0].strip() for part in accept.lower().split(b",")}
    return bool(kinds & {b"text/event-stream", b"text/*", b"*/*"})


def _event(body: bytes, cursor: str | None) -> bytes:
    """One `next` event; a cursor never holds a line break, for it is ours and base64url."""
    head = b"" if cursor is None else b"id: " + cursor.encode() + b"\n"
    return head + b"event: next\ndata: " + body + b"\n\n"
