"""What people do on the running platform is on the audit log with its address, and in the chain within seconds."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

from domain.core import audit, audit_chain
from domain.core import db as core

PATIENCE_S = 30.0


async def test_h30_a_worker_of_the_platform_seals_what_was_recorded(live_db: None) -> None:
    async with core.transaction():
        await audit.record(None, audit.Actor("system", "test"), "test.sealed", UUID(int=77))
    number = await core.value("SELECT max(no) FROM audit_log WHERE action = 'test.sealed'")

    until = time.monotonic() + PATIENCE_S
    while not await core.value("SELECT 1 FROM audit_seal WHERE audit_no = $1", number):
        assert time.monotonic() < until, "nobody seals"
        await asyncio.sleep(0.1)

    assert await audit_chain.verify() is None
    head = await audit_chain.head()
    assert head is not None
    assert await audit_chain.verify(known=head) is None
