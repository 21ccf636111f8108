"""The sandbox's challenge: a one-time code on a page, three tries, and a signed word about it with the money."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from domain.payments.ports import Challenge, ChargeAnswer, ChargeRequest, ChargeState, Fact
from plugins.payment import sandbox_words
from server.sandbox import challenge
from tests.sandbox import (
    ACCOUNT,
    Received,
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


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[RunningSandbox]:
    """A provider that waits for its buyers."""
    async with running_sandbox(tmp_path) as found:
        yield found


async def asked(
    sandbox: RunningSandbox, shop: Shop, **options: object
) -> tuple[ChargeRequest, ChargeAnswer, str]:
    """A payment whose payer has to prove who they are, and the page to do it on."""
    request = charge_request(shop.url, must_authenticate=True, **options)  # type: ignore[arg-type]
    answer = await sandbox.adapter().charge(request)
    assert isinstance(answer.action, Challenge), answer
    return request, answer, answer.action.url


async def stands(sandbox: RunningSandbox, request: ChargeRequest) -> ChargeAnswer:
    return await sandbox.adapter().query(account=ACCOUNT, reference=request.reference)


def fact(sandbox: RunningSandbox, callback: Received) -> Fact:
    [found] = sandbox.adapter().verify(
        account=ACCOUNT, headers=callback.headers, body=callback.body
    )
    return found


async def test_the_right_code_pays_and_the_signed_word_says_so(
    sandbox: RunningSandbox, shop: Shop
) -> None:
    request, answer, url = await asked(sandbox, shop)
    assert (answer.state, answer.is_authenticated) == (C.REQUIRES_ACTION, False)
    code = await sandbox.code(url)

    left = await sandbox.answer(url, f" {code[:3]} {code[3:]} ")

    assert left == (303, request.return_url)
    [callback] = await shop.wait()
    told, found = fact(sandbox, callback), await stands(sandbox, request)
    assert (told.state, told.amount, told.is_authenticated) == (C.CAPTURED, request.amount, True)
    assert (found.state, found.is_authenticated, found.action) == (C.CAPTURED, True, None)


async def test_without_a_challenge_nothing_says_that_there_was_one(
    sandbox: RunningSandbox, shop: Shop
) -> None:
    request = charge_request(shop.url)
    await sandbox.adapter().charge(request)

    await sandbox.do(request.reference, "confirm")

    [callback] = await shop.wait()
    assert "authenticated" not in callback.statement
    assert fact(sandbox, callback).is_authenticated is False
    assert (await stands(sandbox, request)).is_authenticated is False


async def test_who_refuses_pays_nothing(sandbox: RunningSandbox, shop: Shop) -> None:
    request, _, url = await asked(sandbox, shop)

    assert await sandbox.answer(url) == (303, request.return_url)

    [callback] = await shop.wait()
    told = fact(sandbox, callback)
    assert (told.state, told.amount.minor, told.is_authenticated) == (C.DECLINED, 0, False)
    assert (await stands(sandbox, request)).raw_code == "authentication_refused"


async def test_the_third_wrong_code_declines_and_the_right_one_comes_too_late(
    sandbox: RunningSandbox, shop: Shop
) -> None:
    request, _, url = await asked(sandbox, shop)
    code = await sandbox.code(url)
    wrong = f"{(int(code) + 1) % 10**6:06d}"

    for _ in range(2):
        assert (await sandbox.answer(url, wrong))[0] == 303
        assert (await stands(sandbox, request)).state is C.REQUIRES_ACTION
    page = (await sandbox.get(url))[2]
    for typed in (wrong, code):
        await sandbox.answer(url, typed)

    assert "That was not the code" in page
    [callback] = await shop.wait()
    assert fact(sandbox, callback).state == C.DECLINED
    assert (await stands(sandbox, request)).raw_code == "authentication_failed"
    assert await shop.quiet(0.1) == [callback]


async def test_the_payment_page_is_no_way_round_the_challenge(
    sandbox: RunningSandbox, shop: Shop
) -> None:
    request, _, url = await asked(sandbox, shop)
    page_url = url.replace("/challenge/", "/pay/")

    await sandbox.click(page_url)
    status, headers, text = await sandbox.get(page_url)

    assert (await stands(sandbox, request)).state is C.REQUIRES_ACTION
    assert (status, headers["cache-control"]) == (200, "no-store")
    assert "<code>" in text  # it leads to the question
    assert "script" not in text
    assert await shop.quiet(0.1) == []


@pytest.mark.parametrize("locale", ["en", "zh-CN", "ja", "es", "xx"])
async def test_the_question_is_asked_in_the_payers_language(
    sandbox: RunningSandbox, shop: Shop, locale: str
) -> None:
    _, _, url = await asked(sandbox, shop, locale=locale)

    text = (await sandbox.get(url))[2]

    expected = {"zh-CN": "是您本人吗", "ja": "ご本人ですか", "es": "¿Es usted?"}
    assert expected.get(locale, "Is it you?") in text


async def test_development_answers_the_challenge_by_itself(tmp_path: Path, shop: Shop) -> None:
    async with running_sandbox(tmp_path, autoconfirm_ms=1) as sandbox:
        request, _, _ = await asked(sandbox, shop)

        [callback] = await shop.wait()

        assert fact(sandbox, callback).is_authenticated is True
        assert (await stands(sandbox, request)).state is C.CAPTURED


async def test_a_provider_that_takes_the_money_all_the_same_says_so(
    sandbox: RunningSandbox, shop: Shop
) -> None:
    request, _, _ = await asked(sandbox, shop)

    await sandbox.do(request.reference, "capture")

    [callback] = await shop.wait()
    assert callback.statement["authenticated"] is False
    assert fact(sandbox, callback).is_authenticated is False


async def test_a_saved_method_waits_for_its_payer_too(sandbox: RunningSandbox, shop: Shop) -> None:
    saving = charge_request(shop.url, save=True)
    await sandbox.adapter().charge(saving)
    await sandbox.do(saving.reference, "confirm")
    token: str = (await shop.wait())[0].statement["saved"]["token"]

    request, answer, url = await asked(sandbox, shop, token=token)
    assert answer.state is C.REQUIRES_ACTION
    assert len(await shop.quiet(0.1)) == 1
    await sandbox.answer(url, await sandbox.code(url))

    callbacks = await shop.wait(2)
    assert fact(sandbox, callbacks[1]).is_authenticated is True
    assert (await stands(sandbox, request)).state is C.CAPTURED


@pytest.mark.parametrize(
    "body",
    [b"", b"code", b"other=1", b"code=%FF%FE", b"\xff\xfe", b"a=1&" * 50, b"code=" + b"9" * 99],
)
def test_an_odd_form_is_a_wrong_code(body: bytes) -> None:
    assert challenge.typed(body) != "123456"
    assert len(challenge.typed(body)) <= 32


@pytest.mark.parametrize("said", ["true", 1, "1", None, [], {"authenticated": True}])
async def test_only_the_signed_true_is_true(
    sandbox: RunningSandbox, shop: Shop, said: object
) -> None:
    """Nothing that merely looks like it passes for a passed challenge."""
    statement = {
        "event_id": "evt_1",
        "type": "payment",
        "account": ACCOUNT,
        "reference": "pay_1",
        "payment_id": "sbx_1",
        "status": "captured",
        "amount": {"value": "19.90", "currency": "USD"},
        "occurred_at": "2026-11-22T21:30:00.125Z",
        "authenticated": said,
    }

    assert sandbox_words.fact(statement, ACCOUNT, "evt_1").is_authenticated is False
    assert sandbox_words.fact(
        {**statement, "authenticated": True}, ACCOUNT, "evt_1"
    ).is_authenticated


async def test_a_challenge_survives_a_restart_of_the_provider(tmp_path: Path, shop: Shop) -> None:
    async with running_sandbox(tmp_path) as sandbox:
        request, _, url = await asked(sandbox, shop)
        code, path = await sandbox.code(url), url.removeprefix(sandbox.url)

    async with running_sandbox(tmp_path) as sandbox:
        await sandbox.answer(sandbox.url + path, code)

        [callback] = await shop.wait()
        assert fact(sandbox, callback).is_authenticated is True
        assert (await stands(sandbox, request)).state is C.CAPTURED
