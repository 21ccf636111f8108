"""What comes with our pages' cookie runs registered documents alone in production, whatever the transport (J26)."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from starlette.types import ASGIApp

from domain import identity
from domain.core.settings import settings
from server import app as applications
from server import pages

PASSWORD = "correct horse battery"
FREE = {"query": "{ market { currency } }"}
HOST = {"host": "127.0.0.1:8000"}


def served(monkeypatch: pytest.MonkeyPatch, env: str) -> ASGIApp:
    """The whole application as this environment has it."""
    found = settings().model_copy(update={"env": env})
    monkeypatch.setattr(applications, "settings", lambda: found)
    return applications.create_app()


def ours() -> dict[str, Any]:
    """The request of one of our pages."""
    documents = pages.site().document_ids()
    return {
        "documentId": documents["shop"],
        "variables": {"handle": "none", "first": 4, "language": "en"},
    }


async def signed_in() -> str:
    await identity.register("one@shop.test", PASSWORD)
    return (await identity.sign_in("one@shop.test", PASSWORD, "203.0.113.9")).token


async def call(app: ASGIApp, path: str, body: Any, **headers: str) -> bytes:
    """The body of one answer, or what a stream said."""
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": orjson.dumps(body), "more_body": False}]

    async def receive() -> Any:
        return messages.pop() if messages else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = _scope("http", path, {"content-type": "application/json", **headers})
    await app({**scope, "method": "POST", "http_version": "1.1"}, receive, send)
    return b"".join(one.get("body", b"") for one in sent)


def _scope(kind: str, path: str, headers: dict[str, str]) -> dict[str, Any]:
    given = {**HOST, **headers}
    return {
        "type": kind,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "scheme": "http",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": ("203.0.113.9", 1),
        "server": ("127.0.0.1", 8000),
        "subprotocols": ["graphql-transport-ws"],
    }


async def socket(app: ASGIApp, init: Any, asked: Any, **headers: str) -> Any:
    """What a socket answers to one operation."""
    inbox: asyncio.Queue[Any] = asyncio.Queue()
    outbox: asyncio.Queue[Any] = asyncio.Queue()
    inbox.put_nowait({"type": "websocket.connect"})
    task = asyncio.ensure_future(
        app(_scope("websocket", "/graphql", headers), inbox.get, outbox.put)
    )

    def say(**message: Any) -> None:
        inbox.put_nowait({"type": "websocket.receive", "text": orjson.dumps(message).decode()})

    try:
        async with asyncio.timeout(10):
            await outbox.get()
            say(type="connection_init", payload=init)
            assert orjson.loads((await outbox.get())["text"])["type"] == "connection_ack"
            say(type="subscribe", id="1", payload=asked)
            return orjson.loads((await outbox.get())["text"])["payload"]
    finally:
        inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(task, 10)


@pytest.mark.parametrize("env", ["production", "development"])
async def test_j26_a_cookie_runs_registered_documents_alone_in_production(
    db: None, monkeypatch: pytest.MonkeyPatch, env: str
) -> None:
    app, token = served(monkeypatch, env), await signed_in()
    cookie = {"cookie": f"kami_session={token}"}
    bearer = {"authorization": f"Bearer {token}"}
    is_closed = env == "production"

    for path, accept in (("/graphql", "*/*"), ("/graphql/stream", "text/event-stream")):
        free = await call(app, path, FREE, accept=accept, **cookie)
        registered = await call(app, path, ours(), accept=accept, **cookie)
        by_token = await call(app, path, FREE, accept=accept, **bearer)
        guest = await call(app, path, FREE, accept=accept)

        assert (b'"FORBIDDEN"' in free) is is_closed
        assert (b'"currency"' in free) is not is_closed
        assert b'"shop":null' in registered
        assert b'"errors"' not in registered
        assert b'"currency"' in by_token and b'"currency"' in guest


@pytest.mark.parametrize("env", ["production", "development"])
async def test_j26_a_socket_opened_by_cookie_runs_registered_documents_alone(
    db: None, monkeypatch: pytest.MonkeyPatch, env: str
) -> None:
    app, token = served(monkeypatch, env), await signed_in()
    cookie = {"cookie": f"kami_session={token}"}

    free = await socket(app, None, FREE, **cookie)
    registered = await socket(app, None, ours(), **cookie)
    by_token = await socket(app, {"authorization": f"Bearer {token}"}, FREE, **cookie)

    if env == "production":
        assert free[0]["extensions"]["code"] == "FORBIDDEN"
    else:
        assert "market" in free["data"]
    assert registered["data"]["shop"] is None
    assert "market" in by_token["data"]


async def test_j26_a_hash_of_a_free_text_is_no_way_around(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, token = served(monkeypatch, "production"), await signed_in()
    hashed = "a" * 64
    asked = {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": hashed}}}

    answer = await call(app, "/graphql", asked, cookie=f"kami_session={token}")

    assert b'"FORBIDDEN"' in answer
