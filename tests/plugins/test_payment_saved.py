"""The laws of saved methods of every payment provider that can save, over real HTTP (worlds.py)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from domain.core.money import Money
from domain.payments.ports import CallbackRefused, ChargeState, Fact, SavedToken
from tests.plugins.test_payment_suite import UNPROVED
from tests.plugins.worlds import PRICE, PROOFS, WORLDS, Proofs, Reply, World, encode
from tests.sandbox import Received


@pytest.fixture(params=list(WORLDS))
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Every provider in turn."""
    async with WORLDS[request.param](tmp_path) as found:
        if not any(method.can_save for method in found.provider.methods):
            pytest.skip("this provider saves nothing")
        yield found


@pytest.fixture(params=list(PROOFS))
def proofs(request: pytest.FixtureRequest) -> Proofs:
    """Every provider's callbacks."""
    return PROOFS[request.param]()


def fact(world: World, callback: Received) -> Fact:
    (found,) = world.provider.verify(
        account=world.account, headers=callback.headers, body=callback.body
    )
    return found


async def saved(world: World) -> SavedToken:
    """The token of a method that was saved with a captured payment."""
    request, before = world.request(save=True), len(world.shop.received)
    await world.provider.charge(request)
    await world.confirm(request.reference)
    told = fact(world, (await world.shop.wait(before + 1))[before])
    assert told.saved is not None
    return told.saved


async def test_a_capture_brings_one_token_in_callback_and_query_and_only_when_asked(
    world: World,
) -> None:
    asked, other = world.request(save=True), world.request()
    for request in (asked, other):
        opened = await world.provider.charge(request)
        assert opened.saved is None
        await world.confirm(request.reference)

    told = {one.reference: one for one in [fact(world, got) for got in await world.shop.wait(2)]}
    found = await world.provider.query(account=world.account, reference=asked.reference)

    token = told[asked.reference].saved
    assert token is not None
    assert token.token
    assert token.label
    assert found.saved == token
    assert told[other.reference].saved is None
    assert token.token not in repr(told[asked.reference])
    assert token.token not in repr(found)


async def test_what_is_declined_or_voided_is_not_saved(world: World) -> None:
    declined, voided = world.request(Money(1_901, "USD"), save=True), world.request(save=True)
    for request in (declined, voided):
        await world.provider.charge(request)
    await world.confirm(declined.reference)
    closed = await world.provider.void(account=world.account, reference=voided.reference)

    told = fact(world, (await world.shop.wait())[0])

    assert (told.state, told.saved) == (ChargeState.DECLINED, None)
    assert (closed.state, closed.saved) == (ChargeState.VOIDED, None)


async def test_a_token_is_charged_without_the_buyer_and_once_however_often_it_is_asked(
    world: World,
) -> None:
    token = await saved(world)
    request = world.request(PRICE, token=token.token)

    answers = await asyncio.gather(*(world.provider.charge(request) for _ in range(8)))

    told = fact(world, (await world.shop.wait(2))[1])
    found = await world.provider.query(account=world.account, reference=request.reference)
    assert len({answer.provider_ref for answer in answers}) == 1
    assert {answer.state for answer in answers} <= {ChargeState.PROCESSING, ChargeState.CAPTURED}
    assert {answer.action for answer in answers} == {None}
    assert (told.reference, told.state, told.amount) == (request.reference, "captured", PRICE)
    assert (found.state, found.processed, found.saved) == (ChargeState.CAPTURED, PRICE, None)
    assert len(await world.shop.quiet(0.2)) == 2
    assert token.token not in repr(request)


async def test_the_reference_with_another_token_proves_nothing(world: World) -> None:
    first, second = await saved(world), await saved(world)
    request = world.request(token=first.token)
    await world.provider.charge(request)

    other = await world.provider.charge(replace(request, token=second.token))

    assert first.token != second.token
    assert other.state is ChargeState.UNKNOWN


