"""/healthz, /readyz and /metrics tell the truth, also when parts are away."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import pytest
from starlette.applications import Starlette

from domain.core import bell, heartbeat
from domain.core import db as core
from domain.core.heartbeat import QUEUES
from domain.core.settings import settings
from server import health
from tests.database import as_owner


async def ask(path: str, client: str = "10.0.0.9", method: str = "GET") -> tuple[int, Any]:
    """One request in this event loop, from `client`; (status, text)."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "client": (client, 1),
        "server": ("test", 80),
        "scheme": "http",
        "root_path": "",
        "http_version": "1.1",
    }
    await Starlette(routes=health.routes)(scope, receive, send)
    return sent[0]["status"], sent[1]["body"].decode()


async def test_ready_needs_a_worker_for_every_queue(db: None) -> None:
    await heartbeat.beat("settlement", "risk")
    status, text = await ask("/readyz")
    assert status == 503
    assert '"queues":"no worker for: delivery, general"' in text
    assert '"database":"ok"' in text

    await heartbeat.beat(*QUEUES)
    assert await ask("/readyz") == (
        200,
        '{"status":"ready","database":"ok","migrations":"ok","queues":"ok"}',
    )


async def test_a_late_heartbeat_is_none(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    await heartbeat.beat(*QUEUES)
    monkeypatch.setattr(heartbeat, "LATE_S", -1.0)

    assert (await ask("/readyz"))[0] == 503


async def test_not_ready_without_redis_or_migrations_but_alive(db: None) -> None:
    await as_owner("DELETE FROM schema_migration WHERE name LIKE '0001%'")
    await bell.close()
    bell.open("unix:///nowhere/at/all")
    status, text = await ask("/readyz")

    assert status == 503
    assert '"migrations":"1 waiting: run `kami migrate`"' in text
    assert '"queues":"cannot be reached (ConnectionError)"' in text
    assert await ask("/healthz") == (200, '{"status":"ok"}')


async def test_metrics_count_what_waits(db: None) -> None:
    for state in ("ready", "ready", "dead", "done"):
        await core.execute(
            "INSERT INTO promise (id, queue, task, subject_id, state, due_at)"
            " VALUES ($1, 'delivery', 't', $1, $2, clock_timestamp() - interval '90 s')",
            uuid4(),
            state,
        )
    status, text = await ask("/metrics")

    assert status == 200
    assert 'kami_promises_due{queue="delivery"} 2.0' in text
    assert 'kami_promises_dead{queue="delivery"} 1.0' in text
    assert 'kami_promises_due{queue="risk"} 0.0' in text
    age = re.search(r'kami_promises_oldest_seconds\{queue="delivery"\} ([0-9.]+)', text)
    assert age is not None
    assert 90 <= float(age[1]) < 120


async def test_metrics_are_private_in_production(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    made = settings().model_copy(update={"env": "production"})
    monkeypatch.setattr(health, "settings", lambda: made)

    assert (await ask("/metrics", client="9.9.9.9"))[0] == 404
    assert (await ask("/metrics", client="10.1.2.3"))[0] == 200
    assert (await ask("/metrics", client="127.0.0.1"))[0] == 200


async def test_only_get_is_answered() -> None:
    assert (await ask("/healthz", method="POST"))[0] == 405
