"""Tries and devices: who guesses is locked out, who is known gets in; sessions end when they rest or are told to."""

from __future__ import annotations

from typing import Any

import pytest

from domain import identity
from domain.core import db as core
from domain.core.errors import Unavailable
from domain.identity import (
    CredentialsInvalid,
    SignInThrottled,
    TooManyTries,
    passwords,
    rules,
)
from tests.domain.signing_up import ADDRESS, EMAIL, NEW, PASSWORD, opened
from tests.letters import last_token, owed


async def test_h10_mails_to_one_address_and_from_one_address_are_bounded(db: None) -> None:
    for _ in range(rules.MAILS_TARGET_MAX):
        await identity.request_reset(EMAIL, "en", address=ADDRESS)
    with pytest.raises(TooManyTries) as refused:
        await identity.sign_up(EMAIL, PASSWORD, "en", address="198.51.100.7")
    for number in range(rules.MAILS_ADDRESS_MAX - rules.MAILS_TARGET_MAX):
        await identity.request_reset(f"b{number}@shop.test", "en", address=ADDRESS)
    with pytest.raises(TooManyTries):
        await identity.request_reset("one@more.test", "en", address=ADDRESS)

    assert 0 < refused.value.facts["retry_after"] <= rules.MAILS_WINDOW_S
    assert len(await owed()) == rules.MAILS_ADDRESS_MAX
    assert await core.value("SELECT count(*) FROM account_link") == rules.MAILS_ADDRESS_MAX


async def test_h10_a_known_device_gets_in_while_strangers_are_locked_out(db: None) -> None:
    session = await opened()
    addresses = [f"198.51.100.{i}" for i in range(3)]
    for i in range(rules.TRIES_ACCOUNT_MAX):
        with pytest.raises(CredentialsInvalid):
            await identity.sign_in(EMAIL, f"wrong {i}", addresses[i % 3])

    for address in (*addresses, "192.0.2.1", ADDRESS):  # the account, from anywhere
        with pytest.raises(SignInThrottled):
            await identity.sign_in(EMAIL, PASSWORD, address)
    again = await identity.sign_in(EMAIL, PASSWORD, addresses[0], device=session.device)

    assert again.device == session.device
    assert await identity.viewer(again.token)
    assert await core.value("SELECT count(*) FROM known_device") == 1


async def test_h10_who_is_locked_out_gets_in_by_a_reset(db: None) -> None:
    await opened()
    for i in range(rules.TRIES_ACCOUNT_MAX):
        with pytest.raises(CredentialsInvalid):
            await identity.sign_in(EMAIL, "wrong", f"198.51.100.{i}")
    await identity.request_reset(EMAIL, "en", address=ADDRESS)

    device = await identity.reset_password(await last_token(), NEW, address=ADDRESS)

    with pytest.raises(SignInThrottled):
        await identity.sign_in(EMAIL, NEW, ADDRESS)
    assert await identity.sign_in(EMAIL, NEW, ADDRESS, device=device)


async def test_h10_a_known_device_has_tries_of_its_own_and_no_more(db: None) -> None:
    session = await opened()
    for _ in range(rules.TRIES_DEVICE_MAX):
        with pytest.raises(CredentialsInvalid):
            await identity.sign_in(EMAIL, "wrong", ADDRESS, device=session.device)

    with pytest.raises(SignInThrottled):
        await identity.sign_in(EMAIL, PASSWORD, ADDRESS, device=session.device)
    assert await identity.sign_in(EMAIL, PASSWORD, ADDRESS)  # as a stranger with a clean count


async def test_h10_a_device_known_to_another_account_or_made_up_is_a_stranger(db: None) -> None:
    others = await opened("other@shop.test")
    await opened()
    for _ in range(rules.TRIES_PAIR_MAX):
        with pytest.raises(CredentialsInvalid):
            await identity.sign_in(EMAIL, "wrong", ADDRESS)

    for device in (others.device, "kami_d_" + "A" * 43, "x", ""):
        with pytest.raises(SignInThrottled):
            await identity.sign_in(EMAIL, PASSWORD, ADDRESS, device=device)


