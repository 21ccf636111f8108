"""H29 on channel keys: a merchant's own account at the sandbox, opened by two people, paid and refunded through."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import orjson
import pytest

from bench.provider import sign_callback
from domain import checkout, ledger, payments
from domain.core import clock, db, four_eyes, ids, vault
from domain.core.four_eyes import Approval, ApprovalClosed, ApprovalDiffers, Approver
from domain.core.settings import settings
from domain.identity import Role
from domain.payments.ports import own_accounts, providers
from server.sandbox.outcomes import Modes
from server.sandbox.wire import Caller
from tests import make
from tests.api.desk import code, member
from tests.database import as_owner
from tests.journeys.own_accounts import (
    APPROVE,
    DECLINE,
    KINDS,
    PROPOSE,
    approve,
    clearing,
    listed,
    opened,
    paid,
    propose,
    remove,
    through,
)
from tests.journeys.refunding import refund, settle
from tests.platform import Platform, running, uuid_of


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


async def test_h29_payments_and_refunds_go_through_the_merchants_own_account(
    platform: Platform,
) -> None:
    shop, other = await make.shop(keys=9), await make.shop(keys=9)
    ann, ben = await member(shop, Role.OWNER), await member(shop, Role.FINANCE)
    secret = await opened(platform, "lantern")

    asked = await propose(ann, shop, "lantern", secret)
    assert asked["request"]["fields"] == {"account": "lantern"}
    assert (await paid(platform, shop))[1] == "main"  # not before it is approved
    assert (await approve(ann, asked))["code"] == "SAME_PERSON"
    assert (await approve(ben, asked))["state"] == "APPROVED"
    before = await clearing("main")
    order_id, account = await paid(platform, shop)

    [shown] = await listed(await member(shop, Role.READ_ONLY), shop)
    assert (shown["state"], shown["account"]) == ("ACTIVE", account)
    assert shown["fields"] == [
        {"name": "account", "value": "lantern"},
        {"name": "secret", "value": None},
    ]
    assert payments.is_own(account)
    assert await clearing(account) < 0
    assert await clearing("main") == before
    inside = platform.sandbox.app.state.sandbox
    [attempt] = await db.fetch(
        "SELECT id FROM payment_attempt WHERE order_id = $1", uuid_of(order_id)
    )
    assert inside.book.payment("lantern", ids.encode("pay", attempt["id"])).status == "captured"
    assert (await refund(platform, shop, order_id))["__typename"] == "RefundRequested"
    await settle(platform)
    assert await db.value("SELECT state FROM refund") == "succeeded"
    assert (await paid(platform, other))[1] == "main"  # nobody else's business
    for table in ("provider_credential", "approval", "audit_log", "idempotency", "notification"):
        text = await db.value(f"SELECT coalesce(string_agg(t::text, ' '), '') FROM {table} t")
        assert secret not in text, table


async def test_h29_wrong_credentials_are_not_even_asked_for(platform: Platform) -> None:
    shop = await make.shop(keys=1)
    ann = await member(shop, Role.OWNER)
    secret = await opened(platform, "lantern")
    wrong = ("A" if secret[0] != "A" else "B") + secret[1:]

    refused = await propose(ann, shop, "lantern", wrong)
    assert [one["path"] for one in refused["problems"]] == [["input", "fields", "secret"]]
    refused = await propose(ann, shop, "?", "short")
    assert [one["path"][-1] for one in refused["problems"]] == ["account", "secret"]
    assert await db.value("SELECT count(*) FROM provider_credential") == 0
    inside = platform.sandbox.app.state.sandbox
    inside.payments.set_modes("lantern", Modes(fault="500"))
    away = await propose(ann, shop, "lantern", secret)
    assert (away["__typename"], away["code"]) == ("Unavailable", "UNAVAILABLE")
    assert await db.value("SELECT count(*) FROM approval") == 0
    kinds = (await ann.data(KINDS))["providerAccountKinds"]
    assert [(one["name"], one["isSecret"]) for one in kinds[0]["fields"]] == [
        ("account", False),
        ("secret", True),
    ]


@pytest.mark.parametrize("role", [Role.CATALOGUE, Role.SUPPORT, Role.DEVELOPER, Role.READ_ONLY])
async def test_h29_only_owners_and_finance(platform: Platform, role: Role) -> None:
    shop = await make.shop(keys=1)
    owner, other = await member(shop, Role.OWNER), await member(shop, role)
    stranger = await member(await make.shop(keys=0), Role.OWNER)
    secret = await opened(platform, "lantern")
    asked = await propose(owner, shop, "lantern", secret)
    given = {"approvalId": asked["id"], "requestHash": asked["requestHash"]}
    fields = [{"name": "account", "value": "lantern"}, {"name": "secret", "value": secret}]
    wanted = {"merchantId": ids.encode("mer", shop.merchant_id), "provider": "sandbox"}

    assert (
        code(await other.ask(PROPOSE, {"input": {**wanted, "fields": fields}, "key": "k"}))
        == "FORBIDDEN"
    )
    assert code(await other.ask(APPROVE, {"input": given})) == "FORBIDDEN"
    assert (await approve(stranger, asked))["code"] == "NOT_FOUND"
    assert (await propose(stranger, shop, "lantern", secret))["code"] == "NOT_FOUND"
    assert [one["state"] for one in await listed(owner, shop)] == ["PENDING_APPROVAL"]


async def test_h29_a_rotation_overlaps(platform: Platform) -> None:
    """The provider still signs with the old secret until the new one is used: both are heard, for a day."""
    shop = await make.shop(keys=9)
    ann, ben = await member(shop, Role.OWNER), await member(shop, Role.FINANCE)
    old = await opened(platform, "lantern")
    await approve(ben, await propose(ann, shop, "lantern", old))
    first, _, payment = await platform.bought(shop)  # waits on the provider's page meanwhile
    account = await through(first)
    new = platform.sandbox.app.state.sandbox.accounts.renew(Caller("lantern", ""))

    asked = await propose(ann, shop, "lantern", new)
    assert (asked["request"]["action"], asked["request"]["isRotation"]) == ("replace", True)
    await approve(ben, asked)
    await platform.sandbox.click(payment["nextAction"]["url"])  # called back with the old secret
    await platform.heard(1)
    await platform.work()
    order_id, again = await paid(platform, shop)  # with the new one from here on

    assert again == account
    states = [one["state"] for one in await listed(ann, shop)]
    assert states == ["ACTIVE", "RETIRED"]
    assert await db.value("SELECT count(*) FROM inbox_event") == 2
    headers, body = sign_callback(
        _raw(old), "lantern", reference=_payment(order_id), amount="1.00", currency="USD"
    )
    assert await _called_back(account, headers, body) == 200  # heard; what it says is judged apart
    clock.shift(timedelta(hours=24, minutes=1))
    payments.forget_accounts()
    at = int(clock.now().timestamp())
    headers, body = sign_callback(
        _raw(old),
        "lantern",
        reference=_payment(order_id),
        amount="1.00",
        currency="USD",
        timestamp=at,
        event_id="evt-late",
    )
    assert await _called_back(account, headers, body) == 401
    headers, body = sign_callback(
        _raw(new),
        "lantern",
        reference=_payment(order_id),
        amount="1.00",
        currency="USD",
        timestamp=at,
        event_id="evt-new",
    )
    assert await _called_back(account, headers, body) == 200


def _raw(secret: str) -> bytes:
    return base64.urlsafe_b64decode(secret + "=")


def _payment(order_id: str) -> str:
    return ids.encode("pay", uuid_of(order_id))  # of no attempt: a word about nothing of ours


async def _called_back(account: str, headers: dict[str, str], body: bytes) -> int:
    url = f"{settings().public_url}/hooks/sandbox/{account}"
    async with aiohttp.ClientSession() as http, http.post(url, data=body, headers=headers) as said:
        return said.status


async def test_h29_an_account_that_was_given_up_still_refunds_and_hears(platform: Platform) -> None:
    shop = await make.shop(keys=9)
    ann, ben = await member(shop, Role.OWNER), await member(shop, Role.FINANCE)
    await approve(ben, await propose(ann, shop, "lantern", await opened(platform, "lantern")))
    done, account = await paid(platform, shop)
    waits, _, payment = await platform.bought(shop)
    [active] = await listed(ann, shop)

    gone = await remove(ann, active)
    assert (await paid(platform, shop))[1] == account  # until the second person
    assert (await approve(ben, gone))["state"] == "APPROVED"
    assert (await paid(platform, shop))[1] == "main"
    before = await db.value("SELECT count(*) FROM inbox_event")
    await platform.sandbox.click(payment["nextAction"]["url"])
    await platform.heard(before + 1)
    await platform.work()

    assert await make.status([uuid_of(waits)]) == ["delivered"]
    assert (await refund(platform, shop, done))["__typename"] == "RefundRequested"
    await settle(platform)
    assert await db.value("SELECT state FROM refund") == "succeeded"
    assert [one["state"] for one in await listed(ann, shop)] == ["RETIRED"]


async def test_h29_what_changed_since_it_was_asked_is_refused(platform: Platform) -> None:
    shop = await make.shop(keys=1)
    ann, ben = await member(shop, Role.OWNER), await member(shop, Role.FINANCE)
    await approve(ben, await propose(ann, shop, "lantern", await opened(platform, "lantern")))
    [active] = await listed(ann, shop)
    other = await propose(ann, shop, "second", await opened(platform, "second"))
    assert other["request"]["isRotation"] is False
    again = await propose(ann, shop, "third", await opened(platform, "third"))
    assert again["code"] == "PROVIDER_ACCOUNT_ASKED"
    await approve(ben, await remove(ann, active))

    assert (await approve(ben, other))["code"] == "CONFLICT"
    declined = (await ben.data(DECLINE, {"input": {"approvalId": other["id"]}}))["declineApproval"]

    assert declined["state"] == "DECLINED"
    assert [one["state"] for one in await listed(ann, shop)] == ["REMOVED", "RETIRED"]


async def test_h29_twenty_approve_at_once_and_other_secrets_are_refused(platform: Platform) -> None:
    shop = await make.shop(keys=1)
    ann = await member(shop, Role.OWNER)
    asked = await propose(ann, shop, "lantern", await opened(platform, "lantern"))
    approval = await four_eyes.find(ids.decode(asked["id"], "apr"))
    assert approval is not None
    right = await db.value("SELECT cipher FROM provider_credential")
    keys = await vault.of_merchant(shop.merchant_id)
    values = {"account": "lantern", "secret": await opened(platform, "thief")}
    wrong = keys.seal("provider_credential", approval.subject_id, orjson.dumps(values))

    async def put(cipher: bytes) -> None:
        sql = "ALTER TABLE provider_credential {} TRIGGER provider_credential_guarded"
        await as_owner(sql.format("DISABLE"))
        try:
            await as_owner("UPDATE provider_credential SET cipher = $1", cipher)
        finally:
            await as_owner(sql.format("ENABLE"))

    async def one() -> Approval:
        eyes = Approver(ids.uuid7(), clock.now() - timedelta(days=9))
        return await payments.approve_account(approval.id, approval.request_hash, approved_by=eyes)

    await put(wrong)
    with pytest.raises(ApprovalDiffers):
        await one()
    assert [account["state"] for account in await listed(ann, shop)] == ["PENDING_APPROVAL"]
    await put(right)
    said = await asyncio.gather(*(one() for _ in range(20)), return_exceptions=True)

    assert sum(isinstance(answer, Approval) for answer in said) == 1
    assert sum(isinstance(answer, ApprovalClosed) for answer in said) == 19
    assert [account["state"] for account in await listed(ann, shop)] == ["ACTIVE"]


async def test_f_another_merchants_secret_pays_nothing_of_ours(platform: Platform) -> None:
    """Who knows the secret of an account of their own can say what they like about it, and about nothing else."""
    shop, other = await make.shop(keys=3), await make.shop(keys=3)
    ann, ben = await member(other, Role.OWNER), await member(other, Role.FINANCE)
    secret = await opened(platform, "thief")
    await approve(ben, await propose(ann, other, "thief", secret))
    [account] = await listed(ann, other)
    order_id, access_key, _ = await platform.bought(shop)
    attempt = await db.value(
        "SELECT id FROM payment_attempt WHERE order_id = $1", uuid_of(order_id)
    )
    total = (await platform.order(order_id, access_key))["total"]
    said = {"reference": ids.encode("pay", attempt), "amount": total["amount"], "currency": "USD"}

    headers, body = sign_callback(_raw(secret), "thief", **said)
    statuses = [
        await _called_back(place, headers, body)
        for place in ("main", ids.base32(ids.uuid7().int, 26), account["account"])
    ]
    await platform.work()

    assert statuses == [401, 401, 200]
    assert (await platform.order(order_id, access_key))["status"] == "AWAITING_PAYMENT"
    assert await db.value("SELECT count(*) FROM capture") == 0
    while await checkout.fulfil(0):
        pass
    assert await db.value("SELECT count(*) FROM card_key WHERE state = 'sold'") == 0
