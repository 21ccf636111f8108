"""Quiet streams of an app over real sockets and two API processes: what has ended is dead within five seconds (H14)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import orjson
import pytest

from domain import identity
from domain.core import ids
from tests import make
from tests.domain.test_partner_presence import Held, _remove, _revoke, _token, held
from tests.journeys.test_sessions import DEAD_S, bearer, closes, idle
from tests.live import LiveServer

WATCH = """subscription ($id: ID!) { orderEvents(orderId: $id) { ... on OrderEvent { kind order { status } } } }"""
SOCKETS = 4  # enough that both processes have some


@pytest.fixture
async def http(live_db: None) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as found:
        yield found


async def _sacked(one: Held) -> None:
    """The person is nobody's any more."""
    await identity.close(one.account_id)


@pytest.mark.parametrize("end", [_revoke, _token, _remove, _sacked])
async def test_h14_quiet_streams_of_an_app_end_within_five_seconds(
    live_server: LiveServer, http: aiohttp.ClientSession, end: Callable[[Held], Awaitable[None]]
) -> None:
    shop = await make.shop()
    order = await make.order(shop)
    one = await held(shop, f"one-{time.monotonic_ns()}")
    other = await held(shop, f"other-{time.monotonic_ns()}")
    lines = [await idle(live_server, http, one.token) for _ in range(SOCKETS)]
    bystander = await idle(live_server, http, other.token)
    variables = {"id": ids.encode("ord", order.id)}
    sent = {"content-type": "application/json", "accept": "text/event-stream"}
    body = orjson.dumps({"query": WATCH, "variables": variables})

    async with http.post(
        f"{live_server.url}/graphql/stream", data=body, headers={**sent, **bearer(one.token)}
    ) as stream:
        async with asyncio.timeout(10):
            while b"PLACED" not in (line := await stream.content.readline()):
                assert line, "ended"
        await end(one)
        codes = await asyncio.gather(*(closes(line) for line in lines))
        async with asyncio.timeout(DEAD_S):
            rest = await stream.content.read()

    assert set(codes) == {4401}
    assert b"UNAUTHENTICATED" in rest
    assert rest.endswith(b"event: complete\ndata:\n\n")
    await bystander.send_json({"type": "ping"})
    assert (await bystander.receive_json(timeout=5))["type"] == "pong"
    await bystander.close()
