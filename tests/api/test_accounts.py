"""Accounts, sessions, staff and a buyer's orders through the GraphQL door."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from domain import identity, orders
from domain.core import clock, ids, vault
from domain.core import db as core
from domain.core.once import request_hash
from domain.identity import Role, Unauthenticated
from resolvers.context import Context
from schema.root import schema
from server.graphql.door import Door
from server.graphql.request import Asked
from tests import make
from tests.database import as_owner
from tests.letters import last_token, owed

EMAIL, PASSWORD, ADDRESS = "buyer@shop.test", "correct horse battery", "203.0.113.9"
PROBLEM = "... on Problem { code message path retryable }"
SIGN_UP = f"""mutation ($input: SignUpInput!, $key: String!) {{
  signUp(input: $input) @idempotent(key: $key) {{ __typename ... on LinkSent {{ email }} {PROBLEM} }} }}"""
VERIFY = f"""mutation ($input: VerifyEmailInput!) {{
  verifyEmail(input: $input) {{ __typename ... on Session {{ token viewer {{ isVerified }} }} {PROBLEM} }} }}"""
RESET = f"""mutation ($email: String!, $key: String!) {{
  requestPasswordReset(email: $email) @idempotent(key: $key) {{
    __typename ... on LinkSent {{ email }} {PROBLEM} }} }}"""
ORDERS = """query ($first: Int!, $after: String) { viewer { isVerified orders(first: $first, after: $after) {
  nodes { id number goods { content } } pageInfo { hasNextPage endCursor } } } }"""
ORDER = "query ($id: ID!) { order(id: $id) { number goods { content } } node(id: $id) { id } }"


@pytest.fixture(scope="module")
def door() -> Door:
    return Door(schema)


async def ask(
    door: Door, query: str, *, token: str | None = None, language: str = "en", **variables: Any
) -> dict[str, Any]:
    context = Context(request_id="test", address=ADDRESS, accept_language=language)
    await door.admit(context, token)
    answer = await door.answer(Asked(query, variables=variables), context)
    body: dict[str, Any] = orjson.loads(answer.body)
    return body


async def told(door: Door, query: str, **variables: Any) -> dict[str, Any]:
    """The one field of a mutation."""
    body = await ask(door, query, **variables)
    assert "errors" not in body, body
    (found,) = body["data"].values()
    result: dict[str, Any] = found
    return result


async def buyer(door: Door, email: str = EMAIL) -> str:
    """An account with a proved address; its token."""
    await told(door, SIGN_UP, input={"email": email, "password": PASSWORD}, key=f"up-{email}")
    opened = await told(door, VERIFY, input={"token": await last_token(), "password": PASSWORD})
    assert opened["viewer"] == {"isVerified": True}
    token: str = opened["token"]
    return token


async def placed(shop: make.Shop, email: str) -> orders.Order:
    """An unpaid order of a guest with this contact."""
    order = await make.order(shop)
    await as_owner(
        "UPDATE orders SET email = $2, email_hash = $3 WHERE id = $1",
        order.id,
        email,
        vault.fingerprint("email", email),
    )
    order.email = email
    return order


async def test_h11_answers_are_the_same_bytes_for_every_address(db: None, door: Door) -> None:
    await buyer(door)
    found = []
    for place, email in enumerate((EMAIL, "new@shop.test")):
        for query, variables in (
            (SIGN_UP, {"input": {"email": email, "password": PASSWORD, "locale": "ja"}}),
            (RESET, {"email": email}),
        ):
            body = await ask(door, query, **variables, key=f"k{place}", language="es")
            del body["extensions"]["cost"]  # what is left in the caller's bucket
            found.append(orjson.dumps(body).replace(email.encode(), b"ADDRESS"))

    assert found[:2] == found[2:]
    assert [mail.letter for mail in await owed()][1:] == [
        "account_exists",
        "reset",
        "verify",
        "no_account",
    ]


async def test_c10_a_sign_up_repeated_under_its_key_sends_one_mail(db: None, door: Door) -> None:
    given: dict[str, Any] = {"input": {"email": EMAIL, "password": PASSWORD}, "key": "same"}

    first = await ask(door, SIGN_UP, **given)
    await asyncio.sleep(0)
    again = await ask(door, SIGN_UP, **given)
    other = await ask(
        door, SIGN_UP, input={"email": "x@shop.test", "password": PASSWORD}, key="same"
    )

    assert first["data"] == again["data"] == {"signUp": {"__typename": "LinkSent", "email": EMAIL}}
    assert again["extensions"]["idempotency"] == {"replayed": True}
    assert other["errors"][0]["extensions"]["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert len(await owed()) == 1


async def test_l27_a_key_keeps_nothing_that_tells_the_password(db: None, door: Door) -> None:
    given: dict[str, Any] = {"email": EMAIL, "password": PASSWORD}
    await told(door, SIGN_UP, input=given, key="same")

    other = await ask(door, SIGN_UP, input={**given, "password": PASSWORD + "!"}, key="same")
    kept = await core.value("SELECT request_hash FROM idempotency")

    assert other["errors"][0]["extensions"]["code"] == "IDEMPOTENCY_KEY_REUSED"
    asked = {**given, "locale": None}
    for form in (asked, {"input": asked}, {"field": "sign_up", "arguments": {"input": asked}}):
        assert kept != request_hash(form)
    sealed = vault.fingerprint("sign_up", PASSWORD).hex()
    assert kept == request_hash({**asked, "password": sealed})


async def test_j15_a_faulty_address_or_password_is_invalid_input(db: None, door: Door) -> None:
    for email, password, path in (
        ("a\r\n@shop.test", PASSWORD, ["input", "email"]),
        ("a@b@shop.test", PASSWORD, ["input", "email"]),
        (EMAIL, "short", ["input", "password"]),
    ):
        result = await told(
            door, SIGN_UP, input={"email": email, "password": password}, key=f"{email}{path}"[-9:]
        )
        assert (result["__typename"], result["path"]) == ("InvalidInput", path)
    assert await owed() == []


async def test_e19_a_proved_address_gathers_exactly_its_orders(db: None, door: Door) -> None:
    shop = await make.shop()
    mine = [await placed(shop, EMAIL) for _ in range(3)]
    others = [await placed(shop, email) for email in ("buyer+x@shop.test", "uyer@shop.test")]
    token = await buyer(door)

    first = (await ask(door, ORDERS, token=token, first=2))["data"]["viewer"]["orders"]
    second = (await ask(door, ORDERS, token=token, first=2, after=first["pageInfo"]["endCursor"]))[
        "data"
    ]["viewer"]["orders"]
    opened = await ask(door, ORDER, token=token, id=ids.encode("ord", mine[0].id))
    foreign = [
        await ask(door, ORDER, token=token, id=ids.encode("ord", order.id)) for order in others
    ]

    numbers = [node["number"] for node in first["nodes"] + second["nodes"]]
    assert numbers == [order.number for order in reversed(mine)]
    assert [first["pageInfo"]["hasNextPage"], second["pageInfo"]["hasNextPage"]] == [True, False]
    assert opened["data"]["order"]["number"] == mine[0].number
    assert opened["data"]["node"] is not None
    for answer in foreign:
        assert answer["data"] == {"order": None, "node": None}
        assert answer["errors"][0]["extensions"]["code"] == "NOT_FOUND"


async def test_e19_an_address_that_is_not_proved_shows_nothing(db: None, door: Door) -> None:
    shop = await make.shop()
    order = await placed(shop, EMAIL)
    await identity.register(EMAIL, PASSWORD)
    token = (await identity.sign_in(EMAIL, PASSWORD, ADDRESS)).token

    listed = await ask(door, ORDERS, token=token, first=10)
    opened = await ask(door, ORDER, token=token, id=ids.encode("ord", order.id))

    assert listed["data"]["viewer"]["isVerified"] is False
    assert listed["data"]["viewer"]["orders"]["nodes"] == []
    assert opened["data"] == {"order": None, "node": None}


async def test_e19_the_goods_are_shown_to_who_proved_the_address_under_audit(
    db: None, door: Door
) -> None:
    shop = await make.shop()
    order = await placed(shop, EMAIL)
    await core.execute(
        "UPDATE orders SET status = 'delivered', delivered_at = $2 WHERE id = $1",
        order.id,
        clock.now(),
    )
    await core.execute(
        "UPDATE card_key SET state = 'sold', order_id = $1, order_line_id ="
        " (SELECT id FROM order_line WHERE order_id = $1) WHERE id = (SELECT min(id::text)::uuid FROM card_key)",
        order.id,
    )
    token, other = await buyer(door), await buyer(door, "other@shop.test")

    theirs = await ask(door, ORDERS, token=other, first=10)
    mine = await ask(door, ORDERS, token=token, first=10)
    await ask(door, ORDERS, token=token, first=10)

    assert theirs["data"]["viewer"]["orders"]["nodes"] == []
    (node,) = mine["data"]["viewer"]["orders"]["nodes"]
    assert [good["content"][:4] for good in node["goods"]] == ["KEY-"]
    rows = await core.fetch(
        "SELECT actor_kind, actor_id FROM audit_log WHERE action = 'goods.reveal'"
    )
    account_id = await core.value("SELECT id FROM account WHERE email = $1", EMAIL)
    assert [tuple(row) for row in rows] == [("account", str(account_id))]


async def test_sessions_are_seen_and_ended(db: None, door: Door) -> None:
    token = await buyer(door)
    other = (await identity.sign_in(EMAIL, PASSWORD, "198.51.100.7", user_agent="phone")).token
    query = "{ viewer { sessions { id device address isCurrent } } }"

    seen = (await ask(door, query, token=token))["data"]["viewer"]["sessions"]
    revoke = "mutation ($id: ID!) { revokeSession(id: $id) { ... on SessionsEnded { count } " + (
        PROBLEM + " } }"
    )
    wrong = await told(door, revoke, token=token, id=ids.encode("ses", ids.uuid7()))
    ended = await told(door, revoke, token=token, id=seen[0]["id"])
    rest = await told(
        door,
        "mutation { revokeOtherSessions { ... on SessionsEnded { count } } }",
        token=token,
    )

    assert [(one["device"], one["address"], one["isCurrent"]) for one in seen] == [
        ("phone", "198.51.100.7", False),
        (None, ADDRESS, True),
    ]
    assert (wrong["code"], ended, rest) == ("NOT_FOUND", {"count": 1}, {"count": 0})
    with pytest.raises(Unauthenticated):
        await ask(door, query, token=other)


async def test_h09_a_hundred_aliased_tries_in_one_document_are_refused_or_counted(
    db: None, door: Door
) -> None:
    await identity.register(EMAIL, PASSWORD)

    def document(count: int) -> str:
        fields = "\n".join(
            f'a{i}: signIn(input: {{email: "{EMAIL}", password: "{i}"}}) {{ __typename }}'
            for i in range(count)
        )
        return f"mutation {{ {fields} }}"

    whole = await ask(door, document(100))
    untried = await core.value("SELECT coalesce(max(tries), 0) FROM sign_in_try")
    for _ in range(25):
        await ask(door, document(4))

    assert whole["errors"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
    assert untried == 0
    assert await core.value("SELECT max(tries) FROM sign_in_try") == 100


INVITE = f"""mutation ($input: InviteMemberInput!, $key: String!) {{
  inviteMember(input: $input) @idempotent(key: $key) {{
    __typename ... on Invitation {{ id email role }} {PROBLEM} }} }}"""
ACCEPT = f"""mutation ($input: AcceptInvitationInput!) {{
  acceptInvitation(input: $input) {{
    __typename ... on MemberChanged {{ member {{ accountId email role }} }} {PROBLEM} }} }}"""
ROLE = f"""mutation ($input: ChangeMemberRoleInput!) {{
  changeMemberRole(input: $input) {{
    __typename ... on MemberChanged {{ member {{ role }} }} {PROBLEM} }} }}"""
REMOVE = f"""mutation ($input: RemoveMemberInput!) {{
  removeMember(input: $input) {{
    __typename ... on MemberRemoved {{ accountId }} {PROBLEM} }} }}"""
STAFF = """query ($id: ID!) { merchant(id: $id) {
  id name members { email role } invitations { email role } } }"""


async def staff(role: Role, email: str, merchant: str) -> str:
    account_id = await identity.register(email, PASSWORD)
    await identity.grant(ids.decode(merchant, "mer"), account_id, role)
    return (await identity.sign_in(email, PASSWORD, ADDRESS)).token


async def test_an_owner_invites_changes_and_removes(db: None, door: Door) -> None:
    shop = await make.shop()
    merchant = ids.encode("mer", shop.merchant_id)
    owner = await staff(Role.OWNER, "owner@shop.test", merchant)
    given: dict[str, Any] = {
        "input": {"merchantId": merchant, "email": EMAIL, "role": "SUPPORT"},
        "key": "invite-1",
    }

    invited = await told(door, INVITE, token=owner, **given)
    again = await told(door, INVITE, token=owner, **given)
    waiting = (await ask(door, STAFF, token=owner, id=merchant))["data"]["merchant"]
    joined = await told(
        door, ACCEPT, input={"token": await last_token(), "password": PASSWORD}, language="ja"
    )
    account = joined["member"]["accountId"]
    member = (await identity.sign_in(EMAIL, PASSWORD, ADDRESS)).token
    seen = (await ask(door, STAFF, token=member, id=merchant))["data"]["merchant"]
    changed = await told(
        door,
        ROLE,
        token=owner,
        input={"merchantId": merchant, "accountId": account, "role": "FINANCE"},
    )
    removed = await told(
        door, REMOVE, token=owner, input={"merchantId": merchant, "accountId": account}
    )

    assert (invited["email"], invited["role"], again) == (EMAIL, "SUPPORT", invited)
    assert len(await owed()) == 1
    assert waiting["invitations"] == [{"email": EMAIL, "role": "SUPPORT"}]
    assert seen["members"] == [
        {"email": "owner@shop.test", "role": "OWNER"},
        {"email": EMAIL, "role": "SUPPORT"},
    ]
    assert seen["invitations"] == []
    assert (changed["member"], removed) == (
        {"role": "FINANCE"},
        {"__typename": "MemberRemoved", "accountId": account},
    )


async def test_h01_h03_staff_is_changed_by_an_owner_of_this_merchant_alone(
    db: None, door: Door
) -> None:
    shop, other = await make.shop(), await make.shop()
    merchant = ids.encode("mer", shop.merchant_id)
    owner = await staff(Role.OWNER, "owner@shop.test", merchant)
    finance = await staff(Role.FINANCE, "finance@shop.test", merchant)
    stranger = await staff(Role.OWNER, "stranger@shop.test", ids.encode("mer", other.merchant_id))
    viewer = await identity.viewer(owner)
    assert viewer is not None
    target = {"merchantId": merchant, "accountId": ids.encode("acc", viewer.account_id)}
    before = await core.fetch("SELECT * FROM membership ORDER BY no")

    for query, variables in (
        (INVITE, {"input": {"merchantId": merchant, "email": EMAIL, "role": "OWNER"}, "key": "k"}),
        (ROLE, {"input": {**target, "role": "READ_ONLY"}}),
        (REMOVE, {"input": target}),
    ):
        mine = await ask(door, query, token=finance, **variables)
        theirs = await told(door, query, token=stranger, **variables)
        assert mine["errors"][0]["extensions"]["code"] == "FORBIDDEN"
        assert theirs["code"] == "NOT_FOUND"
    hidden = await ask(door, STAFF, token=stranger, id=merchant)
    last = await told(door, REMOVE, token=owner, input=target)

    assert hidden["data"] == {"merchant": None}
    assert last["code"] == "LAST_OWNER"
    assert await core.fetch("SELECT * FROM membership ORDER BY no") == before
    assert await owed() == []


async def test_anyone_may_leave(db: None, door: Door) -> None:
    shop = await make.shop()
    merchant = ids.encode("mer", shop.merchant_id)
    await staff(Role.OWNER, "owner@shop.test", merchant)
    finance = await staff(Role.FINANCE, "finance@shop.test", merchant)
    viewer = await identity.viewer(finance)
    assert viewer is not None
    account = ids.encode("acc", viewer.account_id)

    left = await told(
        door, REMOVE, token=finance, input={"merchantId": merchant, "accountId": account}
    )

    assert left == {"__typename": "MemberRemoved", "accountId": account}
    with pytest.raises(Unauthenticated):
        await ask(door, STAFF, token=finance, id=merchant)
