"""An account that moves to another address: through the GraphQL door, with the mails that it owes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import orjson
import pytest

from domain import identity, orders
from domain.core import db as core
from domain.core import ids
from domain.identity import Unauthenticated, rules
from schema.root import schema
from server.graphql.door import Door
from tests import make
from tests.api.second_factor import VERIFY as VERIFY_CODE
from tests.api.second_factor import protected, restore
from tests.api.test_accounts import EMAIL, ORDERS, PASSWORD, PROBLEM, ask, buyer, placed, told
from tests.letters import last_token, owed

NEW, OTHER = "new@shop.test", "other@shop.test"
CHANGE = f"""mutation ($input: ChangeEmailInput!, $key: String!) {{
  changeEmail(input: $input) @idempotent(key: $key) {{ __typename ... on LinkSent {{ email }} {PROBLEM} }} }}"""
CONFIRM = f"""mutation ($input: ConfirmEmailInput!) {{
  confirmEmail(input: $input) {{ __typename ... on EmailChanged {{ email }} {PROBLEM} }} }}"""
UNDO = f"""mutation ($input: UndoEmailInput!) {{
  undoEmailChange(input: $input) {{ __typename ... on EmailRestored {{ email device }} {PROBLEM} }} }}"""
VIEWER = "{ viewer { email isVerified sessions { id } } }"


@pytest.fixture(scope="module")
def door() -> Door:
    return Door(schema)


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    yield
    restore()


async def asked(door: Door, token: str, email: str, key: str = "k") -> tuple[str, str]:
    """The tokens that went to the new address and to the one of before."""
    given = {"email": email, "password": PASSWORD}
    answer = await told(door, CHANGE, token=token, input=given, key=key)
    assert answer == {"__typename": "LinkSent", "email": email}
    found = {one.letter: one.token for one in await owed() if one.token}  # the newest of each
    return found["email_change"], found["email_undo"]


async def confirmed(door: Door, link: str, password: str = PASSWORD) -> dict[str, Any]:
    return await told(door, CONFIRM, input={"token": link, "password": password})


async def numbers(door: Door, token: str) -> list[str]:
    page = (await ask(door, ORDERS, token=token, first=100))["data"]["viewer"]["orders"]
    return [node["number"] for node in page["nodes"]]


async def test_e19_h36_an_account_moves_and_keeps_what_it_bought(db: None, door: Door) -> None:
    shop = await make.shop()
    before = [await placed(shop, EMAIL) for _ in range(2)]
    waiting = await placed(shop, NEW)
    token = await buyer(door)
    elsewhere = (await identity.sign_in(EMAIL, PASSWORD, "198.51.100.7")).token

    new, _ = await asked(door, token, NEW)
    unchanged = (await ask(door, VIEWER, token=token))["data"]["viewer"]
    mails = {(one.letter, one.recipient) for one in await owed()}
    wrong = await confirmed(door, new, "wrong password")
    done = await confirmed(door, new)
    again = await confirmed(door, new)
    after = await placed(shop, EMAIL)
    moved = (await ask(door, VIEWER, token=token))["data"]["viewer"]
    found = await numbers(door, token)

    assert mails == {("verify", EMAIL), ("email_change", NEW), ("email_undo", EMAIL)}
    assert unchanged["email"] == EMAIL
    assert wrong["code"] == "CREDENTIALS_INVALID"
    assert done == {"__typename": "EmailChanged", "email": NEW}
    assert again["code"] == "LINK_INVALID"
    assert (moved["email"], moved["isVerified"], len(moved["sessions"])) == (NEW, True, 1)
    assert found == [one.number for one in (waiting, *reversed(before))]
    assert after.number not in found
    with pytest.raises(Unauthenticated):
        await ask(door, VIEWER, token=elsewhere)
    actions = await core.fetch("SELECT action FROM audit_log WHERE action LIKE 'account.email%'")
    assert [row["action"] for row in actions] == ["account.email_changed"]


async def test_e19_who_proves_a_left_address_gets_what_comes_later_only(
    db: None, door: Door
) -> None:
    """First holder: everything until it left. Second: what came between the two. First again: the rest."""
    shop = await make.shop()
    first = await buyer(door)
    one = await placed(shop, EMAIL)
    await confirmed(door, (await asked(door, first, NEW))[0])
    two = await placed(shop, EMAIL)  # nobody holds it now
    second = await buyer(door, OTHER)
    await confirmed(door, (await asked(door, second, EMAIL, "s1"))[0])
    three = await placed(shop, EMAIL)
    held_by_both = (await numbers(door, first), await numbers(door, second))
    await confirmed(door, (await asked(door, second, "third@shop.test", "s2"))[0])
    four = await placed(shop, EMAIL)
    await confirmed(door, (await asked(door, first, EMAIL, "f2"))[0])

    order = "query ($id: ID!) { order(id: $id) { number } }"
    public = [ids.encode("ord", each.id) for each in (one, two, three, four)]
    seen_by_first = [(await ask(door, order, token=first, id=i))["data"]["order"] for i in public]
    seen_by_second = [(await ask(door, order, token=second, id=i))["data"]["order"] for i in public]

    assert held_by_both == ([one.number], [three.number, two.number])
    assert await numbers(door, first) == [four.number, one.number]
    assert await numbers(door, second) == [three.number, two.number]
    assert [bool(each) for each in seen_by_first] == [True, False, False, True]
    assert [bool(each) for each in seen_by_second] == [False, True, True, False]


async def test_e19_orders_of_two_addresses_are_one_list_in_pages(db: None, door: Door) -> None:
    shop = await make.shop()
    token = await buyer(door)
    mine: list[orders.Order] = []
    for email in (EMAIL, NEW, EMAIL, NEW):
        mine.append(await placed(shop, email))
    await confirmed(door, (await asked(door, token, NEW))[0])

    found, after = [], None
    while True:
        answer = await ask(door, ORDERS, token=token, first=1, after=after)
        page = answer["data"]["viewer"]["orders"]
        found += [node["number"] for node in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break

    assert found == [one.number for one in reversed(mine)]


async def test_h36_undo_gives_the_address_back_and_forgets_what_came_meanwhile(
    db: None, door: Door
) -> None:
    """A thief who knows the password moves twice, and tries to keep the owner from taking it back."""
    shop = await make.shop()
    token = await buyer(door)
    mine = await placed(shop, EMAIL)
    new, undo = await asked(door, token, NEW)
    await confirmed(door, new)
    theirs = await placed(shop, NEW)
    third, undo_of_thief = await asked(door, token, "third@shop.test", "k2")
    await confirmed(door, third)
    fourth, _ = await asked(door, token, "fourth@shop.test", "k3")

    given = {"token": undo, "newPassword": "another good password"}
    back = await told(door, UNDO, input=given)
    dead = [
        await told(door, UNDO, input=given),
        await told(door, UNDO, input={**given, "token": undo_of_thief}),
        await confirmed(door, fourth, "another good password"),
    ]
    with pytest.raises(Unauthenticated):
        await ask(door, VIEWER, token=token)
    opened = await identity.sign_in(EMAIL, "another good password", "198.51.100.7")

    assert (back["__typename"], back["email"]) == ("EmailRestored", EMAIL)
    assert rules.is_token(back["device"], rules.DEVICE_PREFIX)
    assert [one["code"] for one in dead] == ["LINK_INVALID"] * 3
    assert await numbers(door, opened.token) == [mine.number]
    thief = await buyer(door, NEW)
    assert await numbers(door, thief) == [theirs.number]
    with pytest.raises(identity.CredentialsInvalid):
        await identity.sign_in(EMAIL, PASSWORD, "198.51.100.7")


async def test_h36_undo_works_before_the_change_is_done(db: None, door: Door) -> None:
    token = await buyer(door)
    new, undo = await asked(door, token, NEW)

    given = {"token": undo, "newPassword": "another good password"}
    back = await told(door, UNDO, input=given)
    late = await confirmed(door, new, "another good password")

    assert (back["__typename"], back["email"]) == ("EmailRestored", EMAIL)
    assert late["code"] == "LINK_INVALID"
    assert await core.value("SELECT count(*) FROM account WHERE email = $1", NEW) == 0


async def test_h11_an_address_with_an_account_is_told_in_its_own_mail_only(
    db: None, door: Door
) -> None:
    await buyer(door, OTHER)
    token = await buyer(door)
    found = []
    for key, email in (("k1", OTHER), ("k2", "free@shop.test")):
        given = {"email": email, "password": PASSWORD}
        body = await ask(door, CHANGE, token=token, input=given, key=key)
        del body["extensions"]["cost"]
        found.append(orjson.dumps(body).replace(email.encode(), b"ADDRESS"))
    (letter,) = [one for one in await owed() if one.letter == "email_taken"]
    assert letter.recipient == OTHER and letter.token is not None
    refused = await confirmed(door, letter.token)

    assert found[0] == found[1]
    assert refused["code"] == "LINK_INVALID"
    assert (await ask(door, VIEWER, token=token))["data"]["viewer"]["email"] == EMAIL


async def test_h11_an_address_that_was_taken_meanwhile_ends_like_a_used_link(
    db: None, door: Door
) -> None:
    token = await buyer(door)
    new, _ = await asked(door, token, NEW)
    await buyer(door, NEW)

    refused = await confirmed(door, new)

    assert refused["code"] == "LINK_INVALID"
    assert (await ask(door, VIEWER, token=token))["data"]["viewer"]["email"] == EMAIL
    assert await core.value("SELECT count(*) FROM address_left") == 0


async def test_h09_changing_an_address_takes_the_password_and_has_a_budget(
    db: None, door: Door
) -> None:
    token = await buyer(door)
    for place in range(rules.TRIES_PAIR_MAX):
        given = {"email": f"n{place}@shop.test", "password": "wrong password"}
        wrong = await told(door, CHANGE, token=token, input=given, key=f"k{place}")
        assert wrong["code"] == "CREDENTIALS_INVALID"
    given = {"email": NEW, "password": PASSWORD}
    refused = await told(door, CHANGE, token=token, input=given, key="last")
    nobody = await ask(door, CHANGE, input=given, key="guest")

    assert refused["code"] == "THROTTLED"
    assert nobody["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert [one.letter for one in await owed()] == ["verify"]


async def test_h10_with_a_second_factor_it_takes_a_proof_of_that(db: None) -> None:
    person = await protected()
    given = {"email": NEW, "password": PASSWORD}

    refused = await person.refusal(CHANGE, input=given, key="k")
    before = [one.letter for one in await owed()]
    await person.do(VERIFY_CODE, code=person.code())
    passed = await person.do(CHANGE, input=given, key="k2")

    assert refused["code"] == "MFA_REQUIRED"
    assert "email_change" not in before
    assert passed == {"__typename": "LinkSent", "email": NEW}


async def test_c10_a_change_repeated_under_its_key_sends_one_pair_of_mails(
    db: None, door: Door
) -> None:
    token = await buyer(door)
    given = {"email": NEW, "password": PASSWORD}

    first = await told(door, CHANGE, token=token, input=given, key="same")
    again = await told(door, CHANGE, token=token, input=given, key="same")
    same = await told(door, CHANGE, token=token, input={**given, "email": EMAIL}, key="k2")

    assert first == again
    assert sorted(one.letter for one in await owed()) == ["email_change", "email_undo", "verify"]
    assert (same["__typename"], same["path"]) == ("InvalidInput", ["input", "email"])


async def test_e19_reset_links_of_the_address_of_before_open_nothing(db: None, door: Door) -> None:
    token = await buyer(door)
    await identity.request_reset(EMAIL, "en", address=None)
    reset = await last_token()
    await confirmed(door, (await asked(door, token, NEW))[0])

    with pytest.raises(identity.LinkInvalid):
        await identity.reset_password(reset, "another good password", address=None)


async def test_an_address_never_proved_is_left_without_a_trace(db: None, door: Door) -> None:
    shop = await make.shop()
    order = await placed(shop, EMAIL)
    account_id: UUID = await identity.register(EMAIL, PASSWORD)
    token = (await identity.sign_in(EMAIL, PASSWORD, None)).token
    await confirmed(door, (await asked(door, token, NEW))[0])
    mine = await buyer(door)

    assert await numbers(door, token) == []
    assert await numbers(door, mine) == [order.number]
    assert await core.value("SELECT count(*) FROM address_left") == 0
    assert await core.value("SELECT email FROM account WHERE id = $1", account_id) == NEW
