"""Sessions over real sockets and two API processes: what has ended is dead within five seconds (CASES H14, H10)."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import aiohttp
import orjson
import pytest

from domain import identity
from domain.core import db, ids
from domain.identity import Actor, Role
from tests import make
from tests.journeys.shoppers import WATCH
from tests.live import LiveServer

PASSWORD, NEW = "correct horse battery", "another horse battery"
DEAD_S = 5.0
SOCKETS = 8  # enough that both processes have some
VIEWER = "{ viewer { email } }"
_numbers = itertools.count(1)


@pytest.fixture
async def http(live_db: None) -> AsyncIterator[aiohttp.ClientSession]:
    """Connections of one test; each request may meet either process."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar()
    ) as found:
        yield found


async def ask(
    live: LiveServer, http: aiohttp.ClientSession, query: str, variables: Any = None, **head: str
) -> tuple[dict[str, Any], list[str]]:
    """(body, cookies set) of one request."""
    body = orjson.dumps({"query": query, "variables": variables or {}})
    sent = {"content-type": "application/json", **head}
    async with http.post(f"{live.url}/graphql", data=body, headers=sent) as answer:
        found: dict[str, Any] = orjson.loads(await answer.read())
        return found, answer.headers.getall("set-cookie", [])


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def member() -> tuple[UUID, UUID, str]:
    """(merchant, account, e-mail) of somebody in finance who is not the only one there."""
    shop = await make.shop()
    email = f"finance-{next(_numbers)}-{time.monotonic_ns()}@shop.test"
    account_id = await identity.register(email, PASSWORD)
    await identity.grant(shop.merchant_id, account_id, Role.FINANCE)
    return shop.merchant_id, account_id, email


SIGN_IN = """mutation ($input: SignInInput!) { signIn(input: $input) {
  __typename ... on Session { token device } ... on Problem { code } } }"""


async def sign_in(
    live: LiveServer, http: aiohttp.ClientSession, email: str, password: str = PASSWORD, **head: str
) -> dict[str, Any]:
    given = {"input": {"email": email, "password": password}}
    body, _ = await ask(live, http, SIGN_IN, given, **head)
    found: dict[str, Any] = body["data"]["signIn"]
    return found


async def idle(
    live: LiveServer, http: aiohttp.ClientSession, token: str
) -> aiohttp.ClientWebSocketResponse:
    """A socket that is initialised and carries nothing."""
    line = await http.ws_connect(live.ws_url, protocols=("graphql-transport-ws",))
    await line.send_json(
        {"type": "connection_init", "payload": {"authorization": f"Bearer {token}"}}
    )
    assert (await line.receive_json(timeout=10))["type"] == "connection_ack"
    return line


async def closes(line: aiohttp.ClientWebSocketResponse) -> int | None:
    """The code a socket is closed with, whatever it says before. Errors: TimeoutError after five seconds."""
    async with asyncio.timeout(DEAD_S):
        while True:
            message = await line.receive()
            if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED):
                return line.close_code


