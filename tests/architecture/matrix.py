"""Who is shown what: every field that can be reached, asked for by every kind of caller.

`python -m tests.architecture.matrix` writes matrix.json anew; read its diff before you commit it. A root field needs
a line in tests/architecture/asks.py; nested fields are found by themselves.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from graphql import (
    GraphQLField,
    GraphQLObjectType,
    get_named_type,
    is_composite_type,
    is_required_argument,
)

from domain.core.errors import DomainError
from resolvers.context import Context
from schema.node import registered
from schema.root import schema
from server.graphql.door import Answer
from server.graphql.request import Asked
from server.graphql.watch import watch
from tests.architecture.asks import MUTATIONS, QUERIES, SIGN_OUT, Arguments
from tests.architecture.world import ADDRESS, Caller, World

FILE = Path(__file__).parent / "matrix.json"
REGENERATE = "REGENERATE_MATRIX"
GRAPH = schema._schema
# verdict → callers; of a nested field only among those who were given the object at all.
Verdicts = dict[str, list[str]]
Matrix = dict[str, dict[str, Verdicts]]

_NESTED = {"Shop.products": "first: 2", "Viewer.orders": "first: 1"}
_NESTED["WebhookEndpoint.deliveries"] = "first: 1"
_NESTED["PartnerApp.documents"] = "first: 1"
# Everybody is shown something here, but not the same: the values themselves are the verdict.
_TOLD = {"FundsFlowLeg.leg"}


def root_fields() -> set[str]:
    """Every root field of the contract, and the kinds of nodes."""
    roots = (GRAPH.query_type, GRAPH.mutation_type, GRAPH.subscription_type)
    return {f"{root.name}.{name}" for root in roots if root for name in root.fields}


def covered() -> set[str]:
    """The root fields that have an entry here."""
    return {name.partition(" ")[0] for name in (*QUERIES, *MUTATIONS)} | {SIGN_OUT}


def readable() -> list[Any]:
    """Every type below Query and Subscription."""
    found: dict[str, Any] = {}
    waiting = [
        field.type
        for root in (GRAPH.query_type, GRAPH.subscription_type)
        if root
        for field in root.fields.values()
    ]
    while waiting:
        named = get_named_type(waiting.pop())
        if named.name in found or not is_composite_type(named):
            continue
        found[named.name] = named
        if isinstance(named, GraphQLObjectType):
            waiting += [field.type for field in named.fields.values()]
        else:
            waiting += GRAPH.get_possible_types(named)
    return list(found.values())


async def build(world: World) -> Matrix:
    """Ask everything as everybody."""
    found: Matrix = {}
    for entry, arguments in {**QUERIES, **MUTATIONS}.items():
        found[entry] = await _entry(world, entry, arguments)
    return {entry: found[entry] for entry in sorted(found)}


async def _entry(world: World, entry: str, arguments: Arguments) -> dict[str, Verdicts]:
    said: dict[str, Verdicts] = defaultdict(lambda: defaultdict(list))
    reached, everyone = 0, len(world.callers)
    for caller in world.callers:
        verdict, fields = await _ask(world, caller, entry, arguments(world, caller))
        said[""][verdict].append(caller.name)
        reached += bool(fields)
        for name, shown in fields.items():
            said[name][_verdict(name, shown)].append(caller.name)
    return {
        name: {
            verdict: ["everyone"] if len(callers) == (reached if name else everyone) else callers
            for verdict, callers in sorted(verdicts.items())
        }
        for name, verdicts in sorted(said.items())
    }


def _verdict(name: str, shown: set[str]) -> str:
    if name in _TOLD and shown:
        return ", ".join(sorted(shown))
    return "value" if shown else "empty"


async def _ask(
    world: World, caller: Caller, entry: str, arguments: dict[str, Any]
) -> tuple[str, dict[str, set[str]]]:
    """(what became of the root field, nested field → what it held)."""
    root, _, name = entry.partition(" ")[0].partition(".")
    kind, field = root.lower(), _type(root).fields[name]
    context = Context(request_id="matrix", address=ADDRESS, viewer=caller.viewer)
    prefixes = entry.split(" ")[1:] if name in ("node", "nodes") else []
    document = _document(kind, name, field, prefixes, key=f"{entry} {caller.name}")
    asked = Asked(document, variables={})
    asked.variables.update({"input": arguments} if "input" in field.args else arguments)
    try:
        body = await _answer(world, asked, context, is_stream=kind == "subscription")
    except DomainError as refusal:  # a stream that cannot be opened
        return refusal.code, {}
    answer = json.loads(body)
    shown: dict[str, set[str]] = {}
    for error in answer.get("errors", ()):
        return error["extensions"]["code"], shown
    value = answer["data"][name]
    if kind == "mutation":
        return value["__typename"], shown
    if value is None or value == [] or value == [None]:
        return "null" if value is None else "empty", shown
    _look(value, get_named_type(field.type), shown)
    return "value", shown


async def _answer(world: World, asked: Asked, context: Context, *, is_stream: bool) -> bytes:
    """The answer, or the first frame of a subscription."""
    if not is_stream:
        return (await world.platform.door.answer(asked, context)).body
    stream = await watch(world.platform.door, asked, context)
    if isinstance(stream, Answer):
        return stream.body
    try:
        return (await anext(aiter(stream))).body
    finally:
        await stream.close()


def _type(name: str) -> GraphQLObjectType:
    found = GRAPH.type_map[name]
    assert isinstance(found, GraphQLObjectType)
    return found


def _document(
    kind: str, name: str, field: GraphQLField, prefixes: Sequence[str], *, key: str
) -> str:
    arguments = ", ".join(f"{one}: ${one}" for one in field.args)
    declared = ", ".join(f"${one}: {found.type}" for one, found in field.args.items())
    kinds = [_type(_name_of(registered()[prefix])) for prefix in prefixes]
    selection = "{ __typename }" if kind == "mutation" else _selection(field.type, (), kinds)
    needs_key = kind == "mutation" and _is_idempotent(field)
    directive = f" @idempotent(key: {json.dumps(key)})" if needs_key else ""
    head = f"({declared})" if declared else ""
    call = f"({arguments})" if arguments else ""
    return f"{kind} {head} {{ {name}{call}{directive} {selection} }}"


def _is_idempotent(field: GraphQLField) -> bool:
    definition = field.extensions.get("strawberry-definition")
    return bool(getattr(definition, "metadata", {}).get("idempotent"))


def _name_of(declared: type) -> str:
    return str(cast("Any", declared).__strawberry_definition__.name)


def _selection(of: Any, above: tuple[str, ...], only: Sequence[GraphQLObjectType] = ()) -> str:
    """Everything below a type; a type that is already open above is not opened again."""
    named = get_named_type(of)
    if not is_composite_type(named):
        return ""
    if isinstance(named, GraphQLObjectType):
        fields = " ".join(_fields(named, above, shared=()))
        return f"{{ __typename {fields} }}" if fields and named.name not in above else ""
    members = [one for one in only or GRAPH.get_possible_types(named) if one.name not in above]
    # Members of a union may give one name to different types.
    names = Counter(name for member in members for name in member.fields)
    shared = [name for name, count in names.items() if count > 1]
    parts = [
        f"... on {member.name} {{ {' '.join(_fields(member, above, shared=shared))} }}"
        for member in members
    ]
    return f"{{ __typename {' '.join(parts)} }}"


def _fields(
    of: GraphQLObjectType, above: tuple[str, ...], *, shared: Collection[str]
) -> Iterator[str]:
    if of.name in above:
        return
    for name, field in of.fields.items():
        key = f"{of.name}.{name}"
        inner = _selection(field.type, (*above, of.name))
        if is_composite_type(get_named_type(field.type)) and not inner:
            continue
        assert key in _NESTED or not any(map(is_required_argument, field.args.values())), (
            f"{key} needs arguments: name them in _NESTED"
        )
        call = f"({_NESTED[key]})" if key in _NESTED else ""
        yield f"{f'{of.name}_{name}: ' if name in shared else ''}{name}{call} {inner}"


def _look(value: Any, of: Any, shown: dict[str, set[str]]) -> None:
    """Note which fields of `value` (and below) carry something."""
    if isinstance(value, list):
        for one in value:
            _look(one, of, shown)
        return
    if not isinstance(value, dict) or not is_composite_type(of):
        return
    member = _type(value["__typename"])
    for response_name, inner in value.items():
        name = response_name.removeprefix(f"{member.name}_")
        if name == "__typename":
            continue
        key = f"{member.name}.{name}"
        shown.setdefault(key, set())
        if inner not in (None, [], ""):
            shown[key].add(str(inner))
        if inner not in (None, []):
            _look(inner, get_named_type(member.fields[name].type), shown)


def dump(matrix: Matrix) -> str:
    """One line per field, so that a diff reads well."""
    entries = []
    for entry, fields in matrix.items():
        lines = [f"  {json.dumps(name)}: {json.dumps(said)}" for name, said in fields.items()]
        entries.append(f" {json.dumps(entry)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(entries) + "\n}\n"


def main() -> int:
    """Write matrix.json anew, from real answers."""
    test = f"{Path(__file__).with_name('test_matrix.py')}::test_h03_what_everybody_sees_is_what_was_decided"
    command = [sys.executable, "-m", "pytest", "-q", "-n0", test]
    return subprocess.run(command, env={**os.environ, REGENERATE: "1"}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
