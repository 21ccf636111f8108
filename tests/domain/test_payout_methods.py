"""Payout destinations (CASES H29, G11): two people, a cool-down, sealed details, one successor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest

from domain import payouts
from domain.core import clock, db, four_eyes, ids, vault
from domain.core.errors import Conflict, FieldInvalid, NotFound
from domain.core.four_eyes import Approval, ApprovalClosed, ApprovalDiffers, Approver, SamePerson
from domain.core.once import Once, request_hash
from domain.payouts import (
    Destination,
    MethodKind,
    MethodState,
    PayoutMethodKnown,
    PayoutMethodNotUsable,
    Replaced,
)
from tests import make
from tests.database import as_owner

ANN, BEN, CLEO = (ids.uuid7() for _ in range(3))
IBAN, OTHER = "DE89370400440532013000", "GB29NWBK60161331926819"


@pytest.fixture(autouse=True)
async def _clock(db: None) -> AsyncIterator[None]:
    yield
    clock.shift(timedelta())


def once(name: str = "") -> Once:
    key = name or ids.uuid7().hex
    return Once("test", key, request_hash(key))


def eyes(of: UUID) -> Approver:
    return Approver(of, clock.now() - timedelta(days=365))


def bank(account: str = IBAN, currency: str = "EUR") -> Destination:
    return Destination(MethodKind.IBAN, currency, account, "Lantern Ltd")


async def propose(merchant_id: UUID, of: Destination | None = None, **more: Any) -> Approval:
    return await payouts.propose_method(
        merchant_id, of or bank(), asked_by=ANN, **{"once": once(), **more}
    )


async def approve(of: Approval, by: UUID = BEN, digest: bytes = b"") -> Approval:
    return await payouts.approve_method(of.id, digest or of.request_hash, approved_by=eyes(by))


async def state(of: Approval) -> MethodState:
    found = await payouts.find_method(of.subject_id)
    assert found is not None
    return found.state


async def usable(merchant_id: UUID, of: Destination | None = None) -> Replaced:
    """A destination that holds, as its owner reads it."""
    asked = await propose(merchant_id, of)
    await approve(asked)
    clock.shift(timedelta(hours=73))
    assert await payouts.settle_methods() == 1
    clock.shift(timedelta())
    found = await payouts.find_method(asked.subject_id)
    assert found is not None
    return Replaced(found.id, found.version)


async def actions() -> list[str]:
    return [row["action"] for row in await db.fetch("SELECT action FROM audit_log ORDER BY no")]


async def test_h29_a_destination_is_added_by_two_and_holds_after_its_cool_down() -> None:
    shop = await make.shop(keys=0)

    asked = await propose(shop.merchant_id)
    assert await state(asked) is MethodState.PENDING
    done = await approve(asked)
    assert await state(asked) is MethodState.COOLING
    clock.shift(timedelta(hours=71, minutes=59))
    assert await payouts.settle_methods() == 0
    assert await state(asked) is MethodState.COOLING
    clock.shift(timedelta(hours=72, seconds=1))
    assert sum(await asyncio.gather(*(payouts.settle_methods() for _ in range(5)))) == 1

    [found] = await payouts.methods_of(shop.merchant_id)
    assert (found.state, found.masked, found.ccy) == (MethodState.USABLE, "DE ····3000", "EUR")
    assert (found.changed_by, found.approved_by, found.version) == (ANN, BEN, 3)
    assert found.usable_at == done.usable_at
    assert await actions() == [
        "payout.method.asked",
        "payout.method.approved",
        "payout.method.usable",
    ]


async def test_h29_nobody_reads_the_details_again() -> None:
    shop = await make.shop(keys=0)
    asked = await propose(shop.merchant_id)
    await approve(asked)

    for table in (
        "approval",
        "audit_log",
        "payout_method",
        "notification",
        "promise",
        "idempotency",
    ):
        text = await db.value(f"SELECT coalesce(string_agg(t::text, ' '), '') FROM {table} t")
        assert IBAN not in text, table
        assert IBAN[4:-4] not in text, table
        assert "Lantern Ltd" not in text, table
    row = await db.row("SELECT id, key_version, details_cipher FROM payout_method")
    assert row is not None
    keys = await vault.of_merchant(shop.merchant_id)
    sealed = keys.unseal("payout_method", row["id"], row["key_version"], row["details_cipher"])
    assert orjson.loads(sealed) == {"account": IBAN, "holder": "Lantern Ltd", "routing": None}


async def test_h29_the_same_person_another_text_and_a_second_approval_are_refused() -> None:
    shop = await make.shop(keys=0)
    asked = await propose(shop.merchant_id)

    with pytest.raises(SamePerson):
        await approve(asked, ANN)
    with pytest.raises(ApprovalDiffers):
        await approve(asked, BEN, four_eyes.digest(asked.kind, asked.subject_id, {}))
    assert await state(asked) is MethodState.PENDING
    await approve(asked)
    with pytest.raises(ApprovalClosed):
        await approve(asked, CLEO)

    assert await state(asked) is MethodState.COOLING


async def test_h29_twenty_approve_at_once_and_it_cools_down_once() -> None:
    shop = await make.shop(keys=0)
    asked = await propose(shop.merchant_id)

    said = await asyncio.gather(
        *(approve(asked, by) for by in (BEN, CLEO) * 10), return_exceptions=True
    )

    assert sum(isinstance(one, Approval) for one in said) == 1
    assert sum(isinstance(one, ApprovalClosed) for one in said) == 19
    [found] = await payouts.methods_of(shop.merchant_id)
    assert (found.state, found.version) == (MethodState.COOLING, 2)
    assert (await actions()).count("payout.method.approved") == 1


async def test_h29_other_details_under_the_same_request_are_refused() -> None:
    """Whoever can write to the table puts another account there: the second person has not approved that."""
    shop = await make.shop(keys=0)
    asked = await propose(shop.merchant_id)
    keys = await vault.of_merchant(shop.merchant_id)
    thief = {"account": "DE02120300000000203000", "holder": "Thief", "routing": None}
    sealed = keys.seal("payout_method", asked.subject_id, orjson.dumps(thief))
    with pytest.raises(asyncpg.RestrictViolationError):
        await as_owner("UPDATE payout_method SET details_cipher = $1", sealed)
    await as_owner("ALTER TABLE payout_method DISABLE TRIGGER payout_method_guarded")
    try:
        await as_owner("UPDATE payout_method SET details_cipher = $1", sealed)
    finally:
        await as_owner("ALTER TABLE payout_method ENABLE TRIGGER payout_method_guarded")

    with pytest.raises(ApprovalDiffers):
        await approve(asked)

    assert await state(asked) is MethodState.PENDING
    assert await actions() == ["payout.method.asked"]


async def test_h29_declined_taken_back_late_or_stopped_it_never_holds() -> None:
    shop = await make.shop(keys=0)
    declined = await propose(shop.merchant_id)
    await four_eyes.decline(declined.id, by=BEN)
    withdrawn = await propose(shop.merchant_id)
    await four_eyes.decline(withdrawn.id, by=ANN)
    stopped = await propose(shop.merchant_id)
    await approve(stopped)
    await four_eyes.decline(stopped.id, by=CLEO, note="not ours")
    late = await propose(shop.merchant_id)
    clock.shift(timedelta(hours=25))
    with pytest.raises(ApprovalClosed):
        await approve(late)
    assert await four_eyes.expire() == 1

    clock.shift(timedelta(hours=100))
    assert await payouts.settle_methods() == 0
    for one in (declined, withdrawn, stopped, late):
        assert await state(one) is MethodState.REMOVED
        with pytest.raises(ApprovalClosed):
            await approve(one)
    assert (await actions())[1::2] == [
        "payout.method.declined",
        "payout.method.withdrawn",
        "payout.method.approved",
        "payout.method.asked",
    ]


async def test_h29_stopped_and_settled_at_once_one_of_them_wins() -> None:
    shop = await make.shop(keys=0)
    for _ in range(5):
        asked = await propose(shop.merchant_id)
        done = await approve(asked)
        assert done.usable_at is not None
        clock.shift(timedelta(hours=72) - timedelta(seconds=0.02))

        async def settle() -> int:
            await asyncio.sleep(0.02)
            return await payouts.settle_methods()

        said = await asyncio.gather(
            *(four_eyes.decline(asked.id, by=CLEO) for _ in range(3)),
            *(settle() for _ in range(3)),
            return_exceptions=True,
        )
        clock.shift(timedelta())

        stopped = sum(isinstance(one, Approval) for one in said)
        settled = sum(one for one in said if isinstance(one, int))
        assert (stopped, settled) in {(1, 0), (0, 1)}
        assert await state(asked) is (MethodState.REMOVED if stopped else MethodState.USABLE)
        if settled:
            found = await payouts.find_method(asked.subject_id)
            assert found is not None
            gone = await payouts.propose_removal(
                shop.merchant_id, Replaced(found.id, found.version), asked_by=ANN, once=once()
            )
            await approve(gone)


async def test_g11_the_old_destination_holds_until_the_new_one_does() -> None:
    shop = await make.shop(keys=0)
    old = await usable(shop.merchant_id)

    asked = await propose(shop.merchant_id, bank(OTHER), replaces=old)
    assert asked.request["replaces"]["account"] == "DE ····3000"
    await approve(asked)
    states = {one.masked: one.state for one in await payouts.methods_of(shop.merchant_id)}
    assert states == {"GB ····6819": MethodState.COOLING, "DE ····3000": MethodState.USABLE}
    clock.shift(timedelta(hours=73))
    await payouts.settle_methods()

    states = {one.masked: one.state for one in await payouts.methods_of(shop.merchant_id)}
    assert states == {"GB ····6819": MethodState.USABLE, "DE ····3000": MethodState.REMOVED}


async def test_g11_a_replacement_that_is_stopped_leaves_the_old_one_as_it_was() -> None:
    shop = await make.shop(keys=0)
    old = await usable(shop.merchant_id)
    asked = await propose(shop.merchant_id, bank(OTHER), replaces=old)
    await approve(asked)

    await four_eyes.decline(asked.id, by=CLEO)
    clock.shift(timedelta(hours=73))
    await payouts.settle_methods()

    states = {one.masked: one.state for one in await payouts.methods_of(shop.merchant_id)}
    assert states == {"GB ····6819": MethodState.REMOVED, "DE ····3000": MethodState.USABLE}


async def test_h29_what_changed_since_it_was_asked_is_refused() -> None:
    shop = await make.shop(keys=0)
    old = await usable(shop.merchant_id)
    replace = await propose(shop.merchant_id, bank(OTHER), replaces=old)
    with pytest.raises(Conflict) as stale:
        await payouts.propose_removal(shop.merchant_id, old, asked_by=ANN, once=once())
    newer = Replaced(old.id, stale.value.facts["current"])
    removal = await payouts.propose_removal(shop.merchant_id, newer, asked_by=ANN, once=once())

    with pytest.raises(Conflict):
        await approve(replace)
    assert await state(replace) is MethodState.PENDING
    await approve(removal)

    assert await state(removal) is MethodState.REMOVED
    assert "payout.method.usable" in await actions()


async def test_h29_a_removal_takes_two_and_then_holds_at_once() -> None:
    shop = await make.shop(keys=0)
    old = await usable(shop.merchant_id)

    removal = await payouts.propose_removal(shop.merchant_id, old, asked_by=ANN, once=once())
    assert await state(removal) is MethodState.USABLE
    with pytest.raises(SamePerson):
        await approve(removal, ANN)
    done = await approve(removal)

    assert (done.usable_at, await state(removal)) == (None, MethodState.REMOVED)
    again = await propose(shop.merchant_id)  # the account may come back, as new
    assert await state(again) is MethodState.PENDING


async def test_the_same_destination_is_there_once_per_currency() -> None:
    shop, other = await make.shop(keys=0), await make.shop(keys=0)
    await propose(shop.merchant_id)

    for spelled in (bank(), bank("de89 3704 0044 0532 0130 00")):
        with pytest.raises(PayoutMethodKnown):
            await propose(shop.merchant_id, spelled)
    await propose(shop.merchant_id, bank(currency="USD"))
    await propose(other.merchant_id)

    assert await db.value("SELECT count(*) FROM approval") == 3
    marks = await db.value("SELECT count(DISTINCT fingerprint) FROM payout_method")
    assert marks == 2  # nobody sees that two merchants have the same account


async def test_only_what_holds_is_replaced_once_at_a_time_in_its_currency() -> None:
    shop = await make.shop(keys=0)
    pending = await propose(shop.merchant_id)
    for act in (
        propose(shop.merchant_id, bank(OTHER), replaces=Replaced(pending.subject_id, 1)),
        payouts.propose_removal(
            shop.merchant_id, Replaced(pending.subject_id, 1), asked_by=ANN, once=once()
        ),
    ):
        with pytest.raises(PayoutMethodNotUsable):
            await act
    await four_eyes.decline(pending.id, by=ANN)
    old = await usable(shop.merchant_id)

    with pytest.raises(FieldInvalid):
        await propose(shop.merchant_id, bank(OTHER, "GBP"), replaces=old)
    await propose(shop.merchant_id, bank(OTHER), replaces=old)
    newer = Replaced(old.id, old.version + 1)
    with pytest.raises(PayoutMethodNotUsable):
        await propose(shop.merchant_id, bank("FR1420041010050500013M02606"), replaces=newer)


async def test_h01_of_another_merchant_there_is_nothing_to_replace() -> None:
    shop, other = await make.shop(keys=0), await make.shop(keys=0)
    old = await usable(shop.merchant_id)

    with pytest.raises(NotFound):
        await propose(other.merchant_id, bank(OTHER), replaces=old)
    with pytest.raises(NotFound):
        await payouts.propose_removal(other.merchant_id, old, asked_by=ANN, once=once())


async def test_the_same_key_asks_once() -> None:
    shop = await make.shop(keys=0)

    first = await propose(shop.merchant_id, once=once("k"))
    again = await propose(shop.merchant_id, once=once("k"))

    assert again == first
    assert await db.value("SELECT count(*) FROM payout_method") == 1


@pytest.mark.parametrize(
    "change",
    [
        "state = 'usable', approved_by = gen_random_uuid(), usable_at = now()",
        "ccy = 'USD'",
        "masked = 'x'",
        "fingerprint = '0123456789abcdef'",
        "changed_by = gen_random_uuid()",
    ],
)
async def test_h29_where_money_goes_never_changes_under_its_id(change: str) -> None:
    shop = await make.shop(keys=0)
    await propose(shop.merchant_id)

    with pytest.raises((asyncpg.RestrictViolationError, asyncpg.CheckViolationError)):
        await as_owner(f"UPDATE payout_method SET {change}")
    with pytest.raises(asyncpg.RestrictViolationError):
        await as_owner("DELETE FROM payout_method")
