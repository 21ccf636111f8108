"""The mail loops: they run twice, pass on what they find, and ask for another turn only when full."""

from __future__ import annotations

import pytest

from domain import notifications
from domain.core.events import READ_MAX
from workers import notifications as work
from workers.registry import loops


async def test_turns_on_an_empty_database_ask_for_patience(db: None) -> None:
    for _ in range(2):
        assert await work.collect() is None
        assert await work.send() is None


@pytest.mark.parametrize(("count", "next_s"), [(0, None), (1, None), (READ_MAX, 0)])
async def test_a_full_stretch_of_the_log_is_followed_at_once(
    monkeypatch: pytest.MonkeyPatch, count: int, next_s: float | None
) -> None:
    async def collect() -> int:
        return count

    monkeypatch.setattr(notifications, "collect", collect)

    assert await work.collect() == next_s


@pytest.mark.parametrize(("count", "next_s"), [(1, None), (notifications.SEND_MAX, 0)])
async def test_a_full_batch_of_mails_is_followed_at_once(
    monkeypatch: pytest.MonkeyPatch, count: int, next_s: float | None
) -> None:
    async def send_due() -> int:
        return count

    monkeypatch.setattr(notifications, "send_due", send_due)

    assert await work.send() == next_s


def test_the_loops_belong_to_the_general_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loops, "general", [])

    work.load()

    assert [loop.name for loop in loops["general"]] == ["mails.collect", "mails.send"]
