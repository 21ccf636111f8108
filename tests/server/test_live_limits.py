"""How many live streams a caller may have, over all sockets and event streams, and how long a socket may idle."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import aiohttp
import pytest

from server.graphql.limits import Streams
from tests.server.conftest import Toy
from tests.server.graphql_live import IDLE_S, MEMBER, STREAMS_MAX
from tests.server.test_graphql_sse import stream
from tests.server.test_graphql_ws import TICKS, closed, dial, hear, say, subscribe


def test_a_caller_without_streams_is_forgotten() -> None:
    streams = Streams(2)

    assert [streams.enter("a"), streams.enter("a"), streams.enter("a")] == [True, True, False]
    assert streams.enter("b") is True
    streams.leave("a")
    assert (streams.enter("a"), streams.count("a")) == (True, 2)
    for caller in "aab":
        streams.leave(caller)
    assert streams._open == {}


async def test_h08_a_caller_has_a_bound_over_all_sockets_and_streams(toy: Toy) -> None:
    async with AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(dial(toy, init={})) for _ in range(2)]
        for number in range(STREAMS_MAX):
            line = lines[number % 2]
            await subscribe(line, str(number), TICKS, c=1, m="idle")
            assert (await hear(line))["type"] == "next"

        await subscribe(lines[0], "one more", TICKS, c=1, m="idle")
        refused = await hear(lines[0])
        _, _, text = await stream(toy, TICKS, c=1, m="ticks")
        # Somebody else behind the same address is somebody else.
        member = await stack.enter_async_context(
            dial(toy, init={"authorization": f"Bearer {MEMBER}"})
        )
        await subscribe(member, "1", TICKS, c=1, m="idle")
        admitted = await hear(member)
        # What is not live is not counted.
        await subscribe(lines[0], "query", "{ __typename }")
        answered = await hear(lines[0])
        assert (await hear(lines[0]))["type"] == "complete"
        await say(lines[0], id="0", type="complete")
        await subscribe(lines[0], "instead", TICKS, c=1, m="idle")
        instead = await hear(lines[0])

    assert (refused["type"], refused["id"]) == ("error", "one more")
    extensions = refused["payload"][0]["extensions"]
    assert (extensions["code"], extensions["retryable"]) == ("TOO_MANY_STREAMS", True)
    assert str(STREAMS_MAX) in refused["payload"][0]["message"]
    assert "TOO_MANY_STREAMS" in text
    assert admitted["type"] == "next"
    assert answered["payload"]["data"] == {"__typename": "Query"}
    assert instead["type"] == "next"


async def test_h08_what_ended_is_free_again_however_it_ended(toy: Toy) -> None:
    async with dial(toy, init={}) as line:
        for number in range(STREAMS_MAX + 20):
            # Ends by itself, breaks, is refused by its resolver, or loses its reader.
            mode = ("ticks", "broken", "ticks")[number % 3]
            after = "forged" if number % 3 == 2 else None
            await subscribe(line, "1", TICKS, c=1, m=mode, a=after)
            while (await hear(line))["type"] == "next":
                pass
    for _ in range(3):
        async with dial(toy, init={}) as line:
            for number in range(90):
                await subscribe(line, str(number), TICKS, c=1, m="idle")
                assert (await hear(line))["type"] == "next"
        await asyncio.sleep(0.2)  # its place is free once its tasks have ended
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{toy.url}/stream", json={"query": TICKS, "variables": {"c": 1, "m": "idle"}}
        ),
    ):
        pass
    _, _, text = await stream(toy, TICKS, c=1, m="ticks")

    assert "TOO_MANY_STREAMS" not in text


async def test_an_idle_socket_is_closed_with_4408_and_a_busy_one_is_not(toy: Toy) -> None:
    async with dial(toy, init={}) as idle, dial(toy, init={}) as busy:
        await subscribe(busy, "1", TICKS, c=1, m="idle")
        assert (await hear(busy))["type"] == "next"
        # Pings keep a line open for the network's sake; they ask for nothing.
        await say(idle, type="ping")
        assert await hear(idle) == {"type": "pong"}

        assert await closed(idle) == (4408, "Idle")
        await asyncio.sleep(IDLE_S)
        await say(busy, type="ping")
        assert (await hear(busy)) == {"type": "pong"}

        await say(busy, id="1", type="complete")
        assert await closed(busy) == (4408, "Idle")


@pytest.mark.parametrize("header", ["req-abcdefgh", None])
async def test_a_socket_has_a_request_id_from_its_handshake_on(
    toy: Toy, header: str | None
) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            toy.ws_url,
            protocols=["graphql-transport-ws"],
            headers={"x-request-id": header} if header else {},
        ) as line,
    ):
        told = line._response.headers["x-request-id"]
        await line.send_str(json.dumps({"type": "connection_init"}))
        await line.receive()

    assert told == header if header else len(told) == 32