async def dies(live: LiveServer, http: aiohttp.ClientSession, token: str) -> None:
    """Every process refuses the token within five seconds, and goes on refusing."""
    until, refused = time.monotonic() + DEAD_S, 0
    while refused < 12:
        body, _ = await ask(live, http, VIEWER, **bearer(token))
        if "errors" in body:
            assert body["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
            refused += 1
        else:
            refused = 0
            assert time.monotonic() < until, "still alive after five seconds"
            await asyncio.sleep(0.1)


async def _sign_out(live: LiveServer, http: aiohttp.ClientSession, token: str, *rest: Any) -> None:
    await ask(live, http, "mutation { signOut { ... on SignedOut { ended } } }", **bearer(token))


async def _change(live: LiveServer, http: aiohttp.ClientSession, token: str, *rest: Any) -> None:
    query = """mutation ($input: ChangePasswordInput!) {
      changePassword(input: $input) { ... on Session { token } ... on Problem { code } } }"""
    given = {"input": {"currentPassword": PASSWORD, "newPassword": NEW}}
    body, _ = await ask(live, http, query, given, **bearer(token))
    fresh = body["data"]["changePassword"]["token"]
    assert fresh != token
    assert (await ask(live, http, VIEWER, **bearer(fresh)))[0]["data"]["viewer"] is not None


async def _remove(
    live: LiveServer, http: aiohttp.ClientSession, token: str, merchant_id: UUID, account_id: UUID
) -> None:
    await identity.remove_member(merchant_id, account_id, by=Actor(account_id))


async def _demote(
    live: LiveServer, http: aiohttp.ClientSession, token: str, merchant_id: UUID, account_id: UUID
) -> None:
    await identity.change_role(merchant_id, account_id, Role.READ_ONLY, by=Actor(account_id))


async def _delete(
    live: LiveServer, http: aiohttp.ClientSession, token: str, merchant_id: UUID, account_id: UUID
) -> None:
    """No bell rings: what a lost ring looks like."""
    await db.execute("DELETE FROM session WHERE account_id = $1", account_id)


@pytest.mark.parametrize("end", [_sign_out, _change, _remove, _demote, _delete])
async def test_h14_tokens_and_idle_sockets_die_within_five_seconds(
    live_server: LiveServer, http: aiohttp.ClientSession, end: Callable[..., Any]
) -> None:
    merchant_id, account_id, email = await member()
    token = (await sign_in(live_server, http, email))["token"]
    _, _, other = await member()
    others = (await sign_in(live_server, http, other))["token"]
    lines = [await idle(live_server, http, token) for _ in range(SOCKETS)]
    bystander = await idle(live_server, http, others)

    await end(live_server, http, token, merchant_id, account_id)
    codes = await asyncio.gather(*(closes(line) for line in lines))
    await dies(live_server, http, token)

    assert set(codes) == {4401}
    await bystander.send_json({"type": "ping"})
    assert (await bystander.receive_json(timeout=5))["type"] == "pong"
    assert (await ask(live_server, http, VIEWER, **bearer(others)))[0]["data"]["viewer"]
    await bystander.close()


async def test_h14_a_quiet_event_stream_ends_with_its_session(
    live_server: LiveServer, http: aiohttp.ClientSession
) -> None:
    shop = await make.shop()
    order = await make.order(shop)
    email = f"stream-{time.monotonic_ns()}@shop.test"
    account_id = await identity.register(email, PASSWORD)
    await identity.grant(shop.merchant_id, account_id, Role.SUPPORT)
    token = (await sign_in(live_server, http, email))["token"]
    variables = {"id": ids.encode("ord", order.id), "key": None, "after": None}
    sent = {"content-type": "application/json", "accept": "text/event-stream", **bearer(token)}
    body = orjson.dumps({"query": WATCH, "variables": variables})

    async with http.post(f"{live_server.url}/graphql/stream", data=body, headers=sent) as stream:
        async with asyncio.timeout(10):
            while b"PLACED" not in await stream.content.readline():
                pass
        await identity.remove_member(shop.merchant_id, account_id, by=Actor(account_id))
        async with asyncio.timeout(DEAD_S):
            rest = await stream.content.read()

    assert b"UNAUTHENTICATED" in rest
    assert rest.endswith(b"event: complete\ndata:\n\n")


async def test_h14_the_id_changes_at_every_sign_in_and_a_cookie_is_for_browsers_alone(
    live_server: LiveServer, http: aiohttp.ClientSession
) -> None:
    _, _, email = await member()
    given = {"input": {"email": email, "password": PASSWORD, "cookie": True}}

    first, cookies = await ask(live_server, http, SIGN_IN, given)
    held = "; ".join(one.partition(";")[0] for one in cookies)
    seen, _ = await ask(live_server, http, VIEWER, cookie=held)
    _, again = await ask(live_server, http, SIGN_IN, given, cookie=held)
    fresh = "; ".join(one.partition(";")[0] for one in again)
    old, gone = await ask(live_server, http, VIEWER, cookie=held)
    async with http.post(
        f"{live_server.url}/graphql",
        data=orjson.dumps({"query": VIEWER}),
        headers={"content-type": "text/plain", "cookie": fresh},
    ) as forged:
        status = forged.status
    _, out = await ask(
        live_server, http, "mutation { signOut { ... on SignedOut { ended } } }", cookie=fresh
    )

    assert first["data"]["signIn"] == {"__typename": "Session", "token": "", "device": ""}
    assert [one.partition("=")[0] for one in cookies] == ["kami_session", "kami_device"]
    assert all("; HttpOnly; SameSite=Lax" in one and "; Path=/;" in one for one in cookies)
    assert seen["data"]["viewer"] == {"email": email}
    assert fresh.partition(";")[0] != held.partition(";")[0]
    assert fresh.partition(";")[2] == held.partition(";")[2]  # the device is known
    assert old["data"] == {"viewer": None}  # replaced: a guest, who may sign in again
    assert gone[0].startswith("kami_session=; Path=/; Max-Age=0;")
    assert out[0].startswith("kami_session=; Path=/; Max-Age=0;")
    assert status == 415


async def test_h10_a_spoofed_proxy_header_is_no_other_address(
    live_server: LiveServer, http: aiohttp.ClientSession
) -> None:
    _, _, email = await member()
    device = (await sign_in(live_server, http, email))["device"]

    told = [
        (
            await sign_in(
                live_server,
                http,
                email,
                f"wrong {i}",
                **{"x-forwarded-for": f"198.51.100.{i}", "forwarded": f"for=198.51.100.{i}"},
            )
        )["code"]
        for i in range(20)
    ]
    stranger = await sign_in(live_server, http, email)
    given = {"input": {"email": email, "password": PASSWORD, "device": device}}
    known, _ = await ask(live_server, http, SIGN_IN, given)

    assert told == ["CREDENTIALS_INVALID"] * 10 + ["THROTTLED"] * 10
    assert stranger["code"] == "THROTTLED"
    assert known["data"]["signIn"]["__typename"] == "Session"
