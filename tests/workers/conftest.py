"""Tasks of a test instead of the real ones; a webhook receiver and what sends to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.receiver import Receiver, receiving
from tests.workers.running import note, seen
from workers import outbox, registry
from workers.webhooks import Dispatcher


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> dict[str, registry.Handler]:
    """Only `note`, until the test adds others."""
    seen.clear()
    mine: dict[str, registry.Handler] = {"note": note}
    monkeypatch.setattr(outbox, "tasks", mine)
    return mine


@pytest.fixture
async def at(db: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    async with receiving(monkeypatch) as found:
        yield found


@pytest.fixture
async def dispatcher() -> AsyncIterator[Dispatcher]:
    made = Dispatcher()
    yield made
    await made.close()
