"""The whole contract: every noun adds its Query, Mutation and Subscription parts here."""

from schema.build import build
from schema.node import NodeQuery
from schema.people import PeopleMutation, PeopleQuery

QUERIES: list[type] = [NodeQuery, PeopleQuery]
MUTATIONS: list[type] = [PeopleMutation]
SUBSCRIPTIONS: list[type] = []

schema = build(QUERIES, MUTATIONS, SUBSCRIPTIONS)
