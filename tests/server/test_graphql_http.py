"""HTTP itself: what is read, what is refused with which status, and what every answer carries."""

from __future__ import annotations

import gzip
import json
import time
from typing import Any
from urllib.parse import quote

import pytest

from server.graphql.decode import VALUES_MAX
from server.graphql.http import Http
from server.graphql.persisted import Shelf, digest
from tests.server import graphql_toy
from tests.server.graphql_client import EXACT, Client

TOY = "{ toy { title } }"

MALFORMED = {
    "null": b"null",
    "list": b"[]",
    "string": b'"{}"',
    "empty": b"",
    "duplicate key": b'{"query": "{__typename}", "query": "{__typename}"}',
    "duplicate key below": b'{"query": "{__typename}", "variables": {"a": 1, "a": 2}}',
    "deep": b'{"query": "{__typename}", "variables": {"a": '
    + b"[" * 10_000
    + b"]" * 10_000
    + b"}}",
    "open brackets": b"[" * 200_000,
    "long integer": b'{"query": "{__typename}", "variables": {"a": ' + b"9" * 5_000 + b"}}",
    "NaN": b'{"query": "{__typename}", "variables": {"a": NaN}}',
    "infinite": b'{"query": "{__typename}", "variables": {"a": 1e999}}',
    "bad UTF-8": b'{"query": "{__typename}\xff"}',
    "UTF-16": '{"query": "{__typename}"}'.encode("utf-16"),
    "BOM": b'\xef\xbb\xbf{"query": "{__typename}"}',
    "trailing bytes": b'{"query": "{__typename}"} x',
    "two values": b'{"query": "{__typename}"}{"query": "{__typename}"}',
    "no query": b"{}",
    "query is a number": b'{"query": 7}',
    "variables are a list": b'{"query": "{__typename}", "variables": []}',
    "operationName is a number": b'{"query": "{__typename}", "operationName": 1}',
    "extensions are a string": b'{"query": "{__typename}", "extensions": "x"}',
    "a batch": b'[{"query": "{__typename}"}]',
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
async def test_j21_malformed_bodies_are_400_in_no_time(door: Client, body: bytes) -> None:
    started = time.perf_counter()
    reply = await door.post(body)
    took_s = time.perf_counter() - started

    assert reply.status == 400
    assert reply.codes == ["BAD_USER_INPUT"]
    assert "data" not in reply.json
    assert took_s < 0.05


@pytest.mark.parametrize("text", ["\\ud800", "\\u0000", "a\\udc00b"])
async def test_j14_half_characters_and_nul_are_bad_user_input(door: Client, text: str) -> None:
    body = b'{"query": "query($t: String) { echo(text: $t) }", "variables": {"t": "%s"}}'
    reply = await door.post(body % text.encode())

    assert reply.status == 400
    assert reply.codes == ["BAD_USER_INPUT"]


async def test_j14_nul_inside_the_document_is_bad_user_input(door: Client) -> None:
    reply = await door.ask('{ echo(text: "\\u0000") }')

    assert reply.status == 400
    assert reply.codes == ["BAD_USER_INPUT"]


async def test_j14_a_whole_surrogate_pair_is_one_character(door: Client) -> None:
    body = (
        b'{"query": "query($t: String) { echo(text: $t) }", "variables": {"t": "\\ud83d\\ude00"}}'
    )
    reply = await door.post(body)

    assert reply.data["echo"][0] == "\U0001f600"


async def test_j22_a_large_body_is_413_and_closes(door: Client) -> None:
    reply = await door.post(b" " * 262_145)

    assert reply.status == 413
    assert reply.headers["connection"] == "close"


async def test_j22_a_large_body_in_chunks_is_413(door: Client) -> None:
    reply = await door.post([b" " * 100_000] * 3)

    assert reply.status == 413


async def test_j22_a_body_at_the_bound_is_read(door: Client) -> None:
    body = json.dumps({"query": TOY}).encode()
    reply = await door.post([body, b" " * (262_144 - len(body))])

    assert reply.status == 200


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
    ],
)
async def test_h06_types_that_need_no_preflight_are_415(door: Client, content_type: str) -> None:
    reply = await door.post(b'{"query": "{__typename}"}', headers={"content-type": content_type})

    assert reply.status == 415
    assert "data" not in reply.json


