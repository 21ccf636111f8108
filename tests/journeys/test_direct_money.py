"""Money at a merchant's own provider account: in the books, on no balance that is paid out (L01)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from domain import ledger, payments
from domain.core import clock
from domain.core.money import Money
from domain.identity import Role
from domain.ledger import AccountKey
from domain.payments.ports import own_accounts, providers
from tests import make
from tests.api.desk import member
from tests.journeys import checker
from tests.journeys.own_accounts import approve, clearing, opened, paid, propose
from tests.journeys.refunding import refund, settle
from tests.platform import Platform, running


@pytest.fixture
async def platform(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    async with running(tmp_path, monkeypatch) as found:
        monkeypatch.setitem(own_accounts, "sandbox", providers["sandbox"])
        payments.forget_accounts()
        yield found
    clock.shift(timedelta())
    assert await ledger.check() == []


async def owned(purpose: str, of: make.Shop) -> int:
    return (await ledger.balance(AccountKey(purpose, of.merchant_id, "", "USD"))).posted


async def test_l01_money_at_the_merchants_own_account_is_booked_and_never_payable(
    platform: Platform,
) -> None:
    shop = await make.shop(keys=9, reserve_bps=500)
    ann, ben = await member(shop, Role.OWNER), await member(shop, Role.FINANCE)
    secret = await opened(platform, "lantern")
    await approve(ben, await propose(ann, shop, "lantern", secret))
    debt, loss = (
        AccountKey("merchant_debt", shop.merchant_id, "", "USD"),
        AccountKey("loss", None, "", "USD"),
    )
    owes = Money(700, "USD")
    await ledger.post("owes:1", [ledger.Transfer(debt, loss, owes)], kind="test")

    order_id, account = await paid(platform, shop)

    fee = (await ledger.balance(AccountKey("platform_commission", None, "", "USD"))).posted
    direct = await owned("merchant_direct", shop)
    assert fee > 0
    assert direct == shop.price.minor - fee
    assert (
        await clearing(account) == -shop.price.minor
    )  # what the account holds: theirs, and our commission
    for purpose in ("merchant_available", "merchant_pending", "merchant_reserved"):
        assert await owned(purpose, shop) == 0, purpose
    assert await owned("merchant_debt", shop) == -700  # nothing is withheld of what we do not hold
    provider_fee = AccountKey("provider_fee", None, f"sandbox:{account}", "USD")
    assert (await ledger.balance(provider_fee)).posted == 0

    await refund(platform, shop, order_id, "50.00")
    await settle(platform)
    assert await owned("merchant_direct", shop) == direct // 2
    await refund(platform, shop, order_id)
    await settle(platform)
    assert await owned("merchant_direct", shop) == await clearing(account) == 0
    assert await owned("merchant_debt", shop) == -700
    forgiven = [ledger.Transfer(loss, debt, owes)]
    await ledger.post("owes:2", forgiven, kind="test")
    assert await checker.faults() == []
