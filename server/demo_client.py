"""A small GraphQL client for `kami demo buy`: one request, one subscription, and words for people when they fail."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

ANSWER_TIMEOUT_S = 15.0


class Stop(Exception):
    """The purchase ends here; the words are for the person at the terminal, the last line says what to do."""


@dataclass(frozen=True, slots=True)
class Client:
    """A GraphQL client of the platform at `url`: requests over HTTP, subscriptions over one WebSocket each."""

    http: aiohttp.ClientSession
    url: str

    async def ask(
        self, document: str, variables: Mapping[str, Any], *, token: str | None = None
    ) -> dict[str, Any]:
        """The `data` of one operation, of a guest or of the holder of a session's `token`.

        Errors: Stop for top-level errors; aiohttp's when nothing answers.
        """
        body = orjson.dumps({"query": document, "variables": variables})
        headers = {"content-type": "application/json"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        async with self.http.post(f"{self.url}/graphql", data=body, headers=headers) as response:
            raw = await response.read()
        try:
            answer = orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise Stop(f"{self.url} is not Kami (it answered {response.status}).") from None
        if answer.get("errors"):
            first = answer["errors"][0]
            code = first.get("extensions", {}).get("code", "")
            raise Stop(f"{code}: {first['message']}")
        data: dict[str, Any] = answer["data"]
        return data

    @contextlib.asynccontextmanager
    async def watch(
        self, document: str, variables: Mapping[str, Any]
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """An open subscription: the frames of its one field. Errors: Stop when it is refused."""
        address = self.url.replace("http", "ws", 1) + "/graphql"
        async with self.http.ws_connect(address, protocols=("graphql-transport-ws",)) as socket:
            await socket.send_json({"type": "connection_init"})
            hello = await socket.receive_json(timeout=ANSWER_TIMEOUT_S)
            if hello.get("type") != "connection_ack":
                raise Stop(f"The WebSocket was refused: {hello}")
            payload = {"query": document, "variables": variables}
            await socket.send_json({"id": "1", "type": "subscribe", "payload": payload})
            yield _frames(socket)


async def _frames(socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[dict[str, Any]]:
    async for message in socket:
        frame = orjson.loads(message.data)
        match frame["type"]:
            case "ping":
                await socket.send_json({"type": "pong"})
            case "next" if not frame["payload"].get("errors"):
                yield next(iter(frame["payload"]["data"].values()))
            case "next" | "error":
                raise Stop(f"The subscription failed: {frame['payload']}")
            case "complete":
                return
