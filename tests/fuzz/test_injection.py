"""H34: no text that is sent becomes a part of a statement: every String and ID of the contract, one after the other.

The places are read off the schema. With a text that would widen a statement an answer holds no row more than without
it, and no cursor is believed that we have not signed; what is refused is refused in words of ours.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from graphql import (
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    get_named_type,
    is_composite_type,
    is_required_argument,
)

from domain.core import db as core
from schema.root import schema
from tests.architecture.asks import MUTATIONS, QUERIES
from tests.architecture.world import Caller
from tests.fuzz import laws, stage
from tests.fuzz.stage import Stage

GRAPH = schema._schema
DEPTH_MAX = 3
PAYLOADS = [
    "' OR '1'='1",
    "'; DROP TABLE account; --",
    "') UNION SELECT password_hash FROM account --",
    "\\'; --",
    '" OR ""="',
    "1 OR 1=1",
    "$1",
    "%",
    "_",
    "*",
    '{"$gt": ""}',
    "\x00' OR 1=1 --",
    "＇ OR 1=1 --",
]
WRITTEN = [PAYLOADS[1], PAYLOADS[7]]
_ID = re.compile(r'"([a-z]{3}_[0-9a-z]{26})"')

Place = tuple[str, ...]


def places(field: GraphQLField) -> Iterator[Place]:
    """Where a field takes a text or an id, through lists and input objects; an input is not opened within itself."""
    for name, argument in field.args.items():
        yield from _inside(name, argument.type, ())


def _inside(name: str, of: Any, above: tuple[str, ...]) -> Iterator[Place]:
    named = get_named_type(of)
    if named.name in ("String", "ID"):
        yield (name,)
    elif isinstance(named, GraphQLInputObjectType) and named.name not in above:
        for part, one in named.fields.items():
            for place in _inside(part, one.type, (*above, named.name)):
                yield (name, *place)


def put(arguments: dict[str, Any], field: GraphQLField, place: Place, text: str) -> dict[str, Any]:
    """The arguments with `text` at a place; whatever leads there is made."""
    made = deepcopy(arguments)
    at: Any = made
    types: Mapping[str, Any] = {name: one.type for name, one in field.args.items()}
    for step, name in enumerate(place):
        of, is_last = types[name], step == len(place) - 1
        value: Any = text if is_last else at.get(name, {})
        if isinstance(value, list):
            value = value[0] if value and isinstance(value[0], dict) else {}
        bare = of.of_type if isinstance(of, GraphQLNonNull) else of
        at[name] = [value] if isinstance(bare, GraphQLList) else value
        named = get_named_type(of)
        types = (
            {key: one.type for key, one in named.fields.items()}
            if isinstance(named, GraphQLInputObjectType)
            else {}
        )
        at = value
    return made


def document(kind: str, name: str, field: GraphQLField, key: str) -> str:
    """The root field with a variable for every argument."""
    declared = ", ".join(f"${one}: {found.type}" for one, found in field.args.items())
    given = ", ".join(f"{one}: ${one}" for one in field.args)
    selection = "{ __typename }" if kind == "mutation" else _selection(field.type, 0)
    definition = field.extensions.get("strawberry-definition")
    once = bool(getattr(definition, "metadata", {}).get("idempotent"))
    directive = f" @idempotent(key: {json.dumps(key)})" if once else ""
    return f"{kind} ({declared}) {{ {name}({given}){directive} {selection} }}"


def _selection(of: Any, depth: int) -> str:
    named = get_named_type(of)
    if not is_composite_type(named):
        return ""
    if not isinstance(named, GraphQLObjectType):
        return "{ __typename ... on Node { id } }" if named.name == "Node" else "{ __typename }"
    parts = ["__typename"]
    for name, field in named.fields.items():
        if any(map(is_required_argument, field.args.values())) or name == "goods":
            continue
        is_deeper = is_composite_type(get_named_type(field.type))
        if is_deeper and (depth == DEPTH_MAX or (field.args and depth)):
            continue
        call = "(first: 3)" if "first" in field.args else ""
        parts.append(f"{name}{call} {_selection(field.type, depth + 1)}")
    return f"{{ {' '.join(parts)} }}"


def usual(kind: str, name: str, on: Stage, caller: Caller) -> dict[str, Any]:
    """The arguments that the matrix of roles asks this field with."""
    entries = QUERIES if kind == "query" else MUTATIONS
    field = _root(kind).fields[name]
    entry = next(one for one in entries if one.partition(" ")[0] == f"{kind.capitalize()}.{name}")
    found = entries[entry](on.world, caller)
    return {"input": found} if "input" in field.args else found


def _root(kind: str) -> GraphQLObjectType:
    root = GRAPH.query_type if kind == "query" else GRAPH.mutation_type
    assert root is not None
    return root


class Asker:
    """Asks as the owner of the first merchant, and counts what came of it."""

    def __init__(self, on: Stage) -> None:
        self.on = on
        self.caller = next(one for one in on.world.callers if one.name == "owner")
        self.count: Counter[str] = Counter()
        self.wrong: list[str] = []

    async def __call__(self, text: str, variables: Mapping[str, Any], about: str) -> Any:
        """The answer's JSON."""
        reply = await self.on.ask("owner", text, variables, accept=laws.RESPONSE)
        if reason := laws.broken(reply, laws.RESPONSE, self.on.marks("owner")):
            self.wrong.append(f"{about}: {reason}\n{reply.body[:600]!r}")
        body = json.loads(reply.body)
        codes = {error["extensions"]["code"] for error in body.get("errors", ())} or {"answered"}
        self.count.update(codes)
        return body

    async def query(self, name: str, field: GraphQLField) -> None:
        """Every place of one query with every text, beside the same query without."""
        text = document("query", name, field, "")
        before = usual("query", name, self.on, self.caller)
        plain = await self(text, before, name)
        known = _ids(plain)
        for place in places(field):
            for payload in PAYLOADS:
                about = f"{name}({'.'.join(place)}: {payload!r})"
                body = await self(text, put(before, field, place, payload), about)
                if more := _ids(body) - known:
                    self.wrong.append(f"{about}: {sorted(more)}")
                if place[-1] in ("after", "before") and body.get("data"):
                    self.wrong.append(f"{about}: a cursor of somebody else's making is believed")

    async def mutation(self, name: str, field: GraphQLField) -> None:
        """Every place of one mutation with some texts."""
        before = usual("mutation", name, self.on, self.caller)
        for place in places(field):
            for number, payload in enumerate(WRITTEN):
                about = f"{name}({'.'.join(place)}: {payload!r})"
                text = document("mutation", name, field, f"{name} {'.'.join(place)} {number}")
                body = await self(text, put(before, field, place, payload), about)
                value = (body.get("data") or {}).get(name) or {}
                if value and "code" not in value:
                    await self.on.restore()


