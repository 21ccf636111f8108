"""Values in and out: scalars, pages, ids, and answers that are stored under an idempotency key."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from server.graphql import masking
from tests.server import graphql_toy
from tests.server.graphql_client import Client
from tests.server.test_graphql_answers import authenticate


async def test_j03_and_j20_values_that_do_not_fit_are_bad_user_input(door: Client) -> None:
    cases: list[tuple[str, str, Any]] = [
        ("Int", "no", 2**31),
        ("Int", "no", 1.5),
        ("Int", "no", "1"),
        ("Int", "no", True),
        ("BigInt", "big", "1e3"),
        ("BigInt", "big", "9" * 39),
        ("BigInt", "big", "\u0661"),
        ("DateTime", "at", "0000-00-00T00:00:00Z"),
        ("DateTime", "at", "9999-99-99T00:00:00Z"),
        ("DateTime", "at", "2026-11-01"),
        ("DateTime", "at", "2026-11-01T00:00:00"),
        ("DateTime", "at", "0001-01-01T00:00:00+23:59"),
        ("DateTime", "at", "2026-11-01T12:00:00Z\n"),
        ("LanguageCode", "language", "x"),
        ("LanguageCode", "language", "en;q=1"),
        ("JSON", "json", [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]),
        ("CountryCode", "country", 7),
    ]
    for kind, name, value in cases:
        field = "toy(no: $v) { no }" if name == "no" else f"echo({name}: $v)"
        reply = await door.ask(f"query($v: {kind}) {{ {field} }}", v=value)
        assert (reply.status, reply.codes) == (400, ["BAD_USER_INPUT"]), (kind, value)


@pytest.mark.parametrize(
    "amount",
    [
        "1,00",
        "+1",
        "1e2",
        "NaN",
        "1e309",
        "\u0661",
        "1_0",
        " 1",
        "",
        "01",
        ".5",
        "5.",
        "9" * 41,
        1,
        1.5,
    ],
)
async def test_j01_amounts_that_are_no_decimal_are_bad_user_input(
    door: Client, amount: Any
) -> None:
    query = """mutation($a: Decimal!) {
        make(input: {title: "x", price: {amount: $a, currency: "USD"}}) { __typename } }"""
    reply = await door.ask(query, a=amount)

    assert reply.codes == ["BAD_USER_INPUT"]
    assert graphql_toy.state.made == []


@pytest.mark.parametrize("currency", ["cny", "XXX", "", "US", "DOLLARS"])
async def test_j02_currencies_that_do_not_exist_are_bad_user_input(
    door: Client, currency: str
) -> None:
    query = """mutation($c: CurrencyCode!) {
        make(input: {title: "x", price: {amount: "1", currency: $c}}) { __typename } }"""

    assert (await door.ask(query, c=currency)).codes == ["BAD_USER_INPUT"]


async def test_scalars_are_exact_both_ways(door: Client) -> None:
    reply = await door.ask(
        "query($b: BigInt, $a: DateTime, $j: JSON) { echo(big: $b, at: $a, json: $j) }",
        b="99999999999999999999999999999999999999",
        a="2026-11-01T20:00:00.123+08:00",
        j={"a": [1, None, "x"]},
    )

    assert reply.data["echo"][1] == "99999999999999999999999999999999999999"
    assert reply.data["echo"][2] == "2026-11-01T12:00:00.123000+00:00"
    assert reply.data["echo"][5] == {"a": [1, None, "x"]}


PAGES = """query($f: Int, $l: Int, $a: String, $b: String, $s: String) {
  toys(first: $f, last: $l, after: $a, before: $b, search: $s) {
    nodes { no } edges { cursor } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}"""


def numbers(reply: Any) -> list[int]:
    return [node["no"] for node in reply.data["toys"]["nodes"]]


async def test_pages_walk_forward_and_backward(door: Client) -> None:
    first = await door.ask(PAGES, f=100)
    info = first.data["toys"]["pageInfo"]
    second = await door.ask(PAGES, f=100, a=info["endCursor"])
    third = await door.ask(PAGES, f=100, a=second.data["toys"]["pageInfo"]["endCursor"])
    back = await door.ask(PAGES, l=2, b=second.data["toys"]["pageInfo"]["startCursor"])

    assert numbers(first) + numbers(second) + numbers(third) == list(range(1, 251))
    assert (info["hasNextPage"], info["hasPreviousPage"]) == (True, False)
    assert third.data["toys"]["pageInfo"]["hasNextPage"] is False
    assert numbers(back) == [99, 100]
    assert back.data["toys"]["pageInfo"]["hasPreviousPage"] is True


async def test_j19_cursors_forged_or_of_another_list(door: Client) -> None:
    cursor = (await door.ask(PAGES, f=1)).data["toys"]["pageInfo"]["endCursor"]
    forged = ("A" if cursor[0] != "A" else "B") + cursor[1:]
    cases: list[dict[str, Any]] = [
        {"f": 1, "a": forged},
        {"f": 1, "a": cursor[:-1]},
        {"f": 1, "a": "YXJyYXljb25uZWN0aW9uOjE="},
        {"f": 1, "a": ""},
        {"f": 1, "a": "\u2603"},
        {"f": 1, "a": cursor, "s": "another list"},
        {"f": 1, "b": cursor},
        {"l": 1, "a": cursor},
    ]
    for case in cases:
        reply = await door.ask(PAGES, **case)
        assert reply.codes == ["BAD_USER_INPUT"], case


@pytest.mark.parametrize(
    "size", [{"f": -1}, {"f": 0}, {"f": 101}, {}, {"f": 1, "l": 1}, {"l": 0}, {"l": 101}]
)
async def test_j19_page_sizes(door: Client, size: dict[str, Any]) -> None:
    reply = await door.ask(PAGES, **size)

    assert (reply.status, reply.codes) == (400, ["BAD_USER_INPUT"])


async def test_rule_5_the_total_is_counted_only_when_selected(door: Client) -> None:
    await door.ask("{ toys(first: 1) { nodes { no } } }")
    assert graphql_toy.state.counted == 0

    reply = await door.ask("{ toys(first: 1) { totalCount } }")

    assert reply.data == {"toys": {"totalCount": 250}}
    assert graphql_toy.state.counted == 1


async def test_rule_4_nodes_are_found_by_id_and_nothing_else_is(door: Client) -> None:
    good = (await door.ask("{ toy(no: 7) { id } }")).data["toy"]["id"]
    query = "query($i: ID!) { node(id: $i) { __typename id ... on Toy { no } } }"

    assert (await door.ask(query, i=good)).data["node"] == {
        "__typename": "Toy",
        "id": good,
        "no": 7,
    }
    words = set()
    for wrong in ("toy_" + "0" * 26, "nix_" + good[4:], good[:-1], "7", "", "toy_" + "u" * 26):
        reply = await door.ask(query, i=wrong)
        assert reply.codes == ["NOT_FOUND"], wrong
        assert reply.json["data"] == {"node": None}
        words.add(reply.errors[0]["message"])
    assert len(words) == 1
    many = await door.ask("query($i: [ID!]!) { nodes(ids: $i) { id } }", i=[good, "x", good])
    assert many.data["nodes"] == [{"id": good}, None, {"id": good}]
    over = await door.ask("query($i: [ID!]!) { nodes(ids: $i) { id } }", i=[good] * 101)
    assert over.codes == ["BAD_USER_INPUT"]


async def test_siblings_are_loaded_together_and_each_request_anew(door: Client) -> None:
    query = "{ toys(first: 5) { nodes { loud } } toy(no: 9) { loud parts { loud } } }"
    await door.ask(query)
    await door.ask(query)

    assert len(graphql_toy.state.batches) <= 4
    assert sorted(graphql_toy.state.batches[0]) == [1, 2, 3, 4, 5, 9, 109, 110]
    half = len(graphql_toy.state.batches) // 2
    assert graphql_toy.state.batches[:half] == graphql_toy.state.batches[half:]


ONCE = """mutation($k: String!, $t: String!) {
  makeOnce(input: {title: $t}) @idempotent(key: $k) { __typename ... on Toy { id no } }
}"""


async def test_c10_the_same_key_gives_the_same_bytes(door: Client) -> None:
    first = await door.ask(ONCE, k="key-1", t="x")
    again = await door.ask(ONCE, k="key-1", t="x")
    other = await door.ask(ONCE, k="key-2", t="x")

    assert again.data == first.data
    assert again.body.partition(b',"extensions"')[0] == first.body.partition(b',"extensions"')[0]
    assert again.extensions["idempotency"] == {"replayed": True}
    assert "idempotency" not in first.extensions
    assert other.data != first.data
    assert graphql_toy.state.made == ["x", "x"]


async def test_c12_the_same_key_of_another_viewer_is_another_key() -> None:
    graphql_toy.state.__init__()  # type: ignore[misc]
    client = Client(is_open=False, authenticate=authenticate)
    guest = await client.ask(ONCE, k="key-1", t="x")
    member = await client.ask(ONCE, headers={"authorization": "Bearer member"}, k="key-1", t="x")

    assert guest.data != member.data
    assert "idempotency" not in member.extensions


async def test_c14_a_refusal_stores_nothing(door: Client) -> None:
    refused = await door.ask(ONCE, k="key-1", t="none")
    masking._seen.clear()
    with structlog.testing.capture_logs():
        failed = await door.ask(ONCE, k="key-2", t="bug")

    assert refused.data == {"makeOnce": {"__typename": "OutOfStock"}}
    assert failed.codes == ["INTERNAL_SERVER_ERROR"]
    assert graphql_toy.state.stored == {}


async def test_j06_keys_that_are_missing_or_unusable(door: Client) -> None:
    missing = await door.ask('mutation { makeOnce(input: {title: "x"}) { __typename } }')
    assert missing.codes == ["IDEMPOTENCY_KEY_REQUIRED"]
    for key in ("k" * 256, "   ", "", "a\tb", "a\nb", "\u200b\u202e"):
        reply = await door.ask(ONCE, k=key, t="x")
        assert reply.codes == ["BAD_USER_INPUT"], repr(key)
    nul = await door.ask(
        'mutation { makeOnce(input: {title: "x"}) @idempotent(key: "\\u0000") { __typename } }'
    )
    assert nul.codes == ["BAD_USER_INPUT"]
    assert graphql_toy.state.made == []
    longest = await door.ask(ONCE, k="k" * 255, t="x")
    assert longest.data["makeOnce"]["__typename"] == "Toy"


async def test_one_document_may_hold_a_stored_and_a_new_answer(door: Client) -> None:
    first = await door.ask(ONCE, k="key-1", t="x")
    both = await door.ask(
        """mutation {
          makeOnce(input: {title: "x"}) @idempotent(key: "key-1") { __typename ... on Toy { id no } }
          fresh: makeOnce(input: {title: "y"}) @idempotent(key: "key-2") { __typename ... on Toy { no } }
        }"""
    )

    assert both.data["makeOnce"] == first.data["makeOnce"]
    assert both.data["fresh"]["no"] == 1_002
    assert graphql_toy.state.made == ["x", "y"]
