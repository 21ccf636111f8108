"""Accounts that people open themselves, passwords by mail, known devices: links work once and tell nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from domain import identity, notifications
from domain.core import db as core
from domain.core.errors import FieldInvalid
from domain.identity import (
    CredentialsInvalid,
    LinkInvalid,
    TooManyTries,
    passwords,
    rules,
)
from domain.notifications import ports
from domain.notifications.ports import Answer, Mail, Outcome
from tests import rows
from tests.domain.signing_up import ADDRESS, EMAIL, HERE, NEW, PASSWORD, opened
from tests.letters import last_token, owed


async def test_a_link_and_the_password_open_an_account_and_a_session(db: None) -> None:
    email = await identity.sign_up("Buyer@Shop.TEST", PASSWORD, "ja-JP", address=ADDRESS)
    before = await core.value("SELECT count(*) FROM account")

    (mail,) = await owed()
    session = await identity.verify_email(await last_token(), PASSWORD, HERE)
    viewer = await identity.viewer(session.token)

    assert (email, before) == (EMAIL, 0)
    assert (mail.letter, mail.recipient, mail.language) == ("verify", EMAIL, "ja")
    assert viewer is not None
    assert (viewer.email, viewer.locale, viewer.is_verified) == (EMAIL, "ja", True)
    assert (await identity.sign_in(EMAIL, PASSWORD, ADDRESS)).account_id == viewer.account_id


async def test_nothing_is_opened_before_the_link_is_used(db: None) -> None:
    await identity.sign_up(EMAIL, PASSWORD, "en", address=ADDRESS)

    with pytest.raises(CredentialsInvalid):
        await identity.sign_in(EMAIL, PASSWORD, ADDRESS)

    assert await core.value("SELECT count(*) FROM account") == 0


async def test_e19_a_strangers_sign_up_is_not_opened_by_the_owners_click(db: None) -> None:
    """The owner of the address clicks what a stranger has asked for: it opens nothing for the stranger."""
    await identity.sign_up(EMAIL, "the stranger's own", "en", address="198.51.100.7")
    strangers = await last_token()
    await identity.sign_up(EMAIL, PASSWORD, "en", address=ADDRESS)
    mine = await last_token()

    with pytest.raises(CredentialsInvalid):
        await identity.verify_email(strangers, PASSWORD, HERE)
    assert await core.value("SELECT count(*) FROM account") == 0
    assert await identity.verify_email(mine, PASSWORD, HERE)

    with pytest.raises(LinkInvalid):
        await identity.verify_email(strangers, "the stranger's own", HERE)
    with pytest.raises(CredentialsInvalid):
        await identity.sign_in(EMAIL, "the stranger's own", ADDRESS)
    assert await core.value("SELECT count(*) FROM account") == 1


async def work(
    action: Callable[[], Awaitable[object]], monkeypatch: pytest.MonkeyPatch
) -> tuple[object, list[str], int]:
    """(answer, statements, Argon2 runs) of an action."""
    runs: list[str] = []

    class Counted:
        def hash(self, password: str) -> str:
            runs.append("hash")
            return "$argon2id$hash"

        def verify(self, stored: str, password: str) -> bool:
            runs.append("verify")
            return False

    with monkeypatch.context() as patch:
        patch.setattr(passwords, "_decoy", lambda: "$argon2id$decoy")
        patch.setattr(passwords, "_hasher", Counted())
        async with core.statements() as sent:
            answer = await action()
        return answer, list(sent), len(runs)


async def test_h11_sign_up_is_the_same_work_for_every_address(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opened("known@shop.test")
    closed = await identity.register("closed@shop.test", PASSWORD)
    await identity.close(closed)
    found = []

    for email in ("known@shop.test", "unknown@shop.test", "closed@shop.test"):
        found.append(
            await work(
                lambda email=email: identity.sign_up(email, PASSWORD, "en", address=ADDRESS),  # type: ignore[misc]
                monkeypatch,
            )
        )

    assert [answer for answer, _, _ in found] == [
        "known@shop.test",
        "unknown@shop.test",
        "closed@shop.test",
    ]
    assert len({tuple(statements) for _, statements, _ in found}) == 1
    assert [runs for _, _, runs in found] == [1, 1, 1]
    assert [mail.letter for mail in (await owed())[1:]] == ["account_exists", "verify", "verify"]
    links = await core.fetch("SELECT kind FROM account_link ORDER BY id")
    assert [row["kind"] for row in links[1:]] == ["reset", "verify", "verify"]


async def test_h11_reset_is_the_same_work_for_every_address(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opened("known@shop.test")
    found = []

    for email in ("known@shop.test", "unknown@shop.test"):
        found.append(
            await work(
                lambda email=email: identity.request_reset(email, "en", address=ADDRESS),  # type: ignore[misc]
                monkeypatch,
            )
        )

    assert len({tuple(statements) for _, statements, _ in found}) == 1
    assert [runs for _, _, runs in found] == [0, 0]
    assert [mail.letter for mail in (await owed())[1:]] == ["reset", "no_account"]


async def test_h11_the_link_of_a_mail_without_an_account_opens_nothing(db: None) -> None:
    await identity.request_reset(EMAIL, "en", address=ADDRESS)

    with pytest.raises(LinkInvalid):
        await identity.reset_password(await last_token(), NEW, address=ADDRESS)

    assert await core.value("SELECT count(*) FROM account") == 0


async def test_who_has_an_account_gets_a_new_password_by_the_mail_of_a_sign_up(db: None) -> None:
    await opened()
    await identity.sign_up(EMAIL, "the stranger's own", "es", address=ADDRESS)

    assert (await owed())[-1].letter == "account_exists"
    with pytest.raises(LinkInvalid):
        await identity.verify_email(await last_token(), "the stranger's own", HERE)
    await identity.reset_password(await last_token(), NEW, address=ADDRESS)
    assert await identity.sign_in(EMAIL, NEW, ADDRESS)


async def test_a_link_works_once_however_many_use_it_at_once(db: None) -> None:
    await opened()
    await identity.request_reset(EMAIL, "en", address=ADDRESS)
    token = await last_token()

    results = await asyncio.gather(
        *(identity.reset_password(token, f"{NEW} {i}", address=ADDRESS) for i in range(5)),
        return_exceptions=True,
    )

    assert sorted(type(one).__name__ for one in results) == ["LinkInvalid"] * 4 + ["str"]
    good = [
        i
        for i in range(5)
        if await passwords.match(
            await core.value("SELECT password_hash FROM account"), f"{NEW} {i}"
        )
    ]
    assert good == [i for i in range(5) if isinstance(results[i], str)]


@pytest.mark.parametrize("kind", ["verify", "reset"])
async def test_a_link_expires(db: None, kind: str) -> None:
    if kind == "reset":
        await opened()
        await identity.request_reset(EMAIL, "en", address=ADDRESS)
    else:
        await identity.sign_up(EMAIL, PASSWORD, "en", address=ADDRESS)
    token = await last_token()
    lasts = await core.value(
        "SELECT extract(epoch FROM expires_at - created_at)::float8 FROM account_link"
        " ORDER BY id DESC LIMIT 1"
    )
    assert lasts == pytest.approx({"verify": 86_400, "reset": 3_600}[kind], abs=1)
    assert await identity.look_at(token, kind) == EMAIL
    await core.execute("UPDATE account_link SET expires_at = clock_timestamp()")
    everything = await rows.everything(but=("sign_in_try",))

    using: Awaitable[object] = (
        identity.reset_password(token, NEW, address=ADDRESS)
        if kind == "reset"
        else identity.verify_email(token, PASSWORD, HERE)
    )
    with pytest.raises(LinkInvalid):
        await using

    assert await identity.look_at(token, kind) is None
    assert await rows.everything(but=("sign_in_try",)) == everything


async def test_a_guessed_token_writes_nothing(db: None) -> None:
    async with core.statements() as sent:
        for number in range(3):
            with pytest.raises(LinkInvalid):
                await identity.verify_email(f"kami_l_{number:043d}", PASSWORD, HERE)

    assert [sql.split()[0] for sql in sent] == ["SELECT"] * 3
    assert await core.value("SELECT count(*) FROM sign_in_try") == 0


async def test_a_token_of_another_kind_or_form_is_no_link(db: None) -> None:
    session = await opened()
    await identity.request_reset(EMAIL, "en", address=ADDRESS)
    reset = await last_token()

    for token in (reset, session.token, session.device, "", "x" * 1_000_000, "kami_l_" + "A" * 43):
        with pytest.raises(LinkInvalid):
            await identity.verify_email(token, PASSWORD, HERE)
    async with core.statements() as sent:
        with pytest.raises(LinkInvalid):
            await identity.reset_password("kami_l_", NEW, address=ADDRESS)
    assert sent == []


@pytest.mark.parametrize("wrong", [rules.TRIES_PAIR_MAX - 1, rules.TRIES_PAIR_MAX])
async def test_h10_a_wrong_password_leaves_the_link_and_is_counted(db: None, wrong: int) -> None:
    await identity.sign_up(EMAIL, PASSWORD, "en", address=ADDRESS)
    token = await last_token()
    for _ in range(wrong):
        with pytest.raises(CredentialsInvalid):
            await identity.verify_email(token, "wrong", HERE)

    if wrong < rules.TRIES_PAIR_MAX:
        assert await identity.verify_email(token, PASSWORD, HERE)
        return
    with pytest.raises(TooManyTries) as refused:
        await identity.verify_email(token, PASSWORD, HERE)
    assert 0 < refused.value.facts["retry_after"] <= rules.TRIES_WINDOW_S
    assert await core.value("SELECT count(*) FROM account") == 0
    assert await identity.look_at(token, "verify") == EMAIL


async def test_h14_a_reset_ends_sessions_and_makes_devices_strangers(db: None) -> None:
    session = await opened()
    assert await identity.viewer(session.token)
    await identity.request_reset(EMAIL, "en", address=ADDRESS)
    other = await last_token()
    await identity.request_reset(EMAIL, "en", address=ADDRESS)

    device = await identity.reset_password(await last_token(), NEW, address=ADDRESS)

    assert await identity.viewer(session.token) is None
    known = await core.fetch("SELECT token_hash FROM known_device")
    assert [row["token_hash"] for row in known] == [rules.token_hash(device)]
    with pytest.raises(LinkInvalid):  # the older link went with it
        await identity.reset_password(other, PASSWORD, address=ADDRESS)
    with pytest.raises(CredentialsInvalid):
        await identity.sign_in(EMAIL, PASSWORD, ADDRESS)
    assert await identity.sign_in(EMAIL, NEW, ADDRESS)
    assert (await owed())[-1].letter == "password_changed"
    assert (await owed())[-1].token is None
    audited = await core.fetch("SELECT action, actor_kind FROM audit_log ORDER BY no")
    assert [tuple(row) for row in audited] == [
        ("account.opened", "link"),
        ("account.password_reset", "link"),
    ]


async def test_a_reset_proves_the_mailbox_of_an_account_made_otherwise(db: None) -> None:
    account_id = await identity.register(EMAIL, PASSWORD)
    before = await identity.viewer((await identity.sign_in(EMAIL, PASSWORD, ADDRESS)).token)
    await identity.request_reset(EMAIL, "en", address=ADDRESS)

    await identity.reset_password(await last_token(), NEW, address=ADDRESS)

    after = await identity.viewer((await identity.sign_in(EMAIL, NEW, ADDRESS)).token)
    assert before is not None
    assert after is not None
    assert (before.is_verified, after.is_verified) == (False, True)
    assert after.account_id == account_id


async def test_h14_a_changed_password_ends_every_session_and_opens_one_under_a_new_token(
    db: None,
) -> None:
    session, other = await opened(), await identity.sign_in(EMAIL, PASSWORD, ADDRESS)

    with pytest.raises(CredentialsInvalid):
        await identity.change_password(session.account_id, "wrong", NEW, HERE)
    with pytest.raises(FieldInvalid):
        await identity.change_password(session.account_id, PASSWORD, "short", HERE)
    assert await identity.viewer(other.token)
    fresh = await identity.change_password(session.account_id, PASSWORD, NEW, HERE)

    assert fresh.token != session.token
    assert fresh.session_id != session.session_id
    assert [await identity.viewer(one.token) is None for one in (session, other, fresh)] == [
        True,
        True,
        False,
    ]


async def test_h14_two_who_change_a_password_at_once_do_not_both_win(db: None) -> None:
    session = await opened()

    results = await asyncio.gather(
        *(
            identity.change_password(session.account_id, PASSWORD, f"{NEW} {i}", HERE)
            for i in range(3)
        ),
        return_exceptions=True,
    )

    kinds = sorted(type(one).__name__ for one in results)
    assert kinds == ["CredentialsInvalid", "CredentialsInvalid", "SignIn"]
    assert await core.value("SELECT count(*) FROM session") == 1


class Carrier:
    """Takes every mail."""

    name = "test"

    def __init__(self) -> None:
        self.mails: list[Mail] = []

    async def send(self, mails: Any) -> list[Answer]:
        self.mails += mails
        return [Answer(Outcome.SENT) for _ in mails]


async def test_l27_tokens_are_nowhere_in_the_clear_and_forgotten_once_sent(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    carrier = Carrier()
    monkeypatch.setitem(ports.notifiers, "mail", carrier)
    await identity.sign_up(EMAIL, PASSWORD, "zh", address=ADDRESS)
    token = await last_token()
    stored = str(await rows.everything())

    assert token not in stored
    assert token.encode().hex() not in stored
    assert PASSWORD not in stored
    assert await notifications.send_due() == 1
    (mail,) = carrier.mails
    assert mail.recipient == EMAIL
    assert f"/account/verify?token={token}" in mail.text
    assert "确认" in mail.subject
    assert await core.value("SELECT count(*) FROM notification WHERE secret IS NOT NULL") == 0


async def test_prune_forgets_links_and_devices_that_are_over(db: None) -> None:
    await opened()
    await core.execute("UPDATE account_link SET expires_at = expires_at - interval '9 days'")
    await core.execute("UPDATE known_device SET last_used_at = last_used_at - interval '181 days'")

    assert await identity.prune() == 2
