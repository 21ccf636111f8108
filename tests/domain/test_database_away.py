"""A database that goes away is said so, and is never taken for a fault of what was being done (CASES K05, K07)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import asyncpg
import pytest

from domain import checkout, payments
from domain.core import db as core
from domain.core.errors import Unavailable
from tests import make
from tests.database import as_owner

ENDED = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(20)'"


async def _end_the_sleeper() -> None:
    async with asyncio.timeout(5):
        while not await as_owner(ENDED):
            await asyncio.sleep(0.02)


async def test_k07_a_backend_that_is_ended_in_a_statement_is_unavailable(db: None) -> None:
    sleeping = asyncio.create_task(core.fetch("SELECT pg_sleep(20)"))
    await _end_the_sleeper()
    with pytest.raises(Unavailable):
        await sleeping
    assert await core.value("SELECT 1") == 1


async def test_k07_l01_a_backend_that_is_ended_in_a_transaction_leaves_nothing(db: None) -> None:
    async def place() -> None:
        async with core.transaction():
            await make.order(shop)
            await core.fetch("SELECT pg_sleep(20)")

    shop = await make.shop()
    placing = asyncio.create_task(place())
    await _end_the_sleeper()
    with pytest.raises(Unavailable):
        await placing
    assert await core.value("SELECT count(*) FROM orders") == 0


@pytest.mark.parametrize(
    "error",
    [
        Unavailable(what="database"),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.AdminShutdownError("terminating connection"),
        asyncpg.TooManyConnectionsError("sorry"),
        asyncpg.QueryCanceledError("canceling statement due to statement timeout"),
        asyncpg.InterfaceError("connection is closed"),
        ConnectionResetError(),
    ],
)
async def test_k05_no_word_is_set_aside_because_the_database_was_away(
    db: None, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    shop = await make.shop()
    order = await make.paid(shop)
    waiting = payments.waiting

    async def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(payments, "waiting", fail)
    with pytest.raises(type(error)):
        await checkout.fulfil(order.lane)
    monkeypatch.setattr(payments, "waiting", waiting)

    assert await core.value("SELECT count(*) FROM inbox_event WHERE verdict IS NULL") == 1
    assert await core.value("SELECT count(*) FROM money_exception") == 0
    assert await checkout.fulfil(order.lane) == 1
    assert await make.status([order.id]) == ["delivered"]


async def test_k05_a_statement_whose_failure_was_swallowed_is_never_taken_for_a_commit(
    db: None,
) -> None:
    """The server answers COMMIT of a failed transaction with ROLLBACK and no error."""
    rung = 0

    async def ring() -> None:
        nonlocal rung
        rung += 1

    async def swallow() -> None:
        async with core.transaction():
            core.after_commit(ring)
            await make.shop()
            with contextlib.suppress(asyncpg.DivisionByZeroError):
                await core.execute("SELECT 1 / 0")

    with pytest.raises(AssertionError, match="ROLLBACK"):
        await swallow()

    assert rung == 0
    assert await core.value("SELECT count(*) FROM shop") == 0
    assert await core.value("SELECT 1") == 1