async def test_a_token_is_forgotten_for_ever_and_twice_is_once(world: World) -> None:
    token, kept = await saved(world), await saved(world)
    heard = len(world.shop.received)

    first = await world.provider.forget(account=world.account, token=token.token)
    again = await world.provider.forget(account=world.account, token=token.token)
    never = await world.provider.forget(account=world.account, token="tok_never_seen")
    refused = await world.provider.charge(world.request(token=token.token))

    assert (first, again, never) == (True, True, True)
    assert (refused.state, refused.processed) == (ChargeState.FAILED, None)
    assert len(await world.shop.quiet(0.2)) == heard
    alive = await world.provider.charge(world.request(token=kept.token))
    assert alive.state in (ChargeState.PROCESSING, ChargeState.CAPTURED)


async def test_h26_a_token_of_another_account_is_refused_like_one_that_never_was(
    world: World,
) -> None:
    token = await saved(world)
    heard = len(world.shop.received)

    theirs = await world.provider.charge(world.request(token=token.token, account="other"))
    never = await world.provider.charge(world.request(token="tok_never_seen"))
    await world.provider.forget(account="other", token=token.token)

    assert (theirs.state, theirs.raw_code, theirs.raw_message) == (
        ChargeState.FAILED,
        never.raw_code,
        never.raw_message,
    )
    assert len(await world.shop.quiet(0.2)) == heard
    mine = await world.provider.charge(world.request(token=token.token))
    assert mine.state in (ChargeState.PROCESSING, ChargeState.CAPTURED)


async def test_a14_a_token_put_into_a_callback_proves_nothing(world: World) -> None:
    request = world.request(save=True)
    await world.provider.charge(request)
    await world.confirm(request.reference)
    (callback,) = await world.shop.wait()
    told = fact(world, callback)
    assert told.saved is not None
    forged = callback.body.replace(told.saved.token.encode(), b"tok_of_somebody_else")

    with pytest.raises(CallbackRefused) as refused:
        world.provider.verify(account=world.account, headers=callback.headers, body=forged)

    assert forged != callback.body
    assert refused.value.facts["status"] == 401


@pytest.mark.parametrize("reply", UNPROVED, ids=lambda reply: f"{reply.status}-{reply.body[:20]}")
async def test_forgetting_is_done_only_on_the_providers_word(world: World, reply: Reply) -> None:
    async with world.misbehaving(reply) as provider:
        assert await provider.forget(account=world.account, token="tok_1") is False


async def test_forgetting_at_nobody_is_not_done(world: World) -> None:
    async with world.unreachable() as provider:
        assert await provider.forget(account=world.account, token="tok_1") is False


@pytest.mark.parametrize(
    "broken",
    [
        7,
        "tok_1",
        [],
        {},
        {"token": ""},
        {"token": 7, "label": "x"},
        {"token": "a b", "label": "x"},
        {"token": "t" * 65},
    ],
)
async def test_a_token_that_cannot_be_read_never_stands_in_the_way_of_the_money(
    proofs: Proofs, broken: Any
) -> None:
    body = encode(proofs.statement(saved=broken))

    (told,) = proofs.provider.verify(account=proofs.account, headers=proofs.signed(body), body=body)

    assert (told.state, told.amount, told.saved) == ("captured", PRICE, None)


async def test_a_token_comes_only_with_money(proofs: Proofs) -> None:
    saved = {"token": "tok_1", "label": "Card ····4242"}
    nothing = {"value": "0.00", "currency": "USD"}
    taken = encode(proofs.statement(saved=saved))
    refused = encode(proofs.statement(saved=saved, status="declined", amount=nothing))

    (good,) = proofs.provider.verify(
        account=proofs.account, headers=proofs.signed(taken), body=taken
    )
    (bad,) = proofs.provider.verify(
        account=proofs.account, headers=proofs.signed(refused), body=refused
    )

    assert good.saved == SavedToken("tok_1", "Card ····4242")
    assert bad.saved is None
