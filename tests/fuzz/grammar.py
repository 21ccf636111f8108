"""Operations from the grammar of the contract, drawn by hypothesis: literal arguments, real ids of both merchants.

`documents.py` writes variables; here every value stands in the document itself, which is another way through the
reader. hypothesis-graphql (the generator inside schemathesis) draws the document; what it cannot know is put in
afterwards: ids of the kind an argument asks for, access keys, pages that are not too dear, `@idempotent`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import graphql
from graphql import (
    REMOVE,
    ArgumentNode,
    DirectiveNode,
    DocumentNode,
    FieldNode,
    GraphQLSchema,
    NameNode,
    ObjectFieldNode,
    OperationDefinitionNode,
    SelectionSetNode,
    StringValueNode,
    ValueNode,
    Visitor,
    visit,
)
from hypothesis import strategies as st
from hypothesis_graphql import Mode, from_schema, nodes

from tests.fuzz.documents import SCALARS, TEXTS

# How often out of ten a place gets what it asks for; the rest is hostile.
FITS = 9
WRONG = "(wrong)"
PAGE_MAX = 5
# The prefix of what an argument of this name wants. `id` depends on the root field.
PREFIXES: Mapping[str, Sequence[str]] = {
    "merchantId": ["mer"],
    "shopId": ["shp"],
    "variantId": ["var"],
    "productId": ["prd"],
    "productIds": ["prd"],
    "orderId": ["ord"],
    "lineId": ["lin"],
    "goodId": ["god"],
    "reportId": ["rep"],
    "savedMethodId": ["svm"],
    "couponId": ["cpn"],
    "invitationId": ["inv"],
    "accountId": ["acc"],
    "approvalId": ["apr"],
    "appId": ["app"],
    "grantId": ["gnt"],
    "lotId": ["lot"],
    "endpointId": ["whe"],
    "deliveryId": ["whd"],
    "upload": ["upl"],
    "uploadId": ["upl"],
    "jobId": ["blk"],
    "alertId": ["alr"],
    "payoutMethodId": ["pom"],
    "providerAccountId": ["pac"],
    "replaces": ["pom"],
    "ids": [],
    "id": [],
}
ROOT_IDS = {
    "merchant": "mer",
    "order": "ord",
    "merchantProduct": "prd",
    "closeMoneyException": "exc",
    "removePasskey": "pky",
    "revokeSession": "ses",
}
# Texts that have to be right for anything to happen behind them.
PLAIN: Mapping[str, Sequence[str]] = {
    "password": ["correct horse battery", "another horse battery"],
    "currentPassword": ["correct horse battery"],
    "newPassword": ["correct horse battery", "another horse battery"],
    "email": ["owner@example.com", "new@example.com", "buyer@example.com"],
    "method": ["sandbox"],
    "reason": ["asked for", "dead"],
    "selection": ["{ kind }", "{ kind order { id email goods { content } } }"],
    "url": ["https://hooks.example.net/", "https://127.0.0.1/"],
    "redirectUris": ["https://app.example/cb"],
    "scopes": ["orders:read", "refunds:write", "catalogue:write"],
    "kinds": ["order.paid", "order.*"],
    "purpose": ["merchant_available", "merchant_reserve"],
    "text": ["NEW-1\nNEW-2", "ONE", "Two"],
    "contents": ["LATE-1"],
    "timeZone": ["Asia/Hong_Kong", "UTC"],
    "coupon": ["TENTH"],
}
# Scalars that are right, beside those of SCALARS.
RIGHT: Mapping[str, Sequence[Any]] = {
    "CurrencyCode": ["USD"] * 12,
    "CountryCode": ["HK", "DE"] * 3,
    "LanguageCode": ["en", "zh-Hans"] * 4,
    "Decimal": ["10.50", "1", "0.01", "2.00"] * 5,
    "DateTime": ["2027-11-01T00:00:00Z"] * 5,
    "Date": ["2026-11-27"] * 4,
    "JSON": [{"a": 1}, {"keys": []}],
}
HOSTILE = [
    *TEXTS,
    "' OR '1'='1",
    "1); SELECT pg_sleep(5)--",
    "\\'; --",
    "$1",
    "{{7*7}}",
    "${7*7}",
    "%00",
    "\x00",
    "＇ OR 1=1",
    "*) OR 1=1 --",
    "ord_" + "z" * 26,
    "ord_" + "0" * 26,
]


def id_prefixes(root: str, name: str) -> Sequence[str]:
    """What kinds of ids the argument `name` of `root` wants; empty for any."""
    if name == "id" and root in ROOT_IDS:
        return [ROOT_IDS[root]]
    return PREFIXES[name]


@dataclass(frozen=True)
class Pool:
    """What there is: ids by prefix, of whichever merchant; access keys; handles of shops."""

    ids: Mapping[str, Sequence[str]]
    access_keys: Sequence[str] = ()
    handles: Sequence[str] = ()

    @cached_property
    def all_ids(self) -> list[str]:
        """Every id."""
        return [one for kind in self.ids.values() for one in kind]


@dataclass
class Grammar:
    """Documents of `schema` with the values of `pool`."""

    schema: GraphQLSchema
    pool: Pool
    _made: dict[str, st.SearchStrategy[str]] = field(default_factory=dict)

    def roots(self) -> list[str]:
        """Every field of Query and Mutation, and WRONG."""
        found = (self.schema.query_type, self.schema.mutation_type)
        return [*(name for root in found if root for name in root.fields), WRONG]

    def of(self, root: str) -> st.SearchStrategy[str]:
        """Documents that ask for one root field; of WRONG those that break a rule of the contract."""
        made = self._made.get(root)
        if made is None:
            made = self._made[root] = self._strategy(root)
        return made

    def _strategy(self, root: str) -> st.SearchStrategy[str]:
        documents: st.SearchStrategy[DocumentNode] = from_schema(
            self.schema,
            fields=None if root == WRONG else [root],
            custom_scalars=self._scalars,
            print_ast=lambda document: document,
            mode=Mode.NEGATIVE if root == WRONG else Mode.POSITIVE,
        )
        once = _is_idempotent(self.schema, root)

        @st.composite
        def made(draw: st.DrawFn) -> str:
            fit = _Fit(draw, self.pool, root, once)
            return graphql.print_ast(visit(draw(documents), fit))

        return made()

    @cached_property
    def _scalars(self) -> dict[str, st.SearchStrategy[ValueNode]]:
        texts = st.sampled_from(HOSTILE) | st.text(max_size=40)
        ids = self.pool.all_ids
        made = {
            name: st.sampled_from([_literal(value) for value in (*values, *RIGHT.get(name, ()))])
            for name, values in SCALARS.items()
            if name not in graphql.specified_scalar_types and name in self.schema.type_map
        }
        made["String"] = texts.map(nodes.String)
        made["ID"] = st.sampled_from(ids).map(nodes.String)
        made["Int"] = st.sampled_from([_literal(value) for value in SCALARS["Int"]])
        return made


def _is_idempotent(schema: GraphQLSchema, root: str) -> bool:
    found = schema.mutation_type.fields.get(root) if schema.mutation_type else None
    definition = found.extensions.get("strawberry-definition") if found else None
    return bool(getattr(definition, "metadata", {}).get("idempotent"))


class _Fit(Visitor):
    """Puts fitting values where an argument's name says what it wants."""

    def __init__(self, draw: st.DrawFn, pool: Pool, root: str, once: bool) -> None:
        super().__init__()
        self.draw, self.pool, self.root, self.once = draw, pool, root, once

    def leave_argument(self, node: ArgumentNode, *_: Any) -> Any:
        if node.name.value in ("after", "before", "last") and self._chance(19, 20):
            return REMOVE  # a page is asked for from one end, mostly the first
        return ArgumentNode(name=node.name, value=self._fitting(node.name.value, node.value))

    def leave_object_field(self, node: ObjectFieldNode, *_: Any) -> ObjectFieldNode:
        return ObjectFieldNode(name=node.name, value=self._fitting(node.name.value, node.value))

    def leave_operation_definition(
        self, node: OperationDefinitionNode, *_: Any
    ) -> OperationDefinitionNode:
        """The root field says which member of a union it is, and carries a key where it must."""
        some = []
        for one in node.selection_set.selections:
            if isinstance(one, FieldNode) and one.name.value == self.root:
                one = self._root_field(one)
            some.append(one)
        return OperationDefinitionNode(
            operation=node.operation, selection_set=SelectionSetNode(selections=tuple(some))
        )

    def _root_field(self, node: FieldNode) -> FieldNode:
        given: dict[str, Any] = {"arguments": node.arguments, "directives": node.directives}
        if self.once and self._chance(19, 20):
            key = self.draw(st.integers(0, 10_000))
            argument = ArgumentNode(name=_name("key"), value=nodes.String(f"drawn-{key}"))
            given["directives"] = (DirectiveNode(name=_name("idempotent"), arguments=(argument,)),)
        if node.selection_set is not None:
            told = FieldNode(name=_name("__typename"), arguments=(), directives=())
            below = (told, *node.selection_set.selections)
            given["selection_set"] = SelectionSetNode(selections=below)
        return FieldNode(name=node.name, alias=node.alias, **given)

    def _fitting(self, name: str, value: ValueNode) -> ValueNode:
        if isinstance(value, graphql.ListValueNode):
            return graphql.ListValueNode(
                values=tuple(self._fitting(name, one) for one in value.values)
            )
        if name in ("first", "last") and isinstance(value, graphql.IntValueNode):
            return nodes.Int(self.draw(st.integers(1, PAGE_MAX))) if self._chance() else value
        if not isinstance(value, StringValueNode):
            return value
        found = self._wanted(name)
        if not found or not self._chance():
            return value
        return nodes.String(self.draw(st.sampled_from(found)))

    def _wanted(self, name: str) -> Sequence[str]:
        if name in PREFIXES:
            kinds = id_prefixes(self.root, name)
            return [one for kind in kinds for one in self.pool.ids.get(kind, ())]
        if name == "accessKey":
            return self.pool.access_keys
        if name in ("handle", "shop"):
            return self.pool.handles
        return PLAIN.get(name, ())

    def _chance(self, often: int = FITS, out_of: int = 10) -> bool:
        return self.draw(st.integers(1, out_of)) <= often


def _name(text: str) -> NameNode:
    return NameNode(value=text)


def _literal(value: Any) -> ValueNode:
    """A JSON value as it stands in a document."""
    if value is None:
        return nodes.Null
    if isinstance(value, bool):
        return nodes.Boolean(value)
    if isinstance(value, int):
        return nodes.Int(value)
    if isinstance(value, list):
        return nodes.List([_literal(one) for one in value])
    if isinstance(value, dict):
        fields = [
            ObjectFieldNode(name=_name(key), value=_literal(one)) for key, one in value.items()
        ]
        return nodes.Object(fields)
    return nodes.String(value)
