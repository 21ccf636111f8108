"""What the sandbox's amounts make happen: the table of docs/guides/sandbox.md, row by row."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from domain.core import clock
from domain.core.money import Money
from domain.payments.ports import ChargeState, Fact
from plugins.payment.sandbox import Sandbox
from tests.sandbox import (
    ACCOUNT,
    Received,
    RunningSandbox,
    Shop,
    charge_request,
    running_sandbox,
    running_shop,
)

CURRENCIES = ("USD", "JPY", "KWD")


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    """A shop that acknowledges."""
    async with running_shop() as found:
        yield found


@pytest.fixture
async def sandbox(tmp_path: Path, shop: Shop) -> AsyncIterator[RunningSandbox]:
    """A provider that waits for the click."""
    async with running_sandbox(tmp_path) as found:
        yield found


@pytest.fixture
async def quick(tmp_path: Path, shop: Shop) -> AsyncIterator[RunningSandbox]:
    """A provider that confirms by itself after 20 ms."""
    async with running_sandbox(tmp_path, autoconfirm_ms=20) as found:
        yield found


def facts(adapter: Sandbox, received: list[Received]) -> list[Fact]:
    """What the callbacks prove."""
    return [
        fact
        for one in received
        for fact in adapter.verify(account=ACCOUNT, headers=one.headers, body=one.body)
    ]


@pytest.mark.parametrize("currency", CURRENCIES)
async def test_other_amounts_succeed(quick: RunningSandbox, shop: Shop, currency: str) -> None:
    adapter = quick.adapter()
    for minor in (1900, 1908, 1990, 1999, 107_10):
        await adapter.charge(charge_request(shop.url, Money(minor, currency)))

    told = facts(adapter, await shop.wait(5))

    assert {fact.amount.minor for fact in told} == {1900, 1908, 1990, 1999, 10710}
    assert {fact.state for fact in told} == {ChargeState.CAPTURED}


@pytest.mark.parametrize("currency", CURRENCIES)
async def test_amount_01_declines(quick: RunningSandbox, shop: Shop, currency: str) -> None:
    adapter, request = quick.adapter(), charge_request(shop.url, Money(1901, currency))
    answer = await adapter.charge(request)

    (told,) = facts(adapter, await shop.wait())

    found = await adapter.query(account=ACCOUNT, reference=request.reference)
    assert answer.state is ChargeState.REQUIRES_ACTION
    assert (told.state, told.amount) == (ChargeState.DECLINED, Money(0, currency))
    assert (found.state, found.processed) == (ChargeState.DECLINED, None)
    assert found.raw_code == "insufficient_funds"
    assert len(await shop.quiet()) == 1


async def test_amount_01_declines_by_click_too(sandbox: RunningSandbox, shop: Shop) -> None:
    adapter, request = sandbox.adapter(), charge_request(shop.url, Money(1901, "USD"))
    await adapter.charge(request)
    assert await shop.quiet(0.1) == []

    await sandbox.do(request.reference, "confirm")

    (told,) = facts(adapter, await shop.wait())
    assert told.state == ChargeState.DECLINED


@pytest.mark.parametrize("currency", CURRENCIES)
async def test_k16_amount_02_charges_then_hangs_and_only_a_query_finds_it(
    quick: RunningSandbox, shop: Shop, currency: str
) -> None:
    adapter = quick.adapter(timeout_s=0.3)
    request = charge_request(shop.url, Money(1902, currency))
    started = time.monotonic()

    lost = await adapter.charge(request)
    took = time.monotonic() - started
    found = await adapter.query(account=ACCOUNT, reference=request.reference)
    again = await adapter.charge(request)

    assert (lost.state, lost.raw_code) == (ChargeState.UNKNOWN, "timeout")
    assert 0.25 < took < 0.6
    assert (found.state, found.processed) == (ChargeState.CAPTURED, request.amount)
    assert again.provider_ref == found.provider_ref
    assert await shop.quiet() == []


async def test_amount_02_may_call_back_after_all(sandbox: RunningSandbox, shop: Shop) -> None:
    adapter = sandbox.adapter(timeout_s=0.3)
    await sandbox.modes(hang_callback=True)
    request = charge_request(shop.url, Money(1902, "USD"))

    lost = await adapter.charge(request)

    (told,) = facts(adapter, await shop.wait())
    assert lost.state is ChargeState.UNKNOWN
    assert (told.reference, told.state) == (request.reference, ChargeState.CAPTURED)


@pytest.mark.parametrize(("mode", "ids"), [("same", 1), ("distinct", 2)])
async def test_c01_amount_03_calls_back_twice_in_parallel(
    sandbox: RunningSandbox, shop: Shop, mode: str, ids: int
) -> None:
    adapter, request = sandbox.adapter(), charge_request(shop.url, Money(1903, "USD"))
    await sandbox.modes(twice=mode)
    shop.script.extend([(200, b"success", 0.3)] * 2)
    await adapter.charge(request)

    await sandbox.do(request.reference, "confirm")

    first, second = await shop.wait(2)
    told = facts(adapter, [first, second])
    assert abs(first.at - second.at) < 0.25  # the first was not answered yet
    assert len({fact.event_id for fact in told}) == ids
    assert {(fact.reference, fact.amount) for fact in told} == {(request.reference, request.amount)}
    assert len(await shop.quiet(0.5)) == 2


@pytest.mark.parametrize("currency", CURRENCIES)
async def test_b06_amount_04_processes_a_hundred_minor_units_more(
    quick: RunningSandbox, shop: Shop, currency: str
) -> None:
    adapter, request = quick.adapter(), charge_request(shop.url, Money(1904, currency))
    await adapter.charge(request)

    (told,) = facts(adapter, await shop.wait())

    found = await adapter.query(account=ACCOUNT, reference=request.reference)
    assert (told.state, told.amount) == (ChargeState.CAPTURED, Money(2004, currency))
    assert found.processed == Money(2004, currency)


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        (Money(1904, "USD"), Money(1904, "EUR")),
        (Money(1904, "EUR"), Money(1904, "USD")),
        (Money(1904, "JPY"), Money(190_400, "EUR")),
        (Money(19_904, "KWD"), Money(1990, "EUR")),
    ],
)
async def test_b05_amount_04_may_take_another_currency(
    sandbox: RunningSandbox, shop: Shop, asked: Money, taken: Money
) -> None:
    adapter, request = sandbox.adapter(), charge_request(shop.url, asked)
    await sandbox.modes(other="currency")
    await adapter.charge(request)

    await sandbox.do(request.reference, "confirm")

    (told,) = facts(adapter, await shop.wait())
    assert told.amount == taken


async def test_e01_amount_05_confirms_only_after_the_expiry(
    sandbox: RunningSandbox, shop: Shop
) -> None:
    adapter = sandbox.adapter()
    request = charge_request(shop.url, Money(1905, "USD"), expires_in_s=0.5)
    await adapter.charge(request)

    await sandbox.do(request.reference, "confirm")

    waiting = await adapter.query(account=ACCOUNT, reference=request.reference)
    assert (waiting.state, waiting.processed) == (ChargeState.PROCESSING, None)
    assert await shop.quiet(0.3) == []
    (told,) = facts(adapter, await shop.wait())
    assert (told.state, told.amount) == (ChargeState.CAPTURED, request.amount)
    assert told.occurred_at > request.expires_at
    assert clock.now() < request.expires_at + timedelta(seconds=2)


async def test_e01_amount_05_needs_no_click_with_autoconfirm(
    quick: RunningSandbox, shop: Shop
) -> None:
    adapter = quick.adapter()
    request = charge_request(shop.url, Money(1905, "USD"), expires_in_s=0.3)
    await adapter.charge(request)

    assert await shop.quiet(0.4) == []
    (told,) = facts(adapter, await shop.wait())
    assert told.occurred_at > request.expires_at


@pytest.mark.parametrize("minor", [1905, 1990])
async def test_e01_late_confirms_at_once_as_if_after_the_expiry(
    sandbox: RunningSandbox, shop: Shop, minor: int
) -> None:
    adapter, request = sandbox.adapter(), charge_request(shop.url, Money(minor, "USD"))
    await adapter.charge(request)

    await sandbox.do(request.reference, "late")

    (told,) = facts(adapter, await shop.wait())
    assert (told.state, told.amount) == (ChargeState.CAPTURED, request.amount)
    assert told.occurred_at > request.expires_at


@pytest.mark.parametrize("before", ["decline", "void"])
async def test_e02_money_may_come_although_the_payment_was_closed(
    sandbox: RunningSandbox, shop: Shop, before: str
) -> None:
    adapter, request = sandbox.adapter(), charge_request(shop.url)
    await adapter.charge(request)
    if before == "void":
        await adapter.void(account=ACCOUNT, reference=request.reference)
    else:
        await sandbox.do(request.reference, "decline")
    said = len(await shop.quiet(0.1))

    await sandbox.do(request.reference, "late")

    told = facts(adapter, await shop.wait(said + 1))[-1]
    found = await adapter.query(account=ACCOUNT, reference=request.reference)
    assert told.state == ChargeState.CAPTURED
    assert found.processed == request.amount


@pytest.mark.parametrize("currency", CURRENCIES)
async def test_amount_06_captures_half_and_says_so(
    quick: RunningSandbox, shop: Shop, currency: str
) -> None:
    adapter, request = quick.adapter(), charge_request(shop.url, Money(1906, currency))
    await adapter.charge(request)

    (told,) = facts(adapter, await shop.wait())

    found = await adapter.query(account=ACCOUNT, reference=request.reference)
    half = Money(953, currency)
    assert (told.state, told.amount) == (ChargeState.PARTIALLY_CAPTURED, half)
    assert (found.state, found.processed) == (ChargeState.PARTIALLY_CAPTURED, half)


@pytest.mark.parametrize("currency", CURRENCIES)
async def test_c07_amount_07_calls_back_before_it_answers(
    sandbox: RunningSandbox, shop: Shop, currency: str
) -> None:
    adapter, request = sandbox.adapter(), charge_request(shop.url, Money(1907, currency))
    shop.script.append((200, b"success", 0.2))
    started = time.monotonic()

    answer = await adapter.charge(request)

    (told,) = facts(adapter, shop.received)
    found = await adapter.query(account=ACCOUNT, reference=request.reference)
    assert time.monotonic() - started >= 0.2  # it waited for the success word
    assert (told.state, told.amount) == (ChargeState.CAPTURED, request.amount)
    assert answer.state is ChargeState.REQUIRES_ACTION  # written before the money moved
    assert (found.state, found.processed) == (ChargeState.CAPTURED, request.amount)
    assert len(await shop.quiet()) == 1


async def test_amount_07_answers_in_time_even_if_nobody_acknowledges(
    sandbox: RunningSandbox, shop: Shop
) -> None:
    adapter, request = sandbox.adapter(), charge_request(shop.url, Money(1907, "USD"))
    shop.script.extend([(500, b"", 0.0)] * 100)

    answer = await adapter.charge(request)

    assert answer.state is ChargeState.REQUIRES_ACTION
    assert len(shop.received) > 1


async def test_fifty_payments_at_once_are_each_told_once(quick: RunningSandbox, shop: Shop) -> None:
    adapter = quick.adapter()
    requests = [charge_request(shop.url) for _ in range(50)]

    await asyncio.gather(*(adapter.charge(request) for request in requests))

    told = facts(adapter, await shop.wait(50))
    assert {fact.reference for fact in told} == {request.reference for request in requests}
    assert len(await shop.quiet()) == 50
