"""Calls of the OAuth endpoints are one bucket for all processes; codes are counted where they cannot be forgotten."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from starlette.requests import Request

from domain import identity
from domain.core import bell
from domain.core import db as core
from domain.core.errors import Unavailable
from domain.partners import OAuthRefused
from server import oauth_limits
from server.graphql import shared
from server.graphql.limits import Size
from server.graphql.shared import SharedBuckets
from server.oauth_limits import Calls

SIZE = Size(100, 0.1)


def asking(address: str) -> Request:
    return Request({"type": "http", "client": (address, 1), "headers": []})


async def told(*processes: Calls) -> None:
    """Every process has told, and heard what the others told."""
    for _ in range(2):
        for one in processes:
            assert isinstance(one.buckets, SharedBuckets)
            one.buckets._loud.update(one.buckets._kept)
            await one.buckets.sync()


async def served(one: Calls, address: str, times: int) -> int:
    """How many of so many calls were served."""
    refusals: list[OAuthRefused] = []
    for _ in range(times):
        try:
            await one.take(asking(address))
        except OAuthRefused as refused:
            refusals.append(refused)
    assert {(one.status, one.error) for one in refusals} <= {(429, "slow_down")}
    return times - len(refusals)


async def test_two_processes_are_one_bucket_per_address(db: None) -> None:
    one, two = Calls("test", SIZE, "calls"), Calls("test", SIZE, "calls")
    other = Calls("other", SIZE, "calls")  # another kind of calls has its own

    assert await served(one, "203.0.113.1", 70) == 70
    await served(two, "203.0.113.1", 1)
    await told(one, two)
    await served(other, "203.0.113.1", 1)
    await told(other)

    assert await served(two, "203.0.113.1", 60) in range(25, 36)
    assert await served(two, "203.0.113.2", 60) == 60
    assert await served(other, "203.0.113.1", 60) == 60
    for each in (one, two, other):
        await each.close()


async def test_redis_away_answers_and_counts_by_the_process(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "AWAY_S", 0.02)
    nowhere = Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=0.2)
    monkeypatch.setattr(bell, "server", lambda: nowhere)
    one = Calls("test", SIZE, "calls")
    one._made = SharedBuckets(SIZE, lambda: nowhere)

    assert await served(one, "203.0.113.1", 120) in range(100, 102)
    async with asyncio.timeout(5):
        while not one._made.is_alone:
            await asyncio.sleep(0.01)
    assert await served(one, "203.0.113.2", 10) == 10

    await one.close()
    await nowhere.aclose()


async def test_codes_of_devices_are_counted_in_the_database_and_refused_without_it(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    account_id, other = uuid4(), uuid4()

    tries = await asyncio.gather(
        *(identity.try_device_code(account_id) for _ in range(14)), return_exceptions=True
    )
    assert sum(one is None for one in tries) == 10
    assert {type(one) for one in tries if one is not None} == {identity.TooManyTries}
    await identity.try_device_code(other)

    async def away(*_: Any) -> Any:
        raise Unavailable(what="database")

    monkeypatch.setattr(core, "fetch", away)
    with pytest.raises(Unavailable):
        await identity.try_device_code(other)


def test_the_endpoints_share_what_they_count() -> None:
    assert oauth_limits.calls is not oauth_limits.registrations
    assert (oauth_limits.calls._name, oauth_limits.registrations._name) == (
        "oauth",
        "oauth.register",
    )
