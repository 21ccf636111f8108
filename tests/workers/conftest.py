"""Tasks of a test instead of the real ones."""

from __future__ import annotations

import pytest

from tests.workers.running import note, seen
from workers import outbox, registry


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> dict[str, registry.Handler]:
    """Only `note`, until the test adds others."""
    seen.clear()
    mine: dict[str, registry.Handler] = {"note": note}
    monkeypatch.setattr(outbox, "tasks", mine)
    return mine
