"""Passkeys through the GraphQL door, answered by an authenticator in software."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from domain import identity
from domain.core import clock, ids
from domain.core import db as core
from domain.identity import Acr, passkeys, rules
from tests.api import second_factor as two
from tests.api.second_factor import EMAIL, PASSWORD, PROBLEM, Person, protected, signed_in
from tests.authenticator import Authenticator, b64, raw
from tests.letters import owed

START = f"""mutation ($token: String) {{ startPasskey(signInToken: $token) {{ __typename
  ... on PasskeyOptions {{ options }} {PROBLEM} }} }}"""
BEGIN = f"""mutation ($input: StartPasskeyRegistrationInput!) {{ startPasskeyRegistration(input: $input) {{
  __typename ... on PasskeyOptions {{ options }} {PROBLEM} }} }}"""
FINISH = f"""mutation ($input: FinishPasskeyRegistrationInput!) {{ finishPasskeyRegistration(input: $input) {{
  __typename ... on PasskeyAdded {{ passkey {{ id name isSynced cloned: clonedAt }} recoveryCodes }} {PROBLEM} }} }}"""
VERIFY = f"""mutation ($passkey: JSON!) {{ verifyPasskey(passkey: $passkey) {{
  __typename ... on StepUp {{ acr }} {PROBLEM} }} }}"""
SIGN_IN = f"""mutation ($input: SignInWithPasskeyInput!) {{ signInWithPasskey(input: $input) {{
  __typename ... on Session {{ token viewer {{ email }} }} {PROBLEM} }} }}"""
REMOVE = f"""mutation ($id: ID!) {{ removePasskey(id: $id) {{
  __typename ... on FactorOff {{ factors {{ recoveryCodesLeft }} }} {PROBLEM} }} }}"""
INVALID = {"code": "PASSKEY_INVALID", "path": []}


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    yield
    two.restore()


def authenticator(**how: Any) -> Authenticator:
    """One that belongs to our page."""
    return Authenticator(passkeys.origin(), passkeys.relying_party(), **how)


async def registered(person: Person, device: Authenticator, name: str = "phone") -> dict[str, Any]:
    """A passkey of the person on the device; the answer."""
    asked = await person.do(BEGIN, input={"password": PASSWORD})
    made = device.create(asked["options"])
    return await person.do(FINISH, input={"credential": made, "name": name})


async def with_passkey(**how: Any) -> tuple[Person, Authenticator]:
    """Somebody signed in whose passkey proved itself an hour ago."""
    person, device = await signed_in(), authenticator(**how)
    added = await registered(person, device)
    assert added["__typename"] == "PasskeyAdded", added
    await two.stale()
    return person, device


async def question(person: Person, token: str | None = None) -> dict[str, Any]:
    """Options for `device.get`."""
    asked = await person.do(START, token=token)
    options: dict[str, Any] = asked["options"]
    return options


def tampered(answer: dict[str, Any], **said: Any) -> dict[str, Any]:
    """The answer with other client data, signed for what was there before."""
    client = json.loads(raw(answer["response"]["clientDataJSON"])) | said
    response = answer["response"] | {"clientDataJSON": b64(json.dumps(client).encode())}
    return answer | {"response": response}


async def sessions() -> int:
    """How many there are."""
    count: int = await core.value("SELECT count(*) FROM session")
    return count


async def test_a_passkey_is_a_second_factor_and_brings_recovery_codes(db: None) -> None:
    person, device = await signed_in(), authenticator()
    asked = await person.do(BEGIN, input={"password": PASSWORD})
    added = await person.do(
        FINISH, input={"credential": device.create(asked["options"]), "name": " my phone "}
    )

    assert asked["options"]["rp"] == {"name": "Kami", "id": passkeys.relying_party()}
    assert asked["options"]["authenticatorSelection"]["residentKey"] == "required"
    assert added["passkey"]["name"] == "my phone"
    assert len(added["recoveryCodes"]) == 10
    half = await Person().do(two.SIGN_IN, input={"email": EMAIL, "password": PASSWORD})
    assert half["factors"] == ["PASSKEY", "RECOVERY_CODE"]
    token = half["signInToken"]
    answer = device.get(await question(Person(), token))
    whole = await Person().do(two.COMPLETE, input={"signInToken": token, "passkey": answer})
    assert whole["viewer"] == {"email": EMAIL}
    viewer = await identity.viewer(whole["token"])
    assert viewer is not None and viewer.proof.acr is Acr.PHISHING_RESISTANT
    again = await Person().do(two.COMPLETE, input={"signInToken": token, "passkey": answer})
    assert again["code"] == "SIGN_IN_EXPIRED"
    actions = await core.fetch("SELECT action FROM audit_log")
    assert [row["action"] for row in actions] == ["passkey.added"]
    assert [one.letter for one in await owed()] == ["factors_changed"]


async def test_a_passkey_alone_opens_a_session(db: None) -> None:
    _, device = await with_passkey()
    options = await question(Person())

    opened = await Person().do(SIGN_IN, input={"passkey": device.get(options)})

    assert options["allowCredentials"] == []
    assert options["userVerification"] == "required"
    assert opened["viewer"] == {"email": EMAIL}
    viewer = await identity.viewer(opened["token"])
    assert viewer is not None and viewer.proof.acr is Acr.PHISHING_RESISTANT


async def test_without_user_verification_it_is_a_second_factor_only(db: None) -> None:
    person, device = await with_passkey(verifies=False)
    before = await sessions()

    alone = await Person().do(SIGN_IN, input={"passkey": device.get(await question(Person()))})
    beside = await person.do(VERIFY, passkey=device.get(await question(person)))

    assert alone == {"__typename": "PasskeyInvalid", **INVALID}
    assert await sessions() == before
    assert beside == {"__typename": "StepUp", "acr": "MFA"}


async def test_h21_a_passkey_steps_the_session_up(db: None) -> None:
    person, device = await with_passkey()
    refused = await person.refusal(two.DISABLE)

    proved = await person.do(VERIFY, passkey=device.get(await question(person)))
    done = await person.do(two.DISABLE)

    assert refused["code"] == "MFA_REQUIRED"
    assert proved == {"__typename": "StepUp", "acr": "PHR"}
    assert done["code"] == "NOT_FOUND"  # there is no app to switch off


async def test_a_challenge_is_answered_once_right_or_wrong(db: None) -> None:
    person, device = await with_passkey()
    options = await question(person)
    answer = device.get(options)

    assert (await person.do(VERIFY, passkey=answer))["__typename"] == "StepUp"
    assert (await person.do(VERIFY, passkey=answer))["code"] == "PASSKEY_INVALID"
    fresh = device.get(options)  # signed anew, counted on, for the old question
    assert (await person.do(VERIFY, passkey=fresh))["code"] == "PASSKEY_INVALID"
    other = await question(person)
    wrong = tampered(device.get(other), origin="https://evil.test")
    assert (await person.do(VERIFY, passkey=wrong))["code"] == "PASSKEY_INVALID"
    assert (await person.do(VERIFY, passkey=device.get(other)))["code"] == "PASSKEY_INVALID"


async def test_of_twenty_who_send_one_answer_one_gets_in(db: None) -> None:
    _, device = await with_passkey()
    answer = device.get(await question(Person()))
    before = await sessions()

    done = await asyncio.gather(
        *(Person().do(SIGN_IN, input={"passkey": answer}) for _ in range(20))
    )

    assert sorted(one["__typename"] for one in done) == ["PasskeyInvalid"] * 19 + ["Session"]
    assert await sessions() == before + 1


async def test_an_answer_from_another_page_is_refused(db: None) -> None:
    person, device = await with_passkey()
    evil = device.cloned()
    evil.origin = "https://evil.test"
    elsewhere = device.cloned()
    elsewhere.rp_id = "evil.test"

    for other in (evil, elsewhere):
        refused = await person.do(VERIFY, passkey=other.get(await question(person)))
        assert refused == {"__typename": "PasskeyInvalid", **INVALID}
    assert (await person.do(VERIFY, passkey=_ahead(device).get(await question(person))))[
        "__typename"
    ] == "StepUp"


def _ahead(device: Authenticator) -> Authenticator:
    device.count += 10
    return device


async def test_a_changed_answer_is_refused_and_blocks_nothing(db: None) -> None:
    person, device = await with_passkey()
    answer = device.get(await question(person))
    data = bytearray(raw(answer["response"]["authenticatorData"]))
    data[-1] = 0  # a lower counter, but the signature does not cover it
    forged = answer | {"response": answer["response"] | {"authenticatorData": b64(bytes(data))}}

    refused = await person.do(VERIFY, passkey=forged)

    assert refused["code"] == "PASSKEY_INVALID"
    assert await core.value("SELECT cloned_at FROM passkey") is None


async def test_a_counter_that_goes_back_puts_the_passkey_out_of_use(db: None) -> None:
    person, device = await with_passkey()
    copied = device.cloned()
    assert (await person.do(VERIFY, passkey=device.get(await question(person))))["acr"] == "PHR"

    stolen = await Person().do(SIGN_IN, input={"passkey": copied.get(await question(Person()))})
    own = await Person().do(SIGN_IN, input={"passkey": device.get(await question(Person()))})

    assert stolen["code"] == own["code"] == "PASSKEY_INVALID"
    [held] = (await person.ask(two.FACTORS))["data"]["mfa"]["passkeys"]
    assert held["clonedAt"] is not None
    actions = [
        row["action"] for row in await core.fetch("SELECT action FROM audit_log ORDER BY no")
    ]
    assert actions == ["passkey.added", "passkey.cloned"]
    assert [one.letter for one in await owed()] == ["factors_changed"] * 2


async def test_a_passkey_that_does_not_count_works_again_and_again(db: None) -> None:
    person, device = await with_passkey(counts=False)

    for _ in range(3):
        done = await person.do(VERIFY, passkey=device.get(await question(person)))
        assert done["__typename"] == "StepUp"


async def test_a_passkey_of_somebody_else_proves_nothing(db: None) -> None:
    person, _ = await with_passkey()
    other, theirs = await signed_in("other@shop.test"), authenticator()
    await registered(other, theirs)

    options = await question(person)
    refused = await person.do(VERIFY, passkey=theirs.get(options))
    borrowed = await other.do(VERIFY, passkey=theirs.get(await question(person)))
    half = await Person().do(two.SIGN_IN, input={"email": EMAIL, "password": PASSWORD})
    token = half["signInToken"]
    crossed = await Person().do(
        two.COMPLETE,
        input={"signInToken": token, "passkey": theirs.get(await question(Person(), token))},
    )

    assert refused["code"] == borrowed["code"] == crossed["code"] == "PASSKEY_INVALID"


async def test_a_user_handle_of_somebody_else_is_refused(db: None) -> None:
    _, device = await with_passkey()
    device.user_handle = bytes(16)

    refused = await Person().do(SIGN_IN, input={"passkey": device.get(await question(Person()))})

    assert refused["code"] == "PASSKEY_INVALID"


async def test_the_answer_to_one_kind_of_question_fits_no_other(db: None) -> None:
    person, device = await with_passkey()

    for_session = device.get(await question(person))
    as_sign_in = await Person().do(SIGN_IN, input={"passkey": for_session})
    for_sign_in = device.get(await question(Person()))
    as_session = await person.do(VERIFY, passkey=for_sign_in)

    assert as_sign_in["code"] == as_session["code"] == "PASSKEY_INVALID"


async def test_a_question_is_over_after_five_minutes(db: None) -> None:
    person, device = await with_passkey()
    answer = device.get(await question(person))

    clock.shift(timedelta(seconds=rules.CHALLENGE_S + 1))

    assert (await person.do(VERIFY, passkey=answer))["code"] == "PASSKEY_INVALID"


@pytest.mark.parametrize(
    "nonsense",
    [
        {},
        [],
        "text",
        {"response": None},
        {"response": {"clientDataJSON": "!"}},
        {"response": {"clientDataJSON": b64(b"{}")}},
        {"response": {"clientDataJSON": b64(b'{"type":"webauthn.get","challenge":5,"origin":1}')}},
    ],
)
async def test_nonsense_is_refused_in_the_same_words(db: None, nonsense: Any) -> None:
    person = await signed_in()

    signing = await Person().do(SIGN_IN, input={"passkey": nonsense})
    adding = await person.do(FINISH, input={"credential": nonsense, "name": "key"})

    assert signing == adding == {"__typename": "PasskeyInvalid", **INVALID}


@pytest.mark.parametrize("part", ["id", "response.authenticatorData", "response.signature"])
async def test_a_broken_part_is_refused_in_the_same_words(db: None, part: str) -> None:
    person, device = await with_passkey()
    answer = device.get(await question(person))
    holder = answer["response"] if "." in part else answer
    for broken in ("", "AA", 5, None):
        holder[part.rpartition(".")[2]] = broken
        refused = await person.do(VERIFY, passkey=answer)
        assert refused == {"__typename": "PasskeyInvalid", **INVALID}
        renewed = device.get(await question(person))
        answer, holder = renewed, renewed["response"] if "." in part else renewed


async def test_adding_takes_the_password_and_a_proof_of_what_is_there(db: None) -> None:
    person = await protected()
    device = authenticator()

    wrong = await (await signed_in("other@shop.test")).do(
        BEGIN, input={"password": "wrong password"}
    )
    refused = await person.refusal(BEGIN, input={"password": PASSWORD})
    await person.do(two.VERIFY, code=person.code())
    added = await registered(person, device)

    assert wrong["code"] == "CREDENTIALS_INVALID"
    assert refused["code"] == "MFA_REQUIRED"
    assert added["recoveryCodes"] == []  # those of the app stay


async def test_the_same_key_is_not_added_twice(db: None) -> None:
    person, device = await with_passkey()
    await person.do(VERIFY, passkey=device.get(await question(person)))
    asked = await person.do(BEGIN, input={"password": PASSWORD})

    again = await person.do(
        FINISH, input={"credential": device.create(asked["options"]), "name": "again"}
    )

    assert [one["id"] for one in asked["options"]["excludeCredentials"]] == [
        b64(device.credential_id)
    ]
    assert again["code"] == "PASSKEY_INVALID"


async def test_removed_it_is_gone_with_the_codes_of_nothing(db: None) -> None:
    person, device = await with_passkey()
    [held] = (await person.ask(two.FACTORS))["data"]["mfa"]["passkeys"]
    refused = await person.refusal(REMOVE, id=held["id"])
    await person.do(VERIFY, passkey=device.get(await question(person)))

    foreign = await person.do(REMOVE, id=ids.encode("pky", ids.uuid7()))
    done = await person.do(REMOVE, id=held["id"])

    assert refused["code"] == "MFA_REQUIRED"
    assert foreign["code"] == "NOT_FOUND"
    assert done["factors"] == {"recoveryCodesLeft": 0}
    gone = await Person().do(SIGN_IN, input={"passkey": device.get(await question(Person()))})
    assert gone["code"] == "PASSKEY_INVALID"


async def test_a_closed_account_has_no_passkeys(db: None) -> None:
    _, device = await with_passkey()
    account = await identity.account_by_email(EMAIL)
    assert account is not None
    await identity.close(account.id)

    refused = await Person().do(SIGN_IN, input={"passkey": device.get(await question(Person()))})

    assert refused["code"] == "PASSKEY_INVALID"
    assert await sessions() == 0


async def test_questions_are_counted_per_address(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "TRIES_ADDRESS_MAX", 3)

    for _ in range(3):
        await question(Person())

    assert (await Person().do(START))["code"] == "THROTTLED"