async def test_j22_compressed_bodies_are_415(door: Client) -> None:
    body = gzip.compress(b'{"query": "{__typename}"}')
    reply = await door.post(body, headers={"content-encoding": "gzip"})

    assert reply.status == 415


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
async def test_other_methods_are_405_with_allow(door: Client, method: str) -> None:
    reply = await door.send(method, b"", {})

    assert reply.status == 405
    assert reply.headers["allow"] == "GET, POST"


async def test_the_response_type_is_negotiated(door: Client) -> None:
    body = json.dumps({"query": "{ nothing }"}).encode()

    plain = await door.post(body)
    exact = await door.post(body, headers={"accept": EXACT})
    either = await door.post(body, headers={"accept": f"text/html, {EXACT};q=0.9, */*;q=0.1"})
    neither = await door.post(body, headers={"accept": "text/html"})

    assert (plain.status, plain.headers["content-type"]) == (200, "application/json; charset=utf-8")
    assert (exact.status, exact.headers["content-type"]) == (400, f"{EXACT}; charset=utf-8")
    assert either.status == 400
    assert neither.status == 406
    assert plain.codes == exact.codes == ["GRAPHQL_VALIDATION_FAILED"]


async def test_every_answer_names_version_and_request(door: Client) -> None:
    given = await door.ask(TOY, headers={"x-request-id": "abc-123_XYZ"})
    made = await door.ask(TOY, headers={"x-request-id": "no good\r\nx: y"})
    failed = await door.ask("{ nothing }", headers={"x-request-id": "abc-123_XYZ"})

    assert given.headers["x-kami-version"] == "2026-11"
    assert given.headers["x-request-id"] == "abc-123_XYZ"
    assert given.headers["cache-control"] == "no-store"
    assert len(made.headers["x-request-id"]) == 32
    assert failed.errors[0]["extensions"]["requestId"] == "abc-123_XYZ"


async def test_a_version_that_is_not_served_is_400(door: Client) -> None:
    assert (await door.ask(TOY, headers={"x-kami-version": "2026-11"})).status == 200
    assert (await door.ask(TOY, headers={"x-kami-version": "1999-01"})).status == 400


async def test_j27_a_mutation_by_get_is_405_and_does_nothing(open_door: Client) -> None:
    query = quote('mutation { make(input: {title: "x"}) { __typename } }')
    reply = await open_door.get(f"query={query}")

    assert reply.status == 405
    assert reply.headers["allow"] == "POST"
    assert graphql_toy.state.made == []


async def test_get_with_a_text_is_for_development(door: Client, open_door: Client) -> None:
    closed = await door.get(f"query={quote(TOY)}")
    opened = await open_door.get(f"query={quote(TOY)}")

    assert (closed.status, closed.headers["allow"]) == (405, "POST")
    assert opened.data == {"toy": {"title": "Toy 1"}}


async def test_h06_get_with_a_cookie_needs_the_preflight_header(open_door: Client) -> None:
    query = f"query={quote(TOY)}"
    without = await open_door.get(query, {"cookie": "a=b"})
    with_it = await open_door.get(query, {"cookie": "a=b", "graphql-require-preflight": "1"})

    assert (without.status, without.codes) == (403, ["FORBIDDEN"])
    assert with_it.status == 200


async def test_j26_a_hash_is_learned_and_then_enough(door: Client) -> None:
    extensions = {"persistedQuery": {"version": 1, "sha256Hash": digest(TOY)}}
    only_hash = json.dumps({"extensions": extensions}).encode()

    unknown = await door.post(only_hash)
    learned = await door.post(json.dumps({"query": TOY, "extensions": extensions}).encode())
    known = await door.post(only_hash)
    by_get = await door.get("extensions=" + quote(json.dumps(extensions)))

    assert unknown.status == 200
    assert unknown.codes == ["PERSISTED_QUERY_NOT_FOUND"]
    assert unknown.errors[0]["message"] == "PersistedQueryNotFound"
    assert learned.data == known.data == by_get.data == {"toy": {"title": "Toy 1"}}


