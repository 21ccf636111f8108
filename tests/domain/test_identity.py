"""Accounts, sessions and memberships on a real database."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from domain import identity, merchants
from domain.core import clock
from domain.core import db as core
from domain.core.errors import FieldInvalid, NotFound
from domain.identity import (
    AccountKind,
    CredentialsInvalid,
    OperatorRole,
    Role,
    SignInThrottled,
    passwords,
    queries,
    rules,
)

EMAIL, PASSWORD, ADDRESS = "owner@shop.test", "correct horse battery", "203.0.113.9"


async def merchant(name: str = "Shop") -> UUID:
    return await merchants.open_merchant(
        name, base_ccy="USD", country="SG", contact_email="shop@shop.test"
    )


async def test_sign_in_gives_a_token_that_names_the_viewer(db: None) -> None:
    account_id = await identity.register(EMAIL, PASSWORD, locale="ja")
    merchant_id = await merchant()
    await identity.grant(merchant_id, account_id, Role.OWNER)

    signed_in = await identity.sign_in(
        " Owner@Shop.TEST".strip(), PASSWORD, ADDRESS, user_agent="x\r\ny"
    )
    viewer = await identity.viewer(signed_in.token)

    assert viewer is not None
    assert viewer.account_id == account_id
    assert viewer.email == EMAIL
    assert viewer.locale == "ja"
    assert viewer.roles == {merchant_id: Role.OWNER}
    assert viewer.operator is False
    assert viewer.session_id == signed_in.session_id
    stored = await core.row("SELECT token_hash, address, user_agent FROM session")
    assert stored is not None
    assert stored["token_hash"] == rules.token_hash(signed_in.token)
    assert (stored["address"], stored["user_agent"]) == (ADDRESS, "xy")


async def test_l27_no_password_or_token_is_stored(db: None) -> None:
    await identity.register(EMAIL, PASSWORD)
    signed_in = await identity.sign_in(EMAIL, PASSWORD, ADDRESS)

    rows = await core.fetch(
        "SELECT a::text AS row FROM account a UNION ALL SELECT s::text FROM session s"
    )

    assert PASSWORD not in str(rows)
    assert signed_in.token not in str(rows)
    hashed = await core.value("SELECT password_hash FROM account")
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_viewer_is_one_statement_then_none(db: None) -> None:
    await identity.register(EMAIL, PASSWORD)
    signed_in = await identity.sign_in(EMAIL, PASSWORD, ADDRESS)

    async with core.statements() as sent:
        await identity.viewer(signed_in.token)
        await identity.viewer(signed_in.token)

    assert len(sent) == 1


async def test_a_foreign_token_costs_no_statement(db: None) -> None:
    async with core.statements() as sent:
        assert await identity.viewer("") is None
        assert await identity.viewer("Bearer x") is None
        assert await identity.viewer("k" * 1_000_000) is None

    assert sent == []


async def test_h11_wrong_password_and_unknown_account_are_the_same(db: None) -> None:
    await identity.register(EMAIL, PASSWORD)
    closed = await identity.register("closed@shop.test", PASSWORD)
    await identity.close(closed)
    refused, statements = [], []

    for email, password in (
        (EMAIL, "wrong"),
        ("nobody@shop.test", PASSWORD),
        ("closed@shop.test", PASSWORD),
        ("not an address", PASSWORD),
        (EMAIL, "x" * 10_000),
        (EMAIL, ""),
    ):
        async with core.statements() as sent:
            with pytest.raises(CredentialsInvalid) as caught:
                await identity.sign_in(email, password, ADDRESS)
        refused.append((str(caught.value), caught.value.facts, caught.value.path))
        statements.append(tuple(sent))

    assert set(map(str, refused)) == {str(("CREDENTIALS_INVALID", {}, ()))}
    assert len(set(statements)) == 1
    assert await core.value("SELECT count(*) FROM session") == 0


async def test_h11_every_refusal_costs_one_argon2(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await identity.register(EMAIL, PASSWORD)
    looked_at: list[str | None] = []
    matches = passwords._matches

    def spy(stored: str | None, password: str) -> bool:
        looked_at.append(stored)
        return matches(stored, password)

    monkeypatch.setattr(passwords, "_matches", spy)
    for email in (EMAIL, "nobody@shop.test", "no address"):
        with pytest.raises(CredentialsInvalid):
            await identity.sign_in(email, "wrong password", ADDRESS)

    assert [stored is None for stored in looked_at] == [False, True, True]


async def test_h10_ten_failures_close_the_pair_but_not_the_owner_elsewhere(db: None) -> None:
    await identity.register(EMAIL, PASSWORD)
    for _ in range(rules.TRIES_PAIR_MAX):
        with pytest.raises(CredentialsInvalid):
            await identity.sign_in(EMAIL, "wrong", ADDRESS)

    with pytest.raises(SignInThrottled) as throttled:
        await identity.sign_in(EMAIL, PASSWORD, ADDRESS)
    elsewhere = await identity.sign_in(EMAIL, PASSWORD, "198.51.100.7")

    assert 0 < throttled.value.facts["retry_after"] <= rules.TRIES_WINDOW_S
    assert throttled.value.retryable
    assert await identity.viewer(elsewhere.token) is not None
    assert await core.value("SELECT count(*) FROM session") == 1


async def test_h10_parallel_tries_are_each_counted(db: None) -> None:
    await identity.register(EMAIL, PASSWORD)

    results = await asyncio.gather(
        *(identity.sign_in(EMAIL, "wrong", ADDRESS) for _ in range(20)), return_exceptions=True
    )

    kinds = [type(result) for result in results]
    assert kinds.count(CredentialsInvalid) == rules.TRIES_PAIR_MAX
    assert kinds.count(SignInThrottled) == 20 - rules.TRIES_PAIR_MAX


async def test_h10_the_window_ends(db: None) -> None:
    await identity.register(EMAIL, PASSWORD)
    for _ in range(rules.TRIES_PAIR_MAX + 1):
        with pytest.raises((CredentialsInvalid, SignInThrottled)):
            await identity.sign_in(EMAIL, "wrong", ADDRESS)
    await core.execute("UPDATE sign_in_try SET resets_at = clock_timestamp() - interval '1 second'")

    assert await identity.sign_in(EMAIL, PASSWORD, ADDRESS)


async def test_a_success_clears_the_pair_and_is_no_try_of_the_address(db: None) -> None:
    await identity.register(EMAIL, PASSWORD)
    for _ in range(3):
        with pytest.raises(CredentialsInvalid):
            await identity.sign_in(EMAIL, "wrong", ADDRESS)

    await identity.sign_in(EMAIL, PASSWORD, ADDRESS)

    rows = await core.fetch("SELECT tries FROM sign_in_try ORDER BY tries")
    assert [row["tries"] for row in rows] == [0, 3, 3]


async def test_sign_out_ends_this_session_only(db: None) -> None:
    await identity.register(EMAIL, PASSWORD)
    one = await identity.sign_in(EMAIL, PASSWORD, ADDRESS)
    two = await identity.sign_in(EMAIL, PASSWORD, ADDRESS)
    await identity.viewer(one.token)

    assert await identity.sign_out(one.token) is True
    assert await identity.sign_out(one.token) is False
    assert await identity.sign_out("nonsense") is False

    assert await identity.viewer(one.token) is None
    assert await identity.viewer(two.token) is not None


async def test_h14_a_session_ended_elsewhere_dies_within_five_seconds(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await identity.register(EMAIL, PASSWORD)
    signed_in = await identity.sign_in(EMAIL, PASSWORD, ADDRESS)
    assert await identity.viewer(signed_in.token)
    await core.execute("DELETE FROM session")  # another process

    now = clock.monotonic()
    monkeypatch.setattr(clock, "monotonic", lambda: now + 5)

    assert queries.CACHE_S <= 5
    assert await identity.viewer(signed_in.token) is None


async def test_h14_new_password_ends_all_sessions(db: None) -> None:
    account_id = await identity.register(EMAIL, PASSWORD)
    signed_in = await identity.sign_in(EMAIL, PASSWORD, ADDRESS)
    assert await identity.viewer(signed_in.token)

    await identity.set_password(account_id, "another horse battery")

    assert await identity.viewer(signed_in.token) is None
    with pytest.raises(CredentialsInvalid):
        await identity.sign_in(EMAIL, PASSWORD, ADDRESS)
    assert await identity.sign_in(EMAIL, "another horse battery", ADDRESS)


async def test_an_expired_session_is_nobody_even_while_kept(db: None) -> None:
    await identity.register(EMAIL, PASSWORD)
    signed_in = await identity.sign_in(EMAIL, PASSWORD, ADDRESS)
    assert await identity.viewer(signed_in.token)

    clock.shift(timedelta(days=15))
    try:
        await core.execute(
            "UPDATE session SET expires_at = clock_timestamp() - interval '1 second'"
        )
        assert await identity.viewer(signed_in.token) is None
    finally:
        clock.shift(timedelta())


async def test_last_seen_moves_at_most_every_five_minutes(db: None) -> None:
    await identity.register(EMAIL, PASSWORD)
    signed_in = await identity.sign_in(EMAIL, PASSWORD, ADDRESS)
    first = await core.value("SELECT last_seen_at FROM session")

    await identity.viewer(signed_in.token)
    assert await core.value("SELECT last_seen_at FROM session") == first
    await core.execute("UPDATE session SET last_seen_at = last_seen_at - interval '1 hour'")
    identity.forget_viewers()
    await identity.viewer(signed_in.token)

    assert await core.value("SELECT last_seen_at FROM session") > first


async def test_one_address_is_one_account(db: None) -> None:
    await identity.register(EMAIL, PASSWORD)

    with pytest.raises(identity.EmailTaken):
        await identity.register("OWNER@shop.test", "another horse battery")

    assert await core.value("SELECT count(*) FROM account") == 1
    assert await identity.sign_in(EMAIL, PASSWORD, ADDRESS)


async def test_register_refuses_before_it_writes(db: None) -> None:
    with pytest.raises(FieldInvalid):
        await identity.register("no address", PASSWORD)
    with pytest.raises(FieldInvalid):
        await identity.register(EMAIL, "short")

    assert await core.value("SELECT count(*) FROM account") == 0


async def test_a_role_changes_at_once_here(db: None) -> None:
    account_id = await identity.register(EMAIL, PASSWORD)
    merchant_id = await merchant()
    signed_in = await identity.sign_in(EMAIL, PASSWORD, ADDRESS)

    await identity.grant(merchant_id, account_id, Role.SUPPORT)
    first = await identity.viewer(signed_in.token)
    await identity.grant(merchant_id, account_id, Role.FINANCE)
    second = await identity.viewer(signed_in.token)

    assert first is not None
    assert second is not None
    assert (first.roles, second.roles) == (
        {merchant_id: Role.SUPPORT},
        {merchant_id: Role.FINANCE},
    )


async def test_operator_roles_are_for_operators(db: None) -> None:
    person = await identity.register(EMAIL, PASSWORD)
    operator = await identity.register("op@kami.test", PASSWORD, kind=AccountKind.OPERATOR)

    with pytest.raises(NotFound):
        await identity.grant_operator(person, OperatorRole.ADMIN)
    await identity.grant_operator(operator, OperatorRole.RISK, OperatorRole.FINANCE)
    await identity.grant_operator(operator, OperatorRole.RISK)

    signed_in = await identity.sign_in("op@kami.test", PASSWORD, ADDRESS)
    viewer = await identity.viewer(signed_in.token)
    assert viewer is not None
    assert viewer.operator
    assert viewer.operator_roles == {OperatorRole.RISK, OperatorRole.FINANCE}


async def test_kept_viewers_have_a_bound(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "CACHE_MAX", 2)
    await identity.register(EMAIL, PASSWORD)
    tokens = [(await identity.sign_in(EMAIL, PASSWORD, ADDRESS)).token for _ in range(3)]

    for token in tokens:
        assert await identity.viewer(token)

    assert len(queries._cache) == 2


async def test_prune_forgets_what_is_over(db: None) -> None:
    await identity.register(EMAIL, PASSWORD)
    await identity.sign_in(EMAIL, PASSWORD, ADDRESS)
    kept = await identity.sign_in(EMAIL, PASSWORD, ADDRESS)
    await core.execute(
        "UPDATE session SET expires_at = clock_timestamp() - interval '2 days' WHERE id <> $1",
        kept.session_id,
    )
    await core.execute("UPDATE sign_in_try SET resets_at = clock_timestamp() - interval '1 second'")

    assert await identity.prune() == 4
    assert await identity.viewer(kept.token) is not None
