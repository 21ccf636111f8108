"""What uvicorn's protocols lack: a way to end a client that no longer reads, and doubt about an odd request.

`transport.close()` waits until everything is written; a client that never reads would hold its buffer for ever.
`scope["extensions"]["kami.cut"](code, reason)` writes the close frame and drops the connection soon after.
Pass them to uvicorn as `http=Http, ws=Socket`.
"""

from __future__ import annotations

import re
import socket
import struct
from asyncio import TimerHandle
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

from domain.core import ids
from server.graphql import limits
from server.graphql.limits import CUT, STREAM, TELL

# A reader that wakes up in time still finds the close frame behind what it missed.
CUT_AFTER_S = 5.0


def _drop(transport: Any) -> None:
    """Close with a reset, so that the kernel drops what the peer has not taken as well."""
    line = transport.get_extra_info("socket")
    if line is not None and line.fileno() >= 0:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Socket(WebSocketsSansIOProtocol):
    """A WebSocket that can be cut, and forgets its handshake once that is over."""

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", None)
        if scope is not None:
            scope["extensions"][CUT] = self.cut
            scope["extensions"][TELL] = self.tell

    def start_keepalive(self) -> None:
        # Called once, when the handshake is complete: what it took is 3 KiB for every idle subscriber.
        self.request = self.response = None  # type: ignore[assignment]
        super().start_keepalive()

    def tell(self, text: bytes) -> bool:
        """Write one text message now; False when `send` has to wait for the client or to say that it is gone."""
        if not self.writable.is_set() or self.disconnected or self.close_sent:
            return False
        try:
            self.conn.send_text(text)
        except InvalidState:
            return False
        self.transport.write(b"".join(self.conn.data_to_send()))
        return True

    def cut(self, code: int, reason: str) -> None:
        """End the connection now, whether the client reads or not."""
        if self.transport.is_closing():
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        if not self.close_sent:
            try:
                self.conn.send_close(code, reason)
                self.transport.write(b"".join(self.conn.data_to_send()))
            except InvalidState:
                pass
            self.close_sent = True
        self.loop.call_later(CUT_AFTER_S, _drop, self.transport)


_NONE, _HEAD, _BODY = 0, 1, 2  # what of a request is awaited
_VERSIONS = ("1.0", "1.1")
_HOST = re.compile(rb"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


def _is_one_host(hosts: Sequence[bytes], version: str) -> bool:
    """Whether a request names its host once and plainly (RFC 9112 section 3.2); HTTP/1.0 may leave it out."""
    if not hosts:
        return version == "1.0"
    return len(hosts) == 1 and _HOST.fullmatch(hosts[0]) is not None


class Http(HttpToolsProtocol):
    """HTTP whose event streams can be cut, and end when the server stops; one host a request, and no HTTP/0.9.

    A head comes within `HEAD_TIMEOUT_S` and has at most `HEAD_MAX_BYTES`; whoever sends a body or takes an answer
    keeps the pace, or the connection ends. What arrives in one piece, as almost everything does, sets no timer.
    """

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._part, self._fed, self._seen = _HEAD, 0, 0
        self._unread: TimerHandle | None = None
        self._late: TimerHandle | None = self.loop.call_later(limits.HEAD_TIMEOUT_S, self._is_late)
        self._late_for = _HEAD

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._seen += len(data)
        if self._part != _BODY:
            self._fed += len(data)
        super().data_received(data)
        if self._part == _NONE or self.transport.is_closing():
            if self._late is not None:
                self._rest()
            return
        if self._part == _HEAD and self._fed > limits.HEAD_MAX_BYTES:
            self._refuse(431, "The head of the request is too large.")
        elif self._late is None or self._late_for != self._part:
            self._rest()
            wait_s = limits.HEAD_TIMEOUT_S if self._part == _HEAD else limits.SLOW_CLIENT_S
            self._late, self._late_for = self.loop.call_later(wait_s, self._is_late), self._part
            self._seen = 0

    def on_message_begin(self) -> None:
        self._part = _HEAD
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        hosts = [value for name, value in self.headers if name == b"host"]
        version = self.parser.get_http_version()
        if version not in _VERSIONS or not _is_one_host(hosts, version):
            raise ValueError("host or version")  # from a callback of the parser: answered with 400
        if len(self.headers) > limits.HEADERS_MAX or (
            self._fed > limits.HEAD_MAX_BYTES and self._head_bytes() > limits.HEAD_MAX_BYTES
        ):
            raise ValueError("head")
        self._part, self._fed = _BODY, 0
        scope: Any = self.scope
        scope["extensions"] = {CUT: self.cut}
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._part = _NONE
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._rest()
        self._part = _NONE
        super().handle_websocket_upgrade()

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _rest(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _is_late(self) -> None:
        is_waiting_for_us = self.flow.read_paused
        if is_waiting_for_us or (self._part == _BODY and self._seen >= limits.PACE_BYTES):
            self._seen = 0
            self._late = self.loop.call_later(limits.SLOW_CLIENT_S, self._is_late)
            return
        self._late = None
        self._refuse(408, "The request came too slowly.")

    def _refuse(self, status: int, words: str) -> None:
        """Answer for the application, unless it has begun to, and end the connection."""
        if self.transport.is_closing():
            return
        self._rest()
        cycle: Any = self.cycle
        is_free = cycle is None or cycle.response_complete or not cycle.response_started
        if is_free and self._seen_anything():
            self.transport.write(_plain(status, words))
        self.transport.close()

    def _seen_anything(self) -> bool:
        """A connection opened in advance and never used ends without a word."""
        return self.headers is not None

    def send_400_response(self, msg: str) -> None:
        self._rest()
        self.transport.write(_plain(400, msg))
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()

    def _watch_reader(self, left: int) -> None:
        self._unread = self.loop.call_later(limits.SLOW_CLIENT_S, self._is_unread, left)

    def _is_unread(self, left: int) -> None:
        now = self.transport.get_write_buffer_size()
        if now > left - limits.PACE_BYTES:
            _drop(self.transport)
        else:
            self._watch_reader(now)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        if self.transport.get_write_buffer_size():
            self.loop.call_later(CUT_AFTER_S, _drop, self.transport)  # it would wait to be read

    def cut(self, code: int, reason: str) -> None:
        """End the connection now; HTTP has no words for it."""
        _drop(self.transport)

    def shutdown(self) -> None:
        super().shutdown()
        cycle: Any = self.cycle
        if cycle is not None and STREAM in cycle.scope.get("extensions", ()):
            # A stream has no end of its own: its reader comes back to another process with its last event id.
            cycle.disconnected = True
            cycle.message_event.set()
            self.transport.close()


def _plain(status: int, words: str) -> bytes:
    """A whole response by the server itself, before there is a request to speak of."""
    head = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "content-type: text/plain; charset=utf-8",
        f"content-length: {len(words)}",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        f"x-request-id: {ids.uuid7().hex}",
        "connection: close",
    ]
    return "\r\n".join([*head, "", words]).encode("ascii")
