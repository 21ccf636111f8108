"""Payout destinations in every state, a provider account and security alerts of the shop where a lot has happened."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from domain import alarms, identity, payments, payouts
from domain.alarms import AlertKind
from domain.core import clock, ids
from domain.core.audit import Actor
from domain.core.four_eyes import Approval
from domain.core.once import Once
from domain.identity import Viewer
from domain.payments.ports import own_accounts
from domain.payouts import Destination, MethodKind, Replaced
from tests import make
from tests.platform import Platform


async def destinations_of(of: make.Shop, viewers: dict[str, Viewer | None]) -> dict[str, str]:
    """A payout destination that holds, one that cools down to take its place, one that waits; the ids of the last."""
    owner, finance = viewers["owner"], viewers["finance"]
    assert owner is not None
    assert finance is not None

    async def propose(account: str, replaces: Replaced | None = None) -> Approval:
        bank = Destination(MethodKind.IBAN, "EUR", account, "Shop Ltd")
        key = Once("matrix", account, account.encode())
        return await payouts.propose_method(
            of.merchant_id, bank, asked_by=owner.account_id, replaces=replaces, once=key
        )

    async def approve(asked: Approval) -> None:
        by = await identity.approver(finance.account_id, of.merchant_id)
        await payouts.approve_method(asked.id, asked.request_hash, approved_by=by)

    first = await propose("DE89370400440532013000")
    await approve(first)
    clock.shift(timedelta(hours=73))
    await payouts.settle_methods()
    clock.shift(timedelta())
    held = await payouts.find_method(first.subject_id)
    assert held is not None
    await approve(await propose("GB29NWBK60161331926819", Replaced(held.id, held.version)))
    waits = await propose("FR1420041010050500013M02606")
    return {
        "change": ids.encode("apr", waits.id),
        "payout_method": ids.encode("pom", waits.subject_id),
    }


async def alerts_of(of: make.Shop, viewers: dict[str, Viewer | None]) -> dict[str, str]:
    """An alert about a buyer that was acknowledged, one about a colleague that waits; the id of that."""
    owner = viewers["owner"]
    assert owner is not None
    account = ids.encode("acc", owner.account_id)
    by = Actor("merchant", account)
    first = await alarms.ring(
        of.merchant_id, AlertKind.REVEAL_RATE, "a", {"count": 201}, by=Actor("account", account)
    )
    assert first is not None
    await alarms.acknowledge(first, by=owner.account_id, note="wholesale", actor=by)
    second = await alarms.ring(of.merchant_id, AlertKind.EXPORT_RATE, "b", {"count": 9}, by=by)
    assert second is not None
    return {"alert": ids.encode("alr", second)}


async def accounts_of(
    platform: Platform, of: make.Shop, viewers: dict[str, Viewer | None], monkeypatch: Any
) -> dict[str, str]:
    """An account at the sandbox that was active for a moment; its id."""
    owner, finance = viewers["owner"], viewers["finance"]
    assert owner is not None
    assert finance is not None
    monkeypatch.setitem(own_accounts, "sandbox", platform.sandbox.adapter())
    made = await platform.sandbox.api("POST", "/v1/accounts", {"account": "mine"}, account="main")
    asked = await payments.propose_account(
        of.merchant_id, "sandbox", made, asked_by=owner.account_id, once=_once("account")
    )
    by = await identity.approver(finance.account_id, of.merchant_id)
    await payments.approve_account(asked.id, asked.request_hash, approved_by=by)
    gone = await payments.propose_account_removal(
        of.merchant_id, asked.subject_id, 2, asked_by=owner.account_id, once=_once("gone")
    )
    await payments.approve_account(gone.id, gone.request_hash, approved_by=by)
    payments.forget_accounts()
    return {"provider_account": ids.encode("pac", asked.subject_id)}


def _once(key: str) -> Once:
    return Once("matrix", key, key.encode())
