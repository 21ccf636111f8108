"""The second factor on a real database: each code once, every refusal the same, every try counted first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pyotp
import pytest
from cryptography.exceptions import InvalidTag

from domain import identity
from domain.core import clock, vault
from domain.core import db as core
from domain.core.errors import NotFound
from domain.identity import (
    Acr,
    CredentialsInvalid,
    Factor,
    FactorExists,
    From,
    MfaNeeded,
    SignInExpired,
    TooManyTries,
    TotpInvalid,
    mfa,
    rules,
)
from domain.identity.mfa import By
from tests import rows
from tests.letters import owed

EMAIL, PASSWORD, ADDRESS = "owner@shop.test", "correct horse battery", "203.0.113.9"
WHERE = From(ADDRESS, "test/1")


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    yield
    clock.shift(timedelta())


async def signed_in() -> By:
    """An account and a session of it."""
    await identity.register(EMAIL, PASSWORD)
    opened = await identity.sign_in(EMAIL, PASSWORD, ADDRESS)
    return By(opened.account_id, opened.session_id, ADDRESS, "req-1")


async def enrolled() -> tuple[By, pyotp.TOTP, list[str]]:
    """An account with an authenticator app, the app, its recovery codes; the next code is one of the future."""
    by = await signed_in()
    app = pyotp.TOTP((await mfa.enrol(by.account_id, PASSWORD)).secret)
    codes = await mfa.confirm(by, app.at(clock.now()))
    clock.shift(timedelta(seconds=60))
    return by, app, codes


async def needs(email: str = EMAIL) -> str:
    """The token of a sign-in that waits for a factor."""
    with pytest.raises(MfaNeeded) as waits:
        await identity.sign_in(email, PASSWORD, ADDRESS)
    token: str = waits.value.facts["sign_in_token"]
    return token


async def test_an_enrolment_holds_from_its_first_code_on(db: None) -> None:
    by = await signed_in()
    made = await mfa.enrol(by.account_id, PASSWORD)
    before = await mfa.factors(by.account_id)
    await identity.sign_in(EMAIL, PASSWORD, ADDRESS)  # nothing holds yet

    codes = await mfa.confirm(by, pyotp.TOTP(made.secret).at(clock.now()))

    assert made.uri.startswith("otpauth://totp/Kami:owner%40shop.test?")
    assert f"secret={made.secret}" in made.uri and "issuer=Kami" in made.uri
    assert len(made.secret) == 32
    assert before == mfa.Factors(False, 0, [])
    assert await mfa.factors(by.account_id) == mfa.Factors(True, 10, [])
    assert len(set(codes)) == 10
    assert {len(code) for code in codes} == {19}
    assert (await identity.proof(by.session_id)).acr is Acr.MFA
    assert [one.letter for one in await owed()] == ["factors_changed"]
    actions = await core.fetch("SELECT action, actor_id, request_id FROM audit_log")
    assert [(row["action"], row["request_id"]) for row in actions] == [("mfa.enrolled", "req-1")]
    await needs()


async def test_the_secret_is_sealed_for_its_row_and_codes_are_hashes(db: None) -> None:
    _, app, codes = await enrolled()
    row = await core.row("SELECT id, secret FROM mfa")
    assert row is not None

    assert vault.unseal(f"mfa:{row['id']}:secret", row["secret"]) == app.secret.encode()
    with pytest.raises(InvalidTag):
        vault.unseal(f"mfa:{UUID(int=1)}:secret", row["secret"])
    everything = str(await rows.everything())
    for plain in (app.secret, *codes, *(code.replace("-", "") for code in codes)):
        assert plain not in everything
        assert plain.encode().hex() not in everything


async def test_h12_twenty_at_once_with_one_code_one_gets_in(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    by, app, _ = await enrolled()
    monkeypatch.setattr(rules, "CODE_TRIES_MAX", 1_000)
    code = app.at(clock.now())

    done = await asyncio.gather(*(mfa.verify(by, code) for _ in range(20)), return_exceptions=True)

    assert done.count(None) == 1
    assert [type(one) for one in done if one is not None] == [TotpInvalid] * 19
    with pytest.raises(TotpInvalid):
        await mfa.verify(by, code)


async def test_h12_the_code_of_the_enrolment_counts_as_used(db: None) -> None:
    by = await signed_in()
    app = pyotp.TOTP((await mfa.enrol(by.account_id, PASSWORD)).secret)
    code = app.at(clock.now())
    await mfa.confirm(by, code)

    with pytest.raises(TotpInvalid):
        await mfa.verify(by, code)
    with pytest.raises(TotpInvalid):
        await mfa.complete(await needs(), code, WHERE)
    assert await core.value("SELECT count(*) FROM session") == 1


async def test_h12_after_a_code_no_older_one_works(db: None) -> None:
    by, app, _ = await enrolled()
    older = app.at(clock.now() - timedelta(seconds=30))

    await mfa.verify(by, app.at(clock.now()))

    with pytest.raises(TotpInvalid):
        await mfa.verify(by, older)


@pytest.mark.parametrize("steps", [-2, 2])
async def test_a_code_two_steps_away_is_refused(db: None, steps: int) -> None:
    by, app, _ = await enrolled()

    with pytest.raises(TotpInvalid):
        await mfa.verify(by, app.at(clock.now() + timedelta(seconds=30 * steps)))


async def test_j17_what_is_not_six_ascii_digits_is_refused_like_any_other(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    by, app, codes = await enrolled()
    monkeypatch.setattr(rules, "CODE_TRIES_MAX", 1_000)
    now = app.at(clock.now())
    full_width = "".join(chr(ord("０") + int(digit)) for digit in now)
    arabic = "".join(chr(ord("٠") + int(digit)) for digit in now)
    odd = [
        "12345",
        "1234567",
        f"{now} ",
        f" {now}",
        f"{now}\n",
        full_width,
        arabic,
        "",
        "\0",
        now[:3],
    ]
    odd += [
        codes[0] + "0",
        codes[0][:-1],
        codes[0].replace("-", " "),
        "é" * 16,
        "0000-0000-0000-0000",
    ]

    refused = set()
    for code in odd:
        with pytest.raises(TotpInvalid) as caught:
            await mfa.verify(by, code)
        refused.add((caught.value.code, caught.value.path, str(caught.value.facts)))

    assert refused == {("TOTP_INVALID", ("code",), "{}")}
    assert (await mfa.factors(by.account_id)).recovery_codes_left == 10
    await mfa.verify(by, now)  # none of them used it up


async def test_tries_are_counted_before_the_code_is_looked_at(db: None) -> None:
    by, app, codes = await enrolled()
    for _ in range(rules.CODE_TRIES_MAX):
        with pytest.raises(TotpInvalid):
            await mfa.verify(by, "000000")

    for right in (app.at(clock.now()), codes[0]):
        with pytest.raises(TooManyTries) as caught:
            await mfa.verify(by, right)
        assert 0 < caught.value.facts["retry_after"] <= 900
    elsewhere = By(by.account_id, by.session_id, "198.51.100.7")
    with pytest.raises(TooManyTries):
        await mfa.verify(elsewhere, app.at(clock.now()))
    with pytest.raises(TooManyTries):
        await mfa.complete(await needs(), codes[0], From("198.51.100.7"))

    assert (await mfa.factors(by.account_id)).recovery_codes_left == 10
    assert await core.value("SELECT count(*) FROM session") == 1


async def test_successes_are_no_failures(db: None) -> None:
    by, app, _ = await enrolled()

    for step in range(2, 2 + 2 * rules.CODE_TRIES_MAX):
        clock.shift(timedelta(seconds=30 * step))
        await mfa.verify(by, app.at(clock.now()))


async def test_h13_a_recovery_code_works_once_whoever_sends_it_together(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    by, _, codes = await enrolled()
    monkeypatch.setattr(rules, "CODE_TRIES_MAX", 1_000)
    spoken = codes[3].upper().replace("-", "")

    done = await asyncio.gather(
        *(mfa.verify(by, spoken) for _ in range(20)), return_exceptions=True
    )

    assert done.count(None) == 1
    assert [type(one) for one in done if one is not None] == [TotpInvalid] * 19
    assert (await mfa.factors(by.account_id)).recovery_codes_left == 9
    actions = [
        row["action"] for row in await core.fetch("SELECT action FROM audit_log ORDER BY no")
    ]
    assert actions == ["mfa.enrolled", "mfa.recovery_used"]
    assert [one.letter for one in await owed()] == ["factors_changed"] * 2


async def test_h13_a_recovery_code_of_somebody_else_opens_nothing(db: None) -> None:
    _, _, codes = await enrolled()
    other = await identity.register("other@shop.test", PASSWORD)
    opened = await identity.sign_in("other@shop.test", PASSWORD, ADDRESS)

    with pytest.raises(TotpInvalid):
        await mfa.verify(By(other, opened.session_id, ADDRESS), codes[0])


async def test_fresh_recovery_codes_end_those_of_before(db: None) -> None:
    by, _, codes = await enrolled()

    fresh = await mfa.renew_codes(by)

    assert set(fresh) & set(codes) == set()
    with pytest.raises(TotpInvalid):
        await mfa.verify(by, codes[0])
    await mfa.verify(by, fresh[0])


async def test_a_sign_in_waits_for_its_factor(db: None) -> None:
    by, app, _ = await enrolled()
    before = await core.value("SELECT count(*) FROM session")
    with pytest.raises(MfaNeeded) as waits:
        await identity.sign_in(EMAIL, PASSWORD, ADDRESS)
    facts = waits.value.facts
    assert await core.value("SELECT count(*) FROM session") == before
    assert facts["factors"] == [Factor.TOTP, Factor.RECOVERY_CODE]
    assert facts["sign_in_token"] not in str(waits.value)

    with pytest.raises(TotpInvalid):
        await mfa.complete(facts["sign_in_token"], "000000", WHERE)
    opened = await mfa.complete(facts["sign_in_token"], app.at(clock.now()), WHERE)

    viewer = await identity.viewer(opened.token)
    assert viewer is not None
    assert (viewer.account_id, viewer.proof.acr, viewer.proof.has_factor) == (
        by.account_id,
        Acr.MFA,
        True,
    )
    clock.shift(timedelta(seconds=120))
    with pytest.raises(SignInExpired):  # one session
        await mfa.complete(facts["sign_in_token"], app.at(clock.now()), WHERE)


async def test_of_two_who_complete_together_one_gets_a_session(db: None) -> None:
    _, app, codes = await enrolled()
    token = await needs()

    done = await asyncio.gather(
        mfa.complete(token, app.at(clock.now()), WHERE),
        mfa.complete(token, codes[0], WHERE),
        return_exceptions=True,
    )

    assert sorted(type(one).__name__ for one in done) == ["SignIn", "SignInExpired"]
    assert await core.value("SELECT count(*) FROM session") == 2


async def test_a_half_is_over_after_five_minutes_and_with_another_password(db: None) -> None:
    by, app, codes = await enrolled()
    late, changed = await needs(), await needs()

    await identity.set_password(by.account_id, "another battery horse")
    with pytest.raises(SignInExpired):
        await mfa.complete(changed, codes[0], WHERE)
    clock.shift(timedelta(seconds=rules.HALF_SIGN_IN_S + 61))
    with pytest.raises(SignInExpired):
        await mfa.complete(late, app.at(clock.now()), WHERE)
    for nonsense in ("", "kami_h_", "x" * 50, "kami_h_" + "é" * 43):
        with pytest.raises(SignInExpired):
            await mfa.complete(nonsense, codes[0], WHERE)
    assert await core.value("SELECT count(*) FROM session") == 0
    assert (await mfa.factors(by.account_id)).recovery_codes_left == 10


async def test_a_wrong_password_never_tells_of_a_factor(db: None) -> None:
    await enrolled()

    with pytest.raises(CredentialsInvalid):
        await identity.sign_in(EMAIL, "wrong password", ADDRESS)
    assert await core.value("SELECT count(*) FROM half_sign_in") == 0


async def test_only_who_knows_the_password_enrols_and_only_once(db: None) -> None:
    by, app, _ = await enrolled()

    with pytest.raises(CredentialsInvalid):
        await mfa.enrol(by.account_id, "wrong password")
    with pytest.raises(FactorExists):
        await mfa.enrol(by.account_id, PASSWORD)
    with pytest.raises(FactorExists):
        await mfa.confirm(by, app.at(clock.now()))


async def test_switched_off_it_is_gone_with_its_codes(db: None) -> None:
    by, app, _ = await enrolled()

    await mfa.disable(by)

    assert await mfa.factors(by.account_id) == mfa.Factors(False, 0, [])
    await identity.sign_in(EMAIL, PASSWORD, ADDRESS)
    with pytest.raises(TotpInvalid):
        await mfa.verify(by, app.at(clock.now()))
    with pytest.raises(NotFound):
        await mfa.disable(by)


async def test_what_is_over_is_forgotten(db: None) -> None:
    await enrolled()
    await needs()
    assert await identity.prune() == 0

    await core.execute("UPDATE half_sign_in SET expires_at = clock_timestamp() - interval '1 s'")

    assert await identity.prune() == 1
    assert await core.value("SELECT count(*) FROM half_sign_in") == 0


async def test_h12_a_password_changed_during_the_other_half_opens_nothing(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    by, app, _ = await enrolled()
    token, look = await needs(), mfa.half_of

    async def look_and_change(token: str, where: From) -> object:
        found = await look(token, where)
        await identity.set_password(by.account_id, "another horse battery")
        return found

    monkeypatch.setattr(mfa, "half_of", look_and_change)
    with pytest.raises(SignInExpired):
        await mfa.complete(token, app.at(clock.now()), WHERE)

    assert await core.value("SELECT count(*) FROM session") == 0
