"""graphql-transport-ws against a real server: close codes, bounds, fresh values, and clients that do not read."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from tests.server.conftest import Toy, is_reset, resident_bytes
from tests.server.graphql_live import CUT_AFTER_S, MEMBER, SLOW_S, SOON_OVER

PROTOCOL = "graphql-transport-ws"
TICKS = "subscription($c: Int!, $m: String!, $a: String) { ticks(count: $c, mode: $m, after: $a) {"
TICKS += " __typename ... on TickEvent { sequence cursor toy { loud } } ... on StreamHeartbeat { at } } }"


@asynccontextmanager
async def dial(
    toy: Toy, *, protocol: str = PROTOCOL, init: Any = None, origin: str | None = None
) -> AsyncIterator[ClientConnection]:
    """A connection; with `init` (a payload) it is initialised."""
    async with connect(
        toy.ws_url,
        subprotocols=[Subprotocol(protocol)],
        origin=None if origin is None else Origin(origin),
        compression=None,
    ) as line:
        if init is not None:
            await say(line, type="connection_init", payload=init)
            assert await hear(line) == {"type": "connection_ack"}
        yield line


async def say(line: ClientConnection, **message: Any) -> None:
    await line.send(json.dumps(message))


async def hear(line: ClientConnection) -> Any:
    async with asyncio.timeout(10):
        return json.loads(await line.recv())


async def subscribe(line: ClientConnection, id_: str, query: str, **variables: Any) -> None:
    await say(line, id=id_, type="subscribe", payload={"query": query, "variables": variables})


async def closed(line: ClientConnection) -> tuple[int, str]:
    """The close code and reason the server ends with, whatever it says before."""
    async with asyncio.timeout(10):
        with suppress(ConnectionClosed):
            async for _ in line:
                pass
        await line.wait_closed()
    assert line.close_code is not None
    return line.close_code, line.close_reason or ""


async def test_h07_a_foreign_page_gets_403_and_ours_a_socket(toy: Toy, closed_toy: Toy) -> None:
    for server in (toy, closed_toy):
        with pytest.raises(InvalidStatus) as refused:
            async with dial(server, origin="https://evil.example"):
                pass
        assert refused.value.response.status_code == 403
        async with dial(server, origin="https://shop.example", init={}):
            pass
    own = toy.url.removesuffix("/graphql")
    async with dial(toy, origin=own, init={}):
        pass
    with pytest.raises(InvalidStatus):  # the Host header proves nothing outside development
        async with dial(closed_toy, origin=closed_toy.url.removesuffix("/graphql")):
            pass


async def test_h07_no_init_in_time_is_4408(toy: Toy) -> None:
    async with dial(toy) as line:
        assert (await closed(line))[0] == 4408


async def test_h07_subscribe_before_init_is_4401(toy: Toy) -> None:
    async with dial(toy) as line:
        await subscribe(line, "1", "{ __typename }")
        assert (await closed(line))[0] == 4401


async def test_h07_another_protocol_is_4406(toy: Toy) -> None:
    async with dial(toy, protocol="graphql-ws") as line:
        assert (await closed(line))[0] == 4406


@pytest.mark.parametrize(
    "message",
    [
        "",
        "null",
        "[]",
        "{",
        '{"type": "hello"}',
        "{}",
        '{"type": "subscribe", "id": "1"}',
        '{"type": "subscribe", "id": 1, "payload": {"query": "{ __typename }"}}',
        '{"type": "subscribe", "id": "", "payload": {"query": "{ __typename }"}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": 7}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": "{ a }", "query": "{ b }"}}',
        '{"type": "subscribe", "id": "1", "payload": {}}',
        '{"type": "ping", "payload": ' + "[" * 1_000 + "]" * 1_000 + "}",
        b"binary",
    ],
)
async def test_h07_a_bad_message_is_4400(toy: Toy, message: str | bytes) -> None:
    async with dial(toy, init={}) as line:
        await line.send(message)
        assert (await closed(line))[0] == 4400


async def test_u02_a_message_over_64_kib_ends_the_connection(toy: Toy) -> None:
    async with dial(toy, init={}) as line:
        await line.send(json.dumps({"type": "ping", "payload": {"x": "y" * 70_000}}))
        assert (await closed(line))[0] in (1009, 4400)


async def test_h07_an_id_in_use_is_4409_and_a_second_init_4429(toy: Toy) -> None:
    async with dial(toy, init={}) as line:
        await subscribe(line, "1", TICKS, c=0, m="idle")
        await subscribe(line, "1", TICKS, c=0, m="idle")
        assert (await closed(line))[0] == 4409
    async with dial(toy, init={}) as line:
        await say(line, type="connection_init")
        assert (await closed(line))[0] == 4429


@pytest.mark.parametrize("payload", [{"authorization": "Bearer nobody"}, {"authorization": "x"}])
async def test_h07_a_token_that_is_not_good_is_4403(toy: Toy, payload: Any) -> None:
    async with dial(toy) as line:
        await say(line, type="connection_init", payload=payload)
        assert (await closed(line))[0] == 4403


@pytest.mark.parametrize("payload", [[], "x", {"authorization": 7}])
async def test_h07_a_malformed_init_is_4400(toy: Toy, payload: Any) -> None:
    async with dial(toy) as line:
        await say(line, type="connection_init", payload=payload)
        assert (await closed(line))[0] == 4400


async def test_h07_a_token_that_ends_in_mid_stream_is_4401(toy: Toy) -> None:
    async with dial(toy, init={"authorization": f"Bearer {SOON_OVER}"}) as line:
        await subscribe(line, "1", TICKS, c=9, m="ticks")
        assert (await closed(line))[0] == 4401


async def test_s12_queries_and_mutations_travel_with_the_same_rules(toy: Toy) -> None:
    async with dial(toy, init={"authorization": f"Bearer {MEMBER}"}) as line:
        await subscribe(line, "q", "{ secret }")
        answer, done = await hear(line), await hear(line)
        assert answer["payload"]["data"] == {"secret": "for members"}
        assert answer["payload"]["extensions"]["context"]["language"] == "ja"
        assert done == {"id": "q", "type": "complete"}

        await subscribe(line, "q", 'mutation { makeOnce(input: {title: "x"}) { __typename } }')
        refused = (await hear(line))["payload"]
        assert refused["errors"][0]["extensions"]["code"] == "IDEMPOTENCY_KEY_REQUIRED"
        assert (await hear(line))["type"] == "complete"

        await subscribe(line, "q", "{ nothing }")
        error = await hear(line)
        assert error["type"] == "error"
        assert error["payload"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"


async def test_a_subscription_for_members_refuses_guests_and_keeps_the_socket(toy: Toy) -> None:
    async with dial(toy, init={}) as line:
        await subscribe(line, "1", "subscription { secrets { __typename } }")
        error = await hear(line)
        assert error["payload"][0]["extensions"]["code"] == "UNAUTHENTICATED"
        await say(line, type="ping", payload={"n": 1})
        assert await hear(line) == {"type": "pong", "payload": {"n": 1}}


async def test_c22_every_event_has_fresh_values(toy: Toy) -> None:
    async with dial(toy, init={}) as line:
        await subscribe(line, "1", TICKS, c=3, m="ticks")
        events = [(await hear(line))["payload"]["data"]["ticks"] for _ in range(3)]
        assert [event["toy"]["loud"] for event in events] == ["TOY 1", "TOY 2", "TOY 3"]
        assert (await hear(line))["type"] == "complete"

        await subscribe(line, "2", TICKS, c=1, m="ticks", a=events[1]["cursor"])
        assert (await hear(line))["payload"]["data"]["ticks"]["sequence"] == 3


async def test_j30_a_forged_cursor_is_bad_user_input(toy: Toy) -> None:
    async with dial(toy, init={}) as line:
        await subscribe(line, "1", TICKS, c=1, m="ticks", a="AAAAAAAAAAAAAAAAWzFd")
        assert (await hear(line))["payload"][0]["extensions"]["code"] == "BAD_USER_INPUT"


async def test_a_source_that_breaks_ends_its_operation_only(toy: Toy) -> None:
    async with dial(toy, init={}) as line:
        await subscribe(line, "1", TICKS, c=3, m="bug")
        assert (await hear(line))["type"] == "next"
        error = await hear(line)
        assert error["type"] == "error"
        assert error["payload"][0]["extensions"]["code"] == "INTERNAL_SERVER_ERROR"
        assert "secret-of-the-house" not in json.dumps(error)
        await subscribe(line, "1", "{ __typename }")
        assert (await hear(line))["payload"]["data"] == {"__typename": "Query"}


async def test_complete_frees_the_id_and_ends_the_source(toy: Toy) -> None:
    async with dial(toy, init={}) as line:
        for _ in range(3):
            await subscribe(line, "1", TICKS, c=1, m="idle")
            assert (await hear(line))["type"] == "next"
            await say(line, id="1", type="complete")
        await subscribe(line, "2", "{ closed }")
        assert (await hear(line))["payload"]["data"]["closed"] >= 3


async def test_a_mutation_is_finished_when_its_client_leaves(toy: Toy) -> None:
    async with dial(toy, init={}) as line:
        await subscribe(line, "1", 'mutation { make(input: {title: "slow"}) { __typename } }')
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)
    async with dial(toy, init={}) as line:
        await subscribe(line, "1", "{ made }")
        assert "slow" in (await hear(line))["payload"]["data"]["made"]


async def test_h08_a_socket_has_at_most_a_hundred_operations(toy: Toy) -> None:
    async with dial(toy, init={}) as line:
        for number in range(100):
            await subscribe(line, str(number), TICKS, c=0, m="idle")
        await subscribe(line, "one more", TICKS, c=0, m="idle")
        error = await hear(line)
        assert (error["id"], error["type"]) == ("one more", "error")
        assert error["payload"][0]["extensions"]["code"] == "THROTTLED"


async def test_same_heartbeat_for_all_is_written_once(toy: Toy) -> None:
    async with dial(toy, init={}) as one, dial(toy, init={}) as two:
        for line in (one, two):
            await subscribe(line, "1", TICKS, c=2, m="beats")
        for line in (one, two):
            for _ in range(2):
                beat = (await hear(line))["payload"]["data"]["ticks"]
                assert beat == {"__typename": "StreamHeartbeat", "at": "2026-11-01T00:00:00.000Z"}


def _raw(toy: Toy) -> socket.socket:
    """A socket that has subscribed to endless large events and reads nothing of them."""
    line = socket.create_connection(("127.0.0.1", toy.port), timeout=10)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    line.sendall(
        b"GET /graphql HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)) + b"\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
    )
    head = b""
    while b"\r\n\r\n" not in head:
        head += line.recv(1_000)
    query = TICKS.replace("sequence cursor", " ".join(f"c{n}: cursor" for n in range(30)))
    payload = {"query": query, "variables": {"c": 10_000_000, "m": "flood"}}
    for message in (
        {"type": "connection_init"},
        {"type": "subscribe", "id": "1", "payload": payload},
    ):
        text = json.dumps(message).encode()
        size = bytes([0x80 | len(text)]) if len(text) < 126 else struct.pack("!BH", 0xFE, len(text))
        line.sendall(b"\x81" + size + b"\0\0\0\0" + text)
    return line


async def test_u02_a_client_that_never_reads_is_cut_and_holds_no_memory(toy: Toy) -> None:
    before = resident_bytes(toy)
    lines = [_raw(toy) for _ in range(10)]
    started = time.monotonic()
    try:
        while not all(is_reset(line) for line in lines):
            assert time.monotonic() - started < SLOW_S + CUT_AFTER_S + 8
            await asyncio.sleep(0.2)
        grown = resident_bytes(toy) - before
    finally:
        for line in lines:
            line.close()

    assert time.monotonic() - started > SLOW_S
    assert grown < 30_000_000
    async with dial(toy, init={}) as other:
        await subscribe(other, "1", "{ __typename }")
        assert (await hear(other))["type"] == "next"
