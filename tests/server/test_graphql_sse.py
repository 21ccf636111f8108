"""Server-sent events against a real server: ids, resuming, heartbeats, refusals, and clients that do not read."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import Any

import aiohttp
import pytest

from tests.server.conftest import Toy, is_reset
from tests.server.graphql_live import CUT_AFTER_S, MEMBER, SLOW_S, SOON_OVER

TICKS = (
    "subscription($c: Int, $m: String, $a: String) { ticks(count: $c, mode: $m, after: $a) {"
    " ... on TickEvent { sequence cursor } ... on StreamGap { resumeCursor } } }"
)


async def stream(
    toy: Toy, query: str, *, headers: dict[str, str] | None = None, **variables: Any
) -> tuple[int, str, str]:
    """Status, content type and the whole text of a stream that ends."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{toy.url}/stream",
            json={"query": query, "variables": variables},
            headers={"accept": "text/event-stream", **(headers or {})},
            timeout=aiohttp.ClientTimeout(total=10),
        ) as reply,
    ):
        return reply.status, reply.headers["content-type"], await reply.text()


def events(text: str) -> list[dict[str, str]]:
    """The events of a stream: their fields by name; comments are left out."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(":", 1) for line in block.splitlines() if line and line[0] != ":")
        if fields:
            found.append({name: value.strip() for name, value in fields.items()})
    return found


def data(event: dict[str, str]) -> Any:
    return json.loads(event["data"])["data"]["ticks"]


async def test_c21_events_carry_ids_and_a_reader_resumes_without_loss_or_repeat(toy: Toy) -> None:
    status, kind, text = await stream(toy, TICKS, c=3)
    first = events(text)
    _, _, rest = await stream(toy, TICKS, headers={"last-event-id": first[1]["id"]}, c=2)
    resumed = events(rest)

    assert (status, kind) == (200, "text/event-stream; charset=utf-8")
    assert [event["event"] for event in first] == ["next"] * 3 + ["complete"]
    assert [data(event)["sequence"] for event in first[:3]] == [1, 2, 3]
    assert [event["id"] for event in first[:3]] == [data(event)["cursor"] for event in first[:3]]
    assert [data(event)["sequence"] for event in resumed[:2]] == [3, 4]


async def test_c21_the_last_event_id_wins_over_the_variable(toy: Toy) -> None:
    _, _, text = await stream(toy, TICKS, c=3)
    ids = [event["id"] for event in events(text)[:3]]
    _, _, rest = await stream(toy, TICKS, headers={"last-event-id": ids[2]}, c=1, a=ids[0])

    assert data(events(rest)[0])["sequence"] == 4


async def test_an_id_comes_from_the_event_even_when_its_cursor_is_not_selected(toy: Toy) -> None:
    _, _, text = await stream(toy, "subscription { ticks(count: 1) { __typename } }")

    assert "id" in events(text)[0]


async def test_j30_a_gap_says_where_to_go_on_and_a_forged_id_is_refused(toy: Toy) -> None:
    _, _, gap = await stream(toy, TICKS, m="gap")
    _, _, forged = await stream(toy, TICKS, headers={"last-event-id": "AAAA"})

    assert events(gap)[0]["id"] == data(events(gap)[0])["resumeCursor"]
    refusal = json.loads(events(forged)[0]["data"])
    assert refusal["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    assert events(forged)[-1]["event"] == "complete"


async def test_s19_what_the_validator_says_is_a_next_event_without_data(toy: Toy) -> None:
    status, _, text = await stream(toy, "subscription { nothing }")
    body = json.loads(events(text)[0]["data"])

    assert status == 200
    assert "data" not in body
    assert body["errors"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
    assert [event["event"] for event in events(text)] == ["next", "complete"]


async def test_queries_run_and_guests_are_refused_what_is_for_members(toy: Toy) -> None:
    _, _, query = await stream(toy, "{ toy { no } }")
    _, _, guest = await stream(toy, "subscription { secrets { __typename } }")
    _, _, member = await stream(
        toy,
        "subscription { secrets(count: 1) { __typename } }",
        headers={"authorization": f"Bearer {MEMBER}"},
    )
    _, _, nobody = await stream(toy, "{ here }", headers={"authorization": "Bearer nobody"})

    assert json.loads(events(query)[0]["data"])["data"] == {"toy": {"no": 1}}
    assert "UNAUTHENTICATED" in guest
    assert '"TickEvent"' in member
    assert "UNAUTHENTICATED" in nobody


async def test_h07_a_token_that_ends_in_mid_stream_ends_the_stream(toy: Toy) -> None:
    headers = {"authorization": f"Bearer {SOON_OVER}"}
    _, _, text = await stream(toy, TICKS, headers=headers, c=9)
    found = events(text)

    assert [event["event"] for event in found] == ["next", "next", "next", "complete"]
    assert "UNAUTHENTICATED" in found[2]["data"]


async def test_what_is_not_an_event_stream_is_refused_by_http(toy: Toy) -> None:
    async with aiohttp.ClientSession() as session:
        cases = [
            ("GET", {}, None, 405),
            ("POST", {"accept": "application/json"}, b"{}", 406),
            ("POST", {"accept": "text/event-stream", "content-type": "text/plain"}, b"{}", 415),
            (
                "POST",
                {"accept": "text/event-stream", "content-type": "application/json"},
                b"null",
                400,
            ),
        ]
        for method, headers, body, status in cases:
            async with session.request(
                method, f"{toy.url}/stream", headers=headers, data=body
            ) as reply:
                assert reply.status == status, method
                if status == 405:
                    assert reply.headers["allow"] == "POST"


async def test_a_quiet_stream_is_kept_alive_by_comments_and_ended_by_its_reader(toy: Toy) -> None:
    async with aiohttp.ClientSession() as session:
        before = await _closed(session, toy)
        reply = await session.post(
            f"{toy.url}/stream",
            json={"query": TICKS, "variables": {"c": 0, "m": "idle"}},
            headers={"accept": "text/event-stream"},
        )
        comments = 0
        async with asyncio.timeout(5):
            while comments < 3:
                comments += (await reply.content.readline()) == b":\n"
        reply.close()
        for _ in range(100):
            if await _closed(session, toy) > before:
                return
            await asyncio.sleep(0.05)
    raise AssertionError("the source goes on without a reader")


async def _closed(session: aiohttp.ClientSession, toy: Toy) -> int:
    async with session.post(toy.url, json={"query": "{ closed }"}) as reply:
        return int((await reply.json())["data"]["closed"])


async def test_u02_a_reader_that_never_reads_is_cut(toy: Toy) -> None:
    body = json.dumps({"query": TICKS, "variables": {"c": 10_000_000, "m": "flood"}}).encode()
    line = socket.create_connection(("127.0.0.1", toy.port), timeout=10)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    line.sendall(
        b"POST /graphql/stream HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )
    started = time.monotonic()
    try:
        while not is_reset(line):
            assert time.monotonic() - started < SLOW_S + CUT_AFTER_S + 8
            await asyncio.sleep(0.2)
    finally:
        line.close()

    assert time.monotonic() - started > SLOW_S


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*", "text/html, text/event-stream"])
async def test_accept_is_read_leniently(toy: Toy, accept: str) -> None:
    status, _, _ = await stream(toy, TICKS, headers={"accept": accept}, c=1)

    assert status == 200
