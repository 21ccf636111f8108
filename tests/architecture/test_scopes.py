"""The scope × field matrix: what is open to apps, as committed, and real requests with every scope alone (H20).

`python -m tests.architecture.test_scopes` writes scopes.json anew; read its diff before you commit it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from graphql import (
    GraphQLField,
    GraphQLObjectType,
    OperationDefinitionNode,
    get_named_type,
    is_composite_type,
    parse,
)

from domain.core import clock
from domain.identity import AppPass, Role, Viewer
from domain.partners import Scope
from resolvers.context import Context
from resolvers.errors import InsufficientScope
from schema import scopes
from schema.root import schema
from server.graphql.door import Answer, Door
from server.graphql.request import Asked
from server.graphql.watch import watch

FILE = Path(__file__).with_name("scopes.json")
GRAPH = schema._schema
DOOR = Door(schema)
MERCHANT = UUID(int=7)
SALE = "orders:read|checkout:write"
ROOTS = [root for root in (GRAPH.query_type, GRAPH.mutation_type, GRAPH.subscription_type) if root]


def opened() -> dict[str, str]:
    """Every field that is open to apps, and the scope it takes: `{"Order.total": "orders:read"}`."""
    found = {}
    for one in GRAPH.type_map.values():
        if isinstance(one, GraphQLObjectType) and not one.name.startswith("__"):
            for name in one.fields:
                scope = scopes.of_field(one, name)
                if scope is not None and not _is_carrier(one):
                    found[f"{one.name}.{name}"] = str(scope)
    return dict(sorted(found.items()))


def _is_carrier(one: GraphQLObjectType) -> bool:
    """Pages and problems carry what has a verdict of its own."""
    return one.name.endswith(("Connection", "Edge")) or any(
        interface.name == "Problem" for interface in one.interfaces
    )


def test_h20_what_is_open_to_apps_was_decided() -> None:
    """A new field of an open type fails here: say in schema/scopes.py whether apps may read it."""
    assert opened() == json.loads(FILE.read_text("utf-8"))


def test_every_name_in_the_table_is_in_the_contract() -> None:
    roots = {f"{root.name}.{name}" for root in ROOTS for name in root.fields}
    fields = {
        f"{one.name}.{name}"
        for one in GRAPH.type_map.values()
        if isinstance(one, GraphQLObjectType)
        for name in one.fields
    }

    assert set(scopes.ROOTS) - roots == set()
    assert set(scopes.TYPES) - set(GRAPH.type_map) == set()
    assert set(scopes.FIELDS) - fields == set()
    assert set(scopes.OWN) - fields - set(GRAPH.type_map) == set()
    assert roots >= scopes.SALES
    named = {*scopes.ROOTS.values(), *scopes.TYPES.values(), *scopes.OWN.values()}
    assert {one for name in named for one in name.split("|")} - {*Scope, ""} == set()


def test_h39_what_a_buyer_is_shown_opens_for_who_sells_below_four_roots_alone() -> None:
    """Whether the app placed the order itself is then the resolver's to say."""
    assert {name: str(scope) for name, scope in scopes.OWN.items()} == dict.fromkeys(
        scopes.OWN, "checkout:write"
    )
    for name in ("SavedMethod", "Order.savedMethods", "Payment.accessKey"):
        assert name not in scopes.OWN
    assert set(scopes.OWN) & set(opened()) == set()


def test_h39_the_buyers_own_is_closed_to_apps() -> None:
    for field in ("Order.goods", "Payment.nextAction", "Order.savedMethods", "Payment.accessKey"):
        assert field not in opened()
    for one in ("DeliveredGood", "RedirectAction", "Checkout", "Session", "Viewer", "PartnerApp"):
        assert {field for field in opened() if field.startswith(f"{one}.")} == set()


def app_viewer(*granted: str, role: Role = Role.OWNER) -> Viewer:
    """An owner's app with these scopes."""
    now = clock.now()
    return Viewer(
        account_id=UUID(int=1),
        email="owner@shop.test",
        locale=None,
        session_id=UUID(int=2),
        expires_at=now + timedelta(minutes=10),
        roles={MERCHANT: role},
        app=AppPass(UUID(int=3), UUID(int=2), MERCHANT, frozenset(granted), now),
    )


def _document(root: GraphQLObjectType, name: str, field: GraphQLField) -> str:
    declared = ", ".join(f"${one}: {found.type}" for one, found in field.args.items())
    given = ", ".join(f"{one}: ${one}" for one in field.args)
    inner = " { __typename }" if is_composite_type(get_named_type(field.type)) else ""
    kind = root.name.lower()
    return f"{kind} {f'({declared})' if declared else ''} {{ {name}{f'({given})' if given else ''}{inner} }}"


def root_fields() -> Iterator[tuple[str, str]]:
    """(name, document) of every root field."""
    for root in ROOTS:
        for name, field in root.fields.items():
            yield f"{root.name}.{name}", _document(root, name, field)


async def refusal(document: str, viewer: Viewer) -> dict[str, Any] | None:
    """The extensions of INSUFFICIENT_SCOPE; None when the scopes were enough."""
    context = Context(request_id="scopes", address="203.0.113.9", viewer=viewer)
    answer = await watch(DOOR, Asked(document), context)
    assert isinstance(answer, Answer)
    for error in orjson.loads(answer.body).get("errors", ()):
        if error["extensions"]["code"] == "INSUFFICIENT_SCOPE":
            assert "data" not in orjson.loads(answer.body)
            return dict(error["extensions"])
    return None


