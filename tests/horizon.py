"""Followers of the log read behind the oldest running transaction of the whole server: wait until that is past.

Another pytest process works on the same server in its own database, and its transactions hold the horizon too.
"""

from __future__ import annotations

import asyncio
import contextlib

from domain.core import db

PATIENCE_S = 3.0


async def passed() -> None:
    """Return once everything committed so far is behind the horizon, or after three seconds (a test may hold it)."""
    mine = await db.value("SELECT pg_current_xact_id()::text::bigint")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while mine >= await db.value(
                "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
            ):
                await asyncio.sleep(0.01)
