"""What comes back: problems in the client's language, masked bugs, pages, scalars, places, stored answers."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import structlog

from domain.core.errors import Unavailable
from domain.identity import Role, Viewer
from server.graphql import masking, request
from tests.server import graphql_toy
from tests.server.graphql_client import Client

SECRET = b"secret-of-the-house"
MAKE = """
mutation($title: String!) { make(input: {title: $title}) {
  __typename
  ... on Problem { code message path retryable }
  ... on OutOfStock { available }
  ... on InvalidInput { problems { code path } }
} }
"""
MEMBER = Viewer(
    account_id=UUID(int=1),
    email="member@demo.test",
    locale="ja",
    session_id=UUID(int=2),
    expires_at=datetime.now(UTC) + timedelta(hours=1),
    roles={UUID(int=3): Role.OWNER},
)
NOBODY_YET = dataclasses.replace(MEMBER, roles={})


async def authenticate(token: str) -> Viewer | None:
    return {"member": MEMBER, "fresh": NOBODY_YET}.get(token)


async def test_a_refusal_is_a_member_of_the_union_with_its_facts(door: Client) -> None:
    reply = await door.ask(MAKE, title="none")

    assert reply.data["make"] == {
        "__typename": "OutOfStock",
        "code": "OUT_OF_STOCK",
        "message": "There is not enough stock left. Choose a smaller quantity or another item.",
        "path": [],
        "retryable": False,
        "available": 3,
    }
    assert graphql_toy.state.made == []


async def test_messages_are_in_the_language_of_the_request(door: Client) -> None:
    english = await door.ask(MAKE, title="none")
    chinese = await door.ask(MAKE, headers={"accept-language": "zh-CN,zh;q=0.9"}, title="none")

    assert english.data["make"]["code"] == chinese.data["make"]["code"]
    assert chinese.data["make"]["message"] != english.data["make"]["message"]
    assert chinese.extensions["context"]["language"] == "zh"


async def test_several_faulty_fields_are_listed(door: Client) -> None:
    made = (await door.ask(MAKE, title="faulty")).data["make"]

    assert made["__typename"] == "InvalidInput"
    assert made["code"] == "INVALID_INPUT"
    assert made["path"] == ["input", "title"]
    assert [problem["path"] for problem in made["problems"]] == [
        ["input", "title"],
        ["input", "count"],
    ]


async def test_j01_a_refused_value_with_a_path_becomes_invalid_input(door: Client) -> None:
    query = """mutation($p: MoneyInput) { make(input: {title: "x", price: $p}) {
        ... on InvalidInput { code path problems { code } } } }"""
    for price, path in (
        ({"amount": "0.001", "currency": "CNY"}, ["input", "price", "amount"]),
        ({"amount": "10.50", "currency": "JPY"}, ["input", "price", "amount"]),
        ({"amount": "-1", "currency": "USD"}, ["input", "price", "amount"]),
        ({"amount": "1", "currency": "USDT"}, ["input", "price", "currency"]),
    ):
        made = (await door.ask(query, p=price)).data["make"]
        assert made["path"] == path, price
        assert made["code"] == "INVALID_INPUT"
    assert graphql_toy.state.made == []


async def test_a_refusal_that_is_no_member_is_a_top_level_error(door: Client) -> None:
    reply = await door.ask(MAKE, title="unlisted")

    assert reply.status == 200
    assert reply.json["data"] is None
    assert reply.codes == ["PAYMENT_DECLINED"]
    assert reply.errors[0]["path"] == ["make"]


async def test_h42_a_bug_is_masked_and_logged_in_one_line(door: Client) -> None:
    masking._seen.clear()
    with structlog.testing.capture_logs() as lines:
        query = await door.ask("query Q { bug }")
        mutation = await door.ask(MAKE, title="bug")

    for reply in (query, mutation):
        assert reply.codes == ["INTERNAL_SERVER_ERROR"]
        assert SECRET not in reply.body
        assert b"Traceback" not in reply.body
        assert b"RuntimeError" not in reply.body
    bugs = [line for line in lines if line["event"] == "graphql.bug"]
    assert len(bugs) == 2
    assert bugs[0]["request_id"] == query.errors[0]["extensions"]["requestId"]
    assert (bugs[0]["operation"], bugs[0]["path"]) == ("Q", "bug")
    assert SECRET.decode() in bugs[0]["traceback"]


async def test_s08_many_bugs_in_one_operation_are_one_line_and_lines_are_bounded(
    door: Client,
) -> None:
    masking._seen.clear()
    aliases = " ".join(f"b{number}: bug" for number in range(30))
    with structlog.testing.capture_logs() as lines:
        reply = await door.ask("{ " + aliases + " }")
        for _ in range(50):
            await door.ask("{ bug }")

    assert len(reply.errors) == 30
    assert lines[0]["errors"] == 30
    assert len(lines) == 1 + masking.BUGS_PER_MINUTE


async def test_a_value_that_cannot_be_written_is_a_masked_bug(door: Client) -> None:
    masking._seen.clear()
    with structlog.testing.capture_logs() as lines:
        reply = await door.ask("{ unwritable }")

    assert reply.codes == ["INTERNAL_SERVER_ERROR"]
    assert [line["event"] for line in lines] == ["graphql.bug"]


async def test_a_database_that_is_away_at_the_door_is_unavailable() -> None:
    async def lost(token: str) -> Viewer | None:
        raise Unavailable()

    async def broken(token: str) -> Viewer | None:
        raise RuntimeError(SECRET.decode())

    headers = {"authorization": "Bearer x"}
    away = await Client(is_open=False, authenticate=lost).ask("{ here }", headers=headers)
    with structlog.testing.capture_logs() as lines:
        bug = await Client(is_open=False, authenticate=broken).ask("{ here }", headers=headers)

    assert (away.status, away.codes) == (503, ["UNAVAILABLE"])
    assert away.errors[0]["extensions"]["retryable"] is True
    assert (bug.status, bug.codes) == (500, ["INTERNAL_SERVER_ERROR"])
    assert SECRET not in bug.body
    assert len(lines) == 1


async def test_a_query_that_takes_too_long_is_given_up(
    door: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.graphql.door.QUERY_TIMEOUT_S", 0.05)
    reply = await door.ask("{ slow(seconds: 5) }")

    assert reply.codes == ["UNAVAILABLE"]
    assert reply.json["data"] is None


async def test_c14_who_may_call_is_checked_before_the_resolver() -> None:
    client = Client(is_open=False, authenticate=authenticate)

    guest = await client.ask("{ secret }")
    wrong = await client.ask("{ secret }", headers={"authorization": "Bearer member"})
    fresh = await client.ask("{ secret }", headers={"authorization": "Bearer fresh"})

    assert (guest.status, guest.codes) == (200, ["UNAUTHENTICATED"])
    assert wrong.data == {"secret": "for members"}
    assert fresh.codes == ["FORBIDDEN"]


@pytest.mark.parametrize(
    "value", ["Bearer nobody", "Bearer ", "Basic eDp5", "Bearer " + "x" * 9_000]
)
async def test_j18_a_token_that_is_not_good_is_401(value: str) -> None:
    client = Client(is_open=False, authenticate=authenticate)
    reply = await client.ask("{ here }", headers={"authorization": value})

    assert (reply.status, reply.codes) == (401, ["UNAUTHENTICATED"])
    assert "data" not in reply.json


async def test_our_own_pages_sign_in_by_cookie() -> None:
    client = Client(is_open=False, authenticate=authenticate)
    reply = await client.ask("{ secret }", headers={"cookie": "a=b; kami_session=member"})

    assert reply.data == {"secret": "for members"}


async def test_h14_a_cookie_that_is_over_makes_a_guest_and_is_taken_away() -> None:
    client = Client(is_open=False, authenticate=authenticate)
    stale = {"cookie": "kami_session=nobody"}
    reply = await client.ask("{ here }", headers=stale)
    both = await client.ask("{ here }", headers={**stale, "authorization": "Bearer nobody"})

    assert reply.data
    assert reply.headers["set-cookie"].startswith("kami_session=; Path=/; Max-Age=0; HttpOnly;")
    assert (both.status, both.codes) == (401, ["UNAUTHENTICATED"])
    assert "set-cookie" not in both.headers


def test_cookies_are_secure_outside_development() -> None:
    made = [request.set_cookie("a", "b", 60, is_secure=is_secure) for is_secure in (True, False)]

    assert made == [
        b"a=b; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure",
        b"a=b; Path=/; Max-Age=60; HttpOnly; SameSite=Lax",
    ]


async def test_rule_7_what_was_used_and_which_source_wins() -> None:
    client = Client(is_open=True, authenticate=authenticate)
    here = "{ here }"

    default = await client.ask(here)
    located = await client.ask(here, headers={"x-kami-from": "JP"})
    header = await client.ask(here, headers={"x-kami-from": "JP", "accept-language": "es"})
    viewer = await client.ask(
        here, headers={"authorization": "Bearer member", "accept-language": "es"}
    )
    directive = await client.ask(
        'query @inContext(country: "HK", language: "en") { here }',
        headers={
            "authorization": "Bearer member",
            "accept-language": "es",
            "x-kami-from": "JP",
        },
    )

    assert default.extensions["context"] == {
        "country": "US",
        "currency": "USD",
        "language": "en",
        "source": "DEFAULT",
    }
    assert located.extensions["context"] == {
        "country": "JP",
        "currency": "JPY",
        "language": "ja",
        "source": "GEOIP",
    }
    assert header.extensions["context"]["language"] == "es"
    assert viewer.extensions["context"]["language"] == "ja"
    assert directive.extensions["context"] == {
        "country": "HK",
        "currency": "HKD",
        "language": "en",
        "source": "EXPLICIT",
    }
    assert directive.data == {"here": "HK HKD en EXPLICIT 203.0.113.7"}


async def test_one_can_look_from_anywhere_by_the_address_bar(open_door: Client) -> None:
    reply = await open_door.get("query=%7B%20here%20%7D&from=SG")

    assert reply.extensions["context"]["country"] == "SG"


async def test_j29_countries_and_languages(door: Client) -> None:
    by_variable = (
        "query($c: CountryCode, $l: LanguageCode) @inContext(country: $c, language: $l) { here }"
    )
    for country in ("UK", "ZZ", "hk", "", "HKG"):
        literal = await door.ask(f'query @inContext(country: "{country}") {{ here }}')
        assert (literal.status, literal.codes) == (400, ["BAD_USER_INPUT"]), country
        variable = await door.ask(by_variable, c=country)
        assert variable.codes == ["BAD_USER_INPUT"], country
    fallback = await door.ask(by_variable, c="ES", l="xx")

    assert fallback.extensions["context"]["language"] == "es"
