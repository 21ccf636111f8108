"""The ASGI application of one schema: `POST`/`GET`/WebSocket on `/graphql`, events on `/graphql/stream`."""

from __future__ import annotations

from typing import Any

import strawberry
from starlette.types import Receive, Scope, Send

from server.graphql.door import Door
from server.graphql.http import Http
from server.graphql.sse import EventStreams
from server.graphql.ws import WebSockets

PATH = "/graphql"
STREAM_PATH = "/graphql/stream"


class GraphQL:
    """Serves `schema`; keyword arguments are those of `Door`."""

    def __init__(self, schema: strawberry.Schema, **options: Any) -> None:
        self.door = Door(schema, **options)
        self._http = Http(self.door)
        self._streams = EventStreams(self.door)
        self._sockets = WebSockets(self.door)

    def serves(self, scope: Scope) -> bool:
        """Whether a connection is for this application."""
        path: str | None = scope.get("path")
        if scope["type"] == "http":
            return path in (PATH, STREAM_PATH)
        return scope["type"] == "websocket" and path == PATH

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "websocket":
            await self._sockets(scope, receive, send)
        elif scope["path"] == STREAM_PATH:
            await self._streams(scope, receive, send)
        else:
            await self._http(scope, receive, send)
