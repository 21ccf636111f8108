"""The application around the door: which paths exist where, and GraphiQL without anything from elsewhere."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from starlette.applications import Starlette

from domain.core.settings import settings
from server import app as application
from server import graphiql
from tests.server import graphql_toy


async def get(app: Any, path: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a GET."""
    sent: list[Any] = []

    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        return await asyncio.Event().wait()  # the client stays

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(part.get("body", b"") for part in sent[1:])


async def test_graphiql_is_a_page_of_local_files() -> None:
    app = application.create_app(graphql_toy.schema)
    status, headers, page = await get(app, "/graphiql")

    assert status == 200
    assert "default-src 'self'" in headers["content-security-policy"]
    assert b"http://" not in page
    assert b"https://" not in page
    linked = re.findall(rb'(?:src|href)="([^"]+)"', page)
    assert linked
    for link in linked:
        status, _, body = await get(app, link.decode())
        assert (status, bool(body)) == (200, True), link
    assert {link.rpartition(b"/")[2].decode() for link in linked} == set(graphiql._FILES)


@pytest.mark.parametrize(
    "name", ["../../pyproject.toml", "LICENSES.md", "index.html", "nothing.js"]
)
async def test_graphiql_serves_nothing_else(name: str) -> None:
    status, _, _ = await get(application.create_app(graphql_toy.schema), f"/graphiql/{name}")

    assert status == 404


async def test_h05_production_has_no_graphiql() -> None:
    production = settings().model_copy(update={"env": "production"})
    app = Starlette(routes=application._routes(production))

    assert (await get(app, "/graphiql"))[0] == 404
    assert (await get(app, "/healthz"))[0] == 200


async def test_the_door_is_asked_before_the_router() -> None:
    app = application.create_app(graphql_toy.schema)

    assert (await get(app, "/graphql"))[0] == 400  # nothing asked for
    assert (await get(app, "/graphql/stream"))[0] == 405
    assert (await get(app, "/nothing"))[0] == 404


def test_only_our_own_pages_may_open_a_socket() -> None:
    found = settings().model_copy(update={"public_url": "https://pay.example:8443/x"})

    assert application.origins(found) == ["https://pay.example:8443"]
