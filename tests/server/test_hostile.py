"""H04, J21-J24: what each hostile request costs the real server in processor time, beside an ordinary large one.

The floor is taken in the same run from documents that are allowed, new each time and as long as the bound lets them
be: whatever the machine, a hostile one costs no more than a few of those.
"""

from __future__ import annotations

import io
import itertools
import json

import aiohttp
import psutil  # type: ignore[import-untyped,unused-ignore]
import pytest

from tests.live import LiveServer

TIMES, FLOOR_TIMES = 15, 60
FLOORS_MAX = 3
_unlike = itertools.count()


def asks(query: str, **variables: object) -> bytes:
    return json.dumps({"query": query, "variables": variables}).encode()


def circle(size: int) -> str:
    """Fragments that spread each other, the last one the first."""
    parts = [f"fragment F{n} on Query {{ ...F{(n + 1) % size} }}" for n in range(size)]
    return "{ ...F0 } " + " ".join(parts)


def ordinary() -> bytes:
    """Thirty markets with their ways to pay: allowed, and never sent before."""
    number = next(_unlike)
    selection = "{ country currency language source paymentMethods { code name kind currencies } }"
    fields = " ".join(f'm{n}: market(country: "HK") {selection}' for n in range(30))
    return asks(f"query Q{number} {{ {fields} }}")


HOSTILE: dict[str, bytes] = {
    "a 1 MB document": asks("{ " + "a " * 500_000 + "}"),
    "1 MB of comments": asks("#\n" * 500_000 + "{ __typename }"),
    "comments up to the bound": asks("#\n" * 80_000 + "{ nothing }"),
    "10,000 aliases": asks("{ " + " ".join(f"a{n}: __typename" for n in range(10_000)) + " }"),
    "600 aliases": asks("{ " + " ".join(f"a{n}: __typename" for n in range(600)) + " }"),
    "1,000 fragments in a circle": asks(circle(1_000)),
    "240 fragments in a circle": asks(circle(240)),
    "100,000 unknown fields": asks("{ " + " ".join(f"u{n}" for n in range(100_000)) + " }"),
    "30,000 unknown fields": asks("{ " + " ".join(f"u{n}" for n in range(30_000)) + " }"),
    "1,900 unknown fields": asks("{ " + " ".join(f"u{n}" for n in range(1_900)) + " }"),
    "1,900 unknown variables": asks(
        "{ " + " ".join(f"market(country: $v{n}) {{ country }}" for n in range(200)) + " }"
    ),
    "depth 300": asks("{ " + "a { " * 300 + "b" + " }" * 300 + " }"),
    "a value 900 deep": asks("{ shop(handle: " + "[" * 900 + "]" * 900 + ") { id } }"),
    "JSON 10,000 deep": b'{"query":"{ __typename }","variables":{"a":'
    + b"[" * 10_000
    + b"]" * 10_000
    + b"}}",
    "an integer of 5,000 digits": b'{"query":"{ __typename }","variables":{"a":'
    + b"9" * 5_000
    + b"}}",
    "NaN": b'{"query":"{ __typename }","variables":{"a":NaN}}',
    "a key twice": b'{"query":"{ __typename }","query":"{ __typename }"}',
    "60,000 array elements": asks("query($a: [ID!]!) { nodes(ids: $a) { id } }", a=[1] * 60_000),
    "20,000 wrong elements": asks("query($a: [ID!]!) { nodes(ids: $a) { id } }", a=[{}] * 19_990),
    "60,000 empty lists": asks("query($a: [ID!]!) { nodes(ids: $a) { id } }", a=[[]] * 60_000),
    "120,000 escaped quotes without an end": b'{"query":"{ __typename }","a":[[['
    + b"[]," * 70
    + b'"'
    + b'\\"' * 120_000,
    "60,000 wrong elements": asks("query($a: [ID!]!) { nodes(ids: $a) { id } }", a=[{}] * 60_000),
    "a batch": b"[" + b",".join([b'{"query":"{ __typename }"}'] * 1_000) + b"]",
    "a page of 99,999,999": asks(
        '{ shop(handle: "demo") { products(first: 99999999) { nodes { id } } } }'
    ),
    "bad UTF-8": b'{"query":"\xff\xfe"}',
}
CODES = {
    "BAD_USER_INPUT",
    "GRAPHQL_PARSE_FAILED",
    "GRAPHQL_VALIDATION_FAILED",
    "MAX_COST_EXCEEDED",
    "MAX_DEPTH_EXCEEDED",
}


def spent_s(server: LiveServer) -> float:
    """Processor time of all API processes until now."""
    found = 0.0
    for name, pid in server.pids().items():
        if name.startswith("api"):
            times = psutil.Process(pid).cpu_times()
            found += times.user + times.system
    return found


async def send(
    session: aiohttp.ClientSession, server: LiveServer, body: bytes
) -> tuple[int, bytes]:
    """Status and body; a connection that is closed while a body that is too large is sent says 413 as well."""
    try:
        async with session.post(
            f"{server.url}/graphql",
            data=io.BytesIO(body),
            headers={
                "content-type": "application/json",
                "accept": "application/graphql-response+json",
            },
        ) as reply:
            return reply.status, await reply.read()
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
        assert len(body) > 262_144
        return 413, b'{"errors":[{"extensions":{"code":"BAD_USER_INPUT"}}]}'


@pytest.fixture(scope="module")
def floor() -> dict[str, float]:
    """Filled by the first test that measures it."""
    return {}


async def floor_s(
    known: dict[str, float], session: aiohttp.ClientSession, server: LiveServer
) -> float:
    """Processor time of one ordinary large document."""
    if "s" not in known:
        await send(session, server, ordinary())
        before = spent_s(server)
        for _ in range(FLOOR_TIMES):
            status, answer = await send(session, server, ordinary())
            assert status == 200, answer
        known["s"] = (spent_s(server) - before) / FLOOR_TIMES
        assert known["s"] > 0.001
    return known["s"]


@pytest.mark.parametrize("name", list(HOSTILE))
async def test_h04_a_hostile_request_is_refused_for_the_price_of_a_few_ordinary_ones(
    live_server: LiveServer, floor: dict[str, float], name: str
) -> None:
    async with aiohttp.ClientSession() as session:
        usual_s = await floor_s(floor, session, live_server)
        before = spent_s(live_server)
        for _ in range(TIMES):
            status, answer = await send(session, live_server, HOSTILE[name])
            assert status in (400, 413), answer[:300]
            codes = {error["extensions"]["code"] for error in json.loads(answer)["errors"]}
            assert codes <= CODES
            assert len(answer) < 10_000
            assert b"Traceback" not in answer
        cost_s = (spent_s(live_server) - before) / TIMES

    print(f"{name}: {cost_s * 1e3:.1f} ms, an ordinary one {usual_s * 1e3:.1f} ms")
    assert cost_s < FLOORS_MAX * usual_s