async def test_j26_a_wrong_hash_is_refused_and_not_learned(door: Client) -> None:
    extensions = {"persistedQuery": {"version": 1, "sha256Hash": digest("{ __typename }")}}
    wrong = await door.post(json.dumps({"query": TOY, "extensions": extensions}).encode())
    after = await door.post(json.dumps({"extensions": extensions}).encode())

    assert wrong.codes == ["BAD_USER_INPUT"]
    assert after.codes == ["PERSISTED_QUERY_NOT_FOUND"]


async def test_j26_an_invalid_document_is_not_learned(door: Client) -> None:
    text = "{ nothing }"
    extensions = {"persistedQuery": {"version": 1, "sha256Hash": digest(text)}}
    await door.post(json.dumps({"query": text, "extensions": extensions}).encode())
    after = await door.post(json.dumps({"extensions": extensions}).encode())

    assert after.codes == ["PERSISTED_QUERY_NOT_FOUND"]


async def test_j26_only_registered_documents_where_they_are_demanded() -> None:
    client = Client(is_open=False, registered=Shelf({"toy": TOY}), documents_only=lambda _: True)

    free = await client.ask(TOY)
    registered = await client.post(b'{"documentId": "toy"}')
    unknown = await client.post(b'{"documentId": "nothing"}')
    by_get = await client.get("documentId=toy")

    assert (free.status, free.codes) == (403, ["FORBIDDEN"])
    assert registered.data == by_get.data == {"toy": {"title": "Toy 1"}}
    assert unknown.codes == ["PERSISTED_QUERY_NOT_FOUND"]


async def test_h05_production_has_no_introspection_and_no_suggestions(door: Client) -> None:
    schema = await door.ask("{ __schema { types { name } } }")
    type_ = await door.ask('{ __type(name: "Toy") { name } }')
    typo = await door.ask("{ toyy { titel } }")
    variable = await door.ask("query($i: MakeInput!) { __typename @include(if: $i) }", i={})

    assert {*schema.codes, *type_.codes} == {"GRAPHQL_VALIDATION_FAILED"}
    assert "data" not in schema.json
    assert b"Did you mean" not in typo.body
    assert b"Did you mean" not in variable.body


async def test_development_shows_the_schema_and_suggests(open_door: Client) -> None:
    schema = await open_door.ask('{ __type(name: "Toy") { name } }')
    typo = await open_door.ask("{ toyy { title } }")

    assert schema.data == {"__type": {"name": "Toy"}}
    assert b"Did you mean" in typo.body


async def test_a_client_that_hangs_up_gets_no_answer(door: Client) -> None:
    sent: list[Any] = []
    messages: list[Any] = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "headers": headers, "query_string": b""}
    await Http(door.door)(scope, receive, send)

    assert sent == []


async def test_j21_twenty_thousand_values_are_read_and_one_more_refused(door: Client) -> None:
    # The body, its query, its variables and the list are values too.
    query = b'{"query": "query($a: JSON!) { echo(json: $a) }", "variables": {"a": [%b]}}'
    most = await door.post(query % b",".join([b"1"] * (VALUES_MAX - 3)))
    more = await door.post(query % b",".join([b"1"] * (VALUES_MAX - 2)))
    brackets = await door.post(query % b",".join([b"[]"] * VALUES_MAX))
    # What stands inside a string is text, however much it looks like values.
    text = await door.post(query % (b'"' + b'[{\\"' * 40_000 + b'"'))

    assert most.status == 200
    assert len(most.data["echo"][-1]) == VALUES_MAX - 3
    for reply in (more, brackets):
        assert (reply.status, reply.codes) == (400, ["BAD_USER_INPUT"])
        assert str(VALUES_MAX) in reply.errors[0]["extensions"]["reason"]
    assert text.data["echo"][-1] == ['[{"' * 40_000]


async def test_j21_brackets_behind_an_unfinished_string_take_no_second_look(door: Client) -> None:
    started = time.process_time()
    reply = await door.post(b'{"a":' + b"[],[" * 40 + b'"' + b'\\"' * 100_000)

    assert reply.status == 400
    assert time.process_time() - started < 1
