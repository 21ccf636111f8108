"""GraphQL over WebSocket: the `graphql-transport-ws` protocol in plain ASGI, one task per operation and none beside.

Close codes (PITFALLS W04): 4400 bad message, 4401 not initialised or token over, 4403 refused, 4406 other
subprotocol, 4408 no init in time, idle or too slow a reader, 4409 id in use, 4429 second init. Source: PROTOCOL.md of
graphql-ws.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import orjson
from starlette.types import Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from domain.core import ids
from domain.core.errors import DomainError
from resolvers.context import Context
from resolvers.errors import Throttled
from server.graphql import limits, masking, presented, request
from server.graphql.decode import Malformed, decode
from server.graphql.door import Answer, Door, SessionOver
from server.graphql.http import context_of
from server.graphql.limits import CUT, TELL
from server.graphql.presented import Shown
from server.graphql.watch import failure, watch

PROTOCOL = "graphql-transport-ws"
ID_MAX = 128
REASON_MAX_BYTES = 120  # a close frame holds 125 with its code


class Closed(Exception):
    """The client is gone; whoever still has something to say stops."""


class End(Exception):
    """The client broke the protocol: the connection ends with a close code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class WebSockets:
    """The ASGI endpoint of `/graphql` for WebSocket."""

    def __init__(self, door: Door) -> None:
        self.door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection from handshake to close."""
        headers = request.headers(scope["headers"])
        await receive()  # websocket.connect
        if not self._may_connect(headers):
            await send({"type": "websocket.close", "code": 4403})  # before accept: HTTP 403
            return
        context = context_of(scope, headers)
        bind_contextvars(request_id=context.request_id)
        offered = scope.get("subprotocols") or []
        if PROTOCOL not in offered:
            # A client told of no subprotocol would hide the reason, so it gets its own one back.
            await send({"type": "websocket.accept", "subprotocol": offered[0] if offered else None})
            await send(
                {"type": "websocket.close", "code": 4406, "reason": "Subprotocol not acceptable"}
            )
            return
        cookie = request.cookie_token(headers)
        extensions = scope.get("extensions") or {}
        cut, tell = extensions.get(CUT), extensions.get(TELL)
        del headers, offered, scope, extensions  # a socket may live for days; this frame with it
        await Socket(self.door, context, cookie, receive, send, cut, tell).run()

    def _may_connect(self, headers: request.Headers) -> bool:
        """Browsers send cookies along from any page: an Origin must be one of ours."""
        origin = request.text(headers, b"origin")
        if origin is None or origin in self.door.origins:
            return True
        return self.door.is_open and urlsplit(origin).netloc == request.text(headers, b"host")


class Socket:
    """One connection."""

    __slots__ = (
        "context",
        "cookie",
        "cut",
        "door",
        "held",
        "is_closed",
        "is_ready",
        "receive",
        "send",
        "tasks",
        "tell",
        "timer",
    )

    def __init__(
        self,
        door: Door,
        context: Context,
        cookie: str | None,
        receive: Receive,
        send: Send,
        cut: Callable[[int, str], None] | None,
        tell: Callable[[bytes], bool] | None,
    ) -> None:
        self.door = door
        self.context = context
        self.cookie = cookie
        self.receive = receive
        self.send = send
        self.cut = cut
        self.tell = tell
        self.held = ExitStack()
        self.is_ready = False
        self.is_closed = False
        self.timer: asyncio.TimerHandle | None = None
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Accept, read until the end, then end every operation and wait for it."""
        told = [(b"x-request-id", self.context.request_id.encode())]
        await self.send({"type": "websocket.accept", "subprotocol": PROTOCOL, "headers": told})
        loop = asyncio.get_running_loop()
        self.timer = loop.call_later(limits.SOCKET_INIT_TIMEOUT_S, self._init_is_late)
        try:
            while not self.is_closed:
                message = await self.receive()
                if message["type"] == "websocket.disconnect":
                    break
                await self._read(message)
        except End as end:
            await self._close(end.code, end.reason)
        except Closed:
            pass
        finally:
            self.is_closed = True
            self.held.close()
            if self.timer is not None:
                self.timer.cancel()
            running = list(self.tasks.values())
            for task in running:
                task.cancel()
            if running:
                await asyncio.gather(*running, return_exceptions=True)

    def _init_is_late(self) -> None:
        if not self.is_ready:
            task = asyncio.ensure_future(self._close(4408, "Connection initialisation timeout"))
            self.tasks[""] = task  # kept, so that it is not collected; no operation has this id

    def _session_is_over(self) -> None:
        """The session ended elsewhere; a socket that carries nothing would not notice (CASES H14)."""
        self.tasks[""] = asyncio.ensure_future(self._close(4401, "Unauthorized"))

    def _rest(self) -> None:
        """Nothing is asked of this socket now: it may wait for a while, not for ever."""
        if self.timer is not None:
            self.timer.cancel()
        loop = asyncio.get_running_loop()
        self.timer = loop.call_later(limits.SOCKET_IDLE_S, self._is_idle)

    def _is_idle(self) -> None:
        if not self.tasks and not self.is_closed:
            self.tasks[""] = asyncio.ensure_future(self._close(4408, "Idle"))

    async def _read(self, message: Any) -> None:
        text = message.get("text")
        if text is None:
            raise End(4400, "WebSocket message type must be text")
        if len(text) > limits.SOCKET_MESSAGE_MAX_BYTES:
            raise End(4400, "WebSocket message is too large")
        try:
            given = decode(text)
        except Malformed as error:
            raise End(4400, str(error)) from None
        match given.get("type"):
            case "subscribe":
                await self._subscribe(given)
            case "complete":
                await self._complete(given)
            case "ping":
                payload = given.get("payload")
                pong = {"type": "pong", "payload": payload} if payload else {"type": "pong"}
                await self._write(orjson.dumps(pong))
            case "pong":
                pass
            case "connection_init":
                await self._init(given.get("payload"))
            case _:
                raise End(4400, "Unknown message type")

    async def _init(self, payload: Any) -> None:
        if self.is_ready:
            raise End(4429, "Too many initialisation requests")
        if payload is not None and not isinstance(payload, dict):
            raise End(4400, "Invalid connection init payload")
        given = (payload or {}).get("authorization") or (payload or {}).get("Authorization")
        if given is not None and not isinstance(given, str):
            raise End(4400, "Invalid connection init payload")
        token = request.bearer(given) if given is not None else self.cookie
        proof = (payload or {}).get("dpop")
        scheme = given.partition(" ")[0].lower() if given is not None else ""
        shown = Shown(scheme, proof if isinstance(proof, str) else None, "GET", "/graphql")
        self.is_ready = True
        self.context.came_by_cookie = given is None and token is not None
        if self.timer is not None:
            self.timer.cancel()
        try:
            await self.door.admit(self.context, token, shown)
        except DomainError:
            raise End(4403, "Forbidden") from None
        except Exception as error:
            masking.report(error, self.context)
            raise End(4403, "Forbidden") from None
        self.cookie = None
        self.held.enter_context(presented.hold(self.context, self._session_is_over))
        self._rest()
        await self._write(b'{"type":"connection_ack"}')

    async def _subscribe(self, given: dict[str, Any]) -> None:
        if not self.is_ready:
            raise End(4401, "Unauthorized")
        operation_id, payload = given.get("id"), given.get("payload")
        if not isinstance(operation_id, str) or not 0 < len(operation_id) <= ID_MAX:
            raise End(4400, "Invalid operation id")
        if not isinstance(payload, dict):
            raise End(4400, "Invalid subscribe payload")
        if operation_id in self.tasks:
            raise End(4409, f"Subscriber for {operation_id} already exists")
        try:
            asked = request.read(payload)
        except Malformed as error:
            raise End(4400, str(error)) from None
        if len(self.tasks) >= limits.SOCKET_OPERATIONS_MAX:
            refusal = masking.refusal(Throttled(retry_after=1), self.context)
            await self._error(operation_id, [refusal])
            return
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None  # a subscriber of days holds no handle
        self.tasks[operation_id] = asyncio.ensure_future(self._operate(operation_id, asked))

    async def _complete(self, given: dict[str, Any]) -> None:
        task = self.tasks.pop(str(given.get("id")), None)
        if task is not None:
            task.cancel()
            if not self.tasks:
                self._rest()

    async def _operate(self, operation_id: str, asked: request.Asked) -> None:
        """One operation to its end; its id is free before the last message is sent."""
        mine = self.tasks[operation_id]
        context = self.context.fork()
        context.request_id = ids.uuid7().hex
        bind_contextvars(request_id=context.request_id)
        try:
            await self._serve(operation_id, mine, asked, context)
        except Closed:
            pass
        except SessionOver:
            await self._close(4401, "Unauthorized")
        finally:
            self._forget(operation_id, mine)

    async def _serve(
        self, operation_id: str, mine: asyncio.Task[None], asked: request.Asked, context: Context
    ) -> None:
        head = b'{"id":' + orjson.dumps(operation_id) + b',"type":'
        event = head + b'"next","payload":'
        try:
            opened = await watch(self.door, asked, context)
            if isinstance(opened, Answer):
                self._forget(operation_id, mine)
                if opened.errors is not None:
                    await self._error(operation_id, opened.errors)
                    return
                await self._write(event + opened.body + b"}")
            else:
                try:
                    async for frame in opened:
                        await self._write(b"%b%b}" % (event, frame.body))
                finally:
                    await opened.close()
                self._forget(operation_id, mine)
            await self._write(head + b'"complete"}')
        except (Closed, SessionOver):
            raise
        except Exception as error:
            self._forget(operation_id, mine)
            await self._error(operation_id, failure(error, context))

    def _forget(self, operation_id: str, task: asyncio.Task[None]) -> None:
        if self.tasks.get(operation_id) is task:
            del self.tasks[operation_id]
            if not self.tasks and not self.is_closed:
                self._rest()

    async def _error(self, operation_id: str, errors: list[dict[str, Any]]) -> None:
        message = {"id": operation_id, "type": "error", "payload": errors}
        await self._write(orjson.dumps(message))

    async def _write(self, text: bytes) -> None:
        """Send one message; a client that does not take it within 20 s is cut. Errors: Closed."""
        if self.is_closed:
            raise Closed
        if self.tell is not None and self.tell(text):
            return
        late = asyncio.get_running_loop().call_later(limits.SLOW_CLIENT_S, self._is_slow)
        try:
            await self.send({"type": "websocket.send", "text": text.decode()})
        except (OSError, RuntimeError):  # the server's way to say that the client is gone
            self.is_closed = True
            raise Closed from None
        finally:
            late.cancel()

    def _is_slow(self) -> None:
        self.is_closed = True
        if self.cut is not None:
            self.cut(4408, "Too slow")

    async def _close(self, code: int, reason: str) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        short = reason.encode()[:REASON_MAX_BYTES].decode(errors="ignore")
        try:
            await self.send({"type": "websocket.close", "code": code, "reason": short})
        except (OSError, RuntimeError):
            pass
