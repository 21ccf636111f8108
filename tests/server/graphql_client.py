"""An ASGI client without a server: what goes in is bytes, what comes out is status, headers and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from server.graphql.door import Door
from server.graphql.http import Http
from tests.server import graphql_toy

EXACT = "application/graphql-response+json"


@dataclass(frozen=True)
class Reply:
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        """`data`; there must be no errors."""
        found = self.json
        assert "errors" not in found, found["errors"]
        return found["data"]

    @property
    def errors(self) -> list[dict[str, Any]]:
        """`errors`; there must be some."""
        found: list[dict[str, Any]] = self.json["errors"]
        return found

    @property
    def codes(self) -> list[str]:
        """The code of every error."""
        return [error["extensions"]["code"] for error in self.errors]

    @property
    def extensions(self) -> dict[str, Any]:
        """`extensions` of an executed request."""
        found: dict[str, Any] = self.json["extensions"]
        return found


class Client:
    """Talks to one door."""

    def __init__(self, *, is_open: bool, **options: Any) -> None:
        self.door = Door(graphql_toy.schema, is_open=is_open, **options)
        self._http = Http(self.door)

    async def ask(
        self, query: str, /, headers: dict[str, str] | None = None, **variables: Any
    ) -> Reply:
        """POST a document with variables; the exact response type, so that refusals have a status."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        return await self.post(body, headers={"accept": EXACT, **(headers or {})})

    async def post(
        self, body: bytes | Sequence[bytes], *, headers: dict[str, str] | None = None
    ) -> Reply:
        """POST bytes as JSON; a sequence is sent in chunks."""
        given = {"content-type": "application/json", **(headers or {})}
        return await self.send("POST", body, given)

    async def get(self, query_string: str, headers: dict[str, str] | None = None) -> Reply:
        """GET with a raw query string."""
        return await self.send("GET", b"", headers or {}, query_string)

    async def send(
        self,
        method: str,
        body: bytes | Sequence[bytes],
        headers: dict[str, str],
        query_string: str = "",
    ) -> Reply:
        """Any request; header values that are empty are left out."""
        chunks = [body] if isinstance(body, bytes) else list(body)
        messages = [
            {"type": "http.request", "body": chunk, "more_body": place + 1 < len(chunks)}
            for place, chunk in enumerate(chunks)
        ]
        sent: list[Any] = []

        async def receive() -> Any:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": "/graphql",
            "query_string": query_string.encode(),
            "headers": [
                (name.lower().encode(), value.encode("latin-1"))
                for name, value in headers.items()
                if value
            ],
            "client": ("203.0.113.7", 4711),
        }
        await self._http(scope, receive, send)
        start, *rest = sent
        return Reply(
            start["status"],
            {name.decode(): value.decode() for name, value in start["headers"]},
            b"".join(message["body"] for message in rest),
        )
