"""Signing in and out, and who the viewer is, through the GraphQL door."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from domain import identity, merchants
from domain.core import db as core
from domain.core import ids
from domain.core.errors import NotFound
from domain.identity import AccountKind, Forbidden, OperatorRole, Role, Unauthenticated
from domain.identity.rules import TRIES_PAIR_MAX
from resolvers import access
from resolvers.context import Context
from schema.build import build
from schema.node import NodeQuery
from schema.people import PeopleMutation, PeopleQuery
from server.graphql.door import Door
from server.graphql.request import Asked

EMAIL, PASSWORD, ADDRESS = "owner@shop.test", "correct horse battery", "203.0.113.9"
SIGN_IN = """
mutation ($input: SignInInput!) { signIn(input: $input) {
  __typename
  ... on Session { token expiresAt viewer { email } }
  ... on Problem { code message path retryable }
  ... on SignInThrottled { retryAfter }
} }
"""
VIEWER = """{ viewer {
  accountId email language isOperator operatorRoles
  memberships { merchantId merchantName role }
} }"""


@pytest.fixture(scope="module")
def door() -> Door:
    return Door(build([NodeQuery, PeopleQuery], [PeopleMutation]))


async def ask(
    door: Door, query: str, variables: dict[str, Any] | None = None, *, token: str | None = None
) -> dict[str, Any]:
    context = Context(request_id="test", address=ADDRESS, accept_language="es", user_agent="test/1")
    await door.admit(context, token)
    answer = await door.answer(Asked(query, variables=variables or {}), context)
    body: dict[str, Any] = orjson.loads(answer.body)
    return body


async def sign_in(door: Door, password: str = PASSWORD, email: str = EMAIL) -> dict[str, Any]:
    body = await ask(door, SIGN_IN, {"input": {"email": email, "password": password}})
    result: dict[str, Any] = body["data"]["signIn"]
    return result


async def test_sign_in_look_sign_out(db: None, door: Door) -> None:
    account_id = await identity.register(EMAIL, PASSWORD, locale="ja")
    merchant_id = await merchants.open_merchant(
        "Lantern", base_ccy="USD", country="SG", contact_email="shop@shop.test"
    )
    await identity.grant(merchant_id, account_id, Role.READ_ONLY)

    session = await sign_in(door)
    seen = await ask(door, VIEWER, token=session["token"])
    ended = await ask(
        door, "mutation { signOut { ... on SignedOut { ended } } }", token=session["token"]
    )

    assert (session["__typename"], session["viewer"]) == ("Session", {"email": EMAIL})
    assert seen["data"]["viewer"] == {
        "accountId": ids.encode("acc", account_id),
        "email": EMAIL,
        "language": "ja",
        "isOperator": False,
        "operatorRoles": [],
        "memberships": [
            {
                "merchantId": ids.encode("mer", merchant_id),
                "merchantName": "Lantern",
                "role": "READ_ONLY",
            }
        ],
    }
    assert ended["data"]["signOut"] == {"ended": True}
    with pytest.raises(Unauthenticated):
        await ask(door, VIEWER, token=session["token"])
    assert await core.value("SELECT user_agent FROM session") is None


async def test_an_operator_sees_its_roles(db: None, door: Door) -> None:
    account_id = await identity.register(EMAIL, PASSWORD, kind=AccountKind.OPERATOR)
    await identity.grant_operator(account_id, OperatorRole.SUPPORT, OperatorRole.RISK)

    session = await sign_in(door)
    viewer = (await ask(door, VIEWER, token=session["token"]))["data"]["viewer"]

    assert (viewer["isOperator"], viewer["operatorRoles"]) == (True, ["RISK", "SUPPORT"])
    assert viewer["memberships"] == []


async def test_a_guest_is_nobody_and_cannot_sign_out(db: None, door: Door) -> None:
    seen = await ask(door, VIEWER)
    refused = await ask(door, "mutation { signOut { ... on SignedOut { ended } } }")

    assert seen["data"] == {"viewer": None}
    assert refused["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_h11_refusals_have_the_same_words(db: None, door: Door) -> None:
    await identity.register(EMAIL, PASSWORD)

    wrong = await sign_in(door, "wrong password")
    unknown = await sign_in(door, PASSWORD, "nobody@shop.test")
    nonsense = await sign_in(door, PASSWORD, "no address\x00")

    assert wrong == unknown == nonsense
    assert wrong["code"] == "CREDENTIALS_INVALID"
    assert wrong["message"].startswith("El correo electrónico")
    assert (wrong["path"], wrong["retryable"]) == ([], False)


async def test_h09_aliases_count_as_tries(db: None, door: Door) -> None:
    await identity.register(EMAIL, PASSWORD)
    fields = " ".join(
        f'a{i}: signIn(input: {{email: "{EMAIL}", password: "wrong {i}"}}) {{ __typename }}'
        for i in range(4)
    )
    for _ in range(TRIES_PAIR_MAX // 4 + 1):
        await ask(door, f"mutation {{ {fields} }}")

    refused = await sign_in(door)

    assert (refused["__typename"], refused["code"], refused["retryable"]) == (
        "SignInThrottled",
        "THROTTLED",
        True,
    )
    assert 0 < refused["retryAfter"] <= 900


async def test_memberships_cost_one_statement(db: None, door: Door) -> None:
    account_id = await identity.register(EMAIL, PASSWORD)
    for _ in range(5):
        merchant_id = await merchants.open_merchant(
            "Lantern", base_ccy="USD", country="SG", contact_email="shop@shop.test"
        )
        await identity.grant(merchant_id, account_id, Role.OWNER)
    session = await sign_in(door)

    async with core.statements() as sent:
        body = await ask(door, VIEWER, token=session["token"])

    assert len(body["data"]["viewer"]["memberships"]) == 5
    assert len(sent) <= 1  # the viewer is kept; Tortoise's own statement is not counted


def signed_in(**facts: Any) -> Context:
    from datetime import UTC, datetime

    viewer = identity.Viewer(
        account_id=uuid4(),
        email=EMAIL,
        locale=None,
        session_id=uuid4(),
        expires_at=datetime(2030, 1, 1, tzinfo=UTC),
        **facts,
    )
    return Context(viewer=viewer)


MINE, OTHER = UUID(int=1), UUID(int=2)


@pytest.mark.parametrize(
    ("facts", "allowed", "refusal"),
    [
        ({"roles": {MINE: Role.OWNER}}, (Role.FINANCE,), None),
        ({"roles": {MINE: Role.FINANCE}}, (Role.FINANCE,), None),
        ({"roles": {MINE: Role.READ_ONLY}}, (), None),
        ({"roles": {MINE: Role.SUPPORT}}, (Role.FINANCE,), Forbidden),
        ({"roles": {OTHER: Role.OWNER}}, (), NotFound),
        ({"roles": {MINE: Role.FINANCE}}, (OperatorRole.FINANCE,), Forbidden),
        ({"operator": True}, (), Forbidden),
        (
            {"operator": True, "operator_roles": frozenset({OperatorRole.FINANCE})},
            (Role.FINANCE,),
            Forbidden,
        ),
        (
            {"operator": True, "operator_roles": frozenset({OperatorRole.FINANCE})},
            (Role.SUPPORT, OperatorRole.FINANCE),
            None,
        ),
        (
            {"operator": True, "operator_roles": frozenset({OperatorRole.ADMIN})},
            access.REFUNDERS,
            None,
        ),
    ],
)
def test_h01_rights_in_a_merchant(
    facts: dict[str, Any], allowed: tuple[Role | OperatorRole, ...], refusal: type[Exception] | None
) -> None:
    context = signed_in(**facts)

    if refusal is None:
        assert access.require_merchant(context, MINE, *allowed) is context.viewer
    else:
        with pytest.raises(refusal):
            access.require_merchant(context, MINE, *allowed)


def test_h01_guests_and_operators() -> None:
    guest, operator = Context(), signed_in(operator=True)

    with pytest.raises(Unauthenticated):
        access.require_merchant(guest, MINE)
    with pytest.raises(Unauthenticated):
        access.require_operator(guest)
    assert access.require_operator(operator) is operator.viewer
    with pytest.raises(Forbidden):
        access.require_operator(operator, OperatorRole.RISK)
    with pytest.raises(Forbidden):
        access.require_operator(signed_in(roles={MINE: Role.OWNER}))
    assert [access.may_see(context, MINE) for context in (guest, operator)] == [False, True]
    assert access.may_see(signed_in(roles={OTHER: Role.OWNER}), MINE) is False
