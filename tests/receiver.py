"""A webhook receiver in the test's own loop that behaves as it is told, and a merchant's endpoint on it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
import pytest
from aiohttp import web

from domain import webhooks
from domain.core import db, events, ids
from domain.core.audit import Actor
from domain.core.events import Event
from domain.core.settings import settings
from domain.webhooks import Endpoint, Terms
from domain.webhooks.ports import carriers
from plugins.webhook.http import HttpCarrier
from server.graphql import shaping
from tests import horizon, make

ACTOR = Actor("merchant", "acc_test")
_numbers = itertools.count(1)
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Receiver:
    """What came, by path; `answers` maps a path to what it does, everything else is answered 204."""

    url: str = ""
    got: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    connections: int = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request: noted, then answered."""
        body = await request.read()
        self.got.append(
            {"path": request.path, "headers": dict(request.headers), "body": body, **_json(body)}
        )
        answer = self.answers.get(request.path)
        return await answer(request) if answer is not None else web.Response(status=204)

    def at(self, path: str) -> list[dict[str, Any]]:
        """What came to `path`, in order."""
        return [one for one in self.got if one["path"] == path]

    def says(self, path: str, status: int, **headers: str) -> None:
        """From now on `path` answers `status`."""

        async def answer(request: web.Request) -> web.Response:
            return web.Response(
                status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}
            )

        self.answers[path] = answer


def _json(body: bytes) -> dict[str, Any]:
    try:
        found: dict[str, Any] = orjson.loads(body)
        return found
    except orjson.JSONDecodeError:
        return {}


@contextlib.asynccontextmanager
async def receiving(
    monkeypatch: pytest.MonkeyPatch, *, timeout_s: float = 2.0
) -> AsyncIterator[Receiver]:
    """A receiver, the real carrier with the development switch on, and the contract; needs the fixture `db`."""
    monkeypatch.setenv("KAMI_WEBHOOKS_TO_LOOPBACK", "true")
    settings.cache_clear()
    shaping.install()
    found = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", found.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert runner.addresses
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    carrier = HttpCarrier(is_open=True, timeout_s=timeout_s)
    before = dict(carriers)
    carriers["http"] = carrier
    try:
        yield found
    finally:
        carriers.clear()
        carriers.update(before)
        await carrier.close()
        await runner.cleanup()


async def endpoint(merchant_id: UUID, url: str, **terms: Any) -> Endpoint:
    """A new endpoint of a merchant."""
    made = ids.uuid7()
    checked = webhooks.checked(Terms(url, **terms))
    async with db.transaction():
        await webhooks.add(merchant_id, checked, endpoint_id=made, sees_split=True, actor=ACTOR)
    return await find(made)


async def find(endpoint_id: UUID) -> Endpoint:
    """An endpoint as it is now."""
    return (await webhooks.endpoints([endpoint_id]))[endpoint_id]


async def happen(order: Any, *kinds: str) -> None:
    """More events of an order, each in a commit of its own."""
    for kind in kinds:
        async with db.transaction():
            sequence = await db.value(
                "UPDATE orders SET event_seq = event_seq + 1, version = version + 1 WHERE id = $1 RETURNING event_seq",
                order.id,
            )
            await events.record(Event(order.id, order.merchant_id, sequence, kind))


async def collected() -> None:
    """Everything that has happened is owed."""
    await horizon.passed()
    while await webhooks.collect():
        pass


async def due_now() -> None:
    """What waits for a later try waits no more."""
    await db.execute("UPDATE webhook_delivery SET due_at = clock_timestamp() WHERE state = 'ready'")
    await db.execute("UPDATE webhook_endpoint SET paused_until = NULL")


async def states(endpoint_id: UUID) -> list[tuple[int, str]]:
    """(sequence, state) of an endpoint's deliveries, by order and sequence."""
    rows = await db.fetch(
        "SELECT sequence, state FROM webhook_delivery WHERE endpoint_id = $1 ORDER BY order_id, sequence",
        endpoint_id,
    )
    return [(row["sequence"], row["state"]) for row in rows]


def is_signed(got: dict[str, Any], secret: str) -> bool:
    """Whether one of the v1 signatures is by `secret`, worked out here anew."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    headers = got["headers"]
    base = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + got["body"]
    wanted = "v1," + base64.b64encode(hmac.digest(key, base, "sha256")).decode()
    return wanted in headers["webhook-signature"].split(" ")


async def shops(count: int) -> Sequence[make.Shop]:
    """`count` merchants with a shop each."""
    return [await make.shop(keys=0) for _ in range(count)]


async def until(met: Callable[[], bool], *, timeout_s: float = 5.0) -> None:
    """Wait until `met()`."""
    async with asyncio.timeout(timeout_s):
        while not met():
            await asyncio.sleep(0.005)
