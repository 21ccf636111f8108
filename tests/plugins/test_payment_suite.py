"""The laws of every payment provider over real HTTP: adapter, simulator, shop (worlds.py)."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from domain.core import clock
from domain.core.money import CURRENCIES, Money
from domain.payments.ports import (
    CallbackRefused,
    ChargeState,
    Fact,
    Provider,
    Redirect,
    RefundAnswer,
    RefundRequest,
    RefundState,
)
from tests.plugins.worlds import PRICE, WORLDS, Reply, World, reference
from tests.sandbox import Received

# Not proved to be the provider's: whatever it says, the attempt may have been taken.
UNPROVED = [
    Reply(500, b"Internal Server Error", is_signed=False),
    Reply(502, b"<html>Bad Gateway</html>", is_signed=False),
    Reply(503, b"", is_signed=True),
    Reply(200, b"<html>Scheduled maintenance</html>", is_signed=False),
    Reply(200, b'{"status":"captured","captured":{"value":"19.90"', is_signed=True),
    Reply(200, '{"message":"é"}'.encode("latin-1"), is_signed=True),
    Reply(200, b'{"status":"captured"}', is_signed=False),
    Reply(400, b'{"error":{"code":"declined","message":""}}', is_signed=False),
    Reply(404, b'{"error":{"code":"not_found","message":""}}', is_signed=False),
    Reply(302, b"", is_signed=False, headers=((b"location", b"http://127.0.0.1:9/"),)),
    Reply(204, b"", is_signed=True),
    Reply(200, b"null", is_signed=True),
    Reply(200, b"[]", is_signed=True),
    Reply(429, b'{"error":{"code":"slow_down","message":""}}', is_signed=True),
    Reply(409, b'{"error":{"code":"reference_reused","message":""}}', is_signed=True),
]


@pytest.fixture(params=list(WORLDS))
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Every provider in turn."""
    async with WORLDS[request.param](tmp_path) as found:
        yield found


def fact(world: World, callback: Received) -> Fact:
    """What the callback proves."""
    (found,) = world.provider.verify(
        account=world.account, headers=callback.headers, body=callback.body
    )
    return found


async def paid(world: World, amount: Money = PRICE) -> str:
    """The provider's id of a captured payment whose callback has come."""
    request, before = world.request(amount), len(world.shop.received)
    answer = await world.provider.charge(request)
    assert answer.provider_ref
    await world.confirm(request.reference)
    await world.shop.wait(before + 1)
    return answer.provider_ref


async def refund(world: World, payment: str, minor: int, asked: str = "") -> RefundAnswer:
    """Ask `minor` of a payment in USD back."""
    amount = Money(minor, "USD")
    return await world.provider.refund(
        RefundRequest(asked or reference(), world.account, payment, amount, "requested")
    )


async def test_provider_says_what_it_offers(world: World) -> None:
    provider = world.provider

    assert provider.name in WORLDS
    assert provider.methods
    for method in provider.methods:
        assert method.currencies
        assert set(method.currencies) <= CURRENCIES
    assert provider.success_word


async def test_charge_opens_one_payment_however_often_it_is_asked(world: World) -> None:
    request = world.request()

    answers = await asyncio.gather(*(world.provider.charge(request) for _ in range(8)))

    assert len({answer.provider_ref for answer in answers}) == 1
    assert {answer.state for answer in answers} == {ChargeState.REQUIRES_ACTION}
    assert all(isinstance(answer.action, Redirect) for answer in answers)
    assert all(answer.processed is None for answer in answers)
    assert await world.shop.quiet(0.1) == []


