"""The whole contract: every noun adds its Query, Mutation and Subscription parts here."""

from schema.approvals import ApprovalMutation, ApprovalQuery
from schema.build import build
from schema.catalogue import CatalogueMutation, CatalogueQuery
from schema.checkout import CheckoutMutation
from schema.delivery import DeliveryMutation, DeliveryQuery
from schema.markets import MarketQuery
from schema.merchants import MerchantQuery
from schema.node import NodeQuery
from schema.orders import OrderMutation, OrderQuery, OrderSubscription
from schema.people import PeopleMutation, PeopleQuery

QUERIES: list[type] = [
    ApprovalQuery,
    CatalogueQuery,
    DeliveryQuery,
    NodeQuery,
    MarketQuery,
    MerchantQuery,
    OrderQuery,
    PeopleQuery,
]
MUTATIONS: list[type] = [
    ApprovalMutation,
    CatalogueMutation,
    DeliveryMutation,
    CheckoutMutation,
    OrderMutation,
    PeopleMutation,
]
SUBSCRIPTIONS: list[type] = [OrderSubscription]

schema = build(QUERIES, MUTATIONS, SUBSCRIPTIONS)
