"""The one clock: wall time for people and records, monotonic time for durations; tests may shift it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_shift = timedelta()


def now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC) + _shift


def monotonic() -> float:
    """Seconds that never jump; for timeouts and durations only."""
    return time.monotonic()


def shift(by: timedelta) -> None:
    """Move `now()` by `by` from the real time; for tests, `shift(timedelta())` restores it."""
    global _shift
    _shift = by