@pytest.mark.parametrize(("name", "document"), list(root_fields()))
async def test_h20_every_root_field_with_every_scope_alone(
    db: None, name: str, document: str
) -> None:
    wanted = scopes.ROOTS.get(name)
    for scope in Scope:
        refused = await refusal(document, app_viewer(scope))
        if wanted is None:
            assert refused is not None
            assert "scope" not in refused
        elif wanted == "" or scope in wanted.split("|"):
            assert refused is None
        else:
            assert refused is not None
            assert refused["scope"] == wanted.split("|")[0]


# Open to every app, for the document inside is looked at by itself: tests/api/test_bulk_rights.py and
# test_bulk_import_rights.py ask for one that takes more.
OF_BULK = {"Mutation.bulkExport", "Mutation.bulkImport", "Mutation.cancelBulkJob"}


async def test_h20_orders_read_changes_nothing(db: None) -> None:
    viewer = app_viewer("orders:read")
    mutations = [
        document
        for name, document in root_fields()
        if name.startswith("Mutation.") and name not in OF_BULK
    ]

    refused = [await refusal(document, viewer) for document in mutations]

    assert len(mutations) > 30
    assert None not in refused


@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        ("{ orders(merchantId: 1, first: 1) { nodes { id total { amount } } } }", "orders:read"),
        ("{ orders(merchantId: 1, first: 1) { totalCount } }", "orders:read"),
        ("{ order(id: 1) { fundsFlow { leg } } }", f"money:read {SALE}"),
        ("{ order(id: 1) { a: fundsFlow { leg } } }", f"money:read {SALE}"),
        ("{ order(id: 1) { id total { amount } } }", SALE),
        ("{ order(id: 1) { goods { content } } }", f"checkout:write {SALE}"),
        (
            "{ order(id: 1) { payments { nextAction { __typename } } } }",
            f"checkout:write {SALE}",
        ),
        ("{ order(id: 1) { ... { goods { lineId } } } }", f"checkout:write {SALE}"),
        (
            "{ order(id: 1) { ...f } } fragment f on Order { goods { lineId } }",
            f"checkout:write {SALE}",
        ),
        ("{ order(id: 1) { savedMethods { id } } }", None),
        ("{ order(id: 1) { payments { accessKey } } }", None),
        # What is open below a sale's root is not below another, though they share a fragment.
        (
            "{ order(id: 1) { ...f } orders(merchantId: 1, first: 1) { nodes { ...f } } }"
            " fragment f on Order { goods { lineId } }",
            None,
        ),
        (
            "{ orders(merchantId: 1, first: 1) { nodes { ...f } } order(id: 1) { ...f } }"
            " fragment f on Order { id }",
            f"orders:read {SALE}",
        ),
        ("{ orders(merchantId: 1, first: 1) { nodes { goods { content } } } }", None),
        ("{ node(id: 1) { ... on Order { goods { content } } } }", None),
        (
            "mutation { startCheckout(input: {}) { ... on Checkout { accessKey order { id } } } }",
            f"checkout:write {SALE}",
        ),
        ("{ node(id: 1) { id } }", ""),
        ("{ node(id: 1) { ... on Order { id } } }", "orders:read"),
        ("{ node(id: 1) { ...f } } fragment f on MerchantProduct { id }", "catalogue:read"),
        ("{ nodes(ids: [1]) { ... on Coupon { code } } }", "catalogue:read"),
        ("{ viewer { email } }", None),
        (
            "{ shop(handle: 1) { name } orders(merchantId: 1, first: 1) @skip(if: true) { totalCount } }",
            "orders:read",
        ),
        (
            "mutation { requestRefund(input: {}) { ... on RefundRequested { order { id } } } }",
            "orders:read refunds:write",
        ),
        ("mutation { requestRefund(input: {}) { ... on Problem { code } } }", "refunds:write"),
        (
            "subscription { orderEvents(orderId: 1) { ... on OrderEvent { order { goods { content } } } } }",
            f"checkout:write {SALE}",
        ),
        (
            "subscription { merchantEvents(merchantId: 1) { ... on OrderEvent { order { goods { content } } } } }",
            None,
        ),
    ],
)
def test_h20_nested_fields_count_wherever_they_are_hidden(
    document: str, wanted: str | None
) -> None:
    parsed = parse(document)
    operation = parsed.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    fragments: Any = {
        one.name.value: one  # type: ignore[attr-defined]
        for one in parsed.definitions[1:]
    }

    found = scopes.needed(GRAPH, operation, fragments)

    assert " ".join(sorted(found.scopes)) == wanted if wanted is not None else found.closed


def test_what_is_missing_is_named() -> None:
    app = app_viewer("orders:read").app
    assert app is not None

    with pytest.raises(InsufficientScope) as refused:
        scopes.check(app, scopes.Needed(frozenset({"orders:read", "money:read"}), None))

    assert refused.value.facts == {"scope": "money:read"}


if __name__ == "__main__":
    FILE.write_text(json.dumps(opened(), indent=1) + "\n", "utf-8")
