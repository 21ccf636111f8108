"""An order on the pages of accounts, without a script: its buyer sees the goods, reports one, buys again by a form."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from domain import identity
from domain.core import db, once
from tests import make
from tests.journeys.again import count, saver
from tests.journeys.test_buy_again import PRICE, reprice
from tests.letters import last_token
from tests.platform import Platform, running
from tests.server.account_browser import Browser

PASSWORD = "correct horse battery"


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    once._waiting.clear()  # answers of another test, under the same keys
    async with running(tmp_path, monkeypatch) as found:
        yield found


async def buyer() -> Browser:
    """Who reads the mailbox that the platform's orders are placed with, signed in."""
    await identity.sign_up("buyer@example.com", PASSWORD, "en", address=None)
    by = Browser()
    page = await by.open(f"/account/verify?token={await last_token()}")
    await by.submit(page, password=PASSWORD)
    return by


async def test_e17_e19_a_buyer_without_scripts_reports_and_buys_again(platform: Platform) -> None:
    of = await make.shop(keys=5)
    first = await saver(platform, of)
    by = await buyer()

    page = await by.open(f"/account/orders/{first.order_id}")
    told = await by.submit(page, "report", reason="invalid code")
    new = await by.submit(told, "again")
    twice = await by.submit(told, "again")
    await platform.work()
    delivered = await by.open(new.path)
    methods = await by.open("/account/methods")
    gone = await by.submit(methods)

    assert len(re.findall(r"<code[^>]*>KEY-", page.html)) == 1
    assert told.path == f"/account/orders/{first.order_id}?said=reported"
    assert "Reported. The shop is checking it" in told.html
    assert new.path == twice.path != page.path  # one showing of the form, sent twice
    assert "KEY-" in delivered.html and "Delivered" in delivered.html
    assert await count("orders") == 2
    assert await db.value("SELECT count(*) FROM good_report WHERE state = 'open'") == 1
    assert "····4242" in methods.html
    assert "The method is forgotten" in gone.html and "····4242" not in gone.html


async def test_a_price_that_has_changed_is_agreed_to_before_it_is_paid(platform: Platform) -> None:
    of = await make.shop(price=PRICE)
    first = await saver(platform, of)
    by = await buyer()
    page = await by.open(f"/account/orders/{first.order_id}")
    await reprice(of, PRICE + PRICE)

    asked = await by.submit(page, "again")
    before = await count("orders")
    done = await by.submit(asked, "again")

    assert (asked.status, before) == (400, 1)
    assert done.path.startswith("/account/orders/") and done.path != page.path
    assert await count("orders") == 2


async def test_e19_the_goods_of_an_order_are_not_on_another_accounts_page(
    platform: Platform,
) -> None:
    of = await make.shop(keys=2)
    first = await saver(platform, of)
    await identity.sign_up("other@example.com", PASSWORD, "en", address=None)
    by = Browser()
    page = await by.open(f"/account/verify?token={await last_token()}")
    await by.submit(page, password=PASSWORD)

    path = f"/account/orders/{first.order_id}"
    shown = await by.open(path)
    reported = await by.post(
        path, {"do": "report", "line": "lin_x", "good": "god_x", "reason": "x"}
    )

    assert (shown.status, reported.status) == (404, 404)
    assert "KEY-" not in shown.html
    assert await count("good_report") == 0