async def test_confirmed_payment_is_told_once_and_found_by_query(world: World) -> None:
    request = world.request()
    answer = await world.provider.charge(request)

    await world.confirm(request.reference)

    (callback,) = await world.shop.wait()
    told = fact(world, callback)
    found = await world.provider.query(account=world.account, reference=request.reference)
    assert (told.subject, told.reference) == ("payment", request.reference)
    assert (told.state, told.amount) == (ChargeState.CAPTURED, request.amount)
    assert told.provider_ref == answer.provider_ref
    assert abs((told.occurred_at - clock.now()).total_seconds()) < 5
    assert (found.state, found.processed) == (ChargeState.CAPTURED, request.amount)
    assert len(await world.shop.quiet(0.2)) == 1


@pytest.mark.parametrize("currency", ["USD", "JPY", "KWD", "CNY"])
async def test_b12_amount_travels_exactly_in_every_currency(world: World, currency: str) -> None:
    request = world.request(Money(1234590, currency))
    await world.provider.charge(request)

    await world.confirm(request.reference)

    (callback,) = await world.shop.wait()
    told = fact(world, callback)
    assert told.amount == Money(1234590, currency)


async def test_reference_with_other_input_proves_nothing_and_keeps_the_first(world: World) -> None:
    first = world.request(Money(1990, "USD"))
    await world.provider.charge(first)

    second = await world.provider.charge(
        world.request(Money(2990, "USD"), reference=first.reference)
    )

    await world.confirm(first.reference)
    found = await world.provider.query(account=world.account, reference=first.reference)
    assert second.state is ChargeState.UNKNOWN
    assert found.processed == Money(1990, "USD")


async def test_query_of_a_reference_never_seen_is_failed(world: World) -> None:
    found = await world.provider.query(account=world.account, reference=reference())

    assert (found.state, found.processed) == (ChargeState.FAILED, None)


async def test_void_closes_what_is_open_and_never_what_is_captured(world: World) -> None:
    voided, captured = world.request(), world.request()
    for request in (voided, captured):
        await world.provider.charge(request)
    await world.confirm(captured.reference)
    await world.shop.wait()

    first = await world.provider.void(account=world.account, reference=voided.reference)
    second = await world.provider.void(account=world.account, reference=captured.reference)

    assert first.state is ChargeState.VOIDED
    assert (second.state, second.processed) == (ChargeState.CAPTURED, captured.amount)


async def test_void_of_a_reference_never_seen_bars_a_charge_that_comes_late(world: World) -> None:
    request = world.request()

    voided = await world.provider.void(account=world.account, reference=request.reference)
    late = await world.provider.charge(request)

    assert voided.state is ChargeState.VOIDED
    assert (late.state, late.action, late.processed) == (ChargeState.VOIDED, None, None)


async def test_e07_e08_refunds_end_at_what_was_captured(world: World) -> None:
    payment = await paid(world, Money(10_000, "USD"))

    answers = [await refund(world, payment, minor) for minor in (2_500, 3_333, 4_168, 4_167, 1)]

    states = [answer.state.value for answer in answers]
    assert states == ["succeeded", "succeeded", "failed", "succeeded", "failed"]
    assert answers[2].raw_code == answers[4].raw_code == "amount_exceeds_captured"


async def test_e07_refund_is_returned_once_however_often_it_is_asked(world: World) -> None:
    payment, again = await paid(world), reference()

    answers = await asyncio.gather(*(refund(world, payment, 1_000, again) for _ in range(8)))
    rest = await refund(world, payment, 990)

    assert len(set(answers)) == 1
    assert answers[0].state is rest.state is RefundState.SUCCEEDED


async def test_e07_racing_refunds_never_exceed_the_capture(world: World) -> None:
    payment = await paid(world)

    answers = await asyncio.gather(*(refund(world, payment, 1_000) for _ in range(5)))

    assert sorted(answer.state.value for answer in answers) == ["failed"] * 4 + ["succeeded"]


async def test_refund_of_what_was_never_captured_fails(world: World) -> None:
    request = world.request()
    opened = await world.provider.charge(request)
    assert opened.provider_ref

    assert (await refund(world, opened.provider_ref, 100)).state is RefundState.FAILED
    assert (await refund(world, "sbx_nobody", 100)).state is RefundState.FAILED


