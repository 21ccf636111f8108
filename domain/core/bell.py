"""The doorbell: a Redis message that says "look again". Losing every one of them loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import Context
from typing import Any
from uuid import UUID

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

ORDERS = "orders"
CAPTURES = "captures"
PROMISES = "promises"
BULK = "bulk"
PEOPLE = "people"  # accounts whose sessions or rights have changed
APPS = "apps"  # grants that have ended, apps that have changed
IDS_MAX = 500
RING_EVERY_S = 0.003

_PREFIX = "kami:bell:"
_log = structlog.get_logger(__name__)
_redis: Redis | None = None
_ringer: asyncio.Task[None] | None = None
_waiting: dict[str, set[str] | None] = {}  # ids by topic, None for everybody


def open(url: str) -> None:
    """Set the Redis server of this process; nothing is connected yet."""
    global _redis
    _redis = Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)


async def close() -> None:
    """Send what still waits, then drop the connections."""
    global _redis, _ringer
    if _ringer is not None and _ringer.get_loop() is asyncio.get_running_loop():
        await asyncio.wait([_ringer])
    if _redis is not None:
        await _redis.aclose()
    _redis = _ringer = None
    _waiting.clear()


def server() -> Redis:
    """The Redis client of this process."""
    assert _redis is not None, "bell.open() has not run"
    return _redis


async def ring(topic: str, *ids: UUID | str) -> None:
    """Wake whoever listens to `topic`; never waits, never fails, a lost ring is found by the sweeper.

    Without ids everybody is meant. What rings while a message is on its way, or within `RING_EVERY_S` of it,
    leaves together as the next one: a message costs all who hear it more than an id in it does.
    """
    if _redis is None:
        return
    waiting = _waiting.setdefault(topic, set())
    if not ids:
        _waiting[topic] = None
    elif waiting is not None:
        waiting.update(map(str, ids))
    global _ringer
    # A loop that was closed in mid-ring (a command, a test) leaves a task behind that never ends.
    if _ringer is None or _ringer.done() or _ringer.get_loop() is not asyncio.get_running_loop():
        _ringer = asyncio.create_task(_send(_redis), name="bell.ring", context=Context())


async def _send(redis: Redis) -> None:
    while _waiting:
        rung = dict(_waiting)
        _waiting.clear()
        try:
            async with redis.pipeline(transaction=False) as pipe:
                for topic, ids in rung.items():
                    for body in _bodies(ids):
                        pipe.publish(_PREFIX + topic, body)
                await pipe.execute()
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("bell.silent", topics=sorted(rung), error=type(error).__name__)
        await asyncio.sleep(RING_EVERY_S)


def _bodies(ids: set[str] | None) -> list[bytes]:
    if ids is None:
        return [b"[]"]  # whoever listens is meant, and with it every id that waited
    some = list(ids)
    return [orjson.dumps(some[first : first + IDS_MAX]) for first in range(0, len(some), IDS_MAX)]


async def listen(*topics: str) -> AsyncIterator[tuple[str, list[str]]]:
    """Endless `(topic, ids)`; reconnects by itself and then yields `("", [])`: rings may have been missed."""
    pause_s = 0.1
    while True:
        try:
            # A listener blocks for as long as nothing happens: it needs a connection without a read timeout.
            kwargs: dict[str, Any] = {
                **server().connection_pool.connection_kwargs,
                "socket_timeout": None,
            }
            pool = type(server().connection_pool)(
                connection_class=server().connection_pool.connection_class, **kwargs
            )
            client = Redis(connection_pool=pool)
            try:
                pubsub = client.pubsub(ignore_subscribe_messages=True)
                await pubsub.subscribe(*(_PREFIX + topic for topic in topics))
                pause_s = 0.1
                yield "", []
                async for message in pubsub.listen():
                    topic = message["channel"].decode().removeprefix(_PREFIX)
                    yield topic, orjson.loads(message["data"])
            finally:
                await client.aclose()
                await pool.disconnect()
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("bell.lost", error=type(error).__name__, retry_in_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 5.0)
