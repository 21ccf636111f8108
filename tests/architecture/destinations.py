"""Payout destinations in every state, and security alerts, of the shop where a lot has happened."""

from __future__ import annotations

from datetime import timedelta

from domain import alarms, identity, payouts
from domain.alarms import AlertKind
from domain.core import clock, ids
from domain.core.audit import Actor
from domain.core.four_eyes import Approval
from domain.core.once import Once
from domain.identity import Viewer
from domain.payouts import Destination, MethodKind, Replaced
from tests import make


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
