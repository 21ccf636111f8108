"""Random operations of the contract: valid in form, hostile in content, reproducible from a seed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_composite_type,
    is_required_argument,
    is_required_input_field,
)

DEPTH_MAX, FIELDS_MAX, MEMBERS_MAX, LIST_MAX = 5, 8, 4, 3
OPTIONAL, WRONG, KNOWN = 0.4, 0.03, 0.7

TEXTS = [
    *("", " ", "a", "Card", "x" * 300, "x" * 5_000, "\u202eesrever", "日本語", "é" * 100, "😀"),
    *(
        "<script>alert(1)</script>",
        "'; DROP TABLE account; --",
        "%s%n{0}",
        "../../etc/passwd",
        "%",
        "_",
    ),
    *(
        "line\r\nheader: x",
        "\x1b[31mred",
        "\\u0000",
        "0",
        "-1",
        "1e400",
        "NaN",
        "null",
        "true",
        "[]",
    ),
    *(
        "?",
        "a@b.example",
        "buyer@example.com ",
        "a@@b",
        "https://127.0.0.1/",
        "javascript:alert(1)",
        "sandbox",
    ),
]
NUMBERS = [0, 1, 2, 3, 5, 10, 100, 101, -1, 2**31 - 1, -(2**31)]
SCALARS: dict[str, list[Any]] = {
    "Boolean": [True, False],
    "Int": NUMBERS,
    "BigInt": ["0", "1", "-1", "9223372036854775807", "1e5", 7],
    "Decimal": [
        "0",
        "1",
        "10.50",
        "0.01",
        "-1",
        "19.999",
        "1e400",
        "NaN",
        "99999999999999999999",
        "",
        "１",
    ],
    "CurrencyCode": ["USD", "EUR", "JPY", "CNY", "XXX", "usd", ""],
    "CountryCode": ["HK", "US", "DE", "ZZ", "UK", "hk", ""],
    "LanguageCode": ["en", "zh-Hans", "ja", "es", "xx", ""],
    "DateTime": [
        "2026-11-01T00:00:00Z",
        "0000-00-00",
        "9999-12-31T23:59:59Z",
        "1970-01-01T00:00:00Z",
        "now",
    ],
    "Date": ["2026-11-01", "0000-00-00", "9999-12-31", "1970-01-01"],
    "JSON": [None, 1, "x", [], {}, {"a": [1, {"b": None}]}, [[[[]]]]],
}


@dataclass
class Case:
    """One operation as one caller sends it."""

    caller: str
    root: str
    document: str
    variables: dict[str, Any]


@dataclass
class Fuzzer:
    """Writes operations of `schema`. `known` are ids that exist, whoever they belong to."""

    schema: GraphQLSchema
    random: Random
    known: Sequence[str]
    count: int = 0
    _variables: dict[str, Any] = field(default_factory=dict)
    _declared: list[str] = field(default_factory=list)

    def roots(self) -> list[tuple[str, str]]:
        """(kind, field) of every root field."""
        kinds = {
            "query": self.schema.query_type,
            "mutation": self.schema.mutation_type,
            "subscription": self.schema.subscription_type,
        }
        return [(kind, name) for kind, root in kinds.items() if root for name in root.fields]

    def case(self, caller: str, kind: str, name: str, own_keys: Sequence[str]) -> Case:
        """An operation of one root field; `own_keys` are access keys the caller has."""
        root = getattr(self.schema, f"{kind}_type")
        found: GraphQLField = root.fields[name]
        self.count += 1
        self._variables, self._declared, self._keys = {}, [], list(own_keys)
        call = self._arguments(found)
        directive = ""
        definition = found.extensions.get("strawberry-definition")
        if kind == "mutation" and getattr(definition, "metadata", {}).get("idempotent"):
            key = f"fuzz-{self.count}" if self.random.random() > WRONG else self._text()
            directive = f" @idempotent(key: {json.dumps(key)})"
        selection = self._selection(found.type, 0)
        declared = f"({', '.join(self._declared)})" if self._declared else ""
        document = f"{kind} {declared} {{ {name}{call}{directive} {selection} }}"
        return Case(caller, f"{kind} {name}", document, self._variables)

    def _arguments(self, of: GraphQLField) -> str:
        given = []
        for name, argument in of.args.items():
            if not is_required_argument(argument) and self.random.random() < OPTIONAL:
                continue
            variable = f"v{len(self._declared)}"
            self._declared.append(f"${variable}: {argument.type}")
            self._variables[variable] = self._value(argument.type, name)
            given.append(f"{name}: ${variable}")
        return f"({', '.join(given)})" if given else ""

    def _value(self, of: GraphQLInputType, name: str) -> Any:
        if self.random.random() < WRONG:
            return self.random.choice([None, [], {}, "x", -1, 1.5, [None], {"x": 1}])
        if isinstance(of, GraphQLNonNull):
            return self._value(of.of_type, name)
        if isinstance(of, GraphQLList):
            return [self._value(of.of_type, name) for _ in range(self.random.randint(0, LIST_MAX))]
        if isinstance(of, GraphQLInputObjectType):
            return {
                key: self._value(one.type, key)
                for key, one in of.fields.items()
                if is_required_input_field(one) or self.random.random() > OPTIONAL
            }
        if isinstance(of, GraphQLEnumType):
            return self.random.choice(list(of.values))
        return self._scalar(get_named_type(of).name, name)

    def _scalar(self, kind: str, name: str) -> Any:
        if kind == "ID":
            return self._id()
        if kind == "Int" and name in ("first", "last") and self.random.random() > WRONG:
            return self.random.randint(1, 5)
        if kind in SCALARS:
            return self.random.choice(SCALARS[kind])
        if name == "accessKey" and self._keys and self.random.random() < KNOWN:
            return self.random.choice(self._keys)
        if name == "handle" and self.random.random() < KNOWN:
            return self.random.choice([one for one in self.known if "_" not in one] or [""])
        return self._text()

    def _id(self) -> str:
        found = self.random.choice(list(self.known))
        if self.random.random() < KNOWN:
            return found
        cut = self.random.randint(0, len(found))
        twisted = [found[:cut], found[:cut] + "0" + found[cut:], found.upper(), "ord" + found[3:]]
        return self.random.choice([*twisted, *TEXTS])

    def _text(self) -> str:
        return self.random.choice(TEXTS)

    def _selection(self, of: Any, depth: int) -> str:
        named = get_named_type(of)
        if not is_composite_type(named):
            return ""
        if isinstance(named, GraphQLObjectType):
            return f"{{ __typename {self._fields(named, depth, set())} }}"
        members = list(self.schema.get_possible_types(named))
        some = self.random.sample(members, min(len(members), MEMBERS_MAX))
        names = Counter(name for member in some for name in member.fields)
        shared = {name for name, count in names.items() if count > 1}
        parts = [
            f"... on {one.name} {{ __typename {self._fields(one, depth, shared)} }}" for one in some
        ]
        return f"{{ __typename {' '.join(parts)} }}"

    def _fields(self, of: GraphQLObjectType, depth: int, shared: set[str]) -> str:
        parts = []
        names = list(of.fields)
        for name in self.random.sample(names, min(len(names), FIELDS_MAX)):
            found = of.fields[name]
            is_deeper = is_composite_type(get_named_type(found.type))
            if name in shared or (is_deeper and depth >= DEPTH_MAX):
                continue  # members of a union may give one name to different types
            if is_deeper and self.random.random() < 0.15 * depth:
                continue
            parts.append(f"{name}{self._arguments(found)} {self._selection(found.type, depth + 1)}")
        return " ".join(parts)
