"""/healthz, /readyz and /metrics: alive, able to work, and how much of it.

A balancer asks `/readyz`; an orchestrator restarts on `/healthz`, which therefore looks at nothing but this process.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable

import asyncpg
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from domain import alarms
from domain.core import db, heartbeat, migrate
from domain.core.errors import DomainError
from domain.core.settings import settings
from server import telemetry

CHECK_TIMEOUT_S = 2.0
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ERRORS = (
    OSError,  # TimeoutError is one
    DomainError,
    RedisError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
)
_NO_STORE = {"Cache-Control": "no-store"}


async def healthz(request: Request) -> Response:
    """200 while the event loop turns."""
    return JSONResponse({"status": "ok"}, headers=_NO_STORE)


async def readyz(request: Request) -> Response:
    """200 when the database answers, its migrations are current and every queue has a worker; 503 with what fails."""
    names = list(_CHECKS)
    words = await asyncio.gather(*(_word(check) for check in _CHECKS.values()))
    facts = dict(zip(names, words, strict=True))
    is_ready = all(word == "ok" for word in words)
    body = {"status": "ready" if is_ready else "not ready", **facts}
    return JSONResponse(body, status_code=200 if is_ready else 503, headers=_NO_STORE)


async def metrics(request: Request) -> Response:
    """Prometheus text of all processes of this box; in production only for addresses of the private network."""
    if not settings().in_development and not _is_private(request):
        return Response(status_code=404)
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            queues, alerts = await heartbeat.backlogs(), await alarms.open_alerts()
    except _ERRORS:
        queues, alerts = [], None  # the rest is worth having, above all now
    text = await asyncio.to_thread(telemetry.render, queues, alerts)
    return Response(text, media_type=_METRICS_TYPE, headers=_NO_STORE)


routes = [
    Route("/healthz", healthz, methods=["GET"]),
    Route("/readyz", readyz, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
]


async def _word(check: Callable[[], Awaitable[str]]) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check()
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_S:.0f} s"
    except (
        OSError,
        DomainError,
        RedisError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
    ) as error:
        return f"cannot be reached ({type(error).__name__})"


async def _database() -> str:
    return "ok" if await db.value("SELECT 1") == 1 else "does not answer"


async def _migrations() -> str:
    names = [path.name for path in migrate.files()]
    applied = await db.value("SELECT count(*) FROM schema_migration WHERE name = ANY($1)", names)
    waiting = len(names) - int(applied)
    return f"{waiting} waiting: run `kami migrate`" if waiting else "ok"


async def _queues() -> str:
    ages = await heartbeat.ages_s()
    silent = [queue for queue, age in ages.items() if age is None or age > heartbeat.LATE_S]
    return f"no worker for: {', '.join(silent)}" if silent else "ok"


_CHECKS: dict[str, Callable[[], Awaitable[str]]] = {
    "database": _database,
    "migrations": _migrations,
    "queues": _queues,
}


def _is_private(request: Request) -> bool:
    if request.client is None:
        return False
    try:
        address = ipaddress.ip_address(request.client.host)
    except ValueError:
        return False
    return address.is_private or address.is_loopback
