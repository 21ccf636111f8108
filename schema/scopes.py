"""What partner apps may touch: the scope of every root field and every type that is open to them, all in one place.

Closed by default: what is not named here no app can ask for, whatever it was granted. A document is looked at once,
before it runs; what the person behind the app may not see stays hidden by the rules that hold for the person.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    get_named_type,
)

from domain.identity import AppPass
from domain.partners.rules import Scope
from resolvers.errors import InsufficientScope

# Open to every app, for it is open to everybody or carries nothing of its own.
FREE = ""

_CATALOGUE = Scope.CATALOGUE_READ
_SHELF = Scope.CATALOGUE_WRITE
_STOCK = Scope.STOCK_WRITE
_ORDERS = Scope.ORDERS_READ
_MONEY = Scope.MONEY_READ
_CHECKOUT = Scope.CHECKOUT_WRITE
# One of the two: who may read all orders, and who may read those it placed itself; the resolver tells them apart.
_SALE = f"{_ORDERS}|{_CHECKOUT}"

# What a bulk job does is looked at by itself: it takes the scopes of its query or mutation, when it is asked for, on
# every page and when it is fetched.
ROOTS: Mapping[str, str] = {
    "Query.bulkJobs": FREE,
    "Query.cardImport": _CATALOGUE,
    "Query.goodReports": _ORDERS,
    "Query.market": FREE,
    "Query.merchantBalances": _MONEY,
    "Query.merchantCoupons": _CATALOGUE,
    "Query.merchantProduct": _CATALOGUE,
    "Query.merchantProducts": _CATALOGUE,
    "Query.merchantStatement": _MONEY,
    "Query.moneyExceptions": _MONEY,
    "Query.node": FREE,  # what is found decides
    "Query.nodes": FREE,
    "Query.order": _SALE,
    "Query.orders": _ORDERS,
    "Query.shop": FREE,
    "Query.stockLots": _CATALOGUE,
    "Mutation.bulkExport": FREE,
    "Mutation.bulkImport": FREE,
    "Mutation.cancelBulkJob": FREE,
    "Mutation.createCoupon": _SHELF,
    "Mutation.createProduct": _SHELF,
    "Mutation.createVariant": _SHELF,
    "Mutation.deliverGoods": Scope.ORDERS_WRITE,
    "Mutation.endCoupon": _SHELF,
    "Mutation.importCards": _STOCK,
    "Mutation.replaceGood": Scope.ORDERS_WRITE,
    "Mutation.pay": _CHECKOUT,
    "Mutation.requestRefund": Scope.REFUNDS_WRITE,
    "Mutation.restoreCards": _STOCK,
    "Mutation.setPrices": _SHELF,
    "Mutation.setReusableContent": _STOCK,
    "Mutation.startCheckout": _CHECKOUT,
    "Mutation.updateCoupon": _SHELF,
    "Mutation.updatePrices": _SHELF,
    "Mutation.updateProduct": _SHELF,
    "Mutation.updateShop": _SHELF,
    "Mutation.updateVariant": _SHELF,
    "Mutation.withdrawCards": _STOCK,
    "Subscription.merchantEvents": _ORDERS,
    "Subscription.orderEvents": _SALE,
}

TYPES: Mapping[str, str] = {
    "BulkJob": FREE,  # of the same grant alone
    "BulkProblem": FREE,
    "CardImport": _CATALOGUE,
    "CardLineProblem": _CATALOGUE,
    "CardsMoved": _STOCK,
    "Coupon": _CATALOGUE,
    "FundsFlowLeg": _MONEY,
    "FxQuote": _ORDERS,
    "GoodReport": _ORDERS,
    "ListedPrice": _CATALOGUE,
    "Market": FREE,
    "MerchantBalance": _MONEY,
    "MerchantProduct": _CATALOGUE,
    "MerchantVariant": _CATALOGUE,
    "Money": FREE,
    "MoneyException": _MONEY,
    "Order": _ORDERS,
    "OrderEvent": _ORDERS,
    "OrderHandled": Scope.ORDERS_WRITE,
    "OrderLine": _ORDERS,
    "OrderSource": _ORDERS,
    "PageInfo": FREE,
    "Payment": _ORDERS,
    "PaymentMethod": FREE,
    "PriceRowResult": _SHELF,
    "PriceTier": FREE,
    "PricesUpdated": _SHELF,
    "Product": FREE,
    "ProductText": _CATALOGUE,
    "RefundRequested": Scope.REFUNDS_WRITE,
    "ReusableContent": _CATALOGUE,
    "Shop": FREE,
    "Statement": _MONEY,
    "StatementEntry": _MONEY,
    "StockCounts": _CATALOGUE,
    "StockLot": _CATALOGUE,
    "StreamGap": _ORDERS,
    "StreamHeartbeat": _ORDERS,
    "Translation": FREE,
    "Variant": FREE,
}

# Fields that take another scope than their type; None is closed: goods, keys and ways to pay are the buyer's.
FIELDS: Mapping[str, str | None] = {
    "Order.fundsFlow": _MONEY,
    "Order.goods": None,
    "Order.savedMethods": None,
    "Payment.accessKey": None,
    "Payment.nextAction": None,
}


# Below these an app is shown one order, which may be one it placed itself: then it is what a buyer sees.
SALES = frozenset(
    {"Mutation.pay", "Mutation.startCheckout", "Query.order", "Subscription.orderEvents"}
)
OWN: Mapping[str, str] = {
    "ChallengeAction": _CHECKOUT,
    "Checkout": _CHECKOUT,
    "DeliveredGood": _CHECKOUT,
    "Order.goods": _CHECKOUT,
    "Payment.nextAction": _CHECKOUT,
    "QrCodeAction": _CHECKOUT,
    "RedirectAction": _CHECKOUT,
    "TransferAction": _CHECKOUT,
    "WalletAction": _CHECKOUT,
}


@dataclass(frozen=True, slots=True)
class Needed:
    """What a document takes of an app: each of `scopes` (`a|b` is one of them); `closed` is a field no scope opens."""

    scopes: frozenset[str]
    closed: str | None


def check(app: AppPass, needed: Needed) -> None:
    """Errors: InsufficientScope with the scopes that are missing; without any for what no app may ask."""
    if needed.closed is not None:
        raise InsufficientScope()
    missing = {one for one in needed.scopes if app.scopes.isdisjoint(one.split("|"))}
    if missing:
        raise InsufficientScope(scope=" ".join(sorted({one.split("|")[0] for one in missing})))


def check_root(app: AppPass, field: str) -> None:
    """The same for one root field, `Query.orders`: the gate in front of its resolver."""
    scope = ROOTS.get(field)
    check(app, Needed(frozenset({scope} if scope else ()), field if scope is None else None))


def check_type(app: AppPass, name: str) -> None:
    """The same for an object that was found by its id alone."""
    scope = TYPES.get(name)
    check(app, Needed(frozenset({scope} if scope else ()), name if scope is None else None))


def of_field(owner: GraphQLObjectType, field: str, *, is_sale: bool = False) -> str | None:
    """The scope of one field of an object type, or of one below the roots in SALES; None when it is closed."""
    name = f"{owner.name}.{field}"
    if owner.name in ("Query", "Mutation", "Subscription"):
        return ROOTS.get(name)
    if is_sale and (own := OWN.get(name) or OWN.get(owner.name)):
        return own
    if name in FIELDS:
        return FIELDS[name]
    if is_sale and TYPES.get(owner.name) == _ORDERS:
        return _SALE
    if owner.name.endswith(("Connection", "Edge")):
        return FREE  # what it leads to decides
    if any(one.name == "Problem" for one in owner.interfaces) or owner.name == "FieldProblem":
        return FREE
    return TYPES.get(owner.name)


def needed(
    schema: GraphQLSchema,
    operation: OperationDefinitionNode,
    fragments: Mapping[str, FragmentDefinitionNode],
    *,
    sales: bool = True,
) -> Needed:
    """What a valid operation takes; conditions (@skip, @include) are not believed.

    Without `sales` there is no caller who could have placed an order itself.
    """
    root = schema.get_root_type(operation.operation)
    assert root is not None
    scopes: set[str] = set()
    closed = None
    walk = _Walk(schema, fragments, SALES if sales else frozenset())
    for name, scope in walk.below(root, operation.selection_set):
        if scope is None:
            closed = closed or name
        elif scope:
            scopes.add(scope)
    return Needed(frozenset(scopes), closed)


Composite = GraphQLObjectType | GraphQLInterfaceType | GraphQLUnionType


class _Walk:
    """Every field below a selection, once, with its scope; what is below a root in `sales` is walked on its own."""

    def __init__(
        self,
        schema: GraphQLSchema,
        fragments: Mapping[str, FragmentDefinitionNode],
        sales: frozenset[str],
        *,
        is_sale: bool = False,
    ) -> None:
        self._schema = schema
        self._fragments = fragments
        self._sales = sales
        self._is_sale = is_sale
        self._seen: set[str] = (
            set()
        )  # fragments: their fields do not depend on where they are spread

    def below(
        self, owner: Composite, selected: SelectionSetNode
    ) -> Iterator[tuple[str, str | None]]:
        """(name, scope) of each field; None for one that is closed."""
        for node in selected.selections:
            if isinstance(node, FragmentSpreadNode):
                fragment = self._fragments[node.name.value]
                if node.name.value in self._seen:
                    continue
                self._seen.add(node.name.value)
                inner = self._schema.type_map[fragment.type_condition.name.value]
                yield from self.below(_composite(inner), fragment.selection_set)
            elif isinstance(node, InlineFragmentNode):
                condition = node.type_condition
                found = self._schema.type_map[condition.name.value] if condition else owner
                yield from self.below(_composite(found), node.selection_set)
            elif isinstance(node, FieldNode) and node.name.value != "__typename":
                yield from self._field(owner, node)

    def _field(self, owner: Composite, node: FieldNode) -> Iterator[tuple[str, str | None]]:
        name = node.name.value
        if name.startswith("__"):
            return  # the schema itself: open in development only, and then to everybody
        if isinstance(owner, GraphQLObjectType):
            yield f"{owner.name}.{name}", of_field(owner, name, is_sale=self._is_sale)
        if node.selection_set is not None:
            assert not isinstance(owner, GraphQLUnionType), "a union has no fields"
            inner = _composite(get_named_type(owner.fields[name].type))
            walk = self
            if f"{owner.name}.{name}" in self._sales:
                walk = _Walk(self._schema, self._fragments, self._sales, is_sale=True)
            yield from walk.below(inner, node.selection_set)


def _composite(found: object) -> Composite:
    assert isinstance(found, GraphQLObjectType | GraphQLInterfaceType | GraphQLUnionType), found
    return found