def _ids(body: Any) -> set[str]:
    return set(_ID.findall(json.dumps(body.get("data"))))


async def test_h34_no_text_widens_a_query(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage.stage(tmp_path, monkeypatch) as on:
        ask = Asker(on)
        for name, field in _root("query").fields.items():
            if field.args:
                await ask.query(name, field)
        for text, variables, about in _below(on):
            body = await ask(text, variables, about)
            if found := [one for one in _ids(body) if one != variables.get("id")]:
                ask.wrong.append(f"{about}: {found}")

    assert not ask.wrong, "\n\n".join(ask.wrong[:20])
    assert sum(ask.count.values()) > 500
    # Refused by a rule of the grammar would be refused for a reason of no interest.
    assert ask.count["GRAPHQL_VALIDATION_FAILED"] == ask.count["GRAPHQL_PARSE_FAILED"] == 0


# How a field below the root is reached that takes a text; `text` is the one that is tried.
BELOW = {
    "Shop.products search": "shop(handle: $id) { products(first: 5, search: $text) { nodes { id } } }",
    "Shop.products after": "shop(handle: $id) { products(first: 5, after: $text) { nodes { id } } }",
    "Shop.products before": "shop(handle: $id) { products(last: 5, before: $text) { nodes { id } } }",
    "Viewer.orders after": "viewer { orders(first: 5, after: $text) { nodes { id } } }",
    "Viewer.orders before": "viewer { orders(last: 5, before: $text) { nodes { id } } }",
    "PartnerApp.documents after": "node(id: $id) { ... on PartnerApp { documents(first: 5, after: $text)"
    " { nodes { id } } } }",
    "PartnerApp.documents before": "node(id: $id) { ... on PartnerApp { documents(last: 5, before: $text)"
    " { nodes { id } } } }",
    "WebhookEndpoint.deliveries after": "node(id: $id) { ... on WebhookEndpoint {"
    " deliveries(first: 5, after: $text) { nodes { id } } } }",
    "WebhookEndpoint.deliveries before": "node(id: $id) { ... on WebhookEndpoint {"
    " deliveries(last: 5, before: $text) { nodes { id } } } }",
}


def _below(on: Stage) -> Iterator[tuple[str, dict[str, Any], str]]:
    world = on.world
    own = {"Shop": world.shop.handle, "PartnerApp": world.app, "WebhookEndpoint": world.endpoint}
    for place, selection in BELOW.items():
        head = (
            "$id: ID!, " if "node(" in selection else "$id: String!, " if "$id" in selection else ""
        )
        for payload in PAYLOADS:
            variables = {"text": payload}
            if head:
                variables["id"] = own[place.partition(".")[0]]
            yield (
                f"query ({head}$text: String) {{ {selection} }}",
                variables,
                f"{place} {payload!r}",
            )


def test_every_text_below_the_root_is_tried() -> None:
    """A new argument fails here: say in BELOW how it is reached."""
    roots = {GRAPH.query_type, GRAPH.mutation_type, GRAPH.subscription_type}
    found = {
        f"{one.name}.{name} {place[-1]}"
        for one in GRAPH.type_map.values()
        if isinstance(one, GraphQLObjectType) and one not in roots and one.name[:2] != "__"
        for name, field in one.fields.items()
        for place in places(field)
    }

    assert found == set(BELOW)


async def test_h34_no_text_reaches_another_merchants_rows(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage.stage(tmp_path, monkeypatch) as on:
        ask = Asker(on)
        before = await _rows(on.other)
        for name, field in _root("mutation").fields.items():
            if field.args:
                await ask.mutation(name, field)
        after = await _rows(on.other)

    assert not ask.wrong, "\n\n".join(ask.wrong[:20])
    assert {name for name, rows in after.items() if rows != before[name]} == set()
    assert sum(ask.count.values()) > 300
    assert ask.count["answered"] > sum(ask.count.values()) * 0.3, ask.count


async def _rows(merchant_id: Any) -> dict[str, str]:
    """A digest of every table's rows of a merchant, and how many accounts and merchants there are."""
    tables = await core.fetch(
        "SELECT c.relname::text AS name FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        " AND a.attname = 'merchant_id'"
    )
    made = {}
    for row in tables:
        made[row["name"]] = await core.value(
            f"SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {row['name']} t"
            " WHERE merchant_id = $1",
            merchant_id,
        )
    made["merchant"] = str(await core.value("SELECT count(*) FROM merchant"))
    assert len(made) > 20
    return made
