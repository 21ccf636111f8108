"""A crowd of shoppers in front of the running platform of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from domain.core import bell, db
from tests.journeys import checker
from tests.journeys.shoppers import Shoppers, shoppers
from tests.live import LiveServer


@pytest.fixture
async def crowd(server: LiveServer) -> AsyncIterator[Shoppers]:
    await db.open(server.database_url, minsize=1, maxsize=4)
    bell.open(server.redis_url)
    try:
        async with shoppers(server) as found:
            yield found
        assert await checker.faults() == []
    finally:
        await bell.close()
        await db.close()
