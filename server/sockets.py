"""What uvicorn's protocols lack: a way to end a client that no longer reads, and doubt about an odd request.

`transport.close()` waits until everything is written; a client that never reads would hold its buffer for ever.
`scope["extensions"]["kami.cut"](code, reason)` writes the close frame and drops the connection soon after.
Pass them to uvicorn as `http=Http, ws=Socket`.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

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


_VERSIONS = ("1.0", "1.1")
_HOST = re.compile(rb"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


def _is_one_host(hosts: Sequence[bytes], version: str) -> bool:
    """Whether a request names its host once and plainly (RFC 9112 section 3.2); HTTP/1.0 may leave it out."""
    if not hosts:
        return version == "1.0"
    return len(hosts) == 1 and _HOST.fullmatch(hosts[0]) is not None


class Http(HttpToolsProtocol):
    """HTTP whose event streams can be cut, and end when the server stops; one host a request, and no HTTP/0.9."""

    def on_headers_complete(self) -> None:
        hosts = [value for name, value in self.headers if name == b"host"]
        version = self.parser.get_http_version()
        if version not in _VERSIONS or not _is_one_host(hosts, version):
            raise ValueError("host or version")  # from a callback of the parser: answered with 400
        scope: Any = self.scope
        scope["extensions"] = {CUT: self.cut}
        super().on_headers_complete()

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
