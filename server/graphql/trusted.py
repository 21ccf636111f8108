"""Trusted documents: those of our own pages for everybody, an app's for that app; who may send nothing else (J26)."""

from __future__ import annotations

from collections.abc import Mapping

from graphql import GraphQLError, GraphQLSchema

from domain import partners
from domain.partners.ports import CONTRACT, contracts
from resolvers.context import Context
from resolvers.errors import BadUserInput
from schema import scopes
from server.graphql.documents import Documents, Refused
from server.graphql.limits import COST_MAX
from server.graphql.persisted import Shelf


class Trusted(Shelf):
    """Our own pages' documents, and those of the app that asks."""

    def __init__(self, ours: Mapping[str, str]) -> None:
        super().__init__(ours)

    async def text(self, document_id: str, context: Context) -> str | None:
        """See Registered."""
        found = await super().text(document_id, context)
        app = context.viewer.app if context.viewer is not None else None
        if found is not None or app is None:
            return found
        return await partners.document(app.app_id, document_id)


def documents_only(context: Context, *, is_production: bool) -> bool:
    """Whether free texts are refused: from apps that asked for it, in production from whoever came by cookie.

    A cookie is what our own pages have, and what a hostile page would ride on.
    """
    app = context.viewer.app if context.viewer is not None else None
    if app is not None:
        return app.documents_only
    return is_production and context.came_by_cookie


class Judge:
    """The Contract of one schema, for documents that are to be registered."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._documents = Documents(schema, is_open=False)

    def fault(self, text: str) -> tuple[str, str] | None:
        """See Contract. A field that no scope opens is a fault too: no app could ever run it."""
        try:
            made = self._documents.make(text)
        except Refused as refused:
            return refused.code, _reason(refused.errors[0])
        for operation in made.operations.values():
            needed = scopes.needed(self._schema, operation.node, operation.fragment_nodes)
            if needed.closed is not None:
                return "INSUFFICIENT_SCOPE", f"{needed.closed} is open to no app."
            try:
                # What depends on variables is priced when they come.
                cost = 0 if operation.node.variable_definitions else operation.bill.asked({})
            except BadUserInput as error:  # a page without a size, or of a wrong one
                return error.code, str(error.facts.get("reason", error))
            if cost > COST_MAX:
                return "MAX_COST_EXCEEDED", f"It costs {cost}, {COST_MAX} are allowed."
        return None


def _reason(error: GraphQLError) -> str:
    at = "".join(f" ({place.line}:{place.column})" for place in (error.locations or ())[:1])
    return error.message[:300] + at


def install() -> None:
    """Let this process judge documents that apps register."""
    from schema.root import schema

    contracts[CONTRACT] = Judge(schema._schema)