async def test_refund_with_other_input_proves_nothing(world: World) -> None:
    payment, asked = await paid(world), reference()
    await refund(world, payment, 100, asked)

    assert (await refund(world, payment, 200, asked)).state is RefundState.UNKNOWN


async def test_e11_refund_is_told_and_may_fail_later(world: World) -> None:
    payment, asked = await paid(world), reference()
    await refund(world, payment, 1_000, asked)
    told = fact(world, (await world.shop.wait(2))[1])

    await world.fail_refund(asked)

    failed = fact(world, (await world.shop.wait(3))[2])
    found = await world.provider.query_refund(account=world.account, reference=asked)
    assert (told.subject, told.reference, told.state) == ("refund", asked, "succeeded")
    assert told.amount == Money(1_000, "USD")
    assert (failed.reference, failed.state, failed.amount.minor) == (asked, "failed", 0)
    assert failed.event_id != told.event_id
    assert found.state is RefundState.FAILED
    assert (await refund(world, payment, 1_990)).state is RefundState.SUCCEEDED


async def test_query_of_a_refund_never_seen_is_failed(world: World) -> None:
    found = await world.provider.query_refund(account=world.account, reference=reference())

    assert found.state is RefundState.FAILED


async def test_a14_forged_callback_leaves_the_named_order_alone(world: World) -> None:
    request = world.request()
    await world.provider.charge(request)
    await world.confirm(request.reference)
    (callback,) = await world.shop.wait()
    forged = callback.body.replace(b"captured", b"declined")

    with pytest.raises(CallbackRefused) as refused:
        world.provider.verify(account=world.account, headers=callback.headers, body=forged)

    found = await world.provider.query(account=world.account, reference=request.reference)
    assert forged != callback.body
    assert refused.value.facts["status"] == 401
    assert (found.state, found.processed) == (ChargeState.CAPTURED, request.amount)


async def test_a15_provider_signs_a_repetition_anew_with_the_same_event_id(world: World) -> None:
    request = world.request()
    world.shop.script.extend([(500, b"", 0.0), (200, b"fail", 0.0)])
    await world.provider.charge(request)

    await world.confirm(request.reference)

    callbacks = await world.shop.wait(3)
    assert len({fact(world, one) for one in callbacks}) == 1


@pytest.mark.parametrize(
    "answer",
    [(200, b"fail"), (200, b"SUCCESS"), (200, b"success\n"), (200, b""), (500, b"success")],
)
async def test_c05_only_the_success_word_ends_the_repetitions(
    world: World, answer: tuple[int, bytes]
) -> None:
    request = world.request()
    world.shop.script.append((*answer, 0.0))
    await world.provider.charge(request)

    await world.confirm(request.reference)

    await world.shop.wait(2)
    assert len(await world.shop.quiet(0.3)) == 2


# --- C18, H43, K: bad days of a provider ---------------------------------------------------


async def everything(world: World, provider: Provider) -> list[str]:
    """The states of one call of each kind."""
    account, amount = world.account, Money(1990, "USD")
    refund = RefundRequest(reference(), account, "sbx_1", amount, "requested")
    answers = await asyncio.gather(
        provider.charge(world.request()),
        provider.query(account=account, reference=reference()),
        provider.void(account=account, reference=reference()),
        provider.refund(refund),
        provider.query_refund(account=account, reference=reference()),
    )
    return [answer.state.value for answer in answers]


@pytest.mark.parametrize("reply", UNPROVED, ids=lambda reply: f"{reply.status}-{reply.body[:20]}")
async def test_c18_k17_answer_that_proves_nothing_is_unknown(world: World, reply: Reply) -> None:
    async with world.misbehaving(reply) as provider:
        assert set(await everything(world, provider)) == {"unknown"}


