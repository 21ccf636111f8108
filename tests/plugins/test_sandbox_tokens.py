"""What an amount makes happen when the sandbox charges a saved method: docs/guides/sandbox.md, by token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from domain.core.money import Money
from domain.payments.ports import ChargeState
from tests.sandbox import (
    ACCOUNT,
    RunningSandbox,
    Shop,
    charge_request,
    running_sandbox,
    running_shop,
)

C = ChargeState


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    """A shop that acknowledges."""
    async with running_shop() as found:
        yield found


async def token_of(sandbox: RunningSandbox, shop: Shop) -> str:
    """The token of a method saved with a payment of 19.90 USD, whose callback has come."""
    request, before = charge_request(shop.url, save=True), len(shop.received)
    await sandbox.adapter().charge(request)
    await sandbox.do(request.reference, "confirm")
    token: str = (await shop.wait(before + 1))[before].statement["saved"]["token"]
    return token


@pytest.mark.parametrize(
    ("minor", "answered", "told", "taken_minor"),
    [
        (1900, C.CAPTURED, ["captured"], 1900),
        (1901, C.DECLINED, ["declined"], None),
        (1902, C.UNKNOWN, [], 1902),
        (1903, C.CAPTURED, ["captured", "captured"], 1903),
        (1904, C.CAPTURED, ["captured"], 2004),
        (1905, C.PROCESSING, [], None),
        (1906, C.PARTIALLY_CAPTURED, ["partially_captured"], 953),
        (1907, C.PROCESSING, ["captured"], 1907),
    ],
)
async def test_amounts_steer_a_charge_by_token(
    tmp_path: Path,
    shop: Shop,
    minor: int,
    answered: ChargeState,
    told: list[str],
    taken_minor: int | None,
) -> None:
    async with running_sandbox(tmp_path) as sandbox:
        token = await token_of(sandbox, shop)
        adapter = sandbox.adapter(timeout_s=0.5)
        request = charge_request(shop.url, Money(minor, "USD"), token=token)

        answer = await adapter.charge(request)

        await shop.wait(1 + len(told))
        heard = [one.statement["status"] for one in await shop.quiet(0.1)][1:]
        found = await adapter.query(account=ACCOUNT, reference=request.reference)
        assert (answer.state, answer.action) == (answered, None)
        assert heard == told
        assert (found.processed and found.processed.minor) == taken_minor
        assert found.saved is None


async def test_a_charge_by_token_waits_when_the_account_says_so(tmp_path: Path, shop: Shop) -> None:
    async with running_sandbox(tmp_path) as sandbox:
        token = await token_of(sandbox, shop)
        await sandbox.modes(by_token="processing")
        request = charge_request(shop.url, token=token)

        answer = await sandbox.adapter().charge(request)
        assert len(await shop.quiet(0.1)) == 1
        await sandbox.do(request.reference, "confirm")

        assert (answer.state, answer.processed) == (C.PROCESSING, None)
        assert (await shop.wait(2))[1].statement["status"] == "captured"


async def test_tokens_and_what_was_forgotten_outlive_the_provider(
    tmp_path: Path, shop: Shop
) -> None:
    async with running_sandbox(tmp_path) as sandbox:
        kept, gone = await token_of(sandbox, shop), await token_of(sandbox, shop)
        await sandbox.adapter().forget(account=ACCOUNT, token=gone)

    async with running_sandbox(tmp_path) as again:
        adapter = again.adapter()
        charged = await adapter.charge(charge_request(shop.url, token=kept))
        refused = await adapter.charge(charge_request(shop.url, token=gone))

    assert (charged.state, refused.state) == (C.CAPTURED, C.FAILED)
    assert refused.raw_code == "unknown_token"
