"""The sandbox provider itself: its hosted page, its front door, and that all halves agree."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr

from bench.provider import sign, sign_callback
from domain.core import clock
from domain.core.money import CURRENCIES, Money, exponent
from domain.core.settings import Settings, SettingsWrong
from domain.payments.ports import ChargeState, RefundRequest, RefundState
from plugins import installed
from plugins.payment.sandbox import Sandbox
from server.sandbox import wire
from tests.sandbox import (
    ACCOUNT,
    SECRET,
    RunningSandbox,
    Shop,
    charge_request,
    opened,
    running_sandbox,
    running_shop,
)

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "sandbox.md"


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


# --- the hosted page -----------------------------------------------------------------------


async def test_page_shows_order_and_amount_and_takes_the_money(
    sandbox: RunningSandbox, shop: Shop
) -> None:
    reference, url = await opened(sandbox, shop)

    status, headers, page = await sandbox.get(url)
    clicked, leads_to = await sandbox.click(url, "pay")
    after = (await sandbox.get(url))[2]

    assert status == 200
    assert "19.90 USD" in page
    assert "Order K-1001" in page
    assert page.count("<button") == 2
    assert f'href="{shop.url}/orders/ord_1?key=abc"' in page
    assert "<script" not in page
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert f"form-action 'self' {shop.url}" in policy
    assert (clicked, leads_to) == (303, f"{shop.url}/orders/ord_1?key=abc")
    assert "<button" not in after
    assert (await shop.wait())[0].statement["reference"] == reference


async def test_page_declines_and_a_second_click_changes_nothing(
    sandbox: RunningSandbox, shop: Shop
) -> None:
    _, url = await opened(sandbox, shop)

    await sandbox.click(url, "decline")
    again = await sandbox.click(url, "pay")

    (told,) = await shop.wait()
    assert told.statement["status"] == "declined"
    assert again == (303, url.removeprefix(sandbox.url))
    assert len(await shop.quiet(0.2)) == 1


async def test_a_click_after_the_timer_leads_back_to_the_shop_and_pays_nothing_more(
    sandbox: RunningSandbox, shop: Shop
) -> None:
    _, url = await opened(sandbox, shop)
    first = await sandbox.click(url, "pay")
    (told,) = await shop.wait()

    late = await sandbox.click(url, "pay")
    refused = await sandbox.click(url, "decline")

    assert told.statement["status"] == "captured"
    assert first == late == (303, f"{shop.url}/orders/ord_1?key=abc")
    assert refused == (303, url.removeprefix(sandbox.url))  # it says that it was paid
    assert len(await shop.quiet(0.2)) == 1


async def test_a10_looking_and_going_back_pays_nothing(sandbox: RunningSandbox, shop: Shop) -> None:
    reference, url = await opened(sandbox, shop)

    for _ in range(3):
        await sandbox.get(url)
        await sandbox.get(f"{shop.url}/orders/ord_1?key=abc")

    found = await sandbox.adapter().query(account=ACCOUNT, reference=reference)
    assert found.state is ChargeState.REQUIRES_ACTION
    assert {one.path for one in shop.received} == {"/orders/ord_1"}


async def test_page_is_inert_against_what_a_shop_sends(sandbox: RunningSandbox, shop: Shop) -> None:
    asked = {
        "reference": "pay_x",
        "method": "sandbox",
        "amount": {"value": "19.90", "currency": "USD"},
        "order_number": "<script>alert(1)</script>",
        "return_url": "http://127.0.0.1/\"onclick='x'<b>",
        "notify_url": shop.url,
        "expires_at": wire.instant(clock.now().timestamp() + 60),
    }
    answer = await sandbox.api("POST", "/v1/payments", asked)

    page = (await sandbox.get(answer["page_url"]))[2]

    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page
    for url in ("javascript:alert(1)", "http://x y/", "http://a;b/", "http://u@h/", "ftp://h/"):
        refused = await sandbox.api("POST", "/v1/payments", asked | {"return_url": url})
        assert refused["error"]["code"] in ("invalid_request", "reference_reused")
    other = asked | {"reference": "pay_y", "return_url": "http://a;script-src */"}
    assert (await sandbox.api("POST", "/v1/payments", other))["error"]["code"] == "invalid_request"


@pytest.mark.parametrize(
    ("locale", "lang", "words"),
    [("zh-CN", "zh", "支付"), ("ja", "ja", "支払う"), ("es", "es", "Pagar"), ("xx", "en", "Pay")],
)
async def test_page_speaks_the_buyers_language(
    sandbox: RunningSandbox, shop: Shop, locale: str, lang: str, words: str
) -> None:
    _, url = await opened(sandbox, shop, locale=locale)

    page = (await sandbox.get(url))[2]

    assert f'<html lang="{lang}">' in page
    assert words in page


async def test_page_of_nobody_is_404(sandbox: RunningSandbox) -> None:
    status, headers, _ = await sandbox.get(f"{sandbox.url}/pay/sbx_{'0' * 32}")

    assert (status, headers["cache-control"]) == (404, "no-store")


async def test_expired_payment_takes_nothing_by_click(sandbox: RunningSandbox, shop: Shop) -> None:
    reference, url = await opened(sandbox, shop, expires_in_s=0.1)
    await shop.quiet(0.2)

    await sandbox.click(url, "pay")

    found = await sandbox.adapter().query(account=ACCOUNT, reference=reference)
    assert (found.state, found.raw_code) == (ChargeState.VOIDED, "expired")
    assert await shop.quiet(0.2) == []
    assert "expired" in (await sandbox.get(url))[2]


# --- the front door ------------------------------------------------------------------------


async def test_unproved_request_is_401_and_opens_nothing(sandbox: RunningSandbox) -> None:
    at = int(clock.now().timestamp())
    path, body = "/v1/payments/pay_1/void", b"{}"

    async def status(stamp: int, account: str, direction: str, spoil: str = "") -> int:
        parts = (str(stamp), "nonce1", "POST", path)
        headers = {
            "Sandbox-Account": account,
            "Sandbox-Timestamp": str(stamp),
            "Sandbox-Nonce": "nonce1",
            "Sandbox-Signature": sign(SECRET, direction, ACCOUNT, parts, body) + spoil,
        }
        async with (
            aiohttp.ClientSession() as http,
            http.post(sandbox.url + path, data=body, headers=headers) as response,
        ):
            assert "Sandbox-Signature" not in response.headers or response.status == 200
            return response.status

    assert await status(at, ACCOUNT, "callback") == 401
    assert await status(at, "other", "request") == 401
    assert await status(at, ACCOUNT, "request", "0") == 401
    assert await status(at - 302, ACCOUNT, "request") == 401
    assert await status(at + 302, ACCOUNT, "request") == 401
    unseen = await sandbox.adapter().query(account=ACCOUNT, reference="pay_1")
    assert unseen.state is ChargeState.FAILED
    assert await status(at, ACCOUNT, "request") == 200


async def test_accounts_do_not_see_each_other(sandbox: RunningSandbox, shop: Shop) -> None:
    adapter = sandbox.adapter()
    reference, url = await opened(sandbox, shop)
    await sandbox.click(url)
    await shop.wait()
    mine = await adapter.query(account=ACCOUNT, reference=reference)
    assert mine.provider_ref

    foreign = await adapter.query(account="other", reference=reference)
    stolen = await adapter.refund(
        RefundRequest("rfd_1", "other", mine.provider_ref, Money(100, "USD"), "x")
    )

    assert foreign.state is ChargeState.FAILED
    assert (stolen.state, stolen.raw_code) == (RefundState.FAILED, "not_found")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"amount": {"value": "0.00", "currency": "USD"}}, "amount_out_of_range"),
        ({"amount": {"value": "1e2", "currency": "USD"}}, "invalid_request"),
        ({"amount": {"value": "10.5", "currency": "JPY"}}, "invalid_request"),
        ({"amount": {"value": 19.9, "currency": "USD"}}, "invalid_request"),
        ({"amount": None}, "invalid_request"),
        ({"reference": "../x"}, "invalid_request"),
        ({"method": "card"}, "unsupported_method"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expired"),
        ({"expires_at": "2999-01-01T00:00:00Z"}, "expired"),
        ({"expires_at": "0000-00-00T00:00:00Z"}, "invalid_request"),
        ({"notify_url": "file:///etc/passwd"}, "invalid_request"),
    ],
)
async def test_wrong_input_is_refused_by_name(
    sandbox: RunningSandbox, shop: Shop, change: dict[str, Any], code: str
) -> None:
    asked = {
        "reference": "pay_x",
        "method": "sandbox",
        "amount": {"value": "19.90", "currency": "USD"},
        "order_number": "K-1",
        "return_url": "http://127.0.0.1/",
        "notify_url": shop.url,
        "expires_at": wire.instant(clock.now().timestamp() + 60),
    }

    refused = await sandbox.api("POST", "/v1/payments", asked | change)

    assert refused["error"]["code"] == code
    unseen = await sandbox.adapter().query(account=ACCOUNT, reference="pay_x")
    assert unseen.state is ChargeState.FAILED


@pytest.mark.parametrize("fault", ["500", "html", "cut", "latin1", "unsigned", "hang"])
async def test_k17_bad_day_hides_what_was_done_until_it_is_over(
    sandbox: RunningSandbox, shop: Shop, fault: str
) -> None:
    adapter, request = sandbox.adapter(timeout_s=0.3), charge_request(shop.url)
    await sandbox.modes(fault=fault)

    lost = await adapter.charge(request)
    unread = await adapter.query(account=ACCOUNT, reference=request.reference)
    await sandbox.modes()
    found = await adapter.query(account=ACCOUNT, reference=request.reference)

    assert (lost.state, unread.state) == (ChargeState.UNKNOWN, ChargeState.UNKNOWN)
    assert found.state is ChargeState.REQUIRES_ACTION


@pytest.mark.parametrize(
    ("mode", "now", "later"),
    [
        ("pend", RefundState.PENDING, RefundState.PENDING),
        ("fail", RefundState.FAILED, RefundState.FAILED),
        ("hang", RefundState.UNKNOWN, RefundState.SUCCEEDED),
    ],
)
async def test_refund_modes(
    sandbox: RunningSandbox, shop: Shop, mode: str, now: RefundState, later: RefundState
) -> None:
    adapter = sandbox.adapter(timeout_s=0.3)
    reference, url = await opened(sandbox, shop)
    await sandbox.click(url)
    payment = await adapter.query(account=ACCOUNT, reference=reference)
    assert payment.provider_ref
    await sandbox.modes(refunds=mode)
    asked = RefundRequest("rfd_1", ACCOUNT, payment.provider_ref, Money(990, "USD"), "x")

    answer = await adapter.refund(asked)
    found = await adapter.query_refund(account=ACCOUNT, reference="rfd_1")

    assert (answer.state, found.state) == (now, later)


async def test_unknown_mode_is_refused(sandbox: RunningSandbox) -> None:
    assert (await sandbox.modes(twice="thrice"))["error"]["code"] == "invalid_request"
    assert (await sandbox.modes(colour="red"))["error"]["code"] == "invalid_request"
    assert (await sandbox.modes(other="currency"))["other"] == "currency"


# --- both halves and the guide agree -------------------------------------------------------


def test_provider_counts_digits_as_the_domain_does() -> None:
    assert {code: wire.digits(code) for code in CURRENCIES} == {
        code: exponent(code) for code in CURRENCIES
    }


def test_bench_helper_speaks_for_the_provider() -> None:
    headers, body = sign_callback(
        SECRET, ACCOUNT, reference="pay_1", amount="1200", currency="JPY", event_id="evt_9"
    )

    (fact,) = Sandbox(base_url="http://127.0.0.1:9", secret=SECRET).verify(
        account=ACCOUNT, headers=headers, body=body
    )

    assert (fact.event_id, fact.reference) == ("evt_9", "pay_1")
    assert fact.amount == Money(1200, "JPY")


def test_guide_shows_a_callback_that_proves() -> None:
    blocks = re.findall(r"```http\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    example = next(block for block in blocks if block.startswith("POST /hooks/"))
    head, _, body = example.rstrip("\n").partition("\n\n")
    lines = [line.partition(": ") for line in head.splitlines()[1:]]
    headers = {name.lower(): value for name, _, value in lines}
    at = datetime.fromtimestamp(int(headers["sandbox-timestamp"]), UTC)
    clock.shift(at - datetime.now(UTC))
    try:
        (fact,) = Sandbox(base_url="http://127.0.0.1:9", secret=SECRET).verify(
            account="demo", headers=headers, body=body.encode()
        )
    finally:
        clock.shift(timedelta())

    assert fact.reference == json.loads(body)["reference"]
    assert fact.amount == Money(1990, "USD")


def test_settings_install_the_sandbox_only_with_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {}
    monkeypatch.setattr(installed, "providers", found)
    secret = SecretStr(base64.urlsafe_b64encode(SECRET).decode())
    install = installed.INSTALLED["payment.sandbox"]

    install(Settings.model_construct(sandbox_url=None, sandbox_secret=secret))
    assert found == {}
    install(Settings.model_construct(sandbox_url="http://127.0.0.1:8001", sandbox_secret=secret))

    assert list(found) == ["sandbox"]


def test_a02_settings_without_a_secret_refuse_to_start() -> None:
    bare = Settings.model_construct(sandbox_url="http://h:1", sandbox_secret=SecretStr(""))

    with pytest.raises(SettingsWrong, match="KAMI_SANDBOX_SECRET"):
        installed.INSTALLED["payment.sandbox"](bare)