async def test_h11_h10_a_known_device_is_looked_up_for_everyone(db: None) -> None:
    session = await opened()
    statements = []
    for email, device in (
        (EMAIL, session.device),
        (EMAIL, None),
        ("nobody@shop.test", session.device),
        ("no address", "x"),
    ):
        async with core.statements() as sent:
            with pytest.raises(CredentialsInvalid):
                await identity.sign_in(email, "wrong", ADDRESS, device=device)
        statements.append(tuple(sent))

    assert len(set(statements)) == 1


async def test_sign_in_fails_closed_when_tries_cannot_be_counted(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await identity.register(EMAIL, PASSWORD)
    looked_at: list[Any] = []
    fetch = core.fetch

    async def away(sql: str, *args: Any) -> list[core.Record]:
        if "sign_in_try" in sql:
            raise Unavailable(what="database")
        return await fetch(sql, *args)

    monkeypatch.setattr(core, "fetch", away)
    monkeypatch.setattr(passwords, "_matches", lambda *args: looked_at.append(args))
    for action in (
        lambda: identity.sign_in(EMAIL, PASSWORD, ADDRESS),
        lambda: identity.sign_up("new@shop.test", PASSWORD, "en", address=ADDRESS),
        lambda: identity.request_reset(EMAIL, "en", address=ADDRESS),
    ):
        with pytest.raises(Unavailable):
            await action()

    assert looked_at == []
    assert await core.value("SELECT count(*) FROM session") == 0
    assert await owed() == []


async def test_a_session_that_rests_too_long_is_over(db: None) -> None:
    session = await opened()
    await core.execute("UPDATE session SET last_seen_at = last_seen_at - interval '73 hours'")
    identity.forget_viewers()

    assert await identity.viewer(session.token) is None
    assert await identity.sessions_of(session.account_id) == []
    assert await identity.viewer(session.token) is None  # looking at it was no use of it


async def test_sessions_are_listed_and_ended_by_their_holder_alone(db: None) -> None:
    mine = [await opened(), *[await identity.sign_in(EMAIL, PASSWORD, ADDRESS) for _ in range(2)]]
    theirs = await opened("other@shop.test")

    listed = await identity.sessions_of(mine[0].account_id)
    with pytest.raises(Exception, match="NOT_FOUND"):
        await identity.revoke_session(mine[0].account_id, theirs.session_id)
    ended = await identity.revoke_session(mine[0].account_id, mine[1].session_id)
    others = await identity.revoke_others(mine[0].account_id, mine[0].session_id)

    assert [one.id for one in listed] == [one.session_id for one in reversed(mine)]
    assert (listed[-1].address, listed[-1].user_agent) == (ADDRESS, "test/1")
    assert (ended, others) == (1, 1)
    assert [await identity.viewer(one.token) is not None for one in (*mine, theirs)] == [
        True,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("is_closed", [False, True])
async def test_h12_a_password_changed_while_it_is_compared_opens_nothing(
    db: None, monkeypatch: pytest.MonkeyPatch, is_closed: bool
) -> None:
    """Who keeps signing in with a stolen password must not have a session left after the reset."""
    session = await opened()
    compare = passwords.match

    async def slow(stored: str | None, password: str) -> bool:
        is_right = await compare(stored, password)
        if is_closed:
            await identity.close(session.account_id)
        else:
            await identity.set_password(session.account_id, NEW)
        return is_right

    monkeypatch.setattr(passwords, "match", slow)
    with pytest.raises(CredentialsInvalid):
        await identity.sign_in(EMAIL, PASSWORD, ADDRESS)

    assert await core.value("SELECT count(*) FROM session") == 0
    assert await core.value("SELECT max(tries) FROM sign_in_try WHERE tries > 0") is not None