@pytest.mark.parametrize(
    ("status", "code", "states"),
    [
        (400, "invalid_request", ["failed", "unknown", "unknown", "failed", "unknown"]),
        (402, "declined", ["declined", "unknown", "unknown", "failed", "unknown"]),
        (404, "not_found", ["failed", "failed", "failed", "failed", "failed"]),
        (404, "no_route", ["failed", "unknown", "unknown", "failed", "unknown"]),
    ],
)
async def test_signed_refusal_is_final_only_where_it_says_so(
    world: World, status: int, code: str, states: list[str]
) -> None:
    body = b'{"error":{"code":"%s","message":"no"}}' % code.encode()
    async with world.misbehaving(Reply(status, body)) as provider:
        assert await everything(world, provider) == states


async def test_k17_nobody_there_is_unknown(world: World) -> None:
    async with world.unreachable() as provider:
        assert set(await everything(world, provider)) == {"unknown"}


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b'{"captured":{"value":1e400}}'),
        Reply(200, b'{"captured":NaN}'),
        Reply(200, b'{"captured":' + b"9" * 5000 + b"}"),
        Reply(200, b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
        Reply(200, b"x" * 65_536, is_signed=False, repeat=1600),
        Reply(200, gzip.compress(b" " * 50_000_000), headers=((b"content-encoding", b"gzip"),)),
        Reply(200, b"{}", headers=((b"x-filler", b"x" * 60_000),)),
    ],
    ids=["1e400", "NaN", "5000 digits", "10000 deep", "100 MB", "gzip bomb", "big header"],
)
async def test_h43_monstrous_answer_is_bounded_and_unknown(world: World, reply: Reply) -> None:
    async with world.misbehaving(reply) as provider:
        started = time.monotonic()
        found = await provider.query(account=world.account, reference=reference())

        assert (found.state, found.processed) == (ChargeState.UNKNOWN, None)
        assert time.monotonic() - started < 1.5


async def test_answer_is_believed_only_about_what_was_asked(world: World) -> None:
    asked = reference()
    answers = {
        "right": (world.captured(asked), ChargeState.CAPTURED),
        "padded": (world.captured(asked) + b" " * 70_000, ChargeState.UNKNOWN),
        "other reference": (world.captured(reference()), ChargeState.UNKNOWN),
        "other account": (world.captured(asked, account="other"), ChargeState.UNKNOWN),
        "unknown status": (world.captured(asked, status="paid"), ChargeState.UNKNOWN),
        "no amount": (world.captured(asked, captured=None), ChargeState.UNKNOWN),
    }
    for name, (body, state) in answers.items():
        async with world.misbehaving(Reply(200, body)) as provider:
            found = await provider.query(account=world.account, reference=asked)

            assert (name, found.state) == (name, state)


async def test_redirect_is_never_followed(world: World) -> None:
    elsewhere = ((b"location", f"{world.shop.url}/elsewhere".encode()),)
    for status in (301, 302, 307, 308):
        async with world.misbehaving(Reply(status, b"", headers=elsewhere)) as provider:
            assert set(await everything(world, provider)) == {"unknown"}

    assert world.shop.received == []


async def test_k18_hanging_provider_costs_only_its_own_callers(world: World) -> None:
    order: list[str] = []

    async def ask(provider: Provider, name: str) -> ChargeState:
        found = await provider.query(account=world.account, reference=reference())
        order.append(name)
        return found.state

    async with world.misbehaving(Reply(200, b"{}", delay_s=29)) as slow:
        started = time.monotonic()
        hanging = asyncio.gather(*(ask(slow, "slow") for _ in range(100)))
        await asyncio.sleep(0.1)
        healthy = await asyncio.gather(*(ask(world.provider, "healthy") for _ in range(20)))
        lost = await hanging
        took = time.monotonic() - started

    assert set(healthy) == {ChargeState.FAILED}
    assert set(lost) == {ChargeState.UNKNOWN}
    assert order == ["healthy"] * 20 + ["slow"] * 100
    assert took < 3
