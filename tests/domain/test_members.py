"""Staff: invited by mail, one role each, never without an owner, and gone everywhere at once."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain import identity, merchants
from domain.core import db as core
from domain.core.errors import FieldInvalid, NotFound
from domain.identity import Actor, AlreadyMember, LastOwner, LinkInvalid, Role, TooManyTries, rules
from tests.letters import last_token, owed

EMAIL, PASSWORD, ADDRESS = "owner@shop.test", "correct horse battery", "203.0.113.9"
NEWCOMER = "new@shop.test"


async def merchant() -> tuple[UUID, Actor]:
    """A merchant and its owner."""
    merchant_id = await merchants.open_merchant(
        "Lantern", base_ccy="USD", country="SG", contact_email="shop@shop.test"
    )
    owner = await identity.register(EMAIL, PASSWORD)
    await identity.grant(merchant_id, owner, Role.OWNER)
    return merchant_id, Actor(owner, "req-1")


async def member(merchant_id: UUID, email: str, role: Role) -> UUID:
    account_id = await identity.register(email, PASSWORD)
    await identity.grant(merchant_id, account_id, role)
    return account_id


async def roles(merchant_id: UUID) -> dict[str, str]:
    (found,) = await identity.members_of([merchant_id])
    return {one.email: str(one.role) for one in found}


async def audited() -> list[tuple[str, dict[str, Any]]]:
    rows = await core.fetch("SELECT action, facts_json FROM audit_log ORDER BY no")
    return [(row["action"], row["facts_json"]) for row in rows]


def accepting(token: str, password: str | None = None) -> Any:
    return identity.accept_invitation(
        token, password, locale="ja", address=ADDRESS, request_id="req-2"
    )


async def test_an_invitation_makes_its_reader_a_member_and_an_account(db: None) -> None:
    merchant_id, owner = await merchant()

    sent = await identity.invite(merchant_id, "New@shop.test", Role.FINANCE, locale="es", by=owner)
    (mail,) = await owed()
    token = await last_token()
    assert await identity.needs_password(token) is True
    with pytest.raises(FieldInvalid):
        await accepting(token)
    joined = await accepting(token, PASSWORD)

    assert (mail.letter, mail.recipient, mail.language) == ("invitation", NEWCOMER, "es")
    assert (joined.email, joined.role) == (NEWCOMER, Role.FINANCE)
    assert await roles(merchant_id) == {EMAIL: "owner", NEWCOMER: "finance"}
    assert await audited() == [
        ("member.invite", {"email": NEWCOMER, "after": "finance"}),
        (
            "member.accept",
            {"before": None, "after": "finance", "invited_by": str(owner.account_id)},
        ),
    ]
    viewer = await identity.viewer((await identity.sign_in(NEWCOMER, PASSWORD, ADDRESS)).token)
    assert viewer is not None
    assert (viewer.is_verified, viewer.locale) == (True, "ja")
    assert viewer.roles == {merchant_id: Role.FINANCE}
    assert (await identity.invitations_of([merchant_id]))[0] == []
    assert sent.email == NEWCOMER


async def test_an_account_that_is_there_joins_without_a_password(db: None) -> None:
    merchant_id, owner = await merchant()
    account_id = await identity.register(NEWCOMER, PASSWORD)
    session = await identity.sign_in(NEWCOMER, PASSWORD, ADDRESS)
    before = await identity.viewer(session.token)
    await identity.invite(merchant_id, NEWCOMER, Role.SUPPORT, locale="en", by=owner)
    token = await last_token()

    assert await identity.needs_password(token) is False
    joined = await accepting(token, "a password nobody asked for")
    after = await identity.viewer(session.token)

    assert joined.account_id == account_id
    assert before is not None
    assert after is not None
    assert (before.roles, after.roles) == ({}, {merchant_id: Role.SUPPORT})
    assert await identity.sign_in(NEWCOMER, PASSWORD, ADDRESS)  # the password stayed


async def test_an_invitation_works_once(db: None) -> None:
    merchant_id, owner = await merchant()
    await identity.invite(merchant_id, NEWCOMER, Role.SUPPORT, locale="en", by=owner)
    token = await last_token()

    results = await asyncio.gather(
        *(accepting(token, PASSWORD) for _ in range(4)), return_exceptions=True
    )

    assert sorted(type(one).__name__ for one in results) == ["Colleague"] + ["LinkInvalid"] * 3
    assert await core.value("SELECT count(*) FROM account WHERE email = $1", NEWCOMER) == 1


async def test_an_old_invitation_never_changes_the_role_of_a_member(db: None) -> None:
    merchant_id, owner = await merchant()
    await identity.invite(merchant_id, NEWCOMER, Role.OWNER, locale="en", by=owner)
    token = await last_token()
    await member(merchant_id, NEWCOMER, Role.READ_ONLY)

    joined = await accepting(token)

    assert joined.role is Role.READ_ONLY
    assert await roles(merchant_id) == {EMAIL: "owner", NEWCOMER: "read_only"}
    with pytest.raises(AlreadyMember):
        await identity.invite(merchant_id, NEWCOMER, Role.OWNER, locale="en", by=owner)


async def test_an_invitation_is_withdrawn_by_hand_or_with_its_sender(db: None) -> None:
    merchant_id, owner = await merchant()
    second = await member(merchant_id, "second@shop.test", Role.OWNER)
    one = await identity.invite(merchant_id, NEWCOMER, Role.SUPPORT, locale="en", by=owner)
    tokens = [await last_token()]
    await identity.invite(merchant_id, NEWCOMER, Role.SUPPORT, locale="en", by=Actor(second))
    tokens.append(await last_token())

    with pytest.raises(NotFound):
        await identity.withdraw_invitation(uuid4(), one.id, by=owner)
    await identity.withdraw_invitation(merchant_id, one.id, by=owner)
    with pytest.raises(NotFound):
        await identity.withdraw_invitation(merchant_id, one.id, by=owner)
    await identity.change_role(merchant_id, second, Role.FINANCE, by=owner)

    for token in tokens:
        assert await identity.needs_password(token) is None
        with pytest.raises(LinkInvalid):
            await accepting(token, PASSWORD)
    assert await roles(merchant_id) == {EMAIL: "owner", "second@shop.test": "finance"}


async def test_invitations_of_one_sender_are_bounded(db: None) -> None:
    merchant_id, owner = await merchant()
    for number in range(rules.MAILS_ADDRESS_MAX):
        await identity.invite(merchant_id, f"n{number}@x.test", Role.SUPPORT, locale="en", by=owner)

    with pytest.raises(TooManyTries):
        await identity.invite(merchant_id, "one@more.test", Role.SUPPORT, locale="en", by=owner)

    assert len(await owed()) == rules.MAILS_ADDRESS_MAX


async def test_h14_a_changed_role_holds_at_once_and_ends_the_members_sessions(db: None) -> None:
    merchant_id, owner = await merchant()
    account_id = await member(merchant_id, NEWCOMER, Role.FINANCE)
    session = await identity.sign_in(NEWCOMER, PASSWORD, ADDRESS)
    assert await identity.viewer(session.token)

    same = await identity.change_role(merchant_id, account_id, Role.FINANCE, by=owner)
    untouched = await identity.viewer(session.token)
    changed = await identity.change_role(merchant_id, account_id, Role.SUPPORT, by=owner)

    assert (same.role, changed.role) == (Role.FINANCE, Role.SUPPORT)
    assert untouched is not None
    assert await identity.viewer(session.token) is None
    assert await audited() == [("member.role", {"before": "finance", "after": "support"})]


async def test_h14_who_is_removed_is_out_at_once(db: None) -> None:
    merchant_id, owner = await merchant()
    account_id = await member(merchant_id, NEWCOMER, Role.FINANCE)
    session = await identity.sign_in(NEWCOMER, PASSWORD, ADDRESS)
    assert await identity.viewer(session.token)

    await identity.remove_member(merchant_id, account_id, by=owner)

    assert await identity.viewer(session.token) is None
    assert await roles(merchant_id) == {EMAIL: "owner"}
    assert await audited() == [("member.remove", {"before": "finance", "after": None})]
    with pytest.raises(NotFound):
        await identity.remove_member(merchant_id, account_id, by=owner)


async def test_the_last_owner_stays_an_owner(db: None) -> None:
    merchant_id, owner = await merchant()
    await member(merchant_id, NEWCOMER, Role.FINANCE)

    with pytest.raises(LastOwner):
        await identity.remove_member(merchant_id, owner.account_id, by=owner)
    with pytest.raises(LastOwner):
        await identity.change_role(merchant_id, owner.account_id, Role.FINANCE, by=owner)
    await identity.change_role(merchant_id, owner.account_id, Role.OWNER, by=owner)

    assert await roles(merchant_id) == {EMAIL: "owner", NEWCOMER: "finance"}
    assert await audited() == []


@pytest.mark.parametrize("ways", ["remove", "demote", "both"])
async def test_owners_who_remove_each_other_at_once_leave_one(db: None, ways: str) -> None:
    merchant_id, owner = await merchant()
    owners = [owner.account_id]
    owners += [await member(merchant_id, f"o{i}@shop.test", Role.OWNER) for i in range(3)]

    def go(place: int, account_id: UUID) -> Any:
        if ways == "remove" or (ways == "both" and place % 2):
            return identity.remove_member(merchant_id, account_id, by=owner)
        return identity.change_role(merchant_id, account_id, Role.SUPPORT, by=owner)

    results = await asyncio.gather(
        *(go(place, account_id) for place, account_id in enumerate(owners)), return_exceptions=True
    )

    kinds = sorted(type(one).__name__ for one in results)
    assert kinds == ["Colleague"] * 3 + ["LastOwner"]
    assert list((await roles(merchant_id)).values()).count("owner") == 1
