"""What the tools cost without Kami: a bare Starlette answer and a bare strawberry field, as CPU of the server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import strawberry
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from strawberry.asgi import GraphQL
from strawberry.extensions import ParserCache, ValidationCache

from bench.ground import cpu_s

REQUESTS = 4_000
PARALLEL = 16
DOCUMENT = b'{"query":"{ answer { number text } }"}'


@strawberry.type
class Answer:
    """Two fields."""

    number: int
    text: str


@strawberry.type
class Query:
    """One root field."""

    @strawberry.field
    async def answer(self) -> Answer:
        """The answer."""
        return Answer(number=42, text="forty-two")


async def _json(request: Request) -> Response:
    await request.body()
    return Response(b'{"data":{"answer":{"number":42}}}', media_type="application/json")


def app() -> Starlette:
    """Both floors behind one server."""
    schema = strawberry.Schema(Query, extensions=[lambda: ParserCache(), lambda: ValidationCache()])
    found = Starlette(routes=[Route("/json", _json, methods=["POST"])])
    found.mount("/graphql", GraphQL(schema))  # type: ignore[arg-type,unused-ignore]
    return found


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[tuple[str, int]]:
    """The floors in a process of their own; address and pid."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.floors",
            str(listener.fileno()),
            pass_fds=(listener.fileno(),),
        )
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", process.pid
        finally:
            process.terminate()
            await process.wait()


async def cost_ms(url: str, pid: int, bodies: Any, *, requests: int = REQUESTS) -> float:
    """Milliseconds of CPU of process `pid` per POST; `bodies()` gives the next request's body."""
    async with aiohttp.ClientSession() as http:

        async def ask(count: int) -> None:
            for _ in range(count):
                headers = {"content-type": "application/json"}
                async with http.post(url, data=bodies(), headers=headers) as response:
                    body = await response.read()
                    assert response.status == 200 and b'"errors"' not in body, body[:500]

        await asyncio.gather(*(ask(requests // PARALLEL // 4) for _ in range(PARALLEL)))
        before = cpu_s(pid)
        await asyncio.gather(*(ask(requests // PARALLEL) for _ in range(PARALLEL)))
        return (cpu_s(pid) - before) * 1000 / requests


async def measure() -> tuple[float, float]:
    """Milliseconds of CPU per request: bare Starlette, bare strawberry."""
    async with serving() as (url, pid):
        async with aiohttp.ClientSession() as http:
            for _ in range(500):
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.post(url + "/json", data=b"{}"):
                        break
                await asyncio.sleep(0.02)
        bare = await cost_ms(url + "/json", pid, lambda: b"{}")
        graphql = await cost_ms(url + "/graphql/", pid, lambda: DOCUMENT)
    return bare, graphql


if __name__ == "__main__":
    with socket.socket(fileno=os.dup(int(sys.argv[1]))) as inherited:
        config = uvicorn.Config(
            app(), loop="uvloop", http="httptools", ws="none", access_log=False, log_level="error"
        )
        uvicorn.Server(config).run([inherited])
