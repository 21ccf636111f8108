"""The whole contract: every noun adds its Query, Mutation and Subscription parts here."""

from schema.build import build
from schema.node import NodeQuery

QUERIES: list[type] = [NodeQuery]
MUTATIONS: list[type] = []
SUBSCRIPTIONS: list[type] = []

schema = build(QUERIES, MUTATIONS, SUBSCRIPTIONS)
