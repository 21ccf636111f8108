"""The doorbell: a Redis message that says "look again". Losing every one of them loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

ORDERS = "orders"
CAPTURES = "captures"
PROMISES = "promises"
IDS_MAX = 500

_PREFIX = "kami:bell:"
_log = structlog.get_logger(__name__)
_redis: Redis | None = None


def open(url: str) -> None:
    """Set the Redis server of this process; nothing is connected yet."""
    global _redis
    _redis = Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)


async def close() -> None:
    """Drop the connections."""
    global _redis
    if _redis is not None:
        await _redis.aclose()
    _redis = None


def server() -> Redis:
    """The Redis client of this process."""
    assert _redis is not None, "bell.open() has not run"
    return _redis


async def ring(topic: str, *ids: UUID | str) -> None:
    """Wake whoever listens to `topic`; never fails, a lost ring is found by the sweeper."""
    if _redis is None:
        return
    try:
        body = orjson.dumps([str(one) for one in ids[:IDS_MAX]])
        await _redis.publish(_PREFIX + topic, body)
    except (RedisError, OSError, TimeoutError) as error:
        _log.warning("bell.silent", topic=topic, error=type(error).__name__)


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
