"""Second factors and step-up through the GraphQL door."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from graphql import GraphQLObjectType

from domain import identity
from domain.core import db as core
from domain.core import ids
from domain.core.settings import Settings, settings
from domain.identity import AccountKind, OperatorRole, Role
from resolvers import stepup
from schema.root import schema
from tests import make, rows
from tests.api import second_factor as two
from tests.api.second_factor import EMAIL, PASSWORD, Person, protected, signed_in
from tests.database import as_owner

INVITE = """mutation ($input: InviteMemberInput!) { inviteMember(input: $input) @idempotent(key: "k1") {
  __typename ... on Invitation { email } ... on Problem { code path } } }"""
REFUND = """mutation ($input: RequestRefundInput!) { requestRefund(input: $input) @idempotent(key: "k2") {
  __typename ... on Problem { code } } }"""
PROPOSE = """mutation ($input: ProposeManualPaymentInput!) {
  proposeManualPayment(input: $input) @idempotent(key: "k3") { __typename ... on Problem { code } } }"""
STALE = {"code": "MFA_REQUIRED", "acrValues": ["mfa", "phr"], "maxAge": 900, "mustEnrol": False}


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    yield
    two.restore()


async def owner() -> tuple[Person, UUID]:
    """The owner of a shop, signed in."""
    shop = await make.shop()
    person = await signed_in()
    account = await identity.account_by_email(EMAIL)
    assert account is not None
    await identity.grant(shop.merchant_id, account.id, Role.OWNER)
    return person, shop.merchant_id


def invitation(merchant_id: UUID) -> dict[str, Any]:
    return {
        "merchantId": ids.encode("mer", merchant_id),
        "email": "new@shop.test",
        "role": "SUPPORT",
    }


def demand(monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    changed: Settings = settings().model_copy(update=values)
    monkeypatch.setattr(stepup, "settings", lambda: changed)


async def test_enrol_confirm_and_sign_in_with_a_code(db: None) -> None:
    person = await signed_in()

    made = await person.do(two.ENROL, input={"password": PASSWORD})
    assert made["qrSvg"].startswith("<svg ") and made["qrSvg"].endswith("</svg>")
    await protected(person)
    half = await Person().do(two.SIGN_IN, input={"email": EMAIL, "password": PASSWORD})
    wrong = await Person().do(
        two.COMPLETE, input={"signInToken": half["signInToken"], "code": "000000"}
    )
    whole = await Person().do(
        two.COMPLETE, input={"signInToken": half["signInToken"], "code": person.code()}
    )

    assert (half["__typename"], half["code"], half["factors"]) == (
        "MfaRequired",
        "MFA_REQUIRED",
        ["TOTP", "RECOVERY_CODE"],
    )
    assert "token" not in half
    assert wrong == {"__typename": "TotpInvalid", "code": "TOTP_INVALID", "path": ["code"]}
    assert whole["viewer"] == {"email": EMAIL}
    seen = await Person(whole["token"]).ask(two.FACTORS)
    assert seen["data"]["mfa"] == {"hasTotp": True, "recoveryCodesLeft": 10, "passkeys": []}


async def test_the_token_of_a_half_is_no_session(db: None) -> None:
    await protected()
    half = await Person().do(two.SIGN_IN, input={"email": EMAIL, "password": PASSWORD})

    with pytest.raises(identity.Unauthenticated):
        await Person(half["signInToken"]).ask(two.FACTORS)


async def test_completing_takes_exactly_one_proof(db: None) -> None:
    await protected()
    half = await Person().do(two.SIGN_IN, input={"email": EMAIL, "password": PASSWORD})

    for more in ({}, {"code": "000000", "passkey": {}}):
        refused = await Person().do(
            two.COMPLETE, input={"signInToken": half["signInToken"], **more}
        )
        assert refused["__typename"] == "InvalidInput"
    nonsense = await Person().do(
        two.COMPLETE, input={"signInToken": half["signInToken"], "passkey": [1]}
    )
    assert nonsense["code"] == "PASSKEY_INVALID"


async def test_h21_a_stale_proof_asks_again_and_nothing_happens_before(db: None) -> None:
    person, merchant_id = await owner()
    await protected(person)
    before = await rows.everything(but=("session",))

    refused = await person.refusal(INVITE, input=invitation(merchant_id))
    after = await rows.everything(but=("session",))
    proved = await person.do(two.VERIFY, code=person.code())
    done = await person.do(INVITE, input=invitation(merchant_id))

    assert refused == STALE
    assert rows.changed(before, after) == set()
    assert (proved["__typename"], proved["acr"]) == ("StepUp", "MFA")
    assert done == {"__typename": "Invitation", "email": "new@shop.test"}
    await two.stale()
    assert await person.refusal(INVITE, input=invitation(merchant_id)) == STALE  # a replay too


async def test_h21_a_session_of_a_password_alone_is_not_enough(db: None) -> None:
    person, merchant_id = await owner()
    first = Person(
        (await Person().do(two.SIGN_IN, input={"email": EMAIL, "password": PASSWORD}))["token"]
    )
    await protected(person)
    await person.do(two.VERIFY, code=person.code())

    # Signed in before the app was there: fresh, but it proved less.
    await core.execute("UPDATE session SET auth_at = clock_timestamp()")
    identity.forget_viewers()

    assert await first.refusal(INVITE, input=invitation(merchant_id)) == STALE
    assert (await person.do(INVITE, input=invitation(merchant_id)))["__typename"] == "Invitation"


async def test_h21_another_process_that_keeps_an_old_viewer_sees_a_new_proof(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, merchant_id = await owner()
    await protected(person)
    await person.ask(two.FACTORS)  # kept for four seconds

    await core.execute("UPDATE session SET acr = 'mfa', auth_at = clock_timestamp()")

    assert (await person.do(INVITE, input=invitation(merchant_id)))["__typename"] == "Invitation"


async def test_without_a_factor_it_depends_on_the_setting(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, merchant_id = await owner()

    demand(monkeypatch, mfa_required=True)
    refused = await person.refusal(INVITE, input=invitation(merchant_id))
    demand(monkeypatch, mfa_required=None)
    done = await person.do(INVITE, input=invitation(merchant_id))

    assert refused == {**STALE, "mustEnrol": True}
    assert done["__typename"] == "Invitation"


@pytest.mark.parametrize(
    ("env", "said", "demanded"),
    [
        ("production", None, True),
        ("production", False, False),
        ("development", None, False),
        ("development", True, True),
        ("test", None, False),
    ],
)
def test_production_demands_a_factor_unless_told_otherwise(
    env: str, said: bool | None, demanded: bool
) -> None:
    found = settings().model_copy(update={"env": env, "mfa_required": said})

    assert found.must_enrol is demanded


async def test_where_it_is_demanded_somebody_new_can_still_enrol(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, merchant_id = await owner()
    demand(monkeypatch, mfa_required=True)

    await protected(person)
    await person.do(two.VERIFY, code=person.code())

    assert (await person.do(INVITE, input=invitation(merchant_id)))["__typename"] == "Invitation"


async def test_switching_off_takes_a_fresh_proof(db: None) -> None:
    person = await protected()

    refused = await person.refusal(two.DISABLE)
    await person.do(two.VERIFY, code=person.codes[0])
    done = await person.do(two.DISABLE)

    assert refused == STALE
    assert done["factors"] == {"hasTotp": False, "recoveryCodesLeft": 0}
    again = await Person().do(two.SIGN_IN, input={"email": EMAIL, "password": PASSWORD})
    assert again["__typename"] == "Session"


async def test_a_large_refund_takes_a_proof_a_small_one_does_not(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, merchant_id = await owner()
    await protected(person)
    order_id = await _order_of(merchant_id)
    await as_owner(
        "UPDATE orders SET captured_minor = 10000, returned_minor = 300, total_minor = 10000 WHERE id = $1",
        order_id,
    )
    demand(monkeypatch, refund_step_up_minor=1_000)

    def asked(amount: str | None) -> dict[str, Any]:
        money = {"amount": amount, "currency": "USD"} if amount else None
        return {"orderId": ids.encode("ord", order_id), "amount": money}

    # 3.00 went back before: 7.00 more is the limit itself.
    small = await person.do(REFUND, input=asked("7.00"))
    assert small["code"] != "MFA_REQUIRED"
    assert await person.refusal(REFUND, input=asked("7.01")) == STALE
    assert await person.refusal(REFUND, input=asked(None)) == STALE
    await person.do(two.VERIFY, code=person.code())
    assert (await person.do(REFUND, input=asked("7.01")))["code"] != "MFA_REQUIRED"


async def _order_of(merchant_id: UUID) -> UUID:
    row = await core.row(
        "SELECT s.id AS shop_id, s.handle, p.id AS product_id, v.id AS variant_id FROM shop s"
        " JOIN product p ON p.shop_id = s.id JOIN variant v ON v.product_id = p.id"
        " WHERE s.merchant_id = $1",
        merchant_id,
    )
    assert row is not None
    shop = make.Shop(
        merchant_id,
        row["shop_id"],
        row["handle"],
        row["product_id"],
        row["variant_id"],
        make.HUNDRED,
    )
    return (await make.order(shop)).id


async def test_a_manual_payment_takes_a_proof(db: None) -> None:
    shop = await make.shop()
    order = await make.order(shop)
    account_id = await identity.register(EMAIL, PASSWORD, kind=AccountKind.OPERATOR)
    await identity.grant_operator(account_id, OperatorRole.FINANCE)
    opened = await identity.sign_in(EMAIL, PASSWORD, two.ADDRESS)
    person = await protected(Person(opened.token))
    asked = {"orderId": ids.encode("ord", order.id), "reason": "bank", "evidence": "line 7"}

    refused = await person.refusal(PROPOSE, input=asked)
    assert await core.value("SELECT count(*) FROM approval") == 0
    await person.do(two.VERIFY, code=person.code())
    done = await person.do(PROPOSE, input=asked)

    assert refused == STALE
    assert done["__typename"] == "Approval"


async def test_a_right_comes_before_a_proof(db: None) -> None:
    _, merchant_id = await owner()

    assert (await Person().refusal(INVITE, input=invitation(merchant_id)))[
        "code"
    ] == "UNAUTHENTICATED"
    stranger = await signed_in("stranger@shop.test")
    assert (await stranger.refusal(INVITE, input=invitation(merchant_id)))["code"] == "FORBIDDEN"


def test_what_takes_a_proof_says_so_in_the_contract() -> None:
    mutation = schema._schema.mutation_type
    assert isinstance(mutation, GraphQLObjectType)
    sdl = str(schema)

    assert "directive @requiresAcr(acr: String!, maxAge: Int!) on FIELD_DEFINITION" in sdl
    marked = {
        name
        for name, field in mutation.fields.items()
        if any(
            extension.step_up is not None
            for extension in field.extensions["strawberry-definition"].extensions
            if hasattr(extension, "step_up")
        )
    }
    assert sdl.count('@requiresAcr(acr: "mfa", maxAge: 900)') == len(marked)
    assert marked == {
        *("proposeManualPayment", "approveManualPayment", "closeMoneyException"),
        *("proposeManualRefund", "approveManualRefund"),
        *("proposeGoodsExport", "approveGoodsExport"),
        *("proposeProviderAccount", "proposeProviderAccountRemoval"),
        *("acknowledgeAlert", "plantHoneyKeys", "traceKey"),
        *("approveChange", "proposePayoutMethod", "proposePayoutMethodRemoval"),
        *("inviteMember", "changeMemberRole", "removeMember"),
        *("createWebhookEndpoint", "updateWebhookEndpoint", "rotateWebhookSecret"),
        *("createApp", "updateApp", "rotateAppSecret", "grantApp"),
        *("disableMfa", "renewRecoveryCodes", "removePasskey"),
    }
